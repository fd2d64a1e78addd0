"""Optimizers for NumPy: each pass writes into an array that becomes a result.

Those named ``_step`` take gradients that are clipped and decayed already.
"""

from typing import Any

import numpy as np

Array = Any
Slots = dict[str, list[Array]]
Hyper = tuple[float, ...]
Update = tuple[list[Array], Slots]


def sgd_update(sgd: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
    """``SGD.update`` with one temporary array a parameter instead of two: it becomes the result."""
    return sgd_step(sgd, parameters, sgd.prepared(parameters, gradients), slots, hyper)


def sgd_step(sgd: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
    """``sgd_update`` of gradients that are clipped and decayed already."""
    (lr,) = hyper
    along, new_slots = gradients, {}
    if sgd.momentum:
        along = [_sum_into_first(sgd.momentum * v, g) for v, g in zip(slots["velocity"], gradients, strict=True)]
        new_slots = {"velocity": along}
        if sgd.nesterov:
            along = [_sum_into_first(sgd.momentum * v, g) for v, g in zip(along, gradients, strict=True)]
    return [_minus(w, lr * d) for w, d in zip(parameters, along, strict=True)], new_slots


def adam_update(adam: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
    """``Adam.update`` in twelve passes, of which each writes into the array that becomes a result."""
    return adam_step(adam, parameters, adam.prepared(parameters, gradients), slots, hyper)


def adam_step(adam: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
    """``adam_update`` of gradients that are clipped and decayed already."""
    lr, lr_of_mean, root = hyper
    b1, b2 = adam.beta1, adam.beta2
    decay = 1.0 - lr * adam.weight_decay if adam.decoupled else 1.0
    new: list[Array] = []
    means: list[Array] = []
    squares: list[Array] = []
    for w, g, m, v in zip(parameters, gradients, slots["mean"], slots["square"], strict=True):
        mean, square, d = m * b1, v * b2, g * (1.0 - b1)
        mean += d
        np.multiply(g, g, out=d)
        d *= 1.0 - b2
        square += d
        np.sqrt(square, out=d)
        if lr_of_mean:
            d *= root / lr_of_mean
            d += adam.epsilon / lr_of_mean
            np.divide(mean, d, out=d)
        else:  # a schedule's zero
            d[...] = 0.0
        np.subtract(w if decay == 1.0 else w * decay, d, out=d)
        new.append(d)
        means.append(mean)
        squares.append(square)
    return new, {"mean": means, "square": squares}


def adagrad_update(adagrad: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
    """``AdaGrad.update`` in seven passes."""
    return adagrad_step(adagrad, parameters, adagrad.prepared(parameters, gradients), slots, hyper)


def adagrad_step(adagrad: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
    """``adagrad_update`` of gradients that are clipped and decayed already."""
    squares = [_sum_into_first(g * g, s) for s, g in zip(slots["squares"], gradients, strict=True)]
    return _by_root(parameters, gradients, squares, hyper[0], adagrad.EPSILON), {"squares": squares}


def rmsprop_update(rmsprop: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
    """``RMSprop.update`` in nine passes."""
    return rmsprop_step(rmsprop, parameters, rmsprop.prepared(parameters, gradients), slots, hyper)


def rmsprop_step(rmsprop: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
    """``rmsprop_update`` of gradients that are clipped and decayed already."""
    squares = []
    for s, g in zip(slots["squares"], gradients, strict=True):
        square = g * g
        square *= 1.0 - rmsprop.decay
        square += rmsprop.decay * s
        squares.append(square)
    return _by_root(parameters, gradients, squares, hyper[0], rmsprop.EPSILON), {"squares": squares}


def _by_root(
    parameters: list[Array], gradients: list[Array], squares: list[Array], lr: float, epsilon: float
) -> list[Array]:
    """w - lr * dE/dw / (sqrt(s) + epsilon)."""
    new = []
    for w, g, s in zip(parameters, gradients, squares, strict=True):
        root, d = np.sqrt(s), lr * g
        root += epsilon
        d /= root
        new.append(_minus(w, d))
    return new


def _sum_into_first(temporary: Array, b: Array) -> Array:
    return np.add(temporary, b, out=temporary)


def _minus(a: Array, temporary: Array) -> Array:
    return np.subtract(a, temporary, out=temporary)


TWINS: dict[str, Any] = {
    "optimizers.SGD.update": sgd_update,
    "optimizers.AdaGrad.update": adagrad_update,
    "optimizers.RMSprop.update": rmsprop_update,
    "optimizers.Adam.update": adam_update,
}
