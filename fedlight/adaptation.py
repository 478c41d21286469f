"""Help at test time for an institution that took no part: what is done beside asking the model once, if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedlight.data_format import DataFormat
from fedlight.plugins import ClientPlugin, Harmonisation
from fedlight.plugins.federation_style import FederationStyle, federation_style
from fedlight.preparation import ConfigError
from fedlight.state import buffers_of
from fedlight.tasks.federated_module import FederatedModule
from fedlight.tasks.views import Views
from fedlight.update import Shared


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What helps a model at test time; by default nothing does.

    Attributes:
        tta: Views over which class probabilities are averaged.
        style: What images are given the style of.
        recalibrate: Whether running statistics are computed anew from the institution's own images, without masks.
    """

    tta: Views | None = None
    style: FederationStyle | None = None
    recalibrate: bool = False

    def __str__(self) -> str:
        """Names what helps, as on the command line; empty where nothing does.

        >>> str(Adaptation(tta="flips", recalibrate=True)), str(Adaptation())
        ('tta flips, recalibrate', '')
        """
        helps = {f"tta {self.tta}": self.tta, "normalise_style": self.style, "recalibrate": self.recalibrate}
        return ", ".join(name for name, on in helps.items() if on)

    def prepare(self, module: FederatedModule) -> None:
        """Lets a task, once its model is loaded, look at images as this says."""
        module.views, module.federation_style = self.tta, self.style


NO_HELP = Adaptation()

_WAY_OUT = "Train with AmplitudeMix, or with CCST, whose stage is the input."


def helped(model: str, adaptation: Adaptation) -> str:
    """Names a model with what helped it, as records and tables have it.

    >>> helped("global", Adaptation(tta="square")), helped("global", NO_HELP)
    ('global [tta square]', 'global')
    """
    return f"{model} [{adaptation}]" if str(adaptation) else model


def shared_style(plugins: Sequence[ClientPlugin], shared: Shared, data: DataFormat) -> FederationStyle:
    """Returns the style of a federation's images from what its run has shared.

    Raises:
        ConfigError: If the sites shared nothing about their images.
    """
    style = federation_style(plugins, shared, data.train_size)
    if style is None:
        names = ", ".join(plugin.instance_id for plugin in plugins) or "none"
        applied = any(isinstance(plugin, Harmonisation) for plugin in plugins)
        raise ConfigError(
            f"normalise_style must have statistics of images that the run's sites shared, got none (plugins: {names}). "
            + ("Leave it out: every image is brought to the run's reference already." if applied else _WAY_OUT)
        )
    return style


def check_recalibrate(module: FederatedModule, policy: str) -> None:
    """Checks that there are running statistics to compute anew, and that this is not done already.

    Raises:
        ConfigError: If not.
    """
    if not buffers_of(module):
        raise ConfigError(
            "recalibrate must have running statistics to compute anew, got a network without any: GroupNorm, the "
            "default, normalises every image by itself. Leave it out."
        )
    if policy == "recalibrate":
        raise ConfigError(
            "recalibrate must be left out, as federation.buffers is recalibrate: the run does so already."
        )
