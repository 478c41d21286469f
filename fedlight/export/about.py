"""What whoever uses an exported network must know to use it as ``fedlight predict`` would, as plain values.

The graph holds the network and its normalisation. What is outside it is here: how a file becomes an image in [0, 1],
grid, windows and padding, and what logits mean.
"""

from __future__ import annotations

from typing import Any

from fedlight import __version__
from fedlight.data.federated import FederatedDataModule
from fedlight.data.preparation import Preparation
from fedlight.export.graph import GRAPHS, Graph, Plain
from fedlight.tasks import SegmentationTask


def preparation_of(data: FederatedDataModule) -> Preparation | None:
    """Returns what a data module makes of images, if it says so as fedlight's own do."""
    found = getattr(data, "preparation", None)
    return found if isinstance(found, Preparation) else None


def graph_of(task: SegmentationTask, preparation: Preparation | None) -> Graph:
    """Puts normalisation in front of a task's network, in evaluation mode."""
    kind = Plain if preparation is None else GRAPHS[preparation.normalise]
    neighbours = 1 if preparation is None else 2 * preparation.context + 1
    return kind(task.network, task.in_channels, neighbours).eval()


def is_of_volumes(data: FederatedDataModule) -> bool:
    """Says whether settings are those of volumes; where none is set, files decide, which are not looked at."""
    named = ("context", "spacing", "intensity_window", "foreground_slices")
    return any(getattr(data, name, None) for name in named)


def describe(task: SegmentationTask, graph: Graph, data: FederatedDataModule, run: dict[str, Any]) -> dict[str, Any]:
    """Returns the description that goes with every file.

    Args:
        task: Holds the network.
        graph: The network with normalisation in front of it.
        data: Says how images are prepared.
        run: Where the network is from.
    """
    return {
        "made_by": f"fedlight {__version__}",
        "run": run,
        "inputs": _inputs(task, graph),
        "outputs": {"logits": {"shape": ["batch", _logits(task), "height", "width"], "dtype": "float32"}},
        "classes": list(task.classes),
        "decision": _decision(task),
        "preparation": _preparation(data),
        "inference": _inference(task),
        "steps": [*_before(data), *_around(task), *_after(task)],
        "harmonisation": [],  # what harmonises images is refused: it is in no graph
        "network": {"class_path": f"{type(task).__module__}.{type(task).__qualname__}", "settings": task.settings()},
    }


def _inputs(task: SegmentationTask, graph: Graph) -> dict[str, Any]:
    images = {
        "shape": ["batch", task.in_channels, "height", "width"],
        "dtype": "float32",
        "range": [0, 1],
        "multiple_of": task.stride,
    }
    shape = ["batch", graph.channels // graph.neighbours]
    return {
        "images": images,
        **{name: {"shape": shape, "dtype": "float32", "is": what} for name, what in graph.statistics.items()},
    }


def _logits(task: SegmentationTask) -> int:
    return 1 if task.binary else len(task.classes)


def _decision(task: SegmentationTask) -> dict[str, Any]:
    if task.binary:
        return {"activation": "sigmoid", "threshold": 0.5, "above": task.classes[1], "else": task.classes[0]}
    return {"activation": "softmax", "rule": "argmax", "order": list(task.classes)}


def _preparation(data: FederatedDataModule) -> dict[str, Any]:
    known = preparation_of(data)
    if known is None:
        return {"unknown": f"{type(data).__name__} does not say how it prepares images"}
    return {
        "channels": known.channels,
        "levels": {"8 bit": 255, "16 bit": 65535},
        "normalise": known.normalise,
        "placing": known.placing,
        "grid": None if known.grid is None else list(known.grid),
        "volumes": {
            "axis": getattr(data, "axis", None),
            "intensity_window": _listed(getattr(data, "intensity_window", None)),
            "spacing_mm": _listed(known.spacing),
            "context": known.context,
        },
    }


def _inference(task: SegmentationTask) -> dict[str, Any]:
    window = (task.window, task.window) if isinstance(task.window, int) else task.window
    return {
        "window": _listed(window),
        "overlap": task.overlap,
        "blending": "gaussian, of logits",
        "padding": "last pixel repeated, to the right and below, to the next multiple; cut off again from the logits",
    }


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


# --- the same in sentences, in their order ---------------------------------------------------------------------------


def _before(data: FederatedDataModule) -> list[str]:
    known = preparation_of(data)
    if known is None:
        return [f"Prepare an image as {type(data).__name__} does; it does not say how."]
    said = [f"Read an image with {known.channels} channel(s); divide 8-bit levels by 255 and 16-bit levels by 65535."]
    if known.channels == 1:
        said.append(_of_volumes(data, known))
    if known.normalise != "none":
        named = " and ".join(GRAPHS[known.normalise].statistics)
        said.append(f"Take {named} over all pixels now (of a volume, over all slices); the graph normalises by them.")
    if known.grid is not None:
        height, width = known.grid
        said.append(
            f"Scale it by one factor to fit {height}x{width} (bilinear, antialiased, rounded to levels), put it into "
            "the top left corner and fill the rest with 0."
        )
    return said


def _of_volumes(data: FederatedDataModule, known: Preparation) -> str:
    window = getattr(data, "intensity_window", None)
    limits = "its least and greatest intensity" if window is None else f"{window[0]:g} and {window[1]:g}"
    said = f"Of a volume, take {getattr(data, 'axis', 'axial')} slices and bring {limits} to 0 and 1, cut off beyond."
    if known.context:
        said += (
            f" Neighbours are further channels: {known.context} before and after; beyond an end, the end is repeated."
        )
    if known.spacing is not None:
        said += f" Resample slices to {known.spacing[0]:g}x{known.spacing[1]:g} mm (bilinear, antialiased)."
    return said


def _around(task: SegmentationTask) -> list[str]:
    window = _inference(task)["window"]
    said = []
    if window is not None:
        said.append(
            f"Where an image is larger than {window[0]}x{window[1]}, slide a window of that size over it with overlap "
            f"{task.overlap:g} and blend logits with Gaussian weights."
        )
    return [
        *said,
        f"Pad what goes into the network to multiples of {task.stride}, repeating the last pixel; cut logits.",
    ]


def _after(task: SegmentationTask) -> list[str]:
    if task.binary:
        decision = f"A sigmoid above 0.5 is {task.classes[1]}."
    else:
        decision = "A softmax gives probabilities; the largest is the class."
    return [
        "Cut off what the grid was filled with, and bring probabilities to the size of the file (bilinear), if it was "
        f"scaled. {decision}"
    ]
