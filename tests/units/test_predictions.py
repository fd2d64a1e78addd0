"""predict with row sources and iterables, predict_classes and predict_proba for each loss, common arguments of fit."""

import numpy as np
import pytest

from array_libraries import strict_backend
from cases import LOSSES
from portnn import SGD, EarlyStopping, FCLayer, FlattenLayer, Huber, Network, ReshapeLayer, losses
from portnn.activations import sigmoid, softmax
from replay import ReplayBackend
from rows import KINDS, Rows

X = np.random.default_rng(0).standard_normal((20, 4))


def network(outputs=3, loss="mse", sample=(), backend="cpu", dtype="float64", optimizer=None, metrics=()):
    last = [ReshapeLayer(sample)] if sample else []
    net = Network([FCLayer(4, outputs), *last], seed=1, dtype=dtype, backend=backend)
    if loss is not None:
        net.use(loss, optimizer=optimizer or SGD(0.1), metrics=metrics)
    return net


# -- rows and iterables ------------------------------------------------------------------------------------------------


def parts(size=7):
    return [X[i : i + size] for i in range(0, len(X), size)]


class Loader:
    def __iter__(self):
        return iter(parts())


FORMS = {
    "a generator": lambda: (x for x in parts()),
    "a function": lambda: parts,
    "an iterable": Loader,
    "lists": lambda: (x.tolist() for x in parts()),
    **{name: (lambda kind=kind: kind(X)) for name, kind in KINDS.items()},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "binary_cross_entropy"])
def test_all_that_predict_takes(form, loss):
    net = network(loss=loss)
    for method in (net.predict, net.predict_classes, net.predict_proba):
        found = method(FORMS[form](), batch_size=7)
        assert type(found) is np.ndarray
        assert np.array_equal(found, method(X, batch_size=7))


def test_a_generator_of_one_array_filled_again():
    def refilled():
        x = np.empty((5, 4))
        for start in range(0, 20, 5):
            x[:] = X[start : start + 5]
            yield x

    for layer in (FCLayer(4, 3), FlattenLayer()):
        net = Network([layer], dtype="float64", seed=1)
        assert np.array_equal(net.predict(refilled()), net.predict(X, batch_size=5))


def test_layers_of_a_network_are_read_by_batches():
    rows = Rows(X)
    network().predict(rows, batch_size=8)
    assert rows.reads == [8, 8, 4]
    assert network().predict(Rows(X[:0])).shape == (0, 3)


def failing():
    yield X[:2]
    raise OSError("the disk is gone")


WRONG = {
    "with targets": ([(X, X)].__iter__(), TypeError, r"a tuple of 2: write predict\(x for x, \*_ in batches\)"),
    "no batch": (iter(()), ValueError, "x is an iterable of batches, but it gave none: there is nothing to predict"),
    "no iterable": (lambda: 5, TypeError, "x is a function, which must return an iterable of batches, got 5"),
    "single numbers": (iter([1.0]), TypeError, r"\(list_iterator\): make a list of it first, list\(x\)"),
    "another shape": (iter([X, X[:, :2]]), ValueError, r"x has samples of shape \(2,\)"),
    "an error": (failing(), OSError, "the disk is gone"),
    "rows of another shape": (Rows(X[:, :2]), ValueError, r"x has samples of shape \(2,\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_predict_refuses(name):
    given, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        network().predict(given)


# -- classes and probabilities -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize(("outputs", "sample"), [(3, ()), (1, ()), (6, (2, 3)), (2, (2, 1)), (3, (1, 3))])
def test_every_loss(case, outputs, sample):
    net = network(outputs, case.given, sample)
    Y, name = net.predict(X), getattr(case.given, "__name__", repr(case.given))
    classes = net.predict_classes(X)
    if Y.shape[-1] > 1:
        expected = Y.argmax(axis=-1)
    else:
        expected = (Y[..., 0] > (0.0 if losses.takes_logits(case.loss) else 0.5)).astype(int)
    assert classes.dtype == np.int64
    assert classes.shape == Y.shape[:-1]
    assert np.array_equal(classes, expected)
    if "oftmax" in name:
        assert np.allclose(net.predict_proba(X), softmax(Y), rtol=1e-13)
        assert np.allclose(net.predict_proba(X).sum(axis=-1), 1.0)
    elif name == "'binary_cross_entropy'":
        assert np.allclose(net.predict_proba(X), sigmoid(Y), rtol=1e-13)
    else:
        with pytest.raises(RuntimeError, match=r"the network has the loss \w+, which does not say what its outputs"):
            net.predict_proba(X)


def test_a_network_without_a_loss():
    net = network(loss=None)
    assert np.array_equal(net.predict_classes(X), net.predict(X).argmax(axis=-1))
    with pytest.raises(RuntimeError, match="the network has no loss, which does not say what its outputs mean"):
        net.predict_proba(X)
    with pytest.raises(RuntimeError, match=r"the loss Huber,.* predict\(x\) returns the outputs"):
        network(loss=Huber()).predict_proba(X)
    with pytest.raises(RuntimeError, match="the network has no layers"):
        Network().predict_classes(X)


@pytest.mark.parametrize("backend", [ReplayBackend(), strict_backend()], ids=["replay", "strict"])
def test_device_arrays(backend):
    for outputs in (3, 1):
        for loss in ("softmax_cross_entropy", "binary_cross_entropy"):
            net, host = network(outputs, loss, backend=backend), network(outputs, loss)
            on_device = backend.asarray(X)
            for name in ("predict", "predict_classes", "predict_proba"):
                found, expected = getattr(net, name)(on_device), getattr(host, name)(X)
                assert backend.owns(found), name
                assert np.allclose(backend.to_numpy(found), expected, rtol=1e-12), name
                given = getattr(net, name)(X)
                assert type(given) is np.ndarray
                assert np.array_equal(given, backend.to_numpy(found))
                assert type(getattr(net, name)(X.tolist())) is np.ndarray


# -- common arguments of fit -------------------------------------------------------------------------------------------

LABELS = np.arange(20) % 3
WORDS = np.array(["cat", "dog", "cow"])[LABELS]

HABITS = {
    "y as strings": (dict(y=WORDS), TypeError, r"y must be real numbers.*np.unique\(y, return_inverse=True\)\[1\]"),
    "y as a list of strings": (dict(y=list(WORDS)), TypeError, r"y must be real numbers.*np.unique\(y"),
    "y as a column": (dict(y=LABELS[:, None]), ValueError, r"class numbers must have shape \(N,\).* numpy\.ravel\(y\)"),
    "y as floats": (dict(y=LABELS / 1.0), ValueError, r"give y.astype\(int\), or one-hot rows"),
    "y left out": (dict(y=None), TypeError, r"fit needs the targets y: write net.fit\(x, y, epochs=10"),
    "epochs left out": (dict(epochs=None), TypeError, "fit needs the number of epochs"),
    "epochs as a float": (
        dict(epochs=2.0),
        TypeError,
        r"epochs must be a whole number, got 2.0 .*write int\(2.0\), or 2",
    ),
    "batch_size as a float": (dict(batch_size=2.5), TypeError, "batch_size must be a whole number, got 2.5"),
    "batch_size None": (dict(batch_size=None), TypeError, "batch_size must be a whole number, got None"),
    "class_weight of words": (dict(class_weight={"a": 1}), TypeError, "a class of class_weight must be a whole number"),
    "class_weight as a list": (dict(class_weight=[1, 2, 3]), ValueError, 'class_weight must be a dict or "balanced"'),
    "sample_weight balanced": (dict(sample_weight="balanced"), TypeError, "sample_weight must be real numbers"),
    "validation_data alone": (
        dict(validation_data=X),
        TypeError,
        r"validation_data must be \(x, y\) or .* got ndarray",
    ),
    "validation_data of one": (dict(validation_data=(X,)), TypeError, r"validation_data must be .* got tuple of 1"),
    "a dict of validation": (dict(validation_data={"x": X}), TypeError, r"validation_data must be .* got dict"),
    "both validations": (dict(validation_data=(X, LABELS), validation_split=0.2), ValueError, "give one of the two"),
    "a whole split": (dict(validation_split=1.0), ValueError, r"validation_split must be in \[0, 1\)"),
    "a split of all": (dict(validation_split=0.999), ValueError, "leaves 0 of 20 samples to train with and 20 to"),
    "a split of a percentage": (dict(validation_split=20), ValueError, r"validation_split must be in \[0, 1\)"),
    "a callback's class": (
        dict(callbacks=[EarlyStopping]),
        TypeError,
        r"callbacks holds the class EarlyStopping: write",
    ),
    "one callback": (dict(callbacks=EarlyStopping()), TypeError, "callbacks must be a list, got one callback"),
    "a function as callback": (dict(callbacks=[print]), TypeError, "a callback derives from portnn.Callback"),
    "None as callbacks": (dict(callbacks=None), TypeError, "callbacks must be a list, got None"),
    "steps_per_epoch 0": (dict(steps_per_epoch=0), ValueError, "steps_per_epoch must be 1 or more"),
    "steps_per_epoch a float": (dict(steps_per_epoch=2.5), TypeError, "steps_per_epoch must be a whole number"),
    "validation_frequency 0": (dict(validation_frequency=0), ValueError, "validation_frequency must be 1 or more"),
}


@pytest.mark.parametrize("name", HABITS)
def test_habits_that_are_refused(name):
    options, error, words = HABITS[name]
    net = network(loss="softmax_cross_entropy")
    before = {path: np.array(a) for path, a in net.parameters.items()}
    given = dict(x=X, y=LABELS, epochs=1, batch_size=4, verbose=0) | options
    with pytest.raises(error, match=words):
        net.fit(**given)
    assert net.step == 0
    assert all(np.array_equal(net.parameters[path], a) for path, a in before.items())


def fit(**options):
    net = network(loss="softmax_cross_entropy", metrics=["accuracy"])
    return net.fit(**dict(x=X, y=LABELS, epochs=2, batch_size=4, verbose=0) | options)


@pytest.mark.parametrize(
    "options",
    [
        dict(validation_data=[X, LABELS]),
        dict(validation_data=(X.tolist(), LABELS.tolist())),
        dict(validation_data=[(X, LABELS)]),
        dict(validation_data=((X, LABELS), (X, LABELS))[0]),
        dict(validation_data=(X, LABELS), y=LABELS.tolist(), x=X.tolist()),
        dict(validation_data=[X, LABELS, [1] * 20], sample_weight=[1] * 20),
        dict(validation_data=(X, LABELS, None), sample_weight=[1.0] * 20),
        dict(validation_data=(X, LABELS), class_weight={0: 1, 1: 1.0, 2: np.float32(1)}),
        dict(validation_data=(X, np.eye(3)[LABELS]), y=np.eye(3, dtype=int)[LABELS]),
        dict(validation_data=(X, LABELS), callbacks=()),
        dict(validation_data=(X, LABELS), batch_size=np.int64(4), epochs=np.uint8(2)),
    ],
)
def test_habits_that_work(options):
    expected = fit(validation_data=(X, LABELS))
    found = fit(**options)
    assert found.keys() == expected.keys()
    assert all(np.allclose(found[name], expected[name], rtol=1e-12) for name in expected)


def test_tables():
    pandas = pytest.importorskip("pandas")
    x = pandas.DataFrame(X, columns=list("abcd"), index=range(100, 120))
    y = pandas.Series(LABELS, index=range(7, 27))
    w = pandas.Series(np.arange(20.0))
    expected = fit(validation_data=(X, LABELS, np.arange(20.0)), sample_weight=np.arange(20.0), shuffle=True)
    assert fit(x=x, y=y, validation_data=(x, y, w), sample_weight=w, shuffle=True) == expected
    assert fit(x=Rows(X), y=y, validation_data=(Rows(X), y, w), sample_weight=w, shuffle=True) == expected
    net = network(loss="softmax_cross_entropy")
    assert np.array_equal(net.predict(x), net.predict(X))
    assert np.array_equal(net.predict(frame for frame in (x[:7], x[7:])), net.predict(X))
    with pytest.raises(TypeError, match="a table whose column 'e' has dtype"):
        net.predict(x.assign(e=list(WORDS)))
    with pytest.raises(TypeError, match="y must be real numbers"):
        fit(y=pandas.Series(WORDS))
    with pytest.raises(TypeError, match="y must be real numbers"):
        fit(y=pandas.Series(WORDS).astype("category"))
    with pytest.raises(ValueError, match=r"class numbers must have shape \(N,\)"):
        fit(y=y.to_frame())


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"], file["y"], file["w"] = X, LABELS, np.arange(20.0)
        for options in (dict(shuffle=True), dict(validation_split=0.3), dict(class_weight="balanced")):
            expected = fit(sample_weight=np.arange(20.0), **options)
            assert fit(x=file["x"], y=file["y"], sample_weight=file["w"], **options) == expected
        net = network(loss="softmax_cross_entropy")
        assert np.array_equal(net.predict_classes(file["x"], batch_size=3), net.predict_classes(X))
        assert net.evaluate(file["x"], file["y"]) == net.evaluate(X, LABELS)
