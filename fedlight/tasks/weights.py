"""Pretrained weights of an encoder from a local file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")
_PREFIXES = ("network.encoder.", "module.encoder.", "encoder.", "module.")
_HEADS = ("fc.", "classifier.", "head.", "last_linear.", "conv_head.", "bn2.")


def is_file(weights: str) -> bool:
    """Says whether weights are named by a file rather than by a name of the hub."""
    return Path(weights).suffix in SUFFIXES


def load_encoder(encoder: nn.Module, path: Path, needs_statistics: bool) -> None:
    """Loads weights into an encoder; a first convolution for other channels is adapted, a classifier is left out.

    Args:
        encoder: Still with the normalisation that it was designed with.
        path: A state of this encoder (a checkpoint's "state_dict" entry is found), .safetensors, .pt, .pth or .ckpt.
        needs_statistics: Whether running statistics must be in the file (they do not matter under GroupNorm).

    Raises:
        ValueError: If the file is missing, holds something else or does not fit the encoder.
    """
    state = _matched(_read(path), encoder.state_dict())
    own = encoder.state_dict()
    missing = [name for name in own if name not in state and (needs_statistics or not _is_statistic(name))]
    surplus = [name for name in state if name not in own and not name.startswith(_HEADS)]
    misfits = [name for name in own if name in state and own[name].shape != state[name].shape]
    for what, names in (("lacks", missing), ("has the unknown", surplus), ("has another shape for", misfits)):
        if names:
            raise ValueError(
                f"encoder_weights must fit the encoder, but {path} {what} {names[0]} ({len(names)} such tensors). "
                "Use weights that were saved from this encoder."
            )
    encoder.load_state_dict({name: state.get(name, value) for name, value in own.items()})


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"encoder_weights must be a file that exists, got {path}. Check the path.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"encoder_weights must be a state of tensors, but {path} cannot be read as one ({type(error).__name__}). "
            "Save a state_dict with torch.save or safetensors."
        ) from error
    loaded = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor)}


def _matched(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strips the prefix of a whole model's checkpoint and adapts the first convolution."""
    prefix = next((p for p in _PREFIXES if any(name.startswith(p) for name in state)), "")
    inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return {name: _adapted(value, own[name]) if name in own else value for name, value in inner.items()}


def _adapted(weight: Tensor, own: Tensor) -> Tensor:
    """Brings a convolution over RGB to another number of input channels, keeping the size of its response."""
    same_kernel = weight.dim() == 4 and (weight.shape[0], *weight.shape[2:]) == (own.shape[0], *own.shape[2:])
    if not same_kernel or weight.shape == own.shape or weight.shape[1] != 3:
        return weight
    channels = own.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, [i % 3 for i in range(channels)]] * (3 / channels)  # (out, channels, kh, kw)


def _is_statistic(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in ("running_mean", "running_var", "num_batches_tracked")
