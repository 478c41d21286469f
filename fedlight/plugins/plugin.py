"""What all plugins have in common."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any


class Plugin(ABC):
    """Base of everything that a config names by its bare class name.

    A plugin is registered by being imported: any concrete subclass can be named in YAML. What the constructor gets is
    a prototype: the federation copies it for the server and for every client, so a constructor only stores plain
    arguments and does no work.
    """

    instance_id: str = ""
    """Name of this instance in messages and in the run folder; the federation numbers two of one class."""

    @property
    def kind(self) -> str:
        """The extension point that this plugin belongs to, for listings."""
        return "plugin"

    def validate(self) -> None:
        """Checks the arguments when the config is read.

        Raises:
            ValueError: One sentence with the value, the rule and the way out.
        """

    def state_dict(self) -> dict[str, Any]:
        """Returns what must survive a restart: tensors, plain values, and dicts or lists of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what ``state_dict`` returned."""
