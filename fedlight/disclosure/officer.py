"""The page that a data protection officer reads before a site takes part: every tensor, number and name that leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from fedlight import __version__
from fedlight.data.federated import FederatedDataModule
from fedlight.disclosure.protections import disclosures, of_part, of_run
from fedlight.disclosure.rehearsal import Leaf, Played, Rehearsal, rehearse
from fedlight.disclosure.totals import Totals, totals
from fedlight.document import Page, Section, Table, in_bytes, shape
from fedlight.plugins.disclosure import beyond_site_level
from fedlight.run import Run
from fedlight.state import num_bytes

if TYPE_CHECKING:
    from fedlight.federation import Federation

_LAYERS = 60
"""With more of them, the terminal sums up what files have in full."""


def officers_page(federation: Federation, run: Run, data: FederatedDataModule) -> Page:
    """Makes the page.

    Args:
        federation: The federation.
        run: Its run, checked as before training; it is used up.
        data: The sites' data.
    """
    rehearsal = rehearse(federation, run, data)
    return _Officer(federation, run, rehearsal, totals(federation, run, rehearsal)).page()


class _Officer:
    """What is asked, section by section.

    Args:
        federation: The federation.
        run: Its run.
        rehearsal: What crosses.
        totals: Bytes of the whole run.
    """

    def __init__(self, federation: Federation, run: Run, rehearsal: Rehearsal, totals: Totals) -> None:
        self.federation, self.run, self.rehearsal, self.totals = federation, run, rehearsal, totals
        self.share_cases = federation.local.share_cases
        self.plugins = (run.server.aggregator, *run.server.plugins)
        self.beyond = beyond_site_level(self.plugins, self.share_cases)
        # the site that shares the most; of plugins, sites with few images share less
        self.most = max(run.sites, key=lambda site: sum(len(played.up) for played in rehearsal.rounds[site]))
        self.played = rehearsal.rounds[self.most]

    def page(self) -> Page:
        """Joins the sections."""
        sections = (
            self._beyond(),
            self._protections(),
            self._update(),
            self._tensors(),
            self._numbers(),
            self._evaluation(),
            self._broadcast(),
            self._bytes(),
            self._elsewhere(),
            self._stays(),
        )
        said = (
            f"{len(self.run.sites)} sites, {self.federation.rounds} rounds, method {self.run.info.method}.",
            "The messages below are those of this configuration, made by its own code from noise in place of images: "
            "nothing was trained, nothing was sent and no patient's image is in them.",
        )
        footer = f"Made by fedlight {__version__} with fedlight privacy."
        return Page("What leaves a site", said, sections, self._facts(), footer)

    # --- sections ----------------------------------------------------------------------------------------------------

    def _beyond(self) -> Section:
        said = [f"{clause[0].upper()}{clause[1:]}." for clause in self.beyond]
        return Section("More than statistics of whole sites", tuple(said) or ("Nothing.",))

    def _protections(self) -> Section:
        found = tuple(f"{name}: {promise}." for name, promise in of_run(self.federation).items())
        none = "Neither differential privacy nor secure aggregation: who runs the server sees every site's update."
        return Section("Protections", found or (none,))

    def _update(self) -> Section:
        leaves = _union(self.played)
        parts = {part: list(members) for part, members in groupby(leaves, key=lambda leaf: leaf.part)}
        codecs = self.federation.local.compression.uplink
        rows = [
            (part, str(len(members)), self._when(members), self._written(part, members), self._protection(part))
            for part, members in parts.items()
        ]
        table = Table(("part", "tensors", "rounds", "bytes", "protection"), tuple(rows), frozenset({1, 3}))
        names = " and ".join(type(codec).__name__ for codec in codecs)
        said = [f"Parameters are written by {names}, which is no protection."] if codecs else []
        said += [f"{name} shares {known.what}." for name, known in disclosures(self.plugins).items()]
        said += self._fewer()
        return Section("After training, a site sends", tuple(said), table)

    def _tensors(self) -> Section:
        leaves = _union(self.played)
        lines = _layers(leaves)
        said = [f"Only the first {_LAYERS} of {len(lines)} layers are here; --output FILE.html lists every tensor."]
        rows = tuple((layer, shapes, in_bytes(size)) for layer, shapes, size in lines[:_LAYERS])
        table = Table(("layer", "tensors and their shapes", "bytes"), rows, frozenset({2}))
        whole = Table(
            ("part", "tensor", "shape", "type", "bytes", "rounds", "protection"),
            tuple(
                (
                    leaf.part,
                    leaf.name,
                    shape(leaf.shape),
                    leaf.dtype,
                    in_bytes(leaf.bytes),
                    self._when([leaf]),
                    self._protection(leaf.part),
                )
                for leaf in leaves
            ),
            frozenset({4}),
        )
        return Section("Its tensors, layer by layer", tuple(said) if len(lines) > _LAYERS else (), table, whole)

    def _numbers(self) -> Section:
        names = sorted({name for played in self.played for name in played.metrics})
        said = (
            f"Beside tensors an update has the site's name, the round, the number of training cases, and {len(names)} "
            f"numbers: {', '.join(names)}.",
        )
        return Section("Numbers in it", said)

    def _evaluation(self) -> Section:
        evaluation, detailed = self.rehearsal.evaluation, self.rehearsal.detailed
        due = self.federation.evaluate_every
        every = "After every round" if due == 1 else f"Every {due} rounds"
        cases = sorted({name for row in detailed.cases for name in row})
        said = [
            f"{every} a site that scores the model answers with the number of cases and means over them: "
            f"{', '.join(evaluation.metrics)}.",
            f"When a run is tested, with these means: {', '.join(detailed.metrics)}.",
            f"Of every single case, under its name: {', '.join(cases)}. With share_cases false, nothing of these."
            if cases
            else "No score of a single case leaves a site, and no name of one.",
        ]
        return Section("After scoring, a site sends", tuple(said))

    def _broadcast(self) -> Section:
        last = self.played[-1]
        parts = [(part, in_bytes(size)) for part, size in last.bytes_down.items()]
        names = sorted({leaf.name.rpartition("/")[0] or leaf.name for leaf in last.down if leaf.part[:7] == "shared/"})
        own = [site for site in self.run.sites if any(name.split("/")[0] == site for name in names)]
        said = ["The model, and what plugins want every site to know; names of the sites, their numbers of cases."]
        if own:
            said.append(f"What {_listed(own)} shared goes on to the other sites under the site's name.")
        return Section("A site is sent", tuple(said), Table(("part", "bytes"), tuple(parts), frozenset({1})))

    def _bytes(self) -> Section:
        rows = [
            (
                f"round {number}{' and later' * (number == len(self.played) < self.federation.rounds)}, a site",
                *(in_bytes(sum(sizes.values())) for sizes in (played.bytes_up, played.bytes_down)),
                in_bytes(played.bytes_evaluate),
            )
            for number, played in enumerate(self.played, start=1)
        ]
        sums = (self.totals.up, self.totals.down, self.totals.evaluate)
        rows.append((f"all {self.federation.rounds} rounds, a site", *(in_bytes(max(s.values())) for s in sums)))
        rows.append((f"all {self.federation.rounds} rounds, all sites", *(in_bytes(sum(s.values())) for s in sums)))
        how = {"": "", "about": "About: a lossless codec's bytes depend on values, and noise is not like a model."}
        how["at most"] = "At most: not all sites take part in every round."
        said = (how[self.totals.how],) if self.totals.how else ()
        header = ("", "up", "down", "down to score")
        return Section("Bytes of tensors", said, Table(header, tuple(rows), frozenset({1, 2, 3})))

    def _elsewhere(self) -> Section:
        said = ["fedlight itself reports to nobody."]
        for tracker in self.federation.trackers:
            name, mode = type(tracker).__name__, getattr(tracker, "mode", None)
            where = "sends them over the network" if mode == "online" else "keeps them on the server's disk"
            said.append(f"{name} mirrors the server's record: losses and scores, by site; it {where}.")
            if tracker.overlays:
                said.append(f"{name} also gets images of patients with their masks (overlays).")
        return Section("From the server to elsewhere", tuple(said))

    def _stays(self) -> Section:
        said = ["Images, masks, gradients of single steps, and the optimizer's state are part of no message."]
        if private := self.rehearsal.private:
            said.append(f"{len(private)} parameter tensors stay at the site ({in_bytes(num_bytes(private))} bytes).")
        if self.rehearsal.kept:
            said.append(f"{len(self.rehearsal.kept)} running statistics stay at the site.")
        if not self.share_cases:
            said.append("Names of cases and scores of single cases stay at the site.")
        said.append("In a simulation all sites are on one machine, and sites/ in the run folder has what they keep.")
        return Section("What stays at a site", tuple(said))

    # --- what sections are made of -----------------------------------------------------------------------------------

    def _protection(self, part: str) -> str:
        return of_part(part, self.federation, self.plugins)

    def _written(self, part: str, leaves: Sequence[Leaf]) -> str:
        """Bytes of a part as tensors, or as codecs write it."""
        sizes = {played.bytes_up[part] for played in self.played if part in played.bytes_up}
        return in_bytes(max(sizes, default=sum(leaf.bytes for leaf in leaves)))

    def _when(self, leaves: Iterable[Leaf]) -> str:
        """Says in which rounds tensors are in an update."""
        names = {(leaf.part, leaf.name) for leaf in leaves}
        there = [bool(names & {(leaf.part, leaf.name) for leaf in played.up}) for played in self.played]
        if all(there):
            return "every"
        first = there.index(True) + 1
        return f"from {first}" if all(there[first - 1 :]) else f"{first} only"

    def _fewer(self) -> list[str]:
        """Names the sites that share less than others."""
        most = {leaf.part for leaf in _union(self.played)}
        said = []
        for site in self.run.sites:
            missing = most - {leaf.part for leaf in _union(self.rehearsal.rounds[site])}
            said += [f"{site} sees too few images in a round (min_images) for {part}." for part in sorted(missing)]
        return said

    def _facts(self) -> dict[str, Any]:
        return {
            "sites": list(self.run.sites),
            "rounds": self.federation.rounds,
            "method": self.run.info.method,
            "beyond_site_level": list(self.beyond),
            "protections": dict(of_run(self.federation)),
            "shared": {name: asdict(known) for name, known in disclosures(self.plugins).items()},
            "tensors": [
                {**asdict(leaf), "rounds": self._when([leaf]), "protection": self._protection(leaf.part)}
                for leaf in _union(self.played)
            ],
            "metrics": sorted({name for played in self.played for name in played.metrics}),
            "evaluation": {
                "means": list(self.rehearsal.evaluation.metrics),
                "means_of_test": list(self.rehearsal.detailed.metrics),
                "of_single_cases": sorted({name for row in self.rehearsal.detailed.cases for name in row}),
            },
            "stays": {"parameters": sorted(self.rehearsal.private), "running_statistics": list(self.rehearsal.kept)},
            "bytes_of_rounds": [
                {
                    "up": dict(played.bytes_up),
                    "down": dict(played.bytes_down),
                    "evaluate": played.bytes_evaluate,
                }
                for played in self.played
            ],
            "bytes_of_run": {
                "how": self.totals.how or "exact",
                "up": dict(self.totals.up),
                "down": dict(self.totals.down),
                "evaluate": dict(self.totals.evaluate),
                "all": self.totals.all,
            },
        }


def _union(played: Iterable[Played]) -> list[Leaf]:
    """Returns every tensor that is in an update of any round, part by part."""
    leaves = {(leaf.part, leaf.name): leaf for one in played for leaf in one.up}
    order = {part: index for index, part in enumerate(dict.fromkeys(part for part, _ in leaves))}
    return sorted(leaves.values(), key=lambda leaf: order[leaf.part])


def _layers(leaves: Iterable[Leaf]) -> list[tuple[str, str, int]]:
    """Joins the tensors of a layer: its name, what they are, their bytes."""
    lines = []
    for (part, layer), members in groupby(leaves, key=lambda leaf: (leaf.part, leaf.name.rpartition(".")[0])):
        group = list(members)
        last = [leaf.name.rpartition(".")[2] for leaf in group]
        shapes = ", ".join(f"{name} {shape(leaf.shape)}" for name, leaf in zip(last, group, strict=True))
        where = layer.removeprefix("network.") if part == "parameters" else f"{part} {layer}".rstrip()
        lines.append((where, shapes, sum(leaf.bytes for leaf in group)))
    return lines


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"each of {len(names)} sites"
