"""Networks written as ONNX models, and these run by onnxruntime."""

import numpy as np

from cases import LAYERS, OwnLayer
from portnn import Network

ROWS = [case for case in LAYERS if not any(isinstance(each, OwnLayer) for each in case.make().walk())]
NO_DOUBLE = {"AveragePool", "Conv", "Erf", "Resize"}  # onnxruntime computes these in float32 only


def network(layers, sample, dtype="float32"):
    """A network whose parameters and running values are drawn, not those that it begins with."""
    net = Network(layers, dtype=dtype, seed=3)
    rng = np.random.default_rng(5)
    net.predict(rng.standard_normal((1, *sample)))
    for path, array in net.parameters.items():
        net.parameters[path] = 0.1 + 0.5 * rng.standard_normal(array.shape)
    for layer in net.walk():
        if layer.buffers:
            size = layer.buffers["running_mean"].shape
            layer.buffers["running_mean"] = rng.standard_normal(size).astype(dtype)
            layer.buffers["running_var"] = rng.uniform(0.5, 2.0, size).astype(dtype)
    return net


def operators(path):
    import onnx

    return [node.op_type for node in onnx.load(path).graph.node]


def run(path, x):
    """What onnxruntime computes, or else ONNX's own evaluator."""
    import onnx
    import onnxruntime as runtime

    if is_slow(path, x.dtype.name):
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})[0]
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


def check(net, path, sample, tolerance):
    rng = np.random.default_rng(7)
    for n in (1, 7, 500) if is_slow(path, net.dtype) else (1, 7, 500, 0):
        x = rng.standard_normal((n, *sample)).astype(net.dtype)
        expected, got = net.predict(x), run(path, x)
        assert got.shape == expected.shape
        assert got.dtype == expected.dtype
        assert n == 0 or np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


def is_slow(path, dtype):
    """Whether onnxruntime has an operator in float32 only, so that ONNX's own slow evaluator runs the model."""
    return dtype == "float64" and bool(NO_DOUBLE.intersection(operators(path)))


def unnamed(content):
    """The graph of a model with its values numbered in the order in which they are made."""
    import onnx

    graph = onnx.load_from_string(content).graph
    numbers = {}
    order = [
        graph.input[0].name,
        *(tensor.name for tensor in graph.initializer),
        *(o for n in graph.node for o in n.output),
    ]
    for name in order:
        numbers.setdefault(name, len(numbers))
    nodes = [
        (n.op_type, [numbers.get(i, i) for i in n.input], [a.SerializeToString() for a in n.attribute])
        for n in graph.node
    ]
    return nodes, [(tensor.dims, tensor.data_type, tensor.raw_data) for tensor in graph.initializer]
