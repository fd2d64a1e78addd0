"""From an estimator's arguments to a network that is ready to train."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from math import prod
from typing import Any

import numpy as np

from portnn import arguments, checks, names, ops
from portnn.functions import name_of
from portnn.layers import ActivationLayer, FCLayer, Layer, sequential
from portnn.network import Network

HE = ("relu", "leaky_relu")  # activations that halve the variance, which initial weights by He make up for
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.0  # the estimators' defaults


def hidden_sizes(hidden: Any) -> tuple[int, ...]:
    """The widths of the hidden layers: a number for one layer, or a sequence of numbers, which may be empty.

    TypeError for what has no order, and for what can be read only once, since ``fit`` may be called again.
    """
    if isinstance(hidden, (str, bytes, Mapping, Set, Iterator)):
        raise TypeError(f"hidden must be the widths of the hidden layers, such as (100, 50), got {hidden!r:.60}")
    if not isinstance(hidden, Iterable) or getattr(hidden, "ndim", 1) == 0:
        return (checks.size("hidden", hidden),)
    return tuple(checks.size(f"hidden[{i}]", width) for i, width in enumerate(hidden))


def fully_connected(n_features: int, n_outputs: int, hidden: Any, activation: Any) -> list[Layer]:
    """Layers (N, n_features) -> (N, n_outputs), with an activation after each but the last."""
    name = name_of(activation) if callable(activation) else activation
    initializer = "he_uniform" if name in HE else "glorot_uniform"
    layers: list[Layer] = []
    width = n_features
    for wanted in hidden_sizes(hidden):
        layers += [FCLayer(width, wanted, initializer=initializer), activation_layer(activation)]
        width = wanted
    return [*layers, FCLayer(width, n_outputs)]


def activation_layer(activation: Any) -> ActivationLayer:
    """The layer of an activation: a name, one of portnn's functions, an object with ``prime``, or a pair (f, f')."""
    if isinstance(activation, tuple):
        if len(activation) != 2:
            raise TypeError(f"activation must be a name, or a pair (f, derivative of f), got {activation!r:.60}")
        return ActivationLayer(*activation)
    if isinstance(activation, str) and names.squeezed(activation) in ("linear", "identity"):
        raise ValueError(f"activation={activation!r} makes all the layers one linear map: write hidden=() for it")
    if callable(activation) and not ops.is_ours(activation) and getattr(activation, "prime", None) is None:
        raise TypeError(f"activation {name_of(activation)} needs its derivative: give a pair, activation=(f, f_prime)")
    return ActivationLayer(activation)


def network(
    n_features: int,
    n_outputs: int,
    *,
    build: Callable[[int, int], Any] | None,
    hidden: Any,
    activation: Any,
    backend: Any,
    dtype: str,
    seed: int,
) -> Network:
    """A network (N, n_features) -> (N, n_outputs), from ``build`` if there is one; ValueError if that has other shapes.

    What ``build`` returns is copied, so that training leaves it as it is; a network keeps its weights and its seed.
    """
    if build is None:
        layers = fully_connected(n_features, n_outputs, hidden, activation)
        return Network(layers, backend=backend, dtype=dtype, seed=seed)
    if not callable(build):
        raise TypeError(
            f"build must be a function (n_features, n_outputs) -> Network or list of layers, got {build!r:.60}"
        )
    call = f"build({n_features}, {n_outputs})"
    made = build(n_features, n_outputs)
    if isinstance(made, Network):
        if made.dtype != dtype:
            raise ValueError(
                f"{call} returned a network of dtype {made.dtype!r}, but the estimator has dtype={dtype!r}: give both "
                "the same, or let build return a list of layers"
            )
        found = copy.deepcopy(made).to(backend)
    elif isinstance(made, (list, tuple)):
        found = Network(copy.deepcopy(made), backend=backend, dtype=dtype, seed=seed)
    else:
        raise TypeError(f"{call} must return a Network or a list of layers, got {made!r:.60}")
    if not found.layers:
        raise ValueError(f"{call} returned no layers")
    try:
        sequential.shapes(found.layers, (n_features,))
    except ValueError as error:
        fault = getattr(error, "fault", error)
        raise ValueError(f"{call} returned layers that do not take rows of {n_features} numbers: {fault}") from error
    output = found.predict(np.zeros((1, n_features), dtype)).shape[1:]
    if prod(output) != n_outputs or output[-1:] not in ((n_outputs,), ()):
        raise ValueError(
            f"{call} must return layers from (N, {n_features}) to (N, {n_outputs}), but they answer with "
            f"{('N', *output)}".replace("'", "")
        )
    return found


def optimizer(given: Any, learning_rate: Any, weight_decay: Any) -> Any:
    """The optimizer by name, with these numbers, or a copy of the one that was given, which has its own."""
    if isinstance(given, str):
        made = type(arguments.optimizer(given))
        return made(learning_rate, weight_decay=weight_decay)
    if given is None:
        raise TypeError(f"optimizer must be one such as Adam(), or one of {', '.join(arguments.OPTIMIZERS)}, got None")
    found = arguments.optimizer(copy.deepcopy(given))
    for name, value, default in (
        ("learning_rate", learning_rate, LEARNING_RATE),
        ("weight_decay", weight_decay, WEIGHT_DECAY),
    ):
        if value is not default and value != default:
            raise ValueError(
                f"optimizer={given!r} has its own {name}: leave {name}={value!r} out, or give the optimizer by name"
            )
    return found
