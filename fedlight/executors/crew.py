"""The worker processes of a run: started together, replaced when one ends, ended together."""

from __future__ import annotations

import os
import pickle
import sys
from collections import Counter
from collections.abc import Mapping

import torch

from fedlight.executors.executor import ClientFactory
from fedlight.executors.shared_memory import Place, SharedMemory
from fedlight.executors.worker import Start
from fedlight.executors.worker_process import WorkerProcess
from fedlight.preparation import ConfigError

LOG = "workers.log"
"""File in the run folder with what workers print; there only if they print something."""

_STARTS = 3
"""How often in a row a worker may end before it is ready."""

_WORKER = "FEDLIGHT_WORKER"
"""Variable that is set in workers, which must not have workers of their own."""


class Crew:
    """Worker processes by number, from 0.

    Args:
        make_client: What every worker makes clients with.
        resident: Clients that stay in the memory of a worker.
        number: How many workers.

    Raises:
        ConfigError: If what makes clients cannot be sent to another process.
    """

    def __init__(self, make_client: ClientFactory, resident: int, number: int) -> None:
        if _WORKER in os.environ:
            raise ConfigError(
                "a worker process must not start a run of its own, got a script that does when it is imported. "
                'Put what it does under `if __name__ == "__main__":`.'
            )
        self.broadcasts, self._factory = SharedMemory(), SharedMemory()
        place = _write(self._factory, make_client)
        self._start = Start(place, resident, _program(self._factory, place))
        self._log = make_client.folder.parent / LOG
        self._output = self._log.open("ab")
        self._workers: list[WorkerProcess | None] = [None] * number
        self._failed: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._workers)

    def __getitem__(self, number: int) -> WorkerProcess:
        """The worker of a number, started if there is none."""
        worker = self._workers[number]
        if worker is None:
            environment = {_WORKER: str(number), **gpu(number, torch.cuda.device_count(), os.environ)}
            worker = WorkerProcess(self._factory, self.broadcasts, self._start, self._output, environment)
            self._workers[number] = worker
        return worker

    def end(self, number: int) -> None:
        """Ends a worker and all that it has started.

        Raises:
            ConfigError: If it was not ready yet, as others of its number before it.
        """
        worker, self._workers[number] = self[number], None
        how = worker.ended
        worker.kill()
        self._failed[number] = 0 if worker.ready else self._failed[number] + 1
        if self._failed[number] == _STARTS:
            raise ConfigError(
                f"a worker process must be able to start, but it {how or 'does not'}. Look into {self._log}."
            )

    def close(self) -> None:
        """Ends all workers and lets go of what they had in common."""
        for worker in filter(None, self._workers):
            worker.kill()
        self._workers.clear()
        self.broadcasts.close()
        self._factory.close()
        self._output.close()
        if self._log.is_file() and not self._log.stat().st_size:
            self._log.unlink()


def gpu(worker: int, count: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Says with what variables a worker sees one GPU only, its own.

    >>> gpu(3, 2, {}), gpu(3, 2, {"CUDA_VISIBLE_DEVICES": "4,7"}), gpu(3, 0, {})
    ({'CUDA_VISIBLE_DEVICES': '1'}, {'CUDA_VISIBLE_DEVICES': '7'}, {})
    """
    if not count:
        return {}
    visible = environment.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
    return {"CUDA_VISIBLE_DEVICES": visible[worker % count].strip()}


def _write(memory: SharedMemory, make_client: ClientFactory) -> Place:
    try:
        return memory.write(make_client)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise ConfigError(
            f"task, data and plugins must be such that another process can have them, got one that cannot: {error}. "
            "Define functions and classes in a module and not inside of functions, or use the executor InProcess."
        ) from error


def _program(memory: SharedMemory, place: Place) -> str | None:
    """The script that was started, if classes that it defines are among what workers need."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    return str(path) if path is not None and b"__main__" in memory.structure(place) else None
