"""What the functions of ``portnn.plot`` are given, checked and brought to the host."""

import copy
from types import ModuleType
from typing import Any

import numpy as np

from portnn import checks, names
from portnn.arrangement import named
from portnn.confusion import class_numbers
from portnn.layers.layer import Layer
from portnn.transfer import host_array, is_array, to_numpy


def drawing() -> ModuleType:
    """The module that draws; an error that says what to do where matplotlib is missing, or refuses to be imported."""
    try:
        from portnn.show.plots import canvas
    except ImportError as error:
        raise ImportError(f"pictures need matplotlib ({error}): python -m pip install matplotlib") from error
    except ValueError as error:
        raise ValueError(
            f"matplotlib cannot be imported ({error}): if the environment variable MPLBACKEND names no backend of it, "
            "remove the variable; these pictures need none"
        ) from error
    return canvas


def on_host(values: Any, what: str) -> np.ndarray:
    """Arrays of any backend, and lists, as a NumPy array of real numbers."""
    return host_array(to_numpy(values) if is_array(values) else values, what)


def classes(values: Any, what: str) -> np.ndarray:
    """Class numbers (N,), or rows with a column for each class, as class numbers (N,); a single one is (1,)."""
    numbers = on_host(values, what)
    return class_numbers(numbers.reshape(-1) if numbers.ndim == 0 else numbers, what)


def network(value: Any, caller: str) -> Any:
    """A network; TypeError for anything else."""
    if isinstance(value, type) or not hasattr(value, "predict_classes") or not hasattr(value, "bound_loss"):
        raise TypeError(f"plot.{caller} takes a Network, got {value!r:.60}")
    if not value.layers:
        raise ValueError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
    return value


def layer_itself(value: Any, caller: str) -> Layer:
    """A layer; TypeError for anything else."""
    if isinstance(value, Layer):
        return value
    layers = getattr(value, "layers", None)
    hint = f": write net.layers[0], one of its {len(layers)} layers" if isinstance(layers, list) and layers else ""
    if isinstance(value, type):
        hint = f": write {value.__name__}(...), or a network's layer, net.layers[0]"
    raise TypeError(f"plot.{caller} takes a layer, got {value!r:.60}{hint}")


def short(layer: Layer, most: int = 60) -> str:
    """A layer as it shows itself, abbreviated."""
    text = " ".join(str(layer).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def layer_of(net: Any, layer: Any) -> tuple[str, Layer]:
    """Path and layer; it is given itself, by its path ("2", "2.0") or by its place in ``net.layers``."""
    known: dict[str, Any] = dict(named(net.layers))
    if isinstance(layer, Layer):
        for path, part in known.items():
            if part is layer:
                return path, layer
        raise ValueError(f"{layer} is no layer of this network: its layers have the paths {', '.join(known)}")
    if isinstance(layer, str):
        if layer in known:
            return layer, known[layer]
        raise ValueError(
            f"there is no layer {layer!r:.60}{names.meant('layer', layer, known)}: the paths are {', '.join(known)}"
        )
    place = checks.whole("layer", layer)
    if not -len(net.layers) <= place < len(net.layers):
        raise ValueError(f"layer={checks.shown(place)}, but the network has layers 0 to {len(net.layers) - 1}")
    place %= len(net.layers)
    return str(place), net.layers[place]


def outputs_of(net: Any, path: str, x: Any) -> np.ndarray:
    """What a layer of the network returns when the network predicts ``x``; one row for each sample.

    A copy of the network runs, without fusion, so that every layer is called by itself.
    """
    twin = copy.deepcopy(net)
    twin._settle(kernels="portable", _inference=None)
    target = dict(named(twin.layers))[path]
    seen: list[np.ndarray] = []
    method = "forward_propagation" if target.updates_itself else "compute"
    run = getattr(target, method)

    def watched(*given: Any, **options: Any) -> Any:
        Y = run(*given, **options)
        seen.append(np.array(to_numpy(Y)))
        return Y

    vars(target)[method] = watched
    twin.predict(x)
    if not seen:
        raise RuntimeError(f"layer {path}, {target}, was not called by the layer that holds it")
    if target.updates_itself and not target.batched:  # it was called for each sample
        return np.stack(seen)
    return np.concatenate(seen)
