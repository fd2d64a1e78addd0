"""What passes leave in users' layers and functions, such as the last batch: no copy and no file holds it.

portnn's own layers name such attributes in ``_for_backward``. A user's layer just sets them, so they are found by what
a fit, or a call of ``forward_propagation``, changes.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from portnn._typing import Array
from portnn.backend import is_array
from portnn.ops import is_ours

# Attributes of a layer that are copied with their arrays, or that a layer's copy leaves out by itself.
KNOWN = {"parameters", "gradients", "buffers", "new_buffers", "_slots_by_kind", "_transient", "input", "output"}
KNOWN |= {"layers", "backend", "xp", "ops"}
DEEPEST = 8  # containers in containers that are looked into


class Kept:
    """The arrays in what users wrote, before some passes; ``note`` puts what these have left into ``_transient``.

    That is what is new since then and has the shape of a batch. A user's own state may be set anew in each pass, too:
    in an attribute that held no array before, the number of samples tells a batch from state; in any other, the whole
    shape must be that of some layer's X or Y. A layer written as in the article sees samples, shaped as its weights may
    be: there it is what each call of ``forward_propagation`` sets anew (``article.Adapter``).
    """

    def __init__(self, layers: Sequence[Any], network: Any = None, shapes: Iterable[tuple[int, ...]] = ()):
        """``shapes``: those of batches, beside the ones that the layers keep for backward."""
        self.layers, self.shapes = layers, set(shapes)
        found = [(layer, layer) for layer in layers]
        for name in ("activation", "activation_prime"):
            found += [(layer, getattr(layer, name, None)) for layer in layers]
        if network is not None:
            functions = [network.loss, network.loss_prime, *(metric for _, metric in network.metrics)]
            found += [(network, function) for function in functions]
        things = {id(thing): (home, thing) for home, thing in ((h, getattr(t, "__self__", t)) for h, t in found)}
        self.before = [(home, thing, _state_in(home, thing)) for home, thing in things.values() if _is_users(thing)]

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, *error: object) -> None:
        self.note()

    def note(self) -> None:
        if not self.before:  # nobody's code but portnn's
            return
        passes = [a for layer in self.layers for a in (layer.input, layer.output) if is_array(a)]
        shapes = {tuple(s) for s in (*self.shapes, *(tuple(a.shape) for a in passes)) if len(s) > 1}
        left: dict[int, tuple[Any, list[Array]]] = {id(home): (home, []) for home, _, _ in self.before}
        stays = {id(a) for layer in self.layers for a in (*layer.parameters.values(), *layer.buffers.values())}
        for home, thing, before in self.before:
            old = {id(a) for arrays in before.values() for a in arrays}
            for name, arrays in _arrays_in(thing).items():
                held_none = not before.get(name)
                new = [a for a in arrays if id(a) not in old]
                if not getattr(thing, "updates_itself", False):
                    batches = [a for a in new if tuple(a.shape) in shapes or (held_none and _of_samples(a, shapes))]
                elif is_array(_attributes(thing).get(name)):
                    batches = arrays if thing._set_by_forward.get(name, 0) > 1 else []
                    if batches and name not in thing._for_backward:
                        thing._for_backward = (*thing._for_backward, name)
                else:  # a container
                    batches = [a for a in new if held_none and tuple(a.shape) in _sample_shapes(thing)]
                left[id(home)][1].extend(batches)
                stays |= {id(a) for a in arrays} - {id(a) for a in batches}
        for home, arrays in left.values():
            if arrays or home._transient:
                home._transient = [a for a in arrays if id(a) not in stays]


def _sample_shapes(layer: Any) -> set[tuple[int, ...]]:
    """The shapes of X and Y of a layer written as in the article, as it saw them last."""
    X, Y = getattr(layer, "_shapes", ((), ()))
    return {X, (1, *X), Y}


def _of_samples(array: Array, shapes: set[tuple[int, ...]]) -> bool:
    """Whether it may hold something of each sample: as many rows as samples, or a multiple of that, as patches have."""
    features = {n for shape in shapes for n in shape[1:]}
    for shape in shapes:
        if array.ndim > 1 and shape[0] > 1 and array.shape[0] and array.shape[0] % shape[0] == 0:
            return True
        if array.ndim == 1 and array.shape[0] == shape[0] and array.shape[0] not in features:
            return True
    return False


def _is_users(thing: Any) -> bool:
    """Whether it is an object of a class that a user wrote."""
    plain = isinstance(thing, (type, FunctionType, BuiltinFunctionType, ModuleType, str))
    has_attributes = hasattr(thing, "__dict__") or any("__slots__" in vars(c) for c in type(thing).__mro__)
    return has_attributes and not plain and not is_ours(type(thing))


def _attributes(thing: Any) -> dict[str, Any]:
    """The attributes in an object's ``__dict__`` and in its classes' ``__slots__``."""
    found = dict(getattr(thing, "__dict__", {}))
    for cls in type(thing).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")  # as Python renames it
            name = f"_{cls.__name__.lstrip('_')}{name}" if private else name
            if hasattr(thing, name):
                found.setdefault(name, getattr(thing, name))
    return found


def _arrays_in(thing: Any) -> dict[str, list[Array]]:
    """The arrays in each attribute, also in containers and in objects of a user's."""
    return {name: list(_flat(value, DEEPEST)) for name, value in _attributes(thing).items() if name not in KNOWN}


def _state_in(home: Any, thing: Any) -> dict[str, list[Array]]:
    """The arrays in each attribute, but for those that earlier passes have left."""
    left = {id(a) for a in home._transient}
    return {name: [a for a in arrays if id(a) not in left] for name, arrays in _arrays_in(thing).items()}


def _flat(value: Any, depth: int) -> Iterator[Array]:
    if is_array(value):
        yield value
        return
    inside: list[Any] = []
    if isinstance(value, Mapping):
        inside = list(value.values())
    elif isinstance(value, (list, tuple, set, deque)):
        inside = list(value)
    elif isinstance(value, partial):
        inside = [value.args, value.keywords]
    elif _is_users(value):
        inside = list(_attributes(value).values())
    for part in inside if depth else ():
        yield from _flat(part, depth - 1)
