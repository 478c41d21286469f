"""The algorithms that come with fedlight, one self-contained file each."""

from fedlight_algorithms.adain import AdaIN
from fedlight_algorithms.amplitude_mix import AmplitudeMix
from fedlight_algorithms.bezier_remap import BezierRemap
from fedlight_algorithms.bigaug import BigAug
from fedlight_algorithms.ccst import CCST
from fedlight_algorithms.coordinate_median import CoordinateMedian
from fedlight_algorithms.coral import CORAL
from fedlight_algorithms.cross_efdmix import CrossEFDMix
from fedlight_algorithms.cross_mixstyle import CrossMixStyle
from fedlight_algorithms.ditto import Ditto
from fedlight_algorithms.dp_fedavg import ClippedChange, DPFedAvg
from fedlight_algorithms.dsu import DSU
from fedlight_algorithms.efdmix import EFDMix
from fedlight_algorithms.elcfs import ELCFS
from fedlight_algorithms.fedadg import Discriminator, FedADG
from fedlight_algorithms.fedasam import FedASAM
from fedlight_algorithms.fedavg import FedAvg
from fedlight_algorithms.fedavg_align import FedAvgAlign, MomentAlignment
from fedlight_algorithms.fedavgm import FedAvgM
from fedlight_algorithms.fedbn import FedBN
from fedlight_algorithms.feddg_ga import FedDGGA
from fedlight_algorithms.feddyn import DynamicRegularizer, FedDyn
from fedlight_algorithms.fedfa import FedFA
from fedlight_algorithms.fedgamma import FedGAMMA
from fedlight_algorithms.fedgma import FedGMA
from fedlight_algorithms.fednova import FedNova
from fedlight_algorithms.fedopt import FedAdagrad, FedAdam, FedYogi
from fedlight_algorithms.fedper import FedPer
from fedlight_algorithms.fedprox import FedProx
from fedlight_algorithms.fedrep import FedRep
from fedlight_algorithms.fedsam import FedSAM
from fedlight_algorithms.fedsr import FedSR
from fedlight_algorithms.geometric_median import GeometricMedian
from fedlight_algorithms.gin import GIN, IPA
from fedlight_algorithms.half import Half
from fedlight_algorithms.harmofl import HarmoFL
from fedlight_algorithms.histogram_matching import HistogramMatching
from fedlight_algorithms.krum import Krum, MultiKrum
from fedlight_algorithms.local import AllPrivate, Local
from fedlight_algorithms.low_rank import LowRank
from fedlight_algorithms.mixstyle import MixStyle
from fedlight_algorithms.mmd import MMD
from fedlight_algorithms.moon import MOON
from fedlight_algorithms.norm_clipping import NormClipping
from fedlight_algorithms.padain import PAdaIN
from fedlight_algorithms.prototypes import Prototypes
from fedlight_algorithms.qffl import QFFL
from fedlight_algorithms.quantise import Quantise
from fedlight_algorithms.randconv import RandConv
from fedlight_algorithms.random_k import RandomK
from fedlight_algorithms.scaffold import Scaffold, ScaffoldControl
from fedlight_algorithms.slaug import SLAug
from fedlight_algorithms.style_exploration import StyleExploration
from fedlight_algorithms.swa import EMA, SWA
from fedlight_algorithms.top_k import TopK
from fedlight_algorithms.trid import TriD
from fedlight_algorithms.trimmed_mean import TrimmedMean
from fedlight_algorithms.zstd import Zstd

__all__ = [
    "CCST",
    "CORAL",
    "DSU",
    "ELCFS",
    "EMA",
    "GIN",
    "IPA",
    "MMD",
    "MOON",
    "QFFL",
    "SWA",
    "AdaIN",
    "AllPrivate",
    "AmplitudeMix",
    "BezierRemap",
    "BigAug",
    "ClippedChange",
    "CoordinateMedian",
    "CrossEFDMix",
    "CrossMixStyle",
    "DPFedAvg",
    "Discriminator",
    "Ditto",
    "DynamicRegularizer",
    "EFDMix",
    "FedADG",
    "FedASAM",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgAlign",
    "FedAvgM",
    "FedBN",
    "FedDGGA",
    "FedDyn",
    "FedFA",
    "FedGAMMA",
    "FedGMA",
    "FedNova",
    "FedPer",
    "FedProx",
    "FedRep",
    "FedSAM",
    "FedSR",
    "FedYogi",
    "GeometricMedian",
    "Half",
    "HarmoFL",
    "HistogramMatching",
    "Krum",
    "Local",
    "LowRank",
    "MixStyle",
    "MomentAlignment",
    "MultiKrum",
    "NormClipping",
    "PAdaIN",
    "Prototypes",
    "Quantise",
    "RandConv",
    "RandomK",
    "SLAug",
    "Scaffold",
    "ScaffoldControl",
    "StyleExploration",
    "TopK",
    "TriD",
    "TrimmedMean",
    "Zstd",
]
