"""The network: layers run in order, a loss, and training."""

import copy
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from operator import is_, methodcaller
from threading import get_ident
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from portnn import (
    arguments,
    checks,
    evaluation,
    habits,
    inference,
    losses,
    preparation,
    random,
    sources,
    validation,
)
from portnn._typing import Array, OptimizerLike
from portnn.arrangement import Arrangement, arrange, named, take_in
from portnn.article import adapted
from portnn.backend import Backend, get_backend, heard_by
from portnn.exchange.methods import WithExport
from portnn.files.methods import WithFiles
from portnn.functions import bound, find_pair
from portnn.history import History
from portnn.indivisible import Binding, set_all
from portnn.layers.attributes import check_names
from portnn.layers.kept import Kept
from portnn.layers.layer import Layer, move
from portnn.leaves import Leaves, parameters_of, slots_of
from portnn.optimizers import SGD
from portnn.settings import Setting
from portnn.training import fusion, loop, progress
from portnn.training.resume import Before, at_its_beginning
from portnn.training.turns import Turn, Turns

if TYPE_CHECKING:
    from portnn.show.diagram import Diagram
    from portnn.show.explain import Explanation
    from portnn.show.summary import Summary

# Attributes that are set elsewhere: assigning them would leave the network inconsistent.
_BY_USE = 'net.use("mse", optimizer=Adam(), metrics=["accuracy"]), which starts training afresh'
_ANEW = "is fixed when a network is created: create another, Network(copy.deepcopy(net.layers), {0}=...)"
SETTLED = {
    "backend": "is changed by net.to(backend), which moves the weights",
    "dtype": _ANEW,
    "seed": _ANEW,
    "kernels": _ANEW,
    **dict.fromkeys(("loss", "loss_prime", "optimizer", "metrics"), f"is set by {_BY_USE}"),
    "history": "records what fit has done; net.use(...) starts it afresh",
    "parameters": "are set one by one, net.parameters[path] = array, or together, net.parameters.update(arrays)",
    "slots": "are set one by one, net.slots[kind][path] = array",
    "gradients": "are those of the last backward pass",
    "progress": "counts what fit has done",
}
FRESH = {"step": 0, "epoch": 0, "position": 0}  # the updates and epochs since use(), and the steps of the current epoch


class Network(WithFiles, WithExport):
    """A neural network: layers run in order, trained by gradient descent.

    ``layers`` is a list of layers. ``backend`` is ``"cpu"`` (NumPy), ``"gpu"`` (CuPy), or any backend; ``dtype`` is
    ``"float32"`` or ``"float64"``; ``seed`` fixes the initial weights and shuffles (None draws one, kept in
    ``net.seed``); ``kernels="portable"`` runs the portable routines instead of the backend's fast ones.

    >>> from portnn import ActivationLayer, FCLayer
    >>> net = Network([FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(3, 1)], seed=1)
    >>> net.use("mse")
    >>> history = net.fit([[0.0, 1.0], [1.0, 0.0]], [[1.0], [0.0]], epochs=2, learning_rate=0.1, verbose=0)
    >>> net.predict([[0.0, 1.0]]).shape
    (1, 1)
    """

    @arguments.takes_one("Network takes one list of layers", "write Network([a, b])")
    @habits.answered
    def __init__(
        self,
        layers: Iterable[Layer] = (),
        *,
        backend: Any = "cpu",
        dtype: str = "float32",
        seed: int | None = None,
        kernels: str = "auto",
    ):
        self.turns = Turns()
        target, name = get_backend(backend), validation.dtype_name(dtype)
        kernels = arguments.check_kernels(kernels)
        self._settle(backend=target, dtype=name, kernels=kernels, seed=random.check_seed(seed))
        self.layers: list[Layer] = []
        self._arrangement = Arrangement([])  # of the layers, when their paths were last assigned
        self._settle(loss=None, loss_prime=None, optimizer=None, metrics=(), history=History())
        self._settle(progress=dict(FRESH))
        self._uses = 0  # calls of use()
        self._checked: tuple[int, ...] | None = None  # the sample shape that is known to fit the layers
        self._inference: inference.Inference | None = None
        self._transient: list[Array] = []  # arrays that passes have left in objects of a user's
        self.stop_training = False  # True: fit ends after the current step
        self.learning_rate_factor = 1.0  # multiplies the learning rate, whatever its schedule, from the next epoch on
        for layer in arguments.layer_list(layers):
            self.add(layer)

    backend: Backend
    dtype: str
    kernels: str
    seed: int
    loss: Any
    loss_prime: Any
    optimizer: OptimizerLike | None
    metrics: tuple[tuple[str, Callable[..., Any]], ...]
    history: History  # of all fits since use()
    progress: dict[str, int]
    learning_rate_factor: Any = Setting(checks.in_range(0.0))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in SETTLED and not (name == "parameters" and isinstance(value, Leaves) and value.is_set):
            raise ValueError(f"net.{name} {SETTLED[name].format(name)}")
        if name not in ("layers", "turns", *self.__dict__) and name[0] != "_" and not hasattr(type(self), name):
            if name in habits.SETTINGS:
                raise ValueError(f"a network has no {name}: {habits.SETTINGS[name]}")
            near = get_close_matches(name, [*SETTLED, "layers", "step", "epoch"], 1, 0.8)
            if near:
                raise ValueError(f"a network has no {name!r}: did you mean {near[0]!r}?")
        super().__setattr__(name, value)

    if not TYPE_CHECKING:  # for which a network would have every attribute, and could be called

        def __getattr__(self, name: str) -> Any:
            """Called for an attribute that there is not."""
            advice = habits.SETTINGS.get(name) or habits.NETWORK.get(name)
            if advice is None:
                return super().__getattribute__(name)  # raises Python's error, or once more that of a property
            raise AttributeError(f"a network has no {name}: {advice}")

        def __call__(self, *given: Any, **options: Any) -> Any:
            raise TypeError("a network is not called: write net.predict(x)")

    def _settle(self, **settings: Any) -> None:
        self.__dict__.update(settings)

    # -- building ----------------------------------------------------------------------------------------------

    @arguments.takes_one("add takes one layer", arguments.ONE_BY_ONE)
    def add(self, layer: Layer) -> None:
        """Appends a layer, whose weights exist from then on. ValueError if it does not fit the layers before it."""
        arguments.check_layer(layer)
        with self.turns.take("add"):
            self._arrange()
            take_in(self, [*self.layers, layer], [layer], None)
            self.layers.append(layer)
            self._note_layers()

    def _arrange(self, turn: Turn | None = None) -> None:
        """Assigns the layers' paths, if layers were removed, inserted or replaced since the last time."""
        if self._arrangement.holds(self.layers):
            return
        with self.turns.arranging:
            if self._arrangement.holds(self.layers):  # another thread did it meanwhile
                return
            held = self.turns.held()
            if held is not None and held is not turn and held.what == "fit":
                raise RuntimeError("the layers were changed within fit: change them before, or after it has ended")
            arrange(self, self._arrangement)
            self._note_layers()

    def _note_layers(self) -> None:
        self._arrangement = Arrangement(self.layers)
        self._checked = self._inference = None

    @habits.answered
    def use(
        self,
        loss: Any,
        loss_prime: Callable[..., Any] | None = None,
        *,
        optimizer: Any = None,
        metrics: Iterable[Any] = (),
    ) -> None:
        """Sets the loss, the optimizer and the metrics; training starts afresh (the weights stay).

        ``loss`` is a name (``"mse"``), one of portnn's functions, or a function of (y_true, y_pred) with its derivative
        ``loss_prime``. ``optimizer`` is an object such as ``SGD(0.1, momentum=0.9)``, or the lower-case name of its
        class, for the default arguments (``"adam"`` for ``Adam()``); without one, ``fit`` takes a learning rate.
        ``metrics`` are names (``"accuracy"``) or functions of (y_true, y_pred) that return one value per sample (N,).
        Raises ValueError for an unknown name (it lists the known ones), TypeError for anything else.
        """
        pair = find_pair("loss", losses.PAIRS, loss, loss_prime)
        made, found = arguments.optimizer(optimizer), arguments.metric_list(metrics, pair[0])
        with self.turns.take("use"):
            self._arrange()
            validation.check_ending(self.layers, pair[0])
            afresh: dict[str, Any] = {"_uses": self._uses + 1}
            leaves: list[Binding] = []
            for layer in self.walk():
                of_layer: dict[str, Any] = layer._training_afresh(self.step) | afresh
                leaves += [(vars(layer), name, value) for name, value in of_layer.items()]
            of_network = {"loss": pair[0], "loss_prime": pair[1], "optimizer": made, "metrics": tuple(found)} | afresh
            of_network |= {"stop_training": False, "learning_rate_factor": 1.0, "progress": dict(FRESH)}
            of_network["history"] = History({name: [] for name in ("error", *(name for name, _ in found))})
            leaves += [(vars(self), name, value) for name, value in of_network.items()]
            set_all(leaves)

    @habits.answered
    def to(self, backend: Any) -> "Network":
        """Moves the network, with its optimizer slots and counters, to another backend; returns the network.

        Raises what ``get_backend`` raises, before anything is moved.
        """
        target = get_backend(backend)
        with self.turns.take("to"):
            self._arrange()
            left = self.backend
            move(list(self.walk()), target, [(vars(self), "backend", target), (vars(self), "_inference", None)])
            if target is not left:
                left.forget(self)
        return self

    # -- training and predicting ---------------------------------------------------------------------------------

    @habits.answered
    def fit(
        self,
        x: Any,
        y: Any = None,
        epochs: int | None = None,
        learning_rate: Any = None,
        *,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        verbose: int = 1,
        check_finite: bool = True,
        validation_data: Any = None,
        validation_split: float = 0.0,
        validation_frequency: int = 1,
        callbacks: Iterable[Any] = (),
        sample_weight: Any = None,
        class_weight: Any = None,
        steps_per_epoch: int | None = None,
        resume: Any = None,
    ) -> History:
        """Trains on samples ``x`` (N, ...) with targets ``y`` (N, ...); returns the error and metrics of each epoch.

        By default it takes one sample at a time, in order, by plain gradient descent, as in the article;
        ``batch_size``, ``shuffle`` and optimizer change that. ``x`` and ``y`` are NumPy arrays, lists, or arrays of
        any library on the network's device; integers are cast, never scaled. ``learning_rate``, a number or a schedule,
        is required if ``use`` was given no optimizer.

        ``validation_data`` is (x, y) or (x, y, sample_weight); ``validation_split`` takes the last share of the samples
        instead. Error and metrics of these follow every ``validation_frequency`` epochs, as ``val_error`` and so on.
        ``sample_weight`` (N,) weighs the samples' errors; ``class_weight`` is a dict, class number to weight, or
        ``"balanced"``. ``callbacks`` are called between steps and epochs. ``steps_per_epoch`` and ``drop_last`` shorten
        an epoch: to so many steps, and by a last batch that is smaller.

        ``resume`` is the path of a ``Checkpoint``: the run goes on from its newest file as if it had never stopped, to
        ``epochs`` in all; without such a file it begins.

        ``verbose=0`` prints nothing; 1 a line per epoch, and a bar on a terminal if an epoch takes long; 2 always the
        bar. ``check_finite=False`` does not check data and error for NaN.

        Bad data or arguments raise ValueError or TypeError before any weight changes. DivergedError leaves the network
        as it was when the epoch began. Any other exception, or Ctrl-C, leaves the weights of the last whole step
        (except in layers written as in the article, which update themselves within the step).
        """
        if not self.layers:
            raise RuntimeError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
        if self.loss is None:
            raise RuntimeError('the network has no loss: call net.use("mse") before fit')
        streams = preparation.streams(x, y)
        arguments.check_complete("fit", x if streams else y, epochs, optimizer=self.optimizer)
        plan = loop.Plan(
            epochs=checks.size("epochs", epochs, 0),
            batch_size=checks.size("batch_size", batch_size),
            shuffle=checks.flag("shuffle", shuffle),
            verbose=checks.level("verbose", verbose, 2),
            check_finite=checks.flag("check_finite", check_finite),
            callbacks=arguments.callback_list(callbacks),
            validation_frequency=checks.size("validation_frequency", validation_frequency),
        )
        options = preparation.Options(
            sample_weight=sample_weight,
            class_weight=class_weight,
            split=arguments.validation_share(validation_split, validation_data),
            steps=None if steps_per_epoch is None else checks.size("steps_per_epoch", steps_per_epoch),
            drop_last=checks.flag("drop_last", drop_last),
        )
        optimizer = self._optimizer(learning_rate)
        if sample_weight is not None or class_weight is not None:
            arguments.check_takes_weights(self.loss, self.loss_prime)
        told = heard_by(progress.teller(plan.verbose))
        with self.turns.take("fit") as turn, self.backend.scope(), told:
            self._arrange(turn)
            turn.kept = Kept(list(self.walk()), self)
            validation.check_article_layers(self, plan.batch_size)
            for layer in self.walk():
                check_names(layer)
            for layer in self.layers:
                layer._freeze()
            saved = None if resume is None else self._saved(resume)
            with at_its_beginning(self, saved):
                data = preparation.training_data(self, x, y, options, plan)
            if validation_data is not None:
                plan.validation = preparation.validation_data(self, validation_data, plan)
            loop.check(self, data, optimizer, plan, saved)
            before = None if saved is None else self._restore(saved)
            return loop.train(self, data, optimizer, plan, saved, before)

    @habits.answered
    def predict(self, x: Any, *, batch_size: int = 1024) -> Any:
        """Returns the outputs (N, ...) for samples ``x`` (N, ...): NumPy for NumPy and lists, else the backend's.

        ``x`` may also be an object that is read by slices, as for ``fit``, or an iterable of batches of x. Raises
        RuntimeError for a network without layers, ValueError or TypeError for data that does not fit.
        """
        if type(batch_size) is not int or batch_size < 1:  # every microsecond counts here, as in what follows
            batch_size = checks.size("batch_size", batch_size)
        if not self.layers:
            raise RuntimeError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
        given = self.turns.given
        if given is not None and given() is not None and self.turns.held_elsewhere() is not None:
            return copy.deepcopy(self).predict(x, batch_size=batch_size)  # as it was between two steps
        if type(x) is not np.ndarray and (inputs := preparation.inputs(self, x, batch_size)) is not None:
            return validation.joined([self.predict(part, batch_size=batch_size) for part in inputs], self.backend)
        arrangement = self._arrangement
        if (  # ``_arrange`` checks the same: in the usual case its call is spared
            len(self.layers) != len(arrangement.known)
            or arrangement.composites
            or not all(map(is_, self.layers, arrangement.known))
        ):
            self._arrange()
        progress = self.progress
        before, backend = progress["step"], self.backend
        try:
            with backend.scope():
                X = validation.batch(x, backend, self.dtype, "x")
                if self._checked != X.shape[1:]:
                    validation.shapes(self.layers, X, x)
                    self._checked = tuple(X.shape[1:])
                run = self._inference or self.inference()
                if X.shape[0] <= batch_size:
                    Y = run.forward(X)
                else:
                    parts = validation.slices(X.shape[0], batch_size)
                    outputs = (run.forward(X[part, ...]) for part in parts)
                    if not run.own:  # a user's layer may return the same array each time
                        outputs = (self.backend.xp.asarray(Y, copy=True) for Y in outputs)
                    Y = self.backend.xp.concat(list(outputs))
                Y = validation.answer(Y, X, x, self.backend, run)
        except Exception:
            if self.backend is backend:
                raise
            return self.predict(x, batch_size=batch_size)  # another thread moved the network meanwhile
        if progress["step"] != before:  # another thread began to train meanwhile
            return copy.deepcopy(self).predict(x, batch_size=batch_size)
        return Y

    @habits.answered
    def predict_classes(self, x: Any, *, batch_size: int = 1024) -> Any:
        """The class number of each sample, (N, ...): the largest output of the last axis.

        With one output it is 1 where that is more than 0.5, or more than 0 where the loss takes logits.
        """
        return self._of_outputs(inference.classes(self.loss), x, batch_size)

    @habits.answered
    def predict_proba(self, x: Any, *, batch_size: int = 1024) -> Any:
        """Probabilities (N, ...) for samples ``x`` (N, ...): softmax or sigmoid of the outputs, as the loss says.

        RuntimeError for a loss that says neither: then ``predict`` returns all there is.
        """
        return self._of_outputs(inference.probabilities(self.loss), x, batch_size)

    def _of_outputs(self, function: Callable[[Array], Array], x: Any, batch_size: int) -> Any:
        """A function of what ``predict`` returns, computed on the network's device."""
        Y = self.predict(x, batch_size=batch_size)
        with self.backend.scope():
            if self.backend.owns(Y):
                return function(Y)
            return self.backend.to_numpy(function(self.backend.asarray(Y)))

    @habits.answered
    def evaluate(self, x: Any, y: Any = None, *, batch_size: int = 1024, sample_weight: Any = None) -> dict[str, float]:
        """Returns the mean error, and each metric, over samples ``x`` (N, ...) with targets ``y`` (N, ...).

        ``x`` may be an iterable of batches (x, y) or (x, y, weights), or a function that returns one, without ``y``.
        Raises RuntimeError for a network without layers or loss, ValueError or TypeError for data that does not fit.
        """
        if not self.layers:
            raise RuntimeError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
        if self.loss is None:
            raise RuntimeError('the network has no loss: call net.use("mse") before evaluate')
        streams = preparation.streams(x, y)
        arguments.check_complete("evaluate", x if streams else y)
        if streams and sample_weight is not None:
            raise ValueError(
                "sample_weight was given together with an iterable of batches: give batches (x, y, weights)"
            )
        batch_size = checks.size("batch_size", batch_size)
        if sample_weight is not None:
            arguments.check_takes_weights(self.loss, self.loss_prime)
        if self.turns.held_elsewhere() is not None:
            return copy.deepcopy(self).evaluate(x, y, batch_size=batch_size, sample_weight=sample_weight)
        self._arrange()
        before, backend = self.step, self.backend
        try:
            with backend.scope():
                found = evaluation.evaluate(self, preparation.batches(self, x, y, sample_weight, batch_size))
        except Exception:
            if self.backend is backend or sources.is_iterator(x):
                raise
            return self.evaluate(x, y, batch_size=batch_size, sample_weight=sample_weight)  # moved meanwhile
        if self.step != before:  # another thread began to train meanwhile
            if sources.is_iterator(x):
                raise RuntimeError(
                    "another thread began to train the network while evaluate read an iterator, which is read once: "
                    "give an iterable that begins anew, or evaluate a copy, copy.deepcopy(net).evaluate(batches)"
                )
            return copy.deepcopy(self).evaluate(x, y, batch_size=batch_size, sample_weight=sample_weight)
        return found

    @habits.answered
    def summary(self, input_shape: tuple[int, ...] | None = None) -> "Summary":
        """Returns a table of the layers as text: output shapes, parameters, bytes, multiply-adds for one sample.

        It needs no data. Where the first layers take samples of any shape, give ``input_shape``; "?" means unknown.

        >>> from portnn import ActivationLayer, FCLayer
        >>> Network([FCLayer(784, 100), ActivationLayer("relu"), FCLayer(100, 10)]).summary()
        layer              output shape  parameters    bytes  multiply-adds
        -------------------------------------------------------------------
        0 FCLayer          (100,)            78,500  314,000         78,400
        1 ActivationLayer  (100,)                 0        0              0
        2 FCLayer          (10,)              1,010    4,040          1,000
        -------------------------------------------------------------------
        total                                79,510  318,040         79,400
        """
        from portnn.show.summary import summary

        if input_shape is not None:
            input_shape = checks.shape("input_shape", input_shape)
        self._arrange()
        return summary(self.layers, input_shape, self.dtype)

    @habits.answered
    def diagram(self, input_shape: tuple[int, ...] | None = None) -> "Diagram":
        """Returns a drawing of the layers: ``.svg`` is its text, ``.save("net.svg")`` writes it; notebooks show it.

        Each layer is a box with its path, arguments, output shape and parameters; branches stand side by side. It needs
        no data. ``input_shape``, the shape of one sample, is for first layers that take samples of any shape, as in
        ``summary``; "?" means unknown. Raises ValueError for a shape that does not fit the layers.

        >>> from portnn import FCLayer
        >>> Network([FCLayer(2, 3)]).diagram().svg[:4]
        '<svg'
        """
        from portnn.show.diagram import diagram

        if input_shape is not None:
            input_shape = checks.shape("input_shape", input_shape)
        self._arrange()
        return diagram(self.layers, input_shape)

    @habits.answered
    def explain(self, x: Any, y: Any) -> "Explanation":
        """Returns the whole calculation of the next step on one sample: forward, error, backward, update, in numbers.

        ``x`` is one sample, with or without an axis of samples, (n,) or (1, n), and ``y`` its target. The object shows
        itself; it has ``.text``, ``.html`` (a page of its own) and ``.save(path)``, for a path that ends in ``.html``
        or ``.txt``. Of large arrays some cells are shown, and of long sums the largest terms. Each printed equation
        holds for the printed numbers. The network is not changed: not its parameters, buffers, slots, step or random
        numbers. Without an optimizer the update is shown for the article's learning rate, 0.1.

        Raises RuntimeError for a network without layers or loss; ValueError for several samples, for data that does
        not fit, and where a number of the calculation is infinite or NaN.

        >>> from portnn import FCLayer
        >>> net = Network([FCLayer(2, 1)])
        >>> net.layers[0].weights = [[0.5], [-0.25]]
        >>> net.use("mse")
        >>> print(net.explain([1.0, 2.0], [1.0]).equations[0])
        Y[0] = 1*0.5 + 2*(-0.25) + 0 = 0
        """
        if not self.layers:
            raise RuntimeError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
        if self.loss is None:
            raise RuntimeError('the network has no loss: call net.use("mse") before explain')
        from portnn.show.explain import explain

        work = copy.deepcopy(self)
        work._arrange()
        with work.backend.scope():
            return explain(work, x, y)

    # -- looking inside --------------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The number of updates made since ``use()``; schedules and dropout masks depend on it."""
        return self.progress["step"]

    @step.setter
    def step(self, value: int) -> None:
        value = checks.size("step", value, least=0)
        with self.turns.take("setting net.step"):
            for layer in self.walk():  # each parameter keeps its own number of updates
                layer._update_counts = {
                    name: (layer._updates(name, self.step), None if since is None else value)
                    for name, (_, since) in layer._update_counts.items()
                }
            self.progress["step"] = value

    @property
    def epoch(self) -> int:
        """The number of epochs since ``use()``; shuffling depends on it.

        They are those that were finished and, once a further one has begun, those that a fit left in their middle.
        """
        return self.progress["epoch"]

    @epoch.setter
    def epoch(self, value: int) -> None:
        value = checks.size("epoch", value, least=0)
        with self.turns.take("setting net.epoch"):
            self.progress.update(epoch=value, position=0)

    @property
    def parameters(self) -> Leaves:
        """All parameters by dotted path: ``net.parameters["0.weights"]``; what is assigned is checked, cast, copied."""
        return parameters_of(named(self.layers))

    @parameters.setter
    def parameters(self, value: Leaves) -> None:
        """For ``net.parameters |= {...}``, which has set them already."""

    @property
    def slots(self) -> dict[str, Leaves]:
        """The optimizer's state of each parameter: ``net.slots["velocity"]["0.weights"]``."""
        return slots_of(named(self.layers))

    @property
    def gradients(self) -> Mapping[str, Array]:
        """The gradients of the last backward pass, by the path of the parameter.

        RuntimeError within a fit whose steps are captured into a graph, unless a callback has ``reads_gradients``.
        """
        held = self.turns.held()
        if held is not None and held.captured:
            raise RuntimeError(
                "the gradients of a step that was captured into a graph cannot be read: set reads_gradients = True in "
                "the callback's class, and steps run without one"
            )
        layers = named(self.layers)
        return MappingProxyType({f"{path}.{name}": g for path, layer in layers for name, g in layer.gradients.items()})

    @property
    def bound_loss(self) -> Callable[..., Any]:
        """The loss, in the backend's fast version where there is one."""
        return bound(self.loss, self.backend, self.kernels, self.dtype, scalar=True)

    @property
    def bound_loss_prime(self) -> Callable[..., Any]:
        """The derivative of the loss, in the backend's fast version where there is one."""
        return bound(self.loss_prime, self.backend, self.kernels, self.dtype)

    def walk(self) -> Iterator[Layer]:
        """All layers in order, each followed by its children."""
        for layer in self.layers:
            yield from layer.walk()

    def refuse_beside_fit(self, what: str, instead: str, within_step: bool = False) -> None:
        """RuntimeError while another thread trains the network; ``within_step``: also within a step of this one."""
        held = self.turns.held() if within_step else None
        if held is not None and held.in_step:
            raise RuntimeError(f"{what} within a step, whose commit would undo it: do it between steps, or after fit")
        turn = self.turns.held_elsewhere()
        if turn is not None and get_ident() not in self.turns.copying:
            raise RuntimeError(f"{what} while another thread is in {turn.what} of the network: {instead}")

    def __getstate__(self) -> dict[str, Any]:
        """A copy of the network's state as it was between two steps, even while another thread trains it."""
        backend = self.backend
        with backend.scope():
            self.note_kept()
            layers = list(self.walk())
            homes: list[Any] = [self.progress, *self.history.values()]
            for layer in layers:
                homes += [layer.parameters, layer.buffers, layer._update_counts, *layer._slots_by_kind.values()]
            then = list(map(methodcaller("copy"), homes))  # one call into C
            if self.backend is not backend:  # another thread moved the network meanwhile
                return self.__getstate__()
            if self.turns.held_elsewhere() is not None and backend.name != "cpu":  # a graph writes into its arrays
                for home in then:
                    if isinstance(home, dict):
                        home.update({key: _apart(array, self.backend) for key, array in home.items()})
            derived = ("_arrangement", "_checked", "_inference")
            state = {name: value for name, value in self.__dict__.copy().items() if name not in derived}
            state["_arranged"] = self._arrangement.holds(self.layers)
            state["_own"] = [layer._network_ref is not None and layer._network_ref() is self for layer in layers]
            left = [*self._transient, *(array for layer in layers for array in layer._transient)]
            instead: dict[int, Any] = dict.fromkeys(map(id, left))
            instead |= {id(home): as_then for home, as_then in zip(homes, then, strict=True)}
            self.turns.copying.add(get_ident())
            try:
                found: dict[str, Any] = copy.deepcopy(state | {"_transient": []}, instead)
            finally:
                self.turns.copying.discard(get_ident())
        return found if self.backend is backend else self.__getstate__()

    def note_kept(self) -> None:
        """Notes what the passes of a fit that runs have left in users' objects, before these are copied or saved."""
        turn = self.turns.held()
        if turn is not None and turn.kept is not None:
            turn.kept.note()

    def __setstate__(self, state: dict[str, Any]) -> None:
        arranged, own = state.pop("_arranged"), state.pop("_own")
        self.__dict__.update(state)
        here = weakref.ref(self)
        for layer, is_own in zip(self.walk(), own, strict=True):
            if is_own:
                layer._network_ref = here
                if layer.backend is not None:
                    layer._bind(self.backend)
        self._note_layers()
        if not arranged:  # layers were put in, or moved, since the original last ran: the copy arranges them, too
            self._arrangement.forget()

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.layers))
        return f"Network([{inside}], backend={self.backend.name!r}, dtype={self.dtype!r}, seed={self.seed})"

    def _repr_html_(self) -> str | None:
        """What a notebook shows: the diagram. None, and so the text, where the layers are not in order."""
        from portnn.show.pages import network

        return network(self)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _saved(self, path: Any) -> Any:
        """What the newest checkpoint at a path holds; None if there is none."""
        from portnn.files.reading import newest, read

        found = newest(path)
        return None if found is None else read(found)

    def _restore(self, saved: Any) -> Before:
        """Makes the network what it was when a checkpoint was written; returns what it was before."""
        from portnn.files.filling import restore

        self.note_kept()  # the pass that told the shapes has left arrays in users' layers, which no file holds
        before = Before(self)
        restore(self, saved)
        for layer in self.layers:
            layer._freeze()
        return before

    def inference(self) -> inference.Inference:
        """The layers as they run now."""
        if self._inference is not None:
            return self._inference
        with self.turns.arranging:  # another thread may change the layers: those that are arranged are run
            known = self._arrangement.known
            made = inference.Inference(self, known, fusion.fuse(adapted(known), self.backend, self.kernels))
            if all(layer.complete for layer in made.all):  # otherwise only for this call
                self._inference = made
            return made

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


def _apart(array: Any, backend: Backend) -> Any:
    return backend.xp.asarray(array, copy=True) if backend.owns(array) else array
