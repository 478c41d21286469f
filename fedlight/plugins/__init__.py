"""Extension points: one abstract class a file; an algorithm is a concrete subclass of one of them."""

from fedlight.batch import Batch, Step, View
from fedlight.plugins.aggregator import Aggregator
from fedlight.plugins.alignment import Alignment
from fedlight.plugins.client_plugin import ClientPlugin
from fedlight.plugins.codec import Codec, Lossless
from fedlight.plugins.disclosure import Disclosure
from fedlight.plugins.harmonisation import Harmonisation
from fedlight.plugins.image_means import ImageMeans
from fedlight.plugins.plugin import Plugin
from fedlight.plugins.style import StyleAugmentation

__all__ = [
    "Aggregator",
    "Alignment",
    "Batch",
    "ClientPlugin",
    "Codec",
    "Disclosure",
    "Harmonisation",
    "ImageMeans",
    "Lossless",
    "Plugin",
    "Step",
    "StyleAugmentation",
    "View",
]
