"""Factories of optimizers and schedulers that survive copying and pickling.

jsonargparse wraps a class that a config names in an object of its own, which drags the whole command line along when
the task is copied for a client or sent to a process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

Factory = TypeVar("Factory", bound=Callable[..., Any])


def unwrapped(factory: Factory) -> Factory:
    """Returns a factory that jsonargparse made as a plain ``functools.partial`` of its class; any other as it is.

    >>> from torch.optim import SGD
    >>> unwrapped(partial(lambda cls, *params, **settings: cls(*params, **settings), SGD, lr=0.1)).func.__name__
    'SGD'
    """
    if not isinstance(factory, partial) or isinstance(factory.func, type) or not factory.args:
        return factory
    target = factory.args[-1]
    return partial(target, **factory.keywords) if isinstance(target, type) else factory  # type: ignore[return-value]
