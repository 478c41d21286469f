"""What a person should know about data before any training: a table of the sites and all findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedlight.data.case_sites import CaseSites
from fedlight.data.cases import Case
from fedlight.data.federated import Stage
from fedlight.data.findings import Finding, listing
from fedlight.data.folder import FolderSites
from fedlight.data.splits import STAGES


@dataclass(frozen=True, slots=True)
class SiteRow:
    """One institution in numbers and short texts; the fields are the columns of the table.

    Attributes:
        site: The institution; the held-out one is marked.
        cases: Cases that can be used and belong to a split.
        train: Training cases.
        val: Validation cases.
        test: Test cases.
        size: Sizes, (slices x) height x width, with the most frequent first.
        channels: Channels and bits.
        foreground: Mean share of every class but the background, among valid pixels.
        intensity: Mean and standard deviation, averaged over cases, of every channel, in [0, 1].
    """

    site: str
    cases: int
    train: int
    val: int
    test: int
    size: str
    channels: str
    foreground: str
    intensity: str


@dataclass(frozen=True, slots=True)
class Report:
    """What ``check`` found.

    Attributes:
        sites: One row an institution.
        findings: Sentences, errors first; ``fit`` refuses data with an error with the same sentences.
    """

    sites: Sequence[SiteRow]
    findings: Sequence[Finding]

    @property
    def passed(self) -> bool:
        """Whether ``fit`` would start on this data."""
        return not any(finding.severity == "error" for finding in self.findings)


def check(data: CaseSites) -> Report:
    """Reads and checks all data without raising."""
    survey = data.survey()
    rows = [_row(site, splits, data.format.classes, data.held_out_sites) for site, splits in survey.cases.items()]
    return Report(rows, survey.findings)


def check_root(root: str) -> Report:
    """Checks folders with the default settings of ``FolderSites``, on a grid of 256 x 256."""
    return check(FolderSites(root, image_size=256))


def render(report: Report) -> RenderableType:
    """Shows a report in the terminal, in two tables that fit into 80 columns."""
    tables = [
        _table(report, ("site", "cases", "train", "val", "test", "size")),
        _table(report, ("site", "channels", "foreground", "intensity")),
    ]
    verdict = "The data can be trained on." if report.passed else "Training refuses this data."
    return Group(*(tables if report.sites else []), *(_line(finding) for finding in report.findings), Text(verdict))


def _table(report: Report, columns: Sequence[str]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for row in report.sites:
        table.add_row(*(str(getattr(row, column)) for column in columns))
    return table


def _line(finding: Finding) -> Text:
    style = "red" if finding.severity == "error" else "yellow"
    return Text.assemble((f"{finding.severity}: ", style), finding.text)


def _row(site: str, splits: Mapping[Stage, Sequence[Case]], classes: Sequence[str], held_out: Sequence[str]) -> SiteRow:
    cases = [case for stage in STAGES for case in splits[stage]]
    texts = (_sizes(cases), _channels(cases), _foreground(cases, classes), _intensity(cases)) if cases else ("",) * 4
    return SiteRow(
        f"{site} (held out)" if site in held_out else site,
        len(cases),
        len(splits["train"]),
        len(splits["val"]),
        len(splits["test"]),
        *texts,
    )


def _sizes(cases: Sequence[Case]) -> str:
    counts = Counter(case.facts.shape for case in cases)
    return listing([shape for shape, _ in counts.most_common()], shown=2)


def _channels(cases: Sequence[Case]) -> str:
    kinds = sorted({(len(case.facts.mean), case.facts.bits) for case in cases})
    return ", ".join(f"{channels} x {bits} bit" for channels, bits in kinds)


def _foreground(cases: Sequence[Case], classes: Sequence[str]) -> str:
    shares = np.mean([case.facts.shares for case in cases], axis=0)[1:]
    return ", ".join(f"{name} {share:.1%}" for name, share in zip(classes[1:], shares, strict=True))


def _intensity(cases: Sequence[Case]) -> str:
    means = np.mean([case.facts.mean for case in cases], axis=0)
    deviations = np.mean([case.facts.deviation for case in cases], axis=0)
    return ", ".join(f"{mean:.2f}±{deviation:.2f}" for mean, deviation in zip(means, deviations, strict=True))
