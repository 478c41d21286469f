"""Public data sets, one a file."""

from collections.abc import Mapping

from fedlight.data.datasets.chest_xray import ChestXray
from fedlight.data.datasets.dataset import Dataset, Site
from fedlight.data.datasets.fets import FeTS
from fedlight.data.datasets.fundus import Fundus
from fedlight.data.datasets.mnms import MnMs
from fedlight.data.datasets.polypgen import PolypGen
from fedlight.data.datasets.polyps import Polyps
from fedlight.data.datasets.prostate import Prostate
from fedlight.data.datasets.retina_vessels import RetinaVessels
from fedlight.data.datasets.riga_plus import RigaPlus
from fedlight.data.datasets.spinal_cord import SpinalCord

_EVERY: tuple[type[Dataset], ...] = (
    ChestXray,
    FeTS,
    Fundus,
    MnMs,
    PolypGen,
    Polyps,
    Prostate,
    RetinaVessels,
    RigaPlus,
    SpinalCord,
)

DATASETS: Mapping[str, type[Dataset]] = {each.name: each for each in _EVERY}
"""Every data set by its name."""

__all__ = ["DATASETS", "Dataset", "Site"]
