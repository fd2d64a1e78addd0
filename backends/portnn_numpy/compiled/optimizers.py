"""Optimizers: a parameter, its gradient and its slots are read once, and the new ones written once.

A loop relies on all its arrays having the size of the first: ``_each`` checks that. Loops that square the gradient
count the elements that are small enough to square, and return False if some are not: NumPy's version then repeats the
step. (The count is cheap: the compiler unrolls a loop with a sum further.)
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numba import prange

from portnn_numpy._prepare import in_order, prepared
from portnn_numpy.compiled.jit import LEAST, Array, loop, ran

Slots = dict[str, list[Array]]
Hyper = tuple[float, ...]
Update = tuple[list[Array], Slots]


@loop(contract=False)
def _momentum(w: Array, g: Array, v: Array, new: Array, velocity: Array, lr: Any, momentum: Any) -> None:
    for i in prange(w.shape[0]):
        along = momentum * v[i] + g[i]
        velocity[i] = along
        new[i] = w[i] - lr * along


@loop(contract=False)
def _nesterov(w: Array, g: Array, v: Array, new: Array, velocity: Array, lr: Any, momentum: Any) -> None:
    for i in prange(w.shape[0]):
        along = momentum * v[i] + g[i]
        velocity[i] = along
        new[i] = w[i] - lr * (g[i] + momentum * along)


@loop(contract=False)
def _squares(
    w: Array, g: Array, s: Array, new: Array, squares: Array, lr: Any, old: Any, part: Any, eps: Any, most: Any
) -> bool:
    within = 0
    for i in prange(w.shape[0]):
        square = old * s[i] + part * (g[i] * g[i])
        squares[i] = square
        new[i] = w[i] - lr * g[i] / (np.sqrt(square) + eps)
        within += abs(g[i]) <= most
    return within == w.shape[0]


@loop(contract=False)
def _adam(
    w: Array, g: Array, m: Array, v: Array, new: Array, means: Array, squares: Array,
    lr: Any, root: Any, b1: Any, c1: Any, b2: Any, c2: Any, eps: Any, decay: Any, most: Any,
) -> bool:  # fmt: skip
    within = 0
    for i in prange(w.shape[0]):
        mean = b1 * m[i] + c1 * g[i]
        square = b2 * v[i] + c2 * (g[i] * g[i])
        means[i] = mean
        squares[i] = square
        new[i] = decay * w[i] - lr * mean / (np.sqrt(square) * root + eps)
        within += abs(g[i]) <= most
    return within == w.shape[0]


class SGD:
    @staticmethod
    def update(sgd: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
        if not sgd.momentum or not _are_worth_it(parameters):  # two passes over memory are as fast as one loop
            return NotImplemented
        loop, numbers = _nesterov if sgd.nesterov else _momentum, (*hyper, sgd.momentum)
        return (
            _each(loop, [numbers] * len(parameters), sgd, parameters, gradients, slots, ("velocity",)) or NotImplemented
        )


class Adam:
    @staticmethod
    def update(adam: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
        if not _are_worth_it(parameters):
            return NotImplemented
        decay = 1.0 - hyper[0] * adam.weight_decay if adam.decoupled else 1.0
        b1, b2, info = adam.beta1, adam.beta2, _finfo(parameters[0].dtype)
        same = b1, 1.0 - b1, b2, 1.0 - b2, adam.epsilon_in(info), decay, adam.largest(info)
        numbers = [(*pair, *same) for pair in adam.corrections(hyper, parameters)]
        return _each(_adam, numbers, adam, parameters, gradients, slots, ("mean", "square")) or NotImplemented


class AdaGrad:
    @staticmethod
    def update(adagrad: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
        if not _are_worth_it(parameters):
            return NotImplemented
        numbers = (*hyper, 1.0, 1.0, adagrad.EPSILON, adagrad.largest(_finfo(parameters[0].dtype)))
        return (
            _each(_squares, [numbers] * len(parameters), adagrad, parameters, gradients, slots, ("squares",))
            or NotImplemented
        )


class RMSprop:
    @staticmethod
    def update(rmsprop: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Hyper) -> Update:
        if not _are_worth_it(parameters):
            return NotImplemented
        most = rmsprop.largest(_finfo(parameters[0].dtype))
        numbers = (*hyper, rmsprop.decay, 1.0 - rmsprop.decay, rmsprop.EPSILON, most)
        return (
            _each(_squares, [numbers] * len(parameters), rmsprop, parameters, gradients, slots, ("squares",))
            or NotImplemented
        )


def _are_worth_it(parameters: list[Array]) -> bool:
    """Whether any is large enough for a loop to pay (a small network compiles none of these) and all have one dtype."""
    for w in parameters:
        if w.size >= LEAST:
            dtype = w.dtype
            return dtype.char in "fd" and dtype.isnative and {other.dtype for other in parameters} == {dtype}
    return False


@cache
def _finfo(dtype: Any) -> Any:
    return np.finfo(dtype)


def _each(
    loop: Any,
    numbers: Sequence[tuple[float, ...]],
    optimizer: Any,
    parameters: list[Array],
    gradients: list[Array],
    slots: Slots,
    kinds: tuple[str, ...],
) -> Update | None:
    """Runs a loop over every parameter: it takes w, dE/dw, the slots, the new w and slots, and the hyperparameters.

    None where the loop does not compile, or returns False.
    """
    parameters, given, slots = in_order(optimizer, parameters, gradients, slots, kinds)
    gradients = prepared(optimizer, parameters, given)
    if gradients is not given and any(g.shape != w.shape for w, g in zip(parameters, gradients, strict=True)):
        shapes = [g.shape for g in gradients]
        raise ValueError(f"{type(optimizer).__name__}.prepared returned shapes {shapes}, other than the parameters'")
    scalars = {own: [*map(parameters[0].dtype.type, own)] for own in set(numbers)}  # most often one for all
    made: list[list[Array]] = []
    for own, *read in zip(numbers, parameters, gradients, *[slots[kind] for kind in kinds], strict=True):
        shape, dtype = read[0].shape, read[0].dtype
        written = [np.empty(shape, dtype) for _ in (None, *kinds)]
        if not ran(loop, *map(_flat, read), *[a.reshape(-1) for a in written], *scalars[own]):
            return None
        made.append(written)
    new, *remembered = map(list, zip(*made, strict=True))
    return new, dict(zip(kinds, remembered, strict=True))


def _flat(a: Array) -> Array:
    """The array as the loops take it: 1-D, contiguous, aligned and writable; a copy where necessary."""
    return (a if type(a) is np.ndarray and a.flags.carray else np.array(a, order="C")).reshape(-1)
