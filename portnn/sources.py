"""Sources of samples: whole arrays on the device, rows that are read in chunks, or an iterable of batches."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from portnn.samples import Samples

CHUNK = 1 << 26  # bytes of samples in a chunk, about; at least one batch
Read = tuple[Any, Any, Any]  # samples, targets, weights or None, as they were read


class Chunk(NamedTuple):
    """Samples on the device, and the sizes of the batches to take from them, beginning with batch number ``first``.

    ``order`` is a permutation of all samples; None if they are in the order in which they are to be taken.
    """

    samples: Samples
    sizes: list[int]
    order: np.ndarray | None = None
    first: int = 0


def batch_sizes(samples: int, size: int, drop_last: bool = False, steps: int | None = None) -> list[int]:
    """The sizes of the batches of an epoch: at most ``steps`` of them; the last may be smaller, or is dropped."""
    sizes = [size] * (samples // size) + [samples % size] * (samples % size > 0 and not drop_last)
    return sizes if steps is None else sizes[:steps]


class Whole:
    """Samples that stay on the device for all epochs: each epoch is one chunk."""

    def __init__(self, samples: Samples, sizes: list[int]):
        self.samples, self.sizes, self.count, self.steps = samples, sizes, len(samples), len(sizes)

    def chunks(self, order: np.ndarray | None, position: int) -> Iterator[Chunk]:
        yield Chunk(self.samples, self.sizes[position:], order, position)


class Rows:
    """Samples read in chunks from objects with a shape, a dtype and slices, such as HDF5 or Zarr arrays.

    ``prepare`` checks and uploads what was read. The next chunk is read in another thread while this one is used.
    """

    def __init__(self, rows: Read, sizes: list[int], prepare: Callable[[Read], Samples], offset: int = 0):
        """``rows`` are samples, targets and weights (or None); row number ``offset`` is the first that is used."""
        self.rows, self.sizes, self.prepare, self.offset = rows, sizes, prepare, offset
        self.count, self.steps, x = sum(sizes), len(sizes), rows[0]
        row = max(1, int(np.prod(x.shape[1:]))) * np.dtype(x.dtype).itemsize
        self.batches_in_chunk = max(1, CHUNK // max(1, row * sizes[0]))

    def chunks(self, order: np.ndarray | None, position: int) -> Iterator[Chunk]:
        starts = range(position, self.steps, self.batches_in_chunk)
        for start, read in zip(starts, ahead(partial(self._read, order, start) for start in starts), strict=True):
            sizes = self.sizes[start : start + self.batches_in_chunk]
            yield Chunk(self.prepare(read), sizes)

    def _read(self, order: np.ndarray | None, start: int) -> Read:
        first = start * self.sizes[0]
        stop = first + sum(self.sizes[start : start + self.batches_in_chunk])
        some = slice(first + self.offset, stop + self.offset) if order is None else order[first:stop] + self.offset
        x, y, weights = (None if rows is None else rows_of(rows, some) for rows in self.rows)
        return x, y, weights


def rows_of(data: Any, some: Any) -> np.ndarray:
    """The rows of a slice, or of an array of row numbers, in its order; one by one if ``data`` takes no arrays."""
    if isinstance(some, slice) or isinstance(data, np.ndarray):
        return np.asarray(data[some])
    sequence = np.argsort(some, kind="stable")
    try:
        ascending = np.asarray(data[some[sequence]])  # HDF5 takes ascending numbers only
    except (TypeError, ValueError, IndexError, NotImplementedError):
        return np.stack([np.asarray(data[int(row)]) for row in some])
    found = np.empty_like(ascending)
    found[sequence] = ascending
    return found


class Stream:
    """Batches (x, y) or (x, y, weights) from an iterable, or from a function that returns one for each epoch.

    Without ``steps`` an epoch ends with the iterable. With ``steps`` it ends after so many batches; the next epoch goes
    on with the same iterator, and begins anew where that ends.
    """

    count = None

    def __init__(self, given: Any, steps: int | None, epochs: int, prepare: Callable[[Read], Samples]):
        self.given, self.steps, self.prepare = given, steps, prepare
        self.running: Iterator[Any] | None = None
        self.once = not callable(given) and iter(given) is given
        if self.once and steps is None and epochs > 1:
            raise ValueError(
                f"x is an iterator, which can be read once, but epochs={epochs}: give an iterable that begins anew, a "
                "function that returns an iterator, or steps_per_epoch"
            )

    def first(self) -> Read:
        """The first batch, to learn shapes from; the first epoch still begins with it."""
        batches = self._begin()
        batch = next(batches, None)
        if batch is None:
            raise ValueError("x is an iterable of batches, but it gave none: there is nothing to learn from")
        self.running = itertools.chain([batch], batches)
        return parts_of(batch)

    def skip(self, epochs: int) -> None:
        """Skips the batches of so many epochs, which were trained on before a resume."""
        if self.once:
            raise ValueError("x is an iterator, which cannot begin anew: a run is resumed with an iterable that can")
        self.running = None  # a function may depend on the network's epoch, which was another one when it was called
        for _ in range(epochs * (self.steps or 0)):
            self._next()

    def chunks(self, order: np.ndarray | None, position: int) -> Iterator[Chunk]:
        for k in itertools.count() if self.steps is None else range(self.steps):
            batch = self._next(wrap=self.steps is not None)
            if batch is None:
                return
            if k >= position:
                samples = self.prepare(parts_of(batch))
                yield Chunk(samples, [len(samples)])

    def _begin(self) -> Iterator[Any]:
        return iter(self.given() if callable(self.given) else self.given)

    def _next(self, wrap: bool = True) -> Any:
        """The next batch; None after the last one, or with ``wrap`` the first one again."""
        if self.running is None:
            self.running = self._begin()
        batch = next(self.running, None)
        if batch is None:
            self.running = None
            if wrap and not self.once:
                self.running = self._begin()
                return next(self.running, None)
        return batch


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


def is_rows(x: Any, backend: str) -> bool:
    """Whether ``x`` is to be read in chunks: it has shape, dtype and slices, but is no array in memory.

    On the CPU a memory map in C order is used like an array in memory: each step reads only its own rows.
    """
    if isinstance(x, np.memmap):
        return backend != "cpu" or not (x.flags.c_contiguous and x.flags.aligned and x.dtype.isnative)
    return (
        not isinstance(x, (np.ndarray, np.generic))
        and all(hasattr(x, name) for name in ("shape", "dtype", "__getitem__"))
        and not hasattr(x, "__array_namespace__")
        and not hasattr(x, "__dlpack__")
        and not hasattr(x, "iloc")
    )


def is_stream(x: Any) -> bool:
    """Whether ``x`` is an iterable of batches, or a function returning one."""
    if isinstance(x, (str, bytes, dict, np.ndarray, np.generic)) or hasattr(x, "shape"):
        return False
    if isinstance(x, (list, tuple)):
        return bool(x) and all(isinstance(batch, tuple) and len(batch) in (2, 3) for batch in x)
    return callable(x) or hasattr(x, "__iter__")
