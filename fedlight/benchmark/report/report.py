"""Results in, a report out: one page, the same as Markdown, tables for LaTeX and figures for a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fedlight.benchmark import scores
from fedlight.benchmark.report import cases, page
from fedlight.benchmark.report.drawing import draw
from fedlight.benchmark.report.findings import Findings, find
from fedlight.benchmark.report.notation import counted
from fedlight.benchmark.report.papers import papers


def write_report(
    folders: Sequence[Path],
    output: Path,
    reference: str = "fedavg",
    checkpoint: str = "best",
    title: str | None = None,
    pictures: bool = True,
) -> list[str]:
    """Writes ``report.html``, ``report.md``, ``tables/*.tex``, ``figures/*.svg`` and ``figures/*.png``.

    Files of an earlier report in the same place that this one does not have are removed.

    Args:
        folders: Outputs of ``fedlight benchmark``, or the ``results`` in them; their union is reported.
        output: Folder to write to; it is made if need be.
        reference: The arm that all others are compared with.
        checkpoint: "best" or "last".
        title: Of the page; None: what was compared.
        pictures: Whether to show images of patients where they lie beside the results.

    Returns:
        What there is to say, sentence by sentence.

    Raises:
        ResultsError: If the results cannot be read or have no such arm.
    """
    findings = find(scores.load(folders), checkpoint, reference)
    overlays = cases.overlays(folders) if pictures else []
    styles = cases.styles(folders) if pictures else []
    tables, drawn = page.tables(findings), draw(findings)
    written_tables = papers(findings, tables)
    title = title or heading(findings)
    written: dict[str, str | bytes] = {
        "report.html": page.html(findings, tables, drawn, title, overlays, styles),
        "report.md": page.md(findings, written_tables, drawn, title),
        **{f"tables/{name}.tex": table.latex() for name, table in written_tables.items()},
        **{f"figures/{name}.svg": picture.svg for name, picture in drawn.items()},
        **{f"figures/{name}.png": picture.png for name, picture in drawn.items()},
    }
    _write(output, written)
    said = [
        f"{output / 'report.html'}: {counted(len(tables), 'table')} and {counted(len(drawn), 'figure')}, in one file."
    ]
    if overlays or styles:
        said.append("It holds images of patients and must stay with their owner; --no_pictures leaves them out.")
    return said


def heading(findings: Findings) -> str:
    """Returns the title of a page that was given none."""
    results = findings.scores
    return f"{counted(len(results.arms), 'method')} at {counted(len(results.sites), 'site')} that took no part"


def _write(output: Path, files: dict[str, str | bytes]) -> None:
    """Writes the files of a report and removes those of an earlier one that it no longer has, and nothing else."""
    output.mkdir(parents=True, exist_ok=True)
    earlier = _listed(output)
    _list(output, [*files, *earlier])  # a report that is interrupted leaves no file that nobody owns
    for name, content in files.items():
        path = output / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    for name in earlier:
        if name not in files:
            (output / name).unlink(missing_ok=True)
    _list(output, list(files))


LIST = ".report-files"
"""Names of the files that a report wrote, a line each, beside them."""

_WRITTEN = re.compile(r"report\.(html|md)|tables/[\w-]+\.tex|figures/[\w-]+\.(svg|png)")


def _listed(output: Path) -> list[str]:
    """Returns the files of the earlier report; a line that no report can have written counts for nothing."""
    try:
        lines = (output / LIST).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [line for line in lines if _WRITTEN.fullmatch(line)]


def _list(output: Path, names: Sequence[str]) -> None:
    (output / LIST).write_text("".join(f"{name}\n" for name in dict.fromkeys(names)), encoding="utf-8")
