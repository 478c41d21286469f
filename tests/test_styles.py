"""The pictures of styles and features: what is drawn, of whom, and what is said about it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fedlight_algorithms import CCST, AdaIN
from PIL import Image

from fedlight.feature_moments import plane, share_between
from fedlight.federation import Federation
from fedlight.plugins import Harmonisation, StyleAugmentation
from fedlight.plugins.discovery import registered
from fedlight.preparation import ConfigError, build
from fedlight.styles import CAPTION, TILE, _on_images, _restyled, shown, style_sheet
from tests.conftest import small_sites, small_task


def test_every_style_plugin_is_shown_as_configured_or_with_its_defaults() -> None:
    configured = AdaIN(spread=0.3)
    plugins = shown([configured])
    known = [p.cls for p in registered() if issubclass(p.cls, (StyleAugmentation, Harmonisation))]
    assert [type(plugin) for plugin in plugins] == known
    assert configured in plugins


def test_a_sheet_has_a_row_for_two_sites_and_a_column_for_a_plugin(tmp_path: Path) -> None:
    """Three sites make six rows; image, style, AdaIN and CCST four columns; a caption a row, a head and a note.

    The note has 130 letters, and 76 of 5 pixels go into four columns of 96: two lines.
    """
    data, task = small_sites(), small_task()
    build(task, data, (), 0)
    idle = style_sheet(task, data, [AdaIN(), CCST(p=0.5)], tmp_path / "sheet.png", seed=0)
    assert idle == []
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * TILE, 6 * (TILE + CAPTION) + 3 * CAPTION)


def test_a_restyled_image_has_the_other_sites_style() -> None:
    """CCST: means of the two sites are 0 and 1 of a channel; the image of the first gets the mean of the second."""
    data = small_sites()
    data.prepare()
    batches = {site: next(iter(data.train_loader(site, seed=0, steps=1))) for site in ("site1", "site2")}
    for site, mean in (("site1", 0.0), ("site2", 1.0)):
        batch = batches[site]
        noise = torch.randn(batch["image"].shape, generator=torch.Generator().manual_seed(0))
        batches[site] = {**batch, "image": noise - noise.mean((2, 3), keepdim=True) + mean}
        batches[site]["valid"] = torch.ones_like(batch["valid"])
    plugin, features = _on_images(CCST())
    assert not features
    styled = _restyled(plugin, small_task(), batches, "site1", "site2", seed=0)
    torch.testing.assert_close(styled.mean((1, 2)), torch.ones(3), rtol=1e-4, atol=1e-4)


def test_nothing_is_drawn_of_the_held_out_institution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, task = small_sites(), small_task()
    build(task, data, (), 0)
    loaded: list[str] = []
    loader = data.train_loader

    def watched(site: str, *, seed: int, steps: int | None = None) -> object:
        loaded.append(site)
        return loader(site, seed=seed, steps=steps)

    monkeypatch.setattr(data, "train_loader", watched)
    style_sheet(task, data, [CCST()], tmp_path / "sheet.png", seed=0)
    assert set(loaded) == {"site1", "site2", "site3"}


def test_the_command_draws_and_says_what_lies_between_sites(
    federate: Callable[..., Federation], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    run = federate(rounds=1).fit(small_task(), small_sites())
    said = federate().styles(small_task(), small_sites(), str(tmp_path / "out"), ckpt_path=str(run.path))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"styles.png", "features.png"}
    assert "untrained" in said[-1]
    assert "run" in said[-1]


def test_without_matplotlib_the_sheet_is_drawn_and_the_rest_explained(
    federate: Callable[..., Federation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = federate().styles(small_task(), small_sites(), str(tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["styles.png"]
    assert said[-1] == "The plot of features needs matplotlib, which is not installed. Install fedlight[report]."


def test_an_unknown_stage_is_answered_with_the_known_ones(federate: Callable[..., Federation], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage must be one of encoder1, .* got middle"):
        federate().styles(small_task(), small_sites(), str(tmp_path), stage="middle")


def test_sites_that_are_alike_share_all_variance() -> None:
    alike = torch.tensor([[0.0, 1.0], [2.0, 5.0]])
    assert share_between({"A": alike, "B": alike.clone()}) == 0


def test_the_plane_keeps_distances_of_points_in_a_plane() -> None:
    """Three dimensions, the third constant: distances stay."""
    means = {"A": torch.tensor([[0.0, 0.0, 7.0], [3.0, 4.0, 7.0]]), "B": torch.tensor([[6.0, 0.0, 7.0]])}
    flat, points = (torch.cat(list(each.values())).double() for each in (plane(means), means))
    torch.testing.assert_close(torch.cdist(flat, flat), torch.cdist(points, points))
