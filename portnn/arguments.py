"""Checks of a network's arguments: layers, optimizers, metrics, and calls with missing arguments."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

from portnn import checks, names
from portnn.backend import BUILT_IN
from portnn.callbacks import METHODS, SHAPE, Callback, method_of
from portnn.functions import name_of, takes
from portnn.layers import Layer
from portnn.metrics import find as find_metric
from portnn.metrics import is_object as is_metric_object
from portnn.metrics import known_names, name_in_table
from portnn.ops import is_ours
from portnn.optimizers import SGD, AdaGrad, Adam, AdamW, RMSprop

Method = TypeVar("Method", bound=Callable[..., Any])
KERNELS = ("auto", "portable")
RESERVED = ("error", "weights", "learning_rate")  # names of other sums and values of an epoch
OPTIMIZERS = {"sgd": SGD, "adagrad": AdaGrad, "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW}
ONE_BY_ONE = "add them one by one: for layer in layers: net.add(layer)"


def check_kernels(kernels: Any) -> str:
    """``"auto"`` or ``"portable"``."""
    if not isinstance(kernels, str) or kernels not in KERNELS:
        guess = names.meant("kernels", kernels, KERNELS)
        raise ValueError(f"kernels must be one of {KERNELS}, got {kernels!r:.60}{guess}")
    return kernels


def layer_list(layers: Any) -> list[Any]:
    """The argument ``layers`` as a list; whether each item is a layer is checked when it is added."""
    if isinstance(layers, Layer):
        raise TypeError(f"layers must be a list, got one layer: Network([{layers}])")
    if isinstance(layers, type):
        raise TypeError(
            f"layers must be a list of layers, got the class {layers.__name__}: Network([{layers.__name__}(...)])"
        )
    if isinstance(layers, str):
        hint = f": Network(layers, backend={layers!r:.60})" if layers in BUILT_IN else ""
        raise TypeError(f"layers must be a list of layers, got {layers!r:.60}{hint}")
    if isinstance(layers, (dict, set, frozenset)) or not isinstance(layers, Iterable):
        raise TypeError(f"layers must be a list of layers, got {layers!r:.60}")
    try:
        found = list(layers)
    except TypeError as error:  # such as a 0-d array
        raise TypeError(f"layers must be a list of layers, got {layers!r:.60}: {error}") from None
    for layer in found:
        if isinstance(layer, (list, tuple)):
            raise TypeError(
                f"a network takes one flat list of layers, got a list within it, {layer!r:.60}: write its layers one "
                "by one, or with a *: Network([first, *others])"
            )
    return found


def check_layer(layer: Any) -> None:
    """Raises TypeError, for ``add``, for anything that is not a layer."""
    if isinstance(layer, (list, tuple)):
        raise TypeError(f"add takes one layer, got a {type(layer).__name__}: {ONE_BY_ONE}")
    if not isinstance(layer, Layer):
        example = f"add({layer.__name__}(...))" if isinstance(layer, type) else "add(FCLayer(2, 3))"
        raise TypeError(f"add takes a Layer object, such as {example}, got {layer!r:.60}")


def takes_one(what: str, advice: str) -> Callable[[Method], Method]:
    """Decorates a method of one positional argument: called with more, it says what to write instead."""

    def made(method: Method) -> Method:
        @wraps(method)
        def called(self: Any, *given: Any, **options: Any) -> Any:
            if len(given) > 1:
                listed = ", ".join(f"{argument!r:.30}" for argument in given)
                raise TypeError(f"{what}, got {len(given)} arguments, {listed:.90}: {advice}")
            return method(self, *given, **options)

        return called  # type: ignore[return-value]

    return made


def optimizer(given: Any) -> Any:
    """The optimizer that a user gave, by name or as an object; None if none was given."""
    if isinstance(given, str):
        if given not in OPTIMIZERS:
            raise ValueError(names.unknown("optimizer", given, OPTIMIZERS, "Or give an object, such as SGD(0.1)"))
        return OPTIMIZERS[given]()
    parts = ("slots", "hyper", "update")
    if given is None or (not isinstance(given, type) and all(callable(getattr(given, part, None)) for part in parts)):
        return given
    what = f"the class {given.__name__}: write {given.__name__}()" if isinstance(given, type) else f"{given!r:.60}"
    raise TypeError(
        f"optimizer must be one such as SGD(0.1), with {', '.join(parts)}, or one of the names "
        f"{', '.join(OPTIMIZERS)}; got {what}"
    )


def metric_list(metrics: Any, loss: Any) -> list[tuple[str, Any]]:
    """The metrics that a user gave, each with its name; all names are distinct."""
    if isinstance(metrics, (str, bytes, dict, type)) or not isinstance(metrics, Iterable):
        given = name_of(metrics) if callable(metrics) else f"{metrics!r:.60}"
        meant = given if callable(metrics) or isinstance(metrics, str) else "" if metrics is None else '"accuracy"'
        raise TypeError(f"metrics must be a list of names or functions, got {given}: metrics=[{meant}]")
    try:
        found = [_metric(metric, loss) for metric in list(metrics)]
    except TypeError as error:
        if getattr(metrics, "ndim", 1):
            raise
        raise TypeError(f"metrics must be a list, got {metrics!r:.60}: {error}") from None
    taken = [name for name, _ in found]
    for name in taken:
        if name in RESERVED or name.startswith("val_"):
            raise ValueError(f"a metric cannot be called {name!r}, which means something else in a history: rename it")
    if len(set(taken)) < len(taken):
        raise ValueError(f"metrics need distinct names, got {', '.join(taken)}: rename your functions")
    return found


def _metric(metric: Any, loss: Any) -> tuple[str, Any]:
    if isinstance(metric, str):
        found = find_metric(metric, loss)
        if found is None:
            raise ValueError(names.unknown("metric", metric, known_names(metric), "Or give a function"))
        return metric, found
    if isinstance(metric, type):
        hint = f": write {metric.__name__}(...)" if is_metric_object(metric) else ""
        raise TypeError(f"a metric must be a name or a function, got the class {metric.__name__}{hint}")
    if (name := name_in_table(metric)) is not None:
        return name, find_metric(name, loss)
    if is_metric_object(metric):
        return metric.name, metric
    if not callable(metric):
        lacks = [part for part in ("name", "sums", "value") if not hasattr(metric, part)]
        its = f", which lacks {', '.join(lacks)}" if 0 < len(lacks) < 3 else ""
        raise TypeError(
            "a metric must be a name, a function of (y_true, y_pred), or an object with name, sums and value, got "
            f"{metric!r:.60}{its}"
        )
    return name_of(metric), metric


def check_complete(call: str, y: Any, epochs: Any = ..., *, optimizer: Any = None) -> None:
    """Raises TypeError for a call of ``fit`` or ``evaluate`` without targets or epochs, and shows a complete one."""
    if y is not None and epochs is not None:
        return
    rate = "" if optimizer is not None else ", learning_rate=0.1"
    whole = f"net.{call}(x, y)" if epochs is ... else f"net.{call}(x, y, epochs=10{rate})"
    lacks = "the targets y" if y is None else "the number of epochs"
    raise TypeError(f"{call} needs {lacks}: write {whole}")


def callback_list(callbacks: Any) -> list[Callback]:
    """The callbacks that a user gave."""
    if isinstance(callbacks, Callback) or (isinstance(callbacks, type) and issubclass(callbacks, Callback)):
        name = (callbacks if isinstance(callbacks, type) else type(callbacks)).__name__
        raise TypeError(f"callbacks must be a list, got one callback: write callbacks=[{name}(...)]")
    try:
        found = list(callbacks)
    except TypeError:
        raise TypeError(f"callbacks must be a list, got {callbacks!r:.60}") from None
    for callback in found:
        if isinstance(callback, type) and issubclass(callback, Callback):
            raise TypeError(f"callbacks holds the class {callback.__name__}: write {callback.__name__}(...)")
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks holds {callback!r:.60} ({type(callback).__name__}): a callback derives from "
                f"portnn.Callback and defines, say, {SHAPE}"
            )
    for callback in found:
        _check_methods(callback)
    if len(set(map(id, found))) < len(found):
        raise ValueError("callbacks holds the same object twice")
    return found


def _check_methods(callback: Callback) -> None:
    """Raises TypeError for a method that looks like one of ``Callback``'s and is not, or takes other arguments."""
    cls = type(callback)
    for name in METHODS:
        method_of(callback, name)
    for name in dir(cls):
        if name.startswith("on_") and name not in METHODS and not is_ours(getattr(cls, name)):
            guess = names.meant("callback method", name, METHODS)
            raise TypeError(
                f"{cls.__name__} defines {name}, which fit never calls; it calls {', '.join(METHODS)}{guess}"
            )


def validation_share(validation_split: Any, validation_data: Any) -> float:
    """``validation_split``, at least 0 and less than 1; ValueError together with ``validation_data``."""
    share = checks.in_range(0.0, 1.0)("validation_split", validation_split)
    if share and validation_data is not None:
        raise ValueError("fit was given validation_data and validation_split: give one of the two")
    return share


def validation_parts(validation_data: Any) -> tuple[Any, Any, Any]:
    """x, y and weights (or None) of ``validation_data``."""
    if isinstance(validation_data, (tuple, list)) and len(validation_data) in (2, 3):
        x, y, *weights = validation_data
        return x, y, weights[0] if weights else None
    raise TypeError(
        f"validation_data must be (x, y) or (x, y, sample_weight), got {type(validation_data).__name__}"
        + (f" of {len(validation_data)}" if isinstance(validation_data, (tuple, list)) else "")
    )


def check_takes_weights(loss: Any, loss_prime: Any) -> None:
    """Raises TypeError for a user's loss that does not take weights."""
    for function in (loss, loss_prime):
        if not takes(function, "weights", 2):
            raise TypeError(
                f"weights were given, but {name_of(function)} takes none: write it as a function of (y_true, y_pred, "
                "weights=None), where weights (N,) weigh the samples"
            )
