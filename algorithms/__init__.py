"""The algorithms that come with fedlight, one self-contained file each."""

from fedlight_algorithms.adain import AdaIN
from fedlight_algorithms.amplitude_mix import AmplitudeMix
from fedlight_algorithms.fedavg import FedAvg
from fedlight_algorithms.fedavg_align import FedAvgAlign, MomentAlignment
from fedlight_algorithms.fedavgm import FedAvgM
from fedlight_algorithms.feddg_ga import FedDGGA
from fedlight_algorithms.feddyn import DynamicRegularizer, FedDyn
from fedlight_algorithms.fedgma import FedGMA
from fedlight_algorithms.fednova import FedNova
from fedlight_algorithms.fedopt import FedAdagrad, FedAdam, FedYogi
from fedlight_algorithms.fedprox import FedProx
from fedlight_algorithms.local import AllPrivate, Local
from fedlight_algorithms.mixstyle import MixStyle
from fedlight_algorithms.qffl import QFFL
from fedlight_algorithms.scaffold import Scaffold, ScaffoldControl

__all__ = [
    "QFFL",
    "AdaIN",
    "AllPrivate",
    "AmplitudeMix",
    "DynamicRegularizer",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgAlign",
    "FedAvgM",
    "FedDGGA",
    "FedDyn",
    "FedGMA",
    "FedNova",
    "FedProx",
    "FedYogi",
    "Local",
    "MixStyle",
    "MomentAlignment",
    "Scaffold",
    "ScaffoldControl",
]
