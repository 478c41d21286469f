"""The documentation as a site: built without a warning, complete, and loading nothing from elsewhere."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedlight import commands
from fedlight.deploy import light as deploy
from tests.benchmark.report.browser import CHROMIUM, look
from tests.docs.pages import ROOT

DOCS = ROOT / "docs"
WRITTEN = [*DOCS.glob("*.md"), *DOCS.glob("methods/*.md"), *DOCS.glob("results/*.md")]
PACKAGES = ("data", "executors", "plugins", "tasks", "tracking")
INNER = {"ClientFactory", "ConsoleTracker", "Fanout", "JsonlTracker", "StatusTracker"}
"""Names that fedlight's packages use among themselves."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the site as ``make docs`` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def built(site: Path, page: Path) -> str:
    """Returns the text of a page of docs/ on the site, without what surrounds it."""
    path = page.relative_to(DOCS)
    path = path.parent / "index.html" if path.stem == "README" else path.with_suffix(".html")
    return (site / path).read_text(encoding="utf-8").split("<article", 1)[1].split("</article>")[0]


# --- nothing from elsewhere ------------------------------------------------------------------------------------------


class Loaded(HTMLParser):
    """Collects the addresses that a browser loads with a page."""

    LINKS = ("stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        wanted = tag not in ("a", "link") or found.get("rel") in self.LINKS
        self.addresses += [found[name] or "" for name in ("src", "srcset", "href", "data") if name in found and wanted]


def elsewhere(address: str) -> bool:
    return address.startswith(("http:", "https:", "//"))


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = {path: Loaded(path.read_text(encoding="utf-8")).addresses for path in site.rglob("*.html")}
    assert all(pages.values())  # every page has a style sheet, so the reader above reads
    assert [address for found in pages.values() for address in found if elsewhere(address)] == []


def test_no_style_sheet_or_picture_loads_anything_from_elsewhere(site: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for kind in ("css", "svg") for path in site.rglob(f"*.{kind}")]
    found = [address for text in texts for address in re.findall(r"(?:url\(|@import |href=)[\"']?([^\"')\s]+)", text)]
    assert found
    assert [address for address in found if elsewhere(address)] == []


def test_what_loads_from_elsewhere_is_seen() -> None:
    page = (
        '<script src="https://x.org/a.js"></script><link rel="stylesheet" href="//x.org/a.css"><a href="https://x.org">'
    )
    assert list(filter(elsewhere, Loaded(page).addresses)) == ["https://x.org/a.js", "//x.org/a.css"]


# --- complete --------------------------------------------------------------------------------------------------------


def test_lists_and_tables_come_out_as_they_are_written(site: Path) -> None:
    """The site's Markdown and a Git host's differ in where a list may begin; no page may depend on it."""
    for page in WRITTEN:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        items = len(re.findall(r"^\s*(?:[-*+]|\d+\.) ", text, flags=re.MULTILINE))
        rows = sum(line.startswith("|") and not set(line) <= set("|-: ") for line in text.splitlines())
        assert (built(site, page).count("<li"), built(site, page).count("<tr")) == (items, rows), page.name


def test_no_mark_of_markdown_is_left_over(site: Path) -> None:
    for page in WRITTEN:
        text = re.sub(r"<(code|pre)\b.*?</\1>|<[^>]+>", "", built(site, page), flags=re.DOTALL)
        assert [mark for mark in ("\\", "](", "**", "`") if mark in text] == [], page.name


def every_command() -> Iterator[str]:
    yield ""
    yield from {*commands.FEDERATED, *commands.COMMANDS} - {"data"}
    yield from (f"data {name}" for name in commands.DATA)
    yield from (f"deploy {name}" for name in ("init", *deploy.COMMANDS))


def test_the_help_of_every_command_is_in_the_reference(site: Path) -> None:
    page = DOCS / "reference" / "commands.md"
    asked = re.findall(r"^fedlight (.*?) ?--help$", page.read_text(), flags=re.MULTILINE)
    assert sorted(asked) == sorted({*every_command()})
    text = built(site, page)
    assert f"fedlight {asked[0]} --help\n" not in text
    for option in ("--federation.local_steps", "--probabilities", "--steps", "--held_out", "--shard", "--compare"):
        assert option in text


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: fedlight\.([\w.]+)", text, flags=re.MULTILINE))
    public = {f"{package}.{name}" for package in PACKAGES for name in exported(package)}
    assert public - shown == set()


def exported(package: str) -> set[str]:
    return set(importlib.import_module(f"fedlight.{package}").__all__) - INNER


def test_a_link_to_a_file_of_the_repository_shows_the_file(site: Path) -> None:
    assert 'href="../source/algorithms/fedprox.py.html"' in built(site, DOCS / "methods" / "fedprox.md")
    text = re.sub(r"<[^>]+>", "", (site / "source/algorithms/fedprox.py.html").read_text(encoding="utf-8"))
    assert "class FedProx(ClientPlugin):" in text


def test_the_notebook_is_a_page(site: Path) -> None:
    assert 'href="notebooks/quickstart.html"' in built(site, DOCS / "index.md")
    assert "SyntheticSites" in built(site, DOCS / "notebooks" / "quickstart.md")


# --- in a browser ----------------------------------------------------------------------------------------------------

SEEN = """
found.width = page.documentElement.scrollWidth;
found.picture = page.querySelector("article img").naturalWidth;
found.styled = view.getComputedStyle(page.querySelector(".md-header")).backgroundColor;
"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_picture_of_a_round_fits_a_telephone(site: Path, tmp_path: Path) -> None:
    page = site / "round.html"
    text = page.read_text(encoding="utf-8").replace("<head>", f'<head><base href="{page.as_uri()}">', 1)
    found = look(text, SEEN, 390, tmp_path)
    assert found["picture"] > 0
    assert found["width"] <= 390
    assert found["styled"] == "rgb(0, 105, 92)"
