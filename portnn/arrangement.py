"""The paths of a network's layers, and what happens when layers are added, removed or moved."""

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from portnn import article, settings
from portnn.backend import in_order
from portnn.layers.layer import Layer, move
from portnn.layers.sequential import shapes


class _Gone:
    """Stands for a layer whose children are never those that are known."""

    layers = None


class Arrangement:
    """A snapshot of the layers of a network and of its composite layers."""

    def __init__(self, layers: list[Any]):
        self.known = list(layers)
        self.composites = [
            (part, [list(child) if isinstance(child, (list, tuple)) else child for child in part.layers])
            for layer in layers
            for part in layer.walk()
            if part.layers
        ]

    def forget(self) -> None:
        """Makes ``holds`` say no: a layer now belongs to another network, whoever holds it here."""
        self.composites.append((_Gone(), []))

    def holds(self, layers: Any) -> bool:
        """Whether ``layers`` are still those of the snapshot."""
        return (
            isinstance(layers, list)
            and same(layers, self.known)
            and all(same(layer.layers, inside) for layer, inside in self.composites)
        )

    def all(self) -> Iterator[Any]:
        """Every layer of the snapshot."""
        for layer in self.known:
            yield from layer.walk()
        for _, inside in self.composites:
            for layer in _flat(inside):
                yield from layer.walk()


def same(layers: Any, known: Any) -> bool:
    """Whether these are the same objects, in lists nested the same way; their ``__eq__`` is not called."""
    if not isinstance(known, list):
        return layers is known
    return isinstance(layers, (list, tuple)) and len(layers) == len(known) and all(map(same, layers, known))


def arrange(network: Any, before: Arrangement) -> None:
    """Gives each layer the path of its current place: those that stay keep their state, new ones are built.

    Those that were removed may join another network; their optimizer slots and update counts are kept. An error leaves
    everything as it was.
    """
    if not isinstance(network.layers, list):
        raise TypeError(f"net.layers must be a list of layers, got {network.layers!r:.60}")
    take_in(network, network.layers, network.layers, network)
    now = {id(layer) for layer in network.walk()}
    for part in before.all():
        if id(part) not in now and part._network_ref is not None and part._network_ref() is network:
            part._count_updates(network.step, learns=False)  # it keeps its slots, in case it is added again


def take_in(network: Any, layers: list[Any], candidates: list[Any], home: Any) -> None:
    """Checks ``candidates`` among all ``layers``, builds those that are new, and gives each its path.

    ``home`` is the network that they may already be part of.
    """
    found: list[Any] = []
    for layer in candidates:
        found += parts(layer, found, home)
    for part in found:
        fault = article.missing_method(part)
        if fault:
            raise TypeError(fault)
        if lacks := settings.missing(part):
            raise TypeError(_not_ready(part, f"it has no {lacks[0]}"))
    before = [(part, _attributes(part)) for part in found]
    try:
        through = shapes(layers, None)
        for index, layer in enumerate(layers):
            if any(layer is candidate for candidate in candidates):
                _build(network, layer, through[index], str(index))
    except BaseException as error:
        for part, attributes in before:
            vars(part).clear()
            vars(part).update(attributes)
        if isinstance(error, AttributeError):
            raise TypeError(_not_ready(layer, str(error))) from error
        raise


def _attributes(part: Layer) -> dict[str, Any]:
    """A layer's attributes, with copies of the dicts that building it changes."""
    found = {name: dict(value) if type(value) is dict else value for name, value in vars(part).items()}
    return found | {"_slots_by_kind": {kind: dict(slots) for kind, slots in part._slots_by_kind.items()}}


def _build(network: Any, layer: Layer, before: tuple[int, ...] | None, path: str) -> None:
    """Gives a layer of this network its new path; builds one that is new, or that contains a new layer."""
    inside = list(layer.walk())
    new = [part for part in inside if part._network_ref is None or part._network_ref() is not network]
    if new:
        for part in new:
            if not part.updates_itself:  # one that does may use that name for something else
                vars(part)["kernels"] = network.kernels
            part._slots_by_kind, part._update_counts = {}, {}  # another network's optimizer made them
        staying = [(part, part.drawn) for part in inside if all(part is not other for other in new)]
        for part, _ in staying:
            part.drawn = {}  # its values are not drawn again for another path
        here = weakref.ref(network)
        for part in new:
            owner_then = None if part._network_ref is None else part._network_ref()
            if owner_then is not None:
                owner_then._arrangement.forget()
            part._network_ref = here
        layer.build(before, network.backend, network.dtype, network.seed, path)
        for part in new:  # whatever memory order its author left them in
            for home in (part.parameters, part.buffers):
                home.update({name: in_order(array) for name, array in home.items()})
        for part, drawn in staying:
            part.drawn = drawn
    elsewhere = [part for part in inside if part.backend != network.backend]
    if elsewhere:  # the network moved while they were out of it
        move(elsewhere, network.backend)
    for part in inside:
        if part._uses != network._uses:  # training began afresh meanwhile
            part._slots_by_kind, part._update_counts, part._uses = {}, {}, network._uses
    layer._place(path)


def owner(layer: Any) -> Any:
    """The network that a layer is part of; None if there is none, or the layer was removed from it."""
    network = None if layer._network_ref is None else layer._network_ref()
    return network if network is not None and any(layer is part for part in network.walk()) else None


def named(layers: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """All layers with the path of their current place, each followed by its children."""
    for i, layer in enumerate(layers):
        yield from _named(layer, str(i))


def _named(layer: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(layer, Layer):
        raise TypeError(f"layer {path} must be a layer, got {layer!r:.60}: net.layers holds layers only")
    yield path, layer
    for i, j, child in layer._children():
        yield from _named(child, f"{path}.{i}" if j is None else f"{path}.{i}.{j}")


def parts(layer: Any, above: list[Any], network: Any = None, parent: Any = None) -> list[Any]:
    """A layer and all layers below it; raises for anything that is not a layer, and for a layer used twice.

    ``network`` is the one that it may already be part of.
    """
    if not isinstance(layer, Layer):
        where = "net" if parent is None else type(parent).__name__
        raise TypeError(f"{where}.layers must hold layers, or lists of layers, got {layer!r:.60}")
    if owner(layer) not in (None, network):
        raise ValueError(
            f"{layer} is already in a network, and a layer keeps the state of one place: add a copy with its weights, "
            "copy.deepcopy(layer), or create another"
        )
    if any(layer is other for other in above):
        raise ValueError(
            f"one {type(layer).__name__} is used twice in a network: create two, or add a copy, copy.deepcopy(layer); "
            "each keeps the state of one place"
        )
    for kind in ("parameters", "buffers"):
        if not isinstance(getattr(layer, kind), dict):
            raise TypeError(f"{type(layer).__name__}.{kind} must be a dict of arrays, got {getattr(layer, kind)!r:.60}")
    found: list[Any] = [layer]
    for child in layer.layers if isinstance(layer.layers, (list, tuple)) else [layer.layers]:
        for below in child if isinstance(child, (list, tuple)) else [child]:
            found += parts(below, [*above, *found], network, layer)
    return found


def _not_ready(layer: Any, why: str) -> str:
    return (
        f"{type(layer).__name__} is not ready to be added: {why}. If it derives from a layer of portnn, its __init__ "
        "must call super().__init__(...)"
    )


def _flat(layers: list[Any]) -> Iterator[Any]:
    """The layers of a list in which a branch may be a list itself."""
    for child in layers:
        yield from child if isinstance(child, (list, tuple)) else (child,)
