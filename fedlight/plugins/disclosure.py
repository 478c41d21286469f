"""What a plugin lets leave a site beside the model, in plain words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedlight.plugins.plugin import Plugin

NOTHING_BEYOND = ""


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What somebody who is to agree to it must know; ``fedlight privacy`` prints it beside the tensors themselves.

    Attributes:
        what: What is shared, for instance "channel means and spreads of features".
        protection: What keeps it from being about one image: "mean over at least 5 images"; "none" if nothing does.
        beyond: In which way it is more than a statistic of a whole site, a clause that says itself: "amplitudes of
            single images". Empty if it is not; a run whose plugins say something here tells so when it starts.
    """

    what: str
    protection: str = "none"
    beyond: str = NOTHING_BEYOND


def over_images(min_images: int) -> str:
    """Says over how many images of a site a statistic is taken at the least.

    >>> over_images(5)
    'over at least 5 images of the site'
    """
    return f"over at least {min_images} image{'s' * (min_images != 1)} of the site"


def of_single_images(min_images: int, what: str) -> str:
    """Says that a statistic may be that of one image; nothing where at least two are taken together."""
    return f"{what} of a single image, where a site has no other (min_images is 1)" if min_images == 1 else ""


CASES = "names and scores of single cases (share_cases)"


def beyond_site_level(plugins: Iterable[Plugin], share_cases: bool) -> tuple[str, ...]:
    """Says what a run shares that is more than statistics of whole sites, clause by clause; nothing where it is not.

    Args:
        plugins: Those of the run, the aggregator among them.
        share_cases: Whether scores of single cases leave the sites.
    """
    said = [(type(plugin).__name__, plugin.discloses()) for plugin in plugins]
    clauses = [f"{known.beyond} ({name})" for name, known in said if known is not None and known.beyond]
    return (*clauses, *([CASES] if share_cases else []))
