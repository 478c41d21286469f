"""FedADG: the three least-squares terms, who moves when, what is shared and what stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedlight_algorithms import FedADG, FedAvg, FedSAM
from fedlight_algorithms.fedadg import Game, taken_for_reference, taken_for_site

from fedlight.state import digest, num_bytes
from tests.contracts.harness import Clinic, context_of, images_of, second_round


def test_least_squares_terms() -> None:
    """D says 0.75 and 0.25: (0.25^2 + 0.75^2) / 2 = 0.3125 either way; for 0.75 alone 0.0625 and 0.5625."""
    both, one = torch.tensor([[0.75], [0.25]]), torch.tensor([[0.75]])
    assert (taken_for_reference(both).item(), taken_for_site(both).item()) == (0.3125, 0.3125)
    assert (taken_for_reference(one).item(), taken_for_site(one).item()) == (0.0625, 0.5625)


def game_of(seed: int = 0) -> tuple[Game, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    game = Game(channels=4, classes=2, noise=3, hidden=8).ready(torch.device("cpu"), lr=0.01)
    y = torch.eye(2).repeat(8, 1)
    return game, 3 + torch.randn(16, 4), y, torch.rand(16, 3)


def test_the_discriminator_learns_to_tell_and_moves_nothing_else() -> None:
    with torch.random.fork_rng():
        game, h, y, noise = game_of()
    before = digest(game.generator.state_dict())
    for _ in range(100):
        game.train_discriminator(h, y, noise)
    reference = game.generator(torch.cat([noise, y], 1))
    assert game.discriminator(h, y).mean() < 0.2 < 0.8 < game.discriminator(reference, y).mean()
    assert digest(game.generator.state_dict()) == before


def test_the_generator_learns_to_be_taken_for_the_site_and_moves_nothing_else() -> None:
    with torch.random.fork_rng():
        game, h, y, noise = game_of()
    for _ in range(100):
        game.train_discriminator(h, y, noise)
    before, says = digest(game.discriminator.state_dict()), []
    for _ in range(100):
        game.train_generator(y, noise)
        says.append(game.discriminator(game.generator(torch.cat([noise, y], 1)), y).mean().item())
    assert says[-1] < 0.5 < says[0]
    assert digest(game.discriminator.state_dict()) == before


def test_absent_classes_are_left_out_of_the_game() -> None:
    """Four images without foreground have one feature vector each, of the background."""
    plugin, batch = FedADG(), images_of("A")
    batch["mask"] = torch.zeros_like(batch["mask"])
    told: list[list[list[float]]] = []
    with second_round(plugin) as module:
        module.training_step(batch, 0)
        game = plugin._game
        assert game is not None
        game.train_discriminator = lambda h, y, noise: told.append(y.tolist())  # type: ignore[method-assign]
        module.training_step(batch, 0)
    assert told == [[[1.0, 0.0]] * 4]


def test_the_generator_is_shared_and_the_discriminator_stays() -> None:
    """Noise 3, two classes, 5 hidden, six channels: 4 ((3 + 2 + 1) 5 + (5 + 1) 6) bytes."""
    clinic = Clinic.of(FedAvg(), [FedADG(noise=3, hidden=5)])
    shared = clinic.fit("A", clinic.broadcast()).shared["FedADG"]
    assert num_bytes(dict(shared)) == 4 * (30 + 36)
    own = clinic.clients["A"].plugins[0].state_dict()["discriminator"]
    assert set(own) == {"projection", "layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"}


def test_all_sites_start_with_the_same_networks_and_projection() -> None:
    projections = []
    for site in "AB":
        clinic = Clinic.of(FedAvg(), [FedADG()])
        clinic.fit(site, clinic.broadcast())
        projections.append(clinic.clients[site].plugins[0].state_dict()["discriminator"]["projection"])
    assert torch.equal(*projections)


def test_server_averages_generators_by_the_weights_of_the_sites() -> None:
    """Weights 1 and 3 of 0 and 4: 3."""
    plugin = FedADG()
    plugin.begin(context_of(("A", "B"), A=1, B=3), {})
    for site, value in (("A", 0.0), ("B", 4.0)):
        plugin.add(site, 1, {"0.weight": torch.tensor([value])})
    assert plugin.finish()["0.weight"].item() == 3


def test_the_first_round_trains_the_game_alone() -> None:
    """With the ramp at 0 the network is FedAvg's, while generators have moved."""
    clinic, plain = Clinic.of(FedAvg(), [FedADG()]).play(1), Clinic.of(FedAvg()).play(1)
    assert digest(clinic.server.params) == digest(plain.server.params)
    assert clinic.server.shared["FedADG"]


def test_a_repeated_pass_makes_no_second_move() -> None:
    def generator(*others: Any) -> str:
        clinic = Clinic.of(FedAvg(), [*others, FedADG()])
        clinic.clients["A"].data.cases = 3  # type: ignore[attr-defined]
        return digest(dict(clinic.fit("A", clinic.broadcast()).shared["FedADG"]))

    assert generator() == generator(FedSAM(rho=0.5))


@pytest.mark.parametrize("arguments", [{"weight": -1.0}, {"ramp": 1.5}, {"lr": 0.0}, {"noise": 0}, {"hidden": 0}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        FedADG(**arguments).validate()
