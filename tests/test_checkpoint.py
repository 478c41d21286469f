"""Claims about the two checkpoints of a run folder."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from fedlight.checkpoint import RunFolder


def rounds(folder: RunFolder) -> tuple[int, int]:
    """The rounds of the selected and of the last model."""
    selected, last = (torch.load(path, weights_only=True)["round"] for path in (folder.selected, folder.last))
    return selected, last


def no_link(path: Path, target: Path) -> None:
    raise OSError(errno.EPERM, "this disk knows no links")


@pytest.mark.parametrize("links", [True, False])
def test_the_selected_model_stays_when_later_rounds_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_link)
    folder, seen = RunFolder(tmp_path), []
    for number, selected in ((1, True), (2, True), (3, False), (4, True)):
        folder.write_checkpoint({"round": number, "state_dict": {"w": torch.zeros(3)}}, selected)
        seen.append(rounds(folder))
    assert seen == [(1, 1), (2, 2), (2, 3), (4, 4)]
    assert {path.name for path in tmp_path.iterdir()} == {"global.ckpt", "last.ckpt"}


def test_what_a_crash_left_beside_a_checkpoint_is_replaced(tmp_path: Path) -> None:
    for name in ("global.ckpt.part", "last.ckpt.part"):
        (tmp_path / name).write_bytes(b"torn")
    folder = RunFolder(tmp_path)
    folder.write_checkpoint({"round": 1}, selected=True)
    assert rounds(folder) == (1, 1)


@pytest.mark.parametrize("numbers", [1, 100_000])
def test_a_full_disk_is_an_error_of_the_system_and_keeps_the_last_checkpoint(tmp_path: Path, numbers: int) -> None:
    folder = RunFolder(tmp_path)
    folder.write_checkpoint({"round": 1}, selected=True)
    (tmp_path / "last.ckpt.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        folder.write_checkpoint({"round": 2, "state_dict": {"w": torch.zeros(numbers)}}, selected=True)
    assert caught.value.errno == errno.ENOSPC
    assert rounds(folder) == (1, 1)
