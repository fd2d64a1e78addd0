"""Optimizers: how a step turns gradients into new parameters, from the plain one to the popular one.

An optimizer has three methods. ``slots(parameters)`` makes what it remembers from step to step, a dict of lists;
``hyper(step)`` gives this step's numbers, computed on the host as Python floats; ``update`` calculates, without
branching on any of those numbers, since a captured step reads them from device memory.
"""

from collections.abc import Callable
from math import isfinite, sqrt
from typing import Any

from portnn.backend import namespace

Array = Any
Slots = dict[str, list[Array]]
LearningRate = float | Callable[[int], float]


class Optimizer:
    """What all optimizers share: a learning rate, and what is done to the gradients before a step.

    ``learning_rate``: a number >= 0, or a schedule, any function of the number of updates made so far.
    First ``clip_value`` bounds each element of the gradients to [-clip_value, clip_value]; then ``clip_norm`` scales
    all of them together, by clip_norm / (norm + 1e-6) where their common norm is larger than that; then weight decay
    adds weight_decay * w to each (AdamW decays the weights themselves).

    Source: R. Pascanu et al., "On the difficulty of training recurrent neural networks", 2013 (clipping by norm).
    """

    decoupled = False  # True: weight decay is none of the gradient's business

    def __init__(
        self, learning_rate: LearningRate, weight_decay: float, clip_norm: float | None, clip_value: float | None
    ):
        self.learning_rate = check_learning_rate(learning_rate)
        self.weight_decay = _in_range("weight_decay", weight_decay, 0.0)
        self.clip_norm = None if clip_norm is None else _positive("clip_norm", clip_norm)
        self.clip_value = None if clip_value is None else _positive("clip_value", clip_value)

    def slots(self, parameters: list[Array]) -> Slots:
        """What is remembered of each parameter, before the first step."""
        return {}

    def hyper(self, step: int) -> tuple[float, ...]:
        """The numbers of update number ``step``, from 0; the first is the learning rate."""
        return (rate_at(self.learning_rate, step),)

    def prepared(self, parameters: list[Array], gradients: list[Array]) -> list[Array]:
        """The gradients, clipped and with weight decay."""
        if self.clip_value is not None:
            gradients = [_clipped(g, self.clip_value) for g in gradients]
        if self.clip_norm is not None and gradients:
            xp = namespace(gradients[0])
            squares = [xp.sum(g * g) for g in gradients]
            norm = xp.sqrt(sum(squares[1:], squares[0]))
            scale = xp.minimum(self.clip_norm / (norm + 1e-6), xp.ones_like(norm))
            gradients = [g * scale for g in gradients]
        if self.weight_decay and not self.decoupled:
            gradients = [g + self.weight_decay * w for w, g in zip(parameters, gradients, strict=True)]
        return gradients

    def __repr__(self) -> str:
        usual = {"weight_decay": 0.01 if self.decoupled else 0.0}
        extras = {name: value for name, value in vars(self).items() if name != "learning_rate"}
        shown = "".join(f", {name}={value}" for name, value in extras.items() if value and value != usual.get(name))
        return f"{type(self).__name__}({self.learning_rate}{shown})"


class SGD(Optimizer):
    """Stochastic gradient descent: w <- w - lr * dE/dw, with momentum v <- momentum * v + dE/dw, w <- w - lr * v.

    ``momentum`` in [0, 1); ``nesterov`` steps along dE/dw + momentum * v instead. PyTorch's form: the first v is the
    gradient itself. The other arguments are those of every optimizer: see ``Optimizer``.

    Source: I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    >>> SGD(0.1).hyper(0)
    (0.1,)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-2,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ):
        super().__init__(learning_rate, weight_decay, clip_norm, clip_value)
        self.momentum = _in_range("momentum", momentum, 0.0, 1.0)
        if isinstance(nesterov, (str, bytes)):
            raise TypeError(f"nesterov must be True or False, got {nesterov!r}")
        if nesterov and self.momentum == 0.0:
            raise ValueError("nesterov=True needs a momentum, such as SGD(0.1, momentum=0.9, nesterov=True)")
        self.nesterov = bool(nesterov)

    def slots(self, parameters: list[Array]) -> Slots:
        return {"velocity": _zeros(parameters)} if self.momentum else {}  # so the first v is the first gradient

    def update(
        self, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[Any, ...]
    ) -> tuple[list[Array], Slots]:
        (lr,) = hyper
        gradients = self.prepared(parameters, gradients)
        if self.momentum == 0.0:
            return [w - lr * g for w, g in zip(parameters, gradients, strict=True)], {}
        velocity = [self.momentum * v + g for v, g in zip(slots["velocity"], gradients, strict=True)]
        along = velocity
        if self.nesterov:
            along = [g + self.momentum * v for g, v in zip(gradients, velocity, strict=True)]
        return [w - lr * d for w, d in zip(parameters, along, strict=True)], {"velocity": velocity}


class AdaGrad(Optimizer):
    """Steps that shrink where gradients have been large: s <- s + (dE/dw)**2, w <- w - lr * dE/dw / (sqrt(s) + 1e-10).

    The arguments are those of every optimizer: see ``Optimizer``.

    Source: J. Duchi et al., "Adaptive subgradient methods for online learning and stochastic optimization", 2011.
    """

    EPSILON = 1e-10

    def __init__(
        self,
        learning_rate: LearningRate = 1e-2,
        *,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ):
        super().__init__(learning_rate, weight_decay, clip_norm, clip_value)

    def slots(self, parameters: list[Array]) -> Slots:
        return {"squares": _zeros(parameters)}

    def update(
        self, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[Any, ...]
    ) -> tuple[list[Array], Slots]:
        (lr,) = hyper
        gradients = self.prepared(parameters, gradients)
        squares = [s + g * g for s, g in zip(slots["squares"], gradients, strict=True)]
        new = [
            w - lr * g / (namespace(s).sqrt(s) + self.EPSILON)
            for w, g, s in zip(parameters, gradients, squares, strict=True)
        ]
        return new, {"squares": squares}


class RMSprop(Optimizer):
    """AdaGrad that forgets: s <- decay * s + (1 - decay) * (dE/dw)**2, w <- w - lr * dE/dw / (sqrt(s) + 1e-8).

    ``decay`` in [0, 1). The other arguments are those of every optimizer: see ``Optimizer``.

    Source: T. Tieleman, G. Hinton, "Neural networks for machine learning", lecture 6.5, 2012.
    """

    EPSILON = 1e-8

    def __init__(
        self,
        learning_rate: LearningRate = 1e-2,
        *,
        decay: float = 0.99,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ):
        super().__init__(learning_rate, weight_decay, clip_norm, clip_value)
        self.decay = _in_range("decay", decay, 0.0, 1.0)

    def slots(self, parameters: list[Array]) -> Slots:
        return {"squares": _zeros(parameters)}

    def update(
        self, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[Any, ...]
    ) -> tuple[list[Array], Slots]:
        (lr,) = hyper
        gradients = self.prepared(parameters, gradients)
        old, new = self.decay, 1.0 - self.decay
        squares = [old * s + new * (g * g) for s, g in zip(slots["squares"], gradients, strict=True)]
        moved = [
            w - lr * g / (namespace(s).sqrt(s) + self.EPSILON)
            for w, g, s in zip(parameters, gradients, squares, strict=True)
        ]
        return moved, {"squares": squares}


class Adam(Optimizer):
    """Momentum divided by the gradient's usual size, both freed of their start at zero.

        m <- beta1 * m + (1 - beta1) * dE/dw             v <- beta2 * v + (1 - beta2) * (dE/dw)**2
        w <- w - lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon),  t = 1 at the first update

    ``beta1``, ``beta2`` in [0, 1). The other arguments are those of every optimizer: see ``Optimizer``.

    Source: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.

    >>> [round(number, 6) for number in Adam(0.1).hyper(0)]  # lr, lr / (1 - beta1**t), 1 / sqrt(1 - beta2**t)
    [0.1, 1.0, 31.622777]
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ):
        super().__init__(learning_rate, weight_decay, clip_norm, clip_value)
        self.beta1 = _in_range("beta1", beta1, 0.0, 1.0)
        self.beta2 = _in_range("beta2", beta2, 0.0, 1.0)
        self.epsilon = _in_range("epsilon", epsilon, 0.0)

    def slots(self, parameters: list[Array]) -> Slots:
        return {"mean": _zeros(parameters), "square": _zeros(parameters)}

    def hyper(self, step: int) -> tuple[float, ...]:
        lr = rate_at(self.learning_rate, step)
        return lr, lr / (1.0 - self.beta1 ** (step + 1)), 1.0 / sqrt(1.0 - self.beta2 ** (step + 1))

    def update(
        self, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[Any, ...]
    ) -> tuple[list[Array], Slots]:
        lr, lr_of_mean, root = hyper
        gradients = self.prepared(parameters, gradients)
        b1, b2 = self.beta1, self.beta2
        mean = [b1 * m + (1.0 - b1) * g for m, g in zip(slots["mean"], gradients, strict=True)]
        square = [b2 * v + (1.0 - b2) * (g * g) for v, g in zip(slots["square"], gradients, strict=True)]
        if self.decoupled and self.weight_decay:
            parameters = [w * (1.0 - lr * self.weight_decay) for w in parameters]
        new = [
            w - lr_of_mean * m / (namespace(v).sqrt(v) * root + self.epsilon)
            for w, m, v in zip(parameters, mean, square, strict=True)
        ]
        return new, {"mean": mean, "square": square}


class AdamW(Adam):
    """``Adam`` whose weight decay leaves the gradients alone: each update begins with w <- w - lr * weight_decay * w.

    Source: I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    decoupled = True

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ):
        super().__init__(
            learning_rate,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )


def _zeros(parameters: list[Array]) -> list[Array]:
    return [namespace(w).zeros_like(w) for w in parameters]


def _clipped(g: Array, limit: float) -> Array:
    xp = namespace(g)
    bound = xp.zeros_like(g) + limit
    return xp.maximum(xp.minimum(g, bound), -bound)


def _in_range(what: str, value: Any, least: float, limit: float | None = None) -> float:
    """A number in [least, limit), as a Python float."""
    where = f"in [{least:g}, {limit:g})" if limit is not None else f"{least:g} or more, and finite"
    if isinstance(value, (str, bytes, bool)) or not hasattr(value, "__float__"):
        raise TypeError(f"{what} must be a number {where}, got {value!r:.60}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{what} must be {where}, got a number too large for a float") from None
    if not (least <= number and number < (limit if limit is not None else float("inf"))):
        raise ValueError(f"{what} must be {where}, got {value!r:.60}")
    return number


def _positive(what: str, value: Any) -> float:
    number = _in_range(what, value, 0.0)
    if number == 0.0:
        raise ValueError(f"{what} must be more than 0, or None for no clipping, got {value!r:.60}")
    return number


def check_learning_rate(learning_rate: Any) -> LearningRate:
    """Returns the learning rate as a float, or the schedule as it is; ValueError or TypeError otherwise."""
    if isinstance(learning_rate, type):
        name = learning_rate.__name__
        raise TypeError(f"learning_rate must be a number or a schedule, got the class {name}: write {name}(...)")
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
    if type(learning_rate) is float:
        return learning_rate
    if not callable(learning_rate):  # set since the optimizer was made
        return check_number(learning_rate)
    rate: Any = None
    try:
        rate = learning_rate(step)
        return check_number(rate)
    except OverflowError as error:
        raise ValueError(f"the schedule gave no finite number for step {step}: {error}") from None
    except (TypeError, ValueError) as error:
        raise type(error)(f"the schedule gave {rate!r} for step {step}: {error}") from None
