"""FedAdagrad, FedAdam, FedYogi: an adaptive optimizer at the server (Reddi et al., arXiv 2003.00295, Algorithm 2).

The mean update of a round is taken for a gradient, and the server makes one step of Adagrad, Adam or Yogi along it. A
parameter that moves little from round to round then moves as far as one that moves much.

    delta_t = sum_k p_k (w_t^k - w_t)                          m_t = beta1 m_{t-1} + (1 - beta1) delta_t
    v_t = v_{t-1} + delta_t^2                                                                   FedAdagrad
    v_t = beta2 v_{t-1} + (1 - beta2) delta_t^2                                                 FedAdam
    v_t = v_{t-1} - (1 - beta2) delta_t^2 sign(v_{t-1} - delta_t^2)                             FedYogi
    w_{t+1} = w_t + server_lr m_t / (sqrt(v_t) + tau)                    m_0 = 0, v_0 = v_init

Shared: nothing. Privacy: as FedAvg. Secure aggregation: yes, only the mean is needed. Cost: 1.00 times FedAvg's time;
the server keeps two more models. Settings that matter: ``server_lr`` decides, together with ``tau``; the paper searches
both, 1e-3 to 10 and 1e-5 to 1e-1. About the step that sites make to a parameter in a round is a good start for
server_lr. tau = server_lr -> infinity with v_init 0 and beta1 0 is FedAvg.

Released code: Flower 1.41's FedAdam corrects for bias, with t+1 in place of t, and starts with v_0 = 0.

Deviations: v_init is tau^2 as in the paper's experiments (Algorithm 2 asks for at least that) unless it is given. The
paper has no bias correction; ``bias_correction`` offers Adam's, server_lr sqrt(1 - beta2^t) / (1 - beta1^t) in round t.
FedAdagrad's beta1 is 0 as in the paper's experiments. The last line is computed as mean + (step - delta_t), the same
sum in another order, which has FedAvg's bits where the step is delta_t. Buffers are averaged.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedlight.plugins.averaging import AveragingAggregator
from fedlight.state import State, zip_map


class _ServerOptimizer(AveragingAggregator):
    """What the three have in common: everything but the second moment."""

    linear = True
    averages = False
    null: ClassVar[Mapping[str, Any]] = {"beta1": 0.0, "server_lr": 1e12, "tau": 1e12, "v_init": 0.0}

    def __init__(
        self,
        server_lr: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.99,
        tau: float = 1e-3,
        v_init: float | None = None,
        bias_correction: bool = False,
    ) -> None:
        self.server_lr = server_lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.tau = tau
        self.v_init = v_init
        self.bias_correction = bias_correction
        self._rounds = 0
        self._m: State = {}
        self._v: State = {}

    def validate(self) -> None:
        for name, value in (("beta1", self.beta1), ("beta2", self.beta2)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}. The paper uses 0.9 and 0.99.")
        for name, value in (("server_lr", self.server_lr), ("tau", self.tau)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}. Try server_lr 0.01 and tau 0.001.")
        if self.v_init is not None and not self.v_init >= 0:
            raise ValueError(f"v_init must not be negative, got {self.v_init}. Leave it out for tau^2.")

    @abstractmethod
    def second_moment(self, v: Tensor, delta: Tensor) -> Tensor:
        """Returns v_t from v_{t-1} and the mean update."""

    def step(self, start: State, mean: State) -> State:
        delta = zip_map(torch.sub, mean, start)
        v_init = self.tau**2 if self.v_init is None else self.v_init
        m = self._m or zip_map(torch.zeros_like, delta)
        v = self._v or zip_map(lambda d: torch.full_like(d, v_init), delta)
        self._rounds += 1
        self._m = zip_map(lambda m, d: self.beta1 * m + (1 - self.beta1) * d, m, delta)
        self._v = zip_map(self.second_moment, v, delta)
        return zip_map(self._next, mean, delta, self._m, self._v)

    def _next(self, mean: Tensor, delta: Tensor, m: Tensor, v: Tensor) -> Tensor:
        step = self._rate() / (v.sqrt() + self.tau) * m
        return mean + (step - delta)

    def _rate(self) -> float:
        if not self.bias_correction:
            return self.server_lr
        return float(self.server_lr * (1 - self.beta2**self._rounds) ** 0.5 / (1 - self.beta1**self._rounds))

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self._rounds, "m": dict(self._m), "v": dict(self._v)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._rounds, self._m, self._v = state["rounds"], dict(state["m"]), dict(state["v"])


class FedAdam(_ServerOptimizer):
    """Makes a step of Adam along the mean update.

    Args:
        server_lr: Length of the server's step.
        beta1: How much of the first moment is kept, in [0, 1).
        beta2: How much of the second moment is kept, in [0, 1).
        tau: Adaptivity; added to the root of the second moment.
        v_init: What the second moment starts from; tau^2 if left out.
        bias_correction: Whether to correct the moments for their start, which the paper does not.
    """

    def second_moment(self, v: Tensor, delta: Tensor) -> Tensor:
        return self.beta2 * v + (1 - self.beta2) * delta.square()


class FedYogi(_ServerOptimizer):
    """Makes a step of Yogi along the mean update: the second moment moves by a step that does not depend on its size.

    Args:
        server_lr: Length of the server's step.
        beta1: How much of the first moment is kept, in [0, 1).
        beta2: How slowly the second moment changes, in [0, 1).
        tau: Adaptivity; added to the root of the second moment.
        v_init: What the second moment starts from; tau^2 if left out.
        bias_correction: Whether to correct the moments for their start, which the paper does not.
    """

    def second_moment(self, v: Tensor, delta: Tensor) -> Tensor:
        return v - (1 - self.beta2) * delta.square() * torch.sign(v - delta.square())


class FedAdagrad(_ServerOptimizer):
    """Makes a step of Adagrad along the mean update.

    Args:
        server_lr: Length of the server's step.
        beta1: How much of the first moment is kept, in [0, 1).
        tau: Adaptivity; added to the root of the second moment.
        v_init: What the second moment starts from; tau^2 if left out.
    """

    def __init__(
        self, server_lr: float = 0.01, beta1: float = 0.0, tau: float = 1e-3, v_init: float | None = None
    ) -> None:
        super().__init__(server_lr=server_lr, beta1=beta1, tau=tau, v_init=v_init)

    def second_moment(self, v: Tensor, delta: Tensor) -> Tensor:
        return v + delta.square()
