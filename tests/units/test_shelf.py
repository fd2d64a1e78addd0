"""The shelf inside a network: class numbers, layers that wait for their shape, masks, paths, summaries, refusals."""

import copy
import hashlib
import pickle
import re

import array_api_strict
import numpy as np
import pytest

import portnn
from array_libraries import strict_backend
from portnn import (
    SGD,
    ActivationLayer,
    Adam,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GroupNormLayer,
    Huber,
    Layer,
    LayerNormLayer,
    MaxPoolLayer,
    Network,
    OneCycle,
    ParallelLayer,
    ReshapeLayer,
    ResidualLayer,
    SoftmaxCrossEntropy,
    SoftmaxLayer,
    StepDecay,
    UpsampleLayer,
    get_backend,
    load_mnist,
    softmax,
    to_categorical,
)
from replay import ReplayBackend

RNG = np.random.default_rng(0)
X10 = RNG.standard_normal((20, 6))
LABELS = RNG.integers(0, 4, 20)


def classifier(*layers, loss="softmax_cross_entropy", optimizer=None, seed=0, metrics=(), **options):
    net = Network([*layers] or [FCLayer(6, 8), ActivationLayer("relu"), FCLayer(8, 4)], seed=seed, **options)
    net.use(loss, optimizer=optimizer or SGD(0.1), metrics=metrics)
    return net


def leaves(net):
    found = {path: portnn.to_numpy(a).copy() for path, a in net.parameters.items()}
    return found | {f"{p.path}.{n}": portnn.to_numpy(a).copy() for p in net.walk() for n, a in p.buffers.items()}


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


def test_the_bundled_digits_are_learned_in_three_epochs():
    (x, y), (x_test, y_test) = load_mnist()
    net = Network(
        [FlattenLayer(), portnn.ScaleLayer(1 / 255), FCLayer(784, 64), ActivationLayer("relu"), FCLayer(64, 10)], seed=0
    )
    net.use("softmax_cross_entropy", optimizer=Adam(OneCycle(3e-3, 3 * 79)), metrics=["accuracy"])
    net.fit(x, y, epochs=3, batch_size=64, shuffle=True, verbose=0)
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
    (LABELS[:, None], r"class numbers must have shape \(N,\), got \(20, 1\): give y\.reshape\(-1\)"),
    (
        np.eye(5)[LABELS],
        r"target has shape \(5,\) but the network's output for a sample has shape \(4,\).*one-hot rows have 4 numbers, one a class, not 5",
    ),
    (
        np.eye(4)[LABELS] * 2,
        r"y\[0, \d\] is 2, but softmax_cross_entropy takes class numbers, or rows of shares from 0 to 1",
    ),
    (np.eye(4)[LABELS] * 0.5, r"the row y\[0\] sums to 0\.5, but shares of classes make 1.*to_categorical"),
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
    net.use("mse")  # fine


def test_a_sigmoid_before_its_own_loss_is_an_error():
    net = Network([FCLayer(6, 4), ActivationLayer("sigmoid")])
    with pytest.raises(ValueError, match=r"ActivationLayer\(sigmoid\) is followed by the loss binary_cross_entropy"):
        net.use("binary_cross_entropy")


@pytest.mark.parametrize("name", ["softmax", softmax, "log_softmax"])
def test_softmax_is_no_activation(name):
    with pytest.raises(
        ValueError, match=r"softmax is no function of one element.*(SoftmaxLayer\(\)|'softmax_cross_entropy')"
    ):
        ActivationLayer(name)


# -- layers that wait for their shape --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [BatchNormLayer, LayerNormLayer, lambda: GroupNormLayer(2)])
def test_norms_are_made_at_the_first_data(make):
    norm = make()
    with pytest.raises(RuntimeError, match=r"weights does not exist yet"):
        norm.weights  # noqa: B018
    net = Network([norm, FCLayer(6, 4)], seed=0)
    with pytest.raises(
        RuntimeError, match=r"weights does not exist yet: nobody knows the number of channels.*fit or predict"
    ):
        norm.weights  # noqa: B018
    assert set(net.parameters) == {"1.weights", "1.bias"}
    net.use("softmax_cross_entropy", optimizer=SGD(0.1))
    net.fit(X10, LABELS, epochs=1, batch_size=5, verbose=0)
    assert norm.weights.shape == norm.bias.shape == (6,)
    assert not np.array_equal(norm.weights, np.ones(6))  # it has learned
    with pytest.raises(ValueError, match=r"x has samples of shape \(7,\).*the network takes \(6,\)"):
        net.predict(np.zeros((2, 7)))


def test_norms_behind_a_layer_that_knows_its_shape_exist_at_once():
    net = Network([FCLayer(6, 5), BatchNormLayer(), ResidualLayer(LayerNormLayer(), FCLayer(5, 5))])
    assert net.layers[1].weights.shape == (5,)
    assert net.parameters["2.0.bias"].shape == (5,)
    assert set(net.layers[1].buffers) == {"running_mean", "running_var"}


class Doubled(Layer):
    """A layer that does not say what shape it makes."""

    def forward(self, X, *, training=False):
        return self.xp.concat([X, X], axis=-1)

    def backward(self, output_error, *, need_input_error=True):
        n = output_error.shape[-1] // 2
        return output_error[..., :n] + output_error[..., n:]


def test_norms_behind_a_layer_that_says_nothing():
    net = classifier(Doubled(), ParallelLayer([BatchNormLayer(), FCLayer(12, 4)], FCLayer(12, 4), merge="add"))
    net.fit(X10, LABELS, epochs=2, batch_size=5, verbose=0)
    assert net.parameters["1.0.0.weights"].shape == (12,)
    assert net.layers[1].layers[0].layers[0].buffers["running_mean"].any()


def test_running_means_are_those_of_the_data_and_predict_uses_them():
    x = RNG.standard_normal((64, 3)) * [1.0, 5.0, 0.1] + [0.0, -3.0, 2.0]
    net = Network([BatchNormLayer(momentum=1.0), FCLayer(3, 1)], dtype="float64", seed=0)
    net.use("mse")
    net.fit(x, np.zeros((64, 1)), epochs=1, learning_rate=0.0, batch_size=64, verbose=0)
    norm = net.layers[0]
    assert np.allclose(norm.buffers["running_mean"], x.mean(axis=0))
    assert np.allclose(norm.buffers["running_var"], x.var(axis=0, ddof=1))
    before = leaves(net)
    one, all_ = net.predict(x[:1]), net.predict(x)
    assert np.allclose(one, all_[:1], rtol=1e-12)  # nothing depends on the batch
    assert all(np.array_equal(before[path], a) for path, a in leaves(net).items())


@pytest.mark.parametrize("n", [33, 1])
def test_a_last_batch_of_one_under_batch_norm_is_refused_before_the_first_step(n):
    net = Network([FCLayer(6, 5), ResidualLayer(BatchNormLayer()), FCLayer(5, 1)], seed=0)
    net.use("mse", optimizer=SGD(0.1))
    before = leaves(net)
    size = min(n, 32)
    with pytest.raises(
        ValueError, match=rf"batch_size={size}.* needs batches of 2 at least.*choose another batch_size"
    ):
        net.fit(np.zeros((n, 6)), np.zeros((n, 1)), epochs=1, batch_size=32, verbose=0)
    assert all(np.array_equal(before[path], a) for path, a in leaves(net).items())
    with pytest.raises(ValueError, match=r"batch_size=1, but .* needs batches of 2"):
        net.fit(np.zeros((8, 6)), np.zeros((8, 1)), epochs=1, verbose=0)
    net.fit(np.zeros((34, 6)), np.zeros((34, 1)), epochs=1, batch_size=32, verbose=0)


def test_batch_norm_takes_one_image():
    net = Network([ConvLayer((4, 4, 1), (3, 3), 2), BatchNormLayer(), FlattenLayer(), FCLayer(8, 1)], seed=0)
    net.use("mse")
    net.fit(np.zeros((3, 4, 4, 1)), np.zeros((3, 1)), epochs=1, learning_rate=0.1, verbose=0)


# -- random numbers that do not depend on the device -------------------------------------------------------------------------


def digest(arrays):
    joined = b"".join(np.ascontiguousarray(portnn.to_numpy(a)).tobytes() for a in arrays)
    return hashlib.sha256(joined).hexdigest()


def noisy(seed, backend, dtype="float32"):
    layers = [
        FCLayer(6, 8, initializer="he_normal"),
        DropoutLayer(0.3),
        ResidualLayer(FCLayer(8, 8, initializer="orthogonal"), DropoutLayer(0.5)),
        ReshapeLayer((4, 2)),
        ConvLayer((4, 2), (3,), 5, initializer="lecun_uniform"),
    ]
    return Network(layers, seed=seed, backend=backend, dtype=dtype)


BACKENDS = ["cpu", "numpy", "strict", "pytorch", "replay", pytest.param("gpu", marks=pytest.mark.gpu)]


def place(name):
    if name == "pytorch":
        return get_backend(pytest.importorskip("torch", reason="PyTorch is not installed"))
    return {
        "cpu": "cpu",
        "numpy": get_backend(np),
        "strict": strict_backend(),
        "replay": ReplayBackend(),
        "gpu": "gpu",
    }[name]


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_masks_and_shuffles_are_the_same_everywhere(backend):
    if backend == "gpu":
        assert get_backend("gpu")
    for seed in range(10):
        digests = []
        for where in ("cpu", place(backend)):
            net = noisy(seed, where)
            parts = list(net.parameters.values())
            for layer in net.walk():
                if isinstance(layer, DropoutLayer):
                    for step in (0, 1, 12345):
                        layer.step = step
                        layer.forward_propagation(layer.backend.asarray(np.ones((3, 8), np.float32)))
                        parts.append(layer.mask)
            parts += [portnn.random.permutation(net.seed, epoch, 50) for epoch in (0, 3)]
            digests.append(digest(parts))
        assert digests[0] == digests[1]


def test_masks_are_those_of_the_documentation():
    """Drawn from NumPy's generator directly, by what the documentation says of key, counter and words."""
    net = Network([FCLayer(4, 3), ResidualLayer(FCLayer(3, 3), DropoutLayer(0.25))], seed=5)
    layer = net.layers[1].layers[1]
    layer.step = 7
    layer.forward_propagation(np.ones((2, 3)))
    key = np.array([5, int.from_bytes(hashlib.sha256(b"1.1.mask").digest()[:8], "big")], np.uint64)
    raw = np.random.Philox(key=key, counter=np.array([0, 0, 7, 0], np.uint64)).random_raw(3)
    words = raw.view("<u4").astype(np.int64)  # the low half of each first
    expected = np.where(words >= round(0.25 * 2**32), 1 / 0.75, 0.0).reshape(2, 3)
    assert np.array_equal(layer.mask, expected.astype(np.float32))


def test_masks_change_with_step_seed_and_path_but_not_with_dtype():
    def mask(seed=0, path="0", step=0, dtype="float32"):
        layer = DropoutLayer(0.5)
        layer.build(None, get_backend("cpu"), dtype, seed, path)
        layer.step = step
        layer.forward_propagation(np.ones((8, 8)))
        return (layer.mask > 0).tolist()

    assert mask() == mask(dtype="float64")
    others = [mask(seed=1), mask(path="1"), mask(step=1)]
    assert mask() not in others
    assert others[0] != others[1] != others[2]
    share = np.mean([mask(step=k) for k in range(100)])
    assert share == pytest.approx(0.5, abs=0.02)


def test_recorded_masks_have_not_changed():
    layer = DropoutLayer(0.5)
    layer.build(None, get_backend("cpu"), "float32", 0, "5")
    layer.forward_propagation(np.ones((4, 16)))
    bits = "".join("1" if m else "0" for m in layer.mask.reshape(-1))
    assert hashlib.sha256(bits.encode()).hexdigest()[:16] == RECORDED_MASK


RECORDED_MASK = "02be7bbe52ef4ace"


def test_dropout_trains_by_step_and_is_silent_in_predict():
    net = classifier(FCLayer(6, 64), DropoutLayer(0.5), FCLayer(64, 4))
    assert np.array_equal(net.predict(X10), net.predict(X10))
    net.fit(X10, LABELS, epochs=1, batch_size=20, verbose=0)
    first = net.layers[1].mask.copy()
    net.fit(X10, LABELS, epochs=1, batch_size=20, verbose=0)
    assert not np.array_equal(first, net.layers[1].mask)


# -- composite layers --------------------------------------------------------------------------------------------------------


def inception(seed=0, **options):
    layers = [
        ConvLayer((6, 6, 1), (3, 3), 4, padding="same"),
        ParallelLayer(
            ConvLayer((6, 6, 4), (1, 1), 2),
            [ConvLayer((6, 6, 4), (1, 1), 2), ConvLayer((6, 6, 2), (3, 3), 3, padding=1)],
            [],
        ),
        ResidualLayer(ConvLayer((6, 6, 9), (3, 3), 9, padding="same"), BatchNormLayer(), ActivationLayer("relu")),
        ParallelLayer(
            [AvgPoolLayer(2), ConvLayer((3, 3, 9), (1, 1), 4)], ConvLayer((6, 6, 9), (2, 2), 4, stride=2), merge="add"
        ),
        UpsampleLayer(2),
        GlobalAvgPoolLayer(),
        FCLayer(4, 3),
    ]
    return Network(layers, seed=seed, **options)


def test_paths_of_children():
    net = inception()
    assert {
        "1.0.weights",
        "1.1.0.weights",
        "1.1.1.bias",
        "2.0.weights",
        "2.1.weights",
        "3.0.1.weights",
        "3.1.bias",
    } <= set(net.parameters)
    assert "3.0.0.weights" not in net.parameters


def test_a_network_of_branches_trains_moves_copies_and_pickles():
    x, y = RNG.standard_normal((12, 6, 6, 1)), RNG.integers(0, 3, 12)
    net = inception(dtype="float64")
    net.use("softmax_cross_entropy", optimizer=Adam(1e-2))
    errors = net.fit(x, y, epochs=20, batch_size=6, verbose=0)["error"]
    assert errors[-1] < 0.8 * errors[0]
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(other.predict(x), net.predict(x))
        a = other.fit(x, y, epochs=2, batch_size=6, verbose=0)
        b = copy.deepcopy(net).fit(x, y, epochs=2, batch_size=6, verbose=0)
        assert a == b
    before = net.predict(x)
    moved = net.to(get_backend(array_api_strict))
    assert np.allclose(portnn.to_numpy(moved.predict(x)), before, rtol=1e-12)


def test_portable_kernels_are_the_same():
    x, y = RNG.standard_normal((12, 6, 6, 1)), RNG.integers(0, 3, 12)
    nets = [inception(dtype="float64", kernels=kernels) for kernels in ("auto", "portable")]
    for net in nets:
        net.use("softmax_cross_entropy", optimizer=SGD(0.1, momentum=0.9))
        net.fit(x, y, epochs=3, batch_size=5, shuffle=True, verbose=0)
    for path, w in leaves(nets[0]).items():
        assert np.allclose(w, leaves(nets[1])[path], rtol=1e-9, atol=1e-12), path


def test_an_articles_layer_in_a_branch():
    class Shift(Layer):
        def __init__(self, n):
            self.offset = np.zeros((1, n))

        def forward_propagation(self, input):
            return input + self.offset

        def backward_propagation(self, output_error, learning_rate):
            self.offset = self.offset - learning_rate * output_error
            return output_error

    shift = Shift(4)
    net = classifier(FCLayer(6, 4), ResidualLayer(FCLayer(4, 4), shift))
    net.fit(X10, LABELS, epochs=1, verbose=0)
    assert shift.offset.any()
    with pytest.raises(ValueError, match=r"layer 1\.1 \(Shift\) is written as in the article"):
        net.fit(X10, LABELS, epochs=1, batch_size=2, verbose=0)


def test_an_articles_layer_may_call_its_weights_kernels():
    class Filters(Layer):
        def __init__(self):
            self.kernels = np.full((6, 4), 0.1)

        def forward_propagation(self, input):
            self.input = input
            return input @ self.kernels

        def backward_propagation(self, output_error, learning_rate):
            below = output_error @ self.kernels.T
            self.kernels -= learning_rate * self.input.T @ output_error
            return below

    layer = Filters()
    net = classifier(layer)
    net.fit(X10, LABELS, epochs=1, verbose=0)
    assert not np.allclose(layer.kernels, 0.1)
    assert portnn.gradcheck(Filters(), input_shape=(6,)).passed


# -- what a fresh reader tried ---------------------------------------------------------------------------------------------


def test_accuracy_counts_what_the_outputs_stand_for():
    from portnn.metrics import accuracy

    logits = RNG.standard_normal((6, 4, 3, 5))
    truth = logits.argmax(axis=-1)
    half = np.where(np.arange(4)[None, :, None] < 2, truth, (truth + 1) % 5)
    assert accuracy(truth, logits).tolist() == [1.0] * 6
    assert accuracy(half, logits).tolist() == accuracy(np.eye(5)[half], logits).tolist() == [0.5] * 6
    for loss, no, threshold in (("binary_cross_entropy", 0.0, 0.0), ("hinge", -1.0, 0.0), ("mse", 0.0, 0.5)):
        net = classifier(FCLayer(6, 1), loss=loss, metrics=["accuracy"])
        right = np.where(net.predict(X10) > threshold, 1.0, no)
        assert net.evaluate(X10, right)["accuracy"] == 1.0
        assert net.evaluate(X10, np.where(right == 1.0, no, 1.0))["accuracy"] == 0.0
    net = classifier(FCLayer(6, 4), loss="binary_cross_entropy", metrics=["accuracy"])
    answers = (net.predict(X10) > 0).astype(float)
    answers[:, 0] = 1.0 - answers[:, 0]
    assert net.evaluate(X10, answers)["accuracy"] == pytest.approx(0.75)


def test_weights_once_changed_are_never_drawn_again():
    for backend in ("cpu", ReplayBackend()):
        net = Network([FCLayer(6, 4)], seed=1, backend=backend)
        net.use("mse")
        net.fit(X10, np.ones((20, 4)), epochs=2, learning_rate=0.1, verbose=0)
        copied = Network([copy.deepcopy(net.layers[0])], seed=9, backend=backend)
        assert np.array_equal(*(portnn.to_numpy(n.backend.to_numpy(n.layers[0].weights)) for n in (net, copied)))
    layer = FCLayer(2, 1)
    layer(np.ones((1, 2)))
    drawn = layer.weights.copy()
    layer.weights[:] = 5.0  # in place
    assert Network([layer], seed=1).layers[0].weights.tolist() == [[5.0], [5.0]]
    fresh = FCLayer(2, 1)
    fresh(np.ones((1, 2)))
    assert not np.array_equal(Network([fresh], seed=1).layers[0].weights, drawn)  # nobody changed it: drawn for seed 1


def test_weights_that_run_away_in_the_last_step_are_noticed():
    net = classifier(FCLayer(6, 1), loss="mse", optimizer=SGD(1e39))
    with (
        np.errstate(all="ignore"),
        pytest.raises(portnn.training.DivergedError, match=r"0\.weights holds NaN or infinity"),
    ):
        net.fit(X10, np.ones((20, 1)), epochs=1, batch_size=20, verbose=0)


def test_small_batches_behind_a_layer_that_says_nothing_are_refused_before_the_first_step():
    net = classifier(Doubled(), BatchNormLayer(), FCLayer(12, 4))
    with pytest.raises(ValueError, match="needs batches of 2"):
        net.fit(X10[:9], LABELS[:9], epochs=1, batch_size=4, verbose=0)
    assert net.step == 0


def test_predict_never_gives_the_callers_memory_away():
    x = np.ones((2, 6), np.float32)
    for layers in ([FlattenLayer()], [ReshapeLayer((3, 2))], [DropoutLayer(0.5)]):
        Network(layers).predict(x)[...] = 7.0
        assert (x == 1.0).all()


def test_an_articles_layer_is_not_asked_beforehand_what_it_need_not_say():
    class Counting(Layer):
        def __init__(self):
            self.calls = 0

        def forward_propagation(self, input):
            self.calls += 1
            return input

        def backward_propagation(self, output_error, learning_rate):
            return output_error

    layer = Counting()
    classifier(layer, FCLayer(6, 4), ReshapeLayer((4,))).fit(X10, LABELS, epochs=2, verbose=0)
    assert layer.calls == 40


def test_predict_lets_go_of_what_lies_between():
    import tracemalloc

    net = Network([FCLayer(100, 1000), *(ActivationLayer("softsign") for _ in range(12))], seed=0)
    x = np.zeros((1000, 100), np.float32)
    tracemalloc.start()
    net.predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 4_000_000  # an array between two layers has 4 MB, and a layer makes two or three on its way


def test_predict_of_a_million_rows_takes_the_memory_of_its_answer():
    import tracemalloc

    net = Network([FCLayer(8, 64), ActivationLayer("relu"), FCLayer(64, 2)], seed=0)
    x = np.broadcast_to(np.ones((1, 8), np.float32), (1_000_000, 8))  # no memory of its own
    tracemalloc.start()
    y = net.predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert y.shape == (1_000_000, 2)
    assert peak < 2.5 * y.nbytes  # the batches' answers, joined; what lies between is that of one batch


def test_boolean_targets_of_hinge_are_refused():
    with pytest.raises(ValueError, match=r"y\[\d, 0\] is 0, but hinge takes targets that are -1 or 1"):
        classifier(FCLayer(6, 1), loss="hinge").fit(X10, X10[:, :1] > 0, epochs=1, verbose=0)


def test_backward_before_forward_of_an_unbuilt_layer():
    for layer in (
        ConvLayer((4, 4, 1), (2, 2), 1),
        MaxPoolLayer(2),
        BatchNormLayer(),
        DropoutLayer(0.5),
        SoftmaxLayer(),
    ):
        with pytest.raises(RuntimeError, match="before a pass in training"):
            layer.backward_propagation(np.ones((1, 3, 3, 1)))


def test_pooling_of_large_windows_is_made_at_once():
    layer = MaxPoolLayer(100_000)
    assert layer.window == 100_000
    assert MaxPoolLayer(3, padding=((0, 1),)).output_shape((6, 2)) == (2, 2)


def test_growing_schedules_end_in_an_error_that_names_the_step():
    net = classifier(FCLayer(6, 1), loss="mse", optimizer=SGD(portnn.ExponentialDecay(1e-300, 10.0)))
    net.step = 700
    with pytest.raises(ValueError, match="the schedule gave inf for step 700"):
        net.fit(X10, np.ones((20, 1)), epochs=1, batch_size=20, verbose=0)


REFUSED = [
    (
        lambda: FCLayer(3, 2, bias=False).__setattr__("bias", np.ones((1, 2))),
        r"FCLayer\(3, 2, bias=False\) has no bias",
    ),
    (lambda: (lambda layer: ResidualLayer(layer, layer))(FCLayer(2, 2)), r"ResidualLayer was given one layer twice"),
    (lambda: DropoutLayer(1 - 1e-12), r"rate must be in \[0, 1\)"),
    (lambda: FCLayer(10**30, 2), r"input_size must be 2\*\*40 at most"),
    (lambda: ConvLayer((4, 4, 1), (2, 2), 1, padding=10**9), r"padding must be 2\*\*20 at most"),
    (lambda: SGD(0.1, momentum=10**400), r"momentum must be in \[0, 1\), got a number too large"),
    (lambda: Network([FCLayer(2, 2)]).use("huber"), r"unknown loss 'huber'.*Huber\(\)"),
    (lambda: UpsampleLayer(2)(np.ones(2)), r"takes images \(H, W, C\) or rows \(L, C\)"),
    (lambda: GlobalAvgPoolLayer()(np.ones((2, 0, 4, 2))), r"needs axes to pool over"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, groups=2), r"groups=2 does not divide the 3 channels"),
    (lambda: ConvLayer((4, 4, 4), (3, 3), 3, groups=2), r"groups=2 does not divide the 3 filters"),
    (lambda: ConvLayer((4, 4, 3), (5, 3), 4), r"kernel of 5 x 3 does not fit on an image of 4 x 4.*padding='same'"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, dilation=2), r"spread to 5 x 5 by dilation, does not fit"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, padding="full"), r"padding must be 'valid', 'same', a number.*got 'full'"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, padding=(1, 2, 3)), r"for each of 2 axes.*got \(1, 2, 3\)"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, padding=-1), r"padding must be 0 or more, got -1"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, stride=0), r"stride must be 1 or more, got 0"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, stride=(1, 2, 3)), r"stride must be a number, or one for each of 2 axes"),
    (lambda: MaxPoolLayer(0), r"window must be 1 or more, got 0"),
    (lambda: MaxPoolLayer(2, padding=2), r"padding=2 is as wide as the window of 2"),
    (lambda: AvgPoolLayer((2, 3), padding=((0, 0), (0, 3))), r"as wide as the window of 2 x 3"),
    (
        lambda: Network([ConvLayer((4, 4, 1), (1, 1), 1), MaxPoolLayer(5)]),
        r"layer 1: MaxPoolLayer\(5\), for a sample of shape \(4, 4, 1\).*kernel of 5 x 5 does not fit",
    ),
    (lambda: Network([ConvLayer((4, 4, 1), (1, 1), 1), MaxPoolLayer((2,))]), r"window of 1 axes, but the image has 2"),
    (lambda: DropoutLayer(1.0), r"rate must be in \[0, 1\).*got 1"),
    (lambda: DropoutLayer(-0.1), r"rate must be in \[0, 1\)"),
    (lambda: BatchNormLayer(momentum=2), r"momentum must be in \[0, 1\]"),
    (lambda: LayerNormLayer(epsilon=0), r"epsilon must be more than 0"),
    (lambda: Network([FCLayer(4, 5), GroupNormLayer(2)]), r"groups=2 does not divide the 5 channels"),
    (lambda: ReshapeLayer(()), r"shape must have one axis at least"),
    (
        lambda: Network([ConvLayer((2, 2, 1), (1, 1), 3), ReshapeLayer((5, 2))]),
        r"makes samples of 10 numbers, but.*\(2, 2, 3\), 12 numbers",
    ),
    (
        lambda: Network([ConvLayer((4, 4, 1), (3, 3), 1), ConvLayer((4, 4, 1), (3, 3), 1)]),
        r"layer 1: .*takes images of shape \(4, 4, 1\).*comes in with shape \(2, 2, 1\): make it ConvLayer\(\(2, 2, 1\)",
    ),
    (
        lambda: Network([FlattenLayer(), ResidualLayer(FCLayer(3, 4))]).predict(np.zeros((2, 3))),
        r"layer 1: ResidualLayer adds.*\(3,\) and they make it \(4,\)",
    ),
    (
        lambda: Network([FCLayer(2, 3), ResidualLayer(FCLayer(4, 3))]),
        r"layer 1: in ResidualLayer, layer 0: FCLayer\(4, 3\) takes 4",
    ),
    (
        lambda: Network([FCLayer(2, 3), ParallelLayer([], [FCLayer(4, 3)])]),
        r"in ParallelLayer, branch 1, layer 0: FCLayer\(4, 3\)",
    ),
    (
        lambda: Network([ConvLayer((4, 4, 1), (1, 1), 1), ParallelLayer([], MaxPoolLayer(2))]),
        r"\(4, 4, 1\) and \(2, 2, 1\).*all axes but the last",
    ),
    (
        lambda: Network([ConvLayer((4, 4, 1), (1, 1), 1), GlobalAvgPoolLayer(), GlobalAvgPoolLayer()]),
        r"shape \(1,\): it needs axes to pool over",
    ),
    (lambda: ParallelLayer(FCLayer(2, 2), merge="mean"), r"merge must be 'concat' or 'add', got 'mean'"),
    (lambda: ParallelLayer(), r"needs one branch at least"),
    (lambda: ResidualLayer(), r"needs one layer at least"),
    (lambda: UpsampleLayer(0), r"factor must be 1 or more"),
    (lambda: StepDecay(0.1, 0, 0.5), r"every must be 1 or more"),
    (lambda: OneCycle(0.1, 0), r"steps must be 1 or more"),
    (lambda: SGD(0.1, weight_decay=-1), r"weight_decay must be 0 or more"),
    (lambda: Adam(beta1=1.0), r"beta1 must be in \[0, 1\)"),
    (lambda: Adam(clip_norm=0), r"clip_norm must be more than 0, or None"),
    (lambda: Huber(0), r"delta must be more than 0"),
    (lambda: SoftmaxCrossEntropy(1.0), r"label_smoothing must be in \[0, 1\)"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_refused(make, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResidualLayer([FCLayer(2, 2)]), r"ResidualLayer takes layers, got a list"),
        (lambda: ResidualLayer(FCLayer), r"takes Layer objects, such as FCLayer\(\.\.\.\)"),
        (lambda: ParallelLayer("relu"), r"takes Layer objects, such as FCLayer\(4, 4\), got 'relu'"),
        (lambda: ParallelLayer([[FCLayer(2, 2)]]), r"a branch of ParallelLayer takes layers, got a list"),
        (lambda: DropoutLayer("0.5"), r"rate must be a number"),
        (lambda: FCLayer(2, 2, bias="no"), r"bias must be True or False, got 'no'"),
        (lambda: portnn.mse([1, 2], np.ones(2)), r"a loss compares two arrays.*got list, ndarray"),
        (lambda: MaxPoolLayer(2.0), r"window must be a whole number"),
        (lambda: ConvLayer((4, 4, 1), (2, 2), 1, stride=1.5), r"stride must be a whole number"),
        (lambda: Adam("fast"), r"learning_rate must be a number"),
        (lambda: OneCycle("0.1", 10), r"learning_rate must be a number"),
        (lambda: Huber("1"), r"delta must be a number"),
        (lambda: Network([FCLayer(2, 2)]).use(Huber), r"got the class Huber: write Huber\(\)"),
        (lambda: SGD(OneCycle), r"got the class OneCycle: write OneCycle\(\.\.\.\)"),
    ],
)
def test_refused_as_of_the_wrong_type(make, message):
    with pytest.raises(TypeError, match=message):
        make()


# -- the summary -----------------------------------------------------------------------------------------------------------------


def test_summary_counts_everything_without_data():
    net = inception()
    text = net.summary()
    assert text.rows[0] == {
        "path": "0",
        "layer": "ConvLayer",
        "output shape": (6, 6, 4),
        "parameters": 9 * 4 + 4,
        "bytes": 4 * 40,
        "multiply-adds": 36 * 9 * 4,
    }
    assert text.total["parameters"] == sum(a.size for a in net.parameters.values())
    assert text.total["bytes"] == 4 * text.total["parameters"]
    branch = next(row for row in text.rows if row["path"] == "1")
    assert branch["multiply-adds"] == 36 * 4 * 2 + 36 * 4 * 2 + 36 * 9 * 2 * 3
    assert branch["output shape"] == (6, 6, 9)
    assert [row["path"] for row in text.rows[1:5]] == ["1", "1.0", "1.1.0", "1.1.1"]
    assert re.search(r"^6 FCLayer +\(3,\) +15 +60 +12$", text, re.MULTILINE)
    assert "?" not in text


def test_summary_of_layers_of_any_shape():
    net = Network([MaxPoolLayer(2), GroupNormLayer(2), FlattenLayer(), Doubled()])
    assert "?" in net.summary()
    text = net.summary((4, 6, 2))
    assert [row["output shape"] for row in text.rows] == [(2, 3, 2), (2, 3, 2), (12,), None]
    assert text.rows[1]["parameters"] == 4
    assert Network(dtype="float64").summary().total["parameters"] == 0
    with pytest.raises(TypeError, match=r"input_shape must be the shape of one sample"):
        net.summary(784)


def test_multiply_adds_of_grouped_and_one_dimensional_convolutions():
    net = Network([ConvLayer((8, 4), (3,), 6, groups=2, stride=2), FlattenLayer(), FCLayer(18, 2)])
    assert net.layers[0].multiply_adds(None) == 3 * 3 * 2 * 6
    assert net.summary().total["multiply-adds"] == 3 * 3 * 2 * 6 + 36


# -- schedules in fit ----------------------------------------------------------------------------------------------------------------


def test_a_schedule_goes_on_with_the_updates():
    net, plain = (Network([FCLayer(6, 1)], seed=0, dtype="float64") for _ in range(2))
    rates = StepDecay(0.1, 3, 0.1)
    net.use("mse")
    plain.use("mse")
    y = RNG.standard_normal((20, 1))
    for _ in range(2):  # two fits of 4 updates: the second begins with update 4
        net.fit(X10, y, epochs=1, learning_rate=rates, batch_size=5, verbose=0)
    for k in range(8):
        part = slice(5 * (k % 4), 5 * (k % 4) + 5)
        plain.fit(X10[part], y[part], epochs=1, learning_rate=rates(k), batch_size=5, verbose=0)
    assert np.allclose(net.layers[0].weights, plain.layers[0].weights, rtol=1e-12)


def test_a_parameter_without_a_gradient_is_left_alone_by_every_optimizer():
    class Frozen(Layer):
        def __init__(self):
            self.parameters["fixed"] = [2.0]

        def forward(self, X, *, training=False):
            return X * self.parameters["fixed"]

        def backward(self, output_error, *, need_input_error=True):
            return output_error * self.parameters["fixed"]

    for make in (portnn.SGD, portnn.AdaGrad, portnn.RMSprop, portnn.Adam, portnn.AdamW):
        net = classifier(FCLayer(6, 4), Frozen(), optimizer=make(0.1, weight_decay=0.5, clip_norm=1.0))
        net.fit(X10, LABELS, epochs=2, batch_size=5, verbose=0)
        assert net.layers[1].parameters["fixed"].tolist() == [2.0]
