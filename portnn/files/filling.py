"""Filling networks from files: a new one, an equal one completely, or only the weights of one. All, or nothing."""

from typing import Any

import numpy as np

from portnn.arrangement import named
from portnn.backend import get_backend
from portnn.files import building, describing, reading
from portnn.files.errors import FileError
from portnn.files.leaves import (
    LEARNED,
    attributes,
    complete,
    faults,
    homes,
    kind_faults,
    refuse,
    training_faults,
    unbuilt,
)
from portnn.files.reading import Contents, Source
from portnn.files.registry import Known
from portnn.history import History
from portnn.indivisible import Binding, set_all
from portnn.layers.batch_norm import BatchNormLayer
from portnn.transfer import bring
from portnn.validation import DTYPES

Paths = list[tuple[str, Any]]  # layers with their paths


def load(cls: Any, path: Any, given: Any, backend: Any) -> Any:
    """A new network of class ``cls``, with all that the file at ``path`` holds."""
    known, target = Known(given), get_backend(backend)
    with reading.opened(path) as source:
        about = source.about
        _check_names(source, known)
        kernels = _check_settings(about)
        made = building.layers(about["layers"], known)
        _check_shapes(made, source)
        contents = source.contents()
        _put(made, contents.arrays)
        network = cls(backend=target, dtype=about["dtype"], seed=about["seed"], kernels=kernels)
        building.join(network, made)
        building.use(network, about, known)
        _restore(network, contents)
    return network


def restore(network: Any, contents: Contents) -> None:
    """Gives a network everything that a file of an equal one holds: arrays, counts, seed, history, what is frozen.

    FileError, and nothing is changed, unless the network has the same layers, dtype, loss, optimizer and metrics. It is
    called before the first step of a fit, which looks up arrays and numbers when it begins.
    """
    with reading.naming(contents.path):
        pairs = building.pairs(network.layers, contents.about["layers"])
        if not _unlike(network, contents.about):
            frozen = [layer.path for layer, entry in pairs if entry["trainable"] and not layer.trainable]
            faults = [f"layer {path} is trainable in the file, but frozen: set trainable = True" for path in frozen]
            refuse(faults, "the file is that of another network:")
        _restore(network, contents)


def _restore(network: Any, contents: Contents) -> None:
    about, arrays, layers = contents.about, contents.arrays, list(named(network.layers))
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    refuse(_unlike(network, about), "the file is that of another network:")
    found = faults(layers, shapes) + kind_faults(layers, contents.dtypes) + training_faults(arrays)
    refuse(found, "its arrays are not those of the network:")
    with network.backend.scope():
        new = _brought(network, layers, arrays)
        complete(layers, shapes)
        set_all([*_values(layers, new), *_training(layers, new, arrays), *_numbers(network, contents)])
    for i, layer in enumerate(network.layers):
        layer._place(str(i))  # masks are drawn by the seed
    network._note_layers()


def load_weights(network: Any, path: Any) -> None:
    """Gives a network the parameters and buffers of a file, by path; the rest of it stays as it is."""
    with network.turns.take("load_weights"), network.backend.scope(), reading.opened(path) as source:
        network._arrange()
        layers, shapes = list(named(network.layers)), source.shapes
        found = faults(layers, shapes) + kind_faults(layers, source.dtypes)
        refuse(found, "its weights do not fit the network, which was left as it is:")
        new = _brought(network, layers, source.contents().arrays)
        complete(layers, shapes)
        set_all(_values(layers, new))
        network._note_layers()


# -- checks ------------------------------------------------------------------------------------------------------------


def _check_names(source: Source, known: Known) -> None:
    about = source.about
    missing = known.missing([about["layers"], about["loss"], about["optimizer"], about["metrics"]])
    if missing:
        names = ", ".join(f"{name:.60}" for name in missing[:20])
        call = ", ".join(name for name in missing[:20] if name.isidentifier() and len(name) < 60) or "..."
        raise FileError(
            f"the file names {names!r}, which portnn does not have: give the class, function or object that you wrote, "
            f"portnn.load({source.path!r}, layers=[{call}])"
        )


def _check_settings(about: dict[str, Any]) -> str:
    """Checks dtype and kernels; returns the kernels."""
    kernels = about["environment"].get("kernels", "auto")
    if about["dtype"] not in DTYPES or kernels not in ("auto", "portable"):
        raise FileError(f"the file has dtype {about['dtype']!r:.40} and kernels {kernels!r:.40}, which do not exist")
    return str(kernels)


def _check_shapes(made: list[Any], source: Source) -> None:
    """Checks the shapes in a file against layers that were just made from it, before any array is read."""
    layers = list(named(made))
    complete(layers, source.shapes)
    try:
        lacking = unbuilt(made)
    except ValueError as error:
        raise FileError(f"the file describes layers that do not fit: {error}") from error
    refuse(lacking or faults(layers, source.shapes), "its arrays are not those of its layers:")


def _unlike(network: Any, about: dict[str, Any]) -> list[str]:
    """In what a network differs from the one in the file, but for its numbers."""
    now = describing.network(network)
    found = [
        fault
        for name in ("dtype", "loss", "optimizer", "metrics")
        if (fault := building.unlike(now[name], about[name], name))
    ]
    if len(now["layers"]) != len(about["layers"]):
        return [*found, f"{len(about['layers'])} layers in the file, but {len(now['layers'])}"]
    pairs = enumerate(zip(now["layers"], about["layers"], strict=True))
    differences = (building.difference(*pair, str(i)) for i, pair in pairs)
    return found + [fault for fault in differences if fault]


# -- arrays and numbers ------------------------------------------------------------------------------------------------


def _put(made: list[Any], arrays: dict[str, np.ndarray]) -> None:
    """Puts a file's arrays into layers that are not built yet, so that building them draws no initial values."""
    for path, layer in named(made):
        found = [leaf for leaf in homes(path, layer, arrays) if leaf.name in arrays]
        set_all((leaf.home, leaf.key, arrays[leaf.name]) for leaf in found)


def _brought(network: Any, layers: Paths, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Parameters, buffers and slots as arrays of the network's backend, cast and copied.

    The attributes of layers written as in the article keep their dtype, unless it is a floating one.
    """
    own = attributes(layers, arrays)
    return {
        name: bring(array, network.backend, network.dtype, name, copy=name not in own or array.dtype.kind == "f")
        for name, array in arrays.items()
        if name.startswith(LEARNED)
    }


def _values(layers: Paths, new: dict[str, Any]) -> list[Binding]:
    """Parameters and buffers."""
    found = [leaf for path, layer in layers for leaf in homes(path, layer, new)]
    return [(leaf.home, leaf.key, new[leaf.name]) for leaf in found if leaf.name in new]


def _training(layers: Paths, new: dict[str, Any], arrays: dict[str, np.ndarray]) -> list[Binding]:
    """The optimizer's slots and the update counts of each layer, in place of those that it has."""
    kinds = sorted({name.split("/")[1] for name in new if name.startswith("slots/")})
    found: list[Binding] = []
    for path, layer in layers:
        start = "parameters/"
        paths = {
            leaf.key: leaf.name.removeprefix(start) for leaf in homes(path, layer, new) if leaf.name.startswith(start)
        }
        slots = {
            kind: {key: new[name] for key, each in paths.items() if (name := f"slots/{kind}/{each}") in new}
            for kind in kinds
        }
        counts = {key: int(arrays[name]) for key, each in paths.items() if (name := f"counts/{each}") in arrays}
        found += [
            (vars(layer), "_slots_by_kind", {kind: home for kind, home in slots.items() if home}),
            # counted on from the next fit: only then is it known whether the layer learns
            (vars(layer), "_update_counts", {key: (count, None) for key, count in counts.items()}),
        ]
        if isinstance(layer, BatchNormLayer):
            updates = counts.get("weights", 0)
            seen = int(arrays.get(f"counts/{path}.running_mean", updates))
            found.append((vars(layer), "batches_before", seen - updates))
    return found


def _numbers(network: Any, contents: Contents) -> list[Binding]:
    """Everything that is no array."""
    about = contents.about
    seeds = [(vars(layer), "seed", about["seed"]) for layer in network.walk() if not layer.updates_itself]
    frozen = [
        (vars(layer), "trainable", entry["trainable"])
        for layer, entry in building.pairs(network.layers, about["layers"])
        if not layer.updates_itself
    ]
    return [
        (network.progress, "step", contents.step),
        (network.progress, "epoch", contents.epoch),
        (network.progress, "position", contents.position),
        (vars(network), "history", History(contents.history)),
        (vars(network), "learning_rate_factor", contents.learning_rate_factor),
        (vars(network), "seed", about["seed"]),
        *seeds,
        *frozen,
    ]
