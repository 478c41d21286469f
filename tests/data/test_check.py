from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from fedlight.data.check import SiteRow, check, check_root, render
from fedlight.data.contact_sheet import CAPTION, COLOURS, TILE, contact_sheet
from fedlight.data.folder import FolderSites
from fedlight.data.synthetic import SyntheticSites


def shown(root: str) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(check_root(root)))
    return console.export_text()


def test_the_table_holds_what_is_in_the_files(tmp_path: Path) -> None:
    """Pixels of 51 are 0.2 of the range; a quarter of the mask is foreground."""
    for folder in ("images", "masks"):
        (tmp_path / "a" / folder).mkdir(parents=True)
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[:8, :8] = 1
    for index in range(4):
        Image.fromarray(np.full((16, 16), 51, dtype=np.uint8)).save(tmp_path / f"a/images/c{index}.png")
        Image.fromarray(mask).save(tmp_path / f"a/masks/c{index}.png")
    report = check(FolderSites(str(tmp_path), image_size=16, channels=1))
    assert report.sites == [
        SiteRow("a", 4, 2, 1, 1, "16x16", "1 x 8 bit", "foreground 25.0%", "0.20±0.00"),
    ]
    assert report.passed


def test_good_data_passes_in_words(two_sites: Path) -> None:
    text = shown(str(two_sites))
    assert "16x16" in text
    assert "The data can be trained on." in text


def test_findings_follow_the_table(two_sites: Path) -> None:
    (two_sites / "a/masks/c1.png").unlink()
    text = shown(str(two_sites))
    assert "error: site a: no mask for an image: c1.png." in text
    assert "Training refuses this data." in text


def test_a_root_that_is_none_is_a_finding(tmp_path: Path) -> None:
    assert "error: data.root" in shown(str(tmp_path / "nowhere"))


def test_the_contact_sheet_has_a_row_a_site_with_outlines(tmp_path: Path) -> None:
    contact_sheet(SyntheticSites(num_sites=3, cases=4, image_size=16), tmp_path / "sheet.png", per_site=2)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (CAPTION + 3 * (CAPTION + TILE), 2 * TILE, 3)
    for row in range(3):
        tile = sheet[2 * CAPTION + row * (CAPTION + TILE) :][:TILE, :TILE]
        assert (tile == COLOURS[0]).all(-1).any()
        assert (tile == COLOURS[1]).all(-1).any()


def test_the_contact_sheet_leaves_out_what_cannot_be_read(two_sites: Path) -> None:
    for path in (two_sites / "a/images").iterdir():
        path.write_bytes(b"")
    contact_sheet(FolderSites(str(two_sites), image_size=16), two_sites / "sheet.png")
    assert (two_sites / "sheet.png").exists()
