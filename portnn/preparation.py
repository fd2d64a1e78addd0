"""The data of ``fit`` and ``evaluate``: checked before any weight changes, split, weighted, brought to the device."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from portnn import arguments, sources, validation
from portnn._typing import Array
from portnn.article import adapted
from portnn.backend import in_order
from portnn.layers.layer import Layer
from portnn.samples import Samples, check_weights, class_weights, labels_of, split, split_at
from portnn.sources import Read, Rows, Stream, Whole
from portnn.training.loop import Data, Plan

VALIDATION_BATCH = 1024  # samples


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
    layers, backend, dtype = network.layers, network.backend, network.dtype
    validation.check_ending(layers, network.loss)
    X = validation.batch(x, backend, dtype, "x")
    Y = validation.batch(y, backend, dtype, "y")
    validation.check_lengths(X, Y, layers, x)
    shapes = validation.shapes(layers, X, x)
    if check_finite:
        validation.check_finite(X, backend, "x")
        validation.check_finite(Y, backend, "y")
    need_shapes = any(type(layer).smallest_batch is not Layer.smallest_batch for layer in network.walk())
    if shapes[-1] is None or (need_shapes and None in shapes):  # some layer does not declare it: run a sample
        shapes = [tuple(seen.shape[1:]) for seen in _passes(network, X[:1, ...])]
    Y, classes = validation.targets(Y, shapes[-1], network.loss, backend)
    if weights is not None:
        weights = check_weights(weights, X.shape[0], backend, dtype)
    if not all(layer.complete for layer in network.walk()):  # parameters whose shapes depend on the data
        network.inference().forward(X[:1, ...])
    return Samples(X, Y, classes, weights), shapes


def _passes(network: Any, X: Array) -> Iterator[Array]:
    """Yields X, cast to the network's dtype, then each layer's output."""
    Y = network.backend.xp.astype(in_order(X), getattr(network.backend.xp, network.dtype))
    yield Y
    for layer in adapted(network.layers):
        layer.fit_to(Y)
        Y = layer.compute(Y, False)
        yield Y


# -- for fit -----------------------------------------------------------------------------------------------------------


def training_data(network: Any, x: Any, y: Any, options: Options, plan: Plan) -> Data:
    """The samples of a fit, from any kind of data. What ``validation_split`` holds out becomes ``plan.validation``."""
    if sources.is_stream(x) and y is None:
        return _stream(network, x, options, plan)
    if sources.is_rows(x, network.backend.name):
        return _rows(network, x, y, options, plan)
    found, shapes = samples(network, x, y, options.sample_weight, plan.check_finite)
    if options.split:
        found, held_out = split(found, options.split)
        plan.validation = partial(held_out.batches, VALIDATION_BATCH)
    if options.class_weight is not None:
        labels = labels_of(network.backend.to_numpy(found.y), found.classes)
        found = found.weighted(class_weights(labels, options.class_weight, shapes[-1][-1]), network)
    sizes = _sizes(network, shapes, len(found), options, plan)
    found = found.in_order()
    return Data(Whole(found, sizes), found, shapes[-1])


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
            f"{wrong[0]} was given beside an iterable of batches, which decides on that itself: leave it out"
            + (", and give batches (x, y, weights)" if wrong[0].endswith("weight") else "")
        )
    source = Stream(x, options.steps, plan.epochs, partial(_prepared, network, plan.check_finite))
    first, shapes = samples(network, *source.first(), plan.check_finite)
    return Data(source, first, shapes[-1])


def _rows(network: Any, x: Any, y: Any, options: Options, plan: Plan) -> Data:
    """Data read in chunks; the targets may be an array in memory."""
    n, weights = _length(x, y), options.sample_weight
    if weights is not None:
        weights = np.asarray(network.backend.to_numpy(check_weights(weights, n, network.backend, "float64")))
    x1, y1, weights1 = (None if rows is None else sources.rows_of(rows, slice(0, 1)) for rows in (x, y, weights))
    first, shapes = samples(network, x1, y1, weights1, plan.check_finite)
    stop = split_at(n, options.split) if options.split else n
    if options.class_weight is not None:
        by_class = class_weights(labels_of(np.asarray(y[:stop]), first.classes), options.class_weight, shapes[-1][-1])
        held_out = np.ones(n - stop)
        weights = np.concatenate([by_class, held_out]) * (1.0 if weights is None else weights)
        first = first.weighted(by_class[:1], network)
    prepare = partial(_prepared, network, plan.check_finite)
    if options.split:
        plan.validation = partial(_in_chunks, network, (x, y, options.sample_weight), stop, n, plan.check_finite)
    source = Rows((x, y, weights), _sizes(network, shapes, stop, options, plan), prepare)
    return Data(source, first, shapes[-1])


def _length(x: Any, y: Any) -> int:
    n = int(x.shape[0])
    if y is None or len(y) != n:
        raise ValueError(f"x holds {n} samples, y {0 if y is None else len(y)} targets: each sample needs its target")
    return n


def _prepared(network: Any, check_finite: bool, read: Read) -> Samples:
    return samples(network, *read, check_finite)[0]


# -- for evaluate, and for validation ----------------------------------------------------------------------------------


def validation_data(network: Any, given: Any, plan: Plan) -> Callable[[], Iterator[Samples]]:
    """``validation_data`` as a function that returns its batches, on the device, for one validation."""
    if sources.is_stream(given):
        if not callable(given) and iter(given) is given:
            raise ValueError(
                "validation_data is an iterator, which can be read once: give an iterable that begins anew"
            )
        return lambda: _batches_of(network, given, plan.check_finite)
    x, y, weights = arguments.validation_parts(given)
    if sources.is_rows(x, network.backend.name):
        return lambda: _in_chunks(network, (x, y, weights), 0, _length(x, y), plan.check_finite)
    found, _ = samples(network, x, y, weights, plan.check_finite)
    return partial(found.batches, VALIDATION_BATCH)


def batches(network: Any, x: Any, y: Any, weights: Any, size: int) -> Iterator[Samples]:
    """The batches that ``evaluate`` runs over."""
    if sources.is_stream(x) and y is None:
        return _batches_of(network, x, False)
    if sources.is_rows(x, network.backend.name):
        return _in_chunks(network, (x, y, weights), 0, _length(x, y), False, size)
    found, _ = samples(network, x, y, weights, False)
    return found.batches(size)


def _batches_of(network: Any, given: Any, check_finite: bool) -> Iterator[Samples]:
    for batch in given() if callable(given) else given:
        yield _prepared(network, check_finite, sources.parts_of(batch))


def _in_chunks(
    network: Any, rows: Any, start: int, stop: int, check_finite: bool, size: int = VALIDATION_BATCH
) -> Iterator[Samples]:
    """Yields the rows from ``start`` to ``stop`` in batches of ``size``, read in chunks."""
    prepare = partial(_prepared, network, check_finite)
    source = Rows(rows, sources.batch_sizes(stop - start, min(size, stop - start)), prepare, start)
    for chunk in source.chunks(None, 0):
        yield from chunk.samples.batches(size)
