"""The residual layer."""

from portnn import checks
from portnn._typing import Array
from portnn.layers.layer import Layer
from portnn.layers.sequential import SequentialLayer


class ResidualLayer(SequentialLayer):
    """Adds its input to the output of its layers.

        Y     = X + F(X),  F: the layers in order
        dE/dX = dE/dY + (dE/dX of F for dE/dY)

    The output of ``layers`` must have the shape of X, which is also the shape of Y; ValueError if it does not. For a
    shortcut that changes the shape, give it layers of its own: ``ParallelLayer([...], ConvLayer(...), merge="add")``.

    Source: K. He et al., "Deep residual learning for image recognition", CVPR 2016.

    >>> import numpy as np
    >>> from portnn import ScaleLayer
    >>> ResidualLayer(ScaleLayer(10.0))(np.array([[1.0, 2.0]]))
    array([[11., 22.]])
    """

    def forward(self, X: Array, *, training: bool = False) -> Array:
        F = super().forward(X, training=training)
        return X + self.like(X, F)

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array | None:
        dF = super().backward(output_error, need_input_error=need_input_error)
        return output_error + dF if need_input_error else None

    def __init__(self, *layers: Layer):
        super().__init__(*layers)
        if not self.layers:
            raise ValueError("ResidualLayer needs at least one layer: ResidualLayer(FCLayer(10, 10))")

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        output = super().output_shape(input_shape)
        if None not in (input_shape, output) and output != input_shape:
            raise checks.misfit(
                f"ResidualLayer adds its input to its layers' output, but a sample comes in with shape {input_shape} "
                f"and goes out with shape {output}",
                "change the last of them, or use ParallelLayer([...], shortcut, merge='add')",
            )
        return output or input_shape

    def like(self, X: Array, F: Array) -> Array:
        """Returns F(X) after checking its shape, which for a user's layer may not be known before it runs."""
        if F.shape != X.shape:
            raise ValueError(f"ResidualLayer adds shapes {tuple(X.shape)} and {tuple(F.shape)}: they must be equal")
        return F
