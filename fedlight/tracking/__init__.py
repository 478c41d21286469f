"""Where the numbers of a run go."""

from fedlight.tracking.console import ConsoleTracker
from fedlight.tracking.fanout import Fanout
from fedlight.tracking.jsonl import JsonlTracker, read_rows
from fedlight.tracking.lightning_loggers import MLflowTracker, TensorBoardTracker
from fedlight.tracking.status import StatusTracker, read_status
from fedlight.tracking.tracker import RoundRecord, RunInfo, SiteRound, Status, Tracker
from fedlight.tracking.wandb import WandbTracker

__all__ = [
    "ConsoleTracker",
    "Fanout",
    "JsonlTracker",
    "MLflowTracker",
    "RoundRecord",
    "RunInfo",
    "SiteRound",
    "Status",
    "StatusTracker",
    "TensorBoardTracker",
    "Tracker",
    "WandbTracker",
    "read_rows",
    "read_status",
]
