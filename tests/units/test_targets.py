"""Targets: class numbers and one-hot rows, values out of range, losses that take logits."""

import pickle

import numpy as np
import pytest

import portnn
from array_libraries import strict_backend
from classifiers import LABELS, RNG, X10, classifier, leaves
from portnn import (
    SGD,
    ActivationLayer,
    Adam,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    Huber,
    MaxPoolLayer,
    Network,
    OneCycle,
    SoftmaxCrossEntropy,
    SoftmaxLayer,
    get_backend,
    load_mnist,
    softmax,
    to_categorical,
    validation,
)
from replay import ReplayBackend

# -- class numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", SoftmaxCrossEntropy(label_smoothing=0.1)])
def test_class_numbers_are_one_hot_rows(dtype, loss):
    results = []
    for y in (LABELS.astype(dtype), to_categorical(LABELS, 4), to_categorical(LABELS, 4).astype(int)):
        net = classifier(loss=loss, metrics=["accuracy"])
        history = net.fit(X10, y, epochs=3, batch_size=6, shuffle=True, verbose=0)
        results.append((history, net.evaluate(X10, y), leaves(net)))
    for history, evaluated, weights in results[1:]:
        for name, values in history.items():
            assert values == pytest.approx(results[0][0][name], rel=1e-5)
        assert evaluated == pytest.approx(results[0][1])
        for path, w in weights.items():
            assert np.allclose(w, results[0][2][path], rtol=1e-6), path


def test_class_numbers_of_samples_with_one_row():
    flat, rows = classifier(), classifier()
    a = flat.fit(X10, LABELS, epochs=2, batch_size=4, verbose=0)
    b = rows.fit(X10[:, None, :], LABELS, epochs=2, batch_size=4, verbose=0)
    assert a == b
    assert rows.predict(X10[:, None, :]).shape == (20, 1, 4)


def test_one_class_a_pixel():
    net = classifier(ConvLayer((3, 3, 2), (1, 1), 4))
    x, y = RNG.standard_normal((5, 3, 3, 2)), RNG.integers(0, 4, (5, 3, 3))
    hot = classifier(ConvLayer((3, 3, 2), (1, 1), 4))
    assert net.fit(x, y, epochs=2, batch_size=5, verbose=0)["error"] == pytest.approx(
        hot.fit(x, np.eye(4)[y], epochs=2, batch_size=5, verbose=0)["error"], rel=1e-6
    )


def test_the_bundled_digits_are_learned_in_two_epochs():
    (x, y), (x_test, y_test) = load_mnist()
    net = Network(
        [FlattenLayer(), portnn.ScaleLayer(1 / 255), FCLayer(784, 64), ActivationLayer("relu"), FCLayer(64, 10)], seed=0
    )
    net.use("softmax_cross_entropy", optimizer=Adam(OneCycle(3e-3, 2 * 79)), metrics=["accuracy"])
    net.fit(x, y, epochs=2, batch_size=64, shuffle=True, verbose=0)
    assert net.evaluate(x_test, y_test)["accuracy"] > 0.88


@pytest.mark.parametrize("backend", ["strict", "pytorch", "replay", "portable"])
def test_class_numbers_on_every_library(backend, no_hidden_reads):
    if backend == "pytorch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    make = {
        "strict": strict_backend,
        "pytorch": lambda: get_backend(pytest.importorskip("torch")),
        "replay": ReplayBackend,
        "portable": lambda: "cpu",
    }[backend]
    errors = []
    for place in ("cpu", make()):
        layers = [
            ConvLayer((4, 4, 1), (3, 3), 4, padding="same"),
            BatchNormLayer(),
            ActivationLayer("gelu"),
            DropoutLayer(0.3),
            MaxPoolLayer(2),
            FlattenLayer(),
            FCLayer(16, 4),
        ]
        kernels = "portable" if backend == "portable" else "auto"
        net = classifier(*layers, optimizer=Adam(1e-2), backend=place, kernels=kernels, dtype="float64")
        x = np.random.default_rng(1).standard_normal((18, 4, 4, 1))
        errors.append(net.fit(x, LABELS[:18], epochs=4, batch_size=6, shuffle=True, verbose=0)["error"])
    assert errors[1] == pytest.approx(errors[0], rel=1e-6)


BAD_TARGETS = [
    (np.where(np.arange(20) == 3, 4, LABELS), r"y\[3\] is 4, but the network has 4 outputs, for classes 0 to 3"),
    (np.where(np.arange(20) == 7, -1, LABELS), r"y\[7\] is -1, but the network has 4 outputs, for classes 0 to 3"),
    (LABELS.astype(float), r"y holds float\d\d, such as \d, but class numbers must be whole numbers.*y\.astype\(int\)"),
    (LABELS[:, None], r"class numbers must have shape \(N,\), got \(20, 1\): give numpy\.ravel\(y\)"),
    (
        np.eye(5)[LABELS],
        r"target has shape \(5,\) but the network's output for a sample has shape \(4,\).*one-hot rows have 4 values, one per class, not 5",
    ),
    (
        np.eye(4)[LABELS] * 2,
        r"y\[0, \d\] is 2, but softmax_cross_entropy takes class numbers, or probabilities from 0 to 1",
    ),
    (np.eye(4)[LABELS] * 0.5, r"the row y\[0\] sums to 0\.5, but probabilities sum to 1.*to_categorical"),
    (np.ones((20, 4)), r"the row y\[0\] sums to 4.*binary_cross_entropy"),
]


@pytest.mark.parametrize(("y", "message"), BAD_TARGETS)
def test_bad_class_targets_are_refused_before_the_first_step(y, message):
    net = classifier()
    before = leaves(net)
    with pytest.raises(ValueError, match=message):
        net.fit(X10, y, epochs=1, verbose=0)
    with pytest.raises(ValueError, match=message):
        net.evaluate(X10, y)
    assert net.step == 0
    assert all(np.array_equal(before[path], w) for path, w in leaves(net).items())


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        (
            "binary_cross_entropy",
            np.full((20, 4), 2.0),
            r"y\[0, 0\] is 2, but binary_cross_entropy takes targets from 0 to 1",
        ),
        ("binary_cross_entropy", np.full((20, 4), -0.5), r"y\[0, 0\] is -0\.5"),
        ("hinge", np.zeros((20, 4)), r"y\[0, 0\] is 0, but hinge takes targets that are -1 or 1"),
    ],
)
def test_targets_out_of_range(loss, y, message):
    with pytest.raises(ValueError, match=message):
        classifier(loss=loss).fit(X10, y, epochs=1, verbose=0)


@pytest.mark.parametrize(("value", "message"), [(np.nan, r"y\[17, 2\] is nan"), (3.0, r"y\[17, 2\] is 3")])
def test_a_bad_value_in_a_later_chunk_is_named_by_its_index_in_all_of_the_data(value, message, monkeypatch):
    monkeypatch.setattr(validation, "CHUNK", 8)  # two samples
    y = np.zeros((20, 4))
    y[17, 2] = value
    with pytest.raises(ValueError, match=message):
        classifier(loss="binary_cross_entropy").fit(X10, y, epochs=1, verbose=0)
    rows = to_categorical(LABELS, 4)
    rows[17] *= 0.5
    with pytest.raises(ValueError, match=r"the row y\[17\] sums to 0\.5"):
        classifier().fit(X10, rows, epochs=1, verbose=0)


@pytest.mark.parametrize("loss", ["mae", Huber(0.5), "hinge", "binary_cross_entropy"])
def test_losses_of_numbers_train(loss):
    y = np.where(RNG.standard_normal((20, 4)) > 0, 1.0, -1.0 if loss == "hinge" else 0.0)
    net = classifier(loss=loss, optimizer=Adam(1e-2))
    errors = net.fit(X10, y, epochs=30, batch_size=5, verbose=0)["error"]
    assert errors[-1] < 0.8 * errors[0]
    again = pickle.loads(pickle.dumps(net))
    assert again.evaluate(X10, y) == net.evaluate(X10, y)


# -- cross-entropies take logits -----------------------------------------------------------------------------------------


def test_a_softmax_layer_before_its_own_loss_is_an_error():
    net = Network([FCLayer(6, 4), SoftmaxLayer()])
    for loss in ("softmax_cross_entropy", SoftmaxCrossEntropy(0.1)):
        with pytest.raises(
            ValueError, match=r"SoftmaxLayer\(\) is followed by the loss .*takes logits.*leave SoftmaxLayer\(\) out"
        ):
            net.use(loss)
    late = Network()
    late.use("softmax_cross_entropy", optimizer=SGD(0.1))
    late.add(FCLayer(6, 4))
    late.add(SoftmaxLayer())
    for call in (late.evaluate, lambda x, y: late.fit(x, y, 1)):
        with pytest.raises(ValueError, match="takes logits"):
            call(X10, LABELS)
    net.use("mse")  # allowed


def test_a_sigmoid_before_its_own_loss_is_an_error():
    net = Network([FCLayer(6, 4), ActivationLayer("sigmoid")])
    with pytest.raises(ValueError, match=r"ActivationLayer\(sigmoid\) is followed by the loss binary_cross_entropy"):
        net.use("binary_cross_entropy")


@pytest.mark.parametrize("name", ["softmax", softmax, "log_softmax"])
def test_softmax_is_no_activation(name):
    with pytest.raises(
        ValueError, match=r"softmax is not a function of one element.*(SoftmaxLayer\(\)|'softmax_cross_entropy')"
    ):
        ActivationLayer(name)
