"""The convolution layer."""

from math import prod

from portnn import initializers
from portnn.backend import Backend
from portnn.layers import checks
from portnn.layers.layer import Array, Layer, Parameter
from portnn.ops._plan import conv_plan


class ConvLayer(Layer):
    """Convolution (strictly: cross-correlation) of images with a set of filters, stride 1, no padding ("valid").

        Y[n, i, j, f]  = B[f] + sum over u, v, c of X[n, i+u, j+v, c] W[u, v, c, f]
        dE/dW[u,v,c,f] = sum over n, i, j of X[n, i+u, j+v, c] dE/dY[n, i, j, f]
        dE/dB[f]       = sum over n, i, j of dE/dY[n, i, j, f]
        dE/dX[n,a,b,c] = sum over u, v, f of dE/dY[n, a-u, b-v, f] W[u, v, c, f]

    With every patch of X under the kernel written out as a column of P, (K, M), these are matrix products:
    Y = W^T P + B, dE/dW = P dE/dY^T, and dE/dX is W dE/dY folded back (K = h*w*C values a patch, M = N*H'*W' patches).

    ``input_shape`` (H, W, C), ``kernel_shape`` (h, w), ``layer_depth`` F, the number of filters. X (N, H, W, C),
    Y (N, H-h+1, W-w+1, F); ``layer.weights`` (h, w, C, F), ``layer.bias`` (F,), zero at first.

    >>> import numpy as np
    >>> layer = ConvLayer((3, 3, 1), (2, 2), 1)
    >>> layer.weights = np.ones((2, 2, 1, 1))
    >>> layer.forward(np.arange(9.0).reshape(1, 3, 3, 1))[0, :, :, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """

    weights = Parameter()
    bias = Parameter()
    input_patches: Array = None  # P

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        kernel_shape: tuple[int, int],
        layer_depth: int,
        *,
        weights: str = "glorot_uniform",
        bias: bool = True,
    ):
        self.input_shape = checks.sizes("input_shape", input_shape, "H, W, C")
        self.kernel_shape = checks.sizes("kernel_shape", kernel_shape, "h, w")
        self.layer_depth = checks.size("layer_depth", layer_depth)
        self.initializer = initializers.check_name(weights)
        self.plan = conv_plan(self.input_shape[:-1], self.input_shape[-1], self.kernel_shape)
        self.shapes = {"weights": (*self.kernel_shape, self.input_shape[-1], self.layer_depth)}
        if bias:
            self.shapes["bias"] = (self.layer_depth,)

    def build(self, input_shape: tuple[int, ...] | None, backend: Backend, dtype: str, seed: int, path: str) -> None:
        fans = (self.plan.patch_size, prod(self.kernel_shape) * self.layer_depth)
        self.draw_missing(fans, seed, path)
        super().build(input_shape, backend, dtype, seed, path)

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...]:
        if input_shape is not None and input_shape != self.input_shape:
            raise ValueError(
                f"{self} takes images of shape {self.input_shape} (H, W, C), but a sample comes in with shape "
                f"{input_shape}: {self._advice(input_shape)}"
            )
        return (*self.plan.output, self.layer_depth)

    def _advice(self, shape: tuple[int, ...]) -> str:
        if (*shape, 1) == self.input_shape:
            return "add the axis of channels with x = x[..., None]"
        return (
            f"make it ConvLayer({shape}, {self.kernel_shape}, {self.layer_depth})"
            if len(shape) == 3
            else "reshape the data"
        )

    def forward(self, X: Array, *, training: bool = False) -> Array:
        X = self.accept(X)
        if X.shape[1:] != self.input_shape:
            self.output_shape(tuple(X.shape[1:]))
        P = self.ops.patches(X, self.plan)  # (K, M)
        W = self.xp.reshape(self.parameters["weights"], (self.plan.patch_size, self.layer_depth))
        Y = self.ops.images(self.xp.matmul(W.T, P), self.plan)  # (F, M) -> (N, H', W', F)
        if "bias" in self.shapes:
            Y = Y + self.parameters["bias"]
        if training:
            self.input, self.input_patches, self.output = X, P, Y
        return Y

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array:
        D = self.ops.columns(self.accept_error(output_error), self.plan)  # (N, H', W', F) -> (F, M)
        P, xp = self.input_patches, self.xp
        self.gradients["weights"] = xp.reshape(xp.matmul(P, D.T), self.shapes["weights"])
        if "bias" in self.shapes:
            self.gradients["bias"] = xp.sum(D, axis=1)
        if not need_input_error:
            return None
        W = xp.reshape(self.parameters["weights"], (self.plan.patch_size, self.layer_depth))
        return self.ops.fold(xp.matmul(W, D), self.plan)  # (K, M) -> (N, H, W, C)

    def __repr__(self) -> str:
        extras = "" if "bias" in self.shapes else ", bias=False"
        return f"ConvLayer({self.input_shape}, {self.kernel_shape}, {self.layer_depth}{extras})"
