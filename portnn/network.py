"""The network: a chain of layers, a loss, and the loop that trains them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from portnn import arguments, border, losses, ops, random, summary, training
from portnn.backend import Array, Backend, get_backend
from portnn.layers import article, chain, checks, joined
from portnn.layers.layer import Layer
from portnn.optimizers import SGD
from portnn.pairs import bound, find_pair
from portnn.summary import Summary
from portnn.training import History


class Network:
    """A neural network: layers, one after the other, trained by gradient descent.

    ``layers`` are added in order. ``backend`` is ``"cpu"`` (NumPy), ``"gpu"`` (CuPy), or any backend; ``dtype`` is
    ``"float32"`` or ``"float64"``; ``seed`` fixes the initial weights and shuffles (None draws one, kept in
    ``net.seed``); ``kernels="portable"`` leaves the backend's fast routines away and runs the plain ones.

    >>> from portnn import ActivationLayer, FCLayer
    >>> net = Network([FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(3, 1)], seed=1)
    >>> net.use("mse")
    >>> history = net.fit([[0.0, 1.0], [1.0, 0.0]], [[1.0], [0.0]], epochs=2, learning_rate=0.1, verbose=0)
    >>> net.predict([[0.0, 1.0]]).shape
    (1, 1)
    """

    @arguments.takes_one("Network takes one list of layers", "write Network([a, b])")
    def __init__(
        self,
        layers: Iterable[Layer] = (),
        *,
        backend: Any = "cpu",
        dtype: str = "float32",
        seed: int | None = None,
        kernels: str = "auto",
    ):
        self.backend: Backend = get_backend(backend)
        self.dtype, self.kernels = border.dtype_name(dtype), arguments.check_kernels(kernels)
        self.seed = random.check_seed(seed)
        self.layers: list[Layer] = []
        self.loss: Any = None
        self.loss_prime: Any = None
        self.optimizer: Any = None
        self.metrics: list[tuple[str, Callable[..., Any]]] = []
        self.step = 0  # updates made since use()
        self.epoch = 0  # epochs finished since use()
        self._checked: tuple[Any, ...] = ()  # for what shape and layers it is known that they fit
        self._ready: tuple[tuple[Any, ...], list[Any]] = ((), [])  # the layers as they run, and for what that holds
        self.slots: dict[str, dict[str, Array]] = {}  # what the optimizer remembers: kind -> parameter path -> array
        for layer in arguments.layer_list(layers):
            self.add(layer)

    # -- building ----------------------------------------------------------------------------------------------

    @arguments.takes_one("add takes one layer", arguments.ONE_BY_ONE)
    def add(self, layer: Layer) -> None:
        """Appends a layer; its weights exist from now on. ValueError if it does not fit what comes before it."""
        index = len(self.layers)
        arguments.check_layer(layer)
        parts = chain.parts(layer, [])
        for part in parts:
            fault = article.missing_method(part, Layer)
            if fault:
                raise TypeError(fault)
        try:
            before = chain.shapes([*self.layers, layer], None)[index]
            for part in parts:
                if not part.written_as_in_the_article:  # it may have an array of that name
                    part.kernels = self.kernels
            layer.build(before, self.backend, self.dtype, self.seed, str(index))
        except AttributeError as error:
            raise TypeError(
                f"{type(layer).__name__} is not ready to be added: {error}. If it derives from a layer of portnn, its "
                "__init__ must call super().__init__(...)"
            ) from error
        for part in parts:
            part.in_network = True
        self.layers.append(layer)

    def use(
        self,
        loss: Any,
        loss_prime: Callable[..., Any] | None = None,
        *,
        optimizer: Any = None,
        metrics: Iterable[Any] = (),
    ) -> None:
        """Sets the loss, the optimizer and the metrics; training starts afresh (the weights stay).

        ``loss``: a name (``"mse"``), one of portnn's functions, or a function of (y_true, y_pred) with its derivative
        ``loss_prime``. ``optimizer``: such as ``SGD(0.1, momentum=0.9)``, or the lower-case name of its class for one
        with its usual numbers (``"adam"`` for ``Adam()``); without one, ``fit`` takes a learning rate.
        ``metrics``: names (``"accuracy"``) or functions of (y_true, y_pred) that return one number a sample.
        """
        pair = find_pair("loss", losses.PAIRS, loss, loss_prime)
        made, found = arguments.optimizer(optimizer), arguments.metric_list(metrics, pair[0])
        border.check_ending(self.layers, pair[0])
        self.loss, self.loss_prime = pair
        self.optimizer, self.metrics = made, found
        self.step, self.epoch, self.slots = 0, 0, {}

    def to(self, backend: Any) -> "Network":
        """Moves the network, with all that training has gathered, to another backend; returns the network."""
        target = get_backend(backend)
        slots = {
            kind: {path: target.asarray(self.backend.to_numpy(array)) for path, array in home.items()}
            for kind, home in self.slots.items()
        }
        try:
            for layer in self.walk():
                layer.move(target)
        except BaseException:  # out of memory, say: nothing stays half moved
            for layer in self.walk():
                layer.move(self.backend)
            raise
        self.backend, self.slots = target, slots
        return self

    # -- training and predicting ---------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any = None,
        epochs: int | None = None,
        learning_rate: Any = None,
        *,
        batch_size: int = 1,
        shuffle: bool = False,
        verbose: int = 1,
        check_finite: bool = True,
    ) -> History:
        """Trains on samples ``x`` (N, ...) with targets ``y`` (N, ...) and returns the error of each epoch.

        One sample at a time, in order, by plain gradient descent, as in the article, unless ``batch_size``, ``shuffle``
        or an optimizer say otherwise. ``x`` and ``y`` are NumPy arrays, lists, or arrays of the network's backend;
        integers are cast, never scaled. ``learning_rate``, a number or a schedule, is needed if ``use`` was given no
        optimizer. ``verbose=0`` prints nothing; ``check_finite=False`` looks for no NaN in data and error.

        Bad data or arguments raise ValueError or TypeError before any weight changes. An exception within a step, or
        Ctrl-C, leaves the weights of the last whole step (but for layers written as in the article, which update
        themselves within the step).
        """
        if not self.layers:
            raise RuntimeError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
        if self.loss is None:
            raise RuntimeError('the network has no loss: call net.use("mse") before fit')
        arguments.check_complete("fit", y, epochs, optimizer=self.optimizer)
        epochs = checks.size("epochs", epochs)
        batch_size = checks.size("batch_size", batch_size)
        verbose = checks.level("verbose", verbose, 2)
        shuffle, check_finite = checks.flag("shuffle", shuffle), checks.flag("check_finite", check_finite)
        optimizer = self._optimizer(learning_rate)
        for layer in self.walk():
            if batch_size > 1 and layer.written_as_in_the_article and not layer.batched:
                raise ValueError(
                    f"batch_size={batch_size}, but layer {layer.path} ({type(layer).__name__}) is written as in the "
                    "article: it takes one sample at a time. Use batch_size=1, or set batched = True in its class if "
                    "it takes batches"
                )
        with self.backend.scope():
            X, Y, classes = self._data(x, y, check_finite, batch_size)
            return training.train(
                self,
                X,
                Y,
                optimizer,
                classes=classes,
                epochs=epochs,
                batch_size=min(batch_size, X.shape[0]),
                shuffle=shuffle,
                verbose=verbose,
                check_finite=check_finite,
            )

    def predict(self, x: Any, *, batch_size: int = 1024) -> Any:
        """Returns the outputs (N, ...) for samples ``x`` (N, ...): NumPy for NumPy and lists, else as ``x``."""
        batch_size = checks.size("batch_size", batch_size)
        if not self.layers:
            raise RuntimeError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
        with self.backend.scope():
            X = border.batch(x, self.backend, self.dtype, "x")
            self._check_shapes(X, x)
            if X.shape[0] <= batch_size:
                Y = self._forward(X)
            else:
                parts = border.slices(X.shape[0], batch_size)
                Y = self.backend.xp.concat([self._forward(X[part, ...]) for part in parts])
            if type(Y) is type(x) is np.ndarray and np.may_share_memory(Y, x):
                return Y.copy()  # layers that change nothing but the shape: the caller's memory stays the caller's
            return Y if self.backend.owns(x) else self.backend.to_numpy(Y)

    def evaluate(self, x: Any, y: Any = None, *, batch_size: int = 1024) -> dict[str, float]:
        """Returns the mean error, and each metric's mean, over samples ``x`` (N, ...) with targets ``y`` (N, ...)."""
        if not self.layers:
            raise RuntimeError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
        if self.loss is None:
            raise RuntimeError('the network has no loss: call net.use("mse") before evaluate')
        arguments.check_complete("evaluate", y)
        batch_size = checks.size("batch_size", batch_size)
        with self.backend.scope():
            X, Y, classes = self._data(x, y, False)
            n, xp = X.shape[0], self.backend.xp
            sums = dict.fromkeys(("error", *(name for name, _ in self.metrics)), 0.0)
            for part in border.slices(n, batch_size):
                Y_pred = self._forward(X[part, ...])
                Y_true = Y[part, ...] if classes else xp.astype(Y[part, ...], Y_pred.dtype)
                error = self.bound_loss(Y_true, Y_pred)
                sums["error"] += float(self.backend.to_numpy(error)) * Y_pred.shape[0]
                for name, metric in self.metrics:
                    total = training.metric_sum(name, metric, Y_true, Y_pred, self.backend)
                    sums[name] += float(self.backend.to_numpy(total))
            return {name: value / n for name, value in sums.items()}

    def summary(self, input_shape: tuple[int, ...] | None = None) -> Summary:
        """Returns a table of the layers as text: output shapes, parameters, bytes, multiply-adds for one sample.

        It needs no data. Where the first layers take samples of any shape, ``input_shape`` tells it; "?" is unknown.

        >>> from portnn import ActivationLayer, FCLayer
        >>> Network([FCLayer(784, 100), ActivationLayer("relu"), FCLayer(100, 10)]).summary()
        layer              output shape  parameters    bytes  multiply-adds
        -------------------------------------------------------------------
        0 FCLayer          (100,)            78,500  314,000         78,400
        1 ActivationLayer  (100,)                 0        0              0
        2 FCLayer          (10,)              1,010    4,040          1,000
        -------------------------------------------------------------------
        in all                               79,510  318,040         79,400
        """
        if input_shape is not None:
            input_shape = checks.shape("input_shape", input_shape)
        return summary.summary(self.layers, input_shape, self.dtype)

    # -- looking inside --------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Array]:
        """Every parameter by its dotted path: ``net.parameters["0.weights"]``."""
        return {f"{layer.path}.{name}": array for layer in self.walk() for name, array in layer.parameters.items()}

    @property
    def gradients(self) -> dict[str, Array]:
        """The gradients of the last backward pass, by the path of their parameter."""
        return {f"{layer.path}.{name}": array for layer in self.walk() for name, array in layer.gradients.items()}

    @property
    def bound_loss(self) -> Callable[..., Any]:
        """The loss as this backend runs it."""
        return bound(self.loss, self.backend, self.kernels, self.dtype, scalar=True)

    @property
    def bound_loss_prime(self) -> Callable[..., Any]:
        """Its derivative as this backend runs it."""
        return bound(self.loss_prime, self.backend, self.kernels, self.dtype)

    def walk(self) -> Iterator[Layer]:
        """All layers in order, each followed by its children."""
        for layer in self.layers:
            yield from layer.walk()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_checked": (), "_ready": ((), [])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for layer in self.walk():
            layer.in_network = True

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.layers))
        return f"Network([{inside}], backend={self.backend.name!r}, dtype={self.dtype!r}, seed={self.seed})"

    # -- inside ------------------------------------------------------------------------------------------------------

    def _data(self, x: Any, y: Any, check_finite: bool, batch_size: int | None = None) -> tuple[Array, Array, bool]:
        """Checked samples and targets on the device, and whether the targets are class numbers."""
        border.check_ending(self.layers, self.loss)
        X = border.batch(x, self.backend, self.dtype, "x")
        Y = border.batch(y, self.backend, self.dtype, "y")
        border.check_lengths(X, Y, self.layers, x)
        shapes = border.shapes(self.layers, X, x)
        if check_finite:
            border.check_finite(X, self.backend, "x")
            border.check_finite(Y, self.backend, "y")
        picky = any(type(layer).smallest_batch is not Layer.smallest_batch for layer in self.walk())
        if shapes[-1] is None or (picky and None in shapes):  # some layer cannot say: ask it with one sample
            shapes = [tuple(seen.shape[1:]) for seen in self._passes(X[:1, ...])]
        last = shapes[-1]
        assert last is not None
        Y, classes = border.targets(Y, last, self.loss, self.backend)
        if batch_size is not None:
            border.check_batches(self.layers, shapes, X.shape[0], batch_size)
        if not all(layer.complete for layer in self.walk()):  # parameters that only the data can shape
            self._forward(X[:1, ...])
        return X, Y, classes

    def _check_shapes(self, X: Array, given: Any) -> None:
        """That the layers fit on such samples; looked at again when their shape or the layers have changed."""
        asked = (tuple(X.shape[1:]), *self.layers)
        if self._checked != asked:
            border.shapes(self.layers, X, given)
            self._checked = asked

    def _joined(self) -> list[Any]:
        """The layers as they run, neighbours joined where the backend can."""
        asked = (self.backend, self.kernels, *self.layers)
        if self._ready[0] != asked:
            self._ready = asked, joined.join(self.layers, self.backend, self.kernels)
        return self._ready[1]

    def _forward(self, X: Array) -> Array:
        dtype = getattr(self.backend.xp, self.dtype)
        Y = X if X.dtype == dtype else self.backend.xp.astype(X, dtype)
        for layer in self._joined():
            Y = layer.forward(Y)
            if not ops.is_ours(type(layer)):
                checks.answer(layer, "forward", Y, samples=X.shape[0])
        return Y

    def _passes(self, X: Array) -> Iterator[Array]:
        """X as the network takes it, and what each of the layers makes of it."""
        Y = self.backend.xp.astype(X, getattr(self.backend.xp, self.dtype), copy=False)
        yield Y
        for layer in self.layers:
            Y = checks.answer(layer, "forward", layer.forward(Y), samples=X.shape[0])
            yield Y

    def _optimizer(self, learning_rate: Any) -> Any:
        if self.optimizer is None and learning_rate is None:
            raise ValueError(
                "fit needs a learning rate: fit(x, y, epochs, learning_rate=0.1), or give use() an optimizer such as "
                "SGD(0.1)"
            )
        if self.optimizer is not None and learning_rate is not None:
            raise ValueError(
                f"use() was given {self.optimizer!r}, which has its own learning rate: leave "
                f"learning_rate={learning_rate!r} out"
            )
        return self.optimizer if learning_rate is None else SGD(learning_rate)
