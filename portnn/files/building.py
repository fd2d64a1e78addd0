"""Layers, loss, optimizer and metrics made anew from a file's description; nothing but known classes is called."""

from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import Any

from portnn.checks import MOST_AXES
from portnn.files import describing
from portnn.files.arguments import takes_layers
from portnn.files.errors import FileError
from portnn.files.registry import Known, check_role
from portnn.files.values import decoded
from portnn.losses import PAIRS
from portnn.ops.windows import POSITIONS

LAYERS = 2_000  # in one file, those in other layers included


def layers(entries: Any, known: Known) -> list[Any]:
    """The layers that ``entries`` describe, without their values; FileError where they cannot be made as described.

    ``check_costs`` has accepted the entries.
    """
    made = [_layer(entry, known, str(i)) for i, entry in enumerate(entries)]
    for i, (each, entry) in enumerate(zip(made, entries, strict=True)):
        _check_alike(each, entry, str(i))
    for each, entry in pairs(made, entries):
        if not entry["trainable"]:
            _said_of_the_file(partial(setattr, each, "trainable", False))
    return made


def use(network: Any, about: dict[str, Any], known: Known) -> None:
    """Gives a network the loss, the optimizer and the metrics of a file."""
    loss, prime = about["loss"], None
    if loss is None:
        return
    if isinstance(loss, dict) and set(loss) == {"loss", "prime"}:
        loss, prime = decoded(loss["loss"], known), decoded(loss["prime"], known)
    elif isinstance(loss, dict):
        loss = decoded(loss, known)
    elif not isinstance(loss, str) or loss not in PAIRS:
        raise FileError(f"the file names the loss {loss!r:.60}; known: {', '.join(PAIRS)}")
    metrics = [name if isinstance(name, str) else decoded(name, known) for name in about["metrics"]]
    optimizer = None if about["optimizer"] is None else decoded(about["optimizer"], known)
    for what, things, module in (
        ("the loss", [loss, prime], "losses"),
        ("a metric", metrics, "metrics"),
        ("the optimizer", [optimizer], "optimizers"),
    ):
        for thing in things:
            check_role(what, thing, module)
    _said_of_the_file(lambda: network.use(loss, prime, optimizer=optimizer, metrics=metrics))


def join(network: Any, made: list[Any]) -> None:
    """Makes ``made`` the layers of a new, empty network; FileError where one does not fit the one before it."""
    network.layers.extend(made)
    _said_of_the_file(network._arrange)


def _said_of_the_file(call: Callable[[], None]) -> None:
    try:
        call()
    except (ValueError, TypeError) as error:
        raise FileError(f"the file describes a network that cannot be made: {error}") from error


def _layer(entry: Any, known: Known, path: str) -> Any:
    """The layer of an entry. Children that its constructor does not take are made by the constructor itself."""
    name, children = entry["class"], entry["children"]
    if name not in known.layers:
        raise FileError(f"layer {path} of the file is of class {name!r:.60}, which is no layer's class")
    made = known.layers[name]
    arguments = {key: decoded(value, known) for key, value in entry["arguments"].items()}
    inside = []
    for i, child in enumerate(children if takes_layers(made) else ()):
        if isinstance(child, list):
            inside.append([_layer(part, known, f"{path}.{i}.{j}") for j, part in enumerate(child)])
        else:
            inside.append(_layer(child, known, f"{path}.{i}"))
    return known.make(made, arguments, inside)


def _check_alike(layer: Any, entry: dict[str, Any], path: str) -> None:
    """Checks that a layer is as described, for it may have been changed after its constructor had made it."""
    layer._place(path)
    now = describing.layer(layer, {})
    if fault := difference(now, entry, path):
        raise FileError(
            f"{fault}, as its constructor makes it: a layer whose children are changed later must take them as "
            "arguments, *layers"
        )


def difference(made: Any, entry: dict[str, Any], path: str) -> str | None:
    """How a layer's description differs from that in a file, whether frozen or not; None if it does not."""
    made, entry = _as_entry(made), _as_entry(entry)
    if made["class"] != entry["class"] or unlike(made["arguments"], entry["arguments"], ""):
        return f"layer {path} is {_shown(entry)} in the file, but {_shown(made)}"
    if len(made["children"]) != len(entry["children"]):
        return f"layer {path} has {len(entry['children'])} layers in it in the file, but {len(made['children'])}"
    both = zip(made["children"], entry["children"], strict=True)
    return next((fault for i, pair in enumerate(both) if (fault := difference(*pair, f"{path}.{i}"))), None)


def unlike(made: Any, entry: Any, place: str) -> str:
    """Where a description differs from one in a file; empty if it does not, but for arguments newer than the file."""
    if isinstance(made, dict) and isinstance(entry, dict) and entry.keys() <= made.keys():
        if made.get("class") == entry.get("class"):
            inside = ((made[key], value, _below(place, key)) for key, value in entry.items())
            return next((fault for parts in inside if (fault := unlike(*parts))), "")
    elif isinstance(made, list) and isinstance(entry, list) and len(made) == len(entry):
        inside = ((new, old, f"{place}[{i}]") for i, (new, old) in enumerate(zip(made, entry, strict=True)))
        return next((fault for parts in inside if (fault := unlike(*parts))), "")
    elif type(made) is type(entry) and bool(made == entry):
        return ""
    return f"{place} is {_brief(entry)} in the file, but {_brief(made)}"


def _below(place: str, key: str) -> str:
    return place if key == "arguments" else f"{place}.{key}"


def _brief(value: Any) -> str:
    return f"{value['class']}(...)" if isinstance(value, dict) and "class" in value else f"{value!r:.60}"


def _as_entry(described: Any) -> dict[str, Any]:
    """A list of layers in place of one layer, as if it were a layer too."""
    if isinstance(described, list):
        return {"class": "list", "arguments": {}, "children": described}
    found: dict[str, Any] = described
    return found


def _shown(entry: dict[str, Any]) -> str:
    return f"{entry['class']}({', '.join(f'{name}={value!r:.60}' for name, value in entry['arguments'].items())})"


def pairs(layers: Any, entries: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each layer with its entry, those in others included; the two must be alike."""
    for layer, entry in zip(layers, entries, strict=True):
        if isinstance(entry, list):
            yield from pairs(layer, entry)
        else:
            yield layer, entry
            yield from pairs(layer.layers, entry["children"])


def _each(entries: Any, inside: bool = False) -> Iterator[dict[str, Any]]:
    """All entries of layers, those of the layers in others included; FileError for what is no entry.

    A list of layers may stand for one layer ``inside`` another one only.
    """
    for entry in entries:
        if inside and isinstance(entry, list):
            yield from _each(entry)
            continue
        keys = {"class": str, "arguments": dict, "children": list, "trainable": bool}
        if not isinstance(entry, dict) or {key: type(value) for key, value in entry.items()} != keys:
            raise FileError(f"the file describes a layer by {entry!r:.80}, expected the keys {', '.join(keys)}")
        yield entry
        yield from _each(entry["children"], inside=True)


def check_costs(entries: Any) -> None:
    """Limits what making the layers costs, before the first is made; when a file is written, too."""
    windows = 0
    for count, entry in enumerate(_each(entries), start=1):
        windows += _positions(entry["arguments"])
        if count > LAYERS or windows > POSITIONS:
            raise FileError(
                f"a file holds at most {LAYERS:,} layers, and kernels and windows of at most {POSITIONS:,} positions "
                "in all; here are more"
            )


def _positions(arguments: dict[str, Any]) -> int:
    """The positions in a layer's window, of which it keeps a list."""
    given = arguments.get("kernel_shape", arguments.get("window", ()))
    given = given.get("list") if isinstance(given, dict) else given
    sizes = [n for n in (given if isinstance(given, list) else [given]) if isinstance(n, int) and n > 0]
    if isinstance(given, int) and prod(sizes) ** 2 <= POSITIONS:  # a larger one has one axis, or is refused
        sizes *= 2
    return prod(sizes[:MOST_AXES])  # more axes are refused, and a product of many numbers takes long
