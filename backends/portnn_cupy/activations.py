"""The chain rule, fused into one launch. Arguments may have any memory order; results are C-contiguous."""

from typing import Any

import cupy
import numpy as np

from portnn_cupy.launch import in_order, launch

Array = Any
CHAINS = {"relu_prime": 1, "tanh_prime": 2, "sigmoid_prime": 3}


def chain(prime: Any, x: Array, y: Array, output_error: Array) -> Array:
    kind = CHAINS.get(prime.__qualname__) if prime.__module__ == "portnn.activations" else None
    if kind is None:
        return NotImplemented
    y, d = in_order(y), in_order(output_error)
    dx = cupy.empty(y.shape, y.dtype)
    launch("chained", y.dtype, y.size, y, d, dx, np.int64(y.size), np.int32(kind))
    return dx
