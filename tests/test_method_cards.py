"""Cards and list as they stand in a terminal, in a pipe and on pages."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from fedlight.__main__ import main
from fedlight.method_cards import show_card, show_list
from fedlight.method_pages import MADE, prose, write_pages
from fedlight.plugins.catalogue import methods
from fedlight.plugins.discovery import discover, find, registered
from tests.contracts.harness import own_registry

THIRD = '''
"""Adds a number to images."""
from fedlight.plugins import StyleAugmentation


class Brighter(StyleAugmentation):
    """Makes images brighter."""

    def __init__(self, by: float = 0.1) -> None:
        self.by = by


class Silent(StyleAugmentation):
    pass
'''

discover()


def shown(name: str | None, width: int, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, highlight=False, markup=False)
    with console.capture() as captured:
        show_list(console) if name is None else show_card(console, name)
    return captured.get()


@pytest.mark.parametrize("name", [info.name for info in registered()])
@pytest.mark.parametrize("width", [60, 120])
def test_a_card_has_its_formula_as_it_is_written_and_prose_that_fits(name: str, width: int) -> None:
    card = find(name).card
    text = shown(name, width)
    for line in card.formula.splitlines():
        assert f"    {line}\n" in text or not line
    formula = {f"    {line}" for line in card.formula.splitlines()}
    long = [line for line in text.splitlines() if len(line) > min(width, 100) and line not in formula]
    assert [line for line in long if not line.startswith("    -")] == []
    assert "\x1b" not in text
    assert "``" not in text


def test_a_card_in_a_terminal_has_colours_and_the_same_words() -> None:
    coloured = shown("FedProx", 100, terminal=True)
    assert "\x1b[" in coloured
    assert "mu/2 ||w - w_t||^2" in coloured


def test_a_card_says_everything() -> None:
    text = shown("MultiKrum", 100)
    for part in ("MultiKrum (aggregator)", "1703.02757", "score(k)", "Released code", "num_select", "null"):
        assert part in text
    assert "-c configs/algorithms/multi_krum.yaml" in text
    assert "--federation.aggregator MultiKrum" in text
    assert "comes with FedAvgAlign" in shown("MomentAlignment", 100)


def test_a_recipe_has_a_card_with_its_config() -> None:
    text = shown("style_align", 100)
    assert "1792 bytes up" in text
    assert "          weight: 0.01  " in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_list_has_every_name_and_fits(width: int) -> None:
    lines = [line.rstrip() for line in shown(None, width).splitlines()]
    assert max(map(len, lines)) <= width
    names = {line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")}
    assert names == {info.name for info in registered()} | {m.name for m in methods() if m.kind == "recipe"}
    assert ("2104.02008" in "\n".join(lines)) == (width == 120)


def test_plugins_of_others_with_one_line_or_none_have_cards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "brighter.py"
    path.write_text(THIRD)
    with own_registry():
        assert main(["plugins", "Brighter", "--load", str(path)]) == 0
        text = capsys.readouterr().out
        assert "Makes images brighter.\n\nAdds a number to images.\n\nArguments\nby  0.1\n" in text
        assert f"--load {path} --federation.plugins+=Brighter" in text
        assert main(["plugins", "Silent", "--load", str(path)]) == 0
        assert capsys.readouterr().out.count("Adds a number to images.") == 1
        assert main(["plugins", "--load", str(path)]) == 0
        assert "Brighter" in capsys.readouterr().out


def test_a_pipe_gets_no_padding(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["plugins", "CrossMixStyle"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [line.rstrip() for line in lines]


# --- pages -----------------------------------------------------------------------------------------------------------


def test_pages_are_fedlights_own_and_stale_ones_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a" / "methods"
    folder.mkdir(parents=True)
    (folder / "gone.md").write_text(f"{MADE} from algorithms/gone.py: edit that. -->\n")
    (folder / "notes.md").write_text("Somebody's own.\n")
    path = tmp_path / "brighter.py"
    path.write_text(THIRD)
    with own_registry():
        assert main(["plugins", "--write", str(folder), "--load", str(path)]) == 0
    names = {page.name for page in folder.iterdir()}
    assert {"index.md", "notes.md", "fedprox.md", "silobn.md"} <= names
    assert not {"gone.md", "brighter.md"} & names


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="--write needs a folder that can be made"):
        write_pages(tmp_path / "file")


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("w_t and p_k stay", "w_t and p_k stay"),
        ("min <h_k, w> of x~", r"min &lt;h_k, w> of x\~"),
        ("||a||_1 times a * b", r"||a||\_1 times a \* b"),
        ("``a_*`` is code", "`a_*` is code"),
        ("(Doe, arXiv 1234.56789)", "(Doe, [arXiv 1234.56789](https://arxiv.org/abs/1234.56789))"),
    ],
)
def test_prose_means_the_same_in_markdown(said: str, written: str) -> None:
    assert prose(said) == written
