"""A bank of amplitudes: what every site shares of the low frequencies of its images."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from fedlight.batch import Batch
from fedlight.data_format import DataFormat
from fedlight.plugins.amplitude import beyond_window, half_width, low_frequencies, require_window, spectrum_of
from fedlight.plugins.client_plugin import Statistics
from fedlight.plugins.disclosure import Disclosure, of_single_images, over_images
from fedlight.plugins.image_means import ImageMeans
from fedlight.plugins.style import StyleAugmentation, require_min_images, require_spread
from fedlight.update import Broadcast, RoundContext

log = logging.getLogger("fedlight")


class AmplitudeBank(StyleAugmentation, ImageMeans):
    """Knows the low-frequency amplitudes of every site's images; a member says what is done with them.

    A site shares the mean over its images of a round, with ``spread`` their deviation too, and nothing from fewer than
    ``min_images`` different images. Members have these arguments and ``window``.
    """

    window: float
    spread: float

    def active(self) -> bool:
        """Says whether this plugin does anything at all."""
        return True

    def validate(self) -> None:
        require_window(self.window)
        require_spread(self.spread)
        require_min_images(self.min_images)

    def discloses(self) -> Disclosure | None:
        if not self.active():
            return None
        return Disclosure(
            "amplitudes of the lowest frequencies of the images, in each site's name to all",
            f"low-frequency window only, mean {over_images(self.min_images)}",
            beyond_window(self.window) or of_single_images(self.min_images, "amplitudes"),
        )

    def check(self, data: DataFormat) -> None:
        if self.active():
            self.half_width(*data.train_size)

    def half_width(self, height: int, width: int) -> int:
        """Returns b, the highest frequency of the window."""
        return half_width(self.window, height, width)

    # --- at the site -------------------------------------------------------------------------------------------

    def on_round_start(self, site: str, module: LightningModule, broadcast: Broadcast) -> None:
        bank = broadcast.shared.get(self.instance_id, {})
        self._others = {key: value.cpu() for key, value in bank.items() if not key.startswith(f"{site}/")}
        self._donors = sorted(key.rpartition("/")[0] for key in self._others if key.endswith("/amplitude"))
        self._seen: list[Tensor] = []
        self._cases: set[str] = set()

    def measure(self, spectrum: Tensor, batch: Batch) -> None:
        """Remembers the amplitudes of a batch, of images with at least one valid pixel."""
        usable = batch["valid"].flatten(1).any(1)  # (N,)
        self._seen.append(self._window_of(spectrum, batch)[usable])
        self._cases.update(case for case, fit in zip(batch["case"], usable.tolist(), strict=True) if fit)

    def _window_of(self, spectrum: Tensor, batch: Batch) -> Tensor:
        """Returns the amplitudes of every image of a batch in the window, (N, C, 2b+1, b+1)."""
        b = self.half_width(batch["image"].shape[-2], batch["image"].shape[-1])
        return low_frequencies(spectrum, b).abs()

    def drawn(self, n: int) -> Tensor:
        """Draws n amplitudes of other sites, (n, C, 2b+1, b+1), on the CPU: N(mean, spread^2 var), at least 0."""
        donor = torch.randint(len(self._donors), (n,), generator=self.generator)
        mean = self._stacked("amplitude")[donor]
        if not self.spread:
            return mean
        noise = torch.randn(mean.shape, generator=self.generator)
        return (mean + self.spread * noise * self._stacked("deviation")[donor]).clamp_min(0)

    def _stacked(self, name: str) -> Tensor:
        return torch.stack([self._others[f"{donor}/{name}"] for donor in self._donors])

    def on_round_end(self, module: LightningModule) -> Statistics:
        seen, self._seen, self._others = self._seen, [], {}
        if len(self._cases) < self.min_images:
            return {}
        return {name: value.cpu() for name, value in self.summarise(torch.cat(seen)).items()}

    def summarise(self, amplitudes: Tensor) -> Statistics:
        """Returns what a site shares of the amplitudes of its images, (n, C, 2b+1, b+1)."""
        shared = {"amplitude": amplitudes.double().mean(0).float()}
        return {**shared, "deviation": amplitudes.std(0, unbiased=False)} if self.spread else shared

    # --- under example-level privacy ---------------------------------------------------------------------------

    def releases(self, rounds: int) -> int:
        return rounds if self.active() else 0

    def of_images(self, batch: Batch, features: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        amplitudes = self._window_of(spectrum_of(batch["image"], batch["valid"]), batch)
        return {"amplitude": amplitudes, **({"squares": amplitudes.square()} if self.spread else {})}

    def from_means(self, means: Statistics) -> Statistics:
        shared = {"amplitude": means["amplitude"].clamp_min(0)}
        if self.spread:
            shared["deviation"] = (means["squares"] - means["amplitude"].square()).clamp_min(0).sqrt()
        return shared

    # --- on the server -----------------------------------------------------------------------------------------

    def begin(self, context: RoundContext, previous: Statistics) -> None:
        super().begin(context, previous)
        self._fresh: dict[str, Tensor] = {}

    def add(self, site: str, num_samples: int, shared: Statistics) -> None:
        window = shared["amplitude"]
        for other, known in {**self._previous, **self._fresh}.items():
            if known.shape != window.shape:
                shapes = f"{tuple(window.shape)} from {site} and {tuple(known.shape)} for {other}"
                raise ValueError(f"amplitude windows must be alike, got {shapes}. Train on images of one size.")
        self._fresh |= {f"{site}/{name}": value for name, value in shared.items()}

    def finish(self) -> Statistics:
        if self.active() and not self._fresh and not self._previous:
            name = type(self).__name__
            log.warning("%s is idle: no site saw %d different images (min_images)", name, self.min_images)
        return {**self._previous, **self._fresh}
