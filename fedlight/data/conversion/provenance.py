"""What lies beside the sites: where they are from, what was done, the hash of every file, patients and splits."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fedlight import __version__
from fedlight.data.conversion.journal import Journal, Written
from fedlight.data.conversion.record import Record
from fedlight.data.conversion.survey import Plan, reasons
from fedlight.data.findings import Findings
from fedlight.data.splits import Fractions, Split, split
from fedlight.serialization import write_bytes

if TYPE_CHECKING:
    from fedlight.data.conversion.prepare import Conversion

VALIDATION = Fractions(val=0.15, test=0.0, seed=0)
"""Of the owners' training cases, where they name none for validation."""

_PICTURES = "Pictures are PNG, turned as their EXIF orientation says, without transparency; of several pages the first."
_VOLUMES = (
    "Volumes are compressed NIfTI with the affine and the unit of the distribution, and without its other headers."
)


def write(conversion: Conversion, plan: Plan, journal: Journal) -> None:
    """Writes ``checksums.sha256``, ``cases.csv``, ``splits.csv`` and ``PROVENANCE.md`` into the root."""
    files = {"cases.csv": cases_csv(journal)}
    if conversion.dataset.splits:
        files["splits.csv"] = splits_csv(plan, journal)
    files["checksums.sha256"] = checksums(journal)
    files["PROVENANCE.md"] = page(conversion, plan, journal)
    for name, text in files.items():
        write_bytes(conversion.root / name, text.encode())


def checksums(journal: Journal) -> str:
    """Returns a line a file as ``sha256sum --check`` reads it."""
    hashes = {name: digest for each in journal.written.values() for name, digest in each.files.items()}
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))


def cases_csv(journal: Journal) -> str:
    """Returns a row a case: its patient, where the owners put it, and the files that it was made of."""
    rows = [(each.site, each.case, each.patient, each.split, " ".join(each.sources)) for each in _usable(journal)]
    return _csv(("site", "case", "patient", "split", "sources"), sorted(rows))


def splits_csv(plan: Plan, journal: Journal) -> str:
    """Returns the owners' split as ``data.splits`` reads it; patients for validation are of their training cases."""
    usable = {(each.site, each.case) for each in _usable(journal)}
    rows: list[tuple[str, str, str]] = []
    for site, records in plan.records.items():
        stages = _stages(site, [record for record in records if (site, record.name) in usable])
        rows += [(site, name, stage) for name, stage in sorted(stages.items())]
    return _csv(("site", "case", "split"), rows)


def _stages(site: str, records: Sequence[Record]) -> Split:
    given = {record.name: record.split or "train" for record in records}
    if "val" in given.values():
        return given
    training = [record for record in records if given[record.name] == "train"]
    return {**given, **split(site, training, VALIDATION, Findings())}


def page(conversion: Conversion, plan: Plan, journal: Journal) -> str:
    """Returns ``PROVENANCE.md``."""
    return "\n".join(_page(conversion, plan, journal)) + "\n"


def _page(conversion: Conversion, plan: Plan, journal: Journal) -> Iterator[str]:
    dataset = conversion.dataset
    yield f"# {dataset.title}\n"
    yield f"Prepared by fedlight {__version__} on {datetime.now(UTC):%Y-%m-%d}: `{_command(conversion)}`.\n"
    yield "| Site | What it is | Cases | Patients | From |\n|---|---|---|---|---|"
    for site in plan.sites:
        written = [each for each in _usable(journal) if each.site == site.name]
        patients = len({each.patient for each in written})
        yield f"| {site.name} | {site.title} | {len(written)} | {patients} | {site.get or 'see below'} |"
    yield f"\nLicence: {dataset.licence}\n\nGot from: {dataset.get}\n\nTo cite:\n"
    yield from (f"- {paper}" for paper in dataset.citation)
    if dataset.downloads:
        yield "\nWhat --download fetches, with its SHA-256:\n"
        yield from (f"- {each.url} {each.sha256} ({each.allowed})" for each in dataset.downloads)
    yield "\nWhat was done:\n"
    yield from (f"- {step}" for step in _steps(conversion))
    yield "\nWhat was left out:\n"
    yield from (f"- {sentence}" for sentence in _left_out(plan, journal))
    yield "\n`sha256sum --check checksums.sha256` compares every file with what was written. `cases.csv` has the"
    yield "patient of every case, the owners' split if there is one, and the files that the case was made of."


def _command(conversion: Conversion) -> str:
    words = ["fedlight", "data", "prepare", conversion.dataset.name]
    words += ["--source", str(conversion.source), "--root", str(conversion.root)]
    for name, value in {**conversion.dataset.chosen, "longest_side": conversion.longest_side}.items():
        words += [] if value is None else [f"--{name}", str(value)]
    words += ["--sites", *conversion.sites] if conversion.sites else []
    return shlex.join([*words, "--allow_incomplete"] if conversion.incomplete else words)


def _steps(conversion: Conversion) -> Iterator[str]:
    dataset = conversion.dataset
    scale = 255 if len(dataset.classes) == 2 and not dataset.volumes else 1
    yield _VOLUMES if dataset.volumes else _PICTURES
    yield f"Masks: {', '.join(f'{index * scale} {name}' for index, name in enumerate(dataset.classes))}."
    yield from dataset.steps
    if conversion.longest_side is not None:
        rule = f"at least {dataset.reach:g} of their area" if len(dataset.classes) == 2 else "the largest part"
        yield (
            f"Pictures are reduced to {conversion.longest_side} pixels on the longer side by averages of areas; pixels "
            f"of masks have the class of {rule}, those of fields of view the value in the middle."
        )


def _left_out(plan: Plan, journal: Journal) -> list[str]:
    sentences = [f"{site}: {text}" for site, images in plan.left_out.items() for text in reasons(images)]
    sentences += plan.lacks
    sentences += [f"{each.site}/{each.case}: {each.problem}." for each in journal.written.values() if each.problem]
    return sentences or ["Nothing of the distribution."]


def _usable(journal: Journal) -> list[Written]:
    return [each for each in journal.written.values() if each.files]


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([header, *rows])
    return file.getvalue()
