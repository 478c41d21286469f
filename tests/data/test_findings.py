"""Every finding, made for real on disk; ``fit`` and ``check`` say the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlight.data.check import check
from fedlight.data.federated import DataError
from fedlight.data.folder import FolderSites


def save(path: Path, *shape: int, value: int = 0) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full(shape, value, dtype=np.uint8)).save(path)


def save_all(folder: Path, *shape: int, value: int = 0) -> None:
    for index in range(6):
        save(folder / f"c{index}.png", *shape, value=value)


def empty(root: Path) -> None:
    for path in (root / "a/images").iterdir():
        path.unlink()


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "unreadable image": (
        lambda root: (root / "a/images/c1.png").write_bytes(b"no image"),
        "site a: cannot be read as an image: images/c1.png",
    ),
    "unreadable mask": (
        lambda root: (root / "a/masks/c1.png").write_bytes(b""),
        "site a: cannot be read as an image: masks/c1.png",
    ),
    "image without mask": (lambda root: (root / "a/masks/c1.png").unlink(), "site a: no mask for an image: c1.png"),
    "mask without image": (lambda root: (root / "a/images/c1.png").unlink(), "site a: no image for a mask: c1.png"),
    "no image at all": (
        empty,
        "site a: no image in a/images",
    ),
    "mask of another size": (
        lambda root: save(root / "a/masks/c1.png", 16, 12),
        "site a: mask and image differ in size: c1 (16x12 instead of 16x16)",
    ),
    "unmapped values": (
        lambda root: save(root / "a/masks/c1.png", 16, 16, value=7),
        "site a: mask with values that belong to no class: c1 (7)",
    ),
    "grey image": (
        lambda root: save(root / "a/images/c1.png", 16, 16, value=7),
        "site a: wrong number of channels: c1 (1 instead of 3)",
    ),
    "fov of another size": (
        lambda root: save_all(root / "a/fov", 16, 15, value=1),
        "site a: field of view and image differ in size: c0 (16x15 instead of 16x16), c1",
    ),
    "empty fov": (
        lambda root: save_all(root / "a/fov", 16, 16),
        "site a: no pixel inside the field of view: c0, c1, c2, c3, c4 and 1 more.",
    ),
    "missing fov": (
        lambda root: save(root / "a/fov/c0.png", 16, 16, value=1),
        "site a: no field of view for an image: c1.png",
    ),
    "one stem twice": (
        lambda root: save(root / "a/images/c1.bmp", 16, 16, 3),
        "site a: two files with one stem: images/c1.bmp and c1.png",
    ),
    "all masks empty": (
        lambda root: save_all(root / "a/masks", 16, 16),
        "site a: all 4 training masks are empty",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_fit_refuses_with_the_sentence_that_check_shows(two_sites: Path, name: str) -> None:
    damage, sentence = BROKEN[name]
    damage(two_sites)
    data = FolderSites(str(two_sites), image_size=16)
    errors = [finding.text for finding in check(data).findings if finding.severity == "error"]
    assert any(text.startswith(sentence) for text in errors), errors
    assert not check(data).passed
    with pytest.raises(DataError) as caught:
        data.prepare()
    assert list(caught.value.args) == errors


def test_all_findings_come_at_once(two_sites: Path) -> None:
    (two_sites / "a/masks/c1.png").unlink()
    save(two_sites / "b/masks/c2.png", 3, 3)
    (two_sites / "b/images/c3.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        FolderSites(str(two_sites), image_size=16, transforms=["Flip3"], batch_size=0).prepare()
    assert len(caught.value.args) == 5


WARNED: dict[str, tuple[Callable[[Path], object], str]] = {
    "an empty mask": (lambda root: save(root / "a/masks/c1.png", 16, 16), "site a: mask without foreground: c1."),
    "a file that is no image": (
        lambda root: (root / "a/images/notes.txt").write_text(""),
        "site a: not an image format that is read: images/notes.txt.",
    ),
    "an image at two sites": (
        lambda root: (root / "b/images/c0.png").write_bytes((root / "a/images/c1.png").read_bytes()),
        "The same image is in several sites or splits",
    ),
}


@pytest.mark.parametrize("name", WARNED)
def test_a_person_decides_about(two_sites: Path, name: str) -> None:
    damage, sentence = WARNED[name]
    damage(two_sites)
    data = FolderSites(str(two_sites), image_size=16)
    data.prepare()
    assert [finding.severity for finding in check(data).findings] == ["warning"]
    assert check(data).findings[0].text.startswith(sentence)


def test_clutter_is_not_a_case(two_sites: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "._c1.png"):
        (two_sites / "a/images" / name).write_bytes(b"clutter")
    (two_sites / "notes").mkdir()
    (two_sites / ".hidden/images").mkdir(parents=True)
    data = FolderSites(str(two_sites), image_size=16)
    data.prepare()
    assert data.survey().findings == ()
    assert data.sites == ("a", "b")


def arguments(root: Path) -> dict[str, tuple[FolderSites, str]]:
    return {
        "no root": (
            FolderSites(str(root / "nowhere"), image_size=16),
            "is not a folder. A root holds one folder a site",
        ),
        "no site": (FolderSites(str(root / "a"), image_size=16), "has no site: it holds images, masks."),
        "unknown held-out site": (
            FolderSites(str(root), image_size=16, held_out="A1"),
            "data.held_out: there is no site A1. Did you mean a? Known sites: a, b.",
        ),
        "unknown site": (
            FolderSites(str(root), image_size=16, sites=["a", "bb"]),
            "data.sites: there is no site bb. Did you mean b? Known sites: a, b.",
        ),
        "nothing to train on": (
            FolderSites(str(root), image_size=16, sites=["a"], held_out="a"),
            "data.held_out a leaves no site to train.",
        ),
        "two grids": (FolderSites(str(root), image_size=16, patch_size=8), "both are given"),
        "no grid": (FolderSites(str(root)), "neither is given"),
        "no pixel": (FolderSites(str(root), image_size=0), "data.image_size is 0x0"),
        "patch too large": (
            FolderSites(str(root), patch_size=(8, 17)),
            "site a: image smaller than a patch: c0 (16x16, the patch is 8x17)",
        ),
        "group does not match": (
            FolderSites(str(root), image_size=16, group=r"c[0-4]"),
            "site a: name that the group pattern does not match: c5.",
        ),
        "group is no pattern": (FolderSites(str(root), image_size=16, group="("), "data.group '(' is not a regular"),
        "one class": (FolderSites(str(root), image_size=16, classes=["disc"]), "data.classes is ['disc']"),
        "class out of range": (
            FolderSites(str(root), image_size=16, mask_values={0: 0, 255: 2}),
            "data.mask_values maps to [2]: class indices are 0 to 1",
        ),
        "threshold and values": (
            FolderSites(str(root), image_size=16, mask_values={0: 0, 255: 1}, mask_threshold=9),
            "data.mask_threshold is for two classes and without data.mask_values",
        ),
        "empty batch": (FolderSites(str(root), image_size=16, batch_size=0), "data.batch_size is 0"),
        "no probability": (
            FolderSites(str(root), patch_size=8, foreground_patches=2.0),
            "data.foreground_patches is 2",
        ),
    }


@pytest.mark.parametrize("name", arguments(Path()))
def test_a_wrong_argument_is_one_sentence(two_sites: Path, name: str) -> None:
    data, sentence = arguments(two_sites)[name]
    with pytest.raises(DataError) as caught:
        data.prepare()
    assert any(sentence in text for text in caught.value.args), caught.value.args


def test_a_small_held_out_site_is_fine(make_site: Callable[..., Path]) -> None:
    """It is only tested on, so neither splits nor patches ask anything of it."""
    make_site("a")
    root = make_site("tiny", cases=1, height=4, width=4)
    data = FolderSites(str(root), patch_size=8, held_out="tiny")
    data.prepare()
    assert data.sites == ("a",)
    assert next(iter(data.loader("tiny", "test")))["image"].shape == (1, 3, 4, 4)


def test_too_few_cases_at_a_site_are_named(make_site: Callable[..., Path]) -> None:
    make_site("a")
    root = make_site("b", cases=2)
    with pytest.raises(DataError, match="site b: 2 usable cases, and training, validation and test need one patient"):
        FolderSites(str(root), image_size=16).prepare()
