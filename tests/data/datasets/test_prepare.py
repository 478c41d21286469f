"""Conversions of a data set made up for it: killed, continued, refused, incomplete, reduced."""

from __future__ import annotations

import json
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest

from fedlight.data.conversion.masks import Above
from fedlight.data.conversion.prepare import Conversion
from fedlight.data.conversion.readings import Levels, Picture
from fedlight.data.conversion.record import NO_MASK, LeftOut, Record
from fedlight.data.conversion.tree import Tree
from fedlight.data.datasets.dataset import Dataset, Site
from fedlight.data.images import read_image, read_values
from fedlight.errors import ConfigError
from fedlight.run_lock import hold
from tests.data.datasets.layouts import blob, grey, noise, save


@dataclass(frozen=True)
class Toy(Dataset):
    """SITE/{image,mask}/NAME.png."""

    kind: Literal["a", "b"] = field(default="a", metadata={"help": "nothing"})

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy"
    licence: ClassVar[str] = "all"
    citation: ClassVar[tuple[str, ...]] = ("nobody",)
    get: ClassVar[str] = "nowhere."
    protocol: ClassVar[str] = "none"
    group: ClassVar[str | None] = "^[^_]+"

    @property
    def classes(self) -> tuple[str, ...]:
        return ("background", "thing")

    def sites(self, source: Tree | None = None) -> Sequence[Site]:
        return (Site("north", "N", (4,), "the north"), Site("south", "S", (2, 3)))

    def records(self, source: Tree, site: str) -> Iterator[Record | LeftOut]:
        home = source.folder(site)
        for path in home.folder("image").files("*.png"):
            mask = home.find(f"mask/{path.name}")
            if mask is None:
                yield LeftOut(path.stem, NO_MASK)
            else:
                yield Record(path.stem, path.stem.split("_")[0], Picture(path), Above(Levels(mask)))


@pytest.fixture
def conversion(tmp_path: Path) -> Conversion:
    """Four cases of the north and two of the south."""
    for site, names in {"north": ("p1_l", "p1_r", "p2_l", "p3_l"), "south": ("p4_l", "p5_l")}.items():
        for name in names:
            save(tmp_path / "source" / site / "image" / f"{name}.png", noise(name))
            save(tmp_path / "source" / site / "mask" / f"{name}.png", grey(blob(name), 0, 255))
    return Conversion(Toy(), tmp_path / "source", tmp_path / "root")


def tree(root: Path) -> dict[str, bytes]:
    """Returns all files of sites, and what is written of them, but for the page with its date and paths."""
    paths = [path for path in root.rglob("*") if path.is_file() and path.name not in ("PROVENANCE.md",)]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


# --- going on --------------------------------------------------------------------------------------------------------


def killed(conversion: Conversion, cases: int) -> None:
    """Runs a conversion in a process of its own, which is killed when so many cases are done."""

    def kill(done: int, total: int) -> None:
        if done == cases:
            os.kill(os.getpid(), signal.SIGKILL)

    with warnings.catch_warnings(action="ignore"):  # threads of the parent do not matter to a child that is killed
        child = os.fork()
    if child == 0:
        conversion.run(kill)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("cases", [1, 4, 6])
def test_a_killed_conversion_goes_on_to_the_same_files(conversion: Conversion, cases: int, tmp_path: Path) -> None:
    whole = replace(conversion, root=tmp_path / "whole")
    whole.run()
    killed(conversion, cases)
    assert not (conversion.root / "PROVENANCE.md").exists()
    outcome = conversion.run()
    assert outcome.before == cases
    assert tree(conversion.root) == tree(whole.root)


def test_a_torn_line_and_a_damaged_file_are_made_again(conversion: Conversion, tmp_path: Path) -> None:
    whole = replace(conversion, root=tmp_path / "whole")
    whole.run()
    killed(conversion, 3)
    with (conversion.root / "preparation.jsonl").open("a") as file:
        file.write('{"site": "south", "ca')
    (conversion.root / "north" / "masks" / "p1_l.png").write_bytes(b"damaged")
    (conversion.root / "north" / "masks" / "p3_l.png").write_bytes(b"half")
    (conversion.root / "north" / "masks" / "p3_l.png.part").write_bytes(b"half")
    assert conversion.run().before == 2
    (conversion.root / "north" / "masks" / "p3_l.png.part").unlink(missing_ok=True)
    assert sorted(tree(conversion.root)) == sorted(tree(whole.root))
    assert (conversion.root / "checksums.sha256").read_bytes() == (whole.root / "checksums.sha256").read_bytes()


def test_a_finished_conversion_is_left_as_it_is(conversion: Conversion) -> None:
    conversion.run()
    before = tree(conversion.root)
    assert conversion.run().before == 6
    assert tree(conversion.root) == before
    assert not (conversion.root / "lock").exists()


def test_the_same_copy_gives_the_same_bytes(conversion: Conversion, tmp_path: Path) -> None:
    conversion.run()
    other = replace(conversion, root=tmp_path / "other")
    other.run()
    assert tree(conversion.root) == tree(other.root)


def test_two_processes_do_not_write_into_one_root(conversion: Conversion) -> None:
    with hold(conversion.root), pytest.raises(BlockingIOError, match="in use by another process"):
        conversion.run()


# --- refusals --------------------------------------------------------------------------------------------------------


def refused(conversion: Conversion) -> str:
    with pytest.raises(ConfigError) as caught:
        conversion.run()
    return " ".join(map(str, caught.value.args))


def test_nothing_is_overwritten(conversion: Conversion) -> None:
    conversion.root.mkdir()
    (conversion.root / "thesis.txt").write_text("years")
    assert "holds thesis.txt, and nothing is overwritten" in refused(conversion)
    assert [path.name for path in conversion.root.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": Toy(kind="b")}, "kind a"),
        ({"longest_side": 8}, "longest_side None"),
        ({"sites": ("north",)}, "sites"),
    ],
)
def test_another_conversion_does_not_go_on_with_what_one_began(
    conversion: Conversion, change: dict[str, object], said: str
) -> None:
    killed(conversion, 2)
    text = refused(replace(conversion, **change))  # type: ignore[arg-type]
    assert f"was begun with {said}" in text


def test_a_layout_that_is_another_is_said_with_where_to_get_the_data(conversion: Conversion) -> None:
    (conversion.source / "north" / "mask").rename(conversion.source / "north" / "labels")
    (conversion.source / "south" / "image").rename(conversion.source / "south" / "pictures")
    text = refused(conversion)
    assert "north: 0 cases with masks, and the distribution has 4." in text
    assert f"south: looked for image in {conversion.source}/south, which holds mask and 1 more" not in text
    assert f"south: looked for image in {conversion.source}/south, which holds mask, pictures." in text
    assert "Toy: nowhere." in text


def test_fewer_cases_than_the_distribution_has_are_refused_unless_allowed(conversion: Conversion) -> None:
    (conversion.source / "north" / "mask" / "p2_l.png").unlink()
    text = refused(conversion)
    assert "north: 3 cases with masks, and the distribution has 4." in text
    assert "--allow_incomplete" in text
    outcome = replace(conversion, incomplete=True).run()
    assert outcome.cases == {"north": 3, "south": 2}
    assert "north: 1 image is no case (no mask in this copy): p2_l." in outcome.plan.remarks
    page = (conversion.root / "PROVENANCE.md").read_text()
    assert "- north: 1 image is no case (no mask in this copy): p2_l." in page
    assert "- north: 3 cases with masks, and the distribution has 4." in page


def test_a_distribution_may_have_one_of_several_numbers_and_more_are_remarked(conversion: Conversion) -> None:
    """The south has 2 or 3 cases; a fourth is converted, and said."""
    for name in ("p6_l", "p7_l"):
        save(conversion.source / "south" / "image" / f"{name}.png", noise(name))
        save(conversion.source / "south" / "mask" / f"{name}.png", grey(blob(name), 0, 255))
    outcome = conversion.run()
    assert outcome.plan.remarks == ["south: 4 cases, and the distribution has 2 or 3. Look what else is there."]


def test_a_site_that_is_missing_is_left_out_only_if_allowed(conversion: Conversion) -> None:
    (conversion.source / "north").rename(conversion.source / "elsewhere")
    assert "looked for north in" in refused(conversion)
    assert "Get it from the north." in refused(conversion)
    outcome = replace(conversion, incomplete=True).run()
    assert outcome.cases == {"south": 2}


def test_an_empty_source_is_refused_even_if_incomplete_copies_are_allowed(
    conversion: Conversion, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert "which holds nothing" in refused(replace(conversion, source=tmp_path / "empty", incomplete=True))
    assert "is not a folder" in refused(replace(conversion, source=tmp_path / "nowhere"))
    assert "is the folder of --source" in refused(replace(conversion, root=conversion.source))


def test_only_named_sites_are_converted_and_a_wrong_name_is_said(conversion: Conversion) -> None:
    assert replace(conversion, sites=("south",)).run().cases == {"south": 2}
    assert "Did you mean south or north?" in refused(replace(conversion, sites=("suoth",)))


def test_a_broken_file_stops_with_its_name_or_is_left_out_if_allowed(conversion: Conversion) -> None:
    path = conversion.source / "north" / "image" / "p2_l.png"
    path.write_bytes(path.read_bytes()[:50])
    assert f"north/p2_l: {path} cannot be read as an image" in refused(conversion)
    outcome = replace(conversion, incomplete=True).run()
    assert outcome.cases == {"north": 3, "south": 2}
    assert "- north/p2_l: " in (conversion.root / "PROVENANCE.md").read_text()
    assert not (conversion.root / "north" / "masks" / "p2_l.png").exists()


def test_a_mask_on_another_grid_is_refused(conversion: Conversion) -> None:
    save(conversion.source / "north" / "mask" / "p2_l.png", np.zeros((12, 15), np.uint8))
    assert "p2_l.png is 12x15 and its image 12x16" in refused(conversion)


# --- smaller pictures ------------------------------------------------------------------------------------------------


def test_pictures_are_reduced_by_areas(conversion: Conversion) -> None:
    """Halved from 12 x 16 to 6 x 8, every pixel is the mean of four, and of a mask foreground from two of four on."""
    replace(conversion, longest_side=8).run()
    image, mask = noise("p1_l"), blob("p1_l")
    means = image.reshape(6, 2, 8, 2, 3).astype(float).mean((1, 3))
    written = read_image(conversion.root / "north" / "images" / "p1_l.png", 3)
    assert np.abs(written - means).max() <= 0.5
    share = mask.reshape(6, 2, 8, 2).mean((1, 3))
    values = read_values(conversion.root / "north" / "masks" / "p1_l.png")
    np.testing.assert_array_equal(values, np.where(share >= 0.5, 255, 0))
    assert "reduced to 8 pixels" in (conversion.root / "PROVENANCE.md").read_text()
    assert "--longest_side is 0" in refused(replace(conversion, longest_side=0))


def test_the_journal_is_lines_of_json(conversion: Conversion) -> None:
    conversion.run()
    lines = [json.loads(line) for line in (conversion.root / "preparation.jsonl").read_text().splitlines()]
    assert lines[0]["dataset"] == "toy"
    assert lines[-1] == {"complete": True}
    assert lines[1]["sources"] == ["north/image/p1_l.png", "north/mask/p1_l.png"]
