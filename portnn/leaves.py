"""Mappings from dotted paths to arrays: ``net.parameters`` and ``net.slots``."""

from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from functools import partial
from operator import getitem
from typing import Any, NamedTuple, NoReturn

from portnn._typing import Array
from portnn.backend import is_array, namespace
from portnn.indivisible import set_all
from portnn.layers.attributes import declared


class Place(NamedTuple):
    """Where the array of a path is stored, ``home[name]``, and the function that sets it."""

    path: str
    home: dict[str, Array]
    name: str
    assign: Callable[[Any], None]


class Leaves(dict[str, Array]):
    """A live view of a network's arrays: reading gives the current array; setting checks, moves, casts and copies it.

    ``items``, ``values`` and ``copy`` give all arrays of one step, even while another thread trains the network.
    """

    is_set = False  # by ``net.parameters |= {...}``, which then assigns the view itself

    def __init__(self, kind: str, places: Callable[[], list[Place]], pending: Callable[[], list[Place]] = list):
        """``pending`` are the places of arrays that do not exist yet, but can be set."""
        self._kind, self._places, self._pending = kind, places, pending
        super().__init__(self._now())

    def _now(self) -> dict[str, Array]:
        places = self._places()
        paths, homes, names, _ = zip(*places, strict=True) if places else ((), (), (), ())
        return dict(zip(paths, map(getitem, homes, names), strict=True))  # one call into C: no step can come in between

    def _find(self, path: Any) -> Place:
        places = {place.path: place for place in (*self._pending(), *self._places())}
        if path not in places:
            raise ValueError(self._unknown(path))
        return places[path]

    def _unknown(self, path: Any) -> str:
        known = list(dict.fromkeys(place.path for place in (*self._places(), *self._pending())))
        near = get_close_matches(str(path), known, 1)
        meant = f": did you mean {near[0]!r}?" if near else "."
        return f"there is no {self._kind} {path!r}{meant} Known: {', '.join(known) or 'none'}"

    def __getitem__(self, path: str) -> Array:
        place = next((place for place in self._places() if place.path == path), None)
        if place is None:
            raise KeyError(self._unknown(path))
        return place.home[place.name]

    def __setitem__(self, path: str, value: Any) -> None:
        place = self._find(path)
        place.assign(value)
        super().__setitem__(path, place.home[place.name])

    def update(self, *others: Any, **named: Any) -> None:
        """Sets several arrays: all of them or, after an error, none."""
        given = dict(*others, **named)
        places = [self._find(path) for path in given]
        homes = {id(place.home): place.home for place in places}
        before = [(home, dict(home)) for home in homes.values()]
        try:
            for path, value in given.items():
                self[path] = value
        except BaseException:
            for home, arrays in before:
                for name in home.keys() - arrays.keys():
                    del home[name]
                home.update(arrays)
            raise

    def __ior__(self, other: Any) -> "Leaves":  # type: ignore[override]
        self.update(other)
        self.is_set = True
        return self

    def __call__(self, *given: Any) -> NoReturn:
        raise TypeError(
            f"a mapping is not called: {self._kind}s go by their paths, {self._kind}s[path], without (); an optimizer "
            "is given none of them"
        )

    def get(self, path: str, default: Any = None) -> Any:
        return self[path] if path in self else default  # noqa: SIM401 - not dict's own get: the current array

    # With an ``__iter__`` of its own, ``dict(leaves)`` and ``{**leaves}`` call ``keys`` and do not read old arrays.
    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def keys(self) -> Any:
        return self._now().keys()

    def __or__(self, other: Any) -> dict[str, Array]:  # type: ignore[override]
        return self._now() | dict(other)

    def __ror__(self, other: Any) -> dict[str, Array]:  # type: ignore[override]
        return dict(other) | self._now()

    def items(self) -> Any:
        return self._now().items()

    def values(self) -> Any:
        return self._now().values()

    def copy(self) -> dict[str, Array]:
        return self._now()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, (self._now(),)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"a {self._kind} can be neither added nor removed here: set it, {self._kind}s[path] = array; layers come "
            "and go with net.add(layer) and net.layers.pop()"
        )

    __delitem__ = pop = popitem = clear = _refuse

    def setdefault(self, path: str, default: Any = None) -> Array:
        return self[path] if path in self else self._refuse()


class Kinds(dict[str, Leaves]):
    """The slots of each kind; the optimizer decides which kinds there are."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("slots are set one by one, net.slots[kind][path] = array; their kinds are the optimizer's")

    __setitem__ = __delitem__ = update = pop = popitem = clear = setdefault = __ior__ = _refuse

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, ({kind: leaves.copy() for kind, leaves in self.items()},)


def slots_of(layers: Iterable[tuple[str, Any]]) -> dict[str, Leaves]:
    """The optimizer's slots by kind and path, for layers with their paths."""
    layers = list(layers)
    kinds = dict.fromkeys(kind for _, layer in layers for kind in layer._slots_by_kind)
    return Kinds((kind, Leaves(f"slot {kind}", partial(_slot_places, layers, kind))) for kind in kinds)


def _slot_places(layers: list[tuple[str, Any]], kind: str) -> list[Place]:
    return [
        Place(f"{path}.{name}", layer._slots_by_kind[kind], name, partial(layer._assign_slot, kind, name))
        for path, layer in layers
        for name in layer._slots_by_kind.get(kind, ())
    ]


def parameters_of(layers: Iterable[tuple[str, Any]]) -> Leaves:
    """The parameters by path, for layers with their paths."""
    layers = list(layers)
    existing = lambda layer: layer.parameters  # noqa: E731
    pending = lambda layer: () if layer.complete else declared(type(layer))  # noqa: E731
    return Leaves(
        "parameter", partial(_parameter_places, layers, existing), partial(_parameter_places, layers, pending)
    )


def _parameter_places(layers: list[tuple[str, Any]], names: Callable[[Any], Iterable[str]]) -> list[Place]:
    return [
        Place(f"{path}.{name}", layer.parameters, name, partial(layer.assign, name))
        for path, layer in layers
        for name in names(layer)
    ]


# -- keeping and putting back ------------------------------------------------------------------------------------------


def copied(network: Any) -> dict[str, Array]:
    """A copy of every parameter and buffer, by ``parameters/PATH`` and ``buffers/PATH``.

    The arrays of a layer written as in the article, plain attributes, are among the parameters, as in a file.
    """
    return {leaf.name: _copy(leaf.home[leaf.key]) for leaf in _leaves(network)}


def put_back(network: Any, arrays: dict[str, Any]) -> None:
    """Sets all parameters and buffers to what ``copied`` returned, in one call into C; host arrays are moved."""
    places = _to_put_back(network, arrays)
    missing = [leaf.name for leaf in places if leaf.name not in arrays]
    if missing:
        raise ValueError(f"there is no copy of {missing[0]}: the network's layers have changed since it was made")
    made = [_like(leaf.home[leaf.key], arrays[leaf.name], network.backend) for leaf in places]
    set_all((leaf.home, leaf.key, array) for leaf, array in zip(places, made, strict=True))


def check_copied(network: Any, arrays: dict[str, Any]) -> None:
    """ValueError unless ``arrays`` are what ``copied`` may have returned for a network."""
    for leaf in _to_put_back(network, arrays):
        found: Any = arrays.get(leaf.name)
        shape = tuple(leaf.home[leaf.key].shape)
        if not is_array(found) or tuple(found.shape) != shape or not str(found.dtype).startswith("float"):
            kind = f"{found.dtype} of shape {tuple(found.shape)}" if is_array(found) else f"{found!r:.40}"
            raise ValueError(f"the copy of {leaf.name} must be floating-point numbers of shape {shape}, got {kind}")


def _to_put_back(network: Any, arrays: dict[str, Any]) -> list[Any]:
    """The arrays to be put back: all but those that layers written as in the article have new since the copy."""
    attributes = [vars(layer) for layer in network.walk() if layer.updates_itself]
    return [leaf for leaf in _leaves(network) if leaf.name in arrays or all(leaf.home is not a for a in attributes)]


def _leaves(network: Any) -> list[Any]:
    from portnn.files.leaves import leaves  # here: files are loaded at first use

    network.note_kept()  # the arrays that the last pass has left in a layer are none of these
    return list(leaves((layer.path, layer) for layer in network.walk()))


def _copy(array: Array) -> Array:
    """A copy where the array is: a layer written as in the article may keep one on the host."""
    return namespace(array).asarray(array, copy=True)


def _like(old: Array, array: Any, backend: Any) -> Array:
    """A copy of ``array`` where the old one is."""
    if type(array) is type(old):
        return _copy(array)
    return backend.asarray(array, str(old.dtype)) if backend.owns(old) else namespace(old).asarray(array, copy=True)
