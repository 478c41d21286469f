"""The command ``fedlight doctor``, which must also answer where torch is broken."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedlight.arguments import Arguments, merged, show
from fedlight.assist.doctor import Check, examine
from fedlight.configs import read_config

_STYLES = {"ok": "green", "note": "dim", "warning": "yellow", "problem": "red"}


def doctor(arguments: Sequence[str]) -> int:
    """Says whether this machine can train; exit code 1 where something stops a run."""
    parser = Arguments("fedlight doctor", "Look whether this machine can train. No network is called without --online.")
    parser.add_argument("-c", "--config", type=Path, action="append", default=[], help="configs of a run, as for fit")
    parser.add_argument("--online", action="store_true", help="also try to reach the W&B server")
    parser.add_argument("--json", action="store_true", help="for a script: one JSON value")
    chosen = parser.parse_args(arguments)
    config: dict[str, Any] = {}
    for path in chosen.config:
        config = merged(config, read_config(path))
    checks = list(examine(config, chosen.online))
    if chosen.json:
        sys.stdout.write(json.dumps([check.plain() for check in checks], indent=1) + "\n")
    else:
        show(_table(checks))
    return 1 if any(check.level == "problem" for check in checks) else 0


def _table(checks: Sequence[Check]) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for check in checks:
        table.add_row(Text(check.level, _STYLES[check.level]), Text(check.name), Text(check.text))
    problems = sum(check.level == "problem" for check in checks)
    verdict = {0: "Nothing stops a run.", 1: "1 problem stops a run."}.get(problems, f"{problems} problems stop a run.")
    return Group(table, Text(verdict, "bold"))
