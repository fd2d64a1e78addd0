"""The method of a network that writes it for other programs."""

from typing import Any

from portnn.habits import answered


class WithExport:
    """What a network does for other programs: ``export``, ``to_source``."""

    @answered
    def export(self, path: Any) -> None:
        """Writes the network, for prediction, to a file that needs neither portnn nor any other file.

        The path's ending says what is written. All compute what ``predict`` returns, to 1e-5 of the largest value (to
        1e-12 in float64), with the weights inside, and say by which version of portnn they were made.

        - ``"page.html"`` is a page for a browser, on a computer or a phone, without a network connection: a pad to draw
          digits on if the network takes images of 28 x 28 pixels (they are centred as MNIST's are, see
          ``datasets.prepare_digit``), else a field for each number. It holds the forward pass, written out layer by
          layer in JavaScript, and shows what each layer returns. On a page with a pad the network gets pixels from 0
          to 255 if it scales them itself, by a first ``ScaleLayer(1 / 255)`` or by batch normalization that was trained
          on them; else from 0 to 1. The page can be switched.
        - ``"net.py"`` is a module that needs NumPy alone: ``predict(x)`` for a batch, written out layer by layer;
          ``python net.py x.npy`` prints what it returns for the array in a file.
        - ``"net.c"`` is C99 that needs no library but ``math.h``: ``void net_predict(const float *x, float *y)`` for
          one sample (``double`` for a network in float64), static memory, no allocation, so that one call at a time may
          run. The name is the file's. Beside it ``"net_test.c"`` is written, a program that compares it with recorded
          outputs of the network. A sample has the shape of those that were last trained on or predicted, else the one
          that the layers say.
        - ``"net.onnx"`` is an ONNX model, for which the package onnx is needed; ``portnn.onnx.export`` writes the same,
          and takes more arguments.

        Raises ValueError for other endings, one that lists all layers that have no counterpart, such as layers of your
        own, and for more weights than a page or a Python file (200 MB) or a C file (50 MB) may hold; RuntimeError for a
        network without layers, or with parameters that are created on the first batch; ImportError for a model without
        the package onnx; OSError where writing fails: the old file is then as it was. FileExistsError for a
        ``"net_test.c"`` that portnn has not written.
        """
        from portnn.exchange.export import export

        export(self, path)

    @answered
    def to_source(self, language: str) -> str:
        """Returns readable source of the same network in another library, and of loading its weights.

        ``language`` is ``"torch"`` or ``"keras"``. In the text ``build()`` makes the network, layer by layer, with its
        shapes in comments, and ``load_weights(model, file)`` takes the weights: for PyTorch from a safetensors file of
        what ``portnn.torch.state_dict(net)`` returned, or from that dict; for Keras from the file of ``net.save``. Both
        take and return what this network does, images with their channels last too. A loss of portnn's is there as
        well; the optimizer is not.

        Raises ValueError for another language, and one that lists all layers and the loss without a counterpart, such
        as those of your own; RuntimeError for a network without layers, or with parameters that are created on the
        first batch.

        >>> from portnn import FCLayer, Network
        >>> print(Network([FCLayer(2, 3)]).to_source("torch").split("OrderedDict({")[1].split("}")[0].strip())
        # 0  FCLayer(2, 3): (2,) -> (3,)
                    "0": nn.Linear(2, 3),
        """
        from portnn.exchange.source.languages import to_source

        return to_source(self, language)
