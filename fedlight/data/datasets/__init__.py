"""Public data sets, one a file."""

from collections.abc import Mapping

from fedlight.data.datasets.dataset import Dataset, Site
from fedlight.data.datasets.fundus import Fundus
from fedlight.data.datasets.retina_vessels import RetinaVessels

DATASETS: Mapping[str, type[Dataset]] = {each.name: each for each in (Fundus, RetinaVessels)}
"""Every data set by its name."""

__all__ = ["DATASETS", "Dataset", "Site"]
