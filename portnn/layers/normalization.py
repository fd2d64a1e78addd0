"""The base class of the normalization layers."""

from typing import Any

from portnn import checks
from portnn._typing import Array
from portnn.backend import Backend
from portnn.checks import positive
from portnn.layers.attributes import Parameter
from portnn.layers.layer import Layer
from portnn.settings import Setting


class NormLayer(Layer):
    """Normalizes to mean 0 and variance 1 over some axes, then scales and shifts each channel by learned values.

        Z     = (X - mean) S,  S = 1 / sqrt(variance + epsilon)         Y = Z W + B
        dE/dX = S (dE/dZ - mean of dE/dZ - Z * mean of (dE/dZ * Z)),  dE/dZ = dE/dY W
        dE/dW = sum of dE/dY * Z        dE/dB = sum of dE/dY            over all axes but the last

    Each layer says which axes the means and the (biased) variance are over. ``layer.weights`` W and ``layer.bias`` B
    are (C,), initially ones and zeros. If the layers before do not determine C, they are created on the first batch.
    """

    last_axis_only = True
    epsilon: Any = Setting(positive)
    weights = Parameter()
    bias = Parameter()
    initializer = "ones"
    _for_backward = (*Layer._for_backward, "Z", "S")
    Z: Any = None
    S: Any = None

    def __init__(self, *, epsilon: float = 1e-5):
        self.epsilon = epsilon
        self.complete = False

    def build(self, input_shape: tuple[int, ...] | None, backend: Backend, dtype: str, seed: int, path: str) -> None:
        if input_shape:
            self.output_shape(input_shape)
            channels = input_shape[-1]
            self.learn_shapes({"weights": (channels,), "bias": (channels,)})
            self.draw_missing((channels, channels), seed, path)
        super().build(input_shape, backend, dtype, seed, path)

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if input_shape is None:
            return None
        channels = self.shapes.get("weights", input_shape[-1:])
        if input_shape[-1:] != channels:
            raise checks.misfit(
                f"{self} takes {channels[0] if channels else 1} channels, but a sample comes in with shape "
                f"{input_shape}",
                "create another layer for another number of channels",
            )
        return input_shape

    def parameter_shapes(self, input_shape: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
        if self.complete or not input_shape:
            return super().parameter_shapes(input_shape)
        return {"weights": input_shape[-1:], "bias": input_shape[-1:]}

    def scaled(self, Z: Array) -> Array:
        """Y = Z W + B."""
        return self.ops.scaled(Z, self.parameters["weights"], self.parameters["bias"])

    def scaled_backward(self, D: Array, Z: Array) -> Array:
        """dE/dZ, from dE/dY and Z; sets dE/dW and dE/dB."""
        dZ, dW, dB = self.ops.scaled_backward(D, Z, self.parameters["weights"])
        self.gradients["weights"], self.gradients["bias"] = dW, dB
        return dZ
