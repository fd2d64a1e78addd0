"""Writing a network for other programs, in the form that the path's ending names."""

import copy
import errno
import os
from collections.abc import Callable, Mapping
from typing import Any

from portnn import checks
from portnn.exchange.c.write import files as c_files
from portnn.exchange.numpy_file.write import source as numpy_file
from portnn.exchange.page.assemble import page
from portnn.files import durable

OURS = b"ritten by portnn "  # in the first lines of a file that may be written over though nobody named it

Files = Mapping[str, str | bytes]


def _onnx_model(network: Any, name: str) -> Files:
    from portnn.exchange.onnx_graph.writing import model

    return {name: model(network)}


# For each ending a function of a network and the file's name, and what it writes: the contents of files by their names.
WRITERS: dict[str, tuple[Callable[[Any, str], Files], str]] = {
    ".html": (lambda network, name: {name: page(network)}, "a page to try the network in a browser"),
    ".onnx": (_onnx_model, "a model for other programs"),
    ".py": (lambda network, name: {name: numpy_file(network)}, "a Python file that needs NumPy alone"),
    ".c": (c_files, "a C99 file that needs no library, with a test program beside it"),
}


def export(network: Any, path: Any) -> None:
    """What ``Network.export`` does."""
    ending = os.path.splitext(checks.path("path", path))[1].lower()
    if ending not in WRITERS:
        known = ", ".join(f'"net{end}" ({what})' for end, (_, what) in WRITERS.items())
        save = "; net.save(path) writes a file to load again" if ending in ("", ".safetensors", ".pt", ".pkl") else ""
        raise ValueError(f"export writes what the path's ending says, {known}; got {path!r:.120}{save}")
    write(network, path, WRITERS[ending][0])


def write(network: Any, path: Any, writer: Callable[[Any, str], Files]) -> None:
    """Writes the files that ``writer`` makes of the network and the path's last part; none where it raises."""
    folder, name = os.path.split(path)
    durable.check(path)
    given = network
    if network.turns.held_elsewhere() is not None:  # as it was between two steps
        network = copy.deepcopy(network)
    if not network.layers:
        raise RuntimeError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
    network._arrange()
    if network is not given:  # a copy does not know what shape samples had
        network._checked = given._checked
    for layer in network.walk():
        layer.check_leaves()
    with network.backend.scope():
        files = {os.path.join(folder, each): content for each, content in writer(network, name).items()}
    for beside in files:
        if beside != os.path.join(folder, name):
            _check_beside(beside, name)
    for each, content in files.items():
        durable.replace(each, [content.encode() if isinstance(content, str) else content])


def _check_beside(path: str, name: str) -> None:
    """An error where a file that export would write beside the one that was asked for is somebody else's."""
    durable.check(path)
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        if OURS not in file.read(1000):
            raise FileExistsError(
                errno.EEXIST, f"export writes this file beside {name}, and portnn has not written it: move it", path
            )
