"""Where clients run."""

from fedlight.executors.executor import ClientFactory, Executor
from fedlight.executors.flower import Flower
from fedlight.executors.in_process import InProcess
from fedlight.executors.multi_process import MultiProcess

__all__ = ["ClientFactory", "Executor", "Flower", "InProcess", "MultiProcess"]
