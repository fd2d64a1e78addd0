"""Writing a network for other programs, in the form that the path's ending names."""

import copy
import os
from collections.abc import Callable
from typing import Any

from portnn import checks
from portnn.exchange.page.assemble import page
from portnn.files import durable

WRITERS: dict[str, tuple[Callable[[Any], str], str]] = {".html": (page, "a page to try the network in a browser")}


def export(network: Any, path: Any) -> None:
    """What ``Network.export`` does."""
    ending = os.path.splitext(checks.path("path", path))[1]
    if ending.lower() not in WRITERS:
        known = ", ".join(f'"net{end}" ({what})' for end, (_, what) in WRITERS.items())
        save = "; net.save(path) writes a file to load again" if ending in ("", ".safetensors", ".pt", ".pkl") else ""
        raise ValueError(f"export writes what the path's ending says, {known}; got {path!r:.120}{save}")
    durable.check(path)
    if network.turns.held_elsewhere() is not None:  # as it was between two steps
        network = copy.deepcopy(network)
    if not network.layers:
        raise RuntimeError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
    network._arrange()
    for layer in network.walk():
        layer.check_leaves()
    with network.backend.scope():
        text = WRITERS[ending.lower()][0](network)
    durable.replace(path, [text.encode()])
