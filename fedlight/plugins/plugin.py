"""What all plugins have in common."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar

from torch.optim import Optimizer

from fedlight.data_format import DataFormat
from fedlight.plugins.disclosure import Disclosure


class Plugin(ABC):  # noqa: B024 - abstract methods are those of the extension points
    """Base of everything that a config names by its bare class name.

    A plugin is registered by being imported: any concrete subclass can be named in YAML. What the constructor gets is
    a prototype: the federation copies it for the server and for every client, so a constructor only stores plain
    arguments and does no work.
    """

    instance_id: str = ""
    """Name of this instance in messages and in the run folder; the federation numbers two of one class."""

    kind: ClassVar[str] = "plugin"
    """The extension point that this plugin belongs to, for listings."""

    null: ClassVar[Mapping[str, Any] | None] = None
    """Arguments under which a run is FedAvg's bit for bit, for instance {"mu": 0.0}; None if there are none."""

    def validate(self) -> None:
        """Checks the arguments when the config is read.

        Raises:
            ValueError: One sentence with the value, the rule and the way out.
        """

    def check(self, data: DataFormat) -> None:
        """Checks the arguments against the data when the config is read.

        Raises:
            ValueError: One sentence with the value, the rule and the way out.
        """

    def check_optimizer(self, optimizer: Optimizer) -> None:
        """Checks the optimizer that every client will train with, when the config is read.

        Raises:
            ValueError: One sentence with the value, the rule and the way out.
        """

    def discloses(self) -> Disclosure | None:
        """Says what leaves a site because of this plugin, beside the model and its losses; None for nothing."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Returns what must survive a restart: tensors, plain values, and dicts or lists of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what ``state_dict`` returned."""
