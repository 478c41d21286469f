"""The algorithms that come with fedlight, one self-contained file each."""

from fedlight_algorithms.adain import AdaIN
from fedlight_algorithms.amplitude_mix import AmplitudeMix
from fedlight_algorithms.coordinate_median import CoordinateMedian
from fedlight_algorithms.fedavg import FedAvg
from fedlight_algorithms.fedavg_align import FedAvgAlign, MomentAlignment
from fedlight_algorithms.fedavgm import FedAvgM
from fedlight_algorithms.feddg_ga import FedDGGA
from fedlight_algorithms.feddyn import DynamicRegularizer, FedDyn
from fedlight_algorithms.fedgma import FedGMA
from fedlight_algorithms.fednova import FedNova
from fedlight_algorithms.fedopt import FedAdagrad, FedAdam, FedYogi
from fedlight_algorithms.fedprox import FedProx
from fedlight_algorithms.geometric_median import GeometricMedian
from fedlight_algorithms.krum import Krum, MultiKrum
from fedlight_algorithms.local import AllPrivate, Local
from fedlight_algorithms.mixstyle import MixStyle
from fedlight_algorithms.norm_clipping import NormClipping
from fedlight_algorithms.qffl import QFFL
from fedlight_algorithms.scaffold import Scaffold, ScaffoldControl
from fedlight_algorithms.swa import EMA, SWA
from fedlight_algorithms.trimmed_mean import TrimmedMean

__all__ = [
    "EMA",
    "QFFL",
    "SWA",
    "AdaIN",
    "AllPrivate",
    "AmplitudeMix",
    "CoordinateMedian",
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
    "GeometricMedian",
    "Krum",
    "Local",
    "MixStyle",
    "MomentAlignment",
    "MultiKrum",
    "NormClipping",
    "Scaffold",
    "ScaffoldControl",
    "TrimmedMean",
]
