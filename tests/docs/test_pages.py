"""What the pages list is what the code has: methods, settings, findings, files, layers."""

from __future__ import annotations

import ast
import configparser
import csv
import inspect
import re
from collections.abc import Iterator

import pytest
from lightning.pytorch import Trainer

from fedlight import method_pages
from fedlight.data import FolderSites, SyntheticSites
from fedlight.data.datasets import DATASETS
from fedlight.data.findings import KINDS
from fedlight.executors import InProcess, MultiProcess
from fedlight.federation import Federation
from fedlight.plugins.catalogue import halves, methods
from fedlight.plugins.discovery import discover, registered
from fedlight.tasks import SegmentationTask
from fedlight.tracking import MLflowTracker, WandbTracker
from tests.docs.pages import PAGES, ROOT, inline, table

README = PAGES["README.md"].read_text()
DATA = PAGES["data.md"].read_text()
ARCHITECTURE = PAGES["architecture.md"].read_text()
discover()
BUNDLED = {info.name: info for info in registered() if info.origin == "fedlight"}


# --- methods ---------------------------------------------------------------------------------------------------------


def listed() -> dict[str, tuple[str, list[str]]]:
    """Returns the rows of the README's table by plugin: the page behind the name, then the other cells."""
    rows = {}
    for cell, *others in table(README, "Name"):
        name, page = re.fullmatch(r"\[`(\w+)`\]\((\S+)\)", cell).groups()  # type: ignore[union-attr]
        rows[name] = page, others
    return rows


def test_the_readme_lists_every_method() -> None:
    assert listed().keys() == BUNDLED.keys() - halves().keys()


def test_a_listed_method_has_the_config_and_the_papers_of_its_row() -> None:
    for name, (_, (config, papers, *_rest)) in listed().items():
        path = ROOT / "configs" / "algorithms" / config.strip("`")
        assert name in path.read_text()
        shown = re.findall(r"\d{4}\.\d{5}", papers)
        assert set(shown) <= set(BUNDLED[name].papers)
        assert bool(shown) == bool(BUNDLED[name].papers)


def test_a_listed_method_leads_to_its_page() -> None:
    pages = {info.name: f"docs/methods/{method.name}.md" for method in methods() for info in method.plugins}
    assert {name: page for name, (page, _) in listed().items()} == {name: pages[name] for name in listed()}


def test_what_the_readme_says_is_shared_agrees_with_the_card() -> None:
    """It is nothing, or less than all of the model, where the card states 0 bytes; metrics are not counted in bytes."""
    for name, (_, (*_rest, sent)) in listed().items():
        card = BUNDLED[name].card
        silent = sent.startswith(("nothing", "less", "no model")) or "metrics" in card.said("Shared")
        assert silent == (card.shared_bytes == (0, 0)), name


def test_the_pages_of_methods_are_those_that_the_command_writes() -> None:
    """After a change of a card: ``fedlight plugins --write docs/methods``."""
    committed = {path.name: path.read_text() for path in (ROOT / "docs" / "methods").glob("*.md")}
    made = method_pages.pages()
    assert committed.keys() == made.keys()
    for name, text in made.items():
        assert committed[name] == text, f"{name} is not up to date: fedlight plugins --write docs/methods"


# --- choosing a method -----------------------------------------------------------------------------------------------

CHOICE = PAGES["choose-a-method.md"].read_text()


def test_the_methods_to_begin_with_have_configs() -> None:
    named = {name for row in table(CHOICE, "Your trouble") for name in inline(row[1])}
    assert named
    assert named <= {path.stem for path in (ROOT / "configs" / "algorithms").iterdir()}


def test_the_times_to_choose_by_are_those_that_were_measured() -> None:
    with (ROOT / "docs" / "methods" / "costs.csv").open() as file:
        measured = {row["name"].lower(): max(1.0, float(row["ratio"])) for row in csv.DictReader(file)}
    shown = re.findall(r"`(\w+)` (\d\.\d\d)", CHOICE)
    assert shown
    assert shown == [(name, f"{measured[name.replace('_', '')]:.2f}") for name, _ in shown]


def test_the_scores_to_choose_by_are_those_of_the_results() -> None:
    """After new results: the tables of the page on choosing a method are excerpts of theirs."""
    results = (ROOT / "docs" / "results" / "README.md").read_text()
    one_out = table(results, "Arm, one seed", "chase", "drive")
    assert table(CHOICE, "Arm, one seed") == [[arm, mean, gain] for arm, *_, mean, gain in one_out]
    two_out = table(results, "Arm, one seed", "chase / drive")
    assert table(CHOICE, "Arm, two left out, one seed") == [[arm, mean] for arm, *_, mean in two_out]


# --- settings --------------------------------------------------------------------------------------------------------

OWNERS: dict[str, tuple[type, ...]] = {
    "data": (FolderSites, SyntheticSites),
    "model": (SegmentationTask,),
    "federation": (Federation,),
    "trainer": (Trainer,),
}
NESTED: tuple[type, ...] = (
    *(info.cls for info in BUNDLED.values()),
    MLflowTracker,
    WandbTracker,
    InProcess,
    MultiProcess,
)


def arguments(*owners: type) -> set[str]:
    return {name for owner in owners for name in inspect.signature(owner).parameters}


FILES = ("py", "md", "json", "onnx", "ts", "safetensors")


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_a_sentence_names_exists(page: str) -> None:
    for code in inline(PAGES[page].read_text()):
        for group, name, inner in re.findall(r"\b(data|model|federation|trainer)\.(\w+)(?:\.(\w+))?", code):
            if name in FILES or name == "help":  # a file, or the parser's own
                continue
            assert name in arguments(*OWNERS[group]), code
            assert not inner or inner in arguments(*NESTED) | {"spread"}, code


def test_every_argument_that_the_data_page_sets_exists() -> None:
    named = {found for code in inline(DATA) for found in re.findall(r"^(\w+): ", code)}
    assert named
    assert named <= arguments(FolderSites)


# --- findings --------------------------------------------------------------------------------------------------------


def test_the_data_page_lists_every_finding_about_cases() -> None:
    rows = [row for row in table(DATA, "Sentence", "Kind", "Meaning") if not row[0].startswith("`")]
    assert {(row[0], row[1]) for row in rows} == {(kind.problem, kind.severity) for kind in KINDS.values()}


def sentences() -> Iterator[tuple[str, str]]:
    """Yields kind and text of every sentence that reading folders can report; what varies is an ellipsis."""
    for path in sorted((ROOT / "fedlight" / "data").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr in ("error", "warning") and path.stem != "synthetic":
                assert isinstance(node, ast.Call)
                yield called.attr, fixed(node.args[0])


def fixed(text: ast.expr) -> str:
    """Returns a string with an ellipsis for every part that is not fixed."""
    if isinstance(text, ast.Constant):
        return str(text.value)
    if isinstance(text, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in text.values)  # type: ignore[misc]
    return "…"


def test_the_data_page_lists_every_other_finding() -> None:
    """Sentences that a function of their own makes are not visible here; the rows of these are the surplus."""
    rows = [(row[1], row[0].strip("`").rstrip("…. ")) for row in table(DATA, "Sentence") if row[0].startswith("`")]
    missing = {
        (kind, text)
        for kind, text in sentences()
        if text.strip("… ") and not any(kind == said and text.startswith(start) for said, start in rows)
    }
    assert missing == set()


def test_a_listed_finding_can_be_reported() -> None:
    source = "".join(path.read_text() for path in (ROOT / "fedlight" / "data").glob("*.py"))
    plain = re.sub(r'"\s*f?"', "", source)  # joins what is written in several pieces
    for row in table(DATA, "Sentence"):
        for part in row[0].strip("`").split("…"):
            assert part.strip(" :.,") in plain, row[0]


# --- public data sets ------------------------------------------------------------------------------------------------


def test_the_page_of_data_sets_lists_every_one_with_what_it_says() -> None:
    page = PAGES["datasets.md"].read_text()
    rows = {row[0].strip("`"): row for row in table(page, "Name", "Sites")}
    assert rows.keys() == DATASETS.keys() == {row[0].strip("`") for row in table(page, "Name", "In papers")}
    for name, row in rows.items():
        dataset = DATASETS[name]()
        assert row[1].startswith(str(len(dataset.sites())))
        assert row[3] == ", ".join(dataset.classes[1:])
        assert ("--download" in row[5]) == bool(dataset.downloads)
        counts = [number for site in dataset.sites() for number in site.cases]
        assert all(f"{number:,}" in row[2] for number in counts)


# --- architecture ----------------------------------------------------------------------------------------------------


def test_the_architecture_page_names_every_module_and_package() -> None:
    files = [*(ROOT / "fedlight").glob("*.py"), *(ROOT / "fedlight" / "executors").glob("*.py")]
    found = [path.name for path in files if path.name != "__init__.py"]
    found += [f"{path.name}/" for path in (ROOT / "fedlight").iterdir() if (path / "__init__.py").is_file()]
    tree = ARCHITECTURE.split("```text")[1].split("```")[0]
    assert sorted(re.findall(r"(?<![/\w])(?:[a-z_]+\.py|[a-z]+/(?= ))", tree)) == sorted(
        [*found, "algorithms/", "configs/"]
    )


def test_the_layers_are_those_that_are_enforced() -> None:
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    layers = contract["importlinter:contract:layers"]["layers"].replace("fedlight.", "").strip()
    (shown,) = (part.split("```")[0] for part in ARCHITECTURE.split("```text\n") if part.startswith("__main__ >"))
    assert " ".join(shown.split()) == " > ".join(layers.splitlines())


METHODS = {f"methods/{path.name}": path for path in sorted((ROOT / "docs" / "methods").glob("*.md"))}


def test_links_between_pages_lead_somewhere() -> None:
    for name, path in {**PAGES, **METHODS}.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            file, _, anchor = target.partition("#")
            if "://" in target:
                continue
            page = path.parent / file if file else path
            assert page.exists(), f"{name}: {target}"
            headings = {
                re.sub(r"[^\w -]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
                for line in (page.read_text().splitlines() if anchor else ())
                if line.startswith("#")
            }
            assert not anchor or anchor in headings, f"{name}: {target}"
