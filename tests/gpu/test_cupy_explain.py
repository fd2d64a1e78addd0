"""``Network.explain`` of a network on the GPU: the numbers are the GPU's, and its equations hold."""

import pickle

import pytest

import portnn
from equations import equations, faults
from explained import small_images, xor

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("make", [xor, small_images])
def test_a_network_on_the_gpu_is_explained_there(backend, make):
    net, x, y = make()
    on_the_cpu = net.explain(x[1], y[1])
    net.to(backend)
    before = pickle.dumps(net)
    explanation = net.explain(x[1], y[1])
    assert pickle.dumps(net) == before
    found = equations(explanation.text)
    wrong = [fault for text in found for fault in faults(text)]
    assert not wrong
    assert [text.split(" = ")[0] for text in found] == [text.split(" = ")[0] for text in on_the_cpu.equations]


def test_a_sample_may_be_on_the_gpu(backend):
    net, x, y = xor()
    net.to(backend)
    there = portnn.to_device(x[1].astype("float32"), backend)
    assert net.explain(there, y[1]).text == net.explain(x[1], y[1]).text
