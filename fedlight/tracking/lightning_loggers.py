"""Trackers over Lightning's loggers: TensorBoard and MLflow; off unless asked for, written by the server alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fedlight.tracking.packages import need
from fedlight.tracking.tracker import RoundRecord, RunInfo, Status, Tracker
from fedlight.tracking.wandb_names import flat, round_row, tested
from fedlight.update import Evaluation

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

_SITES_NAMED = 100


class LoggerTracker(Tracker):
    """Passes the numbers of a run to one of Lightning's loggers, under the names that they have in W&B.

    The step is the round. With more than 100 sites, those of single ones are left out.

    Attributes:
        package: What the logger needs beside Lightning; an extra of fedlight is called so.
    """

    package: ClassVar[str] = ""

    def __init__(self) -> None:
        self._logger: Logger | None = None

    @abstractmethod
    def make_logger(self, run: RunInfo) -> Logger:
        """Makes the logger of a run, that of the same run where it is resumed."""

    def check(self) -> None:
        if self.package:
            need(self.package, type(self).__name__, f"'fedlight[{self.package}]'")

    def start(self, run: RunInfo) -> None:
        self.check()  # of a run that is scored, nothing was looked at before
        self._round, self._by_site = run.start_round, len(run.sites) <= _SITES_NAMED
        self._logger = self.make_logger(run)
        self._logger.log_hyperparams(dict(run.config))

    def on_round(self, record: RoundRecord) -> None:
        self._round = record.round
        self._log(round_row(record, self._by_site))

    def on_test(
        self, split: str, model: str, evaluations: Sequence[Evaluation], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        self._log(tested(split, model, evaluations))

    def finish(self, status: Status, summary: Mapping[str, Any], artifacts: Sequence[Path] = ()) -> None:
        if self._logger is None:
            return
        numbers = {name: value for name, value in flat(summary).items() if isinstance(value, int | float)}
        self._log({f"summary/{name}": value for name, value in numbers.items()})
        self._logger.finalize({"finished": "success", "failed": "failed"}.get(status, "aborted"))
        self._logger = None

    def _log(self, row: Mapping[str, float]) -> None:
        if self._logger is not None and row:
            self._logger.log_metrics({name: float(value) for name, value in row.items()}, step=self._round)


class TensorBoardTracker(LoggerTracker):
    """Writes event files for TensorBoard into ``tensorboard/`` in the run folder.

    Look at them with ``tensorboard --logdir runs``. Nothing is sent anywhere.
    """

    package = "tensorboard"

    def make_logger(self, run: RunInfo) -> Logger:
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(run.folder, name="", version="tensorboard", default_hp_metric=False)


class MLflowTracker(LoggerTracker):
    """Records a run in MLflow; a resumed or tested run stays one MLflow run.

    Args:
        experiment: The MLflow experiment.
        uri: Where to record; null writes ``mlflow.db`` in the run folder, an address sends there.
    """

    package = "mlflow"

    def __init__(self, experiment: str = "fedlight", uri: str | None = None) -> None:
        super().__init__()
        self.experiment = experiment
        self.uri = uri

    def make_logger(self, run: RunInfo) -> Logger:
        from lightning.pytorch.loggers import MLFlowLogger

        known = run.folder / "mlflow_id"
        logger = MLFlowLogger(
            experiment_name=self.experiment,
            run_name=run.name,
            tracking_uri=self.uri or f"sqlite:///{(run.folder / 'mlflow.db').absolute()}",
            run_id=known.read_text().strip() if known.is_file() else None,
        )
        known.write_text(f"{logger.run_id}\n")
        return logger
