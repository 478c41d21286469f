"""Albumentations by name: built from plain config, applied to image, mask and valid pixels, seeded per sample."""

from __future__ import annotations

import importlib
import inspect
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fedlight.data.federated import DataError
from fedlight.data.preparation import full_range
from fedlight.data.source import Pixels
from fedlight.messages import did_you_mean

TransformConfig: TypeAlias = str | dict[str, Any]
"""A class name, or a dict with ``class_path`` and ``init_args``; names without a module are albumentations'."""


class Augmentation:
    """Random transforms that change a sample in a way that depends on its seed alone.

    Args:
        transforms: What to apply, in order.

    Raises:
        DataError: If a name or an argument is wrong.
    """

    def __init__(self, transforms: Sequence[TransformConfig]) -> None:
        self.compose = _library().Compose([_build(config) for config in transforms])

    def apply(
        self, image: Pixels, mask: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_], seed: int
    ) -> tuple[Pixels | npt.NDArray[np.float32], npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Transforms one sample; what comes in from outside the image is not valid.

        Args:
            image: (H, W, C), uint8 or uint16; 16 bits become float32 in [0, 1], which more transforms understand.
            mask: (H, W), uint8.
            valid: (H, W), bool.
            seed: Of this sample.

        Raises:
            DataError: If a transform changes size or type.
        """
        before = image if image.dtype == np.uint8 else image.astype(np.float32) / full_range(image)
        # one stream for all: `set_random_seed` would give every transform the same numbers, and flips would coincide
        self.compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        after = self.compose(image=before, masks=[mask, valid.astype(np.uint8)])
        changed = after["image"].reshape(*after["image"].shape[:2], -1)  # grey images may lose their last axis
        if changed.shape != before.shape or changed.dtype != before.dtype:
            raise DataError(_changed(before, changed))
        return changed, after["masks"][0], after["masks"][1].astype(np.bool_)


def _changed(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> str:
    return (
        f"data.transforms turned an image of {before.shape} {before.dtype} into {after.shape} {after.dtype}, but sizes "
        "and types must stay. Use data.image_size or data.patch_size and data.normalise instead."
    )


def _library() -> Any:
    # else importing it asks the network for a newer version
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    return importlib.import_module("albumentations")


def _build(config: Any) -> Any:
    path = config["class_path"] if isinstance(config, Mapping) and "class_path" in config else config
    if not isinstance(path, str):
        raise DataError(f"data.transforms has an entry {config!r}. Give a class name, or class_path and init_args.")
    known = _known(path)
    init_args = config.get("init_args") or {} if isinstance(config, Mapping) else {}
    _check_arguments(path, known, init_args)
    try:
        return known(**{name: _nested(value) for name, value in init_args.items()})
    except (TypeError, ValueError) as error:
        raise DataError(f"data.transforms: {path} refuses its arguments {init_args}: {_one_line(error)}") from error


def _nested(value: Any) -> Any:
    if isinstance(value, Mapping) and "class_path" in value:
        return _build(value)
    if isinstance(value, list) and any(isinstance(item, Mapping) and "class_path" in item for item in value):
        return [_build(item) for item in value]
    return value


def _known(path: str) -> Any:
    module, _, name = path.rpartition(".")
    library = _library()
    try:
        found = getattr(importlib.import_module(module) if module else library, name, None)
    except ImportError as error:
        raise DataError(f"data.transforms: cannot import {path} ({error}). Install it or correct the path.") from error
    if inspect.isclass(found) and issubclass(found, (library.BasicTransform, library.BaseCompose)):
        return found
    names = [name for name, value in vars(library).items() if inspect.isclass(value)]
    raise DataError(
        f"data.transforms: {path} is not a transform. {did_you_mean(name, names)}Names without a module are those of "
        f"albumentations {library.__version__}."
    )


def _check_arguments(path: str, known: Any, init_args: Mapping[str, Any]) -> None:
    accepted = [name for name in inspect.signature(known.__init__).parameters if name != "self"]
    for name in init_args:
        if name not in accepted:
            message = f"data.transforms: {path} has no argument {name}. {did_you_mean(name, accepted)}"
            raise DataError(f"{message}It takes {', '.join(accepted)}.")


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "errors.pydantic.dev" not in line]
    return " ".join(lines).rstrip(".") + "."
