"""portnn.onnx: what is exported, loaded and exported again is the same graph with the same weights."""

import copy

import numpy as np
import pytest

import portnn
from onnx_models import ROWS, network, unnamed
from portnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GroupNormLayer,
    LayerNormLayer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    SequentialLayer,
    SoftmaxLayer,
)
from portnn.activations import hard_swish, hard_swish_prime

onnx = pytest.importorskip("onnx", minversion="1.17", reason="onnx is not installed")


def there_and_back(net, tmp_path, **options):
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    portnn.onnx.export(net, first, **options)
    back = portnn.onnx.load(first)
    portnn.onnx.export(back, second, opset=options.get("opset", 18))
    return back, first.read_bytes(), second.read_bytes()


PATHS_DIFFER = {"SequentialLayer", "DropoutLayer", "RandomAffineLayer"}  # which a graph does not hold


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
def test_rows_of_the_table(case, opset, dtype, tmp_path):
    net = network([case.make()], case.sample, dtype)
    back, first, second = there_and_back(net, tmp_path, input_shape=case.sample, opset=opset)
    assert unnamed(first) == unnamed(second)
    if case.name.split(",")[0] not in PATHS_DIFFER:
        assert first == second
    x = np.random.default_rng(1).standard_normal((3, *case.sample)).astype(dtype)
    np.testing.assert_allclose(back.predict(x), net.predict(x), rtol=1e-5 if dtype == "float32" else 1e-10, atol=1e-6)
    assert back.dtype == dtype


def block(channels):
    image = (4, 6, channels)
    return [
        ConvLayer(image, (3, 3), channels, padding="same", bias=False),
        BatchNormLayer(momentum=0.2, epsilon=1e-3),
        ActivationLayer("gelu"),
        ConvLayer(image, (3, 3), channels, padding="same"),
        GroupNormLayer(1),
    ]


NETWORKS = {
    "residual": ([ConvLayer((4, 6, 2), (1, 1), 3), ResidualLayer(*block(3)), ActivationLayer("relu")], (4, 6, 2)),
    "within each other": (
        [ResidualLayer(*block(2), ResidualLayer(ParallelLayer([*block(2)], [], merge="add")))],
        (4, 6, 2),
    ),
    "three branches": (
        [ParallelLayer(FCLayer(4, 2), FCLayer(4, 2), [FCLayer(4, 2)], merge="add"), FCLayer(2, 1)],
        (4,),
    ),
    "the same twice": ([ParallelLayer([], [], merge="add"), FCLayer(4, 2)], (4,)),
    "flattened": ([*block(3), FlattenLayer(), ScaleLayer(0.5), FCLayer(72, 5)], (4, 6, 3)),
    "scaled": ([ScaleLayer(1 / 255, offset=-0.5), ScaleLayer(1.0, offset=2.0), FCLayer(4, 1), ScaleLayer(3.0)], (4,)),
    "functions in a row": ([*(ActivationLayer(name) for name in ("relu", "relu", "sigmoid", "hard_sigmoid"))], (4,)),
    "reshaped": ([FCLayer(4, 12), ReshapeLayer((2, 6)), ReshapeLayer((3, 2, 2)), GlobalAvgPoolLayer()], (4,)),
    "reshaped and flattened": ([FCLayer(4, 6), ReshapeLayer((2, 3)), FlattenLayer(), GroupNormLayer(2)], (4,)),
    "the same shape": ([ReshapeLayer((4,)), FCLayer(4, 6), ReshapeLayer((2, 3)), ReshapeLayer((2, 3))], (4,)),
    "reshaped once for two": ([FCLayer(4, 6), ReshapeLayer((3, 2)), ResidualLayer(ScaleLayer(2.0))], (4,)),
    "reshaped once, used twice": ([ReshapeLayer((3, 2)), ParallelLayer([], [], merge="add")], (6,)),
    "reshaped and normalized": ([ReshapeLayer((2, 3)), LayerNormLayer(), ReshapeLayer((6,)), GroupNormLayer(3)], (6,)),
    "groups in groups": ([GroupNormLayer(2), ReshapeLayer((2, 3)), GroupNormLayer(3), GroupNormLayer(1)], (6,)),
    "nothing between a flattening and weights": (
        [*block(3), FlattenLayer(), ReshapeLayer((72,)), FlattenLayer(), DropoutLayer(0.5), FCLayer(72, 5)],
        (4, 6, 3),
    ),
    "layers in layers": (
        [SequentialLayer(*block(3), SequentialLayer(FlattenLayer())), ParallelLayer([FCLayer(72, 5)], merge="add")],
        (4, 6, 3),
    ),
    "flattened and normalized": (
        [*block(3), FlattenLayer(), LayerNormLayer(), SoftmaxLayer(), BatchNormLayer(), FCLayer(72, 5)],
        (4, 6, 3),
    ),
    "upside down": ([FlattenLayer(), ReshapeLayer((6, 4, 2)), MaxPoolLayer(2, stride=1), FlattenLayer()], (4, 6, 2)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_networks(name, dtype, tmp_path):
    layers, sample = NETWORKS[name]
    net = network(copy.deepcopy(layers), sample, dtype)
    back, first, second = there_and_back(net, tmp_path)
    assert unnamed(first) == unnamed(second)
    x = np.random.default_rng(1).standard_normal((3, *sample)).astype(dtype)
    np.testing.assert_allclose(back.predict(x), net.predict(x), rtol=1e-4 if dtype == "float32" else 1e-10, atol=1e-6)


def named(*names):
    return [ActivationLayer(name) for name in names]


# Layers in a row that compute what one activation does, or what fewer layers do.
ALIKE = {
    "relu": named("relu", "leaky_relu", "relu"),
    "positive": named("sigmoid", "leaky_relu", "hard_sigmoid", "leaky_relu"),
    "times one": [ScaleLayer(1.0), *named("gelu"), ScaleLayer(1.0), *named("gelu_tanh"), ScaleLayer(1.0)],
    "x + relu(-x)": [ResidualLayer(ScaleLayer(-1.0), *named("relu"))],
    "leaky": [ParallelLayer(ScaleLayer(0.01), [*named("relu"), ScaleLayer(0.99)], merge="add")],
    "scale and shift": [ScaleLayer(2.0), ScaleLayer(1.0, offset=3.0), ScaleLayer(-0.0), ScaleLayer(0.0, offset=-0.0)],
    "hard sigmoid": [ScaleLayer(6.0), *named("hard_sigmoid"), ScaleLayer(1.0, offset=-0.5)],
}


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("opset", [18, 20])
def test_each_layer_is_one_again(name, dtype, opset, tmp_path):
    net = network(copy.deepcopy(ALIKE[name]), (4,), dtype)
    back, first, second = there_and_back(net, tmp_path, opset=opset)
    assert list(map(repr, back.walk())) == list(map(repr, net.walk()))
    assert first == second


def test_in_a_graph_of_others_activations_are_recognized_by_what_they_compute(tmp_path):
    net, path = network(copy.deepcopy(ALIKE["x + relu(-x)"]), (4,)), tmp_path / "net.onnx"
    net.export(path)
    model = onnx.load(path)
    model.producer_name = "pytorch"
    onnx.save(model, path)
    assert repr(portnn.onnx.load(path).layers) == "[ActivationLayer(relu)]"


def test_scale_and_shift_behind_a_row_with_the_channels_first(tmp_path):
    """As exporters write layer normalization before opset 17: in pieces, here between a flattening and weights."""
    layers = [ConvLayer((4, 6, 2), (3, 3), 3), FlattenLayer(), LayerNormLayer(), BatchNormLayer(), FCLayer(24, 5)]
    net, path = network(layers, (4, 6, 2), "float64"), tmp_path / "net.onnx"
    net.export(path)
    model = onnx.load(path)
    model.producer_name = "pytorch"
    onnx.save(model, path)
    back, x = portnn.onnx.load(path), np.random.default_rng(0).standard_normal((3, 4, 6, 2))
    assert list(map(repr, back.layers)) == list(map(repr, net.layers))
    np.testing.assert_allclose(back.predict(x), net.predict(x), rtol=1e-12)


def test_layers_are_those_that_were_written(tmp_path):
    layers = [ResidualLayer(*block(2)), FlattenLayer(), SequentialLayer(DropoutLayer(0.5), FCLayer(48, 3))]
    net = network(layers, (4, 6, 2))
    back, *_ = there_and_back(net, tmp_path)
    assert [type(layer).__name__ for layer in back.layers] == ["ResidualLayer", "FlattenLayer", "FCLayer"]
    for ours, theirs in zip(net.layers[0].layers, back.layers[0].layers, strict=True):
        assert repr(ours).replace("padding='same'", "padding=1") == repr(theirs)
        for name, array in (ours.parameters | ours.buffers).items():
            np.testing.assert_array_equal((theirs.parameters | theirs.buffers)[name], array)
    assert (back.layers[0].layers[1].epsilon, back.layers[0].layers[1].momentum) == (1e-3, 0.2)


def test_a_loaded_network_learns_as_the_one_that_was_written(tmp_path):
    net = network([*block(2), FlattenLayer(), FCLayer(48, 3)], (4, 6, 2), "float64")
    back, *_ = there_and_back(net, tmp_path)
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((6, 4, 6, 2)), rng.integers(0, 3, 6)
    for each in (net, back):
        each.use("softmax_cross_entropy", optimizer="adam")
        each.fit(x, y, epochs=10, batch_size=3, verbose=0)
    np.testing.assert_allclose(back.predict(x), net.predict(x), rtol=1e-7, atol=1e-9)


def test_hard_swish_is_written_saved_and_loaded(tmp_path):
    net = Network([FCLayer(3, 4), ActivationLayer(hard_swish, hard_swish_prime)], seed=1)
    back, first, second = there_and_back(net, tmp_path)
    assert first == second
    assert back.layers[1].activation is hard_swish
    assert portnn.gradcheck(back, input_shape=(3,)).passed
    back.save(tmp_path / "net.portnn.safetensors")
    again = portnn.load(tmp_path / "net.portnn.safetensors")
    np.testing.assert_array_equal(again.predict(np.eye(3)), back.predict(np.eye(3)))


def test_hard_swish_at_its_kinks_and_ends():
    x = np.array([-np.inf, -3.0, -1.5, 0.0, 1.5, 3.0, np.inf, np.nan])
    np.testing.assert_allclose(hard_swish(x), [0, 0, -0.375, 0, 1.125, 3, np.inf, np.nan])
    np.testing.assert_allclose(hard_swish_prime(x), [0, 0, 0, 0.5, 1, 1, 1, np.nan])
