"""Operators that normalize, as layers."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from portnn.exchange.onnx_graph.proto import Node
from portnn.exchange.onnx_graph.steps import NoLayerError, Steps, Var
from portnn.exchange.onnx_graph.structure import Piece
from portnn.layers import BatchNormLayer, GroupNormLayer, LayerNormLayer


def _epsilon(s: Steps, node: Node) -> float:
    """In float32 the shortest decimal number that is the float32 of the file: 1e-05, not 9.99999975e-06."""
    found = np.float32(node.attributes.get("epsilon", 1e-5))
    return float(str(found)) if s.dtype == "float32" else float(found)


def _batch_norm(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x = s.full(inputs[0])
    in_test = s.opset >= 7 or node.attributes.get("is_test", 0)
    if node.attributes.get("training_mode", 0) or not in_test or not node.attributes.get("spatial", 1):
        raise NoLayerError("it normalizes by the batch's values, not by running ones")
    if x.channel != 1:
        raise NoLayerError("the channels are not the second axis")
    names = ("weights", "bias", "running_mean", "running_var")
    arrays = {n: s.in_order(x, s.weights(a, x.shape[-1:])) for n, a in zip(names, inputs[1:], strict=True)}
    epsilon = _epsilon(s, node)
    momentum = float(1 - Decimal(str(np.float32(node.attributes.get("momentum", 0.9)))))  # weights the new value
    return s.add(x, Piece("norm", lambda: BatchNormLayer(momentum=momentum, epsilon=epsilon), arrays))


def _layer_norm(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x, scale, bias = (s.full(inputs[0]), *inputs[1:], None)[:3]
    axes = len(x.seen) + 1
    if node.attributes.get("axis", -1) % axes != axes - 1 or x.channel != axes - 1:
        raise NoLayerError("it normalizes over another axis than the channels")
    channels = x.shape[-1:]
    weights = s.weights(scale, channels)
    arrays = {"weights": weights, "bias": np.zeros_like(weights) if bias is None else s.weights(bias, channels)}
    arrays = {name: s.in_order(x, array) for name, array in arrays.items()}
    epsilon = _epsilon(s, node)
    return s.add(x, Piece("norm", lambda: LayerNormLayer(epsilon=epsilon), arrays))


def plain_layer_norm(s: Steps, x: Var, epsilon: float, regrouped: bool) -> Var:
    """Layer normalization in pieces: a scale and a shift that follow are folded into it.

    On groups of channels, ``regrouped`` right after it, it is group normalization.
    """
    number = float(str(np.float32(epsilon))) if s.dtype == "float32" else epsilon
    if regrouped and (x.groups is not None or (len(x.shape) == 2 and x.axes == x.channels_second)):
        groups = x.shape[-1] if x.groups is None else x.groups
        return _grouped(s, x, number, groups, np.ones(groups, s.dtype), np.zeros(groups, s.dtype))
    x = s.full(x)
    if x.channel != len(x.seen):
        raise NoLayerError("it normalizes over another axis than the channels")
    s.pay(2 * x.shape[-1])
    ones = np.ones(x.shape[-1], s.dtype)
    return s.add(x, Piece("norm", lambda: LayerNormLayer(epsilon=number), {"weights": ones, "bias": 0.0 * ones}))


def _instance_norm(s: Steps, node: Node, inputs: list[Any]) -> Var:
    """On groups of channels it is group normalization; else each channel is a group."""
    x, scale, bias = inputs
    if x.groups is None:
        x = s.image(x)
    elif len(x.whole) > 1 and x.axes != x.channels_second:
        raise NoLayerError("the channels are not the second axis")
    groups = x.groups or x.shape[-1]
    return _grouped(s, x, _epsilon(s, node), groups, s.weights(scale, (groups,)), s.weights(bias, (groups,)))


def _group_norm(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x, scale, bias = inputs
    x = s.full(x)
    x, groups = s.image(x) if len(x.shape) > 1 else x, node.attributes["num_groups"]
    shape = (groups,) if s.opset < 21 else x.shape[-1:]  # older opsets have a number for each group
    return _grouped(s, x, _epsilon(s, node), groups, s.weights(scale, shape), s.weights(bias, shape))


def _grouped(s: Steps, x: Var, epsilon: float, groups: int, scale: np.ndarray, bias: np.ndarray) -> Var:
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise NoLayerError(f"{groups} groups do not divide {channels} channels")
    if x.order is not None:
        raise NoLayerError("the row was flattened with the channels first")
    s.pay(2 * channels)
    each = channels // len(scale)
    arrays = {"weights": np.repeat(scale, each), "bias": np.repeat(bias, each)}
    made = s.add(replace(x, free=False), Piece("norm", lambda: GroupNormLayer(groups, epsilon=epsilon), arrays))
    return replace(made, groups=x.groups, seen=x.seen, normalized=True)


NORMALIZING = {
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
}
