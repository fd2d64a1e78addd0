"""Habits from Keras, PyTorch or scikit-learn: they work, or the error says what to write instead."""

import copy
import inspect
import pickle
import re
import warnings

import numpy as np
import pytest

import portnn
from portnn import (
    SGD,
    ActivationLayer,
    Adam,
    BatchNormLayer,
    Callback,
    Checkpoint,
    ConvLayer,
    CosineDecay,
    CSVLogger,
    DropoutLayer,
    EarlyStopping,
    FCLayer,
    FlattenLayer,
    History,
    MaxPoolLayer,
    Network,
    OneCycle,
    ReduceLROnPlateau,
    RMSprop,
    TimeLimit,
    to_categorical,
)
from portnn.arguments import OPTIMIZERS
from portnn.habits import ARGUMENTS, EXPORTS, NETWORK
from portnn.layers.pool_windows import PoolLayer
from portnn.optimizers import Optimizer
from portnn.training import ResumeWarning

X = np.random.default_rng(0).standard_normal((20, 4))
C = (X[:, 0] > 0).astype(int)


def network(**options):
    net = Network([FCLayer(4, 3), ActivationLayer("tanh"), FCLayer(3, 2)], seed=1)
    net.use("softmax_cross_entropy", **{"optimizer": "adam", "metrics": ["accuracy"], **options})
    return net


def fit(*given, **options):
    return network().fit(*(given or (X, C)), **{"epochs": 1, "batch_size": 5, "verbose": 0, **options})


def refused(call, kind, words):
    with pytest.raises(kind) as caught:
        call()
    said = caught.value.args[0]
    assert words in said
    assert "unexpected keyword" not in said
    assert caught.value.__cause__ is None
    return said


# -- arguments ---------------------------------------------------------------------------------------------------------

RENAMED = [
    (fit, "validation_freq", "validation_frequency"),
    (fit, "lr", "learning_rate"),
    (fit, "n_epochs", "epochs"),
    (fit, "max_iter", "epochs"),
    (fit, "X", "x"),
    (fit, "Y", "y"),
    (fit, "sample_weights", "sample_weight"),
    (fit, "callback", "callbacks"),
    (fit, "eval_set", "validation_data"),
    (fit, "ckpt_path", "resume"),
    (lambda **given: network().use("mse", **given), "metric", "metrics"),
    (lambda **given: network().evaluate(X, C, **given), "sample_weights", "sample_weight"),
    (lambda **given: network().to(**given), "device", "backend"),
    (lambda **given: network().save(**given), "filepath", "path"),
    (lambda **given: portnn.load("none", **given), "custom_objects", "layers"),
    (lambda **given: Network([], **given), "random_state", "seed"),
    (lambda **given: to_categorical(C, **given), "num_classes", "classes"),
    (lambda **given: portnn.load_mnist(**given), "root", "folder"),
    (EarlyStopping, "restore_best_weights", "restore_best"),
    (EarlyStopping, "n_iter_no_change", "patience"),
    (ReduceLROnPlateau, "min_lr", "least"),
    (Checkpoint, "filepath", "path"),
    (lambda **given: Checkpoint("a", **given), "save_top_k", "keep"),
    (CSVLogger, "filename", "path"),
    (TimeLimit, "max_time", "seconds"),
    (Adam, "lr", "learning_rate"),
    (SGD, "eta0", "learning_rate"),
    (RMSprop, "rho", "decay"),
    (lambda **given: CosineDecay(0.1, **given), "decay_steps", "steps"),
    (OneCycle, "max_lr", "peak"),
    (FCLayer, "units", "output_size"),
    (FCLayer, "use_bias", "bias"),
    (lambda **given: ConvLayer((5, 5, 1), **given), "kernel_size", "kernel_shape"),
    (lambda **given: MaxPoolLayer(2, **given), "strides", "stride"),
    (DropoutLayer, "p", "rate"),
    (BatchNormLayer, "eps", "epsilon"),
]


@pytest.mark.parametrize(("call", "foreign", "ours"), RENAMED)
def test_an_argument_of_another_name(call, foreign, ours):
    refused(lambda: call(**{foreign: 1}), TypeError, f"{foreign!r}: it is called {ours} here")


ADVISED = [
    (lambda: fit(validation_steps=2), "all of validation_data is used"),
    (lambda: fit(validation_batch_size=2), "validation chooses its batches itself"),
    (lambda: fit(initial_epoch=2), "resume=path"),
    (lambda: fit(workers=2), "are read ahead in any case"),
    (lambda: fit(max_queue_size=2), "are read ahead in any case"),
    (lambda: fit(metrics=["acc"]), "net.use(loss, optimizer=..., metrics=[...]) sets it"),
    (lambda: fit(optimizer="adam"), "net.use(loss, optimizer=..., metrics=[...]) sets it"),
    (lambda: Network(loss="mse"), "net.use(loss, optimizer=..., metrics=[...]) sets it"),
    (lambda: fit(early_stopping=True), "callbacks=[EarlyStopping(patience=3)]"),
    (lambda: fit(random_state=1), "Network(layers, seed=1)"),
    (lambda: network().predict_classes(X, verbose=0), "it prints nothing; leave it out"),
    (lambda: network().predict(X, verbose=0), "it prints nothing; leave it out"),
    (lambda: network().predict(X, 32), "name the others, batch_size=..."),
    (lambda: network().evaluate(X, C, verbose=0), "it prints nothing; leave it out"),
    (lambda: network().evaluate(X, C, return_dict=True), "it always returns a dict; leave it out"),
    (lambda: network().use("mse", lr=0.1), "write optimizer=Adam(0.001)"),
    (lambda: network().save("a", overwrite=True), "a file that exists is replaced"),
    (lambda: EarlyStopping(start_from_epoch=3), "give more patience"),
    (lambda: EarlyStopping(verbose=1), "leave it out"),
    (lambda: ReduceLROnPlateau(cooldown=2), "give more patience"),
    (lambda: ReduceLROnPlateau(mode="max"), 'callback.mode = "max"'),
    (lambda: ReduceLROnPlateau(min_delta=0.1), "callback.min_delta = 0.001"),
    (lambda: Checkpoint("a", save_best_only=True), 'monitor="val_error"'),
    (lambda: Checkpoint("a", save_weights_only=True), "net.load_weights(path)"),
    (lambda: Checkpoint("a", save_freq=3), 'every=100, unit="step"'),
    (lambda: CSVLogger("a", append=True), "resume=path"),
    (lambda: Adam(eps=1e-8), "did you mean 'epsilon'?"),
    (lambda: SGD(clipnorm=1.0), "did you mean 'clip_norm'?"),
    (lambda: Adam(decay=0.1), "ExponentialDecay("),
    (lambda: FCLayer(4, 2, activation="relu"), 'ActivationLayer("relu")'),
    (lambda: FlattenLayer(input_shape=(2, 2)), "leave it out"),
    (lambda: fit(validaton_split=0.2), "did you mean 'validation_split'?"),
    (lambda: EarlyStopping(pateince=3), "did you mean 'patience'?"),
    (lambda: network().predict_proba(X, batchsize=3), "did you mean 'batch_size'?"),
    (lambda: fit(nonsense=1), "fit has no argument 'nonsense'. Its arguments are: x, y, epochs, learning_rate, batch"),
    (
        lambda: EarlyStopping("val_error", 3),
        "takes monitor by position, got 2 arguments: name the others, patience=...",
    ),
    (lambda: fit(X, C, 1, 0.1, 32), "takes x, y, epochs, learning_rate by position, got 5 arguments: name the others"),
    (lambda: network().evaluate(X, C, 32), "name the others, batch_size=..., sample_weight=..."),
    (lambda: Adam(0.1, 0.9), "name the others, beta1=..."),
    (lambda: BatchNormLayer(8), "takes nothing by position"),
    (lambda: network().save(), "missing 1 required positional argument: 'path'"),
    (lambda: fit(X, C, y=C), "multiple values for argument 'y'"),
    (lambda: network().use("mse", "adam"), "use(loss, optimizer=..., metrics=[...])"),
    (lambda: fit(verbose="auto"), "verbose must be True, False or a number from 0 to 2, got 'auto'"),
    (lambda: fit(batch_size=None), "batch_size must be a whole number, got None"),
    (lambda: fit(resume=True), "resume must be a file's path, got True"),
    (lambda: network().load_weights({}), "path must be a file's path, got {}"),
    (lambda: fit(callbacks=EarlyStopping("error")), "callbacks=[EarlyStopping(...)]"),
    (lambda: fit(callbacks=[EarlyStopping]), "write EarlyStopping(...)"),
    (lambda: fit(X, np.array(["cat", "dog"])[C]), "np.unique(y, return_inverse=True)[1]"),
    (lambda: fit(validation_data={"x": X, "y": C}), "must be (x, y) or (x, y, sample_weight)"),
    (lambda: fit([[X, C], [X, C]]), "[tuple(batch) for batch in batches]"),
    (lambda: fit(list(zip(X, C, strict=True))), "x, y = zip(*pairs)"),
    (lambda: fit([X, C]), "fit needs the targets y"),
]


@pytest.mark.parametrize(("call", "words"), ADVISED)
def test_a_call_that_is_told_what_to_write(call, words):
    refused(call, TypeError, words)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit(class_weight=[1.0, 2.0]), "dict(enumerate(class_weight))"),
        (lambda: fit(class_weight=np.ones(2)), "dict(enumerate(class_weight))"),
        (lambda: fit(sample_weight=np.ones((20, 1))), "give numpy.ravel(sample_weight)"),
        (lambda: fit(callbacks=[EarlyStopping("val_loss")]), "did you mean 'val_error'? Give fit validation_data"),
        (lambda: fit(callbacks=[EarlyStopping("loss")]), "did you mean 'error'?"),
        (lambda: fit(callbacks=[EarlyStopping("f1")]), "metrics=["),
        (lambda: EarlyStopping("error", mode="maximum"), "did you mean 'max'?"),
        (lambda: network().use("adam", optimizer="mse"), 'did you mean use(loss, optimizer="adam")?'),
        (lambda: network().use("log_loss"), "did you mean 'softmax_cross_entropy'?"),
        (lambda: network(metrics=["recall_score"]), "did you mean 'recall'?"),
        (lambda: network(metrics=["auc"]), "known: accuracy"),
        (lambda: network(optimizer="rprop"), f"known: {', '.join(OPTIMIZERS)}. Or"),
    ],
)
def test_a_value_that_is_told_what_to_write(call, words):
    refused(call, ValueError, words)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: FCLayer(4, 3, bias_initializer="zeros"), "biases start at zero; leave it out"),
        (lambda: portnn.ConvLayer((8, 8, 1), (3, 3), 4, data_format="channels_last"), "channels last; leave it out"),
        (lambda: BatchNormLayer(center=True), "it scales and shifts in any case; leave it out"),
        (lambda: portnn.SoftmaxCrossEntropy(from_logits=True), "y_pred are logits in any case; leave it out"),
        (lambda: portnn.RMSprop(alpha=0.9), "it is called decay here"),
        (lambda: portnn.ExponentialDecay(0.1, 0.9, staircase=True), "StepDecay(0.1, every=100, factor=0.9)"),
        (lambda: network().export("net.onnx", format="onnx"), "the ending says it"),
        (lambda: network().export("net.onnx", opset=18), "onnx.export(net, path, opset=18)"),
        (lambda: Network(inputs=1, outputs=2), "ParallelLayer and ResidualLayer have branches"),
    ],
)
def test_an_argument_of_keras(call, words):
    refused(call, TypeError, words)


def test_what_is_advised_works():
    weights, pairs = [1.0, 2.0], list(zip(X, C, strict=True))
    fit(class_weight=dict(enumerate(weights)))
    fit(sample_weight=np.ones((20, 1)).reshape(-1))
    x, y = zip(*pairs, strict=True)
    assert fit(x, y) == fit()
    assert fit([tuple(batch) for batch in [[X, C], [X, C]]], batch_size=1)["error"]
    plateau = ReduceLROnPlateau("error", patience=1)
    plateau.mode = "max"
    plateau.min_delta = 0.001
    history = fit(epochs=3, callbacks=[plateau])
    assert (
        history["learning_rate"][-1] < history["learning_rate"][0]
    )  # the error decreases, which is no improvement in mode "max"


def test_habits_that_work():
    assert fit(verbose=False) == fit(verbose=True)
    assert fit(X, to_categorical(C)).keys() == fit().keys()
    for held_out in ([X, C], (X, C), [(X, C)]):
        assert "val_error" in fit(validation_data=held_out)
    net = network()
    assert net.fit(X.tolist(), C.tolist(), epochs=1, batch_size=5, verbose=0) == fit()
    assert np.argmax(net.predict(X), axis=1).shape == (20,)


# -- a network's attributes, the history -------------------------------------------------------------------------------

ATTRIBUTES = {
    "compile": "net.use(loss, optimizer=..., metrics=[...])",
    "train": "net.fit(x, y, epochs=10)",
    "eval": "fit trains and predict does not",
    "score": "net.evaluate(x, y)",
    "predict_on_batch": "net.predict(x)",
    "train_on_batch": "net.fit(x, y, epochs=1, batch_size=len(x), verbose=0)",
    "save_weights": "net.save(path)",
    "get_weights": 'net.parameters["0.weights"]',
    "set_weights": "net.parameters.update({path: array})",
    "state_dict": "net.save(path)",
    "load_state_dict": "net.load_weights(path)",
    "zero_grad": "leave it out",
    "lr": "net.optimizer.learning_rate",
    "to_onnx": "net.export(path)",
    "cuda": 'net.to("gpu")',
}


@pytest.mark.parametrize(("name", "words"), ATTRIBUTES.items())
def test_a_method_of_another_library(name, words):
    net = network()
    assert not hasattr(net, name)
    assert getattr(net, name, 3) == 3
    refused(lambda: getattr(net, name), AttributeError, words)


def test_a_network_and_its_parameters_are_not_called():
    net = network()
    refused(lambda: net(X), TypeError, "write net.predict(x)")
    refused(lambda: net.parameters(), TypeError, "parameters[path], without ()")
    refused(lambda: Adam(net.parameters), TypeError, "an optimizer is given no parameters")


class Mine(Network):
    score = 7

    @property
    def broken(self):
        return self.seed.nothing


def test_other_attributes_are_as_without_the_answers():
    net = Mine([FCLayer(4, 2)], seed=1)
    assert net.score == 7
    with pytest.raises(AttributeError, match="'int' object has no attribute 'nothing'"):
        net.broken  # noqa: B018
    with pytest.raises(AttributeError, match="'Mine' object has no attribute 'predit'") as caught:
        net.predit  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("predit", net)  # Python uses these to suggest "predict"
    for other in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(other.predict(X), net.predict(X))
    net.device = "here"
    assert net.device == "here"


def test_values_of_the_history():
    history = fit()
    said = refused(lambda: history["loss"], KeyError, "did you mean 'error'?")
    assert said.startswith("there is no value 'loss'; there are error, accuracy")
    refused(lambda: history["acc"], KeyError, "did you mean 'accuracy'?")
    refused(
        lambda: history["val_loss"], KeyError, "did you mean 'val_error'? Give fit validation_data or validation_split"
    )
    refused(lambda: history["val_accuracy"], KeyError, ": give fit validation_data or validation_split")
    refused(lambda: history["f1"], KeyError, 'net.use(loss, metrics=["accuracy"])')
    refused(
        lambda: fit(validation_split=0.2)["val_loss"], KeyError, "error, accuracy, val_error, val_accuracy; did you"
    )
    refused(lambda: history.history["loss"], AttributeError, "write history['error']")
    refused(lambda: history.loss, AttributeError, "write history['error']")
    assert history.get("loss") is None
    assert not hasattr(history, "history")
    for other in (copy.copy(history), copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert type(other) is History
        assert other == history


def test_values_of_evaluate():
    found = network().evaluate(X, C)
    assert list(found) == ["error", "accuracy"]
    assert repr(found) == repr(dict(found))
    refused(lambda: found["loss"], KeyError, "did you mean 'error'?")
    refused(lambda: found[0], KeyError, "there is no value 0; there are error, accuracy")


# -- callbacks ---------------------------------------------------------------------------------------------------------


def test_methods_without_the_network():
    seen = []

    class Keras(Callback):
        def on_fit_begin(self, logs=None):
            seen.append(("begin", logs))

        def on_epoch_begin(self, epoch, logs=None):
            seen.append(("epoch", epoch, logs))

        def on_step_end(self, batch, logs=None):
            seen.append(("step", batch, logs))

        def on_epoch_end(self, epoch, logs=None):
            seen.append(("end of epoch", epoch, sorted(logs)))

        def on_fit_end(self, logs=None):
            seen.append(("end", logs))

    fit(callbacks=[Keras()], batch_size=10)
    assert seen == [
        ("begin", None),
        ("epoch", 1, None),
        ("step", 1, None),
        ("step", 2, None),
        ("end of epoch", 1, ["accuracy", "error"]),
        ("end", None),
    ]


def test_a_method_that_does_not_take_what_it_is_called_with():
    short = type("Short", (Callback,), {"on_epoch_end": lambda self, network, epoch: None})
    long = type("Long", (Callback,), {"on_step_end": lambda self, step, loss, logs: None})
    words = "Short.on_epoch_end takes (self, network, epoch), but fit gives it (network, epoch, logs): write def"
    refused(lambda: fit(callbacks=[short()]), TypeError, words)
    refused(lambda: fit(callbacks=[long()]), TypeError, "write def on_step_end(self, network, step)")
    refused(lambda: short().model, AttributeError, "on_epoch_end(self, network, epoch, logs)")
    assert not hasattr(short(), "anything")
    free = type("Free", (Callback,), {"on_epoch_end": lambda self, *given: None})
    fit(callbacks=[free()])


def test_the_values_of_an_epoch():
    class Reads(Callback):
        def on_epoch_end(self, network, epoch, logs):
            logs["val_loss"]

    refused(lambda: fit(callbacks=[Reads()], validation_split=0.2), KeyError, "did you mean 'val_error'?")


# -- names to import ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Dense", "portnn has no Dense: it is called FCLayer here"),
        ("Sequential", "it is called Network here"),
        ("ModelCheckpoint", "it is called Checkpoint here"),
        ("load_model", "it is called load here"),
        ("CrossEntropyLoss", "it is called softmax_cross_entropy here"),
        ("StandardScaler", "subtract the mean"),
        ("ReLU", "ActivationLayer('relu')"),
        ("DepthwiseConv2D", r"groups=C"),
        ("Conv2DTranspose", "UpsampleLayer(2), ConvLayer(...)"),
        ("Lambda", "a layer of your own from Layer"),
        ("GlorotUniform", "FCLayer(4, 3, initializer='glorot_uniform')"),
        ("L2", "weight_decay=0.01"),
        ("sparse_categorical_crossentropy", "it is called softmax_cross_entropy here"),
        ("PiecewiseConstantDecay", "any function of the step"),
        ("InferenceSession", "onnx.load(path)"),
        ("clone_model", "copy.deepcopy(net)"),
        ("nonsense", "cannot import name 'nonsense' from 'portnn'"),
    ],
)
def test_a_name_to_import(name, words):
    refused(lambda: exec(f"from portnn import {name}"), ImportError, words)
    assert not hasattr(portnn, name)
    with pytest.raises(AttributeError, match=f"no (attribute ')?{name}"):
        getattr(portnn, name)


def test_names_of_layers():
    refused(lambda: exec("from portnn.layers import Dense"), ImportError, "portnn.layers has no Dense")
    refused(lambda: exec("from portnn.layers import MSELoss"), ImportError, "cannot import name 'MSELoss'")


# -- the tables of answers ---------------------------------------------------------------------------------------------


BASES = {"Layer": portnn.Layer, "Optimizer": Optimizer, "PoolLayer": PoolLayer}


def arguments_of(call):
    """The arguments of a method, a function or a class; for a base class, those of all classes derived from it."""
    if call == "NetworkEstimator":
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
        return set(inspect.signature(portnn.sklearn.NetworkClassifier).parameters)
    if call not in BASES:
        return set(inspect.signature(getattr(Network, call, None) or getattr(portnn, call)).parameters)
    made = [each for each in vars(portnn).values() if isinstance(each, type) and issubclass(each, BASES[call])]
    return {name for each in [*made, BASES[call]] for name in inspect.signature(each).parameters}


@pytest.mark.parametrize("call", ARGUMENTS)
def test_each_answer_names_an_argument(call):
    known = arguments_of(call)
    for foreign, ours in ARGUMENTS[call].items():
        assert ours in known or not ours.isidentifier(), f"{foreign}: {ours}"
        assert call in BASES or foreign not in known


def test_each_answer_to_an_import_names_what_there_is():
    for foreign, ours in EXPORTS.items():
        assert foreign not in vars(portnn), f"portnn now has {foreign}: remove it from EXPORTS in portnn/habits.py"
        assert ours in portnn.__all__ or not ours.isidentifier(), f"{foreign}: {ours}"
        for name in re.findall(r"\b[A-Z]\w+(?:Layer|Decay|Logger)\b", ours):
            assert name in portnn.__all__
    lacking = [kind.__name__ for kind in OPTIMIZERS.values() if kind.__name__ not in EXPORTS["LBFGS"]]
    assert not lacking, f"_OPTIMIZERS in portnn/habits.py lacks {lacking}"


def test_no_attribute_is_answered_that_a_network_has():
    net = network()
    assert [name for name in NETWORK if hasattr(net, name)] == []
    for advice in NETWORK.values():
        for name in re.findall(r"net\.(\w+)", advice):
            assert hasattr(net, name), advice


# -- what the checks of arguments must not change ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "made", [EarlyStopping("error"), Adam(0.1), CosineDecay(0.1, 5), portnn.Huber(2.0), DropoutLayer(0.5)]
)
def test_copies_and_pickles_of_what_is_checked_when_it_is_made(made):
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert type(other) is type(made)


def test_a_class_of_a_users_takes_what_it_says():
    class Patient(EarlyStopping):
        def __init__(self, verbose):
            super().__init__("error", patience=verbose)

    assert Patient(verbose=3).patience == 3


def test_errors_within_a_call_are_its_own():
    def failing(y_true, y_pred):
        raise TypeError("of the user's")

    net = network(metrics=[failing])
    with pytest.raises(TypeError, match=r"^of the user's$"):
        net.evaluate(X, C)


def test_a_warning_of_a_resumed_run_shows_the_line_of_fit(tmp_path, monkeypatch):
    path = tmp_path / "run"
    fit(callbacks=[Checkpoint(path)])
    monkeypatch.setattr("portnn.files.environment.differences", lambda *_: ["another machine"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResumeWarning)
        fit(epochs=2, callbacks=[Checkpoint(path)], resume=path)
    assert [warning.filename for warning in caught] == [__file__]
