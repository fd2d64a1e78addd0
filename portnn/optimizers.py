"""Optimizers: how a step turns gradients into new parameters.

An optimizer has three methods. ``slots(parameters)`` makes what it remembers from step to step, a dict of lists;
``hyper(step)`` gives this step's numbers, computed on the host as Python floats; ``update`` calculates, without
branching on any of those numbers, since a captured step reads them from device memory.
"""

from collections.abc import Callable
from math import isfinite
from typing import Any

from portnn.backend import namespace

Array = Any
Slots = dict[str, list[Array]]
LearningRate = float | Callable[[int], float]


class SGD:
    """Stochastic gradient descent: w <- w - lr * dE/dw, with momentum v <- momentum * v + dE/dw, w <- w - lr * v.

    ``learning_rate``: a number >= 0, or a schedule, any function of the number of updates made so far. ``momentum`` in
    [0, 1); ``nesterov`` steps along dE/dw + momentum * v instead. PyTorch's form: the first v is the gradient itself.

    Source: I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    >>> SGD(0.1).hyper(0)
    (0.1,)
    """

    def __init__(self, learning_rate: LearningRate, *, momentum: float = 0.0, nesterov: bool = False):
        self.learning_rate = check_learning_rate(learning_rate)
        if isinstance(momentum, (str, bytes, bool)) or not hasattr(momentum, "__float__"):
            raise TypeError(f"momentum must be a number in [0, 1), got {momentum!r}")
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must be in [0, 1), got {momentum!r}")
        if nesterov and momentum == 0.0:
            raise ValueError("nesterov=True needs a momentum, such as SGD(0.1, momentum=0.9, nesterov=True)")
        self.momentum = float(momentum)
        self.nesterov = nesterov

    def slots(self, parameters: list[Array]) -> Slots:
        if self.momentum == 0.0:
            return {}
        return {"velocity": [namespace(w).zeros_like(w) for w in parameters]}  # so the first v is the first gradient

    def hyper(self, step: int) -> tuple[float, ...]:
        return (rate_at(self.learning_rate, step),)

    def update(
        self, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[Any, ...]
    ) -> tuple[list[Array], Slots]:
        (lr,) = hyper
        if self.momentum == 0.0:
            return [w - lr * g for w, g in zip(parameters, gradients, strict=True)], {}
        velocity = [self.momentum * v + g for v, g in zip(slots["velocity"], gradients, strict=True)]
        along = velocity
        if self.nesterov:
            along = [g + self.momentum * v for g, v in zip(gradients, velocity, strict=True)]
        return [w - lr * d for w, d in zip(parameters, along, strict=True)], {"velocity": velocity}

    def __repr__(self) -> str:
        extras = f", momentum={self.momentum}" if self.momentum else ""
        return f"SGD({self.learning_rate}{extras}{', nesterov=True' if self.nesterov else ''})"


def check_learning_rate(learning_rate: Any) -> LearningRate:
    """Returns the learning rate as a float, or the schedule as it is; ValueError or TypeError otherwise."""
    if callable(learning_rate):
        return learning_rate
    return check_number(learning_rate)


def check_number(learning_rate: Any) -> float:
    """Returns the learning rate as a Python float, if it is a number, finite and not negative."""
    if isinstance(learning_rate, (str, bytes, bool)):
        raise TypeError(
            f"learning_rate must be a number, or a schedule (a function of the step), got {learning_rate!r}"
        )
    try:
        rate = float(learning_rate)
    except OverflowError:
        raise ValueError("learning_rate must be finite, got a number too large for a float") from None
    except (TypeError, ValueError):
        raise TypeError(
            f"learning_rate must be a number, or a schedule (a function of the step), got {learning_rate!r}"
        ) from None
    if not (isfinite(rate) and rate >= 0.0):
        raise ValueError(f"learning_rate must be finite and not negative, got {learning_rate!r}")
    return rate


def rate_at(learning_rate: LearningRate, step: int) -> float:
    """The learning rate of update number ``step``, a Python float (a NumPy scalar would promote float32 arrays)."""
    if not callable(learning_rate):
        return learning_rate
    rate = learning_rate(step)
    try:
        return check_number(rate)
    except (TypeError, ValueError) as error:
        raise type(error)(f"the schedule gave {rate!r} for step {step}: {error}") from None
