"""The modules that the article's scripts import, for ``portnn run``: ours, under the names of the article's files.

Within ``served(folder)`` a script imports ``network``, ``fc_layer`` and the others as if they lay beside it; a file of
that name in its folder takes precedence. Of Keras those parts are there that the article's scripts use, unless Keras is
installed. ``defaults`` and ``original_weights`` change what an unchanged script gets: the backend, the dtype and the
seed of its networks, and the initial weights.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from portnn import activations, losses
from portnn.article_modules import order
from portnn.datasets import load_mnist, to_categorical
from portnn.layers import ActivationLayer, ConvLayer, FCLayer, FlattenLayer, Layer
from portnn.network import Network

Names = dict[str, Any]  # what a module holds
METHODS = ("forward_propagation", "backward_propagation")


def _functions(module: ModuleType, *more: str) -> Names:
    """The functions that users of a module know, each with its derivative, and what ``more`` names."""
    pairs = [function for pair in module.PAIRS.values() for function in pair]
    return {function.__name__: function for function in pairs} | {name: getattr(module, name) for name in more}


# The files of the article's repository.
ARTICLE: dict[str, Names] = {
    "network": {"Network": Network},
    "layer": {"Layer": Layer},
    "fc_layer": {"FCLayer": FCLayer},
    "activation_layer": {"ActivationLayer": ActivationLayer},
    "conv_layer": {"ConvLayer": ConvLayer},
    "flatten_layer": {"FlattenLayer": FlattenLayer},
    "activations": _functions(activations, "softmax", "log_softmax"),
    "losses": _functions(losses, "Huber", "SoftmaxCrossEntropy"),
}


# What stands for ours where the article's rounding is wanted.
IN_ORDER: dict[str, Names] = {
    "conv_layer": {"ConvLayer": order.ConvLayer},
    "losses": ARTICLE["losses"] | {"mse": order.mse, "mse_prime": order.mse_prime},
}


def modules_beside(own: set[str], in_order: bool) -> dict[str, Names]:
    """The modules to serve to a script whose folder has those of ``own``: they have to work together."""
    modules = ARTICLE | IN_ORDER if in_order else dict(ARTICLE)
    if "network" in own:  # which gives layers one sample at a time, without a batch axis
        for name, held in list(modules.items()):
            modules[name] = {key: _for_one_sample(value) if _is_layer(value) else value for key, value in held.items()}
    elif "layer" in own:  # the layers that lie there are none of ours
        modules["network"] = {"Network": NetworkOfOthers}
    return modules


def _is_layer(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Layer) and value is not Layer


def _for_one_sample(cls: type[Any]) -> type[Any]:
    """One of our layers for a network as in the article: its two methods take one sample, in float64 if that is asked.

    Of a row (n,) they make (1, n), as the article's layers do.
    """

    def forward_propagation(self: Any, input: Any) -> Any:
        given = inspect.unwrap(Network.__init__).__kwdefaults__
        self.dtype, self.kernels = given["dtype"], given["kernels"]
        Y = cls.forward_propagation(self, np.asarray(input)[None])[0]
        self._shape_of_output = Y.shape
        return Y.reshape(1, -1) if Y.ndim == 1 else Y

    def backward_propagation(self: Any, output_error: Any, learning_rate: float | None = None) -> Any:
        D = np.asarray(output_error).reshape(1, *self._shape_of_output)
        return cls.backward_propagation(self, D, learning_rate)[0]

    methods = dict(zip(METHODS, (forward_propagation, backward_propagation), strict=True))
    made = type(cls.__name__, (cls,), {**methods, "__doc__": cls.__doc__, "__module__": cls.__module__})
    made.updates_itself = False  # type: ignore[attr-defined]
    return made


class Other(Layer):
    """A layer of a class that is none of ours but has the article's two methods."""

    def __init__(self, other: Any):
        self.other = other

    def forward_propagation(self, input: Any) -> Any:
        return self.other.forward_propagation(input)

    def backward_propagation(self, output_error: Any, learning_rate: Any) -> Any:  # type: ignore[override]
        return self.other.backward_propagation(output_error, learning_rate)


class NetworkOfOthers(Network):
    """A network that takes such layers too."""

    def add(self, layer: Any) -> None:
        others = not isinstance(layer, Layer) and all(callable(getattr(layer, name, None)) for name in METHODS)
        super().add(Other(layer) if others else layer)


def keras_modules(full: bool) -> dict[str, Names]:
    """The parts of Keras that the article's scripts use. ``full`` downloads all of MNIST instead of the sample."""

    def load_data(path: str = "mnist.npz") -> Any:
        """Returns ``(x_train, y_train), (x_test, y_test)``; ``path``, the place of Keras' own copy, is not used."""
        return load_mnist(full=full)

    def one_hot(x: Any, num_classes: int | None = None, dtype: str = "float32") -> np.ndarray:
        """Class numbers of any shape (...), or (..., 1), as one-hot rows (..., classes), as Keras makes them."""
        labels = np.asarray(x)
        shape = labels.shape[:-1] if labels.ndim > 1 and labels.shape[-1] == 1 else labels.shape
        rows = to_categorical(labels.reshape(-1), num_classes)
        return rows.reshape(*shape, rows.shape[-1]).astype(dtype, copy=False)

    one_hot.__name__ = one_hot.__qualname__ = "to_categorical"
    mnist = {"load_data": load_data}
    return {
        "keras": {},
        "keras.datasets": {},
        "keras.datasets.mnist": mnist,
        "keras.utils": {"to_categorical": one_hot},
        "keras.utils.np_utils": {"to_categorical": one_hot},
    }


def find_in(folder: str, name: str) -> ModuleSpec | None:
    """A module of that name in a folder; no subfolder without __init__.py, which may hold anything."""
    found = PathFinder.find_spec(name, [folder])
    return None if found is None or found.origin is None else found


class Finder(MetaPathFinder, Loader):
    """Finds the modules of a table; one that has modules below it is a package, which imports them too."""

    def __init__(self, modules: Mapping[str, Names], folder: str | None = None):
        """Files in ``folder`` take precedence over the table."""
        self.modules, self.folder = modules, folder

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in self.modules:
            return None
        own = None if self.folder is None else find_in(self.folder, fullname)
        return own or spec_from_loader(fullname, self, origin="portnn", is_package=bool(self.below(fullname)))

    def below(self, name: str) -> list[str]:
        return [other for other in self.modules if other.rpartition(".")[0] == name]

    def create_module(self, spec: ModuleSpec) -> None:
        """Python makes the module."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(self.modules[module.__name__])
        module.__doc__ = f"portnn's own, served as {module.__name__} to a script like the article's."
        for name in self.below(module.__name__):
            importlib.import_module(name)


@contextmanager
def served(folder: str, *, full: bool = False, in_order: bool = False) -> Iterator[None]:
    """A context in which a script in ``folder`` can import the article's modules, and what it uses of Keras.

    With ``in_order`` they round as the article's code does: see ``order.py``; networks have to be ``portable`` then.
    Afterwards all modules that were served, or imported from that folder, are forgotten.
    """
    before = dict(sys.modules)
    for name in ARTICLE:
        sys.modules.pop(name, None)
    # In front: an installed package that happens to be called "losses" must not hide ours. At the end: Keras, where it
    # is installed, comes first, and only what it lacks is served; releases since 3.0 have no keras.utils.np_utils.
    importlib.invalidate_caches()  # the folder may have been written a moment ago
    own = {name for name in ARTICLE if find_in(folder, name)}
    front, back = Finder(modules_beside(own, in_order), folder), Finder(keras_modules(full))
    sys.meta_path.insert(0, front)
    sys.meta_path.append(back)
    try:
        yield
    finally:
        sys.meta_path.remove(front)
        sys.meta_path.remove(back)
        for name, module in list(sys.modules.items()):
            if name in ARTICLE or (before.get(name) is not module and _is_of(name, module, folder, (front, back))):
                del sys.modules[name]
        sys.modules.update({name: before[name] for name in ARTICLE if name in before})


def _is_of(name: str, module: ModuleType, folder: str, finders: tuple[Finder, ...]) -> bool:
    """Whether a module was served, or is a file or package right in the folder, or lies in such a package."""
    if getattr(getattr(module, "__spec__", None), "loader", None) in finders:
        return True
    top = sys.modules.get(name.partition(".")[0], module)
    file = getattr(top, "__file__", None)
    if file is None:
        return False
    place = Path(file).parent
    return folder in (str(place), str(place.parent) if Path(file).stem == "__init__" else None)


@contextmanager
def defaults(**given: Any) -> Iterator[None]:
    """A context in which ``Network`` has other default arguments: ``defaults(backend="gpu", dtype="float64")``."""
    init: Any = inspect.unwrap(Network.__init__)
    before = init.__kwdefaults__
    init.__kwdefaults__ = before | given
    try:
        yield
    finally:
        init.__kwdefaults__ = before


@contextmanager
def original_weights(seed: int | None) -> Iterator[None]:
    """A context in which layers draw their weights as the article's do, when they are made.

        W = np.random.rand(*shape) - 0.5,   then B likewise

    ``np.random.seed(seed)`` comes first, so that numbers which the script draws itself are the same too.
    """
    np.random.seed(seed)  # noqa: NPY002 (the article's generator)
    with ExitStack() as stack:
        for cls in (FCLayer, ConvLayer):
            stack.callback(partial(setattr, cls, "__init__", cls.__init__))
            cls.__init__ = _drawing(cls.__init__)  # type: ignore[method-assign]
        yield


def _drawing(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def drawn(layer: Any, *args: Any, **kwargs: Any) -> None:
        init(layer, *args, **kwargs)
        for name, shape in layer.shapes.items():  # weights, then bias
            layer.parameters[name] = np.random.rand(*shape) - 0.5  # noqa: NPY002

    return drawn
