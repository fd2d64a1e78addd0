"""The residual layer."""

from portnn.layers import chain, checks
from portnn.layers.layer import Array, Layer


class ResidualLayer(Layer):
    """Adds what comes in to what its layers make of it.

        Y     = X + F(X),  F: the layers one after the other
        dE/dX = dE/dY + (dE/dX of F for dE/dY)

    ``layers``: layers whose last output has the shape of X. X and Y have the same shape. For a shortcut that changes
    the shape, give it layers of its own: ``ParallelLayer([...], ConvLayer(...), merge="add")``.

    Source: K. He et al., "Deep residual learning for image recognition", CVPR 2016.

    >>> import numpy as np
    >>> from portnn import ScaleLayer
    >>> ResidualLayer(ScaleLayer(10.0))(np.array([[1.0, 2.0]]))
    array([[11., 22.]])
    """

    def __init__(self, *layers: Layer):
        self.layers = checks.branch("ResidualLayer", layers)
        if not self.layers:
            raise ValueError("ResidualLayer needs one layer at least: ResidualLayer(FCLayer(10, 10))")

    @property
    def last_axis_only(self) -> bool:  # type: ignore[override]
        return all(layer.last_axis_only for layer in self.layers)

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        output = self.shapes_inside(input_shape, ends=True)[-1]
        if None not in (input_shape, output) and output != input_shape:
            raise checks.misfit(
                f"ResidualLayer adds its input to its layers' output, but a sample comes in with shape {input_shape} "
                f"and they make it {output}",
                "change the last of them, or use ParallelLayer([...], shortcut, merge='add')",
            )
        return output or input_shape

    def shapes_inside(self, input_shape: tuple[int, ...] | None, ends: bool = False) -> list[tuple[int, ...] | None]:
        try:
            shapes = chain.shapes(self.layers, input_shape)
        except ValueError as error:
            raise checks.within("in ResidualLayer, ", error) from error
        return shapes if ends else shapes[:-1]

    def smallest_batch(self, input_shape: tuple[int, ...] | None) -> int:
        return chain.smallest_batch(self.layers, self.shapes_inside(input_shape))[0]

    def forward(self, X: Array, *, training: bool = False) -> Array:
        X = self.accept(X)
        F = chain.forward(self.layers, X, training)
        if F.shape != X.shape:
            raise ValueError(f"ResidualLayer adds shapes {tuple(X.shape)} and {tuple(F.shape)}: they must be equal")
        Y = X + F
        if training:
            self.input, self.output = X, Y
        return Y

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array:
        D = self.accept_error(output_error)
        dF = chain.backward(self.layers, D, need_input_error)
        return D + dF if need_input_error else None

    def __repr__(self) -> str:
        return f"ResidualLayer({', '.join(map(repr, self.layers))})"
