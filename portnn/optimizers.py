"""Optimizers: how a step turns gradients into new parameters, from the simplest to AdamW.

An optimizer has three methods. ``slots(parameters)`` creates its state, a dict of lists of arrays; ``hyper(step)``
returns this step's hyperparameters, computed on the host as Python floats; ``update`` computes the new parameters,
without branching on the hyperparameters, since a captured step reads them from device memory.

The square of a finite gradient can overflow its dtype. So where an optimizer squares gradients, finite ones are bounded
by ``Optimizer.largest``, whose square is finite; infinity and NaN are kept, so that training notices them. Squares of
values below 2.6e-23 (float32) underflow to zero, as everywhere.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod, sqrt
from typing import Any, TypedDict, Unpack

from portnn._typing import Array, Slots
from portnn.backend import namespace
from portnn.checks import flag, in_range, number, signature_of
from portnn.settings import Setting, WithSettings, unknown_setting

LearningRate = float | Callable[[int], float]


def check_learning_rate(what: str, learning_rate: Any) -> LearningRate:
    """Returns the learning rate as a float, or the schedule as it is; ValueError or TypeError otherwise."""
    if isinstance(learning_rate, type):
        name = learning_rate.__name__
        raise TypeError(f"{what} must be a number or a schedule, got the class {name}: write {name}(...)")
    if isinstance(learning_rate, dict):
        raise TypeError(f"{what} must be a number or a schedule, got a dict: an optimizer is given no parameters")
    if callable(learning_rate):
        return learning_rate
    try:
        return check_number(what, learning_rate)
    except TypeError:
        raise TypeError(
            f"{what} must be a number, or a schedule (a function of the step), got {learning_rate!r:.60}"
        ) from None


def check_number(what: str, learning_rate: Any) -> float:
    """Returns the learning rate as a Python float, if it is a number, finite and not negative."""
    rate = number(what, learning_rate)
    if rate < 0.0:
        raise ValueError(f"{what} must be finite and not negative, got {learning_rate!r:.60}")
    return rate


def rate_at(learning_rate: LearningRate, step: int) -> float:
    """The learning rate of update number ``step``, a Python float (a NumPy scalar would promote float32 arrays)."""
    if type(learning_rate) is float:
        return learning_rate
    if not callable(learning_rate):
        return check_number("learning_rate", learning_rate)
    try:
        rate = learning_rate(step)
    except (LookupError, StopIteration) as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ValueError(
            f"the schedule gave nothing for step {step} ({reason}): it must answer for every step k = 0, 1, 2, ..., "
            "such as lambda k: rates[min(k, len(rates) - 1)]"
        ) from error
    except ArithmeticError as error:
        raise ValueError(f"the schedule gave no finite number for step {step}: {error}") from error
    except TypeError as error:
        raise TypeError(f"the schedule failed at step {step}: {error}") from error
    except ValueError as error:
        raise ValueError(f"the schedule failed at step {step}: {error}") from error
    except Exception as error:
        error.add_note(f"The schedule was asked for step {step}.")
        raise
    try:
        return check_number("learning_rate", rate)
    except (TypeError, ValueError) as error:
        raise type(error)(f"the schedule gave {rate!r:.60} for step {step}: {error}") from None


def _positive(what: str, value: Any) -> float | None:
    if value is None:
        return None
    limit = in_range(0.0)(what, value)
    if limit == 0.0:
        raise ValueError(f"{what} must be more than 0, or None for no clipping, got {value!r:.60}")
    return limit


class Clipping(TypedDict, total=False):
    clip_norm: float | None
    clip_value: float | None


class Common(Clipping, total=False):
    """The keyword arguments that every optimizer takes."""

    weight_decay: float


class AdamArguments(Clipping, total=False):
    """Those of ``Adam`` that ``AdamW`` takes with the same defaults."""

    beta1: float
    beta2: float
    epsilon: float


class Optimizer(WithSettings):
    """Base class of the optimizers: a learning rate, gradient clipping and weight decay.

    ``learning_rate`` is a number >= 0, or a schedule, any function of the number of updates made so far.
    First ``clip_value`` bounds each element of the gradients to [-clip_value, clip_value]; then ``clip_norm`` scales
    all of them together, by clip_norm / (norm + 1e-6) where their common norm is larger than that; then weight decay
    adds weight_decay * w to each (AdamW decays the weights themselves). Arguments out of range raise ValueError.

    Source: R. Pascanu et al., "On the difficulty of training recurrent neural networks", 2013 (clipping by norm).
    """

    decoupled = False  # True: weight decay is not added to the gradient
    uses_counts = False  # True: ``hyper`` depends on the number of updates of each parameter
    ROOM = 0.5  # bound on squared gradients, relative to the root of the largest finite value

    learning_rate: Any = Setting(check_learning_rate)
    weight_decay: Any = Setting(in_range(0.0))
    clip_norm: Any = Setting(_positive)
    clip_value: Any = Setting(_positive)

    def __init__(
        self,
        learning_rate: LearningRate = 1e-2,
        *,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        **unknown: Any,
    ):
        for name in unknown:  # "lr", say: with the names of the class that was called
            raise TypeError(unknown_setting(type(self), name))
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.clip_value = clip_value

    def __init_subclass__(cls) -> None:
        """A class whose own ``hyper`` takes no counts is called without them, whatever it derives from."""
        super().__init_subclass__()
        code = getattr(vars(cls).get("hyper"), "__code__", None)
        if code is not None and "counts" not in code.co_varnames and "uses_counts" not in vars(cls):
            cls.uses_counts = False

    def slots(self, parameters: list[Array]) -> Slots:
        """The optimizer's state before the first step: a dict of lists, each with one array per parameter."""
        return {}

    def hyper(self, step: int, counts: Sequence[int] | None = None) -> tuple[float, ...]:
        """The hyperparameters of update number ``step``, counted from 0; the first is the learning rate.

        ``counts`` holds the number of updates of each parameter to be updated; None means ``step`` for all of them.
        It is passed only if ``uses_counts`` is true.
        """
        return (rate_at(self.learning_rate, step),)

    def prepared(
        self,
        parameters: list[Array],
        gradients: list[Array],
        by_norm: Callable[[list[Array], float], list[Array]] | None = None,
    ) -> list[Array]:
        """The gradients, clipped and with weight decay; ``by_norm`` replaces ``clipped_by_norm``."""
        if self.clip_value is not None:
            gradients = [_clipped(g, self.clip_value) for g in gradients]
        if self.clip_norm is not None and gradients:
            gradients = (by_norm or clipped_by_norm)(gradients, self.clip_norm)
        if self.weight_decay and not self.decoupled:
            gradients = [g + self.weight_decay * w for w, g in zip(parameters, gradients, strict=True)]
        return gradients

    def largest(self, finfo: Any) -> float:
        """The bound on finite gradients where they are squared, for a dtype with that ``finfo``."""
        return self.ROOM * sqrt(float(finfo.max))

    def bounded(self, gradients: list[Array]) -> list[Array]:
        """The gradients, bounded so that their squares are finite: only infinity is larger than ``largest``."""
        return [_bounded(g, self.largest(namespace(g).finfo(g.dtype))) for g in gradients]

    def check(self, parameters: list[Array], gradients: list[Array], slots: Slots, *kinds: str) -> None:
        """Checks that gradients and slots are arrays of each parameter's shape and dtype; ValueError otherwise."""
        missing = [kind for kind in kinds if kind not in slots]
        if missing:
            raise ValueError(
                f"{self!r} remembers {' and '.join(map(repr, kinds))} of each parameter, but the slots given are "
                f"{', '.join(map(repr, slots)) or 'empty'}: make them with slots(parameters), before training begins"
            )
        for what, arrays in [("gradients", gradients), *((f"slots[{kind!r}]", slots[kind]) for kind in kinds)]:
            if len(arrays) != len(parameters):
                raise ValueError(f"{what} holds {len(arrays)} arrays for {len(parameters)} parameters")
            for i, (w, a) in enumerate(zip(parameters, arrays, strict=True)):
                try:
                    fits = a.shape == w.shape and (a.dtype is w.dtype or a.dtype == w.dtype)
                except AttributeError:
                    raise TypeError(f"{what}[{i}] must be an array like its parameter, got {a!r:.60}") from None
                if not fits:
                    raise ValueError(
                        f"{what}[{i}] has shape {tuple(a.shape)} and dtype {a.dtype}, but its parameter "
                        f"{tuple(w.shape)} and {w.dtype}"
                    )

    def __repr__(self) -> str:
        inits = [vars(base)["__init__"] for base in reversed(type(self).__mro__[:-1]) if "__init__" in vars(base)]
        usual = {name: argument.default for init in inits for name, argument in signature_of(init).parameters.items()}
        shown = ""
        for name, value in vars(self).items():
            differs = value != usual.get(name, value)
            if name != "learning_rate" and (differs or (value and name != "weight_decay")):
                shown += f", {name}={value}"
        return f"{type(self).__name__}({self.learning_rate}{shown})"


def clipped_by_norm(gradients: list[Array], limit: float) -> list[Array]:
    """All gradients times limit / (norm + 1e-6), where the norm of all of them together is larger than the limit.

    Where the largest is more than 1e15 they are divided by it first, since their squares could overflow.
    """
    sizes = [namespace(g).max(namespace(g).abs(g)) for g in gradients if prod(g.shape)]
    if not sizes:
        return gradients
    xp, largest, limit = namespace(sizes[0]), sizes[0], _representable(limit, sizes[0])
    for size in sizes[1:]:
        largest = xp.maximum(largest, size)
    one = xp.ones_like(largest)
    unit = xp.where(xp.isfinite(largest) & (largest > 1e15), largest, one)
    scaled = [g / unit for g in gradients]
    squares = [xp.sum(xp.reshape(g * g, (-1,))) for g in scaled]  # in C order, whatever the order in memory
    norm = xp.sqrt(sum(squares[1:], squares[0]))
    scale = xp.minimum(limit / (norm + 1e-6 / unit), unit)
    return [g * scale for g in scaled]


def _clipped(g: Array, limit: float) -> Array:
    xp = namespace(g)
    bound = xp.zeros_like(g) + _representable(limit, g)
    return xp.maximum(xp.minimum(g, bound), -bound)


def _bounded(g: Array, limit: float) -> Array:
    xp = namespace(g)
    return xp.where(xp.isfinite(g), _clipped(g, limit), g)


def _representable(limit: float, g: Array) -> float:
    """A limit in the dtype of ``g``: one beyond its range becomes the largest finite value."""
    return limit if limit < 1e38 else min(limit, float(namespace(g).finfo(g.dtype).max))


def _quiet(parameters: list[Array]) -> AbstractContextManager[Any]:
    """Underflow is normal in an update and raises nothing, whatever ``numpy.seterr`` says."""
    xp: Any = namespace(parameters[0]) if parameters else None
    return xp.errstate(under="ignore") if getattr(xp, "__name__", "") == "numpy" else nullcontext()


def _zeros(parameters: list[Array]) -> list[Array]:
    return [namespace(w).zeros_like(w) for w in parameters]


def _momentum_beside(sgd: Any, momentum: float) -> None:
    if momentum == 0.0 and vars(sgd).get("nesterov"):
        raise ValueError("momentum must be more than 0 with nesterov=True: set nesterov to False first")


def _nesterov_beside(sgd: Any, nesterov: bool) -> None:
    if nesterov and not vars(sgd).get("momentum"):
        raise ValueError("nesterov=True needs a momentum, such as SGD(0.1, momentum=0.9, nesterov=True)")


class SGD(Optimizer):
    """Stochastic gradient descent: w <- w - lr * dE/dw; with momentum v <- momentum * v + dE/dw, w <- w - lr * v.

    ``momentum`` is in [0, 1); ``nesterov`` steps along dE/dw + momentum * v instead. As in PyTorch, the first v is the
    gradient itself. The other arguments are those of every optimizer: see ``Optimizer``.

    Source: I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    >>> SGD(0.1).hyper(0)
    (0.1,)
    """

    momentum: Any = Setting(in_range(0.0, 1.0), beside=_momentum_beside)
    nesterov: Any = Setting(flag, beside=_nesterov_beside)

    def __init__(
        self,
        learning_rate: LearningRate = 1e-2,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        **common: Unpack[Common],
    ):
        super().__init__(learning_rate, **common)
        self.momentum = momentum
        self.nesterov = nesterov

    def slots(self, parameters: list[Array]) -> Slots:
        return {"velocity": _zeros(parameters)} if self.momentum else {}  # so the first v is the first gradient

    def update(
        self, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[Any, ...]
    ) -> tuple[list[Array], Slots]:
        (lr,) = hyper
        if self.momentum == 0.0:
            self.check(parameters, gradients, slots)
            with _quiet(parameters):
                gradients = self.prepared(parameters, gradients)
                return [w - lr * g for w, g in zip(parameters, gradients, strict=True)], slots
        self.check(parameters, gradients, slots, "velocity")
        with _quiet(parameters):
            gradients = self.prepared(parameters, gradients)
            velocity = [self.momentum * v + g for v, g in zip(slots["velocity"], gradients, strict=True)]
            along = velocity
            if self.nesterov:
                along = [g + self.momentum * v for g, v in zip(gradients, velocity, strict=True)]
            return [w - lr * d for w, d in zip(parameters, along, strict=True)], {"velocity": velocity}


class AdaGrad(Optimizer):
    """Smaller steps where gradients were large: s <- s + (dE/dw)**2, w <- w - lr * dE/dw / (sqrt(s) + 1e-10).

    Gradients are bounded by 2.8e14 in float32 (2e149 in float64), so that the sum of 2**32 squares is finite.
    The arguments are those of every optimizer: see ``Optimizer``.

    Source: J. Duchi et al., "Adaptive subgradient methods for online learning and stochastic optimization", 2011.
    """

    EPSILON = 1e-10
    ROOM = 2.0**-16

    def slots(self, parameters: list[Array]) -> Slots:
        return {"squares": _zeros(parameters)}

    def update(
        self, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[Any, ...]
    ) -> tuple[list[Array], Slots]:
        (lr,) = hyper
        self.check(parameters, gradients, slots, "squares")
        with _quiet(parameters):
            gradients = self.bounded(self.prepared(parameters, gradients))
            squares = [s + g * g for s, g in zip(slots["squares"], gradients, strict=True)]
            return _by_root(parameters, gradients, squares, lr, self.EPSILON), {"squares": squares}


class RMSprop(Optimizer):
    """AdaGrad with a moving average: s <- decay * s + (1 - decay) * (dE/dw)**2, w <- w - lr * dE/dw / (sqrt(s) + 1e-8).

    ``decay`` is in [0, 1). Gradients are bounded by 9.2e18 in float32 (6.7e153 in float64). The other arguments are
    those of every optimizer: see ``Optimizer``.

    Source: T. Tieleman, G. Hinton, "Neural networks for machine learning", lecture 6.5, 2012.
    """

    EPSILON = 1e-8

    decay: Any = Setting(in_range(0.0, 1.0))

    def __init__(self, learning_rate: LearningRate = 1e-2, *, decay: float = 0.99, **common: Unpack[Common]):
        super().__init__(learning_rate, **common)
        self.decay = decay

    def slots(self, parameters: list[Array]) -> Slots:
        return {"squares": _zeros(parameters)}

    def update(
        self, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[Any, ...]
    ) -> tuple[list[Array], Slots]:
        (lr,) = hyper
        self.check(parameters, gradients, slots, "squares")
        old, new = self.decay, 1.0 - self.decay
        with _quiet(parameters):
            gradients = self.bounded(self.prepared(parameters, gradients))
            squares = [old * s + new * (g * g) for s, g in zip(slots["squares"], gradients, strict=True)]
            return _by_root(parameters, gradients, squares, lr, self.EPSILON), {"squares": squares}


def _by_root(
    parameters: list[Array], gradients: list[Array], squares: list[Array], lr: Any, epsilon: float
) -> list[Array]:
    """w - lr * dE/dw / (sqrt(s) + epsilon)."""
    return [
        w - lr * g / (namespace(s).sqrt(s) + epsilon) for w, g, s in zip(parameters, gradients, squares, strict=True)
    ]


class Adam(Optimizer):
    """Adaptive moment estimation: momentum m, divided by the root of the mean square v, both bias-corrected.

        m <- beta1 * m + (1 - beta1) * dE/dw             v <- beta2 * v + (1 - beta2) * (dE/dw)**2
        w <- w - lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon),  t = 1 at the first update

    t counts a parameter's own updates: that of a layer added later begins at 1. ``beta1`` and ``beta2`` are in [0, 1).
    ``epsilon`` is at least 1e-22 in float32 (1.5e-157 in float64), so that a parameter whose gradients are zero stays.
    Gradients are bounded by 9.2e18 in float32 (6.7e153 in float64). The other arguments are those of every
    optimizer: see ``Optimizer``.

    Source: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.

    >>> [round(number, 6) for number in Adam(0.1).hyper(0)]  # lr, lr / (1 - beta1**t), 1 / sqrt(1 - beta2**t)
    [0.1, 1.0, 31.622777]
    """

    uses_counts = True

    beta1: Any = Setting(in_range(0.0, 1.0))
    beta2: Any = Setting(in_range(0.0, 1.0))
    epsilon: Any = Setting(in_range(0.0))

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        **common: Unpack[Common],
    ):
        super().__init__(learning_rate, **common)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon

    def slots(self, parameters: list[Array]) -> Slots:
        return {"mean": _zeros(parameters), "square": _zeros(parameters)}

    def hyper(self, step: int, counts: Sequence[int] | None = None) -> tuple[float, ...]:
        """The learning rate lr, then lr / (1 - beta1**t) and 1 / sqrt(1 - beta2**t): once, where all parameters have
        the same t, else for each parameter in turn."""
        lr = rate_at(self.learning_rate, step)
        if counts is None or len(counts) == 0:
            return lr, *self._corrections(lr, step + 1)
        if all(count == counts[0] for count in counts):
            return lr, *self._corrections(lr, counts[0] + 1)
        return lr, *(corrected for count in counts for corrected in self._corrections(lr, count + 1))

    def _corrections(self, lr: float, t: int) -> tuple[float, float]:
        t = int(t)  # a NumPy scalar would make the results NumPy scalars
        return lr / (1.0 - self.beta1**t), 1.0 / sqrt(1.0 - self.beta2**t)

    def corrections(self, hyper: Sequence[Any], parameters: list[Array]) -> list[tuple[Any, Any]]:
        """The two bias corrections of each parameter, from the one pair, or the one per parameter, in ``hyper``."""
        n = len(parameters)
        if len(hyper) == 3:
            return [(hyper[1], hyper[2])] * n
        if len(hyper) != 1 + 2 * n:
            raise ValueError(
                f"{type(self).__name__} takes 3 numbers, or {1 + 2 * n} for {n} parameters with update counts of their "
                f"own, got {len(hyper)}: take those of hyper(step, counts)"
            )
        return list(zip(hyper[1::2], hyper[2::2], strict=True))

    def epsilon_in(self, finfo: Any) -> float:
        """Epsilon in a dtype with that ``finfo``, never rounded to zero, so that 0 / epsilon is 0."""
        return max(self.epsilon, 1e-3 * sqrt(float(finfo.smallest_normal)))

    def update(
        self, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[Any, ...]
    ) -> tuple[list[Array], Slots]:
        self.check(parameters, gradients, slots, "mean", "square")
        lr, corrections = hyper[0], self.corrections(hyper, parameters)
        b1, b2 = self.beta1, self.beta2
        with _quiet(parameters):
            gradients = self.bounded(self.prepared(parameters, gradients))
            mean = [b1 * m + (1.0 - b1) * g for m, g in zip(slots["mean"], gradients, strict=True)]
            square = [b2 * v + (1.0 - b2) * (g * g) for v, g in zip(slots["square"], gradients, strict=True)]
            if self.decoupled and self.weight_decay:
                parameters = [w * (1.0 - lr * self.weight_decay) for w in parameters]
            new = [
                w - lr_of_mean * m / (xp.sqrt(v) * root + self.epsilon_in(xp.finfo(v.dtype)))
                for (lr_of_mean, root), w, m, v in zip(corrections, parameters, mean, square, strict=True)
                for xp in [namespace(v)]
            ]
        return new, {"mean": mean, "square": square}


class AdamW(Adam):
    """``Adam`` with decoupled weight decay: each update begins with w <- w - lr * weight_decay * w.

    Source: I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    decoupled = True

    def __init__(
        self, learning_rate: LearningRate = 1e-3, *, weight_decay: float = 0.01, **adams: Unpack[AdamArguments]
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, **adams)
