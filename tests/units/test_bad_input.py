"""Bad input raises an error that says what was given, what was expected and what to do, before anything is changed."""

import array_api_strict
import numpy as np
import pytest

from array_libraries import strict_backend
from bad_input import X, Y, network
from portnn import (
    SGD,
    ActivationLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    Layer,
    Network,
    ScaleLayer,
    mse,
    tanh,
    to_device,
)


def with_value(value):
    x = X.copy()
    x[3, 1] = value
    return x


ELSEWHERE = array_api_strict.Device("device1")  # array-api-strict's imitation of another device

FIT = {
    "strings": (TypeError, "x must be real numbers, got dtype <U1", dict(x=["a", "b"], y=[1, 2])),
    "objects": (TypeError, "y must be real numbers", dict(x=X, y=[None] * 6)),
    "complex": (TypeError, "x must be real numbers, got dtype complex128", dict(x=X * 1j, y=Y)),
    "ragged": (
        ValueError,
        "x cannot be made an array.*All samples must have one shape",
        dict(x=[[1.0, 2.0], [1.0]], y=Y),
    ),
    "a number": (
        ValueError,
        r"x must have an axis of samples, \(N, ...\), got the single number 3.0",
        dict(x=3.0, y=Y),
    ),
    "no samples": (ValueError, "x holds 0 samples", dict(x=X[:0], y=Y[:0])),
    "other length": (ValueError, "x holds 6 samples, y 5 targets", dict(x=X, y=Y[:5])),
    "NaN": (
        ValueError,
        r"x\[3, 1\] is nan in float32.*nan_to_num.*check_finite=False",
        dict(x=with_value(np.nan), y=Y),
    ),
    "infinity": (ValueError, r"x\[3, 1\] is -inf", dict(x=with_value(-np.inf), y=Y)),
    "too large for float32": (
        ValueError,
        r"x\[3, 1\] is inf in float32.*scale the data",
        dict(x=with_value(1e300), y=Y),
    ),
    "NaN target": (ValueError, r"y\[0, 0\] is nan", dict(x=X, y=Y * np.nan)),
    "other width": (
        ValueError,
        r"x has samples of shape \(5,\).*network takes \(4,\): its first layer is FCLayer\(4, 3\). Change the data",
        dict(x=np.ones((6, 5)), y=Y),
    ),
    "images": (
        ValueError,
        r"shape \(2, 2\).*takes \(4,\): its first layer is FCLayer.*x.reshape\(-1, 4\).*FlattenLayer\(\)",
        dict(x=np.ones((6, 2, 2)), y=Y),
    ),
    "other target": (
        ValueError,
        r"a target has shape \(3,\).*output for a sample has shape \(2,\)",
        dict(x=X, y=np.ones((6, 3))),
    ),
    "class numbers": (ValueError, r"a target has shape \(\).*to_categorical\(y, 2\)", dict(x=X, y=np.arange(6) % 2)),
    "foreign array": (
        TypeError,
        r"x is on backend .array_api_strict on .*, but must be on backend 'cpu'.*to_device\(array, 'cpu'\).*to_numpy\(array\)",
        dict(x=array_api_strict.ones((6, 4), device=ELSEWHERE), y=Y),
    ),
    "no epochs": (ValueError, "epochs must be 0 or more, got -1", dict(x=X, y=Y, epochs=-1)),
    "half an epoch": (TypeError, "epochs must be a whole number, got 1.5", dict(x=X, y=Y, epochs=1.5)),
    "batch of 0": (ValueError, "batch_size must be 1 or more, got 0", dict(x=X, y=Y, batch_size=0)),
    "no rate": (
        ValueError,
        r"fit needs a learning rate: fit\(x, y, epochs, learning_rate=0.1\)",
        dict(x=X, y=Y, learning_rate=None),
    ),
    "negative rate": (
        ValueError,
        "learning_rate must be finite and not negative, got -1",
        dict(x=X, y=Y, learning_rate=-1),
    ),
    "NaN rate": (ValueError, "learning_rate must be finite", dict(x=X, y=Y, learning_rate=float("nan"))),
    "rate of a schedule": (
        ValueError,
        "the schedule gave nan for step 3: learning_rate must be finite",
        dict(x=X, y=Y, learning_rate=lambda k: 0.1 if k < 3 else float("nan")),
    ),
    "rate as text": (TypeError, "learning_rate must be a number, or a schedule", dict(x=X, y=Y, learning_rate="fast")),
}


@pytest.mark.parametrize("name", FIT)
def test_fit_refuses(name):
    error, words, arguments = FIT[name]
    net = network()
    before = {path: array.copy() for path, array in net.parameters.items()}
    with pytest.raises(error, match=f"(?s){words}"):
        net.fit(**{"epochs": 1, "learning_rate": 0.1, "verbose": 0} | arguments)
    assert all(np.array_equal(array, before[path]) for path, array in net.parameters.items())
    assert (net.step, net.epoch) == (0, 0)


def test_nan_is_found_on_the_device_too():
    net = network(backend=strict_backend())
    with pytest.raises(ValueError, match=r"x\[3, 1\] is nan"):
        net.fit(to_device(with_value(np.nan), net.backend), Y, 1, 0.1)


def test_check_finite_can_be_left_out():
    with np.errstate(invalid="ignore"):
        network().fit(with_value(np.nan), Y, 1, 0.1, verbose=0, check_finite=False)


@pytest.mark.parametrize("name", ["strings", "complex", "ragged", "a number", "other width", "images", "foreign array"])
def test_predict_refuses(name):
    error, words, arguments = FIT[name]
    with pytest.raises(error, match=f"(?s){words}"):
        network().predict(arguments["x"])


def test_a_network_that_is_not_ready_says_what_is_missing():
    with pytest.raises(RuntimeError, match=r"no layers: add them first, net.add\(FCLayer\(2, 3\)\)"):
        Network().fit(X, Y, 1, 0.1)
    with pytest.raises(RuntimeError, match="no layers"):
        Network().predict(X)
    with pytest.raises(RuntimeError, match=r'no loss: call net.use\("mse"\) before fit'):
        Network([FCLayer(4, 2)]).fit(X, Y, 1, 0.1)
    with pytest.raises(RuntimeError, match="before evaluate"):
        Network([FCLayer(4, 2)]).evaluate(X, Y)


def test_two_learning_rates():
    net = network()
    net.use("mse", optimizer=SGD(0.5))
    with pytest.raises(ValueError, match=r"SGD\(0.5\), which has its own learning rate: leave learning_rate=0.1 out"):
        net.fit(X, Y, 1, learning_rate=0.1)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (dict(backend="tpu"), ValueError, r"unknown backend 'tpu'; known: 'cpu', 'gpu'"),
        (dict(backend=3), TypeError, "a Backend, or an array API namespace; got 3"),
        (dict(dtype="float16"), ValueError, r"dtype must be one of \('float32', 'float64'\), got 'float16'"),
        (dict(dtype="nonsense"), ValueError, "dtype must be one of"),
        (dict(kernels="fast"), ValueError, r"kernels must be one of \('auto', 'portable'\), got 'fast'"),
        (dict(seed=-1), ValueError, r"seed must be in \[0, 2\*\*64\), got -1"),
        (dict(seed=0.5), TypeError, "seed must be a whole number or None, got 0.5"),
        (dict(layers=FCLayer(2, 3)), TypeError, r"layers must be a list, got one layer: Network\(\[FCLayer\(2, 3\)\]\)"),
        (dict(layers=[FCLayer]), TypeError, r"add takes a Layer object, such as add\(FCLayer\(...\)\)"),
        (dict(layers=["FCLayer"]), TypeError, "add takes a Layer object.*got 'FCLayer'"),
        (dict(layers=[FCLayer(2, 3), FCLayer(4, 1)]), ValueError, r"layer 1: FCLayer\(4, 1\) takes 4 values.*make it FCLayer\(3, 1\)"),
        (dict(layers=[ConvLayer((5, 5, 1), (3, 3), 2), ConvLayer((3, 3, 1), (2, 2), 1)]), ValueError, r"layer 1: .*takes images of shape \(3, 3, 1\).*shape \(3, 3, 2\)"),
        (dict(layers=[ConvLayer((5, 5, 1), (3, 3), 2), FlattenLayer(), FCLayer(9, 1)]), ValueError, r"layer 2: .*make it FCLayer\(18, 1\)"),
    ],
)  # fmt: skip
def test_a_network_refuses_to_be_made_of(options, error, words):
    with pytest.raises(error, match=f"(?s){words}"):
        Network(**options)


def test_a_layer_has_one_place():
    layer = FCLayer(2, 2)
    net = Network([layer])
    for other in (net, Network()):
        with pytest.raises(ValueError, match=r"FCLayer\(2, 2\) is already in a network"):
            other.add(layer)
    assert net.layers == [layer]


def test_a_layer_that_does_not_fit_is_not_added():
    net, layer = Network([FCLayer(2, 3)]), FCLayer(4, 1)
    with pytest.raises(ValueError, match="layer 1"):
        net.add(layer)
    assert len(net.layers) == 1
    with pytest.raises(RuntimeError, match="does not exist yet"):
        _ = layer.weights
    Network([FCLayer(2, 4)]).add(layer)  # it can still be added elsewhere


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: FCLayer(0, 3), ValueError, "input_size must be 1 or more, got 0"),
        (lambda: FCLayer(2.5, 3), TypeError, "input_size must be a whole number, got 2.5"),
        (lambda: FCLayer((1, 2), (1, 3)), TypeError, r"FCLayer takes two numbers.*got \(\(1, 2\), \(1, 3\)\).*write FCLayer\(2, 3\)"),
        (lambda: FCLayer(2, True), TypeError, "output_size must be a whole number, got True"),
        (lambda: FCLayer(2, 3, initializer="xavier"), ValueError, "unknown initializer 'xavier'; known: glorot_uniform"),
        (lambda: FCLayer(2, 3, initializer=np.ones((2, 3))), ValueError, "layer.weights = array"),
        (lambda: ConvLayer((5, 5), (3, 3), 1), ValueError, r"input_shape must be \(H, W, C\), got \(5, 5\)"),
        (lambda: ConvLayer((5, 5, 1), 3, 1), ValueError, r"kernel_shape must be \(h, w\), got 3"),
        (lambda: ConvLayer((5, 5, 1), (3, 6), 1), ValueError, "a kernel of 3 x 6 does not fit on an image of 5 x 5"),
        (lambda: ConvLayer((5, 5, 1), (3, 3), 0), ValueError, "layer_depth must be 1 or more, got 0"),
        (lambda: ActivationLayer("softmax"), ValueError, "softmax is not a function of one element.*SoftmaxLayer"),
        (lambda: ActivationLayer(np.sin), TypeError, "activation sin needs its derivative"),
        (lambda: ActivationLayer(3), TypeError, "activation must be a name, a function or an object with .prime, got 3"),
        (lambda: ActivationLayer(np.sin, "cos"), TypeError, "activation_prime must be a function, got 'cos'"),
        (lambda: ScaleLayer("half"), TypeError, "factor must be a number, got 'half'"),
        (lambda: ScaleLayer(float("inf")), ValueError, "factor must be finite, got inf"),
        (lambda: SGD(0.1, momentum=1.0), ValueError, r"momentum must be in \[0, 1\), got 1.0"),
        (lambda: SGD(0.1, nesterov=True), ValueError, "nesterov=True needs a momentum"),
        (lambda: Network().use("l2"), ValueError, "unknown loss 'l2'; known: mse"),
        (lambda: Network().use(lambda a, b: 0.0), TypeError, "loss <lambda> needs its derivative: pass it as loss_prime"),
        (lambda: Network().use("mse", optimizer=3), TypeError, r"optimizer must be one such as SGD\(0.1\).*got 3"),
        (lambda: Network().use("mse", metrics="accuracy"), TypeError, r"metrics must be a list.*metrics=\['accuracy'\]"),
        (lambda: Network().use("mse", metrics=["auc"]), ValueError, "unknown metric 'auc'; known: accuracy"),
        (lambda: Network().use("mse", metrics=[lambda a, b: a, lambda a, b: b]), ValueError, "need distinct names, got <lambda>"),
        (lambda: Network().use("mse", metrics=[1]), TypeError, "a metric must be a name, a function"),
    ],
)  # fmt: skip
def test_parts_refuse_to_be_made_of(make, error, words):
    with pytest.raises(error, match=f"(?s){words}"):
        make()


def test_weights_of_another_shape():
    layer = FCLayer(2, 3)
    with pytest.raises(ValueError, match=r"FCLayer\(2, 3\).weights has shape \(2, 3\), got an array of shape \(3, 2\)"):
        layer.weights = np.ones((3, 2))
    Network([layer])
    with pytest.raises(ValueError, match=r"bias has shape \(1, 3\), got an array of shape \(3,\)"):
        layer.bias = [1, 2, 3]
    with pytest.raises(TypeError, match=r"is on backend .array_api_strict"):
        layer.bias = array_api_strict.ones((1, 3), device=ELSEWHERE)
    with pytest.raises(RuntimeError, match="has no bias; it has weights"):
        _ = Network([FCLayer(2, 3, bias=False)]).layers[0].bias


def test_failed_use_changes_nothing():
    net = network()
    loss = net.loss
    with pytest.raises(ValueError, match="unknown metric"):
        net.use("mse", metrics=["auc"])
    assert net.loss is loss is mse


def test_a_users_function_that_answers_with_another_library():
    def wrong(x):
        return np.tanh(np.asarray(x.to_device(array_api_strict.Device("CPU_DEVICE"))))

    net = Network([ActivationLayer(wrong, wrong)], backend=strict_backend())
    with pytest.raises(
        TypeError, match=r"wrong returned numpy.ndarray, but the network runs on backend .array_api_strict.*self.xp"
    ):
        net.predict(X)
    net = Network([FCLayer(4, 2)])
    net.use(lambda a, b: "small", lambda a, b: b)
    with pytest.raises(TypeError, match=r"<lambda> returned builtins.str"):
        net.fit(X, Y, 1, 0.1)


def test_one_method_of_a_pair():
    class Half(Layer):
        def forward(self, X, *, training=False):
            return X

    class OtherHalf(Layer):
        def backward_propagation(self, output_error, learning_rate):
            return output_error

    class Nothing(Layer):
        pass

    for layer, words in (
        (Half(), "Half defines forward but not backward"),
        (OtherHalf(), "OtherHalf defines backward_propagation but not forward_propagation"),
        (Nothing(), "Nothing defines neither forward and backward nor"),
    ):
        with pytest.raises(TypeError, match=words):
            Network([layer])


def test_mixed_pair_of_ours_is_taken_as_given():
    layer = ActivationLayer(tanh, lambda x: 1 - np.tanh(x) ** 2)
    assert layer.activation is tanh


@pytest.mark.parametrize("data", [X[0], np.ones((6, 4, 1)), np.ones((2, 6, 4, 4))])
def test_shapes_that_almost_fit(data):
    conv = Network([ConvLayer((6, 4, 1), (2, 2), 1)])
    if data.shape[1:] == (6, 4, 1):
        conv.predict(data)
        return
    with pytest.raises(
        ValueError, match=r"x has samples of.*the network takes \(6, 4, 1\): its first layer is ConvLayer"
    ):
        conv.predict(data)


def test_images_without_channels():
    net = Network([ConvLayer((6, 4, 1), (2, 2), 1)])
    with pytest.raises(ValueError, match=r"Give each sample its channel axis: x\[..., None\]"):
        net.predict(np.ones((3, 6, 4)))
