"""Writes a trained model, opens it again, compares, and only then lets it be there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedlight.checkpoint import RunFolder
from fedlight.data.federated import FederatedDataModule
from fedlight.errors import ConfigError, ExportError
from fedlight.export.about import describe, graph_of, is_of_volumes, preparation_of
from fedlight.export.card import NAME, card
from fedlight.export.comparison import TOLERANCE, Comparison, compare
from fedlight.export.format import Exportable, Format, first_words
from fedlight.export.formats import FORMATS
from fedlight.export.ledger import ledger
from fedlight.export.record import Record
from fedlight.export.staging import staged
from fedlight.output_folder import make_folder, require_folder
from fedlight.plugins import Plugin
from fedlight.serialization import write_bytes
from fedlight.tasks import FederatedModule, SegmentationTask

if TYPE_CHECKING:
    from fedlight.federation import Federation

Choice = Literal["onnx", "torchscript", "safetensors", "monai-bundle", "card"]
"""What can be written: a network in a format, with its card, or the card alone."""

DESCRIPTION = "model.json"
"""File with what whoever uses the network must know."""


def check_output(choice: Choice, output: Path) -> None:
    """Checks, before anything is loaded, that the output can be written and that the packages for it are there.

    Raises:
        ConfigError: If not.
    """
    if os.path.lexists(output):
        raise ConfigError(f"output must be free, got {output}, which exists. Name another, or remove it.")
    require_folder(output.parent)
    if choice == "card":
        if output.suffix != ".md":
            raise ConfigError(f"output must be a file that ends in .md for a card, got {output}. Use {NAME}.")
        return
    if output.suffix and output.suffix == Path(FORMATS[choice].file).suffix:
        raise ConfigError(
            f"output must be a folder, as a network goes with its description and its card, got {output}. "
            f"Use {output.with_suffix('')}."
        )
    FORMATS[choice].check_installed(choice)


def export_model(
    federation: Federation,
    plugins: Sequence[Plugin],
    folder: RunFolder,
    record: Record,
    task: FederatedModule,
    data: FederatedDataModule,
    choice: Choice,
    output: Path,
) -> list[str]:
    """Writes a model that was loaded.

    Args:
        federation: The federation.
        plugins: Those of the run, the aggregator among them.
        folder: The run.
        record: What it says of the model.
        task: Holds the model.
        data: Says how images are prepared.
        choice: What to write.
        output: Where to; see ``check_output``.

    Returns:
        What there is to say, sentence by sentence.

    Raises:
        ConfigError: If it cannot be written.
        ExportError: If what was written is another model.
    """
    network = _segmentation(task)
    preparation = preparation_of(data)
    graph = graph_of(network, preparation)
    about = describe(network, graph, data, _origin(record))
    privacy = ledger(federation, plugins, record, folder)
    text = card(record, about, privacy, _opening(choice))
    if choice == "card":
        make_folder(output.parent)
        write_bytes(output, text.encode())
        return [f"{output} is the model card; lines with FILL IN wait for you"]
    model = Exportable(network, graph, preparation, about, text, is_of_volumes(data))
    return write_model(FORMATS[choice], model, output)


def write_model(format: Format, model: Exportable, output: Path) -> list[str]:
    """Writes a model into a folder that is there as a whole or not at all; returns what there is to say.

    Raises:
        ConfigError: If the format cannot hold it.
        ExportError: If what was written is another model.
    """
    format.check(model)
    with staged(output) as part:
        (part / format.file).parent.mkdir(parents=True, exist_ok=True)
        format.write(model, part)
        found = _tried(format, model, part)
        found.check(format.file)
        about = {**model.about, "file": _file(format, part), "comparison": _compared(found)}
        (part / DESCRIPTION).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        (part / NAME).write_text(model.card)
    sizes = ", ".join("x".join(map(str, size)) for size in found.sizes)
    return [
        f"{output / format.file} was opened again and gives the network's logits: the largest difference is "
        f"{found.difference:.2g}, {TOLERANCE:g} are allowed (batch x height x width {sizes})",
        f"{output / DESCRIPTION} says what it must be given, {output / NAME} where it is from",
    ]


def _tried(format: Format, model: Exportable, folder: Path) -> Comparison:
    """Opens a file again and compares it, whatever the program that it is for makes of it."""
    try:
        return compare(model.graph, format.reopen(model, folder), model.task.stride)
    except ExportError:
        raise
    except Exception as error:  # as many kinds as there are programs
        raise ExportError(
            f"{format.file} cannot be run at every size ({first_words(error)}). It is not kept; choose another format."
        ) from error


def _segmentation(task: FederatedModule) -> SegmentationTask:
    if not isinstance(task, SegmentationTask):
        raise ConfigError(f"model must be a SegmentationTask, got {type(task).__name__}. Other tasks are not exported.")
    if task.harmonisers:
        names = " and ".join(plugin.instance_id for plugin, _ in task.harmonisers)
        raise ConfigError(
            f"{names} changes every image before the network sees it, which no exported format can. "
            "Use fedlight predict, or export a run without it."
        )
    return task


def _origin(record: Record) -> dict[str, Any]:
    return {
        "method": record.facts.get("method"),
        "round": record.round,
        "which": record.which,
        "site": record.site,
        "trained_with": dict(record.versions),
    }


def _opening(choice: Choice) -> str:
    if choice == "card":
        return "Type fedlight predict --run RUN --input DIR --output DIR, or fedlight export for other programs."
    return f"The network is {FORMATS[choice].file}. {DESCRIPTION} says what follows as values that programs read."


def _file(format: Format, folder: Path) -> dict[str, Any]:
    data = (folder / format.file).read_bytes()
    return {"name": format.file, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _compared(found: Comparison) -> dict[str, Any]:
    return {
        "largest_difference": found.difference,
        "tolerance": TOLERANCE,
        "sizes": [list(size) for size in found.sizes],
        "input": "random images, the same at every export",
    }
