"""The commands ``fedlight data list``, ``info`` and ``prepare``: public data sets."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from rich.console import Console, Group, RenderableType
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from fedlight.arguments import Arguments, show
from fedlight.data.conversion.download import fetch
from fedlight.data.conversion.prepare import Conversion, Outcome
from fedlight.data.conversion.unpack import unpack
from fedlight.data.datasets import DATASETS, Dataset, Site
from fedlight.errors import ConfigError
from fedlight.messages import nearest


def list_all(arguments: Sequence[str]) -> int:
    """Lists the data sets."""
    Arguments("fedlight data list", "List the public data sets that can be prepared.").parse_args(arguments)
    table = Table("name", "sites", "cases", "channels", "classes", "fetched by --download", box=None, pad_edge=False)
    for cls in DATASETS.values():
        dataset = cls()
        sites = dataset.sites()
        fetched = sorted({each.allowed.partition(":")[0] for each in dataset.downloads})
        table.add_row(
            dataset.name,
            str(len(sites)),
            _total(sites),
            "volumes" if dataset.volumes else str(dataset.channels),
            ", ".join(dataset.classes[1:]),
            ", ".join(fetched) or "no",
        )
    show(Group(table, Text("\nfedlight data info NAME says where a data set is from and how it may be used.")))
    return 0


def info(arguments: Sequence[str]) -> int:
    """Says everything about one data set."""
    parser = Arguments("fedlight data info", "Say where a data set is from, how it may be used and how it is read.")
    parser.add_argument("name", help="of the data set, see fedlight data list")
    show(_about(_known(parser.parse_args(arguments).name)()))
    return 0


def prepare(arguments: Sequence[str]) -> int:
    """Converts somebody's copy of a data set to the folders that ``FolderSites`` reads."""
    cls = next((DATASETS[argument] for argument in arguments if argument in DATASETS), None)
    parser = _parser(cls)
    chosen = parser.parse_args(arguments)
    cls = _known(chosen.name)
    dataset = cls(**{name: getattr(chosen, name) for name in _choices(cls)})
    console = Console(highlight=False, markup=False, emoji=False, stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        if chosen.download:
            _download(dataset, chosen.source, progress)
        conversion = Conversion(
            dataset,
            chosen.source,
            chosen.root,
            tuple(chosen.sites),
            chosen.longest_side,
            chosen.allow_incomplete,
        )
        outcome = conversion.run(_shown(progress, f"{dataset.name}, cases"))
    sys.stdout.writelines(f"{sentence}\n" for sentence in _told(conversion, outcome))
    return 0


def _parser(cls: type[Dataset] | None) -> Arguments:
    parser = Arguments(
        "fedlight data prepare",
        "Convert a copy of a public data set to folders of sites; killed, it goes on where it was. With a NAME, --help "
        "also shows what that data set lets you choose.",
    )
    parser.add_argument("name", help="of the data set, see fedlight data list")
    parser.add_argument("--source", type=Path, required=True, help="folder with your copy, archives unpacked")
    parser.add_argument("--root", type=Path, required=True, help="folder to write to, new or begun before")
    parser.add_argument("--sites", nargs="+", default=[], help="only these sites")
    parser.add_argument("--longest_side", type=int, help="reduce pictures to so many pixels on the longer side")
    parser.add_argument("--allow_incomplete", action="store_true", help="convert what there is of an incomplete copy")
    parser.add_argument("--download", action="store_true", help="first fetch what may be fetched without registration")
    for name, (values, default, help_text) in _choices(cls).items() if cls is not None else ():
        parser.add_argument(f"--{name}", type=type(default), choices=values, default=default, help=help_text)
    return parser


def _choices(cls: type[Dataset]) -> dict[str, tuple[tuple[Any, ...], Any, str]]:
    """Returns what a data set lets its user choose: possible values, default and a sentence."""
    hints = get_type_hints(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # every subclass is a dataclass
    return {each.name: (get_args(hints[each.name]), each.default, each.metadata["help"]) for each in fields}


def _known(name: str) -> type[Dataset]:
    if name not in DATASETS:
        raise ConfigError(f"{name} is not a data set. {nearest(name, DATASETS)}")
    return DATASETS[name]


def _download(dataset: Dataset, source: Path, progress: Progress) -> None:
    if not dataset.downloads:
        raise ConfigError(f"{dataset.name} cannot be downloaded without a registration or a person: {dataset.get}")
    for each in dataset.downloads:
        if not (source / each.folder).exists():
            archive = fetch(each, source / "downloads", _shown(progress, each.name))
            unpack(archive, source / each.folder)


def _shown(progress: Progress, what: str) -> Callable[[int, int | None], None]:
    """Returns what shows progress by the same name."""
    tasks: list[TaskID] = []

    def tell(done: int, total: int | None) -> None:
        if not tasks:
            tasks.append(progress.add_task(what))
        progress.update(tasks[0], completed=done, total=total)

    return tell


def _told(conversion: Conversion, outcome: Outcome) -> Iterator[str]:
    yield from (f"note: {sentence}" for sentence in [*outcome.plan.lacks, *outcome.plan.remarks])
    problems = [each for each in outcome.journal.written.values() if each.problem]
    yield from (f"note: {each.site}/{each.case} is left out: {each.problem}." for each in problems)
    cases = ", ".join(f"{site} {count}" for site, count in outcome.cases.items())
    before = f" ({outcome.before} were there already)" if outcome.before else ""
    yield f"{sum(outcome.cases.values())} cases in {conversion.root}{before}: {cases}."
    yield f"PROVENANCE.md says what was done. Look at them: {_check(conversion)}"


def _check(conversion: Conversion) -> str:
    dataset = conversion.dataset
    words = ["fedlight", "data", "check", str(conversion.root), "--classes", *dataset.classes]
    words += ["--channels", "1"] if dataset.channels == 1 else []
    words += ["--group", dataset.group] if dataset.group is not None else []
    return shlex.join(words)


def _about(dataset: Dataset) -> RenderableType:
    choices = _choices(type(dataset))
    table = Table("site", "what it is", "cases", "from", box=None, pad_edge=False)
    for site in dataset.sites():
        table.add_row(site.name, site.title, _number(site), site.get)
    lines = [
        ("Classes", ", ".join(f"{index} {name}" for index, name in enumerate(dataset.classes))),
        ("Licence", dataset.licence),
        ("Get it from", dataset.get),
        ("In papers", dataset.protocol),
        ("To cite", "; ".join(dataset.citation)),
        ("Patients", f"data.group: '{dataset.group}'" if dataset.group else "every case counts as one"),
        ("Conversion", " ".join(dataset.steps)),
        *((f"--{name}", f"{'|'.join(map(str, values))}. {text}") for name, (values, _, text) in choices.items()),
        *(("--download", f"{each.url} ({each.allowed})") for each in dataset.downloads),
    ]
    texts = (Text.assemble((f"{label}: ", "bold"), text) for label, text in lines)
    return Group(Text(dataset.title, "bold"), Text(), table, Text(), *texts, Text(), Text(_layout(dataset)))


def _layout(dataset: Dataset) -> str:
    return inspect.cleandoc(type(dataset).__doc__ or "").replace("::\n\n", "")


def _number(site: Site) -> str:
    return " or ".join(map(str, site.cases)) or "?"


def _total(sites: Sequence[Site]) -> str:
    known = [site.cases[0] for site in sites if site.cases]
    return str(sum(known)) if len(known) == len(sites) else "?"
