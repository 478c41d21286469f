"""Which round's model is kept, and when a run may stop early: by source validation only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedlight.update import Evaluation


class Selection:
    """Remembers the round with the best mean validation Dice over the institutions that train.

    The held-out institution is never evaluated before ``test``, so it cannot have a say here.

    Args:
        patience: Evaluations without a better score after which to stop; None never stops early.
    """

    def __init__(self, patience: int | None = None) -> None:
        self.patience = patience
        self.best_round = 0
        self.best_score = float("-inf")
        self.waited = 0

    def update(self, round: int, evaluations: Mapping[str, Evaluation]) -> bool:
        """Takes the latest evaluation of every institution and says whether this round is the best so far."""
        score = mean_dice(evaluations)
        if score > self.best_score:
            self.best_round, self.best_score, self.waited = round, score, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return {"best_round": self.best_round, "best_score": self.best_score, "waited": self.waited}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Takes back what ``state_dict`` returned."""
        self.best_round, self.best_score, self.waited = saved["best_round"], saved["best_score"], saved["waited"]


def mean_dice(evaluations: Mapping[str, Evaluation]) -> float:
    """Returns the mean over institutions of their mean Dice over cases; -inf where there is none."""
    scores = [evaluation.metrics["dice"] for evaluation in evaluations.values()]
    return sum(scores) / len(scores) if scores else float("-inf")
