"""How the features of sites differ: every image's channel means at a stage, in a plane, coloured by site."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fedlight.data.federated import FederatedDataModule
from fedlight.statistics import channel_moments
from fedlight.tasks.federated_module import FederatedModule

COLUMNS = 4
"""Panels in a row."""

MISSING = "the plot of features needs matplotlib, which is not installed. Install fedlight[report]."


def plotting() -> ModuleType:
    """Imports matplotlib for files, without a display.

    Raises:
        ModuleNotFoundError: With one sentence, if it is missing.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING) from error
    matplotlib.use("Agg")
    return import_module("matplotlib.pyplot")


@torch.no_grad()
def channel_means(module: FederatedModule, data: FederatedDataModule, stage: str, seed: int) -> dict[str, Tensor]:
    """Returns, for every site that trains, its images' channel means at a stage: (images, C), valid pixels only."""
    place = module.stages()[stage]
    training = module.training
    module.eval()
    try:
        return {site: torch.cat(list(_means(module, data, site, place, seed))) for site in data.sites}
    finally:
        module.train(training)


def _means(module: FederatedModule, data: FederatedDataModule, site: str, place: str, seed: int) -> Any:
    found: list[Tensor] = []
    hook = module.network.get_submodule(place).register_forward_hook(lambda _, args, output: found.append(output))
    try:
        for batch in data.train_loader(site, seed=seed):
            module(module.harmonised(batch["image"], batch["valid"]))
            mean, _ = channel_moments(found.pop(), batch["valid"])
            yield mean.flatten(1)
    finally:
        hook.remove()


def share_between(means: Mapping[str, Tensor]) -> float:
    """Returns the share of all variance that lies between the sites' centres, from 0 (alike) to 1.

    >>> share_between({"A": torch.tensor([[0.0], [2.0]]), "B": torch.tensor([[4.0], [6.0]])})
    0.8
    """
    every = torch.cat(list(means.values())).double()
    center = every.mean(0)
    between = sum(len(site) * (site.double().mean(0) - center).square().sum() for site in means.values())
    return round(float(between / (every - center).square().sum().clamp_min(1e-12)), 4)


def plane(means: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the two first principal components of all images' means, (images, 2) by site."""
    every = torch.cat(list(means.values())).double()
    _, _, axes = torch.linalg.svd(every - every.mean(0), full_matrices=False)
    flat = (every - every.mean(0)) @ axes[:2].T
    return dict(zip(means, flat.split([len(site) for site in means.values()]), strict=True))


def plot(panels: Mapping[str, Mapping[str, Tensor]], stage: str, path: Path) -> None:
    """Writes a PNG with a panel for every model, four in a row, a point an image, a cross at every site's mean.

    Args:
        panels: Name of a model -> site -> (images, C), what ``channel_means`` returned.
        stage: Where the means were taken.
        path: File to write.
    """
    pyplot: Any = plotting()
    columns, rows = min(len(panels), COLUMNS), -(-len(panels) // COLUMNS)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.5 * columns, 4.2 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (name, means) in zip(axes.flat, panels.items(), strict=False):
        for index, (site, points) in enumerate(plane(means).items()):
            colour, center = f"C{index % 10}", points.mean(0)
            axis.scatter(points[:, 0], points[:, 1], s=14, alpha=0.6, color=colour, label=site)
            axis.scatter(*center, s=90, marker="x", color=colour)
        axis.set_title(f"{name}\n{share_between(means):.0%} of the variance lies between sites", fontsize=10)
        axis.set(xticks=[], yticks=[])
    axes[0][0].legend(fontsize=8)
    figure.suptitle(f"channel means at {stage}, principal components", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
