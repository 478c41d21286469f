"""``fedlight report``: what a benchmark found, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fedlight.arguments import Arguments
from fedlight.preparation import ConfigError


def report(arguments: Sequence[str]) -> int:
    """Writes the report of one or several folders of results; 0 if it is written."""
    chosen = _parser().parse_args(arguments)
    try:
        from fedlight.benchmark.report.report import write_report
        from fedlight.benchmark.scores import ResultsError
    except ModuleNotFoundError as error:
        missing = f"a report needs {error.name}, which is not installed"
        raise ConfigError(f"{missing}. Install it with: pip install fedlight[report]") from error
    output = chosen.output or chosen.folders[0] / "report"
    choices = (chosen.reference, chosen.checkpoint, chosen.title, not chosen.no_pictures)
    try:
        said = write_report(chosen.folders, output, *choices)
    except ResultsError as error:
        raise ConfigError(str(error)) from error
    for sentence in said:
        Console().print(sentence, markup=False, highlight=False, soft_wrap=True)
    return 0


def _parser() -> Arguments:
    parser = Arguments("fedlight report", "Report what a benchmark found: a page, Markdown, LaTeX tables and figures.")
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="FOLDER", help="outputs of fedlight benchmark; several are one")
    add("--output", type=Path, help="where to write; default: report in the first FOLDER")
    add("--reference", default="fedavg", help="the arm that all others are compared with; default: %(default)s")
    add("--checkpoint", default="best", choices=["best", "last"], help="whose scores: the selected or the last round's")
    add("--title", help="of the page")
    add("--no_pictures", action="store_true", help="leave out images of patients that lie beside the results")
    return parser
