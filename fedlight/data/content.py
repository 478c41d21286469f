"""Checks what cases contain: foreground, classes, and images that appear twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from fedlight.data.cases import Case
from fedlight.data.federated import Stage
from fedlight.data.findings import Findings, listing

Arranged = Mapping[str, Mapping[Stage, Sequence[Case]]]


def check_content(cases: Arranged, classes: Sequence[str], held_out: Sequence[str], findings: Findings) -> None:
    """Reports small images, empty masks, classes that a site lacks, and images that leak between splits or sites.

    Args:
        cases: Institution -> split -> cases.
        classes: Names of the classes, background first.
        held_out: The institutions that take no part in training.
        findings: Takes what is found; only a site whose training masks are all empty is an error.
    """
    for site, splits in cases.items():
        _check_patches(site, splits["train"], findings)
        whole = sorted((case for stage in splits.values() for case in stage), key=lambda case: case.name)
        for case in whole:
            if case.preparation.spacing is not None and not case.facts.in_mm:
                findings.case("spacing missing", site, case.name)
        empty = [case for case in whole if not case.facts.shares[1:].any()]
        for case in empty:
            findings.case("mask empty", site, case.name)
        if site not in held_out and splits["train"] and all(case in empty for case in splits["train"]):
            findings.error(_all_empty(site, len(splits["train"])), site)
        elif len(empty) < len(whole):
            _check_classes(site, whole, classes, findings)
    _check_duplicates(cases, findings)
    _check_units(cases, findings)


def _check_patches(site: str, cases: Sequence[Case], findings: Findings) -> None:
    for case in cases:
        patch, size = case.preparation.patch, case.preparation.resampled(case.facts.size, case.facts.spacing)
        if patch is not None and (size[0] < patch[0] or size[1] < patch[1]):
            findings.case("patch size", site, f"{case.name} ({size[0]}x{size[1]}, the patch is {patch[0]}x{patch[1]})")


def _all_empty(site: str, count: int) -> str:
    return (
        f"site {site}: all {count} training masks are empty, so there is nothing to learn. Look at data.mask_values, "
        "or leave the site out with data.sites."
    )


def _check_classes(site: str, cases: Sequence[Case], classes: Sequence[str], findings: Findings) -> None:
    seen = np.sum([case.facts.shares > 0 for case in cases], axis=0)
    if missing := [name for name, count in zip(classes, seen, strict=True) if count == 0]:
        findings.warning(f"site {site}: no case shows {listing(missing)}. Look whether that is true.", site)


def _check_units(cases: Arranged, findings: Findings) -> None:
    known = {site: {case.facts.in_mm for stage in splits.values() for case in stage} for site, splits in cases.items()}
    if {True, False} <= set().union(*known.values()):
        without = sorted(site for site, units in known.items() if False in units)
        findings.warning(
            f"Some cases say how many mm a voxel has and others do not, at {listing(without)}: their HD95 and ASSD are "
            "in pixels and cannot be compared with the others. Give all of them a spacing."
        )


def _check_duplicates(cases: Arranged, findings: Findings) -> None:
    places: dict[str, list[tuple[str, Stage, str]]] = defaultdict(list)
    for site, splits in cases.items():
        for stage, members in splits.items():
            for case in members:
                places[case.facts.digest].append((site, stage, case.name))
    pairs = [same for same in places.values() if len({place[:2] for place in same}) > 1]
    if pairs:
        findings.warning(
            "The same image is in several sites or splits, which leaks what is tested into training: "
            f"{listing([' = '.join(f'{site}/{name} ({stage})' for site, stage, name in same) for same in pairs])}. "
            "Remove the copies, or keep them in one split with data.group or data.splits."
        )
