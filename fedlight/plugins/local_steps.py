"""What several steps of a local optimizer add up to."""

from __future__ import annotations

from torch.optim import SGD, Optimizer


def accumulated(steps: int, momentum: float = 0.0, prox: float = 0.0) -> float:
    """Returns ||a||_1, where a_i is what the gradient of step i contributes to the way made, in units of the rate.

    After tau steps a site has moved by -lr sum_i a_i g_i (FedNova, arXiv 2007.07481). Plain SGD has a_i = 1. With
    heavy-ball momentum rho, a_i = (1 - rho^(tau - i)) / (1 - rho) for i = 0, ..., tau - 1: a gradient acts in every
    later step too. A proximal term pulls back a share of the way in every step, so that a_i = (1 - prox)^(tau - 1 - i).

    Args:
        steps: tau, the number of steps of the round.
        momentum: rho, of torch's SGD without dampening and without Nesterov's variant.
        prox: Learning rate times mu of a proximal term mu / 2 ||w - w_t||^2.

    >>> accumulated(3), accumulated(3, momentum=0.5), accumulated(3, prox=0.5)
    (3.0, 4.25, 1.75)
    """
    velocity, way, total = 1.0, 0.0, 0.0  # of a unit gradient, step by step
    for _ in range(steps):
        way += velocity
        total += abs(way)
        velocity = momentum * velocity - prox * way
    return total


def momentum_of(optimizer: Optimizer) -> float:
    """Returns the heavy-ball momentum of SGD.

    Raises:
        ValueError: If the steps are no fixed combination of gradients (an adaptive optimizer), or one that
            ``accumulated`` does not describe.
    """
    name = type(optimizer).__name__
    if not isinstance(optimizer, SGD):
        raise ValueError(
            f"the local optimizer must be SGD, got {name}: how far an adaptive step goes says nothing about the "
            "gradient. Use torch.optim.SGD."
        )
    if len({group["momentum"] for group in optimizer.param_groups}) > 1:
        raise ValueError("the local optimizer must have one momentum, got several. Give all groups the same.")
    for setting in ("nesterov", "dampening"):
        if any(group[setting] for group in optimizer.param_groups):
            raise ValueError(f"the local optimizer must have no {setting}, got {name} with it. Leave it out.")
    return float(optimizer.param_groups[0]["momentum"])
