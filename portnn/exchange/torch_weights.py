"""PyTorch's weights, taken and given, without PyTorch: names, layouts, and the order of values after a Flatten.

    layer               here                    PyTorch
    FCLayer             weights (in, out)       weight (out, in)
                        bias (1, out)           bias (out,)
    ConvLayer           weights (h, w, C/g, F)  weight (F, C/g, h, w); of sequences (k, C/g, F) and (F, C/g, k)
    BatchNormLayer      weights, bias (C,)      weight, bias (C,), with running_mean, running_var, num_batches_tracked
    LayerNormLayer, GroupNormLayer              weight, bias (C,)

A module's name is the layer's path: the index that it has in an ``nn.Sequential`` with a module for each layer.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from portnn import checks
from portnn._typing import Shape
from portnn.arrangement import named
from portnn.backend import get_backend
from portnn.exchange.samples import declared
from portnn.exchange.torch_names import COUNT, pair
from portnn.exchange.torch_order import Orders
from portnn.files import foreign
from portnn.files.errors import FileError
from portnn.files.leaves import own_arrays
from portnn.indivisible import Binding, set_all
from portnn.layers import sequential
from portnn.layers.batch_norm import BatchNormLayer
from portnn.layers.conv import ConvLayer
from portnn.layers.fc import FCLayer
from portnn.layers.normalization import NormLayer
from portnn.layers.parallel import ParallelLayer
from portnn.transfer import bring, elsewhere, host_array, is_foreign, shared, to_numpy

NAMES = {"weights": "weight"}  # PyTorch's name of a parameter, where it is another one


class Entry(NamedTuple):
    """An array of the network: its name and shape in PyTorch, whose it is, and how it is turned, there and back."""

    name: str
    shape: Shape
    layer: Any
    kind: str  # "parameters" or "buffers"
    key: str
    there: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


def load_state_dict(network: Any, weights: Any, *, input_shape: Any = None) -> None:
    """What ``portnn.torch.load_state_dict`` does."""
    _check_network("load_state_dict", network, weights)
    with network.turns.take("load_state_dict"), network.backend.scope():
        network._arrange()
        entries = _entries(network, input_shape)
        with _opened(weights, network) as given:
            shapes = {entry.name: entry.shape for entry in entries}
            counted = {f"{entry.name.rpartition('.')[0]}.{COUNT}": () for entry in entries if _is_mean(entry)}
            pairs = pair(shapes | counted, given.shapes, given.ordered, _branches(network))
            _refuse_kinds(pairs, given.dtypes)
            arrays = given.read(pairs.values())
            found = {name: arrays[other] for name, other in pairs.items()}
            new = _turned(network, entries, found, pairs)
            counts = _counts(network, entries, found, pairs)
        _complete(network, entries)
        bindings: list[Binding] = [(getattr(e.layer, e.kind), e.key, new[e.name]) for e in entries]
        set_all([*bindings, *counts, (vars(network), "_inference", None)])


def state_dict(network: Any, *, input_shape: Any = None) -> dict[str, np.ndarray]:
    """What ``portnn.torch.state_dict`` does."""
    _check_network("state_dict", network, {})
    if network.turns.held_elsewhere() is not None:  # as it was between two steps
        network = copy.deepcopy(network)
    network._arrange()
    found: dict[str, np.ndarray] = {}
    with network.backend.scope():
        entries = _entries(network, input_shape)
        for entry in entries:
            layer, home = entry.layer, getattr(entry.layer, entry.kind)
            if entry.key not in home:
                raise RuntimeError(layer.why_no_parameter(entry.key))
            host = np.asarray(network.backend.to_numpy(home[entry.key]))
            found[entry.name] = np.array(entry.there(host), order="C")
            if entry.key == "running_var":
                seen = np.array(layer.batches_seen(network.step), np.int64)
                found[f"{entry.name.rpartition('.')[0]}.{COUNT}"] = seen
    return found


# -- the network's arrays ----------------------------------------------------------------------------------------------


def _entries(network: Any, input_shape: Any) -> list[Entry]:
    """The network's arrays in PyTorch's order: of each layer its parameters, its buffers, then its children's."""
    layers = list(named(network.layers))
    if own := [f"{path} ({layer})" for path, layer in layers if layer.updates_itself and own_arrays(layer)]:
        raise ValueError(
            f"layer {', '.join(own)} is written as in the article: its arrays have no layout that is known, so PyTorch "
            "has no counterpart. Set its attributes yourself, or use portnn's layers"
        )
    orders = Orders(network.layers, _sample(network, input_shape))
    return [entry for path, layer in layers for entry in _of_layer(path, layer, orders)]


def _branches(network: Any) -> list[str]:
    parallel = [(path, layer) for path, layer in named(network.layers) if isinstance(layer, ParallelLayer)]
    return [f"{path}.{i}" for path, layer in parallel for i in range(len(layer.layers))]


def _sample(network: Any, input_shape: Any) -> Shape | None:
    """The shape of one sample: as given, as last predicted, or as the first layers say; None where nothing tells."""
    if input_shape is not None:
        shape = checks.shape("input_shape", input_shape)
        sequential.shapes(network.layers, shape)  # ValueError if the layers do not take it
        return shape
    if network._checked is not None:
        return tuple(network._checked)
    # One that awaits its first batch takes what the layers after it do.
    said = declared([layer for layer in network.layers if layer.complete or not isinstance(layer, NormLayer)])
    try:
        # What stands after a Flatten or a Reshape says how many values there are, but not in which shape.
        fits = said is not None and sequential.shapes(network.layers, said)[-1] is not None
    except ValueError:
        return None
    return said if fits and not _starts_with_flatten(network.layers) else None


def _starts_with_flatten(layers: Any) -> bool:
    for layer in layers:
        name = type(layer).__name__
        if name == "FlattenLayer" or (name == "SequentialLayer" and _starts_with_flatten(layer.layers)):
            return True
        if name == "ReshapeLayer" or layer.parameters or sequential.own_input_shape(layer) is not None:
            return False
    return False


def _of_layer(path: str, layer: Any, orders: Orders) -> Iterator[Entry]:
    before = orders.shapes.get(id(layer))
    if isinstance(layer, NormLayer) and not layer.complete and not before:
        raise RuntimeError(
            f"layer {path} ({layer}) has no parameters yet: they come with the first batch, which tells its channels. "
            "Give the shape of one sample, input_shape=(H, W, C), or call predict once before"
        )
    shapes = dict(layer.shapes) or layer.parameter_shapes(before)
    if not layer.complete and not shapes:
        raise RuntimeError(layer.why_no_parameter("weights"))
    shapes |= {name: tuple(array.shape) for name, array in layer.parameters.items()}
    for key, shape in shapes.items():
        there, back = _turns(layer, key, shape, orders)
        yield _entry(path, layer, "parameters", key, shape, there, back)
    buffers = {key: tuple(np.shape(array)) for key, array in layer.buffers.items()}
    if isinstance(layer, BatchNormLayer):
        buffers = {"running_mean": shapes["weights"], "running_var": shapes["weights"]}
    for key, shape in buffers.items():
        there, back = _turns(layer, key, shape, orders)
        yield _entry(path, layer, "buffers", key, shape, there, back)


def _entry(path: str, layer: Any, kind: str, key: str, shape: Shape, there: Any, back: Any) -> Entry:
    turned = tuple(there(np.broadcast_to(np.int8(0), shape)).shape)  # takes no memory
    return Entry(f"{path}.{NAMES.get(key, key)}", turned, layer, kind, key, there, back)


def _turns(layer: Any, key: str, shape: Shape, orders: Orders) -> tuple[Any, Any]:
    """The functions that turn an array into PyTorch's layout, and back."""
    if isinstance(layer, FCLayer):
        return _of_fully_connected(key, layer, orders)
    if isinstance(layer, ConvLayer) and key == "weights":
        axes = len(shape)  # (h, w, C, F) <-> (F, C, h, w)
        return lambda W: np.transpose(W, (axes - 1, axes - 2, *range(axes - 2))), lambda W: np.transpose(
            W, (*range(2, axes), 1, 0)
        )
    axis = orders.outputs.get(id(layer))
    if isinstance(layer, NormLayer) and axis is not None and (order := axis.resolved(shape[-1])) is not None:
        inverse = np.argsort(order)
        return lambda v: v[order], lambda v: v[inverse]
    return _same, _same


def _of_fully_connected(key: str, layer: Any, orders: Orders) -> tuple[Any, Any]:
    """W (in, out) <-> (out, in), B (1, out) <-> (out,), with rows and columns in PyTorch's order."""
    rows, columns = (
        slice(None) if axis is None or (order := axis.resolved(n)) is None else order
        for axis, n in (
            (orders.inputs.get(id(layer)), layer.input_size),
            (orders.outputs.get(id(layer)), layer.output_size),
        )
    )
    up, across = (s if isinstance(s, slice) else np.argsort(s) for s in (rows, columns))
    if key == "bias":
        return lambda B: B[0, columns], lambda B: B[across][None]
    return lambda W: W[rows][:, columns].T, lambda W: W.T[up][:, across]


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _is_mean(entry: Entry) -> bool:
    return isinstance(entry.layer, BatchNormLayer) and entry.key == "running_mean"


def _complete(network: Any, entries: Iterable[Entry]) -> None:
    """Builds the normalization layers that await their first batch, whose channels are known by now."""
    for entry in entries:
        layer = entry.layer
        if isinstance(layer, NormLayer) and not layer.complete:
            layer.build(entry.shape, network.backend, network.dtype, network.seed, layer.path)


# -- the given arrays --------------------------------------------------------------------------------------------------


class _Dict:
    """A dict of arrays, of any library, as a source of weights."""

    def __init__(self, weights: Mapping[Any, Any], network: Any):
        self.weights, self.network = weights, network
        self.ordered = True if hasattr(weights, "_metadata") else None  # straight from PyTorch, or perhaps sorted since
        for name, value in weights.items():
            if not isinstance(name, str):
                raise TypeError(f"the names of a state dict are texts, such as '0.weight', got {name!r:.60}")
            if isinstance(value, Mapping):
                raise TypeError(
                    f"{name!r:.60} is a dict itself, as in a checkpoint that holds more than weights: give the dict of "
                    f"arrays, such as checkpoint[{name!r:.60}]"
                )
        self.shapes = {name: _shape(name, value) for name, value in weights.items()}
        self.dtypes = {name: _dtype(value) for name, value in weights.items()}

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        return {name: self._host(name, self.weights[name]) for name in names}

    def _host(self, name: str, value: Any) -> np.ndarray:
        """An array on the host; those of bfloat16, which NumPy does not have, as float32 of the same values."""
        if hasattr(value, "detach"):
            value = value.detach()
        if "bfloat16" in self.dtypes[name]:
            value = value.float() if hasattr(value, "float") else value.astype("float32")
        backend, host = self.network.backend, get_backend("cpu")
        places = (backend, host)
        if is_foreign(value) and not backend.owns(value) and all(shared(value, place) is None for place in places):
            raise elsewhere(value, host, name)
        return host_array(to_numpy(value), name)


def _dtype(value: Any) -> str:
    """The name of an array's dtype, such as ``float32``; numbers in lists are taken as floating ones."""
    dtype = getattr(value, "dtype", None)
    return "float64" if dtype is None else str(getattr(dtype, "name", dtype)).rpartition(".")[2]


def _shape(name: str, value: Any) -> Shape:
    shape = getattr(value, "shape", None)
    if shape is None and isinstance(value, (list, tuple, int, float)):
        shape = to_numpy(value).shape
    if shape is None:
        raise TypeError(f"{name} must be an array, got {type(value).__name__}: {value!r:.40}")
    return tuple(int(n) for n in shape)


class _File:
    """A checked safetensors file as a source of weights: its tensors are sorted, so that their order tells nothing."""

    ordered = False

    def __init__(self, tensors: foreign.Tensors):
        if "portnn" in tensors.header.metadata:
            raise FileError(
                "portnn wrote this file: call net.load_weights(path) for its weights, portnn.load(path) for all of it"
            )
        self.shapes, self.dtypes, self.read = tensors.shapes, tensors.dtypes, tensors.read


@contextmanager
def _opened(weights: Any, network: Any) -> Iterator[Any]:
    """The source of weights; errors about what is in a file name it."""
    if isinstance(weights, Mapping):
        yield _Dict(weights, network)
        return
    if callable(getattr(weights, "state_dict", None)):
        raise TypeError(f"load_state_dict takes a state dict, got a {type(weights).__name__}: give model.state_dict()")
    if not isinstance(weights, (str, bytes)) and not hasattr(weights, "__fspath__"):
        raise TypeError(
            "load_state_dict takes the path of a safetensors file, or a dict of arrays by name, got "
            f"{type(weights).__name__}: {weights!r:.40}"
        )
    with foreign.opened(weights) as tensors:
        try:
            yield _File(tensors)
        except FileError:
            raise
        except ValueError as error:
            raise FileError(str(error)) from error


def _check_network(what: str, network: Any, weights: Any) -> None:
    if hasattr(network, "turns") and hasattr(network, "layers"):
        if not network.layers:
            raise RuntimeError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
        return
    swapped = ": the network comes first" if hasattr(weights, "turns") else ""
    alone = ": put the layer into a network, Network([layer])" if hasattr(network, "output_shape") else ""
    raise TypeError(f"{what} takes a network of portnn, got {type(network).__name__}{swapped or alone}")


# -- turning and checking ----------------------------------------------------------------------------------------------


def _refuse_kinds(pairs: Mapping[str, str], dtypes: Mapping[str, str]) -> None:
    wrong = [
        f"{found} holds {dtypes[found]}, expected floating-point numbers"
        for name, found in pairs.items()
        if "float" not in dtypes[found] and not name.endswith(COUNT)
    ]
    if wrong:
        raise ValueError("\n  ".join(["the arrays do not fit the network, which was left as it is:", *wrong]))


def _turned(network: Any, entries: Iterable[Entry], found: Mapping[str, Any], pairs: Mapping[str, str]) -> dict:
    """The arrays in this library's layouts, as copies on the network's backend, in its dtype."""
    new, wrong, largest = {}, [], float(np.finfo(network.dtype).max)
    for entry in entries:
        host = np.asarray(found[entry.name])
        if host.dtype.itemsize > np.dtype(network.dtype).itemsize and host.size:
            finite = np.abs(host[np.isfinite(host)])
            if finite.size and float(finite.max()) > largest:
                wrong.append(f"{pairs[entry.name]} holds {float(finite.max()):g}, too large for {network.dtype}")
                continue
        new[entry.name] = bring(entry.back(host), network.backend, network.dtype, entry.name, copy=True)
    if wrong:
        raise ValueError("\n  ".join(["the arrays do not fit the network, which was left as it is:", *wrong]))
    return new


def _counts(
    network: Any, entries: Iterable[Entry], found: Mapping[str, Any], pairs: Mapping[str, str]
) -> list[Binding]:
    """How many batches each batch normalization had seen in PyTorch: counted on from there."""
    made: list[Binding] = []
    for entry in entries:
        name = f"{entry.name.rpartition('.')[0]}.{COUNT}"
        if not _is_mean(entry) or name not in found:
            continue
        count = np.asarray(found[name])
        if count.size != 1 or not 0 <= float(count.reshape(())) < 2.0**40 or float(count.reshape(())) % 1:
            raise ValueError(f"{pairs[name]} must be a number of batches, a whole number from 0 on, got {count!s:.40}")
        since = entry.layer.batches_seen(network.step) - entry.layer.batches_before
        made.append((vars(entry.layer), "batches_before", int(count.reshape(())) - since))
    return made
