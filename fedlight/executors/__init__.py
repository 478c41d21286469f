"""Where clients run."""

from fedlight.executors.executor import ClientFactory, Executor
from fedlight.executors.in_process import InProcess

__all__ = ["ClientFactory", "Executor", "InProcess"]
