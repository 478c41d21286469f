"""Example-level differential privacy: what is asked for, what it refuses, and the rounds of a site under it.

DP-SGD (Abadi et al., arXiv 1607.00133), where an example is a patient of one site: in every step each of the site's n
training patients takes part with probability q = batch_size / n, with one sample of one of its images. Gradients g_i of
single patients are clipped and their sum gets noise,

    g = (sum_i g_i min(1, C / ||g_i||) + N(0, z^2 C^2 I)) / (q n)

and whatever is done with g, at the site, at the server or elsewhere, says no more about a patient than g does.

Statistics that plugins share (``ImageMeans``) are means over all n patients, v_i being the numbers of patient i:

    m = (sum_i v_i min(1, C' / ||v_i||) + N(0, z'^2 C'^2 I)) / n

a release of its own in which everybody takes part, charged at rate 1 to the same account.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from lightning.pytorch import Callback

from fedlight.plugins import Aggregator, ClientPlugin, ImageMeans
from fedlight.privacy.accounting import Accountant, Charge, Ledger, epsilon, noise_for, opacus_accountant
from fedlight.privacy.private_mean import PrivateMean

REFUSED = {
    "penalty": "adds a term to the loss of a batch",
    "descend": "takes the gradient at other parameters",
    "wrap_optimizer": "changes the optimizer",
    "personal": "trains a second model",
    "add": "shares what it measured on images",
}
"""Hooks that see or change more than single images, and what a plugin does with them."""

AT_SITES = ("transform_batch", "restyle", "on_round_start", "on_round_end")
"""Hooks that see images or the module and may stay, where the plugin's own class declares its independence."""

SLACK = 1e-6
"""By how much a budget may be exceeded: rounding only."""


class BudgetSpentError(RuntimeError):
    """A site that does not train, because its budget would be exceeded."""


class ExampleLevel:
    """Lets a site's updates depend little on any one of its patients.

    Args:
        epsilon: Budget of every site; a site stops before it would be exceeded. null sets none: give ``noise`` then.
        noise: Standard deviation of the noise over ``clip``, z. By default the least with which ``epsilon`` lasts for
            all rounds.
        delta: Probability with which epsilon may not hold; below one in the number of patients.
        clip: Largest norm of what a patient contributes to a step, C.
        rounds: Rounds of a site that the budget is to last for; all of the run by default. With ``cohort`` below 1,
            that times the rounds is enough on average.
        accountant: rdp is fast; prv is tighter and takes seconds.
        statistics_noise: Standard deviation of the noise of what a plugin shares, over ``statistics_clip``; paid every
            time that a site shares it.
        statistics_clip: Largest norm of what a patient contributes to what a plugin shares.
    """

    def __init__(
        self,
        epsilon: float | None = 8.0,
        noise: float | None = None,
        delta: float = 1e-5,
        clip: float = 1.0,
        rounds: int | None = None,
        accountant: Accountant = "rdp",
        statistics_noise: float = 10.0,
        statistics_clip: float = 3.0,
    ) -> None:
        self.epsilon = epsilon
        self.noise = noise
        self.delta = delta
        self.clip = clip
        self.rounds = rounds
        self.accountant: Accountant = accountant
        self.statistics_noise = statistics_noise
        self.statistics_clip = statistics_clip

    def validate(self) -> None:
        """Checks the arguments.

        Raises:
            ValueError: One sentence with the value, the rule and the way out.
        """
        if self.epsilon is None and self.noise is None:
            raise ValueError("epsilon or noise must be given, got neither. A budget of 8 is epsilon: 8.")
        if self.epsilon is not None and not self.epsilon > 0:
            raise ValueError(f"epsilon must be positive, got {self.epsilon}. The default is 8; small is private.")
        if self.noise is not None and not 0 <= self.noise < math.inf:
            raise ValueError(f"noise must be 0 or more, got {self.noise}. Leave it out for what epsilon needs.")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must be in (0, 1), got {self.delta}. The default is 1e-5.")
        if not 0 < self.clip < math.inf:
            raise ValueError(f"clip must be positive and finite, got {self.clip}. The default is 1.")
        for name, value in (("noise", self.statistics_noise), ("clip", self.statistics_clip)):
            if not 0 < value < math.inf:
                raise ValueError(f"statistics_{name} must be positive and finite, got {value}. Leave it out.")
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}. Leave it out for all of the run.")
        opacus_accountant(self.accountant)

    def __str__(self) -> str:
        what = f"noise {self.noise:g}" if self.epsilon is None else f"epsilon up to {self.epsilon:g} a site"
        return f"of single patients of a site: {what}, delta {self.delta:g}"


def check_run(aggregator: Aggregator, plugins: Sequence[ClientPlugin], trainer: Mapping[str, Any]) -> None:
    """Refuses what would let patients count for more than is charged.

    Args:
        aggregator: Of the run.
        plugins: All client plugins.
        trainer: Arguments of the clients' Trainers.

    Raises:
        ValueError: One sentence with what is refused, the reason and the way out.
    """
    if "start_loss" in aggregator.measures:
        name = type(aggregator).__name__
        raise ValueError(f"aggregator must not ask for losses on training cases, as {name} does. Use FedAvg.")
    for plugin in plugins:
        name = type(plugin).__name__
        if (reason := refusal(plugin)) is not None:
            raise ValueError(f"{name} {reason}, which no noise of example_privacy covers. Leave {name} or that out.")
        if (hook := undeclared(plugin)) is not None:
            raise ValueError(
                f"{name} must say example_independent = True in its own class body, got none beside {hook}. Say so if "
                f"images do not meet in what it does and shares, or leave {name} or example_privacy out."
            )
    _check_trainer(trainer)


def refusal(plugin: ClientPlugin) -> str | None:
    """Says why a plugin cannot be used, in one clause; None if it can."""
    if not plugin.example_independent:
        return "mixes the images of a batch"
    for hook, what in REFUSED.items():
        covered = hook == "add" and isinstance(plugin, ImageMeans) and plugin.means_only()
        if getattr(type(plugin), hook) is not getattr(ClientPlugin, hook) and not covered:
            return what
    if any(getattr(type(plugin), hook) is not getattr(ClientPlugin, hook) for hook in _LIGHTNING):
        return "has a part in the training loop of Lightning"
    return None


def undeclared(plugin: ClientPlugin) -> str | None:
    """Names a hook with which a plugin could mix images or share them, where its class does not say that it does not.

    What a base class says does not count: it cannot know what its subclasses make of it.
    """
    if "example_independent" in vars(type(plugin)):
        return None
    return next((hook for hook in AT_SITES if getattr(type(plugin), hook) is not getattr(ClientPlugin, hook)), None)


_LIGHTNING = [name for name in vars(Callback) if name.startswith("on_") or name in ("setup", "teardown")]


def _check_trainer(trainer: Mapping[str, Any]) -> None:
    precision = str(trainer.get("precision") or "32-true")
    if precision not in ("32", "32-true"):
        raise ValueError(f"trainer.precision must be 32-true, got {precision}. Leave it out.")
    for name, neutral in (("accumulate_grad_batches", 1), ("gradient_clip_val", None)):
        if trainer.get(name) not in (None, neutral):
            raise ValueError(f"trainer.{name} must be left out, got {trainer[name]}. Patients are clipped one by one.")


@dataclass(frozen=True, slots=True)
class Terms:
    """How a site trains in one round.

    Attributes:
        noise: Standard deviation of the noise over the bound, z.
        rate: Probability with which a patient takes part in a step, q.
        steps: Steps of the round.
        patients: How many patients there are, n.
    """

    noise: float
    rate: float
    steps: int
    patients: int

    @property
    def expected(self) -> float:
        """Patients of a step on average."""
        return self.rate * self.patients


class Account:
    """What one site has spent and may still spend.

    Args:
        settings: What was asked for.
        ledger: Of the site.
    """

    def __init__(self, settings: ExampleLevel, ledger: Ledger) -> None:
        self.settings = settings
        self.ledger = ledger

    @contextmanager
    def steps(self, module: Any, terms: Terms) -> Iterator[None]:
        """Makes the training steps of a task private, for the length of a block.

        Args:
            module: A ``FederatedModule`` with its network built.
            terms: Of the round.
        """
        from fedlight.privacy.private_steps import NoisyOptimizer, example_gradients  # Opacus, where it is used

        noisy = partial(
            NoisyOptimizer,
            noise_multiplier=terms.noise,
            max_grad_norm=self.settings.clip,
            expected_batch_size=terms.expected,
        )
        with example_gradients(module.network):
            module.example_wise, module.finish_optimizer = True, noisy
            try:
                yield
            finally:
                module.example_wise, module.finish_optimizer = False, None

    @property
    def spent(self) -> float:
        """The epsilon of all rounds until now, those that did not count for the model too."""
        return self._epsilon(self.ledger.charges)

    def private_mean(self) -> PrivateMean:
        """Returns an empty mean of what a plugin measures, which ``open_round`` was told of."""
        return PrivateMean(self.settings.statistics_clip, self.settings.statistics_noise)

    def open_round(
        self, patients: int, batch_size: int, steps: int, rounds: int, releases: Sequence[int] = ()
    ) -> Terms:
        """Charges a round before it is trained.

        Args:
            patients: Training patients of the site.
            batch_size: Patients of a step on average.
            steps: Steps of the round.
            rounds: Rounds that the budget is to last for.
            releases: For every plugin that shares statistics in this round, in how many rounds of the run it does.

        Raises:
            BudgetSpentError: If the round would exceed the budget; nothing is charged then.
            ValueError: If delta means nothing for so many patients.
        """
        settings = self.settings
        if not settings.delta < 1 / patients:
            raise ValueError(f"delta must be below 1 in {patients} patients, got {settings.delta:g}. Try 1e-5.")
        rate = min(1.0, batch_size / patients)
        noise = self._noise(rate, steps, rounds, sum(releases))
        charges = [Charge(noise, rate, steps)]
        if releases:
            charges.append(Charge(settings.statistics_noise, 1.0, len(releases)))
        self._check_budget(charges)
        self.ledger.add(*charges)
        return Terms(noise, rate, steps, patients)

    def _noise(self, rate: float, steps: int, rounds: int, releases: int) -> float:
        """Returns the noise that was asked for, that of the first round, or in the first round what is needed."""
        settings = self.settings
        if settings.noise is not None:
            return settings.noise
        if self.ledger.charges:
            return self.ledger.charges[0].noise
        assert settings.epsilon is not None  # validate() has seen to it
        beside = (Charge(settings.statistics_noise, 1.0, releases),) if releases else ()
        return noise_for(settings.epsilon, settings.delta, rate, steps * rounds, settings.accountant, beside)

    def _check_budget(self, charges: Sequence[Charge]) -> None:
        budget = self.settings.epsilon
        if budget is not None and (after := self._epsilon([*self.ledger.charges, *charges])) > budget + SLACK:
            raise BudgetSpentError(
                f"another round would take epsilon from {self.spent:.2f} to {after:.2f}, above its budget of {budget:g}"
            )

    def _epsilon(self, charges: Sequence[Charge]) -> float:
        return epsilon(charges, self.settings.delta, self.settings.accountant)
