"""What the site has beside the pages in docs/: files of the repository, the notebooks and the help of commands.

The pages are read on a Git host, too. There a link to a file of the repository or to a notebook shows it; here it leads
to a page that is made of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import posixpath
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?<=\]\()[^)\s#]+(?=[)#])")
_HELP = re.compile(r"^```text\nfedlight (.*)--help\n```$", re.MULTILINE)


def on_files(files: Files, *, config: Any) -> Files:
    """Adds a page for every notebook and for every file of the repository that a page links to."""
    pages = list(files.documentation_pages())
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        content = notebook_page(json.loads(file.content_string), file.name)
        files.append(File.generated(config, f"{file.src_uri.removesuffix('.ipynb')}.md", content=content))
    for path in sorted({path for page in pages for path in repository_files(page)}):
        inclusion = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, source_uri(path), content=source_page(path), inclusion=inclusion))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Lets links lead to the pages that were added, and puts the help of commands under them."""
    markdown = _LINK.sub(lambda link: site_link(link[0], page.file.src_uri), markdown)
    return _HELP.sub(lambda block: f"```text\n{help_of(block[1])}```", markdown)


# --- files of the repository -----------------------------------------------------------------------------------------


def repository_files(page: File) -> list[str]:
    """Returns the files outside docs/ that a page links to, as paths in the repository."""
    found = (in_repository(link, page.src_uri) for link in _LINK.findall(page.content_string))
    return [path for path in found if not path.startswith("docs/") and (ROOT / path).is_file()]


def in_repository(link: str, page: str) -> str:
    """Returns the path in the repository that a link on a page means: configs/a.yaml for ../configs/a.yaml."""
    return posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))


def site_link(link: str, page: str) -> str:
    """Returns the link that means the same on the site."""
    if link.endswith(".ipynb"):
        return f"{link.removesuffix('.ipynb')}.md"
    path = in_repository(link, page)
    if "://" in link or path.startswith("docs/") or not (ROOT / path).is_file():
        return link
    return posixpath.relpath(source_uri(path), posixpath.dirname(page) or ".")


def source_uri(path: str) -> str:
    """Returns the page of a file of the repository."""
    return f"source/{path}.md"


def source_page(path: str) -> str:
    """Returns a page that shows a file; the search leaves it out."""
    language = {".py": "python", ".yaml": "yaml"}.get(Path(path).suffix, "text")
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"---\nsearch: {{exclude: true}}\n---\n\n# {path}\n\n````{language}\n{text}````\n"


# --- notebooks -------------------------------------------------------------------------------------------------------


def notebook_page(notebook: dict[str, Any], name: str) -> str:
    """Returns the cells of a notebook as Markdown, and the notebook to take along."""
    cells = ((cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"])
    shown = [f"```python\n{text}\n```" if kind == "code" else text for kind, text in cells]
    return "\n\n".join([*shown, f'<a href="{name}.ipynb" download>This page as a notebook</a>'])


# --- commands --------------------------------------------------------------------------------------------------------


@cache
def help_of(command: str) -> str:
    """Returns what a command prints for --help; of those that take all settings of a run, what is their own.

    Every one of these ends with a group of its own; their usage, which names all settings, is left out.
    """
    from fedlight.commands import FEDERATED

    text = printed(command.split())
    if command.strip() == "fit":
        return text.partition("\n\n")[2]
    return text.rpartition("\n\n")[2] if command.strip() in FEDERATED else text


def printed(command: list[str]) -> str:
    """Returns what ``fedlight COMMAND --help`` prints in a terminal of 80 columns.

    Raises:
        RuntimeError: If it prints nothing, for instance because an extra is missing.
    """
    from fedlight.__main__ import main

    output = io.StringIO()
    with (
        patch.dict(os.environ, COLUMNS="80"),
        patch.object(sys, "argv", ["fedlight"]),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        main([*command, "--help"])
    if not output.getvalue():
        raise RuntimeError(f"fedlight {' '.join(command)} --help must print something. Install the extra docs.")
    return output.getvalue()
