"""Arrays of other libraries, by DLPack: one memory where they lie on the device, an error where they do not."""

import array_api_strict
import numpy as np
import pytest

import portnn
from portnn import ActivationLayer, FCLayer, FlattenLayer, Network, ScaleLayer, get_backend, to_device, to_numpy

ELSEWHERE = array_api_strict.Device("device1")  # array-api-strict's imitation of another device
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


class Exported:
    """An object with DLPack, and nothing else of an array."""

    def __init__(self, array, device=None):
        self.array, self.place = array, device

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.place or self.array.__dlpack_device__()


class Exports:
    """A library in the host's memory: how it makes an array of NumPy's values, where that lies, and whether it writes."""

    def __init__(self, name):
        self.writes = name != "jax"
        if name == "torch":
            torch = pytest.importorskip("torch", reason="PyTorch is not installed")
            self.make, self.address = torch.tensor, lambda x: x.data_ptr()
        elif name == "jax":
            jax = pytest.importorskip("jax", reason="JAX is not installed")
            self.make, self.address = jax.numpy.asarray, lambda x: x.unsafe_buffer_pointer()
        elif name == "strict":
            self.make = lambda x: array_api_strict.asarray(x, copy=True)
            self.address = lambda x: x._array.ctypes.data
        else:
            self.make, self.address = lambda x: Exported(np.array(x)), lambda x: x.array.ctypes.data


@pytest.fixture(params=["torch", "jax", "strict", "object"])
def library(request):
    return Exports(request.param)


def network(**options):
    net = Network([FCLayer(3, 4), ActivationLayer("tanh"), FCLayer(4, 2)], seed=1, **options)
    net.use("mse")
    return net


# -- one memory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [to_numpy, lambda x: to_device(x, "cpu")], ids=["to_numpy", "to_device"])
def test_no_copy_on_the_host(library, call):
    x = library.make(VALUES)
    found = call(x)
    assert type(found) is np.ndarray
    assert found.dtype == np.float32
    assert np.array_equal(found, VALUES)
    assert found.ctypes.data == library.address(x)
    assert found.flags.writeable == library.writes


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "uint8", "bool"])
def test_dtypes_are_kept(dtype):
    found = to_numpy(Exported(VALUES.astype(dtype)))
    assert found.dtype == dtype
    assert np.array_equal(found, VALUES.astype(dtype))


def test_strides_are_kept():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.tensor(VALUES)
    for view in (x.T, x[::2], x[:, 1:], x[1:, ::2], x[:0], torch.tensor(1.5)):
        found = to_numpy(view)
        assert np.array_equal(found, np.asarray(view))
        if found.size:
            assert found.strides == tuple(4 * n for n in view.stride())
            assert found.ctypes.data == view.data_ptr()
    net = network()
    assert np.array_equal(net.predict(torch.tensor(VALUES.T.copy()).T), net.predict(VALUES))


def test_writing_is_seen_on_both_sides():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.tensor(VALUES)
    to_numpy(x)[0, 0] = 7.0
    assert x[0, 0] == 7.0
    there = to_device(host := VALUES.copy(), get_backend(torch))
    there[0, 0] = 9.0
    assert host[0, 0] == 9.0
    assert there.data_ptr() == host.ctypes.data


def test_what_must_not_be_written_to_is_copied_for_libraries_that_write():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    host = VALUES.copy()
    host.flags.writeable = False
    for x in (host, VALUES[::-1], VALUES.astype(">f4")):
        there = to_device(x, get_backend(torch))
        there += 1.0
        assert np.array_equal(np.asarray(there), x + 1.0)
    assert np.array_equal(host, VALUES)


def test_numpy_arrays_are_shared_with_a_generic_backend():
    host, backend = VALUES.copy(), get_backend(array_api_strict)
    there = to_device(host, backend)
    assert backend.owns(there)
    assert there._array.ctypes.data == host.ctypes.data
    elsewhere = to_device(host, get_backend(array_api_strict, device=ELSEWHERE))
    assert not np.shares_memory(elsewhere._array, host)


def test_tensors_with_a_recorded_graph():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.tensor(VALUES, requires_grad=True)
    assert to_numpy(x).ctypes.data == x.data_ptr()
    assert to_numpy(2.0 * x).tolist() == (2 * VALUES).tolist()
    net = network()
    assert np.array_equal(net.predict(x), net.predict(VALUES))
    assert x.grad is None


# -- data of networks --------------------------------------------------------------------------------------------------


def test_networks_take_them_and_answer_with_their_backends_arrays(library):
    x, y = library.make(VALUES), library.make(VALUES[:, :2])
    expected, net = network(), network()
    assert type(net.predict(x)) is np.ndarray
    assert np.array_equal(net.predict(x), expected.predict(VALUES))
    assert np.array_equal(net.predict_classes(x), expected.predict_classes(VALUES))
    assert net.evaluate(x, y) == expected.evaluate(VALUES, VALUES[:, :2])
    options = dict(epochs=3, learning_rate=0.1, batch_size=2, shuffle=True, verbose=0)
    weights = library.make(np.ones(4, np.float32))
    a = net.fit(x, y, sample_weight=weights, validation_data=(x, y), **options)
    b = expected.fit(
        VALUES, VALUES[:, :2], sample_weight=np.ones(4), validation_data=(VALUES, VALUES[:, :2]), **options
    )
    assert a["error"] == b["error"]
    assert a["val_error"] == b["val_error"]
    assert np.array_equal(net.layers[0].weights, expected.layers[0].weights)
    assert np.array_equal(to_numpy(x), VALUES)
    assert np.array_equal(to_numpy(y), VALUES[:, :2])


def test_batches_lists_and_parameters(library):
    net, expected = network(), network()
    x, y = library.make(VALUES), library.make(VALUES[:, :2])
    net.fit([(x, y), (x, y)], epochs=1, learning_rate=0.1, verbose=0)
    expected.fit([(VALUES, VALUES[:, :2])] * 2, epochs=1, learning_rate=0.1, verbose=0)
    assert np.array_equal(net.layers[0].weights, expected.layers[0].weights)
    samples = [library.make(row) for row in VALUES]
    if not isinstance(x, Exported):
        assert np.array_equal(net.predict(samples), net.predict(VALUES))
        given = library.make(VALUES.T.copy())
        net.parameters["0.weights"] = given
        assert np.array_equal(net.layers[0].weights, VALUES.T)
        net.layers[0].parameters["weights"][:] = 0.0  # a copy: the library's own array stays as it is
        assert np.array_equal(to_numpy(given), VALUES.T)


@pytest.mark.parametrize("name", ["jax", "torch", "strict"])
def test_layers_that_stand_alone(name):
    library, layer = Exports(name), FCLayer(3, 2)
    layer.weights = library.make(np.ones((3, 2), np.float32))
    found = to_numpy(layer(library.make(VALUES)))
    np.testing.assert_allclose(found, VALUES @ np.ones((3, 2)), rtol=1e-6)
    assert isinstance(layer(library.make(VALUES)), np.ndarray) == (name == "jax")  # which cannot be written to


def test_nothing_is_written_into_users_arrays(library):
    """Not by layers that hand on a view of what they took, nor by training; what comes out is the caller's own."""
    x = library.make(VALUES)
    for layers in ([FlattenLayer()], [ScaleLayer(1.0)], [FlattenLayer(), FCLayer(3, 2)]):
        net = Network(layers, seed=1)
        answer = net.predict(x)
        answer[...] = 5.0
        net.use("mse", optimizer="adam")
        net.fit(x, library.make(np.zeros(answer.shape, np.float32)), 2, batch_size=4, verbose=0)
        assert np.array_equal(to_numpy(x), VALUES)


def test_a_network_on_another_library():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = network(backend=get_backend(torch))
    strict = array_api_strict.asarray(VALUES)
    assert np.allclose(net.predict(strict), net.predict(VALUES), atol=1e-6)
    assert type(net.predict(VALUES)) is np.ndarray
    assert isinstance(net.predict(strict), torch.Tensor)  # an array of the network's backend
    assert isinstance(net.predict(torch.tensor(VALUES)), torch.Tensor)


# -- what is elsewhere, or cannot be shared ----------------------------------------------------------------------------


def test_an_array_on_another_device_is_an_error_that_names_the_call():
    net = network()
    there = array_api_strict.asarray(VALUES, device=ELSEWHERE)
    for call in (
        lambda: net.predict(there),
        lambda: net.fit(there, VALUES[:, :2], 1, 0.1),
        lambda: net.evaluate(there, VALUES[:, :2]),
        lambda: net.predict([there[0, :], there[1, :]]),
    ):
        with pytest.raises(TypeError, match=r"x is on backend .*device1.*to_device\(array, 'cpu'\).*to_numpy\(array\)"):
            call()
    with pytest.raises(TypeError, match=r"x is on device .*portnn.to_numpy\(array\)"):
        net.predict(Exported(VALUES, device=(2, 0)))
    assert np.array_equal(to_numpy(there), VALUES)  # asked for, it is copied
    assert not np.shares_memory(to_numpy(there), there._array)


def test_tensors_without_memory_of_their_own():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = network()
    with pytest.raises(TypeError, match=r"x is on backend 'torch on meta'.*portnn.to_device\(array, 'cpu'\)"):
        net.predict(torch.empty((4, 3), device="meta"))
    with pytest.raises(TypeError, match=r"x is an array of torch that it does not share by DLPack.*to_dense"):
        net.predict(torch.tensor(VALUES).to_sparse())
    with pytest.raises(TypeError, match="x must be real numbers, got dtype complex64"):
        net.predict(torch.zeros((4, 3), dtype=torch.complex64))


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_bfloat16(name):
    library = pytest.importorskip(name, reason=f"{name} is not installed")
    if name == "torch":
        x, cast = library.tensor(VALUES, dtype=library.bfloat16), r"x\.float\(\)"
    else:
        x, cast = library.numpy.asarray(VALUES, dtype=library.numpy.bfloat16), r"x\.astype\('float32'\)"
    for call in (to_numpy, lambda x: to_device(x, "cpu"), network().predict):
        with pytest.raises(TypeError, match=rf"has dtype .*bfloat16, which NumPy and portnn do not have.*{cast}"):
            call(x)


def test_host_data_that_numpy_takes_in_its_own_way():
    """A column of a table may have DLPack, but not for booleans or for gaps; on another device it is no host data."""

    class Column(Exported):
        def __dlpack__(self, **options):
            raise TypeError("booleans are packed")

        def __array__(self, dtype=None, copy=None):
            return np.array(self.array, dtype=dtype)

    net = network()
    assert np.array_equal(net.predict(Column(VALUES)), net.predict(VALUES))
    assert np.array_equal(to_numpy(Column(VALUES > 0.5)), VALUES > 0.5)
    with pytest.raises(TypeError, match="x is on device"):
        net.predict(Column(VALUES, device=(2, 0)))
    assert np.array_equal(to_numpy(Column(VALUES, device=(2, 0))), VALUES)  # asked for, as of JAX on several devices


def test_objects_that_do_not_hold_what_they_promise():
    class Broken(Exported):
        def __dlpack__(self, **options):
            raise BufferError("not today")

    with pytest.raises(TypeError, match="could not be copied to the host by DLPack: not today"):
        portnn.to_numpy(Broken(VALUES))
    with pytest.raises(TypeError, match="does not share by DLPack"):
        network().predict(Broken(VALUES))


@pytest.mark.parametrize("place", [(3, 0), (11, 0), (1, 2)], ids=["pinned by CUDA", "pinned by ROCm", "numbered"])
def test_memory_of_the_host_under_another_name(place):
    """That of tensors with pin_memory(), which a GPU can read, too, and of JAX with several devices on the CPU."""
    x = Exported(VALUES.copy(), device=place)
    assert to_numpy(x).ctypes.data == x.array.ctypes.data
    assert np.array_equal(network().predict(x), network().predict(VALUES))


class Older(Exported):
    """Of a library that knows the first version of the protocol: no arguments but a stream."""

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__()


def test_the_first_version_of_the_protocol():
    x = Older(VALUES.copy())
    assert to_numpy(x).ctypes.data == x.array.ctypes.data
    assert np.array_equal(network().predict(x), network().predict(VALUES))
    frozen = VALUES.copy()
    frozen.flags.writeable = False
    with pytest.raises(TypeError, match=r"an array of \w+ could not be copied.*readonly"):
        to_numpy(Older(frozen))


def test_an_object_that_does_not_say_its_device():
    class Nowhere:
        def __dlpack__(self, **options):
            return VALUES.__dlpack__(**options)

    class Failing(Exported):
        def __dlpack_device__(self):
            raise RuntimeError("not today")

    for call in (to_numpy, lambda x: to_device(x, "cpu"), network().predict):
        with pytest.raises(TypeError, match=r"has __dlpack__ but no __dlpack_device__.*DLPack needs both"):
            call(Nowhere())
    with pytest.raises(TypeError, match=r"x is on device \? of \w+"):
        network().predict(Failing(VALUES))


def test_what_has_no_memory():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    net, x = network(), jax.numpy.asarray(VALUES)
    for call in (jax.jit(net.predict), jax.grad(lambda x: net.predict(x).sum())):
        with pytest.raises(TypeError, match=r"x is an array of jax without memory.*call portnn outside"):
            call(x)
    with pytest.raises(TypeError, match="without memory that can be shared"):
        net.predict(jax.random.key(0))


def test_what_has_no_memory_in_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net, x = network(), torch.tensor(VALUES)
    with pytest.raises(TypeError, match="x is an array of torch without memory that can be shared"):
        torch.func.vmap(lambda row: torch.tensor(net.predict(row[None])))(x)
    with pytest.raises(RuntimeError, match="could not be copied to the host: cpu: can't convert Sparse") as caught:
        to_numpy(x.to_sparse())
    assert str(caught.value).count("cpu: ") == 1


def test_lists_of_both_kinds(library):
    samples = [library.make(VALUES[0]), VALUES[1].tolist()]
    with pytest.raises(
        TypeError, match=r"x\[0\] is an array of \w+, but x\[1\] a list: samples of a list are arrays of"
    ):
        network().predict(samples)


def test_dtypes_that_another_package_adds_to_numpy():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    with pytest.raises(TypeError, match=r"x has dtype bfloat16, which NumPy and portnn do not have: cast it first"):
        network().predict(VALUES.astype(ml_dtypes.bfloat16))
