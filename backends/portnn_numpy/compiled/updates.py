"""Optimizers: a parameter, its gradient and what is remembered of it are read once, and the new ones written once."""

from typing import Any

import numpy as np

from portnn_numpy import kernels
from portnn_numpy.compiled.jit import LEAST, Array, jit, writable

Update = tuple[list[Array], dict[str, list[Array]]]


@jit
def _sgd(w: Array, g: Array, new: Array, lr: Any) -> None:
    for i in range(w.shape[0]):
        new[i] = w[i] - lr * g[i]


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
    sgd: Any, parameters: list[Array], gradients: list[Array], slots: dict[str, list[Array]], hyper: tuple[float, ...]
) -> Update:
    if small(parameters):
        return kernels.sgd_update(sgd, parameters, gradients, slots, hyper)
    gradients = sgd.prepared(parameters, gradients)
    if not sgd.momentum:
        return each(_sgd, parameters, gradients, slots, [], hyper)
    loop = _nesterov if sgd.nesterov else _momentum
    return each(loop, parameters, gradients, slots, ["velocity"], [*hyper, sgd.momentum])


def adagrad_update(
    adagrad: Any, parameters: list[Array], gradients: list[Array], slots: dict[str, list[Array]], hyper: Any
) -> Update:
    if small(parameters):
        return adagrad.update(parameters, gradients, slots, hyper)
    numbers = [*hyper, 1.0, 1.0, adagrad.EPSILON]
    return each(_squares, parameters, adagrad.prepared(parameters, gradients), slots, ["squares"], numbers)


def rmsprop_update(
    rmsprop: Any, parameters: list[Array], gradients: list[Array], slots: dict[str, list[Array]], hyper: Any
) -> Update:
    if small(parameters):
        return rmsprop.update(parameters, gradients, slots, hyper)
    numbers = [*hyper, rmsprop.decay, 1.0 - rmsprop.decay, rmsprop.EPSILON]
    return each(_squares, parameters, rmsprop.prepared(parameters, gradients), slots, ["squares"], numbers)


def adam_update(
    adam: Any, parameters: list[Array], gradients: list[Array], slots: dict[str, list[Array]], hyper: tuple[float, ...]
) -> Update:
    if small(parameters):
        return kernels.adam_update(adam, parameters, gradients, slots, hyper)
    lr, lr_of_mean, root = hyper
    decay = 1.0 - lr * adam.weight_decay if adam.decoupled else 1.0
    b1, b2 = adam.beta1, adam.beta2
    numbers = [lr_of_mean, root, b1, 1.0 - b1, b2, 1.0 - b2, adam.epsilon, decay]
    return each(_adam, parameters, adam.prepared(parameters, gradients), slots, ["mean", "square"], numbers)


def small(parameters: list[Array]) -> bool:
    """Whether no parameter is large enough for a compiled loop to pay."""
    return all(w.size < LEAST for w in parameters)


def each(
    loop: Any, parameters: list[Array], gradients: list[Array], slots: dict[str, list[Array]], kinds: list[str],
    numbers: Any,
) -> Update:  # fmt: skip
    """Runs a loop over every parameter: it takes w, dE/dw, the slots of those kinds, the new ones, and the numbers."""
    new: list[Array] = []
    new_slots: dict[str, list[Array]] = {kind: [] for kind in kinds}
    for i, (w, g) in enumerate(zip(parameters, gradients, strict=True)):
        made = [np.empty(w.shape, w.dtype) for _ in range(1 + len(kinds))]
        old = (w, g, *(slots[kind][i] for kind in kinds))
        loop(*map(line, old), *(a.reshape(-1) for a in made), *map(w.dtype.type, numbers))
        new.append(made[0])
        for kind, array in zip(kinds, made[1:], strict=True):
            new_slots[kind].append(array)
    return new, new_slots


def line(a: Array) -> Array:
    """The numbers of an array in C order, 1-D and writable, as the loops are compiled for; a copy where it must be."""
    return writable(a).reshape(-1)


TWINS: dict[str, Any] = {
    "optimizers.SGD.update": sgd_update,
    "optimizers.AdaGrad.update": adagrad_update,
    "optimizers.RMSprop.update": rmsprop_update,
    "optimizers.Adam.update": adam_update,
}
