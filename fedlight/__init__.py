"""fedlight: federated medical image segmentation that works at a hospital that took no part."""

__version__ = "0.1.0"
