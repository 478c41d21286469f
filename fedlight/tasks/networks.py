"""Builds a network of segmentation_models_pytorch from what a config says."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import segmentation_models_pytorch as smp
from torch import nn

from fedlight.tasks import encoders, weights
from fedlight.tasks.normalization import use_group_norm
from fedlight.tasks.stages import probe

Norm = Literal["group", "batch"]


def build_network(
    architecture: str,
    encoder: str,
    encoder_weights: str | None,
    encoder_depth: int | None,
    decoder_channels: Sequence[int] | None,
    in_channels: int,
    logits: int,
    norm: Norm,
) -> nn.Module:
    """Returns a network that maps images (N, in_channels, H, W) to logits (N, logits, H, W).

    Raises:
        ValueError: If a name is unknown, the parts do not fit together or weights cannot be had.
    """
    encoders.register()
    kind = _architecture(architecture)
    _check_encoder(encoder, encoder_weights)
    settings = {"encoder_name": encoder, "in_channels": in_channels, "classes": logits}
    settings |= _settings(kind, encoder, encoder_depth, decoder_channels)
    from_file = encoder_weights is not None and weights.is_file(encoder_weights)
    network = _sized(kind, settings, None if from_file else encoder_weights, in_channels)
    if encoder_weights is not None and from_file:
        weights.load_encoder(network.get_submodule("encoder"), Path(encoder_weights), needs_statistics=norm == "batch")
    if norm == "group":
        use_group_norm(network)
    return network


def _architecture(name: str) -> Any:
    names = sorted(n for n, kind in vars(smp).items() if inspect.isclass(kind) and issubclass(kind, nn.Module))
    if name not in names:
        raise ValueError(f"architecture must be one of {', '.join(names)}, got {name}. Name one of these.")
    return getattr(smp, name)


def _settings(
    architecture: Any, encoder: str, depth: int | None, decoder_channels: Sequence[int] | None
) -> dict[str, Any]:
    """Chooses depth and decoder widths that suit the encoder, where the architecture has such settings."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(architecture).parameters.items()}
    plain = encoder in encoders.NAMES
    depth = depth or (encoders.DEPTH if plain else defaults["encoder_depth"])
    settings: dict[str, Any] = {"encoder_depth": depth}
    widths = defaults.get("decoder_channels")
    if decoder_channels is not None:
        settings["decoder_channels"] = _as_asked(decoder_channels, widths)
    elif isinstance(widths, tuple):
        settings["decoder_channels"] = encoders.decoder_channels(encoder, depth) if plain else widths[-depth:]
    return settings


def _as_asked(channels: Sequence[int], default: Any) -> Sequence[int] | int:
    """Architectures take one width a block, or a single width."""
    if isinstance(default, tuple):
        return tuple(channels)
    if isinstance(default, int) and len(channels) == 1:
        return channels[0]
    raise ValueError(
        f"decoder_channels must suit the architecture, got {list(channels)}. Leave it out for the default."
    )


def _sized(kind: Any, settings: dict[str, Any], hub_weights: str | None, in_channels: int) -> nn.Module:
    """Makes a network whose logits have the size of the image: encoders differ in the stride of their features."""
    network = _make(kind, settings, hub_weights)
    scale = _output_scale(network, in_channels)
    upsampling = inspect.signature(kind).parameters.get("upsampling")
    if scale != 1 and upsampling is not None and upsampling.default:
        network = _make(kind, {**settings, "upsampling": upsampling.default / scale}, hub_weights)
        scale = _output_scale(network, in_channels)
    if scale != 1:
        raise ValueError(
            f"encoder must suit the architecture, got {settings['encoder_name']} for {kind.__name__}: its first "
            "features have another stride than the decoder expects. Use Unet or FPN, or an encoder such as resnet18."
        )
    return network


def _output_scale(network: nn.Module, in_channels: int) -> float:
    images, logits = probe(network, in_channels)
    return logits.shape[-1] / images.shape[-1]


def _make(kind: Any, settings: dict[str, Any], hub_weights: str | None) -> nn.Module:
    encoder = settings["encoder_name"]
    try:
        return kind(encoder_weights=hub_weights, **settings)  # type: ignore[no-any-return]
    except Exception as error:
        if hub_weights is not None:
            raise ValueError(
                f"encoder_weights {hub_weights} of {encoder} could not be had from the hub ({type(error).__name__}). "
                "Name a local file (.safetensors or .pt) instead, or leave encoder_weights out."
            ) from error
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"encoder {encoder} does not make a {kind.__name__} with encoder_depth {settings['encoder_depth']} and "
            f"decoder_channels {settings.get('decoder_channels', 'left out')}: {reason}"
        ) from error


def _check_encoder(name: str, encoder_weights: str | None) -> None:
    """Refuses what segmentation_models_pytorch does not know; timm ("tu-...") knows its own names."""
    if name.startswith("tu-"):
        return
    known = smp.encoders.encoders
    if name not in known:
        nearest = ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.4)) or "plain-16, resnet18"
        raise ValueError(f"encoder must be one that segmentation_models_pytorch knows, got {name}. Near: {nearest}.")
    offers = sorted(known[name]["pretrained_settings"])
    if encoder_weights is not None and not weights.is_file(encoder_weights) and encoder_weights not in offers:
        raise ValueError(
            f"encoder_weights of {name} must be a local file (.safetensors or .pt) or a name that the hub has, got "
            f"{encoder_weights}. Names: {', '.join(offers) or 'none'}."
        )
