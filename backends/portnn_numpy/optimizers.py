"""Optimizers for NumPy: each pass writes into an array that becomes a result.

Results are C-contiguous, whatever the memory order of the arguments. Gradients are not bounded here: where a square
overflows, NumPy reports it, and the step is left to the portable update, which bounds them.

Hyperparameters are first converted to arrays of the parameters' dtype: NumPy would convert a Python float anew in each
operation.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import add, divide, multiply, sqrt, subtract

from portnn_numpy._prepare import in_order, prepared_or_raise

Array = Any
Slots = dict[str, list[Array]]
Hyper = tuple[float, ...]
Update = tuple[list[Array], Slots]


class SGD:
    @staticmethod
    def update(sgd: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
        """``SGD.update`` with one temporary array per parameter instead of two: it becomes the result."""
        if (
            sgd.momentum
            or sgd.weight_decay
            or sgd.clip_norm is not None
            or sgd.clip_value is not None
            or not parameters
        ):
            return (
                _stepped(_sgd_step, sgd, parameters, gradients, slots, hyper, ("velocity",) if sgd.momentum else ())
                or NotImplemented
            )
        new = []
        try:
            dtype = parameters[0].dtype
            lr = np.array(hyper[0], dtype)
            for w, g in zip(parameters, gradients, strict=True):
                if g.shape != w.shape or g.dtype is not dtype or w.dtype is not dtype or not g.flags.c_contiguous:
                    break
                d = multiply(g, lr)
                new.append(subtract(w, d, d))
            else:
                return new, slots
        except (FloatingPointError, ValueError, TypeError, AttributeError):
            pass  # ``_stepped`` handles more cases, and has better error messages
        return _stepped(_sgd_step, sgd, parameters, gradients, slots, hyper, ()) or NotImplemented


def _sgd_step(sgd: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
    """``update`` for gradients that have been clipped and decayed."""
    (lr,) = hyper
    if not sgd.momentum:
        return [_minus(w, lr * g) for w, g in zip(parameters, gradients, strict=True)], slots
    new, velocity, dtype = [], [], None
    for w, g, old in zip(parameters, gradients, slots["velocity"], strict=True):
        if w.dtype is not dtype:
            dtype = w.dtype
            rate, momentum = _numbers(w, lr, sgd.momentum)
        v = multiply(old, momentum)
        velocity.append(add(v, g, v))
        if sgd.nesterov:
            d = multiply(v, momentum)
            add(d, g, d)
            multiply(d, rate, d)
        else:
            d = multiply(v, rate)
        new.append(_minus(w, d))
    return new, {"velocity": velocity}


class Adam:
    @staticmethod
    def update(adam: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
        """``Adam.update`` in twelve passes, each of which writes into an array that becomes a result."""
        return _stepped(_adam_step, adam, parameters, gradients, slots, hyper, ("mean", "square")) or NotImplemented


def _adam_step(adam: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
    """``update`` for gradients that have been clipped and decayed."""
    corrections, dtype, last = adam.corrections(hyper, parameters), None, None
    decay = 1.0 - hyper[0] * adam.weight_decay if adam.decoupled else 1.0
    b1, b2, epsilon = adam.beta1, adam.beta2, adam.epsilon
    new: list[Array] = []
    means: list[Array] = []
    squares: list[Array] = []
    arrays = zip(parameters, gradients, slots["mean"], slots["square"], corrections, strict=True)
    for w, g, m, v, pair in arrays:
        if pair is not last or w.dtype is not dtype:
            dtype, last = w.dtype, pair
            rate, root = pair
            limit = adam.largest(np.finfo(dtype)) ** 2
            if epsilon < 1e-20:
                epsilon = adam.epsilon_in(np.finfo(dtype))
            in_one = 1e-12 < rate < 1e12 and epsilon < 1.0  # then dividing by the rate overflows nowhere
            scale, floor = (root / rate, epsilon / rate) if in_one else (root, epsilon)
            scale, floor, rate, old1, new1, old2, new2 = _numbers(w, scale, floor, rate, b1, 1.0 - b1, b2, 1.0 - b2)
        _check_bound(g, limit)
        mean, square, d = multiply(m, old1), multiply(v, old2), multiply(g, new1)
        add(mean, d, mean)
        multiply(g, g, d)
        multiply(d, new2, d)
        add(square, d, square)
        sqrt(square, d)
        multiply(d, scale, d)
        add(d, floor, d)
        divide(mean, d, d)
        if not in_one:
            multiply(d, rate, d)
        new.append(subtract(w if decay == 1.0 else w * decay, d, d))
        means.append(mean)
        squares.append(square)
    return new, {"mean": means, "square": squares}


class AdaGrad:
    @staticmethod
    def update(adagrad: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
        """``AdaGrad.update`` in seven passes."""
        return _stepped(_adagrad_step, adagrad, parameters, gradients, slots, hyper, ("squares",)) or NotImplemented


def _adagrad_step(adagrad: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
    """``update`` for gradients that have been clipped and decayed."""
    squares, dtype = [], None
    for w, g, s in zip(parameters, gradients, slots["squares"], strict=True):
        if w.dtype is not dtype:
            dtype = w.dtype
            limit = adagrad.largest(np.finfo(w.dtype)) ** 2
        _check_bound(g, limit)
        square = multiply(g, g)
        squares.append(add(square, s, square))
    return _by_root(parameters, gradients, squares, hyper[0], adagrad.EPSILON), {"squares": squares}


class RMSprop:
    @staticmethod
    def update(rmsprop: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
        """``RMSprop.update`` in nine passes."""
        return _stepped(_rmsprop_step, rmsprop, parameters, gradients, slots, hyper, ("squares",)) or NotImplemented


def _rmsprop_step(rmsprop: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
    """``update`` for gradients that have been clipped and decayed."""
    squares, dtype = [], None
    for w, g, s in zip(parameters, gradients, slots["squares"], strict=True):
        if w.dtype is not dtype:
            dtype = w.dtype
            old, new = _numbers(w, rmsprop.decay, 1.0 - rmsprop.decay)
            limit = rmsprop.largest(np.finfo(w.dtype)) ** 2
        _check_bound(g, limit)
        square = multiply(g, g)
        multiply(square, new, square)
        squares.append(add(square, multiply(s, old), square))
    return _by_root(parameters, gradients, squares, hyper[0], rmsprop.EPSILON), {"squares": squares}


def _by_root(
    parameters: list[Array], gradients: list[Array], squares: list[Array], lr: float, epsilon: float
) -> list[Array]:
    """w - lr * dE/dw / (sqrt(s) + epsilon)."""
    new, dtype = [], None
    for w, g, s in zip(parameters, gradients, squares, strict=True):
        if w.dtype is not dtype:
            dtype = w.dtype
            rate, floor = _numbers(w, lr, epsilon)
        root, d = sqrt(s), multiply(g, rate)
        add(root, floor, root)
        new.append(_minus(w, divide(d, root, d)))
    return new


def _check_bound(g: Array, limit: float) -> None:
    """FloatingPointError for a gradient with an element whose square is above ``limit``; NaN hides none."""
    squares = np.vdot(g, g)  # much the fastest: only if it is too large, or NaN, is there more to see
    if not squares <= limit and np.fmax.reduce(np.abs(g), axis=None, initial=0.0) > limit**0.5:
        raise FloatingPointError("a gradient so large that it is bounded, which the portable update does")


def _numbers(w: Array, *numbers: float) -> list[Array]:
    return [np.array(number, w.dtype) for number in numbers]


def _minus(a: Array, temporary: Array) -> Array:
    return subtract(a, temporary, temporary)


# -- around a step -----------------------------------------------------------------------------------------------------


def _stepped(
    step: Callable[..., Update],
    optimizer: Any,
    parameters: list[Array],
    gradients: list[Array],
    slots: Slots,
    hyper: Hyper,
    kinds: tuple[str, ...],
) -> Update | None:
    """A step on prepared, C-contiguous gradients; None if the portable update must do it."""
    parameters, gradients, slots = in_order(optimizer, parameters, gradients, slots, kinds)
    try:
        if step is _sgd_step and optimizer.clip_norm is None:  # no squares
            return step(optimizer, parameters, optimizer.prepared(parameters, gradients), slots, hyper)
        with np.errstate(over="raise", under="ignore"):
            return step(optimizer, parameters, prepared_or_raise(optimizer, parameters, gradients), slots, hyper)
    except (FloatingPointError, TypeError):  # overflow; or a 0-d operation that returned a scalar
        return None
