"""The networks that are drawn hold all there is: every layer, activation, option and shape."""

import pytest

import portnn
from cases import ACTIVATIONS
from drawn_networks import Drawer
from portnn import Network, SequentialLayer

CONV, POOLS = ("ConvLayer",), ("MaxPoolLayer", "AvgPoolLayer")


@pytest.fixture(scope="module")
def networks():
    """As many as the tests of each exporter take."""
    return [Drawer(seed).network() for seed in range(60)]


@pytest.fixture(scope="module")
def layers(networks):
    return [layer for drawn, _ in networks for layer in Network(drawn).walk()]


def test_every_layer_and_activation(layers):
    kinds = {type(layer).__name__ for layer in layers}
    assert kinds == {name for name in portnn.__all__ if name.endswith("Layer")} - {"Layer"}
    drawn = {layer.activation.__name__ for layer in layers if type(layer).__name__ == "ActivationLayer"}
    assert drawn == set(ACTIVATIONS)


def test_samples_of_every_kind(networks):
    shapes = [shape for _, shape in networks]
    assert {len(shape) for shape in shapes} == {1, 2, 3, 4}
    assert any(1 in shape[:-1] and len(shape) == 3 for shape in shapes)


@pytest.mark.parametrize("kinds", [CONV, POOLS])
def test_options_of_windows(layers, kinds):
    found = [layer for layer in layers if type(layer).__name__ in kinds]
    paddings = [layer.padding for layer in found]
    assert {"valid", "same"} < {padding for padding in paddings if isinstance(padding, str)} | {0, 1}
    assert any(isinstance(padding, int) and padding for padding in paddings)
    sides = [side for padding in paddings if isinstance(padding, tuple) for side in padding]
    assert any(isinstance(side, int) for side in sides)
    pairs = [side for side in sides if isinstance(side, tuple)]
    assert any(before < behind for before, behind in pairs)
    assert any(before > behind for before, behind in pairs)
    for name in ("stride", "dilation") if kinds == CONV else ("stride",):
        given = [getattr(layer, name) for layer in found]
        assert {1, 2, 3} <= {n for n in given if isinstance(n, int)}
        assert any(len(set(n)) > 1 for n in given if isinstance(n, tuple))
    if kinds == CONV:
        assert {len(layer.kernel_shape) for layer in found} == {1, 2}
        assert any(1 < layer.groups < layer.input_shape[-1] for layer in found)
        assert any(1 < layer.groups == layer.input_shape[-1] for layer in found)
    else:
        assert {len(layer.window) for layer in found} == {1, 2, 3}


def test_other_options(layers):
    def values(name, *kinds):
        return [getattr(layer, name) for layer in layers if type(layer).__name__ in kinds]

    for kind in ("BatchNormLayer", "LayerNormLayer", "GroupNormLayer"):
        assert len(set(values("epsilon", kind))) > 3, kind
    assert len(set(values("momentum", "BatchNormLayer"))) > 3
    assert {1, 2} < set(values("groups", "GroupNormLayer"))
    assert {1, 2, 3, 4} == {len(shape) for shape in values("shape", "ReshapeLayer")}
    assert {type(factor) for factor in values("factor", "UpsampleLayer")} == {int, tuple}
    assert set(values("merge", "ParallelLayer")) == {"concat", "add"}
    for kind in ("FCLayer", "ConvLayer"):
        assert {"bias" in layer.shapes for layer in layers if type(layer).__name__ == kind} == {True, False}


def test_composites_within_composites(layers):
    assert max(layer.path.count(".") for layer in layers) >= 3
    assert any(type(layer) is SequentialLayer and not layer.layers for layer in layers)
