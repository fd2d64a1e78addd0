"""Optimizers, fused: one launch updates up to ``PARAMETERS`` parameters."""

from functools import partial
from typing import Any

import cupy
import numpy as np

from portnn_cupy.in_place import ending_of
from portnn_cupy.kernels import PARAMETERS
from portnn_cupy.launch import NULL, in_order, launch

Array = Any
Slots = dict[str, list[Array]]
TABLE = np.dtype([("size", np.int64, PARAMETERS), ("at", np.uint64, (PARAMETERS, 7))])


class SGD:
    @staticmethod
    def update(sgd: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Any) -> Any:
        if not sgd.momentum:
            new, _ = _update(sgd, 0, (0.0,) * 7, parameters, gradients, slots, hyper, ())
            return new, slots
        kind, numbers = 2 if sgd.nesterov else 1, (sgd.momentum, *(0.0,) * 6)
        return _update(sgd, kind, numbers, parameters, gradients, slots, hyper, ("velocity",))


class AdaGrad:
    @staticmethod
    def update(adagrad: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Any) -> Any:
        numbers = (1.0, 1.0, 0.0, 0.0, 0.0, adagrad.EPSILON, adagrad.largest(_finfo(parameters)))
        return _update(adagrad, 3, numbers, parameters, gradients, slots, hyper, ("squares",))


class RMSprop:
    @staticmethod
    def update(rmsprop: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Any) -> Any:
        old, new = rmsprop.decay, 1.0 - rmsprop.decay
        numbers = (old, new, 0.0, 0.0, 0.0, rmsprop.EPSILON, rmsprop.largest(_finfo(parameters)))
        return _update(rmsprop, 3, numbers, parameters, gradients, slots, hyper, ("squares",))


class Adam:
    @staticmethod
    def update(adam: Any, parameters: list[Array], gradients: list[Array], slots: Slots, hyper: Any) -> Any:
        decay, info = adam.weight_decay if adam.decoupled else 0.0, _finfo(parameters)
        a, b = adam.beta1, adam.beta2
        numbers = (a, 1.0 - a, b, 1.0 - b, decay, adam.epsilon_in(info), adam.largest(info))
        own = None if len(hyper) == 3 else adam.corrections(hyper, parameters)
        return _update(adam, 4, numbers, parameters, gradients, slots, hyper, ("mean", "square"), own)


def _finfo(parameters: list[Array]) -> Any:
    return np.finfo(parameters[0].dtype if parameters else np.float32)


def _update(
    optimizer: Any, kind: int, numbers: tuple[float, ...], parameters: list[Array], gradients: list[Array],
    slots: Slots, hyper: Any, kinds: tuple[str, ...], own: list[tuple[Any, Any]] | None = None,
) -> Any:  # fmt: skip
    """Updates up to PARAMETERS parameters per launch, or one if each has hyperparameters of its own.

    The kernel trusts sizes and dtypes, so they are checked here.
    """
    optimizer.check(parameters, gradients, slots, *kinds)
    if not parameters:
        return [], {name: [] for name in kinds}
    gradients = optimizer.prepared(parameters, gradients)
    optimizer.check(parameters, gradients, slots)
    dtype = parameters[0].dtype
    if any(w.dtype != dtype for w in parameters):
        raise ValueError(f"parameters of several dtypes cannot be updated together: {[w.dtype for w in parameters]}")
    real, ending = dtype.type, ending_of([*parameters, *(a for name in kinds for a in slots[name])])
    if ending is None:
        new = [cupy.empty(w.shape, w.dtype) for w in parameters]
        new_slots = {name: [cupy.empty(w.shape, w.dtype) for w in parameters] for name in kinds}
    else:  # the buffers themselves, written when all else of the step is done
        new, new_slots, gradients = (
            parameters,
            {name: slots[name] for name in kinds},
            list(map(ending.apart, gradients)),
        )
    most = PARAMETERS if own is None else 1
    for start in range(0, len(parameters), most):
        part = range(start, min(start + most, len(parameters)))
        given = hyper if own is None else (hyper[0], *own[start])
        places = [h if isinstance(h, cupy.ndarray) else NULL for h in given]
        values = [real(0.0) if isinstance(h, cupy.ndarray) else real(h) for h in given]
        missing = 3 - len(places)
        common = [np.int32(kind), *places, *[NULL] * missing, *values, *[real(0.0)] * missing, *map(real, numbers)]
        arrays = []
        for i in part:
            old, made = ([group[name][i] for name in kinds] for group in (slots, new_slots))
            nothing = [None] * (2 - len(old))
            read = [in_order(a) for a in (parameters[i], gradients[i], *old)]
            arrays.append([*read, *nothing, new[i], *made, *nothing])
        update = partial(_launch, dtype, common, arrays)
        if ending is None:
            update(None)
        else:
            ending.updates.append(update)
    return new, new_slots


def _launch(dtype: Any, common: list[Any], arrays: list[list[Any]], counters: Any) -> bool:
    """One launch over the arrays of several parameters; whether it counted as well."""
    table = np.zeros((), TABLE)
    table["size"][: len(arrays)] = sizes = [row[0].size for row in arrays]
    table["at"][: len(arrays)] = [[0 if a is None else a.data.ptr for a in row] for row in arrays]
    counts = counters is not None and counters[4].dtype == dtype
    counted = counters if counts else (*[NULL] * 9, np.int64(0))
    launch("update_all", dtype, max(sizes), *common, table, *counted, rows=len(arrays))
    return counts and max(sizes) > 0
