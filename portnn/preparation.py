"""The data of ``fit`` and ``evaluate``: checked before any weight changes, split, weighted, brought to the device."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from portnn import arguments, checks, sources, validation
from portnn._typing import Array, Shape
from portnn.article import adapted
from portnn.backend import Backend, get_backend, in_order
from portnn.layers.kept import Kept
from portnn.layers.layer import Layer
from portnn.samples import Samples, check_weights, class_weights, labels_of, split, split_at
from portnn.sources import Read, Rows, Stream, Way, Whole
from portnn.training.loop import Data, Plan

VALIDATION_BATCH = 1024  # samples
VALIDATION = "validation_data"


@dataclass
class Options:
    """The arguments of ``fit`` that concern its data."""

    sample_weight: Any = None
    class_weight: Any = None
    split: float = 0.0  # the share of the samples to validate with
    steps: int | None = None  # steps_per_epoch; None: all batches
    drop_last: bool = False


def samples(network: Any, x: Any, y: Any, weights: Any, check_finite: bool) -> tuple[Samples, list[Any]]:
    """The samples, checked and on the device, and the shape of one sample before each layer and after the last."""
    validation.check_ending(network.layers, network.loss)
    X, Y, shapes = _arrays(network, x, y, check_finite, network.backend)
    network._checked = tuple(X.shape[1:])
    need_shapes = any(type(layer).smallest_batch is not Layer.smallest_batch for layer in network.walk())
    if shapes[-1] is None or (need_shapes and None in shapes):  # some layer does not declare it: run a sample
        shapes = [tuple(seen.shape[1:]) for seen in _passes(network, X[:1, ...])]
    found = _with_targets(network, X, Y, weights, shapes[-1], network.backend)
    if not all(layer.complete for layer in network.walk()):  # parameters whose shapes depend on the data
        network.inference().forward(X[:1, ...])
    return found, shapes


def _arrays(network: Any, x: Any, y: Any, check_finite: bool, backend: Backend) -> tuple[Array, Array, list[Any]]:
    """x and y as arrays of a backend, and the shapes between the layers; what does not fit is an error."""
    X = validation.batch(x, backend, network.dtype, "x")
    Y = validation.batch(y, backend, network.dtype, "y")
    validation.check_lengths(X, Y, network.layers, x)
    shapes = validation.shapes(network.layers, X, x)
    if check_finite:
        validation.check_finite(X, backend, "x")
        validation.check_finite(Y, backend, "y")
    return X, Y, shapes


def _with_targets(network: Any, X: Array, Y: Array, weights: Any, output: Shape, backend: Backend) -> Samples:
    """Samples of arrays of a backend, whose targets and weights are checked; ``output`` is the shape of an output."""
    Y, classes = validation.targets(Y, output, network.loss, backend)
    if weights is not None:
        arguments.check_takes_weights(network.loss, network.loss_prime)
        weights = check_weights(weights, X.shape[0], backend, network.dtype)
    return Samples(X, Y, classes, weights)


def _way(network: Any, output: Shape, check_finite: bool, what: str = "") -> Way:
    """The way of later chunks to the device.

    They are checked on the host, whatever the backend: a check on the device would wait until it has done all its work.
    Arrays that are on the device already are checked there.
    """

    def check(read: Read) -> Samples:
        x, y, weights = read
        backend = network.backend if network.backend.owns(x) or network.backend.owns(y) else get_backend("cpu")
        with _within(what) if what else nullcontext():
            X, Y, _ = _arrays(network, x, y, check_finite, backend)
            return _with_targets(network, X, Y, weights, output, backend)

    return Way(check, network.backend)


def _passes(network: Any, X: Array) -> Iterator[Array]:
    """Yields X, cast to the network's dtype, then each layer's output."""
    Y = network.backend.xp.astype(in_order(X), getattr(network.backend.xp, network.dtype))
    yield Y
    with Kept(list(network.walk()), shapes=[Y.shape]) as kept:
        for layer in adapted(network.layers):
            layer.fit_to(Y)
            Y = layer.compute(Y, False)
            kept.shapes.add(Y.shape)
            yield Y


# -- for fit -----------------------------------------------------------------------------------------------------------


def training_data(network: Any, x: Any, y: Any, options: Options, plan: Plan) -> Data:
    """The samples of a fit, wherever they come from; those to validate with, split off, go into the plan."""
    if streams(x, y):
        return _stream(network, x, options, plan)
    if _is_rows(network, x):
        return _rows(network, x, y, options, plan)
    found, shapes = samples(network, x, y, options.sample_weight, plan.check_finite)
    if options.split:
        found, held_out = split(found, options.split)
        plan.validation = partial(held_out.batches, VALIDATION_BATCH)
    if options.class_weight is not None:
        labels = labels_of(network.backend.to_numpy(found.y), found.classes, shapes[-1])
        found = found.weighted(class_weights(labels, options.class_weight, shapes[-1][-1]), network)
    sizes = _sizes(network, shapes, len(found), options, plan)
    found = found.in_order()
    return Data(Whole(found, sizes), found, shapes[-1])


def streams(x: Any, y: Any) -> bool:
    """Whether ``x`` is an iterable of batches, which hold the targets too."""
    if y is None and sources.is_list_of_pairs(x):
        raise TypeError(
            "x is a list of lists, without y. Batches in a list are tuples, [(x, y), ...]: write "
            "[tuple(batch) for batch in batches]. Samples and their targets are given separately: x, y = zip(*pairs)"
        )
    if y is not None and sources.gives_batches(x):
        raise TypeError(
            f"x is a {type(x).__name__}, an iterable of batches (x, y), and y was given too: leave y out, or "
            "make x one array"
        )
    return y is None and sources.is_stream(x)


def _is_rows(network: Any, x: Any) -> bool:
    return sources.is_rows(x, network.backend.name, network.dtype)


def _sizes(network: Any, shapes: list[Any], n: int, options: Options, plan: Plan) -> list[int]:
    plan.batch_size = min(plan.batch_size, n)
    sizes = sources.batch_sizes(n, plan.batch_size, options.drop_last, options.steps)
    validation.check_batches(network.layers, shapes, n, sizes)
    return sizes


def _stream(network: Any, x: Any, options: Options, plan: Plan) -> Data:
    """Data from an iterable of batches; ValueError for arguments that such an iterable decides itself."""
    given = {
        "batch_size": plan.batch_size != 1,
        "shuffle": plan.shuffle,
        "validation_split": options.split,
        "sample_weight": options.sample_weight is not None,
        "class_weight": options.class_weight is not None,
        "drop_last": options.drop_last,
    }
    if wrong := [name for name, value in given.items() if value]:
        raise ValueError(
            f"{wrong[0]} was given together with an iterable of batches, which decides on that itself: leave it out"
            + (", and give batches (x, y, weights)" if wrong[0].endswith("weight") else "")
        )
    source = Stream(x, options.steps, plan.epochs)
    first, shapes = samples(network, *source.first(), plan.check_finite)
    _check_batch(network, first, first, shapes)
    way = _way(network, shapes[-1], plan.check_finite)

    def check(read: Read) -> Samples:
        found = way.check(read)
        alike = found.x.shape[1:] == first.x.shape[1:]
        _check_batch(network, first, found, shapes if alike else validation.shapes(network.layers, found.x, read[0]))
        return found.apart()  # the iterable may fill the same arrays again

    source.way = Way(check, network.backend)
    return Data(source, first.apart(), shapes[-1])


def _check_batch(network: Any, first: Samples, found: Samples, shapes: list[Any]) -> None:
    """Checks a batch of an iterable, which must be like the first one, but for its size."""
    validation.check_article_layers(network, len(found))
    validation.check_batches(network.layers, shapes, len(found), [len(found)])
    for what, one, other in (
        ("weights", first.weights is not None, found.weights is not None),
        ("class numbers as targets", first.classes, found.classes),
    ):
        if one != other:
            raise ValueError(
                f"the first batch has {what if one else f'no {what}'}, a later one has {what if other else 'none'}: "
                "all batches must be alike"
            )


def _rows(network: Any, x: Any, y: Any, options: Options, plan: Plan) -> Data:
    """Rows that are read in chunks; targets and weights may be arrays in memory."""
    y = _targets(network, y)
    n = _length(x, y)
    weights = trained = _host_weights(network, options.sample_weight, n)
    stop = split_at(n, options.split) if options.split else n
    some = slice(0, min(plan.batch_size, stop))
    first, shapes = samples(network, *sources.read((x, y, weights), some), plan.check_finite)
    if options.class_weight is not None:
        labels = labels_of(sources.rows_of(y, slice(0, stop)), first.classes, shapes[-1])
        by_class = class_weights(labels, options.class_weight, shapes[-1][-1])
        first = first.weighted(by_class[some], network)
        trained = by_class if weights is None else by_class * weights[:stop].astype(np.float64)
    if options.split:
        plan.validation = partial(_in_chunks, network, (x, y, weights), stop, n, plan.check_finite)
    way = _way(network, shapes[-1], plan.check_finite)
    source = Rows((x, y, trained), _sizes(network, shapes, stop, options, plan), stop, way)
    return Data(source, first, shapes[-1])


def _targets(network: Any, y: Any) -> Any:
    """The targets of rows: rows too, or an array of the host."""
    if y is None or _is_rows(network, y):
        return y
    return network.backend.to_numpy(validation.batch(y, network.backend, network.dtype, "y"))


def _host_weights(network: Any, weights: Any, n: int) -> np.ndarray | None:
    if weights is None:
        return None
    arguments.check_takes_weights(network.loss, network.loss_prime)
    return np.asarray(network.backend.to_numpy(check_weights(weights, n, network.backend, network.dtype)))


def _length(x: Any, y: Any) -> int:
    n, targets = int(x.shape[0]), 0 if y is None else int(y.shape[0])
    if n != targets:
        raise ValueError(f"x holds {n} samples, y {targets} targets: each sample needs its target")
    if n == 0:
        raise ValueError(f"x holds 0 samples (shape {tuple(x.shape)}): there is nothing to learn from")
    return n


def _prepared(network: Any, check_finite: bool, read: Read) -> Samples:
    return samples(network, *read, check_finite)[0]


# -- for evaluate, and for validation ----------------------------------------------------------------------------------


def validation_data(network: Any, given: Any, plan: Plan) -> Callable[[], Iterator[Samples]]:
    """``validation_data`` as a function that returns its batches, on the device, once for each validation."""
    if not isinstance(given, tuple) and sources.is_stream(given):
        if sources.is_iterator(given):
            raise ValueError(
                "validation_data is an iterator, which can be read once: give an iterable that begins anew"
            )
        return _anew(network, given, plan.check_finite)
    x, y, weights = arguments.validation_parts(given)
    with _within(VALIDATION):
        if _is_rows(network, x):
            rows = _checked_rows(network, x, y, weights, plan.check_finite)
            return partial(_in_chunks, network, rows, 0, _length(*rows[:2]), plan.check_finite, what=VALIDATION)
        found, _ = samples(network, x, y, weights, plan.check_finite)
    return partial(found.batches, VALIDATION_BATCH)


@contextmanager
def _within(what: str) -> Iterator[None]:
    """Errors about x and y within say what these are part of."""
    try:
        yield
    except checks.BadValueError as error:
        raise error.within(f"in {what}") from None
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):  # a user's own
            raise
        raise type(error)(f"in {what}, {error}") from error


def batches(network: Any, x: Any, y: Any, weights: Any, size: int) -> Iterator[Samples]:
    """The batches that ``evaluate`` runs over; an iterable of batches holds its own targets and weights."""
    if streams(x, y):
        return _batches_of(network, sources.begun(x, "x"), False)
    if _is_rows(network, x):
        rows = _checked_rows(network, x, y, weights, False)
        return _in_chunks(network, rows, 0, _length(*rows[:2]), False, size)
    found, _ = samples(network, x, y, weights, False)
    return found.batches(size)


def _batches_of(
    network: Any, given: Iterator[Any], check_finite: bool, what: str = "the iterable"
) -> Iterator[Samples]:
    for k, batch in enumerate(given, 1):
        with _within(f"batch {k} of {what}"):
            found = _prepared(network, check_finite, sources.parts_of(batch))
        yield found


def _anew(network: Any, given: Any, check_finite: bool) -> Callable[[], Iterator[Samples]]:
    """The batches of an iterable, from its beginning each time. The first is read, and checked, at once."""
    waiting = [sources.begun(given, "validation_data")]
    first = next(waiting[0], sources.MISSING)
    if first is sources.MISSING:
        raise ValueError("validation_data is an iterable of batches, but it gave none")
    next(_batches_of(network, iter([first]), check_finite, VALIDATION))
    waiting = [itertools.chain([first], waiting[0])]

    def batches() -> Iterator[Samples]:
        begun = waiting.pop() if waiting else sources.begun(given, "validation_data")
        return _batches_of(network, begun, check_finite, VALIDATION)

    return batches


def _checked_rows(network: Any, x: Any, y: Any, weights: Any, check_finite: bool) -> Read:
    """Rows to evaluate, of which the first sample and all weights are checked."""
    y = _targets(network, y)
    found = x, y, _host_weights(network, weights, _length(x, y))
    samples(network, *sources.read(found, slice(0, 1)), check_finite)
    return found


def _in_chunks(
    network: Any,
    rows: Any,
    start: int,
    stop: int,
    check_finite: bool,
    size: int = VALIDATION_BATCH,
    what: str = "",
) -> Iterator[Samples]:
    """Yields the rows from ``start`` to ``stop`` in batches of ``size``, read in chunks; ``what`` is for errors."""
    n = stop - start
    _, shapes = samples(network, *sources.read(rows, slice(start, start + 1)), False)
    way = _way(network, shapes[-1], check_finite, what)
    source = Rows(rows, sources.batch_sizes(n, min(size, n)), n, way, start)
    for chunk in source.chunks(None, 0):
        yield from chunk.arrived().batches(size)


# -- for predict -------------------------------------------------------------------------------------------------------


def inputs(network: Any, x: Any, size: int) -> Iterator[Any] | None:
    """The batches of rows, or of an iterable; None for data that is one array, or a list."""
    if _is_rows(network, x):
        parts = validation.slices(int(x.shape[0]), size)
        return sources.ahead(partial(sources.rows_of, x, part) for part in parts)
    return map(partial(_alone, type(x).__name__), sources.begun(x, "x")) if sources.gives_batches(x) else None


def _alone(kind: str, batch: Any) -> Any:
    if isinstance(batch, tuple):
        raise TypeError(
            f"predict takes an iterable of batches of x alone, got a tuple of {len(batch)}: write "
            "predict(x for x, *_ in batches)"
        )
    if not isinstance(batch, list) and not getattr(batch, "shape", ()):
        raise TypeError(
            f"x must be real numbers, batches (N, ...) where it is an iterable, but it gives "
            f"{batch!r:.40} ({kind}): make a list of it first, list(x)"
        )
    return batch
