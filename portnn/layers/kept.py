"""What passes leave in users' layers and functions, such as the last batch: no copy and no file holds it.

portnn's own layers name such attributes in ``_for_backward``. A user's layer just sets them, so they are found by what
a fit, or a call of ``forward_propagation``, changes.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
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

    That is every new array in an attribute that held none and, since a user's own state may be in an attribute that is
    set anew in each pass, elsewhere only what has the shape of a batch. Functions have no other attributes than such.
    """

    def __init__(self, layers: Sequence[Any], network: Any = None):
        self.layers = layers
        found = [(layer, layer) for layer in layers]
        for name in ("activation", "activation_prime"):
            found += [(layer, getattr(layer, name, None)) for layer in layers]
        if network is not None:
            functions = [network.loss, network.loss_prime, *(metric for _, metric in network.metrics)]
            found += [(network, function) for function in functions]
        things = {id(thing): (home, thing) for home, thing in ((h, getattr(t, "__self__", t)) for h, t in found)}
        self.before = [(home, thing, _arrays_in(thing)) for home, thing in things.values() if _is_users(thing)]

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, *error: object) -> None:
        self.note()

    def note(self) -> None:
        if not self.before:  # nobody's code but portnn's
            return
        passes = [a for layer in self.layers for a in (layer.input, layer.output) if is_array(a)]
        batches = {tuple(a.shape) for a in passes if len(a.shape) > 1 and a.shape[0] > 1}
        left: dict[int, tuple[Any, list[Array]]] = {id(home): (home, []) for home, _, _ in self.before}
        stays = {id(a) for layer in self.layers for a in (*layer.parameters.values(), *layer.buffers.values())}
        for home, thing, before in self.before:
            old = {id(a) for arrays in before.values() for a in arrays} - {id(a) for a in home._transient}
            sets_weights = getattr(thing, "updates_itself", False)  # plain attributes, set anew in each pass
            for name, arrays in _arrays_in(thing).items():
                held_none = thing is home and not before.get(name)
                if held_none and sets_weights and is_array(vars(thing).get(name)) and name not in thing._for_backward:
                    thing._for_backward = (*thing._for_backward, name)
                for a in arrays:
                    by_shape = tuple(a.shape) in batches and not sets_weights
                    if id(a) not in old and (held_none or by_shape):
                        left[id(home)][1].append(a)
                    else:
                        stays.add(id(a))
        for home, arrays in left.values():
            home._transient = [a for a in arrays if id(a) not in stays]


def _is_users(thing: Any) -> bool:
    """Whether it is an object of a class that a user wrote."""
    plain = isinstance(thing, (type, FunctionType, BuiltinFunctionType, ModuleType, str))
    return hasattr(thing, "__dict__") and not plain and not is_ours(type(thing))


def _arrays_in(thing: Any) -> dict[str, list[Array]]:
    """The arrays in each attribute, also in containers and in objects of a user's."""
    return {name: list(_flat(value, DEEPEST)) for name, value in list(vars(thing).items()) if name not in KNOWN}


def _flat(value: Any, depth: int) -> Iterator[Array]:
    if is_array(value):
        yield value
        return
    inside: list[Any] = []
    if isinstance(value, Mapping):
        inside = list(value.values())
    elif isinstance(value, (list, tuple, set, deque)):
        inside = list(value)
    elif _is_users(value):
        inside = list(vars(value).values())
    for part in inside if depth else ():
        yield from _flat(part, depth - 1)
