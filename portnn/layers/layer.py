"""The base class of every layer, and the two ways to write one."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from threading import get_ident
from typing import Any

from portnn import article, checks, habits, initializers, ops
from portnn._typing import Array
from portnn.article import CALLED, WRITTEN
from portnn.backend import Backend, device_dtype, get_backend, in_order, tell_missing
from portnn.indivisible import Binding, set_all
from portnn.layers.attributes import OfNetwork, Trainable, declared
from portnn.layers.kept import Kept
from portnn.ops import is_ours
from portnn.transfer import bring, home_of, is_array


class Layer:
    """A layer: it computes Y from X, and dE/dX and the derivatives of its parameters from dE/dY.

    An author writes ``forward(self, X)``, which returns Y, and ``backward(self, output_error)``, which sets
    ``gradients`` and returns dE/dX; in ``backward`` ``self.input`` is X and ``self.output`` is Y (after ``fit`` one of
    them is None where an activation was computed together with the layer before it). A ``forward`` that differs in
    training, or keeps more than these two, takes the keyword ``training``, and writes to ``self`` only if that is true;
    a ``backward`` that can skip dE/dX takes the keyword ``need_input_error``.

    Callers use ``layer(X)`` to predict and, to train, ``layer.forward_propagation(X)`` and
    ``layer.backward_propagation(output_error)``: these convert, check, and call what the author wrote. A layer may also
    override those two, as in the article: then it sees one sample at a time and updates its own weights.

    ``parameters``, ``gradients`` and ``buffers`` are dicts of arrays; ``forward`` puts new values of buffers into
    ``new_buffers``. ``layers`` are the children of a composite layer. ``xp`` is the array namespace to use, ``ops`` the
    routines that the array API standard does not have, ``step`` the number of updates made so far, ``path`` the layer's
    place in the network, such as ``"2"`` or ``"2.0"``. ``trainable = False`` freezes the layer and all layers in it
    from the next ``fit`` on.
    """

    last_axis_only = False  # True: acts on the last axis, whatever axes precede it
    updates_itself = False  # True: written as in the article, so it updates its own parameters
    batched = False  # True: a layer that updates itself takes whole batches
    complete = True  # False: parameters are still to be created, on the first batch
    _for_backward: tuple[str, ...] = ("input", "output")  # attributes that forward keeps for backward only
    _own = True  # False: written by a user; its results are checked
    _trains = _spares = False  # whether ``forward`` takes ``training``, and ``backward`` ``need_input_error``
    trainable = Trainable()
    dtype: Any = OfNetwork()
    seed: Any = OfNetwork()
    kernels: Any = OfNetwork()

    def __new__(cls, /, *args: Any, **kwargs: Any) -> "Layer":
        habits.check_making(cls, args, kwargs)
        # Not in __init__: the article's layers do not call it. Plain attributes: a layer may set any of them.
        layer = super().__new__(cls)
        layer._network_ref = None
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
        layer.ops = None  # type: ignore[assignment]  # until it is bound to a backend
        layer.device_dtype = None
        layer.dtype = "float32"
        layer.kernels = "auto"
        layer.seed = 0
        layer.path = ""
        layer.step = 0
        layer.__dict__["trainable"] = True
        layer._is_frozen = False
        layer._learning_rate = None
        layer._slots_by_kind = {}
        layer._update_counts = {}
        layer._transient = []
        layer._calls, layer._set_by_forward = 0, {}
        layer._uses = 0
        return layer

    parameters: dict[str, Array]
    gradients: dict[str, Array]
    buffers: dict[str, Any]  # arrays; numbers, until the layer is built
    new_buffers: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]
    initializer: str  # the name of the initializer of the weights
    drawn: dict[str, tuple[int, str]]  # seed and path that parameters were drawn for
    layers: list[Any]
    input: Any  # X; None before a pass in training
    output: Any  # Y
    backend: Backend | None
    xp: Any
    ops: ops.Ops
    device_dtype: Any  # ``dtype`` as this backend's arrays carry it
    path: str
    step: Any
    _is_frozen: bool  # not trainable, or in a layer that is not, since the last fit began
    _learning_rate: float | None  # for a layer that updates itself, within fit
    _network_ref: Any  # a weak reference to the network that the layer is part of
    _slots_by_kind: dict[str, dict[str, Array]]  # the optimizer's state: kind -> parameter's name -> array
    _update_counts: dict[str, tuple[int, int | None]]  # a parameter's updates, and the step from which each adds one
    _transient: list[Array]  # arrays that passes have left in attributes of a user's: no copy holds them
    _uses: int  # how often ``use`` had been called on the network when its optimizer last counted this layer as its own
    _calls: int  # of forward_propagation, for a layer that updates itself; counted up to 3
    _set_by_forward: dict[str, int]  # how many of them set an attribute that held no array before

    def __init__(self) -> None:
        pass

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._own = is_ours(cls)
        # Of the two pairs, the one defined nearest to the class counts; where one class defines both, WRITTEN does.
        cls.updates_itself = _steps_up(cls, CALLED) < _steps_up(cls, WRITTEN)
        if not cls.updates_itself:
            for name in CALLED:  # one may be inherited from a layer that overrides them
                setattr(cls, name, cls.__dict__.get(name, Layer.__dict__[name]))
        cls._trains = "training" in signature(cls.forward).parameters
        cls._spares = "need_input_error" in signature(cls.backward).parameters

    # -- what an author writes ---------------------------------------------------------------------------------

    def forward(self, X: Array) -> Array:
        """Returns Y for a batch X (N, ...)."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def backward(self, output_error: Array) -> Array | None:
        """Sets ``gradients``, dE/dW for each parameter W, from dE/dY; returns dE/dX."""
        raise TypeError(f"{type(self).__name__} defines no backward")

    # -- what callers use --------------------------------------------------------------------------------------

    def __call__(self, X: Array) -> Array:
        """Returns Y for a batch X (N, ...), to predict: nothing is written to the layer."""
        X = self.accept(X)
        self._refuse_beside_fit("running a layer", "run the whole network, predict(x), or a copy of it")
        self._check_leaves()
        layer = article.adapted([self])[0]
        with self._alone(), self._noting(X):
            layer.fit_to(X)
            return self._copy(layer.compute(X, False))  # it may be a view of X, which is the caller's

    def forward_propagation(self, input: Array) -> Array:
        """Returns Y for a batch X (N, ...), in training: keeps ``layer.input`` and ``layer.output`` for backward."""
        X = self.accept(input)
        self._refuse_beside_fit("training a layer")
        self._refuse_beside_pass()
        self._check_leaves()
        if self._network_ref is None:
            self._freeze()
        with self._alone(), self._noting(X):
            self.fit_to(X)
            return self._copy(
                self.compute(self._copy(X), True)
            )  # the caller may write into it; backward needs the layer's own

    def backward_propagation(
        self, output_error: Array, learning_rate: float | None = None, *, need_input_error: bool = True
    ) -> Array | None:
        """Sets ``gradients`` from dE/dY, and returns dE/dX (None if not needed).

        With a learning rate it also makes one step of gradient descent on this layer's parameters, and takes the new
        buffers; without one it changes neither. RuntimeError if no ``forward_propagation`` came before it.
        """
        D = self.accept_error(output_error)
        self._refuse_beside_fit("training a layer")
        self._refuse_beside_pass()
        lr = None if learning_rate is None else checks.number("learning_rate", learning_rate)
        with self._alone(), self._noting(D):
            input_error = self.compute_backward(self._copy(D), need_input_error)
            if lr is not None:
                self._descend(lr)
        return input_error

    def compute(self, X: Array, training: bool) -> Array:
        """Calls ``forward`` with an array of the layer's backend, dtype and memory order."""
        if not self.complete:
            self.fit_to(X)
        given = X if self._own else self._copy(X)  # a user's layer may write into all that it gets
        try:
            Y = self.forward(given, training=training) if self._trains else self.forward(given)  # type: ignore[call-arg]
        except AttributeError as error:
            tell_missing(error, self.xp)
            raise
        if not self._own:
            checks.answer(self, "forward", Y, samples=X.shape[0])
            Y = in_order(Y)  # in whatever memory order it came
        if training:
            self.input, self.output = (X, Y) if self._own else (self._copy(X), self._copy(Y))
        return Y

    def compute_backward(self, output_error: Array, need_input_error: bool) -> Array | None:
        """Calls ``backward`` with an array of the dtype and shape of ``self.output``."""
        if not self._own:
            output_error = self._copy(output_error)
        try:
            if self._spares:
                input_error = self.backward(output_error, need_input_error=need_input_error)  # type: ignore[call-arg]
            else:
                input_error = self.backward(output_error)
        except AttributeError as error:
            tell_missing(error, self.xp)
            raise
        if not self._own:
            checks.gradients(self)
            self.gradients |= {name: in_order(g) for name, g in self.gradients.items()}
            if need_input_error:
                checks.answer(self, "backward", input_error, shape=self.input.shape)
                assert input_error is not None
                input_error = in_order(input_error)
        if self._is_frozen:
            self.gradients.clear()
        return input_error if need_input_error else None

    def _copy(self, array: Array) -> Array:
        return self.xp.asarray(array, copy=True)

    def _refuse_beside_fit(
        self, what: str, instead: str = "do it when fit has ended", within_step: bool = False
    ) -> None:
        """RuntimeError while another thread trains the layer's network, or where the current step would undo it."""
        network = None if self._network_ref is None else self._network_ref()
        if network is not None:
            network.refuse_beside_fit(what, instead, within_step=within_step)

    def _refuse_beside_pass(self) -> None:
        """RuntimeError within a step of the network, but for the layer that is running and those in it.

        What this layer keeps for the step's backward pass would be lost.
        """
        network = None if self._network_ref is None else self._network_ref()
        turn = None if network is None else network.turns.held()
        if turn is None or not turn.in_step:
            return
        (running,) = turn.at
        if isinstance(running, str) or not any(layer is self for layer in getattr(running, "layer", running).walk()):
            raise RuntimeError(
                f"layer {self.path} ({self}) was trained within a step of its network, which needs what the layer "
                "keeps for backward: call layer(X), which keeps nothing, or train a copy, copy.deepcopy(layer)"
            )

    def _alone(self) -> AbstractContextManager[Any]:
        """The backend's scope, for a layer called on its own; a network enters it once for all its layers."""
        return self.backend.scope() if self.backend is not None else nullcontext()

    def _noting(self, batch: Array) -> AbstractContextManager[Any]:
        """Notes what passes leave in objects of a user's, for a layer called on its own; a fit notes it for all."""
        alone = self._own and not self.layers and is_ours(getattr(self, "activation", Layer))
        return nullcontext() if alone else Kept(list(self.walk()), shapes=[tuple(batch.shape)])

    def fit_to(self, X: Array) -> None:
        """Builds what is still missing for samples such as those of X; ValueError if they do not fit."""
        sample = tuple(X.shape[1:] if X.ndim > 1 else X.shape)
        if not self.complete:
            assert self.backend is not None
            self.build(sample, self.backend, self.dtype, self.seed, self.path)
        try:
            self.output_shape(sample)
        except ValueError as error:
            if not self._takes_sample(tuple(X.shape)):
                raise
            raise ValueError(
                f"X has shape {tuple(X.shape)}, which is that of one sample of {self}, without a batch axis: give "
                "X[None], a batch of one"
            ) from error

    def _takes_sample(self, shape: tuple[int, ...]) -> bool:
        try:
            self.output_shape(shape)
        except (ValueError, TypeError):
            return False
        return True

    def _descend(self, lr: float) -> None:
        self.drawn = {}  # trained values are not drawn again
        leaves: list[Binding] = []  # either all of them are replaced, or none
        for layer in self.walk():
            for name, gradient in layer.gradients.items():
                leaves.append((layer.parameters, name, in_order(layer.parameters[name] - lr * gradient)))
            leaves += [(layer.buffers, name, array) for name, array in layer.new_buffers.items()]
            leaves.append((layer.__dict__, "step", layer.step + 1))
        set_all(leaves)

    # -- shapes and building -----------------------------------------------------------------------------------

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """The shape of one sample of Y for that of X; None where unknown. ValueError if X does not fit."""
        return None

    def build(self, input_shape: tuple[int, ...] | None, backend: Backend, dtype: str, seed: int, path: str) -> None:
        """Prepares the layer on a backend: parameters set so far are moved and cast, missing ones drawn.

        ``Network.add`` calls it. A layer that overrides it sets its parameters, then calls ``super().build(...)``,
        which also builds the children, under the paths ``path.0``, ``path.1``, ... (``path.1.0`` in a list of layers).
        """
        vars(self).update(dtype=dtype, seed=seed)
        self.move(backend)
        self._place(path)
        inside = [None] * len(self.layers) if self.updates_itself else self.shapes_inside(input_shape)
        for i, j, layer in self._children():
            shapes: Any = inside[i]
            shape = shapes[j] if isinstance(shapes, list) and j is not None else shapes
            layer.build(shape, backend, dtype, seed, layer.path)

    def learn_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """For ``build``, where the parameters' shapes come with the data: notes them, and that the layer is complete.

        ValueError for a parameter that was assigned before and has another shape; the layer then stays as it was.
        """
        for name, array in self.parameters.items():
            if tuple(array.shape) != shapes[name]:
                raise ValueError(
                    f"{self.label(name)} has shape {tuple(array.shape)}, but for this data it must have {shapes[name]}"
                )
        self.shapes, self.complete = shapes, True

    def _place(self, path: str) -> None:
        """Gives this layer and all below their paths in a network; masks, for example, are drawn for a path."""
        self.path = path
        for i, j, layer in self._children():
            layer._place(".".join(str(part) for part in (path, i, j) if part not in ("", None)))

    def _children(self) -> Iterator[tuple[int, int | None, Any]]:
        """The direct children, each with its index in ``layers`` and, in a list of layers, its index in that."""
        for i, child in enumerate(self.layers):
            if isinstance(child, (list, tuple)):
                yield from ((i, j, layer) for j, layer in enumerate(child))
            else:
                yield i, None, child

    def shapes_inside(self, input_shape: tuple[int, ...] | None) -> list[Any]:
        """The input shape, of one sample, of each child; for a list of layers a list of shapes; None where unknown."""
        return [None] * len(self.layers)

    def smallest_batch(self, input_shape: tuple[int, ...] | None) -> int:
        """The smallest batch size that the layer can be trained with."""
        return 1

    def parameter_shapes(self, input_shape: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter; for those created on the first batch, if ``input_shape`` determines it."""
        return {name: tuple(array.shape) for name, array in self.parameters.items()}

    def multiply_adds(self, input_shape: tuple[int, ...] | None) -> int:
        """The number of multiply-adds with parameters that ``forward`` makes for one sample."""
        return 0

    def move(self, backend: Backend) -> None:
        """Moves parameters and buffers, but not the layers inside, to ``backend``; an error moves nothing."""
        move([self], backend)

    def _moved(self, backend: Backend) -> Iterator[tuple[dict[str, Any], str, Array]]:
        """All arrays to be moved: the dict that holds one, its name, and its copy on ``backend``."""
        if self.updates_itself:
            yield from article.moved_attributes(self, backend)
        for arrays in (self.parameters, self.buffers, *self._slots_by_kind.values()):
            for name, array in arrays.items():
                if self.backend is not None and self.backend != backend:
                    array = self.backend.to_numpy(array)
                yield arrays, name, bring(array, backend, self.dtype, f"{self.label(name)}", copy=True)

    def _bind(self, backend: Backend) -> None:
        """Looks up the functions of ``backend`` that the layer uses; its arrays are there already."""
        vars(self).update(self._bound(backend))

    def _bound(self, backend: Backend) -> dict[str, Any]:
        """The attributes that depend on the backend, but for arrays."""
        found = ops.bind(backend, self.kernels if isinstance(self.kernels, str) else "auto")
        return {"backend": backend, "xp": backend.xp, "device_dtype": device_dtype(backend, self.dtype), "ops": found}

    def accept(self, X: Array) -> Array:
        """Returns X as an array of the layer's backend and dtype; a layer without a network is built to suit X."""
        if self.device_dtype is not None and getattr(X, "dtype", "none") == self.device_dtype and X.shape:
            return in_order(X)
        if self.backend is None:
            if not is_array(X):
                X = bring(X, get_backend("cpu"), self.dtype, "X")
            backend = home_of(X)
            if X.dtype == backend.xp.float64:
                self.dtype = "float64"
            self.build(tuple(X.shape[1:] or X.shape) or None, backend, self.dtype, self.seed, self.path)
        assert self.backend is not None
        X = self.xp.astype(bring(X, self.backend, self.dtype, "X"), self.device_dtype, copy=False)
        if X.ndim == 0:
            raise ValueError(f"{self} takes an array with at least one axis, got the single number {X}")
        return in_order(X)

    # -- parameters --------------------------------------------------------------------------------------------

    def assign(self, name: str, value: Any) -> None:
        """Sets a parameter: ``value`` must have its shape; host data is moved and cast, and always copied, in C order.

        RuntimeError while another thread trains the network: its step would overwrite the values unnoticed.
        """
        self._refuse_beside_fit(f"assigning {self.path}.{name}", within_step=not self.updates_itself)
        shape = (
            tuple(getattr(value, "shape", ()))
            if is_array(value)
            else tuple(bring(value, get_backend("cpu"), None, name).shape)
        )
        names: Any = self.shapes or (() if self.complete else declared(type(self)))
        if names and name not in names:
            without = f": create it without {name}=False" if hasattr(type(self), name) else ""
            raise ValueError(f"{self} has no {name}, it has {', '.join(names)}{without}")
        expected = self.shapes.get(name, shape)
        if shape != expected:
            raise ValueError(f"{self.label(name)} has shape {expected}, got an array of shape {shape}")
        if self.backend is None and is_array(value):
            value = bring(value, home_of(value), None, name, copy=True)  # the network's dtype is not known yet
        elif self.backend is None:
            value = bring(value, get_backend("cpu"), None, name, copy=True)
        else:
            value = bring(value, self.backend, self.dtype, self.label(name), copy=True)
        self.parameters[name] = value

    def draw_missing(self, fans: tuple[int, int], seed: int, path: str) -> None:
        """Draws ``weights`` by ``self.initializer`` and sets every other parameter to zero.

        Values that were assigned or trained are kept; those only drawn, for another seed or path, are drawn again.
        """
        for name, shape in self.shapes.items():
            rule = self.initializer if name == "weights" else "zeros"
            stream = seed, f"{path}.{name}" if path else name
            if name in self.parameters and (self.drawn.get(name) in (None, stream) or self._changed(name, rule, fans)):
                continue
            self.parameters[name] = initializers.draw(rule, shape, fans, *stream)
            self.drawn[name] = stream
        if list(self.parameters) != list(self.shapes):  # sums over parameters are in one order, however they were set
            self.parameters.update({name: self.parameters.pop(name) for name in self.shapes})

    def _changed(self, name: str, rule: str, fans: tuple[int, int]) -> bool:
        """Whether a parameter that was drawn has other values now: assigned, trained, or written into."""
        now = self.parameters[name] if self.backend is None else self.backend.to_numpy(self.parameters[name])
        drawn = initializers.draw(rule, self.shapes[name], fans, *self.drawn[name])
        return bool((drawn.astype(now.dtype) != now).any())

    def why_no_parameter(self, name: str) -> str:
        """The error message for a parameter that does not exist."""
        if self.backend is None:
            return (
                f"{self.label(name)} does not exist yet: initial values are drawn when the layer is added to a network "
                f"(net.add(layer)); or assign your own: layer.{name} = array"
            )
        if not self.complete:
            return (
                f"{self.label(name)} does not exist yet: it is built on the first batch, which tells its shape. Call "
                "fit or predict first, or put a layer in front that states its shapes, such as ConvLayer"
            )
        return f"{self} has no {name}; it has {', '.join(self.parameters) or 'no parameters'}"

    def accept_error(self, output_error: Array) -> Array:
        """Returns dE/dY as an array of the layer's backend and dtype; it must have the shape of Y.

        RuntimeError if no ``forward_propagation`` came before it.
        """
        Y = self.output
        if type(output_error) is type(Y) and output_error.dtype == Y.dtype and output_error.shape == Y.shape:
            return in_order(output_error)
        if Y is None or self.backend is None:
            raise RuntimeError(
                f"backward_propagation of {self} was called before a pass in training: call forward_propagation(X) "
                "first"
            )
        D = bring(output_error, self.backend, self.dtype, "output_error")
        D = self.xp.astype(D, self.device_dtype, copy=False)
        if D.shape != Y.shape:
            raise ValueError(f"output_error of {self} has shape {tuple(D.shape)}, but Y has {tuple(Y.shape)}")
        return in_order(D)

    def _check_leaves(self) -> None:
        """Raises for parameters and buffers of a wrong type or shape, which compiled loops trust."""
        if self.updates_itself or self.backend is None:
            return
        for kind, home, shapes in (("parameters", self.parameters, self.shapes), ("buffers", self.buffers, {})):
            for name, array in home.items():
                expected = shapes.get(name)
                if getattr(array, "dtype", None) != self.device_dtype or not self.backend.owns(array):
                    given = f"{type(array).__name__} of dtype {getattr(array, 'dtype', '?')}"
                    raise TypeError(
                        f"{self.label(name)} is a {given}, but the layer computes with {self.dtype} arrays of "
                        f"backend {self.backend.name!r}: it was put into layer.{kind}; "
                        f"{self._how_to_assign(kind, name)}"
                    )
                if expected is not None and array.shape != expected:
                    raise ValueError(
                        f"{self.label(name)} has shape {tuple(array.shape)}, expected {expected}: it was put into "
                        f"layer.{kind}; {self._how_to_assign(kind, name)}"
                    )
        for name in self.shapes if self.complete else ():
            if name not in self.parameters:
                raise ValueError(f"{self} has lost its {name}: layer.parameters must hold {', '.join(self.shapes)}")

    def check_leaves(self) -> None:
        """Checks parameters and buffers that somebody may have put in, and brings them into C order."""
        self._check_leaves()
        for home in () if self.updates_itself else (self.parameters, self.buffers):
            for name, array in home.items():
                ordered = in_order(array)
                if ordered is not array:
                    home[name] = ordered

    def _how_to_assign(self, kind: str, name: str) -> str:
        return f"call layer.assign({name!r}, array), which checks and casts it" if kind == "parameters" else "cast it"

    def label(self, name: str) -> str:
        """A parameter's name in error messages: ``FCLayer(2, 3).weights``."""
        return f"{self}.{name}"

    # -- the state of a layer's training ---------------------------------------------------------------------------

    def _freeze(self, above: bool = False) -> None:
        """Makes ``trainable`` take effect, here and below; ``above``: a layer that contains this one is frozen."""
        self._is_frozen = above or not self.trainable
        for _, _, layer in self._children():
            layer._freeze(self._is_frozen)

    def _updates(self, name: str, step: int) -> int:
        """The number of updates that a parameter has had when the network has made ``step``."""
        count, since = self._update_counts.get(name, (0, step))
        return count if since is None else count + step - since

    def _count_updates(self, step: int, learns: bool) -> None:
        """From ``step`` on, each step of the network counts as an update of this layer's parameters, if it learns."""
        for name in self.parameters:
            self._update_counts[name] = (self._updates(name, step), step if learns else None)

    def _training_afresh(self, step: int) -> dict[str, Any]:
        """What ``use()`` sets in a layer, by the attribute's name, when the network has made ``step``."""
        return {"_slots_by_kind": {}, "_update_counts": {}}

    def _assign_slot(self, kind: str, name: str, value: Any) -> None:
        """Sets a slot of the optimizer for a parameter: an array of the same shape, copied."""
        self._refuse_beside_fit(f"setting {kind} of {self.path}.{name}", within_step=True)
        assert self.backend is not None
        old = self._slots_by_kind[kind][name]
        new = bring(value, self.backend, self.dtype, f"{kind} of {self.path}.{name}", copy=True)
        if new.shape != old.shape:
            raise ValueError(
                f"{kind} of {self.path}.{name} has shape {tuple(old.shape)}, got an array of shape {tuple(new.shape)}"
            )
        self._slots_by_kind[kind][name] = new

    def walk(self) -> Iterator["Layer"]:
        """This layer and all layers below it; a list of layers counts as one child."""
        yield self
        for child in self.layers:
            for layer in child if isinstance(child, (list, tuple)) else [child]:
                yield from layer.walk()

    # -- copying and showing -------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """All state except what belongs to a backend or to the last pass, such as its batch."""
        self._refuse_beside_fit("copying a layer", "copy the whole network, copy.deepcopy(network)")
        state = {name: value for name, value in self.__dict__.items() if name not in ("xp", "ops", "device_dtype")}
        state["_transient"] = []
        passing: dict[str, Any] = dict.fromkeys(name for name in self._for_backward if name in state)
        if not self.updates_itself:
            passing |= {"gradients": {}, "new_buffers": {}}
        state |= passing | {"_network_ref": None}
        network = None if self._network_ref is None else self._network_ref()
        if not self._transient or (network is not None and get_ident() in network.turns.copying):  # it leaves them out
            return state
        return copy.deepcopy(state, dict.fromkeys(map(id, self._transient)))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in ("parameters", "gradients", "buffers", "new_buffers", "drawn", "_update_counts"):
            vars(self)[name] = dict(vars(self)[name])  # copy.copy shares nothing that training changes
        self._slots_by_kind = {kind: dict(arrays) for kind, arrays in self._slots_by_kind.items()}
        if self.backend is not None:
            for arrays in (self.parameters, self.buffers, *self._slots_by_kind.values()):
                arrays.update({name: in_order(array) for name, array in arrays.items()})
            self._bind(self.backend)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _steps_up(cls: type, names: tuple[str, ...]) -> int:
    """How many classes up from ``cls`` the nearest of these methods is defined; ``Layer``'s own do not count."""
    line = cls.__mro__[: cls.__mro__.index(Layer)]
    return next((i for i, c in enumerate(line) if any(_defines(c, name) for name in names)), len(line))


def _defines(cls: type, name: str) -> bool:
    method = cls.__dict__.get(name)
    return method is not None and method is not Layer.__dict__[name]


def move(layers: Sequence[Layer], backend: Backend, also: Sequence[Binding] = ()) -> None:
    """Moves layers, without their children, to a backend: all of them or, at an error or an interruption, none.

    ``also`` are values (home, key, value) to set with them.
    """
    for layer in layers:
        layer._refuse_beside_fit("moving a layer")
    leaves = [leaf for layer in layers for leaf in layer._moved(backend)]
    for layer in layers:
        attributes = layer._bound(backend) | {"gradients": {}, "new_buffers": {}}
        if not layer.updates_itself:
            attributes |= {"input": None, "output": None}  # what was kept is on the old backend
        leaves += [(vars(layer), name, value) for name, value in attributes.items()]
    leaves += also
    set_all(leaves)
