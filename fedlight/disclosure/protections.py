"""What stands between a tensor and whoever would read it: the one place where protections are looked up for display."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fedlight.plugins import Disclosure, Plugin

if TYPE_CHECKING:
    from fedlight.federation import Federation

NONE = "none"
_SHARED = "shared/"


def of_run(federation: Federation) -> Mapping[str, str]:
    """Returns what the run does for all that a site sends: name of the setting to what it promises, in its own words.

    A setting is listed here once it exists and is set; its ``str`` is what the officer reads.
    """
    settings = {
        "example_privacy": federation.local.example_privacy,
        "secure_aggregation": federation.local.secure,
    }
    return {name: str(setting) for name, setting in settings.items() if setting}


_IN_SHORT = {"example_privacy": "clipped and noised", "secure_aggregation": "masked in the sum"}
"""What the settings of ``of_run`` do to parameters and running statistics."""


def of_part(part: str, federation: Federation, plugins: Iterable[Plugin]) -> str:
    """Returns what protects a part of an update: "parameters", "buffers" or "shared/<plugin>".

    Args:
        part: Its name in messages.
        federation: The federation.
        plugins: Those of the run, the aggregator among them.
    """
    if part.startswith(_SHARED):
        known = disclosures(plugins).get(part.removeprefix(_SHARED))
        own = () if known is None or known.protection == NONE else (known.protection,)
        return "; ".join([*(_IN_SHORT[name] for name in of_run(federation)), *own]) or NONE
    return "; ".join(_IN_SHORT[name] for name in of_run(federation)) or NONE


def disclosures(plugins: Iterable[Plugin]) -> Mapping[str, Disclosure]:
    """Returns what plugins say that they share, by their names in messages."""
    return {plugin.instance_id: known for plugin in plugins if (known := plugin.discloses()) is not None}
