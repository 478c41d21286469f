"""What a client trains: Lightning modules that take part in rounds."""

from fedlight.tasks.federated_module import FederatedModule
from fedlight.tasks.segmentation import SegmentationTask

__all__ = ["FederatedModule", "SegmentationTask"]
