"""Which plugins go together: what a run can have only once, and what means nothing without something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from fedlight.plugins.aggregator import Aggregator
from fedlight.plugins.client_plugin import ClientPlugin

ONCE = {
    "descend": "takes the gradient at other parameters",
    "personal": "keeps a personal model",
}
"""Hooks that one plugin of a run may have, and what a plugin does with them."""


def check_together(aggregator: Aggregator, half: ClientPlugin | None, plugins: Sequence[ClientPlugin]) -> None:
    """Refuses plugins that cannot work together.

    Args:
        aggregator: Of the run.
        half: Its own client half, if any.
        plugins: The plugins of the config.

    Raises:
        ValueError: One sentence with the names, the rule and the way out.
    """
    every = [*([half] if half is not None else []), *plugins]
    for plugin in plugins:
        if half is not None and type(plugin) is type(half):
            name = type(half).__name__
            raise ValueError(f"{name} comes with {type(aggregator).__name__} already. Leave it out of plugins.")
    for hook, what in ONCE.items():
        names = [type(each).__name__ for each in every if getattr(type(each), hook) is not getattr(ClientPlugin, hook)]
        if len(names) > 1:
            raise ValueError(f"plugins must have at most one that {what}, got {', '.join(names)}. Keep one of them.")
    for plugin in every:
        try:
            plugin.check_others(aggregator, [other for other in every if other is not plugin])
        except ValueError as error:
            raise ValueError(f"{type(plugin).__name__}: {error}") from error


def check_shared(plugins: Sequence[ClientPlugin], params: Mapping[str, Tensor]) -> None:
    """Refuses plugins that need a model that the sites share where every parameter stays at its site.

    Args:
        plugins: All client plugins of a run.
        params: The trainable parameters.

    Raises:
        ValueError: One sentence with the names, the rule and the way out.
    """
    private = {name for plugin in plugins for name in plugin.private(params)}
    needing = [type(plugin).__name__ for plugin in plugins if plugin.needs_shared]
    if needing and params and private == set(params):
        keeping = ", ".join(type(plugin).__name__ for plugin in plugins if plugin.private(params))
        raise ValueError(
            f"{needing[0]} needs a model that the sites share, but every parameter stays at its site ({keeping}). "
            f"Leave {needing[0]} out."
        )
