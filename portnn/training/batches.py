"""The batches of an epoch, looked up by the step's position in data that is on the device."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from portnn import ops
from portnn._typing import Array
from portnn.backend import Backend, device_dtype, namespace
from portnn.samples import Samples


class Batches:
    """Returns the batches and the optimizer's hyperparameters by the step's position in the epoch."""

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        backend: Backend,
        dtype: str,
        kernels: str = "auto",
    ):
        self.x, self.y, self.weights = samples.x, samples.y, samples.weights
        self.classes = samples.classes  # the targets are class numbers, which stay integers
        self.batch_size, self.backend = batch_size, backend
        self.dtype = dtype
        self.device_dtype = device_dtype(backend, dtype)
        self.gathered = ops.implementation(backend, kernels, gathered)
        self.taken = ops.implementation(backend, kernels, taken)
        self.locate = ops.implementation(backend, kernels, addresses_of)
        self.on_device = False  # True: position and hyperparameters are arrays, which a graph reads
        self.most_steps = 0
        self.in_chunks = False  # True: the samples change within an epoch
        self.is_lasting = False  # True: a step looks batches up with nothing of this object's, but the inputs
        self.addresses: Any = None  # where a graph finds the samples, if the backend has such a thing
        self.hyper: list[tuple[float, ...]] = []
        self.inputs: dict[str, Any] = {}  # "order": the permutation, "hyper": the table (steps, k), on the device

    def find_addresses(self) -> None:
        """Makes a graph find the samples by their addresses, so that it can be used for others, where it can.

        Those that come in chunks are inputs of the graph, which copies them to an address of its own.
        """
        given = [array for array in (self.x, self.y, self.weights) if array is not None]
        dtypes = self.device_dtype, self.backend.xp.int64 if self.classes else self.device_dtype
        addresses = self.locate(given, [*dtypes, self.device_dtype][: len(given)], self.device_dtype)
        self.is_lasting = addresses is not None
        self.addresses = None if self.in_chunks else addresses

    def put(self, samples: Samples) -> None:
        """Puts the next chunk of samples in the place of the last one."""
        self.x, self.y, self.weights = samples.x, samples.y, samples.weights
        if self.on_device:
            self.put_on_device()

    def put_on_device(self) -> None:
        """Makes the current chunk an input of the graph, which copies it to an address of its own."""
        for name in ("x", "y", "weights") if self.in_chunks else ():
            array = getattr(self, name)
            if array is not None:
                self.inputs[name] = self._padded(array, self.inputs.get(name))
        if self.addresses is not None:
            self.inputs["addresses"] = self.addresses

    def _padded(self, array: Array, before: Array | None) -> Array:
        """The array with as many rows as the largest before: a graph is captured for one shape."""
        rows = 0 if before is None else before.shape[0] - array.shape[0]
        if rows <= 0:
            return array
        xp = self.backend.xp
        return xp.concat([array, xp.zeros((rows, *array.shape[1:]), dtype=array.dtype, device=array.device)])

    def load(self, order: np.ndarray | None, hyper: list[tuple[float, ...]]) -> None:
        """Uploads the permutation (None: in order) and the optimizer's hyperparameters of the next epoch."""
        self.hyper = hyper
        if order is not None:
            self.inputs["order"] = self.backend.asarray(order)
        if self.on_device:
            self.inputs["hyper"] = self.table()

    def table(self) -> Array:
        """The hyperparameters on the device; with as many rows as any before, so that a graph can be kept."""
        self.most_steps = max(self.most_steps, len(self.hyper))
        rows = self.hyper + self.hyper[-1:] * (self.most_steps - len(self.hyper))
        return self.backend.asarray(np.array(rows, self.dtype))

    def batch(self, position: Any, offsets: Array) -> tuple[Array, Array, Array | None, Sequence[Any]]:
        """X, Y, weights or None, and the hyperparameters of the step at ``position``; ``offsets`` is 0 .. size - 1."""
        order = self.inputs.get("order")
        if self.on_device:
            xp = self.backend.xp
            X, Y, W = (self.inputs.get(name, getattr(self, name)) for name in ("x", "y", "weights"))
            y_dtype = xp.int64 if self.classes else self.device_dtype
            data = [(X, self.device_dtype), (Y, y_dtype), *([] if W is None else [(W, self.device_dtype)])]
            which = order, position, offsets, self.batch_size
            found, row = self.gathered(data, *which, self.inputs["hyper"], self.inputs.get("addresses"))
            hyper: Sequence[Any] = [row[0, k] for k in range(row.shape[1])]
            return found[0], found[1], None if W is None else found[2], hyper
        hyper, first = self.hyper[position], position * self.batch_size
        some = slice(first, first + offsets.shape[0])
        if order is None:
            x, y, w = self.x[some, ...], self.y[some, ...], None if self.weights is None else self.weights[some]
            return self._cast(x), y if self.classes else self._cast(y), w, hyper
        which = order[some]
        x = self.taken(self.x, which, self.device_dtype)
        y = self.taken(self.y, which, self.y.dtype if self.classes else self.device_dtype)
        return x, y, None if self.weights is None else self.taken(self.weights, which, self.weights.dtype), hyper

    def _cast(self, a: Array) -> Array:
        return a if a.dtype == self.device_dtype else self.backend.xp.astype(a, self.device_dtype)


def taken(data: Array, which: Array, dtype: Any) -> Array:
    """The rows of ``data`` of these numbers, cast to ``dtype``."""
    xp = namespace(data)
    batch = xp.take(data, which, axis=0)
    return batch if batch.dtype == dtype else xp.astype(batch, dtype)


def gathered(
    data: list[tuple[Array, Any]],
    order: Array | None,
    position: Array,
    offsets: Array,
    batch_size: int,
    table: Array,
    addresses: Any = None,
) -> tuple[list[Array], Array]:
    """The ``rows`` of several (array, dtype), and the row (1, k) of the table at ``position``.

    ``addresses`` is None, or what ``addresses_of`` said of the arrays: they may be others of the same kind by now.
    """
    xp = namespace(table)
    found = [rows(array, order, position, offsets, batch_size, dtype) for array, dtype in data]
    return found, xp.take(table, xp.reshape(position, (1,)), axis=0)


def addresses_of(arrays: list[Array], dtypes: list[Any], real: Any) -> Any:
    """What a fast ``gathered`` needs to find these arrays later; None where it would not be used for them.

    Their rows are cast to ``dtypes``; ``real`` is that of the network.
    """
    return None


def rows(data: Array, order: Array | None, position: Array, offsets: Array, batch_size: int, dtype: Any) -> Array:
    """The batch at ``position`` of an epoch in that ``order`` (None: unshuffled), cast to ``dtype``; on the device."""
    xp = namespace(data)
    index = position * batch_size + offsets
    return taken(data, index if order is None else xp.take(order, index, axis=0), dtype)
