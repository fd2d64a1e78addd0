"""Validation of users' data: checked and converted here, once, before the network changes."""

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from portnn import activations, checks, losses, names, ops
from portnn._typing import Array, Shape
from portnn.backend import Backend
from portnn.functions import name_of
from portnn.layers import ActivationLayer, FlattenLayer, ReshapeLayer, SoftmaxLayer, sequential
from portnn.transfer import bring, is_foreign

DTYPES = ("float32", "float64")
NATIVE = {name: np.dtype(name) for name in DTYPES}
CHUNK = 1 << 22  # elements checked at a time: bounds the memory that a check takes


def dtype_name(dtype: Any) -> str:
    """``"float32"`` or ``"float64"``, given by name or as a NumPy dtype (``np.float32``)."""
    name: Any = dtype
    if dtype is not None and not isinstance(dtype, str):  # NumPy takes None for float64
        try:
            name = np.dtype(dtype).name
        except (TypeError, ValueError):
            name = None
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r:.60}{names.meant('dtype', dtype, DTYPES)}")
    return str(name)


def batch(x: Any, backend: Backend, dtype: str, what: str) -> Array:
    """Returns ``x`` (N, ...) as an array of the backend: floats cast to the network's dtype, integers unchanged."""
    if type(x) is np.ndarray and x.ndim and x.dtype is NATIVE[dtype] and backend.owns(x):
        return x
    with np.errstate(over="ignore"):  # check_finite finds values too large for float32, and their index
        array = bring(x, backend, dtype, what)
    if array.ndim == 0:
        raise ValueError(f"{what} must have an axis of samples, (N, ...), got the single number {x!r:.40}")
    return array


def answer(Y: Array, X: Array, x: Any, backend: Backend, run: Any) -> Any:
    """A network's outputs Y for X as ``predict`` returns them: NumPy for host data, else an array of the backend.

    The caller gets an array of its own. Layers that change nothing but the shape may return a view of X, which may be
    the caller's array or a memory map, and a user's layer may return an array that it keeps: these are copied. ``run``
    is the network's ``Inference``.
    """
    if type(Y) is np.ndarray:
        return Y if run.owns_output or (run.own and not np.may_share_memory(Y, X)) else np.array(Y)
    if not (backend.owns(x) or is_foreign(x)):
        return backend.to_numpy(Y)
    return Y if run.owns_output else backend.xp.asarray(Y, copy=True)


def joined(parts: list[Array], backend: Backend) -> Any:
    """The outputs of batches as one array: NumPy unless all of them are arrays of the backend."""
    if not parts:
        raise ValueError("x is an iterable of batches, but it gave none: there is nothing to predict")
    if all(map(backend.owns, parts)):
        with backend.scope():
            return backend.xp.concat(parts)
    return np.concatenate([backend.to_numpy(Y) if backend.owns(Y) else Y for Y in parts])


def check_article_layers(network: Any, batch_size: int) -> None:
    """Raises ValueError for batches of several samples in a network with a layer that takes one at a time."""
    for layer in network.walk() if batch_size > 1 else ():
        if layer.updates_itself and not layer.batched:
            raise ValueError(
                f"batch_size={batch_size}, but layer {layer.path} ({type(layer).__name__}) is written as in the "
                "article: it takes one sample at a time. Use batch_size=1, or set batched = True in its class if it "
                "takes batches"
            )


def shapes(layers: list[Any], x: Array, given: Any) -> list[Any]:
    """The shape of one sample before each layer and after the last, for samples of x.

    The layers exist and fit each other: if they do not fit the samples, the error says how to change the data, which
    was ``given`` as an array or a list.
    """
    try:
        return sequential.shapes(layers, tuple(x.shape[1:]))
    except ValueError as error:
        fault = error
    raise ValueError(_misfit(layers, tuple(x.shape), isinstance(given, (list, tuple)), fault))


def _misfit(layers: list[Any], shape: Shape, is_list: bool, error: ValueError) -> str:
    """The error message: the shape of x, the shape that the network takes, and how to change x."""
    sample = shape[1:]
    if shape[0] == 0:
        return f"x holds 0 samples, and by its shape {shape} they would not fit the network: " + str(
            getattr(error, "fault", error)
        )
    has = f"x has samples of shape {sample}{' (single numbers)' if not sample else ''}; its own shape is {shape}"
    stated = _stated(layers)
    cure = _cure(layers, shape, stated, "np.array(x)" if is_list else "x")
    if stated is None or stated.suits(sample):  # a later layer does not take the result
        fault, advice = getattr(error, "fault", str(error)), getattr(error, "advice", "")
        return f"{has}. They do not fit: {fault}. " + (cure or f"Change the data{f', or {advice}' if advice else ''}")
    which = f"its {'first layer' if stated.place == 0 else f'layer {stated.place}'} is {layers[stated.place]!r:.80}"
    return f"{has}. But the network takes {stated}: {which}. " + (
        cure or f"Change the data, not the layer: give it {'' if stated.flat else 'samples of shape '}{stated}"
    )


class _Stated(NamedTuple):
    """The sample shape that the layer at index ``place`` declares; ``flat``: any shape of as many values will do."""

    shape: Shape
    place: int
    flat: bool
    last_axis_only: bool

    def suits(self, sample: Shape) -> bool:
        if self.flat:
            return prod(sample) == prod(self.shape)
        return (sample[-1:] if self.last_axis_only else sample) == self.shape

    def __str__(self) -> str:
        return f"samples of {prod(self.shape)} numbers" if self.flat else str(self.shape)


def _stated(layers: list[Any]) -> _Stated | None:
    """The sample shape that the first layers take; None where they take several shapes, or do not say."""
    flat = False
    for i, layer in enumerate(layers):
        own = layer.shape if type(layer) is ReshapeLayer else sequential.own_input_shape(layer)
        if own is not None:
            return _Stated(own, i, flat or type(layer) is ReshapeLayer, layer.last_axis_only)
        flat = flat or type(layer) is FlattenLayer
        if not (ops.is_ours(type(layer)) and (layer.last_axis_only or type(layer) is FlattenLayer)):
            return None
    return None


def _cure(layers: list[Any], shape: Shape, stated: _Stated | None, x: str) -> str:
    """How to turn an array x of this shape into samples that fit: the first way that works; empty if there is none."""
    sample, last = shape[1:], shape[-1:]
    one = "If x is one sample, give it an axis of samples"
    ways: list[tuple[Shape, str, str]] = [
        (shape, one, "[x]" if x != "x" else "x[None]"),
        (
            (*sample, 1),
            "Give each sample its channel axis" if len(shape) > 1 else "Give each sample an axis",
            f"{x}[..., None]",
        ),
        ((*shape, 1), f"{one}, and a channel axis", f"{x}[None, ..., None]"),
    ]
    if last == (1,):
        ways.append((sample[:-1], "Leave the last axis out", f"{x}[..., 0]"))
        ways.append((shape[:-1], f"{one}, and leave the last one out", f"{x}[None, ..., 0]"))
    if shape[0] == 1:
        ways.append((sample[1:], "Leave the first axis out", f"{x}[0]"))
    if stated is not None and not stated.flat and len(stated.shape) > 1:
        ways.append(((*sample[1:], *sample[:1]), "The channel axis goes last", f"np.moveaxis({x}, 1, -1)"))
        ways.append(((*sample, shape[0]), f"{one}; the channel axis goes last", f"np.moveaxis({x}, 0, -1)[None]"))
    for way, words, call in ways:
        if len(way) and _fit(layers, way):
            return f"{words}: {call}"
    if stated is None:
        return ""
    numbers = ", ".join(map(str, stated.shape))
    if prod(sample) == prod(stated.shape) and _fit(layers, stated.shape):
        flatten = ", or begin the network with FlattenLayer()" if len(stated.shape) == 1 else ""
        return f"Only the shape differs, not the number of values: {x}.reshape(-1, {numbers}){flatten}"
    if prod(shape) == prod(stated.shape) and _fit(layers, stated.shape):
        return f"If x is one sample, reshape it: {x}.reshape(1, {numbers})"
    return ""


def _fit(layers: list[Any], sample: Shape) -> bool:
    try:
        sequential.shapes(layers, sample)
    except ValueError:
        return False
    return True


def check_lengths(x: Array, y: Array, layers: list[Any], given: Any = None) -> None:
    """Raises ValueError for no samples at all, or for another number of targets than of samples.

    Where x is one sample, or y one target, without the sample axis, the error says so.
    """
    if x.shape[0] == 0:
        raise ValueError(f"x holds 0 samples (shape {tuple(x.shape)}): there is nothing to learn from")
    for name, array in (("x", x), ("y", y)):
        if prod(array.shape[1:]) == 0:
            raise ValueError(f"a sample of {name} has shape {tuple(array.shape[1:])}: it holds no values")
    if x.shape[0] != y.shape[0]:
        output = shapes(layers, x, given)[-1]
        one = x.shape[0] == 1 and tuple(y.shape) == output
        raise ValueError(
            f"x holds {x.shape[0]} samples, y {y.shape[0]} targets (shapes {tuple(x.shape)} and {tuple(y.shape)}): "
            "each sample needs its target" + ". If y is one target, give it an axis of samples: y[None]" * one
        )


def check_finite(x: Array, backend: Backend, what: str) -> None:
    """Raises ValueError for NaN and infinity, with the index of the first; works through the data in chunks."""
    xp = backend.xp
    if not xp.isdtype(x.dtype, "real floating"):
        return
    for start, chunk in _chunks(x):
        if backend.to_numpy(xp.all(xp.isfinite(chunk))):
            continue
        host = backend.to_numpy(chunk)
        place = np.argwhere(~np.isfinite(host))[0]
        value = host[tuple(place)]
        raise checks.BadValueError(
            what,
            (place[0] + start, *place[1:]),
            f" is {value} in {host.dtype}: fit needs finite data. Remove or replace it (numpy.nan_to_num), scale "
            "the data, or pass check_finite=False",
        )


def _chunks(x: Array) -> Iterator[tuple[int, Array]]:
    """The samples in chunks of at most ``CHUNK`` elements, or one sample each, with the index of the first one."""
    for part in slices(x.shape[0], max(1, CHUNK // max(1, prod(x.shape[1:])))):
        yield part.start, x[part, ...]


def slices(n: int, size: int) -> list[slice]:
    """Divides n samples into slices of ``size``, the last one shorter; for no samples there is one empty slice."""
    return [slice(start, min(start + size, n)) for start in range(0, max(n, 1), size)]


def check_batches(layers: list[Any], shapes: list[tuple[int, ...] | None], n: int, sizes: list[int]) -> None:
    """Raises ValueError for batches, mostly the last one, that are too small for a layer such as BatchNormLayer.

    ``shapes`` are those of one sample before each layer, ``sizes`` those of the batches of n samples.
    """
    batch_size, least = sizes[0], min(sizes)
    needed, layer = sequential.smallest_batch(layers, shapes)
    if least < needed:
        leave_out = f", or leave {least} sample{'s' * (least > 1)} out" if least != batch_size else ""
        last = f" and {n} samples leave a last batch of {least}" if least != batch_size else ""
        raise ValueError(
            f"batch_size={batch_size}{last}, but {layer} needs batches of at least {needed}, to compute the variance "
            f"of each channel: choose another batch_size{leave_out}"
        )


def check_ending(layers: list[Any], loss: Any) -> None:
    """Raises ValueError for a cross-entropy, which takes logits, after the function that it contains itself."""
    last = layers[-1] if layers else None
    name, ends = str(last), False
    if losses.takes_classes(loss):
        ends = isinstance(last, SoftmaxLayer)
    elif loss is losses.binary_cross_entropy:
        ends = isinstance(last, ActivationLayer) and last.activation is activations.sigmoid
    if ends:
        raise ValueError(
            f"{name} is followed by the loss {name_of(loss)}, which takes logits and contains that function already: "
            f"leave {name} out. For probabilities, apply the function to what predict returns"
        )


def targets(y: Array, output_shape: tuple[int, ...], loss: Any, backend: Backend) -> tuple[Array, bool]:
    """Returns y (N, ...) in the shape of the network's output, and whether it holds class numbers instead.

    Class numbers, integers (N,) for a loss that takes them, are returned unchanged. Other targets are reshaped to
    (N, *output_shape) if the shapes agree except for axes of length 1, or if one of them is flat: (N, 10) for
    (N, 1, 10). Nothing is ever broadcast. The values are checked against the range that the loss takes.
    """
    if losses.takes_classes(loss) and output_shape:
        if _are_class_numbers(y, output_shape, backend):
            last = output_shape[-1] - 1
            _check_range(y, backend, 0, last, f"the network has {last + 1} outputs, for classes 0 to")
            return y, True
        y = _in_output_shape(y, output_shape, backend, loss)
        _check_range(y, backend, 0, 1, f"{name_of(loss)} takes class numbers, or probabilities from 0 to")
        _check_sums(y, backend)
        return y, False
    y = _in_output_shape(y, output_shape, backend, loss)
    if loss is losses.binary_cross_entropy:
        _check_range(y, backend, 0, 1, f"{name_of(loss)} takes targets from 0 to")
    if loss is losses.hinge:
        _check_range(y, backend, -1, 1, f"{name_of(loss)} takes targets that are -1 or", between=False)
    return y, False


def _are_class_numbers(y: Array, output_shape: tuple[int, ...], backend: Backend) -> bool:
    """Whether y holds class numbers; ValueError for floats, or for an extra axis, where class numbers are meant."""
    shape, classes = tuple(y.shape[1:]), output_shape[-1]
    rows = output_shape[:-1]
    whole = bool(backend.xp.isdtype(y.dtype, "integral"))
    if shape == rows or (shape == () and prod(rows) == 1):
        if whole:
            return True
        raise ValueError(
            f"y holds {y.dtype}, such as {_first(y, backend):g}, but class numbers must be whole numbers: give "
            f"y.astype(int), or one-hot rows with to_categorical(y, {classes})"
        )
    if prod(shape) == prod(rows) and whole and classes > 1:
        raise ValueError(
            f"class numbers must have shape (N,{' ...' if prod(rows) > 1 else ''}), got {tuple(y.shape)}: give "
            f"{'numpy.ravel(y)' if prod(rows) == 1 else f'y of shape (N, {str(rows)[1:-1]})'}"
        )
    return False


def _in_output_shape(y: Array, output_shape: tuple[int, ...], backend: Backend, loss: Any) -> Array:
    shape = tuple(y.shape[1:])
    if shape == output_shape:
        return y
    alike = [n for n in shape if n != 1] == [n for n in output_shape if n != 1]
    flat = min(len(shape), len(output_shape)) <= 1 and prod(shape) == prod(output_shape)
    if not (alike or flat):
        hint = ""
        if shape in ((), (1,)) and len(output_shape) >= 1:
            hint = f"; class numbers become rows with to_categorical(y, {output_shape[-1]})"
        elif losses.takes_classes(loss) and len(shape) >= 1:
            hint = f"; one-hot rows have {output_shape[-1]} values, one per class, not {shape[-1]}"
        raise ValueError(
            f"a target has shape {shape} but the network's output for a sample has shape {output_shape}: "
            f"reshape y, or change the last layer{hint}"
        )
    return backend.xp.reshape(y, (y.shape[0], *output_shape))


def _check_range(y: Array, backend: Backend, low: int, high: int, rule: str, between: bool = True) -> None:
    """Raises ValueError for targets outside [low, high] (if not ``between``: not one of the two); names the first."""
    xp = backend.xp
    for start, part in _chunks(y):
        chunk = xp.astype(part, xp.int64) if xp.isdtype(y.dtype, "bool") else part
        bad = (chunk < low) | (chunk > high) if between else (chunk != low) & (chunk != high)
        if not backend.to_numpy(xp.any(bad)):
            continue
        place = np.argwhere(backend.to_numpy(bad))[0]
        value = backend.to_numpy(chunk)[tuple(place)]
        raise checks.BadValueError(
            "y",
            (place[0] + start, *place[1:]),
            f" is {value:g}, but {rule} {high}: correct the targets, or choose another last layer or loss",
        )


def _check_sums(y: Array, backend: Backend) -> None:
    """Raises ValueError for rows of probabilities that do not sum to one."""
    xp = backend.xp
    for start, chunk in _chunks(y):
        sums = backend.to_numpy(xp.sum(xp.astype(chunk, xp.float32), axis=-1))
        wrong = np.argwhere(np.abs(sums - 1.0) > 1e-3)
        if len(wrong):
            place = wrong[0]
            raise checks.BadValueError(
                "the row y",
                (place[0] + start, *place[1:]),
                f" sums to {sums[tuple(place)]:g}, but probabilities sum to 1: give one-hot rows, "
                "to_categorical(labels), or class numbers; for several labels per sample use binary_cross_entropy",
            )


def _first(y: Array, backend: Backend) -> float:
    return float(backend.to_numpy(y[:1, ...]).reshape(-1)[0])
