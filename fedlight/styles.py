"""A sheet to look at: one image a site, restyled by every style plugin with every other site's style.

Anatomy must stay where it is, only its look may change. What a plugin needs of the sites is gathered as in a round of
training, of the two sites of a row only. Plugins that work on features are shown on the image itself.
"""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningModule
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fedlight.batch import Batch
from fedlight.data.federated import FederatedDataModule
from fedlight.feature_moments import channel_means, plot, plotting, share_between
from fedlight.output_folder import make_folder
from fedlight.plugins import ClientPlugin, Harmonisation, StyleAugmentation
from fedlight.plugins.discovery import registered
from fedlight.preparation import ConfigError
from fedlight.randomness import generator
from fedlight.run import load_model_file
from fedlight.tasks.federated_module import FederatedModule
from fedlight.update import Broadcast, RoundContext

TILE = 96
"""Side of an image on the sheet, in pixels."""

CAPTION = 16
"""Height of a line of text, in pixels."""

LETTER = 5
"""Width of a letter, in pixels, on average."""

INPUT = "input"


def draw_styles(
    module: FederatedModule,
    data: FederatedDataModule,
    configured: Sequence[ClientPlugin],
    output: Path,
    stage: str,
    models: Mapping[str, Path],
    seed: int,
) -> list[str]:
    """Writes the sheet of styles and the plot of features.

    Args:
        module: A task whose network is built, with its initial weights.
        data: Data of the sites.
        configured: The plugins of the config.
        output: Folder for ``styles.png`` and ``features.png``; it is made if need be.
        stage: Where features are looked at.
        models: Checkpoints of trained models that are shown beside the untrained one, by name.
        seed: Of the run.

    Returns:
        What there is to say about the pictures, sentence by sentence.

    Raises:
        ConfigError: If the network has no such stage, a model is of another network, or the folder cannot be made.
    """
    check_stage(module, stage)
    make_folder(output)
    idle = style_sheet(module, data, shown(configured), output / "styles.png", seed)
    said = [f"{output / 'styles.png'}: one image a site in the styles of the others."]
    if idle:
        said.append(f"Not shown, as they leave images alone: {', '.join(idle)}.")
    try:
        shares = draw_features(module, data, output / "features.png", stage, models, seed)
    except ModuleNotFoundError as error:
        return [*said, f"{str(error)[0].upper()}{str(error)[1:]}"]
    said.append(f"{output / 'features.png'}: every image's channel means at {stage}, by site.")
    return [*said, shares]


def check_stage(module: FederatedModule, stage: str) -> None:
    """Checks that features can be looked at there.

    Raises:
        ConfigError: If the network has no such stage.
    """
    if stage not in module.stages() or stage == INPUT:
        names = ", ".join(name for name in module.stages() if name != INPUT)
        raise ConfigError(f"stage must be one of {names}, got {stage}. Name one of these.")


def draw_features(
    module: FederatedModule,
    data: FederatedDataModule,
    path: Path,
    stage: str,
    models: Mapping[str, Path],
    seed: int,
) -> str:
    """Writes the plot of features: of the module as it is, called untrained, and of trained models.

    Args:
        module: A task whose network is built, with its initial weights; it holds the last model afterwards.
        data: See ``draw_styles``.
        path: File to write.
        stage: See ``draw_styles``.
        models: See ``draw_styles``.
        seed: See ``draw_styles``.

    Returns:
        A sentence about how much of the variance lies between sites.

    Raises:
        ConfigError: If a model is damaged or of another network.
        ModuleNotFoundError: With one sentence, if matplotlib is missing.
    """
    plotting()
    panels = {"untrained": channel_means(module, data, stage, seed)}
    for name, checkpoint in models.items():
        load_model_file(checkpoint, module)
        panels[name] = channel_means(module, data, stage, seed)
    plot(panels, stage, path)
    shares = ", ".join(f"{name} {share_between(means):.0%}" for name, means in panels.items())
    return f"Share of the variance of features that lies between sites: {shares}."


def shown(configured: Sequence[ClientPlugin]) -> list[ClientPlugin]:
    """Returns every registered plugin that may change how images look: as configured, else with its defaults."""
    known = {type(plugin): plugin for plugin in configured}
    classes = [info.cls for info in registered() if issubclass(info.cls, (StyleAugmentation, Harmonisation))]
    return [known[cls] if cls in known else cls() for cls in classes]


def style_sheet(
    module: LightningModule, data: FederatedDataModule, plugins: Sequence[ClientPlugin], path: Path, seed: int
) -> list[str]:
    """Writes a PNG with a row for every two sites and a column for every plugin.

    Args:
        module: A task whose network is built; only handed to plugins.
        data: Data of the sites; the held-out institution is not looked at.
        plugins: What may change images, see ``shown``.
        path: File to write.
        seed: Of what plugins draw.

    Returns:
        Names of the plugins that changed no image: those that work on the loss or have nothing to do.
    """
    batches = {site: next(iter(data.train_loader(site, seed=seed, steps=1))) for site in data.sites}
    pairs = [(site, donor) for site in data.sites for donor in data.sites if site != donor] or [(s, s) for s in batches]
    columns = dict(_columns(module, batches, plugins, pairs, seed))
    idle = [name for name, column in columns.items() if all(map(torch.equal, column, _originals(batches, pairs)))]
    kept = {name: column for name, column in columns.items() if name not in idle}
    donors = [batches[donor]["image"][0] for _, donor in pairs]
    pictures = {"image": _originals(batches, pairs), "style of": donors, **kept}
    low = min(float(batch["image"].min()) for batch in batches.values())
    high = max(float(batch["image"].max()) for batch in batches.values())
    head = _text([(name, index * TILE) for index, name in enumerate(pictures)], len(pictures) * TILE)
    rows = [head]
    for index, (site, donor) in enumerate(pairs):
        rows.append(_text([(f"{site}, style of {donor}", 0)], head.shape[1]))
        rows.append(np.concatenate([_tile(column[index], low, high) for column in pictures.values()], axis=1))
    shared = "a method that shares nothing has no partner, its rows differ by what it draws"
    note = f"* works on features and is shown on the image itself; {shared}"
    rows += [_text([(line, 0)], head.shape[1]) for line in textwrap.wrap(note, head.shape[1] // LETTER)]
    Image.fromarray(np.concatenate(rows)).save(path, "PNG")
    return [name.removesuffix("*") for name in idle]


def _originals(batches: dict[str, Batch], pairs: Sequence[tuple[str, str]]) -> list[Tensor]:
    return [batches[site]["image"][0] for site, _ in pairs]


def _columns(
    module: LightningModule,
    batches: dict[str, Batch],
    plugins: Sequence[ClientPlugin],
    pairs: Sequence[tuple[str, str]],
    seed: int,
) -> Iterator[tuple[str, list[Tensor]]]:
    """Yields every plugin's name and what it makes of the first image of every pair's first site."""
    for prototype in plugins:
        plugin, features = _on_images(prototype)
        name = type(plugin).__name__ + "*" * features
        with torch.no_grad():
            yield name, [_restyled(plugin, module, batches, site, donor, seed) for site, donor in pairs]


def _on_images(prototype: ClientPlugin) -> tuple[ClientPlugin, bool]:
    """Copies a plugin so that it always acts, and on images where it acts on features; says whether it did."""
    plugin: Any = copy.deepcopy(prototype)
    features = bool(plugin.stages) and INPUT not in plugin.stages and "stages" in vars(plugin)
    always = {"p": 1.0, "min_images": 1, **({"stages": (INPUT,)} if features else {})}
    for name, value in always.items():
        if name in vars(plugin):
            setattr(plugin, name, value)
    plugin.instance_id = type(plugin).__name__
    return plugin, features


def _restyled(
    prototype: ClientPlugin, module: LightningModule, batches: dict[str, Batch], site: str, donor: str, seed: int
) -> Tensor:
    """Plays two rounds of a federation of two sites without training and returns the first image of the second."""
    both = tuple(dict.fromkeys((site, donor)))
    ones = dict.fromkeys(both, 1)
    context = RoundContext(1, 2, seed, both, both, ones, dict.fromkeys(both, 1.0))
    server = copy.deepcopy(prototype)
    server.begin(context, {})
    for name in both:
        _, shared = _round(prototype, module, name, batches[name], Broadcast(context, {}, {}))
        if shared:
            server.add(name, len(batches[name]["case"]), shared)
    broadcast = Broadcast(context, {}, {}, {prototype.instance_id: server.finish()})
    images, _ = _round(prototype, module, site, batches[site], broadcast)
    return images[0]


def _round(
    prototype: ClientPlugin, module: LightningModule, site: str, batch: Batch, broadcast: Broadcast
) -> tuple[Tensor, Any]:
    """Sends one batch through a plugin's two transforms; returns the images and what the site shares."""
    plugin = copy.deepcopy(prototype)
    plugin.generator = generator(broadcast.context.seed, "styles", site, *broadcast.context.sites, plugin.instance_id)
    plugin.on_round_start(site, module, broadcast)
    batch = plugin.transform_batch(batch)
    images = plugin.restyle(INPUT, batch["image"], batch) if INPUT in plugin.stages else batch["image"]
    return images, plugin.on_round_end(module)


def _tile(image: Tensor, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Returns an image (C, H, W) in colours, (TILE, TILE, 3), on the scale of all plain images of the sheet."""
    colours = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    pixels = ((colours.float() - low) / max(high - low, 1e-6)).clamp(0, 1).mul(255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
    factor = TILE / max(picture.size)
    size = (round(picture.width * factor), round(picture.height * factor))
    tile = Image.new("RGB", (TILE, TILE))
    tile.paste(picture.resize(size, Image.Resampling.BICUBIC), (0, 0))
    return np.array(tile)


def _text(parts: Sequence[tuple[str, int]], width: int) -> npt.NDArray[np.uint8]:
    line = Image.new("RGB", (width, CAPTION))
    draw, font = ImageDraw.Draw(line), ImageFont.load_default(10)
    for text, left in parts:
        draw.text((left + 3, 1), text, fill=(255, 255, 255), font=font)
    return np.array(line)
