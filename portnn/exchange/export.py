"""Writing a network for other programs, in the form that the path's ending names."""

import copy
import os
from collections.abc import Callable
from typing import Any

from portnn import checks
from portnn.exchange.page.assemble import page
from portnn.files import durable


def _onnx_model(network: Any) -> bytes:
    from portnn.exchange.onnx_graph.writing import model

    return model(network)


WRITERS: dict[str, tuple[Callable[[Any], str | bytes], str]] = {
    ".html": (page, "a page to try the network in a browser"),
    ".onnx": (_onnx_model, "a model for other programs"),
}


def export(network: Any, path: Any) -> None:
    """What ``Network.export`` does."""
    ending = os.path.splitext(checks.path("path", path))[1]
    if ending.lower() not in WRITERS:
        known = ", ".join(f'"net{end}" ({what})' for end, (_, what) in WRITERS.items())
        save = "; net.save(path) writes a file to load again" if ending in ("", ".safetensors", ".pt", ".pkl") else ""
        raise ValueError(f"export writes what the path's ending says, {known}; got {path!r:.120}{save}")
    write(network, path, WRITERS[ending.lower()][0])


def write(network: Any, path: Any, writer: Callable[[Any], str | bytes]) -> None:
    """Writes what ``writer`` makes of the network to a file; nothing is written where it raises."""
    durable.check(path)
    if network.turns.held_elsewhere() is not None:  # as it was between two steps
        network = copy.deepcopy(network)
    if not network.layers:
        raise RuntimeError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
    network._arrange()
    for layer in network.walk():
        layer.check_leaves()
    with network.backend.scope():
        content = writer(network)
    durable.replace(path, [content.encode() if isinstance(content, str) else content])
