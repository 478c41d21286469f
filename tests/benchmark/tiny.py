"""A benchmark as small as it can be, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "--data.num_sites 3 --data.cases 6 --data.image_size 16 --data.batch_size 2 --federation.rounds 2 "
    "--federation.local_steps 1 --model.encoder plain-8 --workers 2"
)


def records(output: Path) -> dict[str, dict[str, Any]]:
    """Reads the record of every job below an output, by arm/site/seed."""
    root = output / "results"
    return {
        str(path.parent.relative_to(root)): json.loads(path.read_text()) for path in sorted(root.glob("*/*/*/job.json"))
    }
