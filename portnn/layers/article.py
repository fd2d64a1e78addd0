"""A layer written as in the article, inside a network that works on batches.

It defines ``forward_propagation(input)`` and ``backward_propagation(output_error, learning_rate)``, sees one sample at
a time without a batch axis, and updates its own weights. It need not call ``super().__init__()``, and may be written
with NumPy's functions or with ``self.xp``.
"""

from math import prod
from typing import Any

from portnn.backend import is_array
from portnn.layers import checks
from portnn.transfer import bring

Array = Any
OURS = ("forward", "backward")
ARTICLES = ("forward_propagation", "backward_propagation")


def is_written_so(cls: type, base: type) -> bool:
    """Whether the pair of methods defined nearest to ``cls`` is the article's; with both equally near, ours counts."""
    ours, articles = (min(_distance(cls, base, name) for name in pair) for pair in (OURS, ARTICLES))
    return articles < ours


def missing_method(layer: Any, base: type) -> str | None:
    """Says what is wrong with a layer whose class defines only one method of the pair it uses, or neither pair."""
    cls = type(layer)
    pair = ARTICLES if layer.written_as_in_the_article else OURS
    missing = [name for name in pair if _distance(cls, base, name) == _steps_to(cls, base)]
    if not missing:
        return None
    if len(missing) == 2:
        return (
            f"{cls.__name__} defines neither forward and backward nor forward_propagation and backward_propagation: "
            "a layer needs one of the two pairs"
        )
    (defined,) = set(pair) - set(missing)
    return f"{cls.__name__} defines {defined} but not {missing[0]}: a layer needs both methods of a pair"


def _distance(cls: type, base: type, name: str) -> int:
    """How many classes up from ``cls`` a method is defined; ``base`` has them all and does not count."""
    line = cls.__mro__[: _steps_to(cls, base)]
    return next((i for i, c in enumerate(line) if c.__dict__.get(name) not in (None, base.__dict__[name])), len(line))


def _steps_to(cls: type, base: type) -> int:
    return cls.__mro__.index(base)


def nearest(layer: Any, base: type, name: str) -> Any:
    """The method of that name in the nearest class that writes it itself, so that ``super()`` ends where it should."""
    for cls in type(layer).__mro__:
        method = cls.__dict__.get(name)
        if method is not None and method is not base.__dict__[name]:
            return method.__get__(layer)
    raise TypeError(missing_method(layer, base) or f"{type(layer).__name__} has no {name} of its own")


def forward(layer: Any, X: Array, forward_propagation: Any) -> Array:
    """Y for a batch X: the layer's ``forward_propagation``, sample by sample unless it is ``batched``."""
    if layer.batched:
        return answer(layer, forward_propagation(X), "forward_propagation")
    if X.shape[0] == 0:
        raise ValueError(f"{layer} is written as in the article and takes one sample at a time: there are no samples")
    xp = layer.xp
    outputs = []
    for i in range(X.shape[0]):
        sample = X[i, ...]
        row = sample.ndim == 1  # the article's samples have two axes at least: (n,) goes in, and comes out, as (1, n)
        Y = forward_propagation(xp.reshape(sample, (1, -1)) if row else sample)
        Y = answer(layer, Y, "forward_propagation")
        layer.output_shape_now = Y.shape
        outputs.append(xp.reshape(Y, (Y.shape[1],)) if row and Y.ndim == 2 and Y.shape[0] == 1 else Y)
    layer.input_shape_now = X.shape[1:]
    return xp.stack(outputs)


def backward(layer: Any, output_error: Array, backward_propagation: Any) -> Array:
    """dE/dX for dE/dY of one sample: the layer's ``backward_propagation``, which also updates its weights."""
    if layer.learning_rate_now is None:
        raise RuntimeError(
            f"{layer} updates its own weights: call its backward_propagation(output_error, learning_rate)"
        )
    if not layer.batched:
        output_error = layer.xp.reshape(output_error, layer.output_shape_now)
    dX = answer(layer, backward_propagation(output_error, layer.learning_rate_now), "backward_propagation")
    if layer.batched:
        return dX
    shape = tuple(layer.input_shape_now)
    if prod(dX.shape) != prod(shape):
        raise ValueError(
            f"{type(layer).__name__}.backward_propagation returned dE/dX of shape {tuple(dX.shape)}, but its input had "
            f"shape {shape}: dE/dX has a number for each number of X"
        )
    return layer.xp.reshape(dX, (1, *shape))


def answer(layer: Any, value: Any, method: str) -> Array:
    """What a method returned, on the layer's backend and in the network's dtype."""
    if value is None:
        checks.answer(layer, method, value)
    value = bring(value, layer.backend, layer.dtype, f"what {type(layer).__name__}.{method} returned")
    dtype = getattr(layer.xp, layer.dtype)
    return value if value.dtype == dtype else layer.xp.astype(value, dtype)


def move_attributes(layer: Any, backend: Any) -> None:
    """Moves every array attribute to ``backend``; floating ones are cast to the network's dtype."""
    for name, value in list(vars(layer).items()):
        if not is_array(value):
            continue
        if layer.backend is not None and layer.backend.owns(value):
            value = layer.backend.to_numpy(value)
        if getattr(value.dtype, "kind", "f") not in "buif":  # names, say: not for calculating
            continue
        if hasattr(value, "copy"):  # the layer will write into it: it must not be the caller's
            value = value.copy()
        setattr(layer, name, bring(value, backend, layer.dtype, f"{type(layer).__name__}.{name}"))
