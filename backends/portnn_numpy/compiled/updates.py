"""Optimizers: a parameter, its gradient and what is remembered of it are read once, and the new ones written once."""

from functools import partial
from typing import Any

import numpy as np

from portnn_numpy import updates as one_by_one
from portnn_numpy.compiled.jit import LEAST, Array, jit, writable

Slots = dict[str, list[Array]]
Update = tuple[list[Array], Slots]


@jit
def _momentum(w: Array, g: Array, v: Array, new: Array, velocity: Array, lr: Any, momentum: Any) -> None:
    for i in range(w.shape[0]):
        along = momentum * v[i] + g[i]
        velocity[i] = along
        new[i] = w[i] - lr * along


@jit
def _nesterov(w: Array, g: Array, v: Array, new: Array, velocity: Array, lr: Any, momentum: Any) -> None:
    for i in range(w.shape[0]):
        along = momentum * v[i] + g[i]
        velocity[i] = along
        new[i] = w[i] - lr * (g[i] + momentum * along)


@jit
def _squares(w: Array, g: Array, s: Array, new: Array, squares: Array, lr: Any, old: Any, part: Any, eps: Any) -> None:
    for i in range(w.shape[0]):
        square = old * s[i] + part * (g[i] * g[i])
        squares[i] = square
        new[i] = w[i] - lr * g[i] / (np.sqrt(square) + eps)


@jit
def _adam(
    w: Array, g: Array, m: Array, v: Array, new: Array, means: Array, squares: Array,
    lr: Any, root: Any, b1: Any, c1: Any, b2: Any, c2: Any, eps: Any, decay: Any,
) -> None:  # fmt: skip
    for i in range(w.shape[0]):
        mean = b1 * m[i] + c1 * g[i]
        square = b2 * v[i] + c2 * (g[i] * g[i])
        means[i] = mean
        squares[i] = square
        new[i] = decay * w[i] - lr * mean / (np.sqrt(square) * root + eps)


def sgd_update(
    sgd: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[float, ...]
) -> Update:
    if not sgd.momentum:  # two passes over memory take no longer than one loop would
        return one_by_one.sgd_update(sgd, parameters, gradients, slots, hyper)
    loop, numbers = _nesterov if sgd.nesterov else _momentum, (*hyper, sgd.momentum)
    plain = partial(one_by_one.sgd_step, sgd, hyper=hyper)
    return each(loop, numbers, plain, parameters, sgd.prepared(parameters, gradients), slots)


def adam_update(
    adam: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[float, ...]
) -> Update:
    lr, lr_of_mean, root = hyper
    decay = 1.0 - lr * adam.weight_decay if adam.decoupled else 1.0
    b1, b2 = adam.beta1, adam.beta2
    numbers = (lr_of_mean, root, b1, 1.0 - b1, b2, 1.0 - b2, adam.epsilon, decay)
    plain = partial(one_by_one.adam_step, adam, hyper=hyper)
    return each(_adam, numbers, plain, parameters, adam.prepared(parameters, gradients), slots)


def adagrad_update(
    adagrad: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[float, ...]
) -> Update:
    numbers = (*hyper, 1.0, 1.0, adagrad.EPSILON)
    plain = partial(one_by_one.adagrad_step, adagrad, hyper=hyper)
    return each(_squares, numbers, plain, parameters, adagrad.prepared(parameters, gradients), slots)


def rmsprop_update(
    rmsprop: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: tuple[float, ...]
) -> Update:
    numbers = (*hyper, rmsprop.decay, 1.0 - rmsprop.decay, rmsprop.EPSILON)
    plain = partial(one_by_one.rmsprop_step, rmsprop, hyper=hyper)
    return each(_squares, numbers, plain, parameters, rmsprop.prepared(parameters, gradients), slots)


def each(
    loop: Any, numbers: tuple[float, ...], plain: Any, parameters: list[Array], gradients: list[Array], slots: Slots
) -> Update:
    """Runs a loop over every parameter: it takes w, dE/dw, the slots, the new ones of all but dE/dw, and the numbers.

    Where all are small a plain twin does it, so that a small network compiles nothing.
    """
    if all(w.size < LEAST for w in parameters):
        return plain(parameters, gradients, slots)
    new: list[Array] = []
    new_slots: Slots = {kind: [] for kind in slots}
    for i, (w, g) in enumerate(zip(parameters, gradients, strict=True)):
        made, *remembered = (np.empty(w.shape, w.dtype) for _ in range(1 + len(slots)))
        old = (w, g, *(arrays[i] for arrays in slots.values()))
        loop(*(writable(a).reshape(-1) for a in (*old, made, *remembered)), *map(w.dtype.type, numbers))
        new.append(made)
        for kind, array in zip(slots, remembered, strict=True):
            new_slots[kind].append(array)
    return new, new_slots


TWINS: dict[str, Any] = {
    "optimizers.SGD.update": sgd_update,
    "optimizers.AdaGrad.update": adagrad_update,
    "optimizers.RMSprop.update": rmsprop_update,
    "optimizers.Adam.update": adam_update,
}
