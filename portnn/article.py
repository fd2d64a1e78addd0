"""Layers written as in the article, inside a network that works on batches.

Such a layer overrides ``forward_propagation(input)`` and ``backward_propagation(output_error, learning_rate)``, the
methods that callers use: it sees one sample at a time without a batch axis, and updates its own weights. It need not
call ``super().__init__()``, and may be written with NumPy's functions or with ``self.xp``. A SequentialLayer and a
network run it through an ``Adapter``; other code only reads ``layer.updates_itself`` and ``layer.batched``.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from portnn import checks
from portnn._typing import Array
from portnn.backend import in_order, is_array
from portnn.transfer import bring

CALLED = ("forward_propagation", "backward_propagation")  # what callers use, and the article's layers override
WRITTEN = ("forward", "backward")  # what the author of any other layer writes


def adapted(layers: Sequence[Any]) -> list[Any]:
    """The layers as SequentialLayer runs them: those that update themselves are wrapped in adapters."""
    return [Adapter(layer) if layer.updates_itself else layer for layer in layers]


class Adapter:
    """Makes a layer written as in the article take whole batches, as any other layer does.

    A 1-D sample goes in, and comes out, as (1, n): the article's samples have at least two axes.
    """

    def __init__(self, layer: Any):
        self.layer, self.path, self.backend = layer, layer.path, layer.backend

    def walk(self) -> Iterator[Any]:
        yield self.layer

    def fit_to(self, X: Array) -> None:
        """The article's layers are not asked for shapes."""

    def compute(self, X: Array, training: bool) -> Array:
        """Y for a batch X: ``forward_propagation``, sample by sample unless the layer is ``batched``."""
        layer, xp = self.layer, self.layer.xp
        if layer.batched:
            return self._answer(self._forward(xp.asarray(X, copy=True)), "forward_propagation")
        if X.shape[0] == 0:
            raise ValueError(
                f"{layer} is written as in the article and takes one sample at a time, but there are no samples in X: "
                "give it a batch of at least one"
            )
        outputs = []
        for i in range(X.shape[0]):
            sample = xp.asarray(X[i, ...], copy=True)  # the layer may write into it
            row = sample.ndim == 1
            Y = self._answer(self._forward(xp.reshape(sample, (1, -1)) if row else sample), "forward_propagation")
            layer._shapes = tuple(X.shape[1:]), Y.shape
            Y = xp.reshape(Y, (Y.shape[1],)) if row and Y.ndim == 2 and Y.shape[0] == 1 else Y
            outputs.append(xp.asarray(Y, copy=True))  # the layer may return the same array each time
        return xp.stack(outputs)

    def compute_backward(self, output_error: Array, need_input_error: bool) -> Array:
        """dE/dX for dE/dY of one sample: ``backward_propagation``, which also updates the layer's weights."""
        layer = self.layer
        if layer._learning_rate is None:
            raise RuntimeError(
                f"{layer} updates its own weights: call its backward_propagation(output_error, learning_rate)"
            )
        output_error = layer.xp.asarray(output_error, copy=True)
        if not layer.batched:
            output_error = layer.xp.reshape(output_error, layer._shapes[1])
        name = "backward_propagation"
        dX = self._answer(layer.backward_propagation(output_error, layer._learning_rate), name)
        if layer.batched:
            return dX
        shape = layer._shapes[0]
        if prod(dX.shape) != prod(shape):
            raise ValueError(
                f"{type(layer).__name__}.{name} returned dE/dX of shape {tuple(dX.shape)}, but its input had shape "
                f"{shape}: dE/dX must have the shape of X"
            )
        return layer.xp.reshape(dX, (1, *shape))

    def _forward(self, X: Array) -> Any:
        """Calls ``forward_propagation``, and notes in the first three calls which attributes each sets anew.

        One that held no array before and is set twice is kept for backward; the first call may also make the weights.
        What holds X or Y itself is known at once.
        """
        layer = self.layer
        if layer._calls == 3:
            return layer.forward_propagation(X)
        before = dict(vars(layer))
        Y = layer.forward_propagation(X)
        times = layer._set_by_forward
        for name, value in vars(layer).items():
            if is_array(value) and value is not before.get(name) and (name in times or not is_array(before.get(name))):
                times[name] = 2 if value is X or value is Y else times.get(name, 0) + 1
        layer._calls += 1
        return Y

    def _answer(self, value: Any, method: str) -> Array:
        """What a method returned, on the layer's backend and in the network's dtype."""
        layer = self.layer
        if value is None:
            checks.answer(layer, method, value)
        value = bring(value, layer.backend, layer.dtype, f"what {type(layer).__name__}.{method} returned")
        dtype = getattr(layer.xp, layer.dtype)
        return in_order(value if value.dtype == dtype else layer.xp.astype(value, dtype))


def moved_attributes(layer: Any, backend: Any) -> Iterator[tuple[dict[str, Any], str, Array]]:
    """Every array attribute as an array of ``backend``; floating ones are cast to the network's dtype."""
    for name, value in list(vars(layer).items()):
        if not is_array(value):
            continue
        if layer.backend is not None and layer.backend.owns(value):
            value = layer.backend.to_numpy(value)
        if getattr(value.dtype, "kind", "f") not in "buif":  # strings, for example, are not data
            continue
        if hasattr(value, "copy"):  # the layer may write into it, so it must not be the caller's
            value = value.copy()
        yield vars(layer), name, bring(value, backend, layer.dtype, f"{type(layer).__name__}.{name}")


def missing_method(layer: Any) -> str | None:
    """The error for a layer that defines only one method of a pair, or neither pair; None if all is well."""
    cls = type(layer)
    base = next(c for c in cls.__mro__ if c.__module__ == "portnn.layers.layer")
    line = cls.__mro__[: cls.__mro__.index(base)]

    def defined(name: str) -> bool:
        return any(c.__dict__.get(name) not in (None, base.__dict__[name]) for c in line)

    pair = CALLED if layer.updates_itself else WRITTEN
    missing = [name for name in pair if not defined(name)]
    if not missing:
        return None
    if len(missing) == 2:
        return (
            f"{cls.__name__} defines neither forward and backward nor forward_propagation and backward_propagation: "
            "a layer needs one of the two pairs"
        )
    (found,) = set(pair) - set(missing)
    return f"{cls.__name__} defines {found} but not {missing[0]}: a layer needs both methods of a pair"
