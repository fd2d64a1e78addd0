"""Functions with their derivatives: portnn's, by name or as functions, and users' pairs, whose results are checked."""

import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any

from portnn import names, ops
from portnn.backend import Backend, device_dtype, in_order

Function = Callable[..., Any]
Pairs = dict[str, tuple[Function, Function]]


def find_pair(kind: str, pairs: Pairs, function: Any, prime: Any) -> tuple[Function, Function]:
    """Returns (function, derivative) for an activation or a loss (``kind``) as the user gave it.

    A name or one of portnn's own functions is enough; any other function needs its derivative, as a second argument or
    as an attribute ``prime``.
    """
    found = _named(kind, pairs, function) if isinstance(function, str) else function
    _check_callable(kind, found)
    for own, own_prime in pairs.values():
        if found is own and (prime is None or prime is own_prime):
            return own, own_prime
    return found, _derivative(kind, found, prime)


def _named(kind: str, pairs: Pairs, name: str) -> Function:
    """Our own function of that name."""
    if kind == "activation":
        _refuse_no_activation(name)
    if name not in pairs:
        raise ValueError(names.unknown(kind, name, pairs, f"Or give {_other(kind)}"))
    return pairs[name][0]


def _check_callable(kind: str, function: Any) -> None:
    if kind == "activation" and ops.is_ours(function):
        _refuse_no_activation(name_of(function))
    if isinstance(function, type) and hasattr(function, "prime"):
        name = name_of(function)
        raise TypeError(f"{kind} must be an object, got the class {name}: write {name}()")
    if isinstance(function, type) or not callable(function):
        given = f"the class {name_of(function)}" if isinstance(function, type) else f"{function!r:.60}"
        raise TypeError(f"{kind} must be a name, a function or an object with .prime, got {given}")


def _derivative(kind: str, function: Function, prime: Any) -> Function:
    """The derivative that a user gave, as an argument or as the function's attribute ``prime``."""
    found = getattr(function, "prime", None) if prime is None else prime
    if found is None:
        raise TypeError(
            f"{kind} {name_of(function)} needs its derivative: pass it as {kind}_prime, a function of the same "
            "arguments"
        )
    if not callable(found):
        advice = ": name what is no loss, use(loss, optimizer=..., metrics=[...])" if kind == "loss" else ""
        raise TypeError(f"{kind}_prime must be a function, got {found!r:.60}{advice}")
    derivative: Function = found
    return derivative


def _other(kind: str) -> str:
    return (
        "an object, Huber() or SoftmaxCrossEntropy(), or a pair of functions"
        if kind == "loss"
        else "a pair of functions"
    )


def bound(function: Function, backend: Backend, kernels: str, dtype: str, scalar: bool = False) -> Function:
    """A function as a network runs it: the fast version of portnn's own; a user's, with its results checked and cast.

    A user's function must return an array of the backend, of the shape of its argument, of the second of several (a
    single number if ``scalar``); it is cast to ``dtype``.
    """
    if ops.is_ours(function):
        return ops.implementation(backend, kernels, function)
    target = device_dtype(backend, dtype)

    def call(*arrays: Any) -> Any:
        answer = function(*(backend.xp.asarray(a, copy=True) for a in arrays))  # it may write into them
        if not backend.owns(answer):
            raise TypeError(
                f"{name_of(function)} returned {type(answer).__module__}.{type(answer).__name__}, but the network runs "
                f"on backend {backend.name!r}: write it with the namespace of its arguments (self.xp in a layer, "
                "portnn.backend.namespace(x) in a function)"
            )
        expected = () if scalar else tuple(arrays[min(1, len(arrays) - 1)].shape)
        if tuple(answer.shape) != expected:
            raise ValueError(
                f"{name_of(function)} returned an array of shape {tuple(answer.shape)}, but its arguments have shapes "
                f"{', '.join(str(tuple(a.shape)) for a in arrays)}: it must return "
                + ("one number, the mean over the batch" if scalar else f"shape {expected}")
            )
        return in_order(
            answer if answer.dtype == target else backend.xp.asarray(answer, dtype=target)
        )  # in whatever memory order it came

    return call


def takes(function: Any, name: str, place: int) -> bool:
    """Whether a function, or an object that is called like one, has a parameter of that name at that place."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some functions in C do not say
        return False
    return any(p.name == name and p.kind <= p.POSITIONAL_OR_KEYWORD for p in parameters[place : place + 1])


def name_of(function: Any) -> str:
    """A function's name in error messages."""
    return str(getattr(function, "__name__", type(function).__name__))


def is_same(a: Any, b: Any) -> bool:
    """Whether two names stand for one thing; a bound method is another object each time that it is looked up."""
    return a is b or (isinstance(a, MethodType) and isinstance(b, MethodType) and a == b)


def _refuse_no_activation(name: str) -> None:
    """Raises ValueError for a function that is not elementwise, however its name is spelt; says what to write."""
    bare = names.squeezed(name)
    if bare in WHOLE_AXIS:
        raise ValueError(
            f"{name} is not a function of one element: each output depends on every input, so it cannot be an "
            f"ActivationLayer. Instead {WHOLE_AXIS[bare]}"
        )
    if bare in ("linear", "identity"):
        raise ValueError(f"{name} changes nothing: leave the ActivationLayer out")


# Functions over the whole last axis: what to use instead of an ActivationLayer.
WHOLE_AXIS = {
    "softmax": "write SoftmaxLayer(); or leave it out and use the loss 'softmax_cross_entropy', which takes logits",
    "logsoftmax": "leave it out and use the loss 'softmax_cross_entropy', which takes logits",
}
