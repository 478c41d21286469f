"""A network with rounded corners, through which an attacker searches: slopes see no jump.

The gradient of a network with ReLU jumps wherever a unit is switched on or off, and no derivative of it knows of that:
a search by slopes then goes astray even from next to the truth. Softplus has the same shape and no corner. What the
attacker has observed is of the true network; at the true image the two gradients point nearly the same way.
"""

from __future__ import annotations

import copy

from torch import nn

from fedlight.tasks.federated_module import FederatedModule

SHARPNESS = 20.0
"""Of softplus; its corner is about 1 / 20 wide, and what comes to it has a spread of about 1 behind a normalisation."""


def rounded(module: FederatedModule) -> FederatedModule:
    """Returns a copy of a task whose network has softplus in place of ReLU; other activations stay."""
    twin = copy.deepcopy(module)
    for parent in list(twin.network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus(beta=SHARPNESS))
    return twin
