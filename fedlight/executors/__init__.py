"""Where clients run."""

from fedlight.executors.executor import ClientFactory, Executor
from fedlight.executors.in_process import InProcess
from fedlight.executors.multi_process import MultiProcess

__all__ = ["ClientFactory", "Executor", "InProcess", "MultiProcess"]
