"""The layers under test, to be run on the host with any values for their input and parameters."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from portnn.article import Adapter
from portnn.backend import get_backend, tell_missing
from portnn.layers.layer import Layer

Array = np.ndarray
Values = dict[str, Array]
Trail = tuple[tuple[bool, Any], ...]  # the way to a value: (True, key) of a list or dict, (False, attribute)

MOST_ARRAYS = 200  # of one layer
PARAMETER_NAMES = ("weight", "bias", "kernel", "filter", "gamma", "beta", "w", "b")
OF_THE_BASE = {"backend", "xp", "ops", "device_dtype", "gradients", "new_buffers", "buffers", "drawn"}
OF_THE_BASE |= {"input", "output", "_learning_rate", "_shapes", "_slots_by_kind", "_update_counts", "_network_ref"}
NOT_LOOKED_INTO = ("builtins", "numpy", "portnn", "portnn_numpy", "portnn_cupy", "array_api_compat")


def to_host(layers: list[Layer], sample: tuple[int, ...]) -> None:
    """Builds and moves the layers; base attributes that a layer uses for something else are restored afterwards."""
    parts = [part for layer in layers for _, part in below(layer, "")]
    kept = [(part, _lent(part)) for part in parts if part.updates_itself]
    for layer in layers:
        if layer.backend is None:
            layer.build(sample, get_backend("cpu"), "float64", 0, "")
        held = [v for _, part in below(layer, "") for _, _, v in within(part, "", (), set()) if isinstance(v, Layer)]
        for part in [layer, *held]:
            if part.backend is not None:
                part.dtype = "float64"
                part.move(get_backend("cpu"))
    for part, values in kept:
        floating = {n: v for n, v in values.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"}
        _give_back(part, values | {name: value.astype(np.float64) for name, value in floating.items()})


def _give_back(layer: Layer, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(layer, name, value)


def duplicate(layers: list[Layer]) -> list[Layer]:
    """A copy of the layers, made together: what two of them share stays shared."""
    parts = [part for layer in layers for _, part in below(layer, "") if part.updates_itself]
    kept = [(part, _lent(part)) for part in parts]
    copied: tuple[list[Layer], Any] = ([], [])
    try:
        copied = copy.deepcopy((layers, kept))
    finally:
        for part, values in [*kept, *copied[1]]:
            _give_back(part, values)
    return copied[0]


def _lent(layer: Any) -> dict[str, Any]:
    """What a layer keeps under names of the base class in another form; replaces it by the base's values."""
    kinds = {"kernels": str, "parameters": dict, "buffers": dict, "drawn": dict, "dtype": str, "path": str}
    found = {name: getattr(layer, name) for name, kind in kinds.items() if not isinstance(getattr(layer, name), kind)}
    known = isinstance(layer.layers, (list, tuple)) and (not layer.layers or children(layer))
    found |= {} if known else {"layers": layer.layers}
    found |= {} if layer.backend is None or hasattr(layer.backend, "owns") else {"backend": layer.backend}
    found |= {"walk": vars(layer).pop("walk")} if "walk" in vars(layer) else {}
    base = Layer.__new__(Layer)
    for name in found.keys() - {"walk"}:
        setattr(layer, name, getattr(base, name))
    return found


class Subject:
    """Layers run in order on the host, with any values for the input and the parameters.

    The input is called "X". A parameter is found by the path of its layer and a trail from there, since an article's
    layer may hold its arrays in lists, dicts, and helper objects.
    """

    def __init__(self, layers: list[Layer], network: bool = False):
        self.layers, self.network = layers, network
        self.parts = [pair for i, layer in enumerate(layers) for pair in below(layer, str(i) if network else "")]
        self.at = dict(self.parts)
        article = [layer for _, layer in self.parts if layer.updates_itself]
        self.one_by_one = any(not layer.batched for layer in article)
        self.learns_by_steps = bool(article)
        self.alone = len(layers) == 1 and bool(article) and article[0] is layers[0]  # its own methods are called
        self.has_batch_axis = not (self.alone and self.one_by_one)
        self.buffers = {path: dict(layer.buffers) for path, layer in self.parts if isinstance(layer.buffers, dict)}
        self.places: dict[str, tuple[str, Trail]] = {}
        self.inside = [v for layer in article for _, _, v in within(layer, "", (), set()) if isinstance(v, Layer)]
        self.inside = [layer for layer in self.inside if not any(layer is part for part in self.at.values())]

    def copy(self) -> "Subject":
        other = Subject(duplicate(self.layers), self.network)
        other.buffers, other.places = self.buffers, self.places
        return other

    def as_seen(self, X: Array) -> Array:
        """The input as the layer gets it: an article's layer on its own gets one sample, a 1-D one as (1, n)."""
        if self.one_by_one:
            X = X[:1]
        if not self.has_batch_axis:
            X = X[0] if X.ndim > 2 else X.reshape(1, -1)
        return X

    def find_arrays(self, X: Array) -> Values:
        """X and the parameters' values by name; for an article's layer, all arrays that Y depends on."""
        Y = self.forward({"X": X})  # it may create some of them
        values = {"X": X}
        for path, layer in self.parts:
            seen = {id(other) for _, other in self.parts if other is not layer}
            found = [
                (shown, trail) for shown, trail, value in within(layer, "", (), seen) if not isinstance(value, Layer)
            ]
            for shown, trail in found[:MOST_ARRAYS]:
                name = f"{path}.{shown}" if path else shown
                while name in values:  # a parameter may be called X
                    name += " (parameter)"
                self.places[name] = path, trail
                values[name] = self.read(name)
                if layer.updates_itself and not self.moves(name, values, Y):
                    del self.places[name], values[name]  # not a parameter, or kept for backward
        return values

    def moves(self, name: str, values: Values, Y: Array) -> bool:
        try:
            moved = self.forward({**values, name: 1.001 * values[name] + 1e-3})
        except Exception:  # not a real-valued parameter, such as a size
            moved = Y
        self.forward(values)
        return not np.array_equal(moved, Y)

    def read(self, name: str) -> Array:
        path, trail = self.places[name]
        return np.array(follow(self.at[path], trail), dtype=np.float64)

    def write(self, name: str, value: Array) -> None:
        path, trail = self.places[name]
        owner, (item, key) = follow(self.at[path], trail[:-1]), trail[-1]
        array = isinstance(follow(owner, trail[-1:]), np.ndarray)
        new = value.copy() if array else float(value)
        if item:
            owner[key] = new
        else:
            setattr(owner, key, new)

    def forward(self, values: Values) -> Array:
        """Y in training, always at the same step and from the same buffers."""
        for name in self.places:
            self.write(name, values[name])
        for path, layer in self.parts:
            layer.step = 0 if type(layer.step) is int else layer.step
            if path in self.buffers:
                layer.buffers.update({name: np.array(array) for name, array in self.buffers[path].items()})
        for layer in self.inside:
            layer.step = 0
        Y: Any = values["X"].copy()
        for layer in self.layers:
            Y = layer.forward_propagation(Y) if self.alone else _forward(layer, Y)
        if Y is None:
            raise TypeError(f"{self.layers[-1]}: forward returned None: it must return an array (is a return missing?)")
        return np.array(Y)

    def backward(self, D: Array, learning_rate: float = 1.0) -> dict[str, Any]:
        """What backward gives for dE/dX and the parameters' derivatives; for an article's layer, read from its step."""
        before = {name: self.read(name) for name in self.places}
        error: Any = D.copy()
        for _, layer in self.parts:
            layer._learning_rate = learning_rate
        for layer in reversed(self.layers):
            error = layer.backward_propagation(error, learning_rate) if self.alone else _backward(layer, error)
        found: dict[str, Any] = {"X": error}
        for name, (path, trail) in self.places.items():
            steps = self.by_step(name)
            found[name] = before[name] - self.read(name) if steps else self.at[path].gradients.get(trail[-1][1])
        return {name: None if A is None else np.array(A, dtype=np.float64) for name, A in found.items()}

    def learned(self, values: Values, rng: "np.random.Generator") -> list[str]:
        """The learned parameters; of an article's layer those with certain names, and those that backward changes."""
        subject = self.copy()
        Y, changed = subject.forward(values), set()
        try:
            subject.backward(rng.standard_normal(Y.shape))
            changed = {name for name in subject.places if not np.array_equal(subject.read(name), values[name])}
        except Exception:
            pass  # it is raised, and reported, again later
        return [name for name in self.places if name in changed or self.is_parameter(name)]

    def by_step(self, name: str) -> bool:
        """Whether a derivative is read from the step that its layer makes itself."""
        return self.at[self.places[name][0]].updates_itself

    def word(self, name: str) -> str:
        return str(next((key for _, key in self.places[name][1][::-1] if isinstance(key, str)), "")).lower().strip("_")

    def is_parameter(self, name: str) -> bool:
        """Whether an array is certainly a learned parameter; of an article's layer only by its name."""
        word, (path, trail) = self.word(name), self.places[name]
        short = any(word == known or (len(known) > 1 and word.startswith(known)) for known in PARAMETER_NAMES)
        return not self.by_step(name) or (short and isinstance(follow(self.at[path], trail), np.ndarray))


def _forward(layer: Any, X: Any) -> Any:
    """Y in training from ``forward`` itself, without the checks around it: mistakes are diagnosed here, not refused."""
    if layer.updates_itself:
        return Adapter(layer).compute(X, True)
    layer.fit_to(X)
    try:
        Y = layer.forward(X, training=True) if layer._trains else layer.forward(X)
    except AttributeError as error:
        tell_missing(error, layer.xp)
        raise
    layer.input, layer.output = X, Y
    return Y


def _backward(layer: Any, output_error: Any) -> Any:
    if layer.updates_itself:
        return Adapter(layer).compute_backward(output_error, True)
    try:
        return layer.backward(output_error)
    except AttributeError as error:
        tell_missing(error, layer.xp)
        raise


def within(value: Any, shown: str, trail: Trail, seen: set[int]) -> Iterator[tuple[str, Trail, Any]]:
    """The floating arrays and numbers, and the layers, in a layer and its lists, dicts and objects."""
    ours = isinstance(value, Layer) and not value.updates_itself
    if isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
        yield shown, trail, value
    if id(value) in seen or len(trail) > 8:
        return
    seen.add(id(value))
    inner: list[tuple[str, Trail, Any]] = []
    if isinstance(value, Layer):
        yield shown, trail, value
        arrays = value.parameters if isinstance(value.parameters, dict) else {}
        inner += [(f".{key}", ((False, "parameters"), (True, key)), array) for key, array in arrays.items()]
        seen.add(id(value.parameters))
    if isinstance(value, (dict, list)):
        pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
        inner += [(f"[{key!r}]", ((True, key),), v) for key, v in pairs]
    elif is_object(value) and not ours:
        kept = [(key, v) for key, v in vars(value).items() if not (isinstance(value, Layer) and key in OF_THE_BASE)]
        inner += [(f".{key}", ((False, key),), v) for key, v in kept]
    for name, steps, v in inner:
        yield from within(v, (shown + name).removeprefix("."), (*trail, *steps), seen)


def is_object(value: Any) -> bool:
    """Whether a value is a layer, or an object of a plain class; no function, class or module."""
    root = type(value).__module__.partition(".")[0]
    plain = hasattr(value, "__dict__") and not isinstance(value, type) and root not in NOT_LOOKED_INTO
    return isinstance(value, Layer) or plain


def follow(value: Any, trail: Trail) -> Any:
    for item, key in trail:
        value = value[key] if item else getattr(value, key)
    return value


def below(layer: Any, path: str) -> Iterator[tuple[str, Layer]]:
    """The layer and all layers in it, each with its path from here."""
    yield path, layer
    for step, part in children(layer):
        yield from below(part, f"{path}.{step}" if path else step)


def children(layer: Any) -> list[tuple[str, Layer]]:
    """The direct children by path; those in a list of layers as ``"1.0"``."""
    found: list[tuple[str, Any]] = []
    for i, child in enumerate(layer.layers if isinstance(layer.layers, (list, tuple)) else []):
        branch = isinstance(child, (list, tuple))
        found += [(f"{i}.{j}", part) for j, part in enumerate(child)] if branch else [(str(i), child)]
    return [(path, part) for path, part in found if isinstance(part, Layer)]


def scale_of(values: Array) -> float:
    """The spread of the values, within bounds: the scale of a small step."""
    size = float(np.sqrt(np.mean(values**2)))
    spread = float(np.std(values)) or size or 1.0
    return min(max(spread, 1e-3 * min(size or 1.0, 1.0)), 1e4)
