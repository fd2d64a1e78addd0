"""Checks of what a layer is made with, and of what it answers; each returns the value it accepts."""

from typing import Any

LARGEST = 1 << 40  # no array has an axis of that length


def size(what: str, value: Any, least: int = 1) -> int:
    """A whole number, ``least`` or more."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} must be a whole number, got {value!r:.60} ({type(value).__name__})")
    if value.__index__() < least:
        raise ValueError(f"{what} must be {least} or more, got {value}")
    if value.__index__() > LARGEST:
        raise ValueError(f"{what} must be 2**40 at most, got {value}")
    return int(value.__index__())


def sizes(what: str, value: Any, axes: str) -> tuple[int, ...]:
    """A whole number for each of the axes named in ``axes``, such as ``"H, W, C"``."""
    names = axes.split(", ")
    if not isinstance(value, (tuple, list)) or len(value) != len(names):
        raise ValueError(f"{what} must be ({axes}), got {value!r:.60}")
    return tuple(size(f"{what}: {name}", v) for name, v in zip(names, value, strict=True))


def shape(what: str, value: Any) -> tuple[int, ...]:
    """The shape of one sample: whole numbers, 1 or more, without the axis of samples."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{what} must be the shape of one sample, such as (28, 28, 1), got {value!r:.60}")
    return tuple(size(f"{what}: axis {i}", n) for i, n in enumerate(value))


def number(what: str, value: Any) -> float:
    """A finite real number, as a Python float: a NumPy scalar would promote float32 arrays."""
    if isinstance(value, (str, bytes, bool)):
        raise TypeError(f"{what} must be a number, got {value!r:.60} ({type(value).__name__})")
    try:
        x = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{what} must be a number, got {value!r:.60} ({type(value).__name__})") from None
    except OverflowError:
        raise ValueError(f"{what} is too large for a float") from None
    if x - x != 0.0:
        raise ValueError(f"{what} must be finite, got {value}")
    return x


def branch(what: str, layers: Any) -> list[Any]:
    """Layers one after the other, as a list."""
    for layer in layers:
        if isinstance(layer, (list, tuple)):
            raise TypeError(f"{what} takes layers, got a list: write them one by one, or give them after a *")
        if isinstance(layer, type) or not hasattr(layer, "written_as_in_the_article"):
            example = f"{layer.__name__}(...)" if isinstance(layer, type) else "FCLayer(4, 4)"
            raise TypeError(f"{what} takes Layer objects, such as {example}, got {layer!r:.60}")
    if len({id(layer) for layer in layers}) < len(layers):
        raise ValueError(f"{what} was given one layer twice: make two; each keeps the state of one place")
    return list(layers)


def flag(what: str, value: Any) -> bool:
    """True or False; a word such as "no" would count as true."""
    if isinstance(value, (str, bytes)) or not (value is True or value is False or hasattr(value, "__index__")):
        raise TypeError(f"{what} must be True or False, got {value!r:.60}")
    return bool(value)


def answer(
    layer: Any, method: str, value: Any, shape: tuple[int, ...] | None = None, samples: int | None = None
) -> Any:
    """What a layer's method returned: an array of the backend and dtype, of that shape, or with that many samples."""
    name = f"{type(layer).__name__}.{method}"
    if value is None:
        raise TypeError(f"{name} returned None: it must return an array (is a return missing?)")
    if not layer.backend.owns(value):
        kind = f"{type(value).__module__}.{type(value).__name__}"
        raise TypeError(
            f"{name} returned {kind}, but must return an array of backend {layer.backend.name!r}: use self.xp"
        )
    if value.dtype != layer.device_dtype:
        raise TypeError(
            f"{name} returned {value.dtype}, but the network calculates in {layer.dtype}: NumPy scalars and other "
            "arrays promote; write numbers as Python floats, or cast with self.xp.astype(Y, X.dtype)"
        )
    if shape is not None and tuple(value.shape) != tuple(shape):
        raise ValueError(f"{name} returned shape {tuple(value.shape)}, but must return {tuple(shape)}")
    if samples is not None and (value.ndim == 0 or value.shape[0] != samples):
        raise ValueError(
            f"{name} returned shape {tuple(value.shape)} for {samples} samples: the first axis counts them"
        )
    return value


def gradients(layer: Any) -> None:
    """The gradients a backward pass set: each of its parameter's name, shape and dtype."""
    for name, gradient in layer.gradients.items():
        if name not in layer.parameters:
            known = ", ".join(layer.parameters) or "none"
            raise ValueError(f"{type(layer).__name__} set gradients[{name!r}], but its parameters are: {known}")
        answer(layer, f"gradients[{name!r}]", gradient, shape=layer.parameters[name].shape)
