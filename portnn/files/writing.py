"""Writing a network, with everything that its training depends on, to a file."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from portnn.arrangement import named
from portnn.files import building, describing, digest, durable, text
from portnn.files.environment import environment
from portnn.files.header import DTYPES
from portnn.files.leaves import Leaf, leaves, slots
from portnn.files.reading import FORMAT
from portnn.files.values import encoded, state, thing
from portnn.layers.batch_norm import BatchNormLayer
from portnn.transfer import to_numpy
from portnn.version import __version__

KINDS = {name for name, _ in DTYPES.values()}


def write(
    network: Any,
    path: Any,
    *,
    stop_training: bool = False,
    callbacks: Iterable[tuple[str, Any]] = (),
    counters: Mapping[str, Any] | None = None,
    optimizer: Any = None,
) -> None:
    """Writes a network to the file at ``path``: all of it, or, after an error, nothing.

    ``counters`` are the arrays that sum up the current epoch so far, ``callbacks`` pairs of class name and state (JSON
    values and arrays), ``stop_training`` whether the run was told to stop, ``optimizer`` the
    one of a fit that was given a learning rate. TypeError for what no file can hold, OSError
    where writing fails: the old file is then as it was.
    """
    if network.turns.held_elsewhere() is not None:  # as it was between two steps
        network = copy.deepcopy(network)
    network.note_kept()
    network._arrange()
    described = describing.network(network)
    building.check_costs(described["layers"])
    with network.backend.scope():
        tensors = dict(_tensors(network))
        for name, array in (counters or {}).items():
            tensors[f"counters/{name}"] = to_numpy(array)
        states = [_callback(i, each, tensors) for i, each in enumerate(callbacks)]
        about = {
            **_numbers(network, described),
            "position": network.progress["position"],
            "stop_training": stop_training,
            "callbacks": states,
            "environment": environment(network),
        }
    if optimizer is not None and network.optimizer is None:
        about["fit_optimizer"] = thing(optimizer, "the optimizer", {})
    durable.replace(path, _parts({name: _plain(name, array) for name, array in tensors.items()}, text.written(about)))


def check(network: Any) -> None:
    """TypeError for a network that no file can hold: known before it trains for hours."""
    network.note_kept()
    building.check_costs(describing.network(network)["layers"])
    _leaves(list(named(network.layers)))


def _numbers(network: Any, described: dict[str, Any]) -> dict[str, Any]:
    """The metadata that the network itself tells."""
    history = {
        name: [encoded(float(value), "a value of net.history", {}) for value in values]
        for name, values in network.history.items()
    }
    return {
        "format": FORMAT,
        "version": __version__,
        **described,
        "step": network.step,
        "epoch": network.epoch,
        "history": history,
        "learning_rate_factor": float(getattr(network, "learning_rate_factor", 1.0)),
    }


def _tensors(network: Any) -> Iterator[tuple[str, Any]]:
    """Every array of the network by its name in the file, on the host."""
    layers, to_host = list(named(network.layers)), network.backend.to_numpy
    for leaf in _leaves(layers):
        yield leaf.name, to_host(leaf.home[leaf.key])
    for path, layer in layers:
        for name in layer._update_counts:
            yield f"counts/{path}.{name}", np.asarray(layer._updates(name, network.step), np.int64)
        if isinstance(layer, BatchNormLayer) and layer.batches_before:
            yield f"counts/{path}.running_mean", np.asarray(layer.batches_seen(network.step), np.int64)


def _leaves(layers: list[tuple[str, Any]]) -> list[Leaf]:
    found: dict[str, Leaf] = {}
    for leaf in (*leaves(layers), *slots(layers)):
        if leaf.name in found:
            raise TypeError(f"two arrays of the network would be called {leaf.name}: rename one of them")
        found[leaf.name] = leaf
    return list(found.values())


def _callback(i: int, each: tuple[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    name, remembered = each
    arrays: dict[str, Any] = {}
    try:
        described = state(remembered, "", arrays)
    except RecursionError:
        raise TypeError(f"the state of callback {i} ({name}) holds itself, or too many levels of values") from None
    tensors.update({f"callbacks/{i}/{place}": array for place, array in arrays.items()})
    return {"class": name, "state": described}


def _plain(name: str, array: Any) -> np.ndarray:
    """A C-contiguous array of a dtype that a file can hold."""
    array = np.asarray(array, order="C")
    if array.dtype.name not in KINDS:
        raise TypeError(f"{name} has dtype {array.dtype}, but a file holds {', '.join(sorted(KINDS))} only")
    return array


def _parts(tensors: dict[str, np.ndarray], about: str) -> list[bytes | memoryview]:
    """The file's bytes, in three parts: what precedes the digest, the digest, the rest."""
    from safetensors.numpy import save

    data = save(tensors, metadata={"portnn": about, "sha256": digest.ZEROS})
    head, rest = data[: 8 + int.from_bytes(data[:8], "little")], memoryview(data)
    if fault := text.too_much(bytes(head[8:])):
        raise ValueError(f"a file cannot hold this: with its {len(tensors):,} arrays, the header {fault}")
    at = digest.place(head)
    assert at is not None, "the header holds the digest's place once"
    found = digest.of(head, at, [rest[len(head) :]])
    return [rest[:at], found.encode(), rest[at + digest.DIGITS :]]
