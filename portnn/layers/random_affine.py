"""The layer that moves, rotates and scales images at random."""

from typing import Any

from portnn import checks, random
from portnn._typing import Array
from portnn.layers.layer import Layer
from portnn.ops.resampling import reach_of
from portnn.settings import Setting


class RandomAffineLayer(Layer):
    """In training, moves, rotates and scales each image at random; in predict it does nothing.

        Y[n, i, j, c]     = sum over the pixels (p, q) of b(u - p) b(v - q) X[n, p, q, c]
        (u, v)            = M + R (i - M1 - s, j - M2 - t) / f,  R = ((cos a, sin a), (-sin a, cos a))
        dE/dX[n, p, q, c] = sum over the pixels (i, j) of b(u - p) b(v - q) dE/dY[n, i, j, c]

    Bilinear: b(d) = max(0, 1 - |d|); zeros outside. M is the centre of the image; each image has its own s and t, up to
    ``shift`` pixels, a, up to ``rotate`` degrees, and f, up to 1 +- ``scale``, uniform, from four random 32-bit words:
    w gives w / 2**31 - 1 of the most. They depend only on the network's seed, the layer's path, the step number and n,
    so they are the same on every device. X and Y are (N, H, W, C). ValueError unless 0 <= shift < 1e6,
    0 <= rotate <= 180 and 0 <= scale < 1.

    Source: P. Simard et al., "Best practices for convolutional neural networks", ICDAR 2003.
    """

    def forward(self, X: Array, *, training: bool = False) -> Array:
        if not training:
            return X
        self.maps = self.ops.random_maps(X, self.key, self.step, self.shift, self.rotate, self.scale)
        self.reach = reach_of(self.rotate, self.scale)
        return self.ops.resample(X, self.maps)

    def backward(self, output_error: Array) -> Array:
        return self.ops.resample_backward(output_error, self.maps, self.reach)

    _for_backward = (*Layer._for_backward, "maps", "reach")
    maps: Any = None  # where in X each pixel of Y comes from (N, 2, 3)
    reach: Any = None

    @staticmethod
    def _angle(what: str, value: Any) -> float:
        angle = checks.number(what, value)
        if not 0.0 <= angle <= 180.0:
            raise ValueError(f"{what} must be in [0, 180], in degrees to either side; got {value}")
        return angle

    shift: Any = Setting(checks.in_range(0.0, 1e6))  # no image is that large
    rotate: Any = Setting(_angle)
    scale: Any = Setting(checks.in_range(0.0, 1.0))

    def __init__(self, *, shift: float = 0.0, rotate: float = 0.0, scale: float = 0.0):
        self.shift, self.rotate, self.scale = shift, rotate, scale

    def _place(self, path: str) -> None:
        super()._place(path)
        self.key = random.key(self.seed, f"{path}.affine" if path else "affine")

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if input_shape is not None and len(input_shape) != 3:
            raise checks.misfit(
                f"{self} takes images (H, W, C), but a sample comes in with shape {input_shape}",
                f"put ReshapeLayer({(*input_shape, 1)}) in front of it"
                if len(input_shape) == 2
                else "put a ReshapeLayer in front of it",
            )
        return input_shape

    def __repr__(self) -> str:
        return f"RandomAffineLayer(shift={self.shift:g}, rotate={self.rotate:g}, scale={self.scale:g})"
