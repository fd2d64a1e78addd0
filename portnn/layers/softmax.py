"""The softmax layer."""

from typing import Any

from portnn import activations
from portnn._typing import Array
from portnn.layers.layer import Layer


class SoftmaxLayer(Layer):
    """Turns the logits on the last axis into probabilities: positive values that sum to one.

        Y[i]     = exp(X[i]) / sum over j of exp(X[j])
        dE/dX[i] = Y[i] (dE/dY[i] - sum over j of dE/dY[j] Y[j])

    The Jacobian is dY[i]/dX[j] = Y[i] ((i = j) - Y[j]): every output depends on every input, so this is not an
    ActivationLayer. With the loss "softmax_cross_entropy", which takes logits, leave the layer out. X and Y have
    the same shape, which may be any.

    >>> import numpy as np
    >>> SoftmaxLayer()(np.log([[1.0, 3.0]]))
    array([[0.25, 0.75]])
    """

    def forward(self, X: Array, *, training: bool = False) -> Array:
        Y = activations.softmax(X)
        if training:
            self.Y = Y
        return Y

    def backward(self, output_error: Array) -> Array:
        D, Y = output_error, self.Y
        return Y * (D - self.ops.total(D * Y, -1, True))

    last_axis_only = True
    _for_backward = (*Layer._for_backward, "Y")
    Y: Any = None  # not ``output``, which a derived class may have changed

    def __init__(self) -> None:  # or its signature would be that of ``Layer.__new__``
        super().__init__()

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return input_shape
