"""The page's forward pass in JavaScript, run by Node: it computes what ``predict`` returns."""

import numpy as np
import pytest

from cases import ACTIVATIONS, LAYERS
from drawn_networks import drawn, drawn_window
from pages import NODE, WITHOUT_NODE, computed, difference, exported, node, touched
from portnn import (
    ActivationLayer,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GlobalMaxPoolLayer,
    GroupNormLayer,
    LayerNormLayer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    RandomAffineLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    SequentialLayer,
    SoftmaxLayer,
    UpsampleLayer,
    activations,
)
from portnn.exchange.page.assemble import asset
from portnn.ops import is_ours

pytestmark = pytest.mark.skipif(NODE is None, reason=WITHOUT_NODE)
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
OURS = [case for case in LAYERS if all(is_ours(type(part)) for part in case.make().walk())]


def samples(shape, n=3):
    return np.random.default_rng(len(shape)).standard_normal((n, *shape))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """What the page and ``predict`` return for each row of the table and each dtype, computed by one Node."""
    folder, pages, expected = tmp_path_factory.mktemp("pages"), [], {}
    for case in OURS:
        for dtype in TOLERANCE:
            x = samples(case.sample)
            network = touched(Network([case.make()], dtype=dtype, seed=1), x)
            pages.append((exported(network, folder), x))
            expected[case.name, dtype] = network.predict(x)
    found = computed(pages)
    return {key: (y, [pair[0] for pair in page]) for (key, y), page in zip(expected.items(), found, strict=True)}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", [case.name for case in OURS])
def test_every_row_of_the_table(rows, name, dtype):
    expected, found = rows[name, dtype]
    assert difference(found, expected) < TOLERANCE[dtype]


def test_rows_of_the_table_are_all_but_users_layers():
    assert len(OURS) > 50
    assert {case.name.split(",")[0] for case in LAYERS} - {case.name.split(",")[0] for case in OURS} == {"OwnLayer"}


def conv(shape, kernel, filters, **options):
    return ConvLayer(shape, kernel, filters, **options)


NETWORKS = {
    "the article's": (lambda: [FCLayer(784, 20), ActivationLayer("tanh"), FCLayer(20, 10)], (1, 784)),
    "LeNet": (
        lambda: [
            ReshapeLayer((28, 28, 1)),
            ScaleLayer(1 / 255),
            RandomAffineLayer(shift=2.0, rotate=10.0, scale=0.1),
            conv((28, 28, 1), (5, 5), 6, padding="same"),
            ActivationLayer("relu"),
            MaxPoolLayer(2),
            conv((14, 14, 6), (5, 5), 16),
            ActivationLayer("relu"),
            MaxPoolLayer(2),
            FlattenLayer(),
            DropoutLayer(0.5),
            FCLayer(400, 120),
            FCLayer(120, 10),
        ],
        (28, 28),
    ),
    "residual": (
        lambda: [
            conv((12, 12, 3), (3, 3), 8, padding="same", bias=False),
            BatchNormLayer(),
            ActivationLayer("silu"),
            ResidualLayer(
                conv((12, 12, 8), (3, 3), 8, padding="same"),
                GroupNormLayer(4),
                ActivationLayer("gelu"),
                conv((12, 12, 8), (3, 3), 8, padding="same", groups=8),
                LayerNormLayer(),
            ),
            AvgPoolLayer(3, stride=2, padding="same"),
            ParallelLayer(
                [conv((6, 6, 8), (1, 1), 4), UpsampleLayer(2), MaxPoolLayer(2)],
                SequentialLayer(ParallelLayer([], ScaleLayer(-1.0), merge="add"), SequentialLayer()),
                [],
            ),
            GlobalAvgPoolLayer(),
            FCLayer(20, 7),
            SoftmaxLayer(),
        ],
        (12, 12, 3),
    ),
    "sequences": (
        lambda: [
            conv((30, 4), (5,), 6, dilation=2, stride=2, padding=((3, 0),)),
            ActivationLayer("elu"),
            AvgPoolLayer(2, padding=((1, 0),)),
            conv((7, 6), (3,), 8, groups=2, padding="same"),
            GlobalMaxPoolLayer(),
        ],
        (30, 4),
    ),
    "volumes": (lambda: [AvgPoolLayer((2, 3, 2), padding=1, stride=2), UpsampleLayer((2, 1, 3))], (6, 5, 4, 2)),
    "volumes, largest": (lambda: [MaxPoolLayer(3, stride=(1, 2, 3), padding="same"), FlattenLayer()], (4, 5, 6, 2)),
    "nothing": (lambda: [SequentialLayer(), DropoutLayer(0.1)], (3,)),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, dtype, tmp_path):
    make, shape = NETWORKS[name]
    x = samples(shape)
    network = touched(Network(make(), dtype=dtype, seed=2), x)
    ((found),) = computed([(exported(network, tmp_path), x)])
    assert difference([y for y, _ in found], network.predict(x)) < TOLERANCE[dtype]


def test_random_options(tmp_path):
    pairs = [drawn_window(seed) for seed in range(100)]
    pages = [(exported(network, tmp_path), x) for network, x in pairs]
    for (network, x), found in zip(pairs, computed(pages), strict=True):
        assert difference([y for y, _ in found], network.predict(x)) < 1e-12, network
    assert len({type(network.layers[0]) for network, _ in pairs}) == 3


def test_each_layers_output_is_shown(tmp_path):
    """By its path, children of composite layers too."""
    make, shape = NETWORKS["residual"]
    x = samples(shape, 1)
    network = touched(Network(make(), dtype="float64", seed=2), x)
    (((_, seen),),) = computed([(exported(network, tmp_path), x)])
    assert set(seen) == {layer.path for layer in network.walk()}
    X = x
    for layer in network.layers:
        X = layer(X)
        assert difference(seen[layer.path][None], X) < 1e-12


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_numbers_that_cancel(dtype, tmp_path):
    """In float32 what is lost is lost as in NumPy: batch normalization far from zero, and a scale and its offset."""
    rng = np.random.default_rng(5)
    x = 1000.0 + 0.01 * rng.standard_normal((5, 3))
    network = Network([ScaleLayer(0.37, offset=-370.0), ScaleLayer(1.0, offset=1000.0), BatchNormLayer()], dtype=dtype)
    network.predict(x)
    layer = network.layers[2]
    layer.buffers["running_mean"] = np.full(3, 1000.1, dtype)
    layer.buffers["running_var"] = np.full(3, 1e-6, dtype)
    ((found),) = computed([(exported(network, tmp_path), x.astype(dtype))])
    assert difference([y for y, _ in found], network.predict(x.astype(dtype))) < 1e-5


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_activations_everywhere(dtype, tmp_path):
    """Also at their kinks, where exp overflows, and at infinity; NaN stays NaN."""
    x = np.array([[0.0, -0.0, 1e-9, 3.0, -3.0, 41.0, -41.0, 999.0, -1e4, 1e4, np.inf, -np.inf, np.nan]]).T.astype(dtype)
    x = np.concatenate([x, np.linspace(-9, 9, 73, dtype=dtype)[:, None]])
    pages = []
    for name in ACTIVATIONS:
        network = Network([FCLayer(1, 1, bias=False), ActivationLayer(name)], dtype=dtype)
        network.layers[0].weights = [[1.0]]
        pages.append((exported(network, tmp_path), x))
    for name, found in zip(ACTIVATIONS, computed(pages), strict=True):
        y = np.array([y for y, _ in found])
        expected = getattr(activations, name)(x)
        assert np.array_equal(np.isnan(y), np.isnan(expected)), name
        assert np.allclose(y, expected, *((2e-6, 1e-6) if dtype == "float32" else (1e-13, 1e-14)), equal_nan=True), name


def test_infinity_and_nan_among_the_weights(tmp_path):
    network = Network([FCLayer(3, 4), MaxPoolLayer(1), GlobalMaxPoolLayer()][:1], dtype="float32", seed=0)
    network.layers[0].bias = [[np.inf, -np.inf, np.nan, 1e-40]]
    x = np.zeros((1, 3), np.float32)
    (((y, _),),) = computed([(exported(network, tmp_path), x)])
    assert np.array_equal(y, network.predict(x)[0].astype(float), equal_nan=True)


def test_a_page_holds_only_the_functions_that_it_needs(tmp_path):
    text = exported(Network([FCLayer(3, 2), ActivationLayer("relu")]), tmp_path)
    assert "function relu(" in text
    assert "function tanh(" not in text
    assert "function convolution(" not in text
    text = exported(Network([FCLayer(3, 2), ActivationLayer("gelu")]), tmp_path)
    assert "function erf(" in text


def test_the_error_function():
    """To the last digits of the one that it was written after."""
    x = np.concatenate([np.linspace(-7, 7, 1401), [0.46875, 4.0, 6.0, 1e300]])
    program = asset("layers.js") + (
        "\nconst x = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        "process.stdout.write(JSON.stringify(x.map((v) => erf(v))));"
    )
    from portnn.ops.portable import erf

    assert np.abs(np.array(node(program, x.tolist())) - erf(x, xp=np)).max() < 4e-16


def test_drawn_networks(tmp_path):
    pairs = [drawn(seed) for seed in range(60)]
    pages = [(exported(network, tmp_path), x) for network, x in pairs]
    for (network, x), found in zip(pairs, computed(pages), strict=True):
        assert difference([y for y, _ in found], network.predict(x)) < 1e-12, network
