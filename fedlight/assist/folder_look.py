"""What a folder of sites holds, before anybody has said what its masks mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedlight.data.findings import Findings, listing
from fedlight.data.images import read_image, read_values
from fedlight.data.site_folders import Files, find_sites, match_files
from fedlight.data.source import CaseError
from fedlight.data.volume_files import holds_volume
from fedlight.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen.

    Attributes:
        cases: Cases of every site, in the order of their names.
        values: Pixel values of all masks, ascending.
        deep: Whether a mask has 16 bits.
        grey: Whether all images are grey, also those saved in colour.
        shortest: The shortest side of all images, in pixels.
        longest: The longest.
    """

    cases: Mapping[str, int]
    values: tuple[int, ...]
    deep: bool
    grey: bool
    shortest: int
    longest: int


def look(root: Path) -> Look:
    """Reads every image and every mask below a root with the readers that training uses.

    Raises:
        ConfigError: If there is no site, or none of its images can be read.
    """
    findings = Findings()
    sites = find_sites(root, None, (), findings)
    files = {site: match_files(site, root / site, findings) for site in sites}
    errors = [finding.text for finding in findings.sentences() if finding.severity == "error"]
    if errors:
        raise ConfigError(*errors)
    if volumes := [site for site, members in files.items() if any(holds_volume(each.image) for each in members)]:
        have = "has" if len(volumes) == 1 else "have"
        raise ConfigError(
            f"fedlight init looks at images, and {listing(volumes)} {have} volumes. Start from configs/volumes.yaml, "
            "and look at them with fedlight data check."
        )
    seen = [_case(each, findings) for members in files.values() for each in members]
    errors = [finding.text for finding in findings.sentences() if finding.severity == "error"]
    if errors or not seen:
        raise ConfigError(*errors)
    return Look(
        cases={site: len(members) for site, members in files.items()},
        values=tuple(sorted({value for case in seen for value in case.values})),
        deep=any(case.deep for case in seen),
        grey=all(case.grey for case in seen),
        shortest=min(min(case.size) for case in seen),
        longest=max(max(case.size) for case in seen),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    size: tuple[int, int] = (1, 1)
    grey: bool = True
    deep: bool = False
    values: frozenset[int] = frozenset()


def _case(files: Files, findings: Findings) -> _Seen:
    site = files.image.parent.parent.name
    try:
        size, grey = _image(files.image)
        mask = read_values(files.mask)
    except CaseError as error:
        for kind, detail in error.problems:
            findings.case(kind, site, detail)
        return _Seen()
    return _Seen(size, grey, mask.dtype == np.uint16, frozenset(map(int, np.unique(mask))))


def _image(path: Path) -> tuple[tuple[int, int], bool]:
    try:
        return _size(read_image(path, 1).shape), True
    except CaseError as error:
        if error.problems[0][0] != "channels":
            raise
        return _size(read_image(path, 3).shape), False


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], shape[1]
