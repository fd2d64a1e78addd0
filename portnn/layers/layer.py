"""The base class of every layer, and the two ways to write one."""

from collections import deque
from collections.abc import Iterator
from operator import setitem
from typing import Any

from portnn import initializers, ops
from portnn.backend import Backend, device_dtype, get_backend, in_order
from portnn.layers import article, checks
from portnn.transfer import backend_of, bring, is_array

Array = Any


class Parameter:
    """``layer.weights`` reads and assigns ``layer.parameters["weights"]``: a copy, moved and cast."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        if layer is None:
            return self
        if self.name not in layer.parameters:
            raise RuntimeError(layer.why_no_parameter(self.name))
        return layer.parameters[self.name]

    def __set__(self, layer: Any, value: Any) -> None:
        layer.assign(self.name, value)


class Trainable:
    """``layer.trainable = False`` freezes a layer, from the next fit on."""

    def __set__(self, layer: Any, value: Any) -> None:  # and no __get__: the value is read from the layer itself
        value = checks.flag("trainable", value)
        if layer.written_as_in_the_article and not value:
            raise ValueError(
                f"{layer} is written as in the article and updates its own weights: portnn cannot freeze it. Leave the "
                "update out of its backward_propagation"
            )
        layer.__dict__["trainable"] = value


class Layer:
    """A layer: it computes Y from X, and dE/dX and the derivatives of its parameters from dE/dY.

    Write ``forward`` and ``backward``, and let the network descend; or write ``forward_propagation`` and
    ``backward_propagation`` as in the article, where a layer sees one sample at a time and updates its own weights.
    Each pair is defined by the other here, so a layer overrides one pair and has both.

    ``parameters``, ``gradients`` and ``buffers`` are dicts of arrays; ``layers`` are the children of a composite layer.
    ``xp`` is the array namespace to write with, ``ops`` the routines it has no word for, ``step`` the number of updates
    made so far, ``path`` the layer's place in the network, such as ``"2"`` or ``"2.0"``. ``trainable = False`` freezes
    the layer and all layers in it from the next ``fit`` on.
    """

    written_as_in_the_article = False
    last_axis_only = False  # True: acts on the last axis, whatever axes stand before it
    batched = False  # True: forward_propagation and backward_propagation take whole batches
    complete = True  # False: parameters are still to be made, at the first data
    _kept: tuple[str, ...] = ("input", "output")  # attributes that only carry something from forward to backward
    trainable = Trainable()

    def __new__(cls, /, *args: Any, **kwargs: Any) -> "Layer":
        # Not in __init__: the article's layers do not call it. Plain attributes: a layer may set any of them.
        layer = super().__new__(cls)
        layer.parameters = {}
        layer.gradients = {}
        layer.buffers = {}
        layer.new_buffers = {}
        layer.shapes = {}
        layer.drawn = {}
        layer.layers = []
        layer.input = None
        layer.output = None
        layer.backend = None
        layer.xp = get_backend("cpu").xp
        layer.ops = None
        layer.device_dtype = None
        layer.dtype = "float32"
        layer.kernels = "auto"
        layer.seed = 0
        layer.path = ""
        layer.step = 0
        layer.learning_rate_now = None
        layer.__dict__["trainable"] = True
        layer._frozen = False
        layer._owner = None
        layer._slots = {}
        layer._counts = {}
        return layer

    parameters: dict[str, Array]
    gradients: dict[str, Array]
    buffers: dict[str, Array]
    new_buffers: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]
    initializer: str  # the name of what draws the weights
    drawn: dict[str, tuple[int, str]]  # seed and path that parameters were drawn for
    layers: list[Any]
    input: Array
    output: Array
    backend: Backend | None
    xp: Any
    ops: Any
    dtype: str
    device_dtype: Any  # ``dtype`` as this backend's arrays carry it
    kernels: str
    seed: int
    path: str
    step: Any
    learning_rate_now: float | None  # what the train step hands to a layer written as in the article
    _frozen: bool  # not trainable, or in a layer that is not, since the last fit began
    _owner: Any  # a weak reference to the network that the layer is part of
    _slots: dict[str, dict[str, Array]]  # what the optimizer remembers: kind -> parameter's name -> array
    _counts: dict[str, tuple[int, int | None]]  # a parameter's updates up to which step of the network; None: for good

    def __init__(self) -> None:
        pass

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.written_as_in_the_article = article.is_written_so(cls, Layer)
        # The other pair may be inherited from further up (one of our layers, say): it no longer counts.
        for name in article.OURS if cls.written_as_in_the_article else article.ARTICLES:
            if name not in cls.__dict__:
                setattr(cls, name, Layer.__dict__[name])

    # -- the two pairs -----------------------------------------------------------------------------------------

    def forward(self, X: Array, *, training: bool = False) -> Array:
        """Returns Y for a batch X (N, ...). In training it also keeps what ``backward`` needs."""
        return article.forward(self, self.accept(X), article.nearest(self, Layer, "forward_propagation"))

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array:
        """Takes dE/dY, sets ``gradients``, returns dE/dX (None if not needed); changes no parameter."""
        return article.backward(self, output_error, article.nearest(self, Layer, "backward_propagation"))

    def forward_propagation(self, input: Array) -> Array:
        """Returns Y for X, as in training, and keeps both as ``layer.input`` and ``layer.output``."""
        if self._owner is None:
            self.freeze()
        X = in_order(self.accept(input))
        Y = article.nearest(self, Layer, "forward")(X, training=True)
        self.input, self.output = X, Y
        return Y

    def backward_propagation(self, output_error: Array, learning_rate: float) -> Array:
        """Returns dE/dX for dE/dY, and makes one step of gradient descent with this layer's parameters."""
        output_error = in_order(output_error) if is_array(output_error) else output_error
        input_error = article.nearest(self, Layer, "backward")(output_error)
        lr = checks.number("learning_rate", learning_rate)
        leaves: list[tuple[dict[str, Any], str, Any]] = []  # all of them are replaced at once, or none
        for layer in self.walk():
            checks.gradients(layer)
            for name, gradient in () if layer._frozen else layer.gradients.items():
                leaves.append((layer.parameters, name, in_order(layer.parameters[name] - lr * gradient)))
            leaves += [(layer.buffers, name, array) for name, array in layer.new_buffers.items()]
            leaves.append((layer.__dict__, "step", layer.step + 1))
        if leaves:
            deque(map(setitem, *zip(*leaves, strict=True)), maxlen=0)
        return input_error

    # -- shapes and building -----------------------------------------------------------------------------------

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """The shape of one sample of Y for one sample of X; None where unknown. ValueError where X does not fit."""
        return None

    def build(self, input_shape: tuple[int, ...] | None, backend: Backend, dtype: str, seed: int, path: str) -> None:
        """Makes the layer ready on a backend: parameters set so far are moved and cast, missing ones drawn.

        Called by ``Network.add``. A layer that overrides it sets its parameters, then calls ``super().build(...)``,
        which also builds the children, under the paths ``path.0``, ``path.1``, ... (``path.1.0`` in a list of layers).
        """
        self.dtype, self.seed = dtype, seed
        self.move(backend)
        self.place(path)
        inside = [None] * len(self.layers) if self.written_as_in_the_article else self.shapes_inside(input_shape)
        for i, j, layer in self.children():
            shapes: Any = inside[i]
            shape = shapes[j] if isinstance(shapes, list) and j is not None else shapes
            layer.build(shape, backend, dtype, seed, layer.path)

    def place(self, path: str) -> None:
        """Takes a place in a network, with all layers below: what is drawn from now on, masks say, is drawn for it."""
        self.path = path
        for i, j, layer in self.children():
            layer.place(".".join(str(part) for part in (path, i, j) if part not in ("", None)))

    def children(self) -> Iterator[tuple[int, int | None, Any]]:
        """The layers right below, each with its place in ``layers`` and, of a list of layers, its place in that."""
        for i, child in enumerate(self.layers):
            if isinstance(child, (list, tuple)):
                yield from ((i, j, layer) for j, layer in enumerate(child))
            else:
                yield i, None, child

    def shapes_inside(self, input_shape: tuple[int, ...] | None) -> list[Any]:
        """For each child the shape of one sample that comes in, for a list of layers a list of them; None: unknown."""
        return [None] * len(self.layers)

    def smallest_batch(self, input_shape: tuple[int, ...] | None) -> int:
        """The fewest samples the layer can be trained with at a time."""
        return 1

    def parameter_shapes(self, input_shape: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter; of one that waits for its first data, as soon as ``input_shape`` tells it."""
        return {name: tuple(array.shape) for name, array in self.parameters.items()}

    def multiply_adds(self, input_shape: tuple[int, ...] | None) -> int:
        """Multiplications with a parameter, each with its addition, that ``forward`` makes for one sample."""
        return 0

    def move(self, backend: Backend) -> None:
        """Puts parameters and buffers on ``backend`` and calculates there from now on."""
        if self.written_as_in_the_article:
            article.move_attributes(self, backend)
        for arrays in (self.parameters, self.buffers, *self._slots.values()):
            for name, array in arrays.items():
                if self.backend is not None and self.backend != backend:
                    array = self.backend.to_numpy(array)
                arrays[name] = bring(array, backend, self.dtype, f"{self.leaf(name)}", copy=True)
        self.gradients, self.new_buffers = {}, {}
        if not self.written_as_in_the_article:
            self.input = self.output = None  # what was kept lies where the layer was
        self.bind(backend)

    def bind(self, backend: Backend) -> None:
        """Looks up what the layer calculates with on ``backend``, where its arrays lie already."""
        self.backend, self.xp, self.device_dtype = backend, backend.xp, device_dtype(backend, self.dtype)
        self.ops = ops.bind(backend, self.kernels if isinstance(self.kernels, str) else "auto")

    def accept(self, X: Array) -> Array:
        """Returns X as an array of the layer's backend and dtype; a layer that stands alone is built to suit X."""
        if self.device_dtype is not None and getattr(X, "dtype", None) == self.device_dtype and X.shape:
            return X if self._owner is not None else in_order(X)  # a network has seen to the order
        if self.backend is None:
            if not is_array(X):
                X = bring(X, get_backend("cpu"), self.dtype, "X")
            backend = backend_of(X)
            if X.dtype == backend.xp.float64:
                self.dtype = "float64"
            self.build(tuple(X.shape[1:] or X.shape) or None, backend, self.dtype, self.seed, self.path)
        assert self.backend is not None
        X = self.xp.astype(bring(X, self.backend, self.dtype, "X"), self.device_dtype, copy=False)
        if X.ndim == 0:
            raise ValueError(f"{self} takes an array with one axis at least, got the single number {X}")
        return in_order(X)

    # -- parameters --------------------------------------------------------------------------------------------

    def assign(self, name: str, value: Any) -> None:
        """Sets a parameter: ``value`` must have its shape; host data is moved and cast, and always copied, in C order.

        RuntimeError while another thread trains the network: its step would overwrite the values unseen.
        """
        if self._owner is not None and (network := self._owner()) is not None:
            network.refuse_beside_fit(f"assigning {self.path}.{name}")
        shape = (
            tuple(getattr(value, "shape", ()))
            if is_array(value)
            else tuple(bring(value, get_backend("cpu"), None, name).shape)
        )
        if self.shapes and name not in self.shapes:
            raise ValueError(f"{self} has no {name}, it has {', '.join(self.shapes)}: make it without {name}=False")
        expected = self.shapes.get(name, shape)
        if shape != expected:
            raise ValueError(f"{self.leaf(name)} has shape {expected}, got an array of shape {shape}")
        if self.backend is None and is_array(value):
            value = bring(value, backend_of(value), self.dtype, name, copy=True)
        elif self.backend is None:
            value = bring(value, get_backend("cpu"), None, name, copy=True)
        else:
            value = bring(value, self.backend, self.dtype, self.leaf(name), copy=True)
        self.parameters[name] = value

    def draw_missing(self, fans: tuple[int, int], seed: int, path: str) -> None:
        """Draws ``weights`` by ``self.initializer`` and sets every other parameter to zero.

        What was assigned, or trained, is kept; what was only drawn, for another seed or path, is drawn again.
        """
        for name, shape in self.shapes.items():
            rule, place = self.initializer if name == "weights" else "zeros", (seed, f"{path}.{name}" if path else name)
            if name in self.parameters and (self.drawn.get(name) in (None, place) or self._changed(name, rule, fans)):
                continue
            self.parameters[name] = initializers.draw(rule, shape, fans, *place)
            self.drawn[name] = place

    def _changed(self, name: str, rule: str, fans: tuple[int, int]) -> bool:
        """Whether a parameter that was drawn has other values by now: assigned, trained, or written into."""
        now = self.parameters[name] if self.backend is None else self.backend.to_numpy(self.parameters[name])
        drawn = initializers.draw(rule, self.shapes[name], fans, *self.drawn[name])
        return bool((drawn.astype(now.dtype) != now).any())

    def why_no_parameter(self, name: str) -> str:
        """The error for a parameter that is not there."""
        if self.backend is None:
            return (
                f"{self.leaf(name)} does not exist yet: initial values are drawn when the layer is added to a network "
                f"(net.add(layer)); or assign your own: layer.{name} = array"
            )
        return f"{self} has no {name}; it has {', '.join(self.parameters) or 'no parameters'}"

    def accept_error(self, output_error: Array) -> Array:
        """Returns dE/dY as an array of the layer's backend and dtype; it must have the shape of Y.

        RuntimeError if there was no forward in training before it.
        """
        Y = self.output
        if type(output_error) is type(Y) and output_error.dtype == Y.dtype and output_error.shape == Y.shape:
            return output_error if self._owner is not None else in_order(output_error)
        if Y is None or self.backend is None:
            raise RuntimeError(
                f"backward of {self} was called before a forward in training: call forward(X, training=True) first"
            )
        D = bring(output_error, self.backend, self.dtype, "output_error")
        D = self.xp.astype(D, self.device_dtype, copy=False)
        if D.shape != Y.shape:
            raise ValueError(f"output_error of {self} has shape {tuple(D.shape)}, but Y has {tuple(Y.shape)}")
        return in_order(D)

    def check_leaves(self) -> None:
        """Refuses parameters and buffers that no step could have made: loops that are compiled trust their shapes."""
        if self.written_as_in_the_article or self.backend is None:
            return
        for kind, home, shapes in (("parameters", self.parameters, self.shapes), ("buffers", self.buffers, {})):
            for name, array in home.items():
                expected = shapes.get(name)
                if getattr(array, "dtype", None) != self.device_dtype or not self.backend.owns(array):
                    given = f"{type(array).__name__} of dtype {getattr(array, 'dtype', '?')}"
                    raise TypeError(
                        f"{self.leaf(name)} is a {given}, but the layer calculates with {self.dtype} arrays of backend "
                        f"{self.backend.name!r}: it was put into layer.{kind}; {self._how_to_assign(kind, name)}"
                    )
                if expected is not None and array.shape != expected:
                    raise ValueError(
                        f"{self.leaf(name)} has shape {tuple(array.shape)}, expected {expected}: it was put into "
                        f"layer.{kind}; {self._how_to_assign(kind, name)}"
                    )
        for name in self.shapes if self.complete else ():
            if name not in self.parameters:
                raise ValueError(f"{self} has lost its {name}: layer.parameters must hold {', '.join(self.shapes)}")

    def _how_to_assign(self, kind: str, name: str) -> str:
        return f"call layer.assign({name!r}, array), which checks and casts it" if kind == "parameters" else "cast it"

    def leaf(self, name: str) -> str:
        """What errors call a parameter: ``FCLayer(2, 3).weights``."""
        return f"{self}.{name}"

    # -- what a network keeps of a layer's training ------------------------------------------------------------------

    def freeze(self, above: bool = False) -> None:
        """Lets ``trainable`` take effect, here and below; ``above``: a layer that holds this one is frozen."""
        self._frozen = above or not self.trainable
        for _, _, layer in self.children():
            layer.freeze(self._frozen)

    def updates(self, name: str, step: int) -> int:
        """How many updates a parameter has had when the network has made ``step``."""
        count, since = self._counts.get(name, (0, step))
        return count if since is None else count + step - since

    def count_updates(self, step: int, learns: bool) -> None:
        """From ``step`` on each of the network's steps counts as an update of this layer's parameters, or none."""
        for name in self.parameters:
            self._counts[name] = (self.updates(name, step), step if learns else None)

    def assign_slot(self, kind: str, name: str, value: Any) -> None:
        """Sets what the optimizer remembers of a parameter: an array of the same shape, copied."""
        assert self.backend is not None
        old = self._slots[kind][name]
        new = bring(value, self.backend, self.dtype, f"{kind} of {self.path}.{name}", copy=True)
        if new.shape != old.shape:
            raise ValueError(
                f"{kind} of {self.path}.{name} has shape {tuple(old.shape)}, got an array of shape {tuple(new.shape)}"
            )
        self._slots[kind][name] = new

    def walk(self) -> Iterator["Layer"]:
        """This layer and all layers below it; a list of layers counts as one child."""
        yield self
        for child in self.layers:
            for layer in child if isinstance(child, (list, tuple)) else [child]:
                yield from layer.walk()

    # -- copying and showing -------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """All but what belongs to a backend, or to the pass that was made last: a batch is none of a layer's state."""
        if self._owner is not None and (network := self._owner()) is not None:
            network.refuse_beside_fit("copying a layer", "copy the whole network, copy.deepcopy(network)")
        state = {name: value for name, value in self.__dict__.items() if name not in ("xp", "ops", "device_dtype")}
        passing: dict[str, Any] = dict.fromkeys(name for name in self._kept if name in state)
        if not self.written_as_in_the_article:
            passing |= {"gradients": {}, "new_buffers": {}}
        return state | passing | {"_owner": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.backend is not None:
            for arrays in (self.parameters, self.buffers, *self._slots.values()):
                arrays.update({name: in_order(array) for name, array in arrays.items()})
            self.bind(self.backend)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
