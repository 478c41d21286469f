"""Mirrors a run to Weights & Biases: one run a federation, written by the server alone, off unless asked for."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedlight.tracking.background import Background
from fedlight.tracking.packages import need
from fedlight.tracking.tracker import RoundRecord, RunInfo, Status, Tracker
from fedlight.tracking.wandb_names import flat, round_row, tested
from fedlight.update import Evaluation

if TYPE_CHECKING:
    import wandb

_log = logging.getLogger("fedlight")

_SITES_NAMED = 100
"""With more sites, the numbers of single ones are in ``metrics.jsonl`` only."""

_INIT_SECONDS = 30  # nobody waits for it: the connection is made beside the training


class WandbTracker(Tracker):
    """Mirrors what the run folder records to W&B.

    ``round`` is the axis of ``<site>/train_loss``, ``<site>/val_dice``, ``mean/val_dice``, ``worst/val_dice`` and
    ``federation/bytes_up``; where there are more than 100 sites, single ones are left out. Scores of the held-out
    institution stand in the summary only, as ``held_out/dice``.
    Everything that W&B writes lies under ``wandb/`` in the run folder; a resumed run goes on under the same run id.

    W&B works on a thread of its own: a server that refuses, hangs or goes away costs the run one warning and at most
    ``finish_timeout`` seconds at the end. ``metrics.jsonl`` has every number in any case.

    Args:
        project: The W&B project.
        entity: User or team; None: the account's default.
        mode: "offline" writes files for ``wandb sync``; "online" needs ``wandb login`` before.
        group: Groups runs of one experiment; None: that of the benchmark's job (an arm) or of ``WANDB_RUN_GROUP``, else
            "held-out-<site>" or "no-held-out".
        job_type: Kind of run within the group; None: that of the benchmark's job (its held-out site) or of
            ``WANDB_JOB_TYPE``, else "federation".
        tags: Labels of the run.
        overlays: Whether to log example images with prediction and ground truth. They are patients' pixels.
        share_machine: Whether W&B may record host name, program, command line, git state, packages and hardware.
        log_checkpoint: Whether to log the global checkpoint as an artifact.
        finish_timeout: Seconds that the end of a run may wait for W&B; a large checkpoint on a slow line needs more.
    """

    def __init__(
        self,
        project: str = "fedlight",
        entity: str | None = None,
        mode: Literal["offline", "online"] = "offline",
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] = (),
        overlays: bool = False,
        share_machine: bool = False,
        log_checkpoint: bool = True,
        finish_timeout: float = 5.0,
    ) -> None:
        self.project = project
        self.entity = entity
        self.mode = mode
        self.group = group
        self.job_type = job_type
        self.tags = tags
        self.overlays = overlays
        self.share_machine = share_machine
        self.log_checkpoint = log_checkpoint
        self.finish_timeout = finish_timeout
        self._background: Background[wandb.Run] | None = None

    def check(self) -> None:
        need("wandb", "WandbTracker", "wandb")

    def start(self, run: RunInfo) -> None:
        self._environment = _set_environment(_environment(run.folder, self.mode))
        self._classes = dict(enumerate(run.classes))
        self._round = run.start_round
        self._by_site = len(run.sites) <= _SITES_NAMED
        run_id = _run_id(run)
        self._background = Background(lambda: self._open(run, run_id), _warn)
        self._background.start()

    def on_round(self, record: RoundRecord) -> None:
        self._round = record.round
        row = round_row(record, self._by_site)
        self._submit(lambda run: run.log(row))

    def on_test(
        self, split: str, model: str, evaluations: Sequence[Evaluation], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        scores = tested(split, model, evaluations)
        self._submit(lambda run: run.summary.update(scores))

    def on_overlays(self, site: str, round: int, images: Any, masks: Any, predictions: Any) -> None:
        if not self.overlays:
            return
        pictures = _pictures(images)
        layers = {"ground_truth": masks.cpu().numpy(), "prediction": predictions.cpu().numpy()}
        self._submit(lambda run: run.log({"round": round, **_overlays(site, pictures, layers, self._classes)}))

    def finish(self, status: Status, summary: Mapping[str, Any], artifacts: Sequence[Path] = ()) -> None:
        if self._background is None:
            return
        self._submit(lambda run: self._close(run, status, summary, artifacts))
        # a second on top: W&B is told the same limit and should be the one to keep it
        if not self._background.close(self.finish_timeout + 1) and "wandb" in sys.modules:
            _abandon()
        self._background = None
        _set_environment(self._environment)

    def _submit(self, job: Any) -> None:
        if self._background is not None:
            self._background.submit(job)

    def _open(self, info: RunInfo, run_id: str) -> wandb.Run:
        import wandb  # takes half a second: only when asked for, and beside the training

        if self.mode == "online" and not wandb.login(prompt=False, verify=False):
            raise RuntimeError("no credentials; run `wandb login`, or set WANDB_API_KEY")
        run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            group=self.group or os.environ.get("WANDB_RUN_GROUP") or _group(info),
            job_type=self.job_type or os.environ.get("WANDB_JOB_TYPE") or "federation",
            tags=list(self.tags),
            name=os.environ.get("WANDB_NAME") or info.name,
            id=run_id,
            resume="allow" if self.mode == "online" else None,
            reinit="create_new",  # a run that the user has open in this process stays theirs
            dir=info.folder.absolute(),
            config=dict(info.config),
            settings=self._settings(),
        )
        _define_metrics(run, [*(info.sites if self._by_site else ()), "mean", "worst", "federation"])
        return run

    def _settings(self) -> wandb.Settings:
        import wandb

        limits = {"init_timeout": _INIT_SECONDS, "finish_timeout": self.finish_timeout, "finish_timeout_raises": True}
        return wandb.Settings(silent=True, console="off", **limits, **({} if self.share_machine else _PRIVATE))

    def _close(self, run: wandb.Run, status: Status, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        try:
            run.summary.update(flat({"status": status, **summary}))
            for path in artifacts if self.log_checkpoint else ():
                _log_artifact(run, path, self._round)
        finally:  # what could not be logged must not keep the rest from being sent
            run.finish(exit_code=0 if status == "finished" else 1)


_PRIVATE: dict[str, Any] = {
    "host": "redacted",  # is stored even without machine info
    "program": "redacted",  # is sent online even without metadata
    "x_disable_machine_info": True,
    "x_disable_meta": True,  # program, executable, command line
    "x_disable_stats": True,
    "x_save_requirements": False,
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
}


def _group(info: RunInfo) -> str:
    return f"held-out-{'-'.join(info.held_out)}" if info.held_out else "no-held-out"


def _define_metrics(run: wandb.Run, sections: Sequence[str]) -> None:
    """Lays out W&B's page: a section of panels for every site and for the federation, with the rounds as their axis.

    The sites' mean validation Dice, which selects the round, stands in tables of runs with its highest value.
    """
    run.define_metric("round", hidden=True)
    for name in sections:
        run.define_metric(f"{name}/*", step_metric="round")
    run.define_metric("mean/val_dice", step_metric="round", summary="max")


def _log_artifact(run: wandb.Run, path: Path, round: int) -> None:
    import wandb

    artifact = wandb.Artifact(f"{path.stem}-{run.id}", type="model")
    artifact.add_file(str(path))
    run.log_artifact(artifact, aliases=["latest", f"round-{round}"])


def _pictures(images: Any) -> Any:
    """Stretches every image to 0..255, as normalised images have no fixed range: (N, H, W) or (N, H, W, 3), uint8."""
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    pixels = ((images - low) / (high - low).clamp_min(1e-12) * 255).byte().cpu()
    return pixels.permute(0, 2, 3, 1).numpy() if images.shape[1] == 3 else pixels[:, 0].numpy()


def _overlays(
    site: str, pictures: Any, layers: Mapping[str, Any], classes: Mapping[int, str]
) -> dict[str, list[wandb.Image] | wandb.Table]:
    """Returns a site's pictures to look through, and as a table that can be sorted by the Dice of every class."""
    import wandb

    def masks(index: int) -> dict[str, Any]:
        return {name: {"mask_data": layer[index], "class_labels": classes} for name, layer in layers.items()}

    shown = [wandb.Image(picture, masks=masks(index)) for index, picture in enumerate(pictures)]
    table = wandb.Table(columns=["site", "example", *(f"dice {name}" for name in list(classes.values())[1:])])
    for index, image in enumerate(shown):
        true, found = layers["ground_truth"][index], layers["prediction"][index]
        table.add_data(site, image, *(_dice(true == number, found == number) for number in list(classes)[1:]))
    return {f"{site}/overlays": shown, f"{site}/overlay_table": table}


def _dice(true: Any, found: Any) -> float | None:
    """Returns twice the common pixels by the sum of both; None where the structure is not there."""
    return float(2 * (true & found).sum() / (true.sum() + found.sum())) if true.any() else None


def _run_id(run: RunInfo) -> str:
    """Returns the run's W&B id, kept in the run folder so that a resumed or tested run stays one run."""
    path = run.folder / "wandb_id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex[:8] + "\n")
    return path.read_text().strip()


def _environment(folder: Path, mode: str) -> dict[str, str | None]:
    """What W&B takes from the environment only: where it may write, and no error reports to its maker."""
    places = ["CACHE", "DATA"]
    if mode == "offline":  # online, the address and user that `wandb login` stored are needed
        places.append("CONFIG")
    wanted = {f"WANDB_{place}_DIR": str(folder.absolute() / "wandb" / place.lower()) for place in places}
    return {**wanted, "WANDB_DIR": str(folder.absolute()), "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}


def _set_environment(values: Mapping[str, str | None]) -> dict[str, str | None]:
    """Sets variables (None: unsets) and returns what they were."""
    before = {name: os.environ.get(name) for name in values}
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    return before


def _abandon() -> None:
    """Keeps W&B from holding up the end of the process, where it would wait for its server once more."""
    thread = threading.Thread(target=_tear_down, daemon=True)
    thread.start()
    thread.join(1)


def _tear_down() -> None:
    import wandb

    if wandb.run is not None:  # a run that is the user's: W&B stays as it is
        return
    with contextlib.suppress(Exception):
        _kill_service()
    with contextlib.suppress(Exception):
        wandb.teardown()  # takes back W&B's exit handler


def _kill_service() -> None:
    """Ends W&B's own process, which goes on trying and keeps the pipe open that a log is written through."""
    from wandb.sdk import wandb_setup

    wandb_setup._singleton._connection._proc._process.kill()  # there is no public way


def _warn(error: Exception) -> None:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    _log.warning("W&B stopped recording (%s); the run goes on, and metrics.jsonl has every number.", reason)
