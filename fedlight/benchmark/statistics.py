"""The statistics of a benchmark: pure functions from ``Scores`` to frames, each in a file of its own."""

from fedlight.benchmark.claims import claims
from fedlight.benchmark.paired import paired
from fedlight.benchmark.selection import selection
from fedlight.benchmark.summaries import headline, in_federation, per_class, per_site
from fedlight.benchmark.wilcoxon import wilcoxon

__all__ = ["claims", "headline", "in_federation", "paired", "per_class", "per_site", "selection", "wilcoxon"]
