"""Networks as ONNX models (the extra ``onnx``): ``export`` writes one, ``load`` makes a network of one."""

from typing import Any

from portnn import checks
from portnn.exchange import export as writing
from portnn.habits import answered
from portnn.network import Network

__all__ = ["export", "load"]


@answered
def export(
    network: Network,
    path: Any,
    *,
    input_shape: tuple[int, ...] | None = None,
    opset: int = 18,
    probabilities: bool = False,
) -> None:
    """Writes a network, for prediction, to an ONNX file that other programs run.

    The model has one input ``x`` and one output ``y``, batches of any size of samples as portnn has them: images are
    (N, H, W, C). Nodes and weights are named by the layers' paths. Layers that do nothing in predict are left out. It
    computes what ``predict`` returns, to 1e-5 of the largest value, in float64 to 1e-12.

    ``input_shape`` is the shape of one sample; without it, that of the samples that the network was last given, or
    what its layers say. ``opset`` is the version of ONNX's operators. ``probabilities=True`` appends what makes
    probabilities of logits, as in ``predict_proba``: a softmax or, as the loss says, the logistic function; without
    a loss a softmax, or for a single output the logistic function.

    Raises ValueError for an opset that is not known, for an ``input_shape`` that does not fit, or that nobody has
    said, for ``probabilities`` of a network that does not return logits, for more weights than a file holds, 2 GB,
    and one that lists all layers that have no counterpart, such as layers of your own; RuntimeError for a network
    without layers, or with parameters that are created on the first batch; ImportError without the package onnx;
    OSError where writing fails: the old file is then as it was.
    """
    if not isinstance(network, Network):
        raise TypeError(f"network must be a Network, got {network!r:.60}: onnx.export(network, path)")
    shape = None if input_shape is None else checks.shape("input_shape", input_shape)
    number, last = checks.size("opset", opset), checks.flag("probabilities", probabilities)

    def model(network: Any, name: str) -> writing.Files:
        from portnn.exchange.onnx_graph.writing import model

        return {name: model(network, shape, number, last)}

    writing.write(network, checks.path("path", path), model)


@answered
def load(path: Any, *, backend: Any = "cpu") -> Network:
    """Returns a network that computes what an ONNX model does; it can be trained on.

    The model is a chain of layers, with residual and parallel parts, as ``export`` and the exporters of PyTorch and
    Keras write it, with one input and one output. Where it takes images with the channels second, (N, C, H, W), the
    network takes, and returns, images (N, H, W, C), and the weights after a flattening are put into their order.
    ``backend`` is where the network is to run. Its dtype is that of the model, float32 or float64.

    Raises FileError (a ValueError) for a file that is damaged or not to be trusted, and one that lists everything in
    the model that no layer does; ImportError without the package onnx; OSError where there is no such file. Nothing in
    a file is executed, and nothing is read but the file and, if it names one, a file of weights in the same folder.
    """
    from portnn.exchange.onnx_graph.reading import read

    found = read(path)
    network = Network(found.layers, backend=backend, dtype=found.dtype)
    network._checked = found.shape  # for layers that take samples of many shapes
    return network
