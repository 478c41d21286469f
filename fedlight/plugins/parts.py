"""Parts of a network, picked by the names and shapes of their parameters: what stays at a site is chosen so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor


def named(params: Mapping[str, Tensor], patterns: Sequence[str]) -> list[str]:
    """Returns the names in which one of some regular expressions is found.

    >>> from torch import zeros
    >>> named({"network.decoder.weight": zeros(1), "network.head.weight": zeros(1)}, ["head", r"decoder.*bias"])
    Traceback (most recent call last):
    ValueError: parts must be found in the names of parameters, got decoder.*bias. A name is network.head.weight.
    >>> named({"network.decoder.weight": zeros(1), "network.head.weight": zeros(1)}, ["head"])
    ['network.head.weight']

    Raises:
        ValueError: If one of them is not a regular expression or is found nowhere.
    """
    for pattern in patterns:
        try:
            found = any(re.search(pattern, name) for name in params)
        except re.error as error:
            raise ValueError(f"parts must be regular expressions, got {pattern} ({error}). Write head.") from error
        if params and not found:
            last = list(params)[-1]
            raise ValueError(f"parts must be found in the names of parameters, got {pattern}. A name is {last}.")
    return [name for name in params if any(re.search(pattern, name) for pattern in patterns)]


def of_normalisation(params: Mapping[str, Tensor]) -> list[str]:
    """Returns the names of the scales and shifts of normalisation layers.

    Of torch's layers they are the only ones whose weight is a vector and that have a bias too, so they are known by
    shapes alone, whatever they are called.

    >>> from torch import zeros
    >>> of_normalisation({"c.weight": zeros(4, 3, 3, 3), "c.bias": zeros(4), "n.weight": zeros(4), "n.bias": zeros(4)})
    ['n.weight', 'n.bias']
    """
    layers = {name.removesuffix("weight") for name, p in params.items() if name.endswith("weight") and p.ndim == 1}
    norms = {layer for layer in layers if f"{layer}bias" in params}
    return [name for name in params if name.removesuffix("weight") in norms or name.removesuffix("bias") in norms]
