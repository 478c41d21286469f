"""The human ceiling: how well a second annotator agrees with the masks that everything is trained and scored on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fedlight.benchmark.layout import HUMAN
from fedlight.data.case_sites import CaseSites
from fedlight.data.cases import Case
from fedlight.data.image_files import FileSource
from fedlight.metrics import score_case
from fedlight.tracking.rows import cell

FOLDER = "masks_annotator2"
"""Folder of a site, beside ``masks``, with the second annotator's masks; not every case needs one."""


def human_cases(data: CaseSites, site: str) -> list[dict[str, str]]:
    """Scores the second annotator of a site against the first, as rows of ``cases.csv``; none where there is none.

    A person gives no probabilities, so calibration is undefined. Both checkpoints have the same rows, as a person has
    one model.

    Raises:
        CaseError: If a second mask cannot be used.
    """
    scored = list(_scored(data, site))
    return [
        {"domain": "held-out", "checkpoint": checkpoint, "model": HUMAN, "site": site, **row}
        for checkpoint in ("best", "last")
        for row in scored
    ]


def _scored(data: CaseSites, site: str) -> Iterator[dict[str, str]]:
    for case in (case for split in data.survey().cases[site].values() for case in split):
        second = _second(case)
        if second is None:
            continue
        first, other = case.source.read(), second.read()
        tensors = [torch.from_numpy(part) for part in (other.mask, first.mask, first.valid)]
        prediction, mask, valid = tensors[0].long(), tensors[1].long(), tensors[2]
        scores: dict[str, Any] = score_case(prediction, mask, valid, (1.0, 1.0), data.format.classes, distances=True)
        several = len(data.format.classes) > 2
        kept = {name: cell(round(value, 5)) for name, value in scores.items() if several or "/" not in name}
        yield {"case": case.name, **kept, "ece": "", "brier": ""}


def _second(case: Case) -> FileSource | None:
    if not isinstance(case.source, FileSource):
        return None
    folder = case.source.mask.parent.with_name(FOLDER)
    found: list[Path] = sorted(folder.glob(f"{case.source.image.stem}.*")) if folder.is_dir() else []
    return replace(case.source, mask=found[0]) if found else None
