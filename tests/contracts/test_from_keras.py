"""The tables of docs/howto/from_keras.md: both sides of each row are run, where Keras is installed, and compared.

Both run in float64. Keras computes means, normalization, tanh and the losses that are means in float32 nevertheless.
"""

import os

import numpy as np
import pytest

import portnn
from foreign_rows import tables, value_of
from portnn import SGD, ActivationLayer, FCLayer, Network, SequentialLayer

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="Keras is not installed")
TABLES = tables("from_keras.md")
pytestmark = [
    pytest.mark.skipif(not TABLES, reason="a source distribution may lack the documentation"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Keras 3.15 with NumPy 2.4
]
MODULES = ("layers", "losses", "optimizers", "metrics", "initializers", "callbacks", "ops")
THEIRS = {"keras": keras} | {name: getattr(keras, name) for name in MODULES}
OURS = {name: getattr(portnn, name) for name in portnn.__all__}
RNG = np.random.default_rng(3)


def rows(heading):
    found = TABLES.get(heading, [])
    return pytest.mark.parametrize(("theirs", "ours"), found, ids=[row[0] for row in found])


def test_the_tables_are_read():
    lengths = {heading: len(found) for heading, found in TABLES.items()}
    assert lengths == {
        "Layers": 37,
        "Losses": 13,
        "Optimizers and learning rates": 15,
        "Initial weights": 9,
        "Metrics": 6,
        "Training": 9,
        "Callbacks": 5,
        "Results, weights, files": 10,
    }


@pytest.fixture(autouse=True)
def double(monkeypatch, tmp_path):
    """float64 on both sides; files are written to a folder of the test's."""
    monkeypatch.chdir(tmp_path)
    before, policy = keras.config.floatx(), keras.config.dtype_policy()
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")  # floatx alone changes nothing once a layer was made
    keras.utils.set_random_seed(1)
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(policy)
    if keras.backend.backend() == "jax":
        jax.config.update("jax_enable_x64", False)


def near(found, expected, tolerance=1e-6):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


# -- layers ------------------------------------------------------------------------------------------------------------


def shape_of(theirs):
    flat = any(name in theirs for name in ("Dense", "Rescaling", "Softmax", "Activation", "LU", "Dropout", "Reshape"))
    return (4,) if flat else (6, 4) if "1D" in theirs else (6, 6, 4)


def made(theirs, ours):
    """The model and the network of a row, with the same weights, none of them as new ones have them."""
    shape = shape_of(theirs)
    x = keras.Input(shape)
    made = eval(theirs, THEIRS | {"x": x})
    model = keras.Model(x, made if isinstance(made, keras.KerasTensor) else made(x))
    net = Network([eval(ours, OURS)], dtype="float64")
    net.predict(np.zeros((1, *shape)))
    weights = [RNG.uniform(0.2, 1.0, w.shape) for w in model.get_weights()]
    model.set_weights(weights)
    names = iter(weights)
    for layer in net.walk():
        for home in (layer.parameters, layer.buffers):
            for name in [n for n in ("weights", "bias", "running_mean", "running_var") if n in home]:
                array = next(names).reshape(home[name].shape)
                if home is layer.parameters:
                    net.parameters[f"{layer.path}.{name}"] = array
                else:
                    home[name] = array
    assert next(names, None) is None
    return model, net, RNG.standard_normal((5, *shape))


@rows("Layers")
def test_layers(theirs, ours):
    model, net, x = made(theirs, ours)
    tolerance = 1e-5 if "Normalization" in theirs else 1e-6
    near(net.predict(x), model(x), tolerance)
    trained = np.asarray(model(x, training=True))
    here = net.layers[0].forward_propagation(x)
    if "Dropout" in theirs:
        ones = np.ones((2000, 4))
        kept = {
            tuple(np.unique(each)) for each in (model(ones, training=True), net.layers[0].forward_propagation(ones))
        }
        assert kept == {(0.0, 2.0)}
        return
    near(here, trained, tolerance)
    if "BatchNormalization" in theirs:
        _, _, mean, variance = model.get_weights()
        batch = x.reshape(-1, 4)
        share = eval(ours, OURS).momentum * batch.var(axis=0) / (len(batch) - 1)  # ours is unbiased
        near(net.layers[0].new_buffers["running_mean"], mean, tolerance)
        near(net.layers[0].new_buffers["running_var"] - share, variance, tolerance)


# -- losses, metrics, initial weights ----------------------------------------------------------------------------------


def outputs():
    """What the rows call outputs, targets, class numbers and weights."""
    labels = RNG.integers(0, 4, 12)
    names = dict(Y=RNG.standard_normal((12, 4)), T=RNG.random((12, 4)), labels=labels, hot=np.eye(4)[labels])
    return names | dict(w=RNG.uniform(0.1, 3.0, 12))


@rows("Losses")
def test_losses(theirs, ours):
    names = outputs()
    near(eval(ours, OURS | names), eval(theirs, THEIRS | names))


@rows("Metrics")
def test_metrics(theirs, ours):
    names = outputs()
    classes = "(T" not in theirs
    net = Network([SequentialLayer()], dtype="float64")
    net.use("softmax_cross_entropy" if classes else "mse", metrics=[eval(ours, OURS)])
    found = net.evaluate(names["Y"], names["labels" if classes else "T"])
    near(list(found.values())[1], eval(theirs, THEIRS | names))


@rows("Initial weights")
def test_initial_weights(theirs, ours):
    """The same spread; the largest is the same for uniform ones, and orthogonal ones are orthogonal."""
    there = np.asarray(eval(theirs, THEIRS)((300, 200)))
    here = FCLayer(300, 200, initializer=eval(ours))
    Network([here], seed=1)
    for each in (there, here.weights):
        assert abs(each.mean()) < 0.01
    assert here.weights.std() == pytest.approx(there.std(), rel=0.02)
    if "niform" in theirs:
        assert np.abs(here.weights).max() == pytest.approx(np.abs(there).max(), rel=0.001)
    if "Orthogonal" in theirs:
        near(here.weights.T @ here.weights, there.T @ there, 1e-5)


# -- training ----------------------------------------------------------------------------------------------------------


def classifiers(optimizer=None, ours=None):
    """The same classifier in both, compiled, and what the rows call its data."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8, "sigmoid"), keras.layers.Dense(4)])
    net = Network([FCLayer(3, 8), ActivationLayer("sigmoid"), FCLayer(8, 4)], dtype="float64")
    weights = [RNG.standard_normal(w.shape) for w in model.get_weights()]
    model.set_weights(weights)
    for path, array in zip(list(net.parameters), weights, strict=True):
        net.parameters[path] = array.reshape(net.parameters[path].shape)
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.5), entropy)
    net.use("softmax_cross_entropy", optimizer=ours or SGD(0.5))
    x, y = RNG.standard_normal((48, 3)), RNG.integers(0, 4, 48)
    x_test, y_test = RNG.standard_normal((20, 3)), RNG.integers(0, 4, 20)

    def batches():
        while True:
            yield from ((x[i : i + 8], y[i : i + 8]) for i in range(0, 48, 8))

    names = dict(model=model, net=net, x=x, y=y, x_test=x_test, y_test=y_test, w=RNG.uniform(0.1, 3.0, 48))
    return model, net, names | {"batches": batches}


def same_weights(net, model, tolerance=1e-6):
    for path, theirs in zip(net.parameters, model.get_weights(), strict=True):
        near(np.asarray(net.parameters[path]).reshape(theirs.shape), theirs, tolerance)


@rows("Optimizers and learning rates")
def test_optimizers(theirs, ours):
    model, net, names = classifiers(eval(theirs, THEIRS), eval(ours, OURS))
    before = model.get_weights()
    x, y = names["x"], names["y"]
    net.fit(x, y, epochs=6, batch_size=48, verbose=0)
    model.fit(x, y, epochs=6, batch_size=48, verbose=0)
    assert max(np.abs(a - b).max() for a, b in zip(before, model.get_weights(), strict=True)) > 1e-3
    alike = "SGD" in theirs or "epsilon=1e-12" in ours  # where epsilon does not count
    same_weights(net, model, 1e-6 if alike else 1e-4)


@rows("Training")
def test_training(theirs, ours):
    model, net, names = classifiers()
    before = model.get_weights()
    there = value_of(theirs, THEIRS | names)
    here = value_of(ours, OURS | names)
    assert max(np.abs(a - b).max() for a, b in zip(before, model.get_weights(), strict=True)) > 1e-3
    same_weights(net, model)
    if hasattr(there, "history"):
        renamed = {name.replace("loss", "error"): values for name, values in there.history.items()}
        for name, values in renamed.items():
            found = [value for value in here[name] if not np.isnan(value)]
            near(found, values)


@rows("Callbacks")
def test_callbacks(theirs, ours):
    model, net, names = classifiers()
    options = dict(batch_size=9, epochs=25, validation_split=0.25, verbose=0)
    there = model.fit(names["x"], names["y"], shuffle=False, callbacks=[eval(theirs, THEIRS)], **options)
    here = net.fit(names["x"], names["y"], callbacks=[eval(ours, OURS)], **options)
    near(here["val_error"], there.history["val_loss"])
    assert ("EarlyStopping" in theirs) == (len(here["val_error"]) < 25)
    same_weights(net, model)
    if "ReduceLR" in theirs:
        near(here["learning_rate"], there.history["learning_rate"])
        assert here["learning_rate"][-1] < 0.5
    if "Checkpoint" in theirs:
        best = keras.saving.load_model("best.keras", compile=False).predict(names["x"], verbose=0)
        near(portnn.load("best.portnn.safetensors").predict(names["x"]), best)
        assert np.abs(best - model.predict(names["x"], verbose=0)).max() > 1e-3


@rows("Results, weights, files")
def test_results(theirs, ours):
    _, _, names = classifiers()
    near(value_of(ours, OURS | names), value_of(theirs, THEIRS | names))
