"""The model card: what a run itself knows of its model, under the headings that Hugging Face gives such cards.

What nobody but the owner can know is marked ``FILL IN``, what the run does not say is said to be unknown. Sites are
named as in the run; no case, no path and no pixel is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fedlight import __version__
from fedlight.document import Page, Section, Table, markdown
from fedlight.export.protocol import UNKNOWN, is_pooled, protocol, selection
from fedlight.export.record import Record
from fedlight.tracking.summary import READING, Score, cell, columns, heading, score_rows

NAME = "model_card.md"
"""Of the file."""

OWNER = "FILL IN"
"""What only the owner of the model knows."""

NOT_SCORED = (
    "{split}: " + UNKNOWN + ". This model was not scored there. Type fedlight test --run RUN, then export again."
)


def card(record: Record, about: Mapping[str, Any], privacy: Section, opening: str) -> str:
    """Writes the card.

    Args:
        record: What the run says.
        about: What whoever uses the network must know.
        privacy: What left the sites.
        opening: How to begin with the file that the card goes with, one paragraph.
    """
    sections = (
        _details(record, about),
        _uses(about),
        _limits(record),
        Section("How to Get Started with the Model", (opening, *about["steps"])),
        _training_data(record),
        Section("Training Procedure", (selection(record),), protocol(record)),
        _results(record, "held-out", "Evaluation at institutions that took no part (held-out)"),
        _results(record, "test", "Evaluation in the federation (test cases of sites that trained)"),
        _results(record, "val", "Evaluation on validation cases of sites that trained"),
        privacy,
        Section("Environmental Impact", (_time(record), f"Energy and carbon: {UNKNOWN}.")),
        Section("Model Card Contact", (f"{OWNER}: who answers questions.",)),
    )
    footer = f"Made by fedlight {__version__} with fedlight export, from the files of the run."
    page = Page(_title(record, about), _first(record, about), sections, footer=footer)
    return f"---\n{_front_matter(record, about)}---\n\n{markdown(page)}"


def _front_matter(record: Record, about: Mapping[str, Any]) -> str:
    """Returns the YAML that programs read, with the licence left to the owner."""
    known = {
        "library_name": "fedlight",
        "pipeline_tag": "image-segmentation",
        "tags": ["federated-learning", "medical-imaging", "image-segmentation", "domain-generalization"],
        "model-index": [{"name": _title(record, about), "results": _index(record)}],
    }
    licence = f"license: other  # {OWNER}: the owner of the model chooses\nlicense_name: to-be-chosen-by-the-owner\n"
    return licence + yaml.safe_dump(known, sort_keys=False, allow_unicode=True)


def _index(record: Record) -> list[dict[str, Any]]:
    """Lists every score with all its digits, institution by institution, held-out apart from in-federation."""
    found = [(split, score.evaluation) for split in ("held-out", "test") for score in record.scores(split)]
    return [
        {
            "task": {"type": "image-segmentation"},
            "dataset": {"name": f"{one.site} ({split})", "type": "private", "split": split},
            "metrics": [{"type": name, "value": one.metrics[name]} for name in columns([one]) if name in one.metrics],
        }
        for split, one in found
    ]


def _title(record: Record, about: Mapping[str, Any]) -> str:
    return f"Segmentation of {' and '.join(about['classes'][1:])}, trained in a federation of {len(record.sites)} sites"


def _first(record: Record, about: Mapping[str, Any]) -> tuple[str, ...]:
    whose = "The one model of all sites" if record.site is None else f"The model of {record.site}, one of the sites"
    return (f"{whose}. Lines with {OWNER} wait for the owner; what the run does not say is {UNKNOWN}.",)


def _details(record: Record, about: Mapping[str, Any]) -> Section:
    network, images = about["network"]["settings"], about["inputs"]["images"]
    parameters = record.facts.get("num_parameters")
    rows = (
        ("developed by", OWNER),
        ("licence", f"{OWNER} (that of fedlight is Apache-2.0; the model's own and that of the data are the owner's)"),
        ("model type", f"{network['architecture']} with encoder {network['encoder']}, 2-D"),
        ("parameters", f"{parameters:,}".replace(",", " ") if parameters else UNKNOWN),
        ("classes", ", ".join(about["classes"])),
        ("input", f"{images['shape'][1]} channel(s) in [0, 1], sides multiples of {images['multiple_of']}"),
        ("round", f"{record.round} ({record.which})"),
        ("model of", record.site or "all sites"),
    )
    return Section("Model Details", (), Table(("", ""), rows))


def _uses(about: Mapping[str, Any]) -> Section:
    classes = ", ".join(about["classes"][1:])
    return Section(
        "Uses",
        (
            f"Intended use: research on segmenting {classes} in images like those of the sites below. {OWNER}: what "
            "the images are of, and from which devices.",
            "Out of scope: decisions about patients. The model is no medical device and nobody has assessed it as one.",
        ),
    )


def _limits(record: Record) -> Section:
    unseen = len(record.scores("held-out"))
    said = {
        0: "How it does at an institution that took no part is unknown.",
        1: "One institution that took no part says little about the next one: devices and patients differ.",
    }.get(
        unseen, f"{unseen} institutions that took no part say little about the next one: devices and patients differ."
    )
    return Section(
        "Bias, Risks, and Limitations",
        (
            said,
            "Whom the sites' cases stand for (age, sex, origin, disease) is unknown to the run: "
            f"{OWNER}. A mean over sites hides the worst one; look at every line.",
            "Parameters of a model can give away what it was trained on; see Privacy.",
        ),
    )


def _training_data(record: Record) -> Section:
    trained: Mapping[str, Any] = record.facts.get("num_samples") or {}
    counts = {split: {s.evaluation.site: s.evaluation.num_cases for s in record.scores(split)} for split in _SPLITS}
    sites = [*record.sites, *(site for site in record.held_out if site not in record.sites)]
    rows = tuple(_site(site, site in record.held_out, trained.get(site), counts) for site in sites)
    pooled = "One client had the images of all sites: this is no federation. " if is_pooled(record) else ""
    said = (
        f"{pooled}Training counts images, and slices of volumes. {OWNER}: what the data are and whose terms they are "
        "under.",
    )
    header = ("site", "part", "training", "validation cases", "test cases")
    return Section("Training Data", said, Table(header, rows, frozenset({2, 3, 4})))


_SPLITS = ("val", "test", "held-out")


def _site(
    site: str, held_out: bool, trained: int | None, counts: Mapping[str, Mapping[str, int]]
) -> tuple[str, str, str, str, str]:
    if held_out:
        return site, "took no part", "0", "0", _count(counts["held-out"].get(site))
    return site, "trained", *(_count(n) for n in (trained, counts["val"].get(site), counts["test"].get(site)))  # type: ignore[return-value]


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else str(number)


def _results(record: Record, split: str, title: str) -> Section:
    scores = record.scores(split)
    if not scores:
        return Section(title, (NOT_SCORED.format(split=title),))
    return Section(title, (READING,), _table(scores, str(record.facts.get("distance_unit") or "px")))


def _table(scores: Sequence[Score], unit: str) -> Table:
    metrics = columns(score.evaluation for score in scores)
    rows = tuple(
        (row.label, "" if row.cases is None else str(row.cases), *map(cell, metrics, row.values))
        for row in score_rows(scores, metrics)
    )
    header = ("site", "cases", *(heading(metric, unit) for metric in metrics))
    return Table(header, rows, frozenset(range(1, len(header))))


def _time(record: Record) -> str:
    seconds = [row["seconds_round"] for row in record.rounds if row.get("seconds_round") is not None]
    return f"Rounds took {sum(seconds):.0f} s of wall time together." if seconds else f"Wall time: {UNKNOWN}."
