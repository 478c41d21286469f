"""Where results cannot go, a sentence says so, and nothing is left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedlight.errors import ConfigError
from fedlight.output_folder import make_folder, require_folder


@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_a_file_in_the_way_is_found_before_any_work(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=re.escape(f"({tmp_path / 'file'} is a file). Name another place.")):
        require_folder(tmp_path / "file" / below)


def test_a_folder_that_is_there_or_can_be_made_is_fine(tmp_path: Path) -> None:
    require_folder(tmp_path)
    require_folder(tmp_path / "new" / "one")
    assert list(tmp_path.iterdir()) == []
    make_folder(tmp_path / "new" / "one")
    make_folder(tmp_path / "new" / "one")
    assert (tmp_path / "new" / "one").is_dir()


def test_what_the_system_refuses_names_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"got results \(Not a directory\)"):
        make_folder(tmp_path / "file" / "part", meant=Path("results"))
