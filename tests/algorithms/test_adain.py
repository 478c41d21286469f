"""AdaIN: what a site shares, what it draws and what it does with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import AdaIN, FedAvg
from torch import Tensor

from fedlight.batch import Batch
from fedlight.update import Broadcast
from tests.contracts.harness import SITES, Clinic, TinySites, context_of, images_of, task


def flat_batch(values: list[list[float]]) -> Batch:
    """Images of one row and one channel, all pixels valid."""
    batch = images_of("A", len(values))
    image = torch.tensor(values)[:, None, None]
    valid = torch.ones(len(values), 1, image.shape[-1], dtype=torch.bool)
    return {**batch, "image": image, "valid": valid}


def begun(plugin: AdaIN, bank: dict[str, Tensor], site: str = "A") -> AdaIN:
    plugin.instance_id = "AdaIN"
    plugin.generator = torch.Generator().manual_seed(0)
    plugin.on_round_start(site, task(), Broadcast(context_of(), {}, {}, {"AdaIN": bank}))
    return plugin


def restyled(plugin: AdaIN, batch: Batch) -> Tensor:
    """Sends a batch through the plugin at the input."""
    styled: Tensor = plugin.restyle("input", batch["image"], plugin.transform_batch(batch))
    return styled


def style(mean: float, std: float, mean_spread: float = 0.0, std_spread: float = 0.0) -> Tensor:
    return torch.tensor([[mean], [std], [mean_spread], [std_spread]])


def test_an_image_takes_on_the_style_of_the_other_site() -> None:
    """(0, 2) has mean 1 and std 1; with mean 5 and std 3 it becomes (2, 8). The epsilons cancel up to 1e-6."""
    plugin = begun(AdaIN(p=1, stages=["input"]), {"B/input": style(5, 3)})
    torch.testing.assert_close(restyled(plugin, flat_batch([[0.0, 2.0]])).flatten(), torch.tensor([2.0, 8.0]))


def test_a_site_shares_the_distribution_of_its_images_styles() -> None:
    """Images (0, 2) and (1, 5): means 1 and 3, stds 1 and 2, so 2 and 1.5 on average with deviations 1 and 0.5."""
    plugin = begun(AdaIN(p=1, stages=["input"], min_images=2), {})
    restyled(plugin, flat_batch([[0.0, 2.0], [1.0, 5.0]]))
    assert plugin.on_round_end(task())["input"].flatten().tolist() == [2.0, 1.5, 1.0, 0.5]


def test_styles_are_drawn_around_the_sites_mean() -> None:
    """N(5, 2^2) and N(3, 0.1^2): over 4000 draws the averages are within five standard errors."""
    plugin = begun(AdaIN(p=1, stages=["input"]), {"B/input": style(5, 3, 2, 0.1)})
    styled = restyled(plugin, flat_batch([[0.0, 2.0]] * 4000)).flatten(1)
    means, stds = styled.mean(1), styled.std(1, unbiased=False)
    assert means.mean().item() == pytest.approx(5, abs=5 * 2 / 4000**0.5)
    assert means.std().item() == pytest.approx(2, rel=0.1)
    assert stds.mean().item() == pytest.approx(3, abs=5 * 0.1 / 4000**0.5)


def test_zero_spread_takes_the_mean_style() -> None:
    plugin = begun(AdaIN(p=1, stages=["input"], spread=0), {"B/input": style(5, 3, 2, 1)})
    torch.testing.assert_close(restyled(plugin, flat_batch([[0.0, 2.0]])).flatten(), torch.tensor([2.0, 8.0]))


def test_a_site_never_gets_its_own_style() -> None:
    bank = {"A/input": style(100, 1), "B/input": style(5, 3), "C/input": style(-5, 3)}
    means = restyled(begun(AdaIN(p=1, stages=["input"]), bank), flat_batch([[0.0, 2.0]] * 64)).mean((1, 2, 3))
    assert {round(mean) for mean in means.tolist()} == {5, -5}


def test_a_bank_of_its_own_style_alone_does_nothing() -> None:
    plugin, batch = begun(AdaIN(p=1, stages=["input"]), {"A/input": style(100, 1)}), flat_batch([[0.0, 2.0]])
    assert restyled(plugin, batch) is batch["image"]


def test_pixels_that_do_not_count_neither_change_nor_matter() -> None:
    """The third pixel is not valid: (0, 2, 9) becomes (2, 8, 9)."""
    batch = flat_batch([[0.0, 2.0, 9.0]])
    batch["valid"][..., 2] = False
    plugin = begun(AdaIN(p=1, stages=["input"]), {"B/input": style(5, 3)})
    torch.testing.assert_close(restyled(plugin, batch).flatten(), torch.tensor([2.0, 8.0, 9.0]))


def test_restyled_images_are_not_measured_at_later_stages() -> None:
    plugin = begun(AdaIN(p=0.5, stages=["input", "encoder1"], min_images=1), {})
    plugin._donors, plugin._bank = ["B"], {"B/input": style(5, 3), "B/encoder1": style(0, 1)}
    batch = flat_batch([[0.0, 2.0]] * 64)
    plugin.restyle("encoder1", restyled(plugin, batch), batch)
    untouched = int((~plugin._chosen).sum())
    assert 0 < untouched < 64
    assert [len(plugin._seen[stage][0]) for stage in plugin.stages] == [64, untouched]


def test_few_images_are_not_shared_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    """Six images a site, seven needed."""
    clinic = Clinic.of(FedAvg(), [AdaIN(min_images=7)]).play(1)
    assert "no site saw 7 different images" in caplog.text
    assert clinic.server.shared == {}


def test_one_image_seen_often_counts_once() -> None:
    plugin = begun(AdaIN(stages=["input"], min_images=2), {})
    for _ in range(5):
        restyled(plugin, flat_batch([[0.0, 2.0]]))
    assert plugin.on_round_end(task()) == {}


def test_the_bank_holds_four_numbers_a_channel_of_every_site() -> None:
    shared = Clinic.of(FedAvg(), [AdaIN()]).play(1).server.shared["AdaIN"]
    assert {name: tuple(value.shape) for name, value in shared.items()} == {f"{s}/encoder1": (4, 4) for s in SITES}


def test_absent_sites_keep_their_place_in_the_bank() -> None:
    plugin = AdaIN()
    plugin.begin(context_of(("A",)), {"B/encoder1": style(5, 3)})
    plugin.add("A", 3, {"encoder1": style(1, 1)})
    assert set(plugin.finish()) == {"A/encoder1", "B/encoder1"}


def test_two_sites_with_the_same_images_hardly_change() -> None:
    """Styled with a statistic that equals its own, an image stays itself."""
    batch = flat_batch([[0.0, 2.0]])
    plugin = begun(AdaIN(p=1, stages=["input"]), {"B/input": style(1, 1)})
    torch.testing.assert_close(restyled(plugin, batch), batch["image"])


def test_one_site_alone_is_fedavg() -> None:
    data = TinySites(("A",))
    alone, plain = (Clinic.of(FedAvg(), plugins, data).play(2).server.params for plugins in ([AdaIN()], []))
    assert all(torch.equal(alone[name], plain[name]) for name in plain)


@pytest.mark.parametrize(
    "arguments", [{"p": 2.0}, {"min_images": 0}, {"spread": -1.0}, {"p": 1.0, "stages": ["input", "encoder1"]}], ids=str
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        AdaIN(**arguments).validate()
