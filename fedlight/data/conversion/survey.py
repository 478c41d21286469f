"""What there is to convert: the cases of all sites by name, compared with what the data set is known to have."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fedlight.data.conversion.record import LeftOut, Record
from fedlight.data.conversion.tree import LayoutError, Tree
from fedlight.data.datasets.dataset import Dataset, Site
from fedlight.data.findings import listing
from fedlight.data.splits import patient
from fedlight.errors import ConfigError
from fedlight.messages import did_you_mean


@dataclass(slots=True)
class Plan:
    """What will be converted.

    Attributes:
        sites: The institutions that have cases.
        records: Institution -> its cases, sorted by name.
        left_out: Institution -> images of the data set that are no cases.
        lacks: What the copy lacks, a sentence each.
        remarks: What a person may want to know, a sentence each.
    """

    sites: list[Site] = field(default_factory=list)
    records: dict[str, list[Record]] = field(default_factory=dict)
    left_out: dict[str, list[LeftOut]] = field(default_factory=dict)
    lacks: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.records.values()))


def survey(dataset: Dataset, source: Tree, wanted: Sequence[str], incomplete: bool) -> Plan:
    """Looks for the cases of a data set in a copy of it, without reading them.

    Args:
        dataset: The data set.
        source: The copy.
        wanted: Names of the sites to convert; all if empty.
        incomplete: Whether a copy that lacks something will do.

    Raises:
        ConfigError: If the copy has no case or lacks something, or there is no such site.
    """
    plan = Plan()
    for site in _chosen(dataset, source, wanted):
        _look(dataset, source, site, plan)
    if not plan.records or (plan.lacks and not incomplete):
        ways = (
            " Complete the copy, name some of the sites with --sites, or convert what there is with --allow_incomplete."
        )
        ways = ways if plan.records else ""
        raise ConfigError(*plan.lacks, f"{dataset.title}: {dataset.get}{ways}")
    return plan


def _chosen(dataset: Dataset, source: Tree, wanted: Sequence[str]) -> list[Site]:
    try:
        sites = {site.name: site for site in dataset.sites(source)}
    except LayoutError as error:
        raise ConfigError(f"{dataset.name}: {error}.", f"{dataset.title}: {dataset.get}") from error
    for name in wanted:
        if name not in sites:
            raise ConfigError(
                f"--sites: there is no site {name}. {did_you_mean(name, sites)}Sites of {dataset.name} are "
                f"{', '.join(sites)}."
            )
    return [site for name, site in sites.items() if not wanted or name in wanted]


def _look(dataset: Dataset, source: Tree, site: Site, plan: Plan) -> None:
    try:
        found = list(dataset.records(source, site.name))
    except LayoutError as error:
        plan.lacks.append(f"{site.name}: {error}.{f' Get it from {site.get}.' if site.get else ''}")
        return
    records = sorted((each for each in found if isinstance(each, Record)), key=lambda record: record.name)
    left_out = [each for each in found if isinstance(each, LeftOut)]
    _check_names(dataset, site.name, records)
    _count(site, len(records), plan)
    plan.remarks += [f"{site.name}: {sentence}" for sentence in reasons(left_out)]
    plan.left_out[site.name] = left_out
    if records:
        plan.sites.append(site)
        plan.records[site.name] = records


def _count(site: Site, found: int, plan: Plan) -> None:
    """Compares with what the distribution has."""
    if found in site.cases or (found and not site.cases):
        return
    known = " or ".join(map(str, site.cases)) or "some"
    if found > max(site.cases, default=found):
        plan.remarks.append(f"{site.name}: {found} cases, and the distribution has {known}. Look what else is there.")
    else:
        plan.lacks.append(f"{site.name}: {found} cases with masks, and the distribution has {known}.")


def _check_names(dataset: Dataset, site: str, records: Sequence[Record]) -> None:
    """Refuses names that two cases share, or from which ``FolderSites`` would not find the patients."""
    twice = [name for name, count in Counter(record.name for record in records).items() if count > 1]
    if twice:
        raise ConfigError(f"{site}: more than one image has the name {listing(twice)}. Remove the copies.")
    pattern = None if dataset.group is None else re.compile(dataset.group)
    by_group, by_name = defaultdict(list), defaultdict(list)
    for record in records:
        by_group[record.group].append(record.name)
        by_name[patient(record.name, pattern)].append(record.name)
    if sorted(by_group.values()) != sorted(by_name.values()):
        raise AssertionError(f"{dataset.name}: {dataset.group!r} does not find the patients of {site} in their names")


def reasons(left_out: Iterable[LeftOut]) -> list[str]:
    """Says in a sentence for every reason how many images were left out, and which.

    >>> reasons([LeftOut("a", "no mask"), LeftOut("b", "no mask")])
    ['2 images are no cases (no mask): a, b.']
    """
    by_reason: Mapping[str, list[str]] = defaultdict(list)
    for each in left_out:
        by_reason[each.reason].append(each.name)
    return [
        f"{len(names)} image{'s are no cases' if len(names) > 1 else ' is no case'} ({reason}): {listing(names)}."
        for reason, names in by_reason.items()
    ]
