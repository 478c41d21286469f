"""``inference.json`` of a MONAI bundle: from image files to masks of their size, as ``fedlight predict`` does it.

What MONAI has no transform for with the same result is written as an expression: scaling with torch's antialiasing,
statistics of the image as it was read, windows no larger than the image.
"""

from __future__ import annotations

from typing import Any

from fedlight.data.preparation import HIGH, LOW, Preparation
from fedlight.tasks import SegmentationTask

_STATISTICS = {
    "z-score": ("x.mean((1, 2), keepdim=True)", "x.std((1, 2), correction=0, keepdim=True)"),
    "percentile": (f"@level(x, {LOW})", f"@level(x, {HIGH}) - @level(x, {LOW})"),
}
"""Shift and spread of an image, by the names of ``data.normalise``; a spread of 0 counts as 1."""


def inference(task: SegmentationTask, preparation: Preparation) -> dict[str, Any]:
    """Returns the file's content."""
    return {
        "imports": ["$import glob", "$import numpy as np", "$import torch", "$import torch.nn.functional as F"],
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "dataset_dir": "FILL IN: folder of images",
        "output_dir": "$@bundle_root + '/eval'",
        "endings": ["png", "jpg", "jpeg", "bmp"],
        "datalist": "$sorted(path for end in @endings for path in glob.glob(@dataset_dir + '/*.' + end))",
        "full_range": 255,  # 65535 for images of 16 bits
        **_sizes(task, preparation),
        "network_def": "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device)",
        "network": "$@network_def.to(@device).eval()",
        "preprocessing": {"_target_": "Compose", "transforms": _before(preparation)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": _inferer(task),
        "postprocessing": {"_target_": "Compose", "transforms": _after(task, preparation)},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "evaluating": ["$@evaluator.run()"],
    }


def _sizes(task: SegmentationTask, preparation: Preparation) -> dict[str, Any]:
    """Names what the expressions below refer to."""
    window = (task.window, task.window) if isinstance(task.window, int) else task.window
    named: dict[str, Any] = {"multiple": task.stride, "window": None if window is None else list(window)}
    if preparation.normalise == "percentile":
        named["level"] = (
            "$lambda x, share: torch.as_tensor(np.quantile(x.numpy(), share, axis=(1, 2), keepdims=True, "
            "method='inverted_cdf'), dtype=x.dtype)"
        )
    if preparation.grid is not None:
        named["grid"] = list(preparation.grid)
        # (height, width) that an image of a size has on the grid
        named["content"] = (
            "$lambda size: [max(1, round(int(side) * min(@grid[0] / int(size[0]), @grid[1] / int(size[1])))) "
            "for side in size]"
        )
    return named


def _before(preparation: Preparation) -> list[Any]:
    return [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Transposed", "keys": "image", "indices": [0, 2, 1]},  # MONAI reads (width, height)
        _on("x.float() / @full_range"),
        "$lambda d: {**d, 'size': list(d['image'].shape[1:])}",
        *_measured(preparation),
        *(_boxed() if preparation.grid is not None else []),
        *_normalised(preparation),
        {"_target_": "EnsureTyped", "keys": "image"},
    ]


def _measured(preparation: Preparation) -> list[str]:
    """Takes statistics of the whole image, before anything is scaled or padded."""
    if preparation.normalise == "none":
        return []
    shift, spread = _STATISTICS[preparation.normalise]
    return [_with("shift", shift), _with("spread", spread)]


def _normalised(preparation: Preparation) -> list[str]:
    if preparation.normalise == "none":
        return []
    clip = ".clamp(0, 1)" if preparation.normalise == "percentile" else ""
    return [_on(f"((x - d['shift']) / d['spread'].where(d['spread'] > 0, 1)){clip}")]


def _boxed() -> list[str]:
    """Scales by one factor, rounds to levels, pads to the right and below with 0."""
    return [
        _on("F.interpolate(x[None], size=@content(d['size']), mode='bilinear', antialias=True)[0]"),
        _on("(x * @full_range).round().clamp(0, @full_range) / @full_range"),
        _on("F.pad(x, (0, @grid[1] - x.shape[2], 0, @grid[0] - x.shape[1]))"),
    ]


def _inferer(task: SegmentationTask) -> str:
    """Slides a window that is never larger than the image, and pads what goes into the network."""
    padded = "F.pad(x, (0, -x.shape[3] % @multiple, 0, -x.shape[2] % @multiple), mode='replicate')"
    network = f"lambda x: network({padded})[..., :x.shape[2], :x.shape[3]]"
    if task.window is None:
        return f"$lambda inputs, network, *_, **__: ({network})(inputs)"
    roi = "[min(side, n) for side, n in zip(@window, inputs.shape[2:])]"
    return (
        f"$lambda inputs, network, *_, **__: monai.inferers.sliding_window_inference(inputs, {roi}, "
        f"{task.window_batch}, {network}, overlap={task.overlap}, mode='gaussian')"
    )


def _after(task: SegmentationTask, preparation: Preparation) -> list[Any]:
    activation = {"sigmoid": True} if task.binary else {"softmax": True}
    decision = {"threshold": 0.5} if task.binary else {"argmax": True}
    return [
        {"_target_": "Activationsd", "keys": "pred", **activation},
        *([] if preparation.grid is None else [_restored()]),
        {"_target_": "AsDiscreted", "keys": "pred", **decision},
        {"_target_": "Transposed", "keys": "pred", "indices": [0, 2, 1]},  # MONAI writes (width, height)
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "meta_keys": "image_meta_dict",
            "output_dir": "@output_dir",
            "output_ext": ".png",
            "output_dtype": "$np.uint8",
            "resample": False,
            "scale": 255 if task.binary else None,
        },
    ]


def _restored() -> str:
    shown = "d['pred'][None, :, :@content(d['size'])[0], :@content(d['size'])[1]]"
    size = "[int(side) for side in d['size']]"
    return f"$lambda d: {{**d, 'pred': F.interpolate({shown}, size={size}, mode='bilinear')[0]}}"


def _on(expression: str) -> str:
    """Replaces an image x of the dictionary d, (C, H, W)."""
    return f"$lambda d: {{**d, 'image': (lambda x: {expression})(d['image'])}}"


def _with(name: str, expression: str) -> str:
    """Adds what is taken of an image x."""
    return f"$lambda d: {{**d, {name!r}: (lambda x: {expression})(d['image'])}}"
