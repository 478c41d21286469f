"""Which code this is."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """Returns the commit that this code is of, with "+" behind it if files were changed; empty outside a checkout."""
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return ""
    try:
        shown = ("git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+")
        return subprocess.run(shown, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
