"""Names for the places in a network that plugins look at or change.

The places are found by tracing one small forward pass, so they hold for any encoder whose features are outputs of
submodules. A name that cannot be given (a feature that no single submodule returns, a module that runs several times
in a forward pass) is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

SIZES = (64, 256)  # PAN pools three times below stride 16 and refuses the first


@dataclass
class _Trace:
    """What every submodule returned, in the order in which they finished."""

    calls: Counter[str] = field(default_factory=Counter)
    outputs: list[tuple[str, Any]] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)


def find_stages(network: nn.Module, in_channels: int) -> dict[str, str]:
    """Maps stage names to submodules' names for a network of segmentation_models_pytorch.

    Args:
        network: Has ``encoder`` (returns a list of features), ``decoder`` and ``segmentation_head``. It is left as it
            is: modes, buffers and random numbers are untouched.
        in_channels: Channels of an image.

    Returns:
        "input" -> "", "encoder1", ... (fine to coarse), "bottleneck", "decoder1", ... (in the order in which they run),
        "decoder" (its result, which the head gets), "logits".
    """
    images, _ = probe(network, in_channels)
    with undisturbed(network):
        trace = _run(network, images)
        places = {"input": "", **_encoder_stages(network, images, trace), **_decoder_stages(network, trace)}
        places |= {"decoder": "decoder", "logits": "segmentation_head"}
    return {stage: place for stage, place in places.items() if not place or trace.calls[place] == 1}


def probe(network: nn.Module, in_channels: int) -> tuple[Tensor, Tensor]:
    """Returns a blank image (1, C, S, S), as small as the network accepts, and its logits, leaving no trace."""
    parameter = next(network.parameters())
    small, large = (torch.zeros(1, in_channels, s, s, dtype=parameter.dtype, device=parameter.device) for s in SIZES)
    with undisturbed(network):
        try:
            return small, network(small)
        except (RuntimeError, ValueError):
            return large, network(large)


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Runs a block in evaluation mode without gradients and gives every module its own mode back."""
    modes = [(module, module.training) for module in network.modules()]
    for module, _ in modes:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _run(network: nn.Module, images: Tensor) -> _Trace:
    trace = _Trace()

    def note(name: str, output: Any) -> None:
        trace.calls[name] += 1
        trace.outputs.append((name, output))
        if name == "encoder":
            trace.features = list(output)

    hooks = [
        module.register_forward_hook(lambda _, args, output, name=name: note(name, output))
        for name, module in network.named_modules()
        if name
    ]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return trace


def _encoder_stages(network: nn.Module, images: Tensor, trace: _Trace) -> dict[str, str]:
    features = trace.features
    stages = {}
    for index in range(1, len(features)):
        stage = "bottleneck" if index == len(features) - 1 else f"encoder{index}"
        candidates = [name for name, output in trace.outputs if output is features[index] and name != "encoder"]
        place = next((name for name in reversed(candidates) if _carries(network, images, name, index)), None)
        if place is not None and features[index].numel():
            stages[stage] = place
    return stages


def _carries(network: nn.Module, images: Tensor, name: str, index: int) -> bool:
    """Says whether a hook on a submodule decides what a feature of the encoder is.

    An activation of the next stage that works in place returns the very same tensor, but comes too late.
    """
    encoder: Any = network.get_submodule("encoder")
    replaced: list[Tensor] = []

    def replace(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        replaced.append(output.clone())
        return replaced[-1]

    hook = network.get_submodule(name).register_forward_hook(replace)
    try:
        feature = encoder(images)[index]
        return any(feature is tensor for tensor in replaced)
    finally:
        hook.remove()


def _decoder_stages(network: nn.Module, trace: _Trace) -> dict[str, str]:
    blocks = getattr(network.decoder, "blocks", None)
    names = (
        {f"decoder.blocks.{name}" for name, _ in blocks.named_children()} if isinstance(blocks, nn.Module) else set()
    )
    ordered = [name for name, output in trace.outputs if name in names and isinstance(output, Tensor)]
    return {f"decoder{i + 1}": name for i, name in enumerate(dict.fromkeys(ordered) or ["decoder"])}
