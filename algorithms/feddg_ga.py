"""FedDG-GA: sites that lose by averaging count more (Zhang et al., Generalization Adjustment, CVPR 2023; not on arXiv).

A site whose own model is better at home than the average is one that the average does not serve; its weight grows.
Equal gaps at the sites of training are meant to carry over to sites that took no part.

    gap_k = metric of w_{t+1} - metric of w_t^k          both on site k's own validation cases
    g_k   = gap_k - mean_j gap_j
    a_k  <- a_k + s d_t g_k / max_j |g_j|                s = +1 for a loss, -1 for a score; here Dice, so -1
    a_k  <- clip(a_k, 0, 1),  then divided by their sum
    w_{t+1} = sum_k a_k w_t^k                            a_k = p_k in the first round
    d_t = step_size (1 - t / rounds), t rounds being done before the round of the gaps

Shared: nothing but validation scores of the site's own trained model, among its metrics. Privacy: as evaluations, which
a site sends anyway. Secure aggregation: no; it would be possible if sites scaled their own updates, but the weights
here are the server's. Cost: one more pass over the validation cases a round, 1.03 times FedAvg's time for a round of
the quickstart. Settings that matter: ``step_size`` (0.2 in the paper), and ``evaluate_every: 1``, as weights move only
after evaluated rounds.

Released code: the gaps are not centred, and d_t is divided by 3, its number of sites: ``variant: released``. d_t is one
round late, so the first is step_size (1 + 1 / rounds).

Deviations: the weights are p_k at first, the authors' code starts from equal ones, which is ``weighting: uniform``.
Where a round has not all sites, weights are normalised over those that it has; a site without a gap keeps its own.
Buffers are averaged with the usual weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from fedlight.data_format import DataFormat
from fedlight.plugins import Aggregator
from fedlight.state import RunningMean, State
from fedlight.update import RoundContext, Update

Variant = Literal["paper", "released"]


class FedDGGA(Aggregator):
    """Averages with weights that follow how much worse the average is than a site's own model, at that site.

    Args:
        step_size: Largest change of a weight in the first round, falling to 0; 0 gives FedAvg.
        metric: Validation score that is compared, larger being better: "dice", "iou" or "dice/<class>".
        variant: "paper", or "released" as the authors' code does it.
    """

    measures = ("local_scores",)
    null: ClassVar[Mapping[str, Any]] = {"step_size": 0.0}

    def __init__(self, step_size: float = 0.2, metric: str = "dice", variant: Variant = "paper") -> None:
        self.step_size = step_size
        self.metric = metric
        self.variant: Variant = variant
        self._shares: dict[str, float] = {}  # a_k of all sites, once they have moved
        self._local: dict[str, float] = {}  # metric of w_t^k in the last round
        self._round = 0  # which that was
        self._progress = 0.0

    def validate(self) -> None:
        if not 0 <= self.step_size <= 1:
            raise ValueError(f"step_size must be in [0, 1], got {self.step_size}. 0 gives FedAvg; the paper uses 0.2.")
        if self.metric.split("/")[0] not in ("dice", "iou"):
            raise ValueError(f"metric must be a score, dice or iou, got {self.metric}. Use dice.")
        if self.variant not in ("paper", "released"):
            raise ValueError(f"variant must be paper or released, got {self.variant}. Use paper.")

    def check(self, data: DataFormat) -> None:
        _, _, name = self.metric.partition("/")
        if name and name not in data.classes[1:]:
            known = ", ".join(data.classes[1:])
            raise ValueError(f"metric must name a class among {known}, got {self.metric}. Use dice for their mean.")

    def begin(self, context: RoundContext, params: State) -> None:
        self._context = context
        self._start = params
        self._mean = RunningMean()
        self._fresh: dict[str, float] = {}
        gaps = self._gaps(context)
        self._moved = self._adjusted(context, gaps) if self.step_size and gaps else self._shares
        self._weights = self._moved or context.weights

    def add(self, update: Update) -> None:
        if f"local/{self.metric}" in update.metrics:
            self._fresh[update.site] = update.metrics[f"local/{self.metric}"]
        if self._weights[update.site] > 0:
            self._mean.add(update.params, self._weights[update.site])

    def finish(self) -> State:
        self._shares, self._local = self._moved, self._fresh
        self._round, self._progress = self._context.round, self._context.progress
        return self._mean.result() if self._mean.total else dict(self._start)

    def _gaps(self, context: RoundContext) -> dict[str, float]:
        """Metric of the model that the last round gave minus that of the sites' own models in it."""
        latest = {site: one for site, one in context.evaluations.items() if one.round == self._round}
        return {site: latest[site].metrics[self.metric] - own for site, own in self._local.items() if site in latest}

    def _adjusted(self, context: RoundContext, gaps: dict[str, float]) -> dict[str, float]:
        total = sum(context.weights[site] for site in context.sites)
        shares = self._shares or {site: context.weights[site] / total for site in context.sites}
        return adjust(shares, gaps, self.step_size * (1 - self._progress), -1, self.variant)

    def state_dict(self) -> dict[str, Any]:
        return {
            "shares": dict(self._shares),
            "local": dict(self._local),
            "round": self._round,
            "progress": self._progress,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._shares, self._local = dict(state["shares"]), dict(state["local"])
        self._round, self._progress = state["round"], state["progress"]


def adjust(
    shares: Mapping[str, float], gaps: Mapping[str, float], step: float, sign: int, variant: Variant = "paper"
) -> dict[str, float]:
    """Returns the next weights of the sites, which sum to 1.

    Args:
        shares: a_k, of all sites.
        gaps: Metric of the global minus that of the local model, of some sites.
        step: d_t.
        sign: +1 if the metric is a loss, -1 if it is a score.
        variant: "paper" or "released".
    """
    center = sum(gaps.values()) / len(gaps) if variant == "paper" else 0.0
    step = step if variant == "paper" else step / 3
    centred = {site: gap - center for site, gap in gaps.items()}
    largest = max(abs(gap) for gap in centred.values())
    if not largest:
        return dict(shares)
    moved = {site: share + sign * step * centred.get(site, 0.0) / largest for site, share in shares.items()}
    clipped = {site: min(max(share, 0.0), 1.0) for site, share in moved.items()}
    if not any(clipped.values()):  # without centring, gaps of one sign can take everything from everybody
        return dict(shares)
    return {site: share / sum(clipped.values()) for site, share in clipped.items()}
