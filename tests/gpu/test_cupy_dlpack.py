"""Arrays of other libraries on the GPU, by DLPack, and PyTorch's weights for networks on the GPU."""

import numpy as np
import pytest

import portnn.torch
import torch_nets
from portnn import FCLayer, Network, to_device, to_numpy

pytestmark = pytest.mark.gpu
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


class Exported:
    """An array of another library on the GPU: an object with DLPack, and nothing else of an array."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def network(backend):
    net = Network([FCLayer(3, 2)], seed=1, backend=backend)
    net.use("mse")
    return net


def test_no_copy_on_the_device(backend, cupy):
    there = cupy.asarray(VALUES)
    for x in (there, Exported(there), Exported(there.T), Exported(there[::2])):
        found = to_device(x, "gpu")
        array = getattr(x, "array", x)
        assert isinstance(found, cupy.ndarray)
        assert found.data.ptr == array.data.ptr
        assert found.strides == array.strides
    assert np.array_equal(to_numpy(Exported(there)), VALUES)


def test_networks_take_them_and_answer_with_cupys(backend, cupy):
    there, targets = cupy.asarray(VALUES), cupy.asarray(VALUES[:, :2])
    net, expected = network("gpu"), network("gpu")
    found = net.predict(Exported(there))
    assert isinstance(found, cupy.ndarray)
    assert np.array_equal(to_numpy(found), to_numpy(expected.predict(there)))
    options = dict(epochs=4, learning_rate=0.1, batch_size=2, verbose=0)
    a = net.fit(Exported(there), Exported(targets), **options)
    assert a["error"] == expected.fit(there, targets, **options)["error"]
    assert np.array_equal(to_numpy(there), VALUES)


def test_what_is_elsewhere_is_an_error(backend, cupy):
    there = cupy.asarray(VALUES)
    with pytest.raises(
        TypeError, match=r"x is on backend 'gpu', but must be on backend 'cpu'.*to_device\(array, 'cpu'\)"
    ):
        network("cpu").predict(there)
    with pytest.raises(TypeError, match=r"x is on device .*must be on backend 'cpu'.*to_numpy\(array\)"):
        network("cpu").predict(Exported(there))
    with pytest.raises(TypeError, match=r"x is on device .*must be on backend 'gpu'.*to_device\(array, 'gpu'\)"):
        network("gpu").predict(Exported(VALUES))  # another library's, on the host


@pytest.mark.parametrize("name", ["mlp", "lenet", "1-D", "blocks behind a flatten"])
def test_pytorchs_weights(backend, name):
    cpu, gpu = torch_nets.network(name, "float32"), torch_nets.network(name, "float32", backend="gpu")
    for layer in cpu.walk():
        for path in layer.parameters:
            layer.assign(path, np.random.default_rng(4).standard_normal(layer.parameters[path].shape))
    weights = portnn.torch.state_dict(cpu)
    portnn.torch.load_state_dict(gpu, weights)
    assert all(backend.owns(array) for array in gpu.parameters.values())
    found = portnn.torch.state_dict(gpu)
    assert list(found) == list(weights)
    assert all(type(found[key]) is np.ndarray and np.array_equal(found[key], weights[key]) for key in weights)
    x = torch_nets.batch(name)
    np.testing.assert_allclose(gpu.predict(x), cpu.predict(x), rtol=1e-4, atol=1e-4)


def test_weights_on_the_gpu(backend, cupy):
    weights = {"0.weight": cupy.asarray(VALUES[:2]), "0.bias": cupy.zeros(2, np.float32)}
    gpu = network("gpu")
    portnn.torch.load_state_dict(gpu, weights)
    assert np.array_equal(to_numpy(gpu.layers[0].weights), VALUES[:2].T)
    with pytest.raises(TypeError, match=r"0.weight is on backend 'gpu'.*portnn.to_numpy\(array\)"):
        portnn.torch.load_state_dict(network("cpu"), weights)


def test_a_fit_goes_on_from_weights_that_were_set(backend):
    """A captured step has the addresses of the parameters, which the weights must get into."""
    gpu, cpu = network("gpu"), network("cpu")
    options = dict(epochs=5, learning_rate=0.1, batch_size=2, verbose=0)
    gpu.fit(VALUES, VALUES[:, :2], **options)
    weights = {"0.weight": VALUES[:2], "0.bias": np.zeros(2, np.float32)}
    for net in (gpu, cpu):
        portnn.torch.load_state_dict(net, weights)
    errors = [net.fit(VALUES, VALUES[:, :2], **options)["error"][-5:] for net in (gpu, cpu)]
    np.testing.assert_allclose(*errors, rtol=1e-4)


def test_a_library_that_cannot_copy_to_the_host(backend, cupy):
    """With an older DLPack it only hands on the memory, on the stream that it is given."""

    class Older(Exported):
        def __dlpack__(self, stream=None):
            return self.array.__dlpack__(stream=stream)

    there = cupy.asarray(VALUES)
    assert to_device(Older(there), "gpu").data.ptr == there.data.ptr
    for found in (to_numpy(Older(there)), to_device(Older(there), "cpu")):
        assert type(found) is np.ndarray
        assert np.array_equal(found, VALUES)


def test_the_stream_that_will_use_an_array_is_given(backend, cupy):
    """So that its library, which may have written it on another stream, lets that one wait."""

    class Recorded(Exported):
        def __dlpack__(self, **options):
            streams.append(options["stream"])
            return super().__dlpack__(**options)

    streams, mine = [], cupy.cuda.Stream(non_blocking=True)
    with mine:
        x = Recorded(cupy.asarray(VALUES))
        to_device(x, "gpu")
        answer = network("gpu").predict(x)
        assert np.array_equal(to_numpy(answer), to_numpy(network("gpu").predict(VALUES)))
    assert streams == [mine.ptr, backend.stream.ptr]
