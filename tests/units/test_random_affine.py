"""RandomAffineLayer: by how much it moves, rotates and scales, the adjoint, and what the amounts depend on."""

import copy
import hashlib
import math
import pickle

import numpy as np
import pytest

import portnn
from classifiers import place
from portnn import ConvLayer, FCLayer, FlattenLayer, Network, RandomAffineLayer, ResidualLayer, ops
from portnn.ops.resampling import reach_of

SETTINGS = [
    dict(),
    dict(shift=2.5),
    dict(rotate=15.0),
    dict(rotate=180.0),
    dict(scale=0.3),
    dict(scale=0.95),
    dict(shift=1.0, rotate=30.0, scale=0.2),
    dict(shift=4.0, rotate=180.0, scale=0.95),
    dict(shift=100.0),
    dict(shift=9e5, rotate=90.0, scale=1.0 - 2.0**-50),
]
BACKENDS = ["cpu", "numpy", "strict", "pytorch", "replay", pytest.param("gpu", marks=pytest.mark.gpu)]


def built(sample, backend="cpu", dtype="float64", seed=7, path="", **settings):
    layer = RandomAffineLayer(**settings)
    layer.build(sample, portnn.get_backend(backend), dtype, seed, path)
    return layer


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# -- what it does ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS)
def test_predict_leaves_images_as_they_are(settings):
    x = numbers(3, 6, 5, 2)
    layer = built((6, 5, 2), **settings)
    assert np.array_equal(layer(x), x)
    assert np.array_equal(Network([RandomAffineLayer(**settings)], dtype="float64").predict(x), x)
    assert layer.maps is None


@pytest.mark.parametrize("n", [2, 200])
def test_without_amounts_it_is_the_identity(n):
    x = numbers(n, 6, 9, 2)
    x[0, 2, 2, 0], x[0, 3, 4, 1], x[1, 0, 0, 0] = np.nan, np.inf, -0.0
    layer = built(x.shape[1:])
    assert np.array_equal(layer.forward_propagation(x), x, equal_nan=True)
    assert np.array_equal(layer.backward_propagation(x), x, equal_nan=True)


def blob(size, row, column, n):
    """n images of a smooth spot, whose middle is where its mass is."""
    i, j = np.mgrid[:size, :size]
    spot = np.exp(-((i - row) ** 2 + (j - column) ** 2) / 8.0)
    return np.repeat(spot[None, :, :, None], n, axis=0)


def middles(y):
    i, j = np.mgrid[: y.shape[1], : y.shape[2]]
    mass = y.sum(axis=(1, 2, 3))
    return np.stack([(y[..., 0] * k).sum(axis=(1, 2)) / mass for k in (i, j)], axis=1)


def test_images_move_by_up_to_shift_pixels():
    moved = middles(built((41, 41, 1), shift=5.0).forward_propagation(blob(41, 20, 20, 2000))) - 20.0
    assert np.abs(moved).max() <= 5.0 + 1e-3
    for axis in (0, 1):  # uniform from -5 to 5, and independent
        assert np.allclose(np.quantile(moved[:, axis], [0.0, 0.25, 0.5, 0.75, 1.0]), [-5, -2.5, 0, 2.5, 5], atol=0.3)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.1


def test_images_rotate_by_up_to_rotate_degrees_about_their_centre():
    moved = middles(built((41, 41, 1), rotate=30.0).forward_propagation(blob(41, 20, 30, 2000))) - 20.0
    assert np.allclose(np.hypot(*moved.T), 10.0, atol=0.05)
    angles = np.degrees(np.arctan2(moved[:, 0], moved[:, 1]))
    assert np.allclose(np.quantile(angles, [0.0, 0.25, 0.5, 0.75, 1.0]), [-30, -15, 0, 15, 30], atol=1.5)


def test_images_are_scaled_by_up_to_1_plus_and_minus_scale():
    layer = built((41, 41, 1), scale=0.4)
    moved = middles(layer.forward_propagation(blob(41, 20, 30, 2000))) - 20.0
    assert np.allclose(moved[:, 0], 0.0, atol=1e-9)
    factors = moved[:, 1] / 10.0
    assert np.allclose(np.quantile(factors, [0.0, 0.25, 0.5, 0.75, 1.0]), [0.6, 0.8, 1.0, 1.2, 1.4], atol=0.03)
    mass = layer.forward_propagation(blob(41, 20, 20, 50)).sum(axis=(1, 2, 3)) / blob(41, 20, 20, 1).sum()
    scales = 1.0 / layer.maps[:, 0, 0]
    assert np.allclose(mass, scales**2, rtol=0.05)


def test_outside_the_image_there_are_zeros():
    y = built((8, 8, 1), shift=30.0).forward_propagation(np.ones((100, 8, 8, 1)))
    assert (y.reshape(100, -1).max(axis=1) == 0.0).sum() > 30  # moved out as a whole
    assert y.min() == 0.0
    assert y.max() <= 1.0 + 1e-12


def test_a_corner_of_the_images_is_interpolated_between_neighbours_and_zeros():
    """By hand: an image of 2 x 2 moved by s rows and t columns."""
    layer = built((2, 2, 1), shift=0.75)
    x = np.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    y = layer.forward_propagation(x)[0, :, :, 0]
    s, t = -layer.maps[0, :, 2]
    b = lambda d: max(0.0, 1.0 - abs(d))  # noqa: E731
    for i in range(2):
        for j in range(2):
            expected = sum(b(i - s - p) * b(j - t - q) * x[0, p, q, 0] for p in range(2) for q in range(2))
            assert y[i, j] == pytest.approx(expected, rel=1e-12, abs=1e-12)


# -- backward ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", ["auto", "portable"])
@pytest.mark.parametrize("shape", [(3, 7, 5, 2), (1, 1, 1, 1), (2, 1, 9, 1), (20, 28, 28, 1), (0, 4, 4, 1)])
@pytest.mark.parametrize("settings", SETTINGS)
def test_backward_is_the_adjoint(settings, shape, kernels):
    layer = RandomAffineLayer(**settings)
    layer.kernels = kernels
    layer.build(shape[1:], portnn.get_backend("cpu"), "float64", 3, "")
    for step in range(3):
        layer.step = step
        x, y = numbers(*shape), numbers(*shape, seed=1)
        left, right = (layer.forward_propagation(x) * y).sum(), (x * layer.backward_propagation(y)).sum()
        assert abs(left - right) <= 1e-12 * max(1.0, np.abs(x).sum())


@pytest.mark.parametrize("settings", SETTINGS)
def test_no_pixel_of_the_result_is_out_of_reach(settings):
    """A pixel finds all to which it contributes: the sums of errors equal the sums of weights."""
    reach = reach_of(settings.get("rotate", 0.0), settings.get("scale", 0.0))
    assert 1 <= reach <= 3
    table = ops.bind(portnn.get_backend(np), "portable")
    x = np.zeros((64, 12, 12, 1))
    amounts = [settings.get(name, 0.0) for name in ("shift", "rotate", "scale")]
    maps = table.random_maps(x, (1, 2), 0, *amounts)
    whole = table.resample_backward(np.ones_like(x), maps, 5)
    assert np.allclose(table.resample_backward(np.ones_like(x), maps, reach), whole, rtol=1e-12, atol=1e-12)


def test_gradcheck_passes():
    assert portnn.gradcheck(RandomAffineLayer(shift=2.0, rotate=40.0, scale=0.3), input_shape=(6, 7, 2)).passed
    layers = [
        ConvLayer((6, 6, 1), (3, 3), 2),
        RandomAffineLayer(shift=1.0, rotate=20.0),
        FlattenLayer(),
        FCLayer(32, 2),
    ]
    assert portnn.gradcheck(Network(layers, seed=1), input_shape=(6, 6, 1)).passed


def test_amounts_that_change_after_forward_do_not_change_backward():
    x = numbers(4, 6, 6, 1)
    one, other = (built((6, 6, 1), shift=1.0, rotate=40.0, scale=0.5) for _ in range(2))
    one.forward_propagation(x)
    other.forward_propagation(x)
    other.rotate, other.scale, other.shift = 0.0, 0.0, 0.0
    assert np.array_equal(one.backward_propagation(x), other.backward_propagation(x))
    assert np.array_equal(other.forward_propagation(x), x)


# -- what the amounts depend on ----------------------------------------------------------------------------------------


def test_amounts_are_those_of_the_documentation():
    """Computed directly with NumPy's Philox generator: four words of 32 bits for each image."""
    net = Network([ResidualLayer(RandomAffineLayer(shift=2.0, rotate=25.0, scale=0.3))], seed=5, dtype="float64")
    layer = net.layers[0].layers[0]
    layer.step = 7
    layer.forward_propagation(numbers(3, 6, 9, 1))
    key = np.array([5, int.from_bytes(hashlib.sha256(b"0.0.affine").digest()[:8], "big")], np.uint64)
    raw = np.random.Philox(key=key, counter=np.array([0, 0, 7, 0], np.uint64)).random_raw(6)
    for (s, t, a, f), found in zip(raw.view("<u4").reshape(3, 4) / 2**31 - 1.0, layer.maps, strict=True):
        factor, angle = 1.0 + 0.3 * f, math.radians(25.0 * a)
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / factor
        centre = np.array([2.5, 4.0])
        offset = centre - turn @ (centre + 2.0 * np.array([s, t]))
        assert np.allclose(found, np.column_stack([turn, offset]), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_amounts_are_the_same_everywhere_and_in_both_dtypes(backend):
    expected = built((5, 6, 1), shift=2.0, rotate=30.0, scale=0.2, path="3")
    expected.forward_propagation(numbers(4, 5, 6, 1))
    for dtype in ("float32", "float64"):
        layer = built((5, 6, 1), place(backend), dtype, shift=2.0, rotate=30.0, scale=0.2, path="3")
        x = numbers(4, 5, 6, 1).astype(dtype)
        y = layer.backend.to_numpy(layer.forward_propagation(layer.backend.asarray(x)))
        assert np.allclose(layer.backend.to_numpy(layer.maps), expected.maps, rtol=1e-14, atol=1e-14)
        assert y.dtype == dtype
        assert np.allclose(y, expected.output, atol=1e-6 if dtype == "float32" else 1e-13)


def test_a_device_without_float64_moves_alike():
    strict = pytest.importorskip("array_api_strict")
    settings = dict(shift=2.0, rotate=30.0, scale=0.2)
    backend = portnn.get_backend(strict, device=strict.Device("no_float64"))
    x = numbers(4, 9, 8, 2).astype(np.float32)
    layers = built((9, 8, 2), backend, "float32", **settings), built((9, 8, 2), "cpu", "float32", **settings)
    for method in ("forward_propagation", "backward_propagation"):
        found, expected = (getattr(layer, method)(layer.backend.asarray(x)) for layer in layers)
        assert np.allclose(backend.to_numpy(found), expected, atol=1e-5)


def test_each_image_step_seed_and_place_has_amounts_of_its_own():
    x = np.repeat(numbers(1, 6, 6, 1), 3, axis=0)
    outputs = []
    for settings in (dict(), dict(seed=8), dict(path="1")):
        layer = built((6, 6, 1), shift=1.0, **settings)
        outputs += [*layer.forward_propagation(x)]
        layer.step = 1
        outputs += [*layer.forward_propagation(x)]
    assert len({y.tobytes() for y in outputs}) == len(outputs)


def test_a_frozen_layer_moves_images_too():
    layers = [RandomAffineLayer(shift=2.0), FlattenLayer(), FCLayer(36, 2)]
    nets = [Network(copy.deepcopy(layers), seed=1) for _ in range(2)]
    nets[0].layers[0].trainable = False
    for net in nets:
        net.use("mse")
        net.fit(numbers(8, 6, 6, 1), numbers(8, 2), epochs=2, learning_rate=0.1, batch_size=4, verbose=0)
    assert np.array_equal(nets[0].parameters["2.weights"], nets[1].parameters["2.weights"])


def test_copies_and_pickles_move_alike_and_keep_no_batch():
    layer = built((6, 6, 1), shift=2.0, rotate=10.0)
    x = numbers(4, 6, 6, 1)
    y = layer.forward_propagation(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert (other.maps, other.reach, other.input) == (None, None, None)
        assert np.array_equal(other.forward_propagation(x), y)


def test_an_interrupted_training_goes_on_with_the_same_moves(tmp_path):
    def network():
        net = Network([RandomAffineLayer(shift=2.0, rotate=10.0), FlattenLayer(), FCLayer(36, 2)], seed=1)
        net.use("mse", optimizer="adam")
        return net

    x, y = numbers(8, 6, 6, 1), numbers(8, 2)
    whole, part = network(), network()
    whole.fit(x, y, epochs=4, batch_size=4, verbose=0)
    part.fit(x, y, epochs=2, batch_size=4, verbose=0)
    part.save(tmp_path / "net.portnn.safetensors")
    resumed = portnn.load(tmp_path / "net.portnn.safetensors")
    resumed.fit(x, y, epochs=2, batch_size=4, verbose=0)
    assert np.array_equal(resumed.parameters["2.weights"], whole.parameters["2.weights"])


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(shift=-1.0), r"shift must be in \[0, 1e\+06\), got -1.0"),
        (dict(shift=float("nan")), r"shift must be in \[0, 1e\+06\), got nan"),
        (dict(shift=float("inf")), r"shift must be in \[0, 1e\+06\), got inf"),
        (dict(shift=1e6), r"shift must be in \[0, 1e\+06\), got 1000000.0"),
        (dict(rotate=-5), r"rotate must be in \[0, 180\], in degrees to either side; got -5"),
        (dict(rotate=181), r"rotate must be in \[0, 180\], in degrees to either side; got 181"),
        (dict(scale=1.0), r"scale must be in \[0, 1\), got 1.0"),
        (dict(scale=-0.1), r"scale must be in \[0, 1\), got -0.1"),
    ],
)
def test_amounts_out_of_range(settings, said):
    with pytest.raises(ValueError, match=said):
        RandomAffineLayer(**settings)
    layer = RandomAffineLayer()
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=said):
        setattr(layer, name, value)
    assert getattr(layer, name) == 0.0


@pytest.mark.parametrize("name", ["shift", "rotate", "scale"])
@pytest.mark.parametrize("value", ["2", None, (1, 2), True, np.ones(2)])
def test_amounts_that_are_no_numbers(name, value):
    with pytest.raises(TypeError, match=f"{name} must be a number"):
        RandomAffineLayer(**{name: value})


def test_names_of_other_libraries_are_answered():
    with pytest.raises(TypeError, match=r"degrees.*rotate"):
        RandomAffineLayer(degrees=10)
    with pytest.raises(TypeError, match="RandomAffineLayer"):
        RandomAffineLayer(2.0)
    with pytest.raises(ImportError, match="RandomAffineLayer"):
        from portnn import RandomRotation  # noqa: F401


@pytest.mark.parametrize(
    ("sample", "advice"),
    [
        ((28, 28), r"put ReshapeLayer\(\(28, 28, 1\)\) in front of it"),
        ((784,), "put a ReshapeLayer in front of it"),
        ((2, 3, 4, 5), "put a ReshapeLayer in front of it"),
    ],
)
def test_what_is_no_image_is_refused(sample, advice):
    with pytest.raises(ValueError, match=r"takes images \(H, W, C\), but a sample comes in with shape .*" + advice):
        RandomAffineLayer(shift=1.0).output_shape(sample)
    with pytest.raises(ValueError, match="takes images"):
        Network([RandomAffineLayer(shift=1.0)]).predict(np.ones((3, *sample)))


def test_it_shows_its_settings():
    layer = RandomAffineLayer(shift=2, rotate=15, scale=0.15)
    assert repr(layer) == "RandomAffineLayer(shift=2, rotate=15, scale=0.15)"
    assert (layer.shift, layer.rotate, layer.scale) == (2.0, 15.0, 0.15)
