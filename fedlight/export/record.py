"""What a run folder says of the model that is exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fedlight.checkpoint import RunFolder, Which
from fedlight.tracking import read_rows, read_status
from fedlight.tracking.rows import Row
from fedlight.tracking.summary import Score
from fedlight.update import Evaluation

_PLACES = frozenset({"round", "kind", "split", "model", "site", "cases"})


@dataclass(frozen=True, slots=True)
class Record:
    """One model of a run.

    Attributes:
        config: The resolved config; runs from Python have none.
        facts: Of ``run.json``.
        rows: Of ``metrics.jsonl``.
        versions: Of fedlight and Lightning that trained the model.
        held_out: Institutions that took no part.
        round: The model's round.
        which: The selected model, or that of the last round.
        site: Whose model it is, where sites have models of their own.
    """

    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    rows: Sequence[Row]
    versions: Mapping[str, str]
    held_out: Sequence[str]
    round: int
    which: Which
    site: str | None

    @property
    def sites(self) -> list[str]:
        """Those that train, in their order."""
        named = self.facts.get("sites") or sorted({row["site"] for row in self.rows if row["kind"] == "fit"})
        return list(named)

    @property
    def rounds(self) -> list[Row]:
        """The rows of rounds."""
        return [row for row in self.rows if row["kind"] == "round"]

    def scores(self, split: str) -> list[Score]:
        """Returns how this model, in this round, does on "val", "test" or "held-out", institution by institution."""
        rows = [row for row in self.rows if row["round"] == self.round and self._is_mine(row, split)]
        return [Score(self.site or "global", split, _evaluation(row)) for row in rows]

    def _is_mine(self, row: Row, split: str) -> bool:
        if split == "val":
            return row["kind"] == "val" and self.site in (None, row["site"])
        if row["kind"] != "test" or row["split"] != split:
            return False
        if self.site is None:
            return bool(row["model"] == "global")
        # a site's own statistics score its own cases under the shared model's name
        return row["model"] == self.site or (split == "test" and (row["model"], row["site"]) == ("global", self.site))


def read_record(folder: RunFolder, round: int, which: Which, site: str | None) -> Record:
    """Reads a run folder whose model was loaded.

    Raises:
        DamagedFileError: If one of its files is not what was written.
    """
    checkpoint = torch.load(folder.model(which), map_location="cpu", weights_only=True)
    about = checkpoint["fedlight"]
    versions = {"fedlight": about["version"], "lightning": checkpoint["pytorch-lightning_version"]}
    rows, facts = read_rows(folder.path), read_status(folder.path)
    return Record(folder.config(), facts, rows, versions, about["held_out"], round, which, site)


def _evaluation(row: Row) -> Evaluation:
    metrics = {name: value for name, value in row.items() if name not in _PLACES and value is not None}
    return Evaluation(row["site"], row["round"], row["cases"], metrics)
