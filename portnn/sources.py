"""Sources of samples: whole arrays on the device, rows that are read in chunks, or an iterable of batches."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from portnn.backend import Backend
from portnn.checks import BadValueError
from portnn.samples import Samples

CHUNK = 1 << 26  # bytes of samples in a chunk, about; at least one batch
Read = tuple[Any, Any, Any]  # samples, targets, weights or None, as they were read
MISSING = object()  # what an iterable gives after its last batch


class Chunk(NamedTuple):
    """Samples, and the sizes of the batches to take from them, beginning with batch number ``first``.

    ``arrived`` returns them, on the device. ``order`` is a permutation of all samples; None if they are in the order in
    which they are to be taken.
    """

    arrived: Callable[[], Samples]
    sizes: list[int]
    order: np.ndarray | None = None
    first: int = 0


def batch_sizes(samples: int, size: int, drop_last: bool = False, steps: int | None = None) -> list[int]:
    """The sizes of the batches of an epoch: at most ``steps`` of them; the last may be smaller, or is dropped."""
    sizes = [size] * (samples // size) + [samples % size] * (samples % size > 0 and not drop_last)
    return sizes if steps is None else sizes[:steps]


class Way(NamedTuple):
    """The way of samples to the device: ``check`` takes what was read, on the host, ``upload`` what that returns."""

    check: Callable[[Read], Samples]
    backend: Backend

    def upload(self, samples: Samples) -> Callable[[], Samples]:
        """Begins to copy samples to the device, and returns a function that returns them there."""
        if self.backend.owns(samples.x):
            return lambda: samples
        host: list[Any] = [samples.x, samples.y, samples.weights]
        arrive = self.backend.upload(host)

        def arrived() -> Samples:
            x, y, weights = arrive()
            assert x is not None
            assert y is not None
            return replace(samples, x=x, y=y, weights=weights)

        return arrived


class Whole:
    """Samples that stay on the device for all epochs: each epoch is one chunk."""

    def __init__(self, samples: Samples, sizes: list[int]):
        self.samples, self.sizes, self.count, self.steps = samples, sizes, len(samples), len(sizes)

    def chunks(self, order: np.ndarray | None, position: int) -> Iterator[Chunk]:
        yield Chunk(lambda: self.samples, self.sizes[position:], order, position)


class Rows:
    """Samples read in chunks from objects with a shape, a dtype and slices, such as HDF5 or Zarr arrays.

    The next chunk is read and checked in another thread while this one is used, and uploaded before this one is done.
    """

    def __init__(self, rows: Read, sizes: list[int], count: int, way: Way, offset: int = 0):
        """``rows`` are samples, targets and weights or None: ``count`` of them, from number ``offset`` on.

        The batches of those ``sizes`` may be fewer than that: an order is one of all.
        """
        self.rows, self.sizes, self.count, self.way, self.offset = rows, sizes, count, way, offset
        self.steps, x = len(sizes), rows[0]
        row = max(1, int(np.prod(x.shape[1:]))) * np.dtype(x.dtype).itemsize
        self.batches_in_chunk = max(1, CHUNK // max(1, row * sizes[0]))

    def chunks(self, order: np.ndarray | None, position: int) -> Iterator[Chunk]:
        starts = range(position, self.steps, self.batches_in_chunk)
        for start, samples in zip(starts, ahead(partial(self._read, order, start) for start in starts), strict=True):
            yield Chunk(self.way.upload(samples), self.sizes[start : start + self.batches_in_chunk])

    def _read(self, order: np.ndarray | None, start: int) -> Samples:
        first = start * self.sizes[0]
        stop = first + sum(self.sizes[start : start + self.batches_in_chunk])
        some = slice(first + self.offset, stop + self.offset) if order is None else order[first:stop] + self.offset
        try:
            return self.way.check(read(self.rows, some))
        except BadValueError as error:
            place = first + error.place[0]
            raise error.of_row(self.offset + int(place if order is None else order[place])) from None


def read(rows: Read, some: Any) -> Read:
    """Samples, targets and weights, by a slice or by an array of numbers."""
    x, y, weights = (None if data is None else rows_of(data, some) for data in rows)
    return x, y, weights


def rows_of(data: Any, some: Any) -> np.ndarray:
    """The rows of a slice, or of an array of row numbers, in its order; one by one if ``data`` takes no arrays."""
    if isinstance(some, slice) or isinstance(data, np.ndarray):
        found = np.asarray(data[some])
        if isinstance(some, slice) and len(found) != some.stop - some.start:
            raise ValueError(f"rows {some.start} to {some.stop - 1} were read, and {len(found)} came back")
        return found
    sequence = np.argsort(some, kind="stable")
    ascending = None
    with suppress(Exception):  # whatever it says of an array of numbers, slices it must take
        ascending = np.asarray(data[some[sequence]])  # HDF5 takes ascending numbers only
    if ascending is None or ascending.shape[:1] != some.shape:
        return np.concatenate([rows_of(data, slice(int(row), int(row) + 1)) for row in some])
    found = np.empty_like(ascending)
    found[sequence] = ascending
    return found


class Stream:
    """Batches (x, y) or (x, y, weights) from an iterable, or from a function that returns one for each epoch.

    Without ``steps`` an epoch ends with the iterable. With ``steps`` it ends after so many batches; the next epoch goes
    on with the same iterator, and begins anew where that ends.
    """

    count = None

    def __init__(self, given: Any, steps: int | None, epochs: int):
        self.given, self.steps = given, steps
        self.way: Way | None = None  # known once the first batch has been looked at
        self.running: Iterator[Any] | None = None
        self.once = is_iterator(given)
        if self.once and steps is None and epochs > 1:
            raise ValueError(
                f"x is an iterator, which can be read once, but epochs={epochs}: give an iterable that begins anew, a "
                "function that returns an iterator, or steps_per_epoch"
            )

    def first(self) -> Read:
        """The first batch, to learn shapes from; the first epoch still begins with it."""
        batches = self._begin()
        batch = next(batches, MISSING)
        if batch is MISSING:
            raise ValueError("x is an iterable of batches, but it gave none: there is nothing to learn from")
        self.running = itertools.chain([batch], batches)
        return parts_of(batch)

    def begin_anew(self) -> None:
        """Forgets the first batch: a function may depend on the network's epoch, which was another one then."""
        self.running = None

    def skip_epoch(self) -> None:
        """Skips the batches of an epoch that was trained on before a resume."""
        for _ in range(self.steps or 0):
            self._next()

    def chunks(self, order: np.ndarray | None, position: int) -> Iterator[Chunk]:
        for k in itertools.count() if self.steps is None else range(self.steps):
            batch = self._next(wrap=self.steps is not None)
            if batch is MISSING and k == 0:
                raise ValueError(
                    "x gave no batch for this epoch: an iterator can be read once, also where a function returns the "
                    "same one again. Give an iterable that begins anew, or fewer epochs"
                )
            if batch is MISSING and k < position:
                raise ValueError(
                    f"x gave {k} batches, but the run was interrupted after {position} batches of the epoch: give the "
                    "batches that it began with"
                )
            if batch is MISSING:
                return
            if k >= position:
                assert self.way is not None
                try:
                    samples = self.way.check(parts_of(batch))
                except BadValueError as error:
                    raise error.in_batch(k + 1) from None
                yield Chunk(self.way.upload(samples), [len(samples)])

    def _begin(self) -> Iterator[Any]:
        return begun(self.given, "x")

    def _next(self, wrap: bool = True) -> Any:
        """The next batch; MISSING after the last one, unless the iterable begins anew (``wrap``)."""
        if self.running is None:
            self.running = self._begin()
        batch = next(self.running, MISSING)
        if batch is MISSING:
            self.running = None
            if wrap and not self.once:
                self.running = self._begin()
                return next(self.running, MISSING)
        return batch


def is_iterator(given: Any) -> bool:
    """Whether an iterable can be read once only. Not by ``iter``, with which some loaders begin to work."""
    return not callable(given) and hasattr(given, "__next__")


def begun(given: Any, what: str) -> Iterator[Any]:
    """An iterator over an iterable, or over what a function returns; ``what`` names it in errors."""
    iterable = given() if callable(given) else given
    if not hasattr(iterable, "__iter__") and _is_numbered(iterable):
        return map(iterable.__getitem__, range(len(iterable)))
    if not hasattr(iterable, "__iter__"):
        raise TypeError(f"{what} is a function, which must return an iterable of batches, got {iterable!r:.60}")
    return iter(iterable)


def parts_of(batch: Any) -> Read:
    """x, y and weights (or None) of a batch from an iterable; TypeError if it is no tuple of two or three."""
    if isinstance(batch, (tuple, list)) and len(batch) in (2, 3):
        x, y, *weights = batch
        return x, y, weights[0] if weights else None
    what = f"{type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")
    raise TypeError(f"an iterable of batches must give (x, y) or (x, y, weights), got {what}")


def ahead(calls: Iterable[Callable[[], Any]]) -> Iterator[Any]:
    """Yields the results of calls; each call is made in another thread while the result before it is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="portnn reads data") as pool:
        running = None
        for call in calls:
            following = pool.submit(call)
            if running is not None:
                yield running.result()
            running = following
        if running is not None:
            yield running.result()


def is_rows(x: Any, backend: str, dtype: str) -> bool:
    """Whether ``x`` is read in chunks: it has shape, dtype and slices, but is no array in memory.

    On the CPU a memory map in C order is an array like any other: a step reads the rows that it takes. Unless all of it
    would be cast to the ``dtype`` of the network first.
    """
    if isinstance(x, np.memmap):
        as_it_is = x.flags.c_contiguous and x.flags.aligned and x.dtype.isnative
        return x.ndim > 0 and (backend != "cpu" or not as_it_is or (x.dtype.kind == "f" and x.dtype != np.dtype(dtype)))
    return (
        not isinstance(x, (np.ndarray, np.generic))
        and all(hasattr(x, name) for name in ("shape", "dtype", "__getitem__"))
        and not hasattr(x, "__array_namespace__")
        and not hasattr(x, "__dlpack__")
        and not hasattr(x, "iloc")
        and not isinstance(x, type)
        and len(x.shape) > 0
    )


def is_stream(x: Any) -> bool:
    """Whether ``x`` is an iterable of batches, or a function returning one."""
    if isinstance(x, (str, bytes, dict, np.ndarray, np.generic)) or hasattr(x, "shape"):
        return False
    if isinstance(x, (list, tuple)):
        batches = bool(x) and all(isinstance(batch, tuple) and len(batch) in (2, 3) for batch in x)
        return batches and not any(isinstance(part, (int, float, np.generic)) for part in x[0])  # samples as tuples
    return callable(x) or hasattr(x, "__iter__") or _is_numbered(x)


def is_list_of_pairs(x: Any) -> bool:
    """Whether ``x`` is a list of batches that are lists, or of single samples with their targets."""
    if not isinstance(x, (list, tuple)) or is_stream(x):
        return False
    pairs = bool(x) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in x)
    return pairs and bool(getattr(x[0][0], "shape", ()))


def gives_batches(x: Any) -> bool:
    """Whether ``x`` is a function, an iterator or another iterable that cannot be an array itself, as a list can."""
    if isinstance(x, (Sequence, Set, Mapping, ValuesView, type)) or hasattr(x, "shape") or hasattr(x, "__array__"):
        return False
    return callable(x) or ((hasattr(x, "__iter__") or _is_numbered(x)) and not hasattr(x, "__dlpack__"))


def _is_numbered(x: Any) -> bool:
    """Whether batches are read from ``x`` by their numbers, ``x[0]`` to ``x[len(x) - 1]``."""
    return hasattr(x, "__len__") and hasattr(x, "__getitem__")
