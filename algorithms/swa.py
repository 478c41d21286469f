"""SWA and EMA: the model that is kept is an average over rounds (Izmailov et al., arXiv 1803.05407).

The global model of the last rounds moves about a flat region; the middle of that region does better at institutions
that took no part.

    SWA   a_t = mean of w_s over s = s_0, s_0 + every, s_0 + 2 every, ... <= t        s_0 the first round after start
    EMA   a_t = decay_t a_{t-1} + (1 - decay_t) w_t                           decay_t = min(decay, (t - 1) / t)

Sites go on from w_t, while a_t is evaluated, selected and written to global.ckpt. Any aggregator will do: list one of
the two under ``plugins``. SWA at the server, from 3/4 of the rounds on and together with FedASAM, is that of Caldarola
et al., arXiv 2203.11834.

Shared: nothing. The plugin works on the server only. Privacy: as FedAvg. Secure aggregation: yes. Cost: 1.00 times
FedAvg's time; the server keeps one more model, in float64. Settings that matter: ``start`` and ``every``, or ``decay``;
``start`` 1 and ``decay`` 0 keep the last model itself.

Deviations: the learning rate is not made cyclic, as both papers do; give the task a scheduler for that. EMA's decay
grows in the first rounds, so that the average has no memory of the initial weights. Running statistics of BatchNorm
belong to w_t and not to a_t: use GroupNorm, which is the default, or ``buffers: recalibrate``. Parameters that stay at
the sites are not averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fedlight.plugins import ClientPlugin
from fedlight.plugins.client_plugin import Statistics
from fedlight.state import State, zip_map
from fedlight.update import RoundContext


class SWA(ClientPlugin):
    """Keeps the plain average of the global models of the last rounds.

    Args:
        start: Share of the rounds after which averaging starts, in [0, 1]; 1 keeps the last model.
        every: Rounds between two models that enter the average.
    """

    needs_shared = True
    null: ClassVar[Mapping[str, Any]] = {"start": 1.0}

    def __init__(self, start: float = 0.75, every: int = 1) -> None:
        self.start = start
        self.every = every
        self._average: State = {}
        self._models = 0
        self._last = 0

    def validate(self) -> None:
        if not 0 <= self.start <= 1:
            raise ValueError(f"start must be a share of the rounds in [0, 1], got {self.start}. The default is 0.75.")
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}. 1 averages the models of all rounds.")

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        super().begin(context, previous)
        self._context = context

    def deploy(self, params: State) -> State:
        done = self._context.round
        if done < self.start * self._context.rounds:
            return params
        if not self._models or done >= self._last + self.every:
            self._models, self._last = self._models + 1, done
            share = 1 / self._models
            self._average = _between(self._average, params, share)
        return _like(self._average, params)

    def state_dict(self) -> dict[str, Any]:
        return {"average": dict(self._average), "models": self._models, "last": self._last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._average, self._models, self._last = dict(state["average"]), state["models"], state["last"]


class EMA(ClientPlugin):
    """Keeps an average of the global model that forgets the past exponentially.

    Args:
        decay: How much of the average is kept in a round, in [0, 1); 0 keeps the last model.
    """

    needs_shared = True
    null: ClassVar[Mapping[str, Any]] = {"decay": 0.0}

    def __init__(self, decay: float = 0.9) -> None:
        self.decay = decay
        self._average: State = {}
        self._rounds = 0

    def validate(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}. Try 0.9; 0 keeps the last model.")

    def deploy(self, params: State) -> State:
        self._rounds += 1
        decay = min(self.decay, (self._rounds - 1) / self._rounds)
        self._average = _between(self._average, params, 1 - decay)
        return _like(self._average, params)

    def state_dict(self) -> dict[str, Any]:
        return {"average": dict(self._average), "rounds": self._rounds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._average, self._rounds = dict(state["average"]), state["rounds"]


def _between(average: State, params: State, share: float) -> State:
    """Returns (1 - share) average + share params in float64."""
    if share == 1 or not average:
        return zip_map(lambda w: w.double(), params)
    return zip_map(lambda a, w: a + share * (w.double() - a), average, params)


def _like(average: State, params: State) -> State:
    return zip_map(lambda a, w: a.to(w.dtype), average, params)
