"""DP-SGD at a site: how far a patient counts, the noise, what is spent and what is refused."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fedlight_algorithms import CORAL, DSU, QFFL, BigAug, Ditto, FedBN, FedProx, FedRep, FedSAM, MixStyle
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import SGD

from fedlight.federation import Federation
from fedlight.plugins import Batch, ClientPlugin
from fedlight.plugins.client_plugin import Statistics
from fedlight.preparation import ConfigError
from fedlight.privacy.accounting import Charge, Ledger, epsilon
from fedlight.privacy.example_level import Account, BudgetSpentError, ExampleLevel, Terms, check_run, refusal
from fedlight.state import buffers_of, digest, parameters_of
from tests.conftest import fedavg, small_sites, small_task
from tests.contracts.harness import TinyTask, images_of, pick, task

Federate = Callable[..., Federation]


def example_task(**changes: Any) -> Any:
    return small_task(batch_dice=False, **changes)


# --- a step ----------------------------------------------------------------------------------------------------------


def stepped(rows: list[int], clip: float = 1e6, noise: float = 0.0, expected: float = 4.0) -> Tensor:
    """Makes a step of SGD with rate 1 on some cases and returns what was taken off the parameters, laid end to end."""
    module = task()
    account = Account(ExampleLevel(noise=noise, epsilon=None, clip=clip), Ledger())
    before = parameters_of(module)
    with account.steps(module, Terms(noise, expected / 8, 1, 8)):
        module.make_optimizer = partial(SGD, lr=1.0)
        optimizer: Any = module.configure_optimizers()
        loss = module.training_step(batch_of(rows), 0)
        torch.autograd.backward(loss)
        optimizer.step()
    after = parameters_of(module)
    return torch.cat([(before[name] - after[name]).flatten() for name in before])


def batch_of(rows: list[int]) -> Any:
    """Cases with different numbers of valid pixels, so that a mean over the pixels of a batch would mix them."""
    batch = images_of("A", 5)
    for case in range(5):
        batch["valid"][case, :, : 3 * case] = False
    return pick(batch, rows)


def gradient_of(row: int) -> Tensor:
    """The plain gradient of the loss of one case."""
    module = task()
    torch.autograd.backward(module.training_step(batch_of([row]), 0))
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def test_without_bound_and_noise_a_step_is_the_sum_of_the_patients_gradients() -> None:
    """It is divided by the patients of a step on average, 4, and not by those who were drawn, 3."""
    expected = sum(gradient_of(row) for row in (0, 2, 4)) / 4
    torch.testing.assert_close(stepped([0, 2, 4]), expected, rtol=1e-4, atol=1e-6)


def test_a_patient_counts_for_no_more_than_the_bound() -> None:
    """Whoever joins changes the sum by at most ``clip``, whatever the others are: no loss and no layer mixes them."""
    clip = 0.01
    for row in (0, 1, 3):
        others = [each for each in range(5) if each != row]
        alone = stepped([row], clip) * 4
        joined = (stepped([*others, row], clip) - stepped(others, clip)) * 4
        assert float(alone.norm()) == pytest.approx(clip, rel=1e-3)
        torch.testing.assert_close(joined, alone, rtol=1e-3, atol=1e-6)


def test_a_draw_of_nobody_is_a_step_of_noise_alone_with_the_right_variance() -> None:
    """It is z C / (q n) = 3 * 0.5 / 4 = 0.375; eight standard errors are 8 * 0.375 / sqrt(2 n)."""
    data = small_sites(cases=20)
    data.prepare()
    (batch,) = data.patient_loader("site1", [[]], seed=0)
    assert batch["image"].shape == (1, 3, 16, 16)
    assert not batch["valid"].any()
    module = example_task(optimizer=partial(SGD, lr=1.0))
    module.bind(data.format)
    module.configure_model()
    before = parameters_of(module)
    account = Account(ExampleLevel(noise=3.0, clip=0.5), Ledger())
    with account.steps(module, Terms(3.0, 0.5, 1, 8)):
        optimizer: Any = module.configure_optimizers()
        torch.autograd.backward(module.training_step(batch, 0))
        optimizer.step()
    change = torch.cat([(before[name] - value).flatten() for name, value in parameters_of(module).items()])
    assert abs(float(change.std()) - 0.375) < 8 * 0.375 / (2 * len(change)) ** 0.5
    assert abs(float(change.mean())) < 8 * 0.375 / len(change) ** 0.5


def test_nothing_is_left_of_a_private_round() -> None:
    module = example_task()
    module.bind(small_sites().format)
    module.configure_model()
    names = {name: set(vars(layer)) for name, layer in module.named_modules()}
    in_place = [layer for layer in module.modules() if getattr(layer, "inplace", False)]
    assert in_place
    with Account(ExampleLevel(noise=1.0), Ledger()).steps(module, Terms(1.0, 0.5, 1, 4)):
        batch = images_of("A")
        torch.autograd.backward(module.training_step(batch, 0))
    assert {name: set(vars(layer)) for name, layer in module.named_modules()} == names
    assert all(layer.inplace for layer in in_place)
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in module.modules())
    assert not any(hasattr(p, "grad_sample") for p in module.parameters())


# --- draws -----------------------------------------------------------------------------------------------------------


def test_a_patient_has_one_sample_however_many_images_there_are() -> None:
    data = small_sites(cases=12)
    data.prepare()
    cases = data._train_cases("site1")
    for index, case in enumerate(cases):
        object.__setattr__(case, "group", f"patient{index % 3}")  # three patients with several images each
    assert data.patients("site1") == 3
    seen = set()
    for seed in range(20):
        (batch,) = data.patient_loader("site1", [[0, 1, 2]], seed=seed)
        groups = [case.group for name in batch["case"] for case in cases if case.name == name]
        assert groups == ["patient0", "patient1", "patient2"]
        seen |= set(batch["case"])
    assert seen == {case.name for case in cases}


# --- the budget ------------------------------------------------------------------------------------------------------


def test_a_round_is_charged_before_it_is_trained_and_refused_before_it_is_too_much() -> None:
    ledger = Ledger()
    account = Account(ExampleLevel(epsilon=3.0, noise=2.0), ledger)
    affordable = 0
    while epsilon([Charge(2.0, 0.2, 5 * (affordable + 1))], 1e-5, "rdp") <= 3:
        affordable += 1
    for _ in range(affordable):
        assert account.open_round(patients=20, batch_size=4, steps=5, rounds=99) == Terms(2.0, 0.2, 5, 20)
    with pytest.raises(BudgetSpentError, match="above its budget of 3"):
        account.open_round(patients=20, batch_size=4, steps=5, rounds=99)
    assert ledger.charges == (Charge(2.0, 0.2, 5 * affordable),)
    assert 0 < account.spent <= 3


def test_a_budget_lasts_for_the_planned_rounds_and_no_more() -> None:
    account = Account(ExampleLevel(epsilon=3.0), Ledger())
    for _ in range(4):
        account.open_round(patients=40, batch_size=2, steps=5, rounds=4)
    assert 2.98 < account.spent <= 3
    with pytest.raises(BudgetSpentError):
        account.open_round(patients=40, batch_size=2, steps=5, rounds=8)


def test_delta_means_something_for_so_many_patients() -> None:
    with pytest.raises(ValueError, match="delta must be below 1 in 40 patients"):
        Account(ExampleLevel(delta=0.1), Ledger()).open_round(40, 2, 5, 4)


# --- a run -----------------------------------------------------------------------------------------------------------


def spent(folder: Any) -> list[list[float]]:
    """Returns the epsilon of every site, round by round."""
    lines = map(json.loads, (folder.path / "metrics.jsonl").read_text().splitlines())
    fits = [row for row in lines if row["kind"] == "fit"]
    assert all("train_loss" not in row for row in fits)
    return [[row["epsilon"] for row in fits if row["round"] == number] for number in range(1, fits[-1]["round"] + 1)]


def private(federate: Federate, **changes: Any) -> Federation:
    return federate(**{"example_privacy": ExampleLevel(epsilon=50.0, noise=1.0), **changes})


def test_a_run_says_what_every_site_has_spent_and_ends_before_it_is_too_much(
    federate: Federate, caplog: pytest.LogCaptureFixture
) -> None:
    """The budget is for five steps of two of four patients: two rounds of two steps fit in, the third does not."""
    budget = epsilon([Charge(1.0, 0.5, 5)], 1e-5, "rdp")
    settings = ExampleLevel(epsilon=budget, noise=1.0)
    folder = federate(example_privacy=settings, rounds=6).fit(example_task(), small_sites())
    first, second = spent(folder)
    assert len(first) == len(second) == 3
    assert all(0 < one < two <= budget for one, two in zip(first, second, strict=True))
    assert "training ends after round 2" in caplog.text
    assert folder.selected.is_file()


def test_what_was_spent_outlives_a_resume_and_noise_is_fresh_after_it(federate: Federate, tmp_path: Any) -> None:
    models = []
    for name in ("one", "other"):
        run = str(tmp_path / name)
        private(federate, rounds=1, run_folder=run).fit(example_task(), small_sites())
        folder = private(federate, rounds=2, run_folder=run).fit(example_task(), small_sites(), ckpt_path="last")
        first, second = spent(folder)
        assert all(one < two for one, two in zip(first, second, strict=True))
        ledger = Ledger(folder.sites / "site1" / "privacy.json")
        assert sum(charge.steps for charge in ledger.charges) == 4
        saved = folder.load()
        assert saved is not None
        models.append(digest(saved["server"]["params"]))
    assert models[0] != models[1]


def test_a_round_that_is_trained_again_is_paid_again(federate: Federate) -> None:
    """Its update may have left the site before the crash."""
    folder = private(federate, rounds=2).fit(example_task(), small_sites())
    (folder.rounds / "00002.safetensors").unlink()
    again = private(federate, rounds=2).fit(example_task(), small_sites(), ckpt_path="last")
    ledger = Ledger(again.sites / "site1" / "privacy.json")
    assert sum(charge.steps for charge in ledger.charges) == 6


def test_the_config_shows_every_argument_with_its_default() -> None:
    path = Path(__file__).resolve().parents[2] / "configs" / "privacy" / "example_level.yaml"
    shown = yaml.safe_load(path.read_text())["federation"]["example_privacy"]
    assert shown == {p.name: p.default for p in inspect.signature(ExampleLevel).parameters.values()}


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (MixStyle(), "mixes the images of a batch"),
        (DSU(), "mixes the images of a batch"),
        (CORAL(), "mixes the images of a batch"),
        (FedProx(), "adds a term to the loss of a batch"),
        (FedSAM(), "takes the gradient at other parameters"),
        (Ditto(), "adds a term to the loss of a batch"),
        (FedRep(), "has a part in the training loop of Lightning"),
    ],
)
def test_a_plugin_that_no_noise_covers_is_refused(plugin: Any, reason: str) -> None:
    assert refusal(plugin) == reason
    with pytest.raises(ValueError, match=f"{type(plugin).__name__} {reason}"):
        check_run(fedavg(), [plugin], {})


def test_plugins_that_change_single_images_or_keep_parameters_may_stay() -> None:
    check_run(fedavg(), [BigAug(), FedBN()], {"accelerator": "cpu", "precision": None})


class _MixUp(ClientPlugin):
    """Mixes images and says nothing."""

    def transform_batch(self, batch: Batch) -> Batch:
        return {**batch, "image": (batch["image"] + batch["image"].flip(0)) / 2}


class _SharesImages(ClientPlugin):
    """Hands on what it saw."""

    def on_round_end(self, module: LightningModule) -> Statistics:
        return {"images": images_of("A")["image"]}


class _BlursMore(BigAug):
    """Inherits the word of another, and not its own."""


class _Declares(_MixUp):
    """Says that it does not mix."""

    example_independent = True


class _SetsUp(ClientPlugin):
    """Gets at the module before training."""

    example_independent = True

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        pass


@pytest.mark.parametrize(
    ("plugin", "hook"),
    [(_MixUp(), "transform_batch"), (_SharesImages(), "on_round_end"), (_BlursMore(), "transform_batch")],
)
def test_a_plugin_that_declares_nothing_is_refused(plugin: ClientPlugin, hook: str) -> None:
    sentence = f"{type(plugin).__name__} must say example_independent = True in its own class body, .* {hook}"
    with pytest.raises(ValueError, match=sentence):
        check_run(fedavg(), [plugin], {})


def test_a_plugin_is_taken_at_its_own_word() -> None:
    check_run(fedavg(), [_Declares()], {})
    with pytest.raises(ValueError, match="_SetsUp has a part in the training loop of Lightning"):
        check_run(fedavg(), [_SetsUp()], {})


@pytest.mark.parametrize(
    ("trainer", "setting"),
    [({"precision": "16-mixed"}, "precision"), ({"accumulate_grad_batches": 2}, "accumulate_grad_batches")],
)
def test_a_trainer_that_would_change_the_clipping_is_refused(trainer: Any, setting: str) -> None:
    with pytest.raises(ValueError, match=f"trainer.{setting} must"):
        check_run(fedavg(), [], trainer)


def test_losses_on_training_cases_may_not_leave() -> None:
    with pytest.raises(ValueError, match="as QFFL does"):
        check_run(QFFL(), [], {})


def test_a_run_says_what_to_change(federate: Federate) -> None:
    for module, sentence in (
        (small_task(), "example_privacy: model.batch_dice must be false"),
        (example_task(norm="batch"), "example_privacy: model.norm must be group"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            private(federate).fit(module, small_sites())
    with pytest.raises(ConfigError, match="example_privacy: epsilon or noise must be given"):
        private(federate, example_privacy=ExampleLevel(epsilon=None)).fit(example_task(), small_sites())


@pytest.mark.parametrize(
    "arguments",
    [{"epsilon": 0.0}, {"noise": -1.0}, {"delta": 1.0}, {"clip": 0.0}, {"clip": float("inf")}, {"rounds": 0}],
)
def test_arguments_are_checked(arguments: Any) -> None:
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be"):
        ExampleLevel(**arguments).validate()


def test_the_network_of_these_tests_has_no_buffers() -> None:
    assert isinstance(task(), TinyTask)
    assert buffers_of(task()) == {}
