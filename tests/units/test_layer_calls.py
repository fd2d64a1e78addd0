"""Layers called directly: layer(X) caches nothing, and backward_propagation without a learning rate updates nothing."""

import numpy as np
import pytest

import portnn
from cases import LAYERS
from portnn import BatchNormLayer, FCLayer, ResidualLayer


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_a_layer_that_is_called_keeps_nothing(case):
    X = np.random.default_rng(0).standard_normal((4, *case.sample))
    layer = case.make()
    layer.build(case.sample, portnn.get_backend("cpu"), "float64", 0, "0")
    before = [dict(vars(part)) for part in layer.walk()]
    Y = layer(X)
    for part, then in zip(layer.walk(), before, strict=True):
        now = vars(part)
        assert now.keys() == then.keys()
        assert all(now[name] is value for name, value in then.items())
    assert np.array_equal(layer(X.tolist()), Y)


def test_backward_without_a_learning_rate_changes_no_parameter():
    layer = ResidualLayer(FCLayer(3, 3), BatchNormLayer())
    Y = layer.forward_propagation(np.random.default_rng(0).standard_normal((5, 3)))
    before = [{**part.parameters, **part.buffers} for part in layer.walk()]
    dX = layer.backward_propagation(np.ones(Y.shape))
    assert dX.shape == (5, 3)
    assert [part.step for part in layer.walk()] == [0, 0, 0]
    assert layer.layers[1].new_buffers.keys() == {"running_mean", "running_var"}
    for part, then in zip(layer.walk(), before, strict=True):
        assert {**part.parameters, **part.buffers} == then
    assert layer.layers[0].gradients["weights"].shape == (3, 3)
    assert layer.backward_propagation(np.ones(Y.shape), need_input_error=False) is None
    layer.backward_propagation(np.ones(Y.shape), 0.1)
    assert [part.step for part in layer.walk()] == [1, 1, 1]
    assert layer.layers[1].buffers["running_var"] is layer.layers[1].new_buffers["running_var"]
