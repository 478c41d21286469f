"""Statistics that follow from means over a site's images, which example-level privacy can clip and noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor

from fedlight.batch import Batch
from fedlight.plugins.client_plugin import Statistics


class ImageMeans(ABC):
    """A half of client plugins: what they share is made of means over images.

    Under example-level privacy a site makes a pass of its own over all its training patients when a round has been
    trained, one sample of one image each. What ``of_images`` returns is clipped patient by patient, the mean gets
    noise, and the site shares ``of_means`` of it in place of what ``on_round_end`` returned.
    """

    min_images: int
    """A site with fewer different images shares nothing."""

    def means_only(self) -> bool:
        """Says whether means are all that is shared as this plugin is set; if not, it is refused."""
        return True

    def releases(self, rounds: int) -> int:
        """Says in how many of a run's rounds a site would share; 0 if not even in this one."""
        return rounds

    @abstractmethod
    def of_images(self, batch: Batch, features: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Returns numbers of every image by name, (N, ...) each; no row may depend on other images.

        Args:
            batch: Training samples, harmonised (for a ``Harmonisation`` as the data module gave them).
            features: Of the trained network at the plugin's stages, (N, C, h, w) each.
        """

    def of_means(self, means: Statistics, patients: int) -> Statistics:
        """Returns what the site shares of means over so many patients: nothing of fewer than ``min_images``."""
        return self.from_means(means) if patients >= self.min_images else {}

    @abstractmethod
    def from_means(self, means: Statistics) -> Statistics:
        """Returns what is shared of means of what ``of_images`` returned.

        Args:
            means: With noise: they may be negative where no image's number is.
        """
