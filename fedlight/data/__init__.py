"""Data of several institutions."""

from fedlight.data.federated import DataError, FederatedDataModule
from fedlight.data.folder import FolderSites
from fedlight.data.synthetic import SyntheticSites

__all__ = ["DataError", "FederatedDataModule", "FolderSites", "SyntheticSites"]
