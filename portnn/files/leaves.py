"""The arrays of a network under their names in a file, ``parameters/0.weights``: found, compared, filled in."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from portnn._typing import Shape
from portnn.backend import get_backend, is_array
from portnn.files.errors import FileError
from portnn.layers import sequential
from portnn.layers.layer import Layer
from portnn.layers.normalization import NormLayer

LEARNED = ("parameters/", "buffers/", "slots/")
SHOWN = 20  # faults listed in one error


class Leaf(NamedTuple):
    """An array of a network: its name in a file, and where it is stored, ``home[key]``."""

    name: str
    home: dict[str, Any]
    key: str


def leaves(layers: Iterable[tuple[str, Any]]) -> Iterator[Leaf]:
    """Parameters and buffers of layers, given with their paths; of one that updates itself all array attributes."""
    for path, layer in layers:
        for kind, home in (("parameters", layer.parameters), ("buffers", layer.buffers)):
            yield from (Leaf(f"{kind}/{path}.{key}", home, key) for key in home)
        if layer.updates_itself:
            yield from (Leaf(f"parameters/{path}.{key}", vars(layer), key) for key in own_arrays(layer))


def homes(path: str, layer: Any, names: Iterable[str]) -> list[Leaf]:
    """The leaves that a layer has, and those that it will have when it is built: of a layer that is not complete, all
    among ``names`` that belong to its path."""
    found = {leaf.name: leaf for leaf in leaves([(path, layer)])}
    for kind, home in (("parameters", layer.parameters), ("buffers", layer.buffers)):
        start = f"{kind}/{path}."
        keys = [*(layer.shapes if kind == "parameters" else ())]
        if not layer.complete:
            keys += [name.removeprefix(start) for name in names if name.startswith(start)]
        for key in keys:
            found.setdefault(start + key, Leaf(start + key, home, key))
    for name in later(path, layer, names):
        found[name] = Leaf(name, vars(layer), name.removeprefix(f"parameters/{path}."))
    return list(found.values())


def slots(layers: Iterable[tuple[str, Any]]) -> Iterator[Leaf]:
    """What the optimizer remembers of each parameter."""
    for path, layer in layers:
        for kind, home in layer._slots_by_kind.items():
            if "/" in kind:
                raise TypeError(f"a file cannot hold slots of the kind {kind!r}: leave out the slash in its name")
            yield from (Leaf(f"slots/{kind}/{path}.{key}", home, key) for key in home)


def own_arrays(layer: Any) -> list[str]:
    """The attributes of a layer written as in the article that hold numbers, but for those of its last pass."""
    arrays = {name: value for name, value in vars(layer).items() if is_array(value) and name not in layer._for_backward}
    return [name for name, value in arrays.items() if getattr(value.dtype, "kind", "f") in "buif"]


def attributes(layers: Iterable[tuple[str, Any]], names: Iterable[str]) -> set[str]:
    """The names of the array attributes of layers written as in the article, those that only the file has included."""
    names, found = list(names), set()
    for path, layer in layers:
        if layer.updates_itself:
            found |= {f"parameters/{path}.{key}" for key in own_arrays(layer)} | set(later(path, layer, names))
    return found


def later(path: str, layer: Any, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that a layer written as in the article may hold once it has run: it has no such attribute yet,
    or one that is None."""
    start = f"parameters/{path}."
    keys = [name.removeprefix(start) for name in names if name.startswith(start)] if layer.updates_itself else []
    taken = set(vars(Layer())) | set(layer._for_backward)
    return [
        start + key for key in keys if key.isidentifier() and key not in taken and getattr(layer, key, None) is None
    ]


# -- what a file must hold ---------------------------------------------------------------------------------------------


def faults(layers: list[tuple[str, Any]], given: dict[str, Shape]) -> list[str]:
    """What is missing, misshapen or too much among the parameters and buffers of a file, whose shapes are ``given``.

    A layer that is not complete, since it is built on the first batch, takes whatever the file holds for it.
    """
    given = {name: shape for name, shape in given.items() if name.startswith(("parameters/", "buffers/"))}
    expected: dict[str, Shape] = {}
    anything: list[str] = []
    for path, layer in layers:
        if layer.complete or _channels(path, layer, given) is not None:
            expected |= _shapes(path, layer, given)
        else:
            anything += (f"parameters/{path}.", f"buffers/{path}.")
    missing = [f"{name} is missing, shape {shape}" for name, shape in expected.items() if name not in given]
    wrong = [
        f"{name} has shape {shape}, expected {expected[name]}"
        for name, shape in given.items()
        if name in expected and shape != expected[name]
    ]
    made_later = {name for path, layer in layers for name in later(path, layer, given)}
    extra = [
        f"{name} of shape {shape} belongs to no layer"
        for name, shape in given.items()
        if name not in expected and name not in made_later and not name.startswith(tuple(anything))
    ]
    return missing + wrong + extra


def kind_faults(layers: list[tuple[str, Any]], dtypes: dict[str, str]) -> list[str]:
    """Parameters, buffers and slots in a file that are no floating-point numbers.

    The attributes of a layer written as in the article may be any numbers.
    """
    any_numbers = attributes(layers, dtypes)
    return [
        f"{name} holds {dtype}, expected floating-point numbers"
        for name, dtype in dtypes.items()
        if name.startswith(LEARNED) and name not in any_numbers and not dtype.startswith("float")
    ]


def training_faults(arrays: dict[str, Any]) -> list[str]:
    """Slots and counts in a file that belong to none of its parameters, or have another shape."""
    found = []
    for name, array in arrays.items():
        kind, _, rest = name.partition("/")
        path = rest.partition("/")[2] if kind == "slots" else rest
        kinds = ("parameters", "buffers") if kind == "counts" else ("parameters",)
        shape = next((arrays[place].shape for home in kinds if (place := f"{home}/{path}") in arrays), None)
        if kind in ("slots", "counts") and shape is None:
            found.append(f"{name} belongs to no parameter")
        elif kind == "slots" and array.shape != shape:
            found.append(f"{name} has shape {array.shape}, expected {shape}")
        elif kind == "counts" and (array.shape or array.dtype.kind != "i" or not 0 <= array < 1 << 40):
            found.append(f"{name} is no number of updates: {array!s:.40}")
        elif kind not in ("parameters", "buffers", "slots", "counts", "counters", "callbacks"):
            found.append(f"{name} is nothing that portnn writes")
    return found


def refuse(found: list[str], what: str) -> None:
    """FileError that lists all faults, if there are any."""
    if found:
        more = f"\n  and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise FileError("\n  ".join([what, *(fault[:200] for fault in found[:SHOWN])]) + more)


def _shapes(path: str, layer: Any, given: dict[str, Shape]) -> dict[str, Shape]:
    """The names and shapes of a layer's parameters and buffers; before it is built, as its constructor tells them."""
    channels = _channels(path, layer, given)
    if channels is not None:
        layer = completed(copy.deepcopy(layer), channels)
    found = {leaf.name: _shape(leaf.home[leaf.key]) for leaf in leaves([(path, layer)])}
    return found | {f"parameters/{path}.{name}": shape for name, shape in layer.shapes.items()}


def _shape(array: Any) -> Shape:
    if is_array(array):
        return tuple(array.shape)
    return tuple(get_backend("cpu").asarray(array).shape)  # a list, until the layer is built


def _channels(path: str, layer: Any, given: dict[str, Shape]) -> int | None:
    """For a normalization layer that awaits its first batch: how many channels the file has for it."""
    if layer.complete or not isinstance(layer, NormLayer):
        return None
    shape = given.get(f"parameters/{path}.weights")
    return shape[0] if shape is not None and len(shape) == 1 else None


def completed(layer: Any, channels: int) -> Any:
    """A normalization layer, built for that many channels; FileError if it cannot have so many."""
    try:
        layer.build((channels,), layer.backend or get_backend("cpu"), layer.dtype, layer.seed, layer.path)
    except ValueError as error:
        raise FileError(
            f"layer {layer.path} has {channels} channels in the file, which it cannot have: {error}"
        ) from error
    return layer


def complete(layers: list[tuple[str, Any]], given: dict[str, Shape]) -> None:
    """Builds the normalization layers that await their first batch, for the channels that the file has."""
    for path, layer in layers:
        channels = _channels(path, layer, given)
        if channels is not None:
            completed(layer, channels)


def unbuilt(layers: list[Any]) -> list[str]:
    """The normalization layers whose channels the layers before tell, and for which the file holds no weights."""
    return [
        f"parameters/{layer.path}.weights is missing, shape {shape[-1:]}"
        for layer, shape in _inputs(layers, None)
        if isinstance(layer, NormLayer) and not layer.complete and shape
    ]


def _inputs(layers: Any, shape: Shape | None) -> Iterator[tuple[Any, Shape | None]]:
    """Each layer, those in others too, with the shape of one sample that comes in; None where it is not known."""
    for layer, before in zip(layers, sequential.shapes(layers, shape), strict=False):
        yield layer, before
        if layer.layers and not layer.updates_itself:
            for child, inside in zip(layer.layers, layer.shapes_inside(before), strict=True):
                start = inside[0] if isinstance(inside, list) and inside else inside
                yield from _inputs(child if isinstance(child, (list, tuple)) else [child], start or None)
