"""The convolution layer."""

from math import prod
from typing import Any

from portnn import checks, initializers
from portnn._typing import Array
from portnn.backend import Backend
from portnn.layers.attributes import Parameter
from portnn.layers.layer import Layer
from portnn.ops.windows import window_plan
from portnn.settings import Fixed


class ConvLayer(Layer):
    """Convolution (strictly: cross-correlation) of images, or of 1-D sequences, with a set of filters.

        Y[n, i, j, f]  = B[f] + sum over u, v, c of X[n, s i + d u, s j + d v, c] W[u, v, c, f]
        dE/dW[u,v,c,f] = sum over n, i, j of X[n, s i + d u, s j + d v, c] dE/dY[n, i, j, f]
        dE/dB[f]       = sum over n, i, j of dE/dY[n, i, j, f]
        dE/dX[n,a,b,c] = sum of dE/dY[n, i, j, f] W[u, v, c, f] wherever s i + d u = a and s j + d v = b

    X is (N, H, W, C), Y is (N, H', W', F) with H' = (H + padding - (h-1) d - 1) // s + 1; for sequences (N, L, C).
    They are matrix products once every patch of X is a column of a matrix: see ``portnn/ops/convolution.py``.
    """

    def forward(self, X: Array, *, training: bool = False) -> Array:
        Y, seen = self.ops.convolution(X, self.parameters["weights"], self.plan, self.groups)
        if training:
            self.kept = seen
        return self.ops.biased(Y, self.parameters["bias"]) if "bias" in self.parameters else Y

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array | None:
        W, D, ops = self.parameters["weights"], output_error, self.ops
        self.gradients["weights"] = ops.convolution_gradient(self.kept, D, self.plan, W.shape)
        if "bias" in self.parameters:
            self.gradients["bias"] = ops.total(ops.columns(D, self.plan), 1)
        return ops.convolution_backward(W, D, self.plan, self.groups) if need_input_error else None

    input_shape: Any = Fixed()
    kernel_shape: Any = Fixed()
    layer_depth: Any = Fixed()
    stride: Any = Fixed()
    padding: Any = Fixed()
    dilation: Any = Fixed()
    groups: Any = Fixed()
    initializer: Any = Fixed()
    weights = Parameter()
    bias = Parameter()
    _for_backward = (*Layer._for_backward, "kept")
    kept: Any = None  # what dE/dW needs of X, such as its patches

    def __init__(
        self,
        input_shape: tuple[int, ...],
        kernel_shape: tuple[int, ...],
        layer_depth: int,
        *,
        stride: Any = 1,
        padding: Any = "valid",
        dilation: Any = 1,
        groups: int = 1,
        initializer: str = "glorot_uniform",
        bias: bool = True,
    ):
        """``input_shape`` is (H, W, C) with ``kernel_shape`` (h, w), or (L, C) with (k,). ``layer_depth`` F is the
        number of filters. ``stride`` s and ``dilation`` d are a number, or one per axis. ``padding`` with zeros is
        ``"valid"`` (none), ``"same"`` (H' = H / s, rounded up), a number of pixels, or for each axis a number or a
        pair (before, after). ``groups`` divides channels and filters into that many parts; each part of the filters
        sees its part of the channels.

        ``layer.weights`` is (h, w, C/groups, F), drawn by the named ``initializer``; ``layer.bias`` is (F,), initially
        zero, absent with ``bias=False``. Raises ValueError if the kernel does not fit on the padded image, or if
        ``groups`` does not divide both the channels and the filters.

        >>> import numpy as np
        >>> layer = ConvLayer((3, 3, 1), (2, 2), 1)
        >>> layer.weights = np.ones((2, 2, 1, 1))
        >>> layer(np.arange(9.0).reshape(1, 3, 3, 1))[0, :, :, 0]
        array([[ 8., 12.],
               [20., 24.]])
        """
        rows = all(isinstance(shape, (tuple, list)) for shape in (input_shape, kernel_shape)) and (
            len(input_shape) == 2 and len(kernel_shape) == 1
        )
        self.input_shape = checks.sizes("input_shape", input_shape, "L, C" if rows else "H, W, C")
        self.kernel_shape = checks.sizes("kernel_shape", kernel_shape, "k" if rows else "h, w")
        self.layer_depth = checks.size("layer_depth", layer_depth)
        self.groups = checks.size("groups", groups)
        *image, channels = self.input_shape
        for what, number in (("channels", channels), ("filters", self.layer_depth)):
            if number % self.groups:
                raise ValueError(
                    f"groups={groups} does not divide the {number} {what}: groups must be a divisor of both, the "
                    f"{channels} channels of input_shape {self.input_shape} and layer_depth={self.layer_depth}"
                )
        self.initializer = initializers.check_name(initializer)
        self.plan = window_plan(tuple(image), self.kernel_shape, stride, padding, dilation)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.shapes = {"weights": (*self.kernel_shape, channels // self.groups, self.layer_depth)}
        if checks.flag("bias", bias):
            self.shapes["bias"] = (self.layer_depth,)

    def build(self, input_shape: tuple[int, ...] | None, backend: Backend, dtype: str, seed: int, path: str) -> None:
        positions = prod(self.kernel_shape)
        fans = (positions * self.input_shape[-1] // self.groups, positions * self.layer_depth // self.groups)
        self.draw_missing(fans, seed, path)
        super().build(input_shape, backend, dtype, seed, path)

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...]:
        if input_shape is not None and input_shape != self.input_shape:
            kind, axes = ("images", "(H, W, C)") if len(self.input_shape) == 3 else ("sequences", "(L, C)")
            raise checks.misfit(
                f"{self} takes {kind} of shape {self.input_shape} {axes}, but a sample comes in with shape "
                f"{input_shape}",
                self._advice(input_shape),
            )
        return (*self.plan.output, self.layer_depth)

    def _advice(self, shape: tuple[int, ...]) -> str:
        if (*shape, 1) == self.input_shape:
            return "add the channel axis with x = x[..., None]"
        if prod(shape) == prod(self.input_shape):
            return f"put ReshapeLayer({self.input_shape}) in front of it, or reshape the data"
        if len(shape) == len(self.input_shape):
            return f"make it ConvLayer({shape}, {self.kernel_shape}, {self.layer_depth}{self._options()})"
        return "reshape the data"

    def multiply_adds(self, input_shape: tuple[int, ...] | None) -> int:
        return prod(self.plan.output) * prod(self.shapes["weights"])

    def _options(self) -> str:
        """The options that differ from their defaults, as they were given."""
        usual = {"stride": 1, "padding": "valid", "dilation": 1, "groups": 1}
        given = {name: getattr(self, name) for name in usual}
        return "".join(f", {name}={value!r}" for name, value in given.items() if value != usual[name])

    def __repr__(self) -> str:
        extras = self._options() + ("" if "bias" in self.shapes else ", bias=False")
        return f"ConvLayer({self.input_shape}, {self.kernel_shape}, {self.layer_depth}{extras})"
