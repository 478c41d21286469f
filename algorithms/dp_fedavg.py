"""DP-FedAvg: the model hardly depends on any one site (McMahan et al., arXiv 1710.06963).

What a site changes is shortened to a bound, and the server adds noise of about that size to the mean, so that whoever
sees the models can hardly tell whether a site took part. The bound follows the lengths that changes have (Andrew et
al., arXiv 1905.03871).

    delta_k = (w_t^k - w_t) min(1, S_t / ||w_t^k - w_t||)              at site k
    w_{t+1} = w_t + (sum_k delta_k + N(0, (z_delta S_t)^2 I)) / m      m = q K: sites of a round on average
    S_{t+1} = S_t exp(-clip_lr (b - quantile))                         b = (sum_k [length <= S_t] + N(0, s_b^2)) / m
    1/z^2   = 1/z_delta^2 + 1/(2 s_b)^2                                z: ``noise``

Shared: whether the change was shorter than the bound, and the bound: 4 bytes up and 4 down with four sites. Privacy: of
a whole site, towards those who see models: the record of every round has epsilon for ``delta``, by Opacus' accountant.
The server is trusted: it sees single changes. With fewer than about a hundred sites, noise that hides one is as large
as what all of them learn: expect a useless model or an epsilon that promises nothing, and protect patients instead
(``federation.example_privacy``). Secure aggregation: no, as the server counts every site alike and not by its weight; a
plain sum would do. Cost: 1.01 times FedAvg's time. Settings that matter: ``noise``, 0.3 to 1 for a thousand sites;
``clip``, the bound of the first round, which then grows or shrinks by about a tenth a round. Epsilon is that of a site
that takes part in every round: it holds against the other sites too, all of which are sent the run's seed and the
cohort. ``amplified`` with ``federation.sampling: poisson`` and a small ``federation.cohort`` says the smaller epsilon
that holds only against outsiders, who see models and know neither the seed nor who took part.

Deviations: every site counts alike, whatever its cases. Under ``sampling: fixed`` m is the number that was drawn, and
nothing is ever amplified. s_b is m/20 as in the paper, but at least z, without which few sites would leave no
z_delta. Amplification takes for granted that who takes part is not known: cohorts are drawn by the run's seed, so the
sites can tell, and it is off by default. A draw of no site is repeated, which is not accounted for: let a round expect
ten sites or more, of which none come once in 20 000 draws. The length of a
change is over all trainable parameters that are shared; running statistics and what plugins share are not covered.
Noise comes from the operating system, so two runs differ. A round is charged in
``privacy.json`` of the run folder before its model exists, and again if it is trained again after a crash.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule

from fedlight.plugins import ClientPlugin, Disclosure
from fedlight.plugins.averaging import AveragingAggregator
from fedlight.plugins.client_plugin import Statistics
from fedlight.privacy import secret
from fedlight.privacy.accounting import Accountant, Charge, Ledger, epsilon, opacus_accountant
from fedlight.state import State, load, zip_map
from fedlight.update import Broadcast, RoundContext, Update

log = logging.getLogger("fedlight")

FEW = 100
"""Sites below which noise that protects one of them leaves little to learn."""


LEAST_NOISE = 1e-3
"""Below it epsilon is beyond all use, and beyond what an accountant can compute."""


@dataclass
class Bound:
    """The length to which changes are shortened now; the server's two halves look at the same one."""

    clip: float


class DPFedAvg(AveragingAggregator):
    """Averages shortened changes and adds noise; its client half does the shortening.

    Args:
        noise: Standard deviation of the noise over the bound, z, for model and bound together; 0 adds none.
        clip: Length to which changes are shortened in the first round, S; infinite never shortens.
        clip_lr: How fast the bound follows; 0 keeps it.
        quantile: Share of the changes that are to be shorter than the bound.
        delta: Probability with which epsilon may not hold.
        accountant: rdp is fast; prv is tighter and takes seconds.
        amplified: Whether Poisson sampling makes epsilon smaller, which is true only for those who know neither the
            run's seed nor who took part: outsiders, not sites.
    """

    bounded = True

    def __init__(
        self,
        noise: float = 1.0,
        clip: float = 0.1,
        clip_lr: float = 0.2,
        quantile: float = 0.5,
        delta: float = 1e-5,
        accountant: Accountant = "rdp",
        amplified: bool = False,
    ) -> None:
        self.noise = noise
        self.clip = clip
        self.clip_lr = clip_lr
        self.quantile = quantile
        self.delta = delta
        self.accountant: Accountant = accountant
        self.amplified = amplified
        self._bound = Bound(clip)
        self._ledger: Ledger | None = None
        self._warned = False

    def validate(self) -> None:
        self.client_half().validate()
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise must be 0 or more, got {self.noise}. 0 adds none and protects nobody.")
        if 0 < self.noise < LEAST_NOISE:
            raise ValueError(f"noise must be 0 or at least {LEAST_NOISE}, got {self.noise}. Less protects nobody.")
        if self.noise and self.clip == math.inf:
            raise ValueError(f"clip must be finite for noise of {self.noise} times it, got inf. Try 0.1.")
        if not 0 <= self.clip_lr < math.inf:
            raise ValueError(f"clip_lr must be 0 or more, got {self.clip_lr}. 0 keeps the bound; the default is 0.2.")
        if not 0 <= self.quantile <= 1:
            raise ValueError(f"quantile must be in [0, 1], got {self.quantile}. The default is 0.5.")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must be in (0, 1), got {self.delta}. The default is 1e-5.")
        opacus_accountant(self.accountant)

    def client_half(self) -> ClippedChange:
        half = ClippedChange(self.clip)
        half.bound = self._bound
        return half

    def open(self, folder: Path) -> None:
        known, self._ledger = self._spent, Ledger(folder / "privacy.json")
        self._ledger.restore(known.rows())

    def begin(self, context: RoundContext, params: State) -> None:
        super().begin(context, params)
        self._weights = dict.fromkeys(context.sites, 1.0)
        self._rate = context.rate if self.amplified else 1.0
        # under Poisson sampling how many were drawn may not matter
        self._expected = context.rate * len(context.sites) if context.rate < 1 else float(len(context.cohort))
        self._within: list[float] = []
        self._warn(len(context.sites), context.rate)

    def add(self, update: Update) -> None:
        super().add(update)
        said = update.shared.get(ClippedChange.__name__, {}).get("within")
        if said is not None:
            self._within.append(float(said > 0))

    def finish(self) -> State:
        if not self._mean.total:
            return self._start
        return super().finish()

    def step(self, start: State, mean: State) -> State:
        self._spent.add(Charge(self.noise, self._rate, 1))  # first, as the model may leave before a crash
        share = self._mean.total / self._expected
        moved = mean if share == 1 else zip_map(lambda w, mean: w + share * (mean - w), start, mean)
        if self.noise:
            bits = self._noise_of_bits if self.clip_lr else math.inf
            deviation = noise_of_model(self.noise, bits) * self._bound.clip / self._expected
            moved = zip_map(lambda w: secret.noisy(w, secret.normal(w.shape), deviation), moved)
        self._follow()
        return moved

    def report(self) -> Mapping[str, float]:
        spent = {"epsilon": epsilon(self._spent.charges, self.delta, self.accountant)} if self.noise else {}
        return {**spent, "clip": self._bound.clip}

    def state_dict(self) -> dict[str, Any]:
        charges = [[charge.noise, charge.rate, charge.steps] for charge in self._spent.charges]
        return {"clip": self._bound.clip, "charges": charges}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._bound.clip = state["clip"]
        self._spent.restore([asdict(Charge(*charge)) for charge in state["charges"]])

    # --- inside ------------------------------------------------------------------------------------------------------

    @property
    def _spent(self) -> Ledger:
        """The ledger: of the run once there is one, in memory before."""
        self._ledger = self._ledger or Ledger()
        return self._ledger

    @property
    def _noise_of_bits(self) -> float:
        return max(self._expected / 20, self.noise)

    def _follow(self) -> None:
        """Moves the bound; without bits (an infinite bound) it stays."""
        if self._within and self.clip_lr:
            noise = self._noise_of_bits * float(secret.normal(())) if self.noise else 0.0
            shorter = (sum(self._within) + noise) / self._expected
            self._bound.clip = followed(self._bound.clip, shorter, self.quantile, self.clip_lr)

    def _warn(self, sites: int, rate: float) -> None:
        warned, self._warned = self._warned or not self.noise, True
        if self.amplified and rate < 1 and not warned:
            log.warning(
                "epsilon of DPFedAvg is amplified: it holds against those who see models and know neither the seed nor "
                "who took part, so not against the sites"
            )
        if sites < FEW and not warned:
            log.warning(
                "DPFedAvg protects whole sites, of which there are %d: with fewer than about %d, expect a useless "
                "model or an epsilon that promises nothing. To protect patients, use example_privacy",
                sites,
                FEW,
            )


class ClippedChange(ClientPlugin):
    """Shortens what a site changed to a bound; the client's half of DP-FedAvg.

    Args:
        clip: The bound in the first round; infinite never shortens.
    """

    example_independent = True
    null: ClassVar[Mapping[str, Any]] = {"clip": float("inf")}

    def __init__(self, clip: float = 0.1) -> None:
        self.clip = clip
        self.bound = Bound(clip)

    def validate(self) -> None:
        if not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip}. Infinite (.inf) never shortens; try 0.1.")

    def discloses(self) -> Disclosure | None:
        if self.clip == math.inf:
            return None
        return Disclosure(
            "whether what the site changed was shorter than the bound", "the server adds noise to the count"
        )

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        sent = broadcast.shared.get(self.instance_id, {}).get("clip")
        self._now = self.clip if sent is None else float(sent)
        self._start = broadcast.params

    def on_round_end(self, module: LightningModule) -> Statistics:
        start, self._start = self._start, {}
        if self._now == math.inf:
            return {}
        end = {name: p.detach().cpu() for name, p in module.named_parameters() if name in start}
        change = length(start, end)
        if change > self._now:
            load(module, shortened(start, end, self._now / change))
        return {"within": torch.tensor(float(change <= self._now))}

    def finish(self) -> Statistics:
        return {} if self.bound.clip == math.inf else {"clip": torch.tensor(self.bound.clip, dtype=torch.float32)}


def length(start: State, end: State) -> float:
    """Returns the Euclidean distance of two states, each laid out as one vector, computed in float64."""
    squares = (float((value.double() - start[name].double()).square().sum()) for name, value in end.items())
    return math.sqrt(math.fsum(squares))


def shortened(start: State, end: State, share: float) -> State:
    """Returns where one is after a share of the way from one state to another."""
    return {name: start[name] + share * (value - start[name]) for name, value in end.items()}


def noise_of_model(noise: float, bits: float) -> float:
    """Returns z_delta, with which model and bound together are as private as one release with noise z."""
    return 1 / math.sqrt(noise**-2 - (2 * bits) ** -2)


def followed(clip: float, shorter: float, quantile: float, rate: float) -> float:
    """Returns the next bound: smaller where more than a quantile of the changes were shorter than it."""
    return clip * math.exp(-rate * (shorter - quantile))
