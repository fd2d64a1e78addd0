"""Images moved, rotated and scaled by random amounts, in any array API namespace ``xp``.

A map, two rows of three numbers, says of each pixel (i, j) of the result where in the image it comes from:

    u = map[0, 0] i + map[0, 1] j + map[0, 2]
    v = map[1, 0] i + map[1, 1] j + map[1, 2]

Between pixels the image is interpolated: a pixel (p, q) contributes with weight b(u - p) b(v - q), where b(t) is
1 - |t|, and nothing from a distance of 1 on. Outside the image there are zeros. Maps, places and weights are computed
in float64, where the device has it, whatever the dtype of the images: these move by the same amounts in every dtype.
"""

from math import ceil, cos, pi, radians, sin
from typing import Any

from portnn._typing import Array

PER_IMAGE = 4  # random words: rows, columns, angle, size


def random_maps(
    x: Array, key: tuple[int, int], step: Any, shift: float, rotate: float, scale: float, *, xp: Any, ops: Any
) -> Array:
    """A map (N, 2, 3) for each of the images x (N, H, W, C).

    The image is scaled by a factor within 1 +- ``scale`` and rotated about its centre by up to ``rotate`` degrees, then
    moved by up to ``shift`` pixels along each axis. Each amount is uniform: a 32-bit word w gives the share
    w / 2**31 - 1 of the largest.
    """
    n, height, width, _ = x.shape
    share = xp.astype(ops.random_bits(key, step, PER_IMAGE * n), widest(x, xp=xp)) * 2.0**-31 - 1.0
    share = xp.reshape(share, (n, PER_IMAGE))
    angle, factor = share[:, 2] * radians(rotate), share[:, 3] * scale + 1.0
    c, s = xp.cos(angle) / factor, xp.sin(angle) / factor
    middle_i, middle_j = (height - 1) / 2, (width - 1) / 2
    i, j = share[:, 0] * shift + middle_i, share[:, 1] * shift + middle_j  # where the centre of the image goes
    maps = xp.stack([c, s, middle_i - (c * i + s * j), -s, c, middle_j - (c * j - s * i)], axis=1)
    return xp.reshape(maps, (n, 2, 3))


def reach_of(rotate: float, scale: float) -> int:
    """The distance along an axis, in pixels of the result, within which a pixel of the image can contribute.

    The square from which it contributes has sides of 2. Seen in the result it is scaled by up to 1 + ``scale`` and
    rotated by up to ``rotate`` degrees; at 45 degrees it reaches furthest.
    """
    angle = min(radians(rotate), pi / 4)
    return ceil((1.0 + scale) * (cos(angle) + sin(angle)))


def resample(x: Array, maps: Array, *, xp: Any, ops: Any) -> Array:
    """Images (N, H, W, C) -> the same, each as its map (N, 2, 3) says."""
    _, height, width, _ = x.shape
    i, j = pixels(x, maps, xp=xp)
    u, v = sources(maps, i, j, xp=xp)  # (N, H, W)
    u, v = xp.clip(u, -1.0, float(height)), xp.clip(v, -1.0, float(width))  # further out there are only zeros
    p, q = xp.floor(u), xp.floor(v)
    around = with_zeros(x, xp=xp)
    y = xp.zeros_like(x)
    for a in (0.0, 1.0):
        for b in (0.0, 1.0):
            weight = near(u - (p + a), xp=xp) * near(v - (q + b), xp=xp)
            y = y + weighted(weight, taken(around, p + a, q + b, xp=xp), xp=xp)
    return y


def resample_backward(output_error: Array, maps: Array, reach: int, *, xp: Any, ops: Any) -> Array:
    """The adjoint of ``resample``: dE/dX for dE/dY (N, H, W, C), with what ``reach_of`` returns.

    Adding each error to the pixels that it came from would need sums in an order that parallel devices do not keep.
    So each pixel (p, q) looks for the pixels of the result that it contributed to: they lie around the place where
    the inverse map puts it.
    """
    _, height, width, _ = output_error.shape
    p, q = pixels(output_error, maps, xp=xp)
    (a, b, c), (d, e, f) = rows_of(maps)
    size = a * e - b * d
    i = xp.floor((e * (p - c) - b * (q - f)) / size)  # (N, H, W)
    j = xp.floor((a * (q - f) - d * (p - c)) / size)
    around = with_zeros(output_error, xp=xp)
    input_error = xp.zeros_like(output_error)
    for k in range(1 - reach, reach + 1):
        for m in range(1 - reach, reach + 1):
            u, v = sources(maps, i + float(k), j + float(m), xp=xp)
            weight = near(u - p, xp=xp) * near(v - q, xp=xp)
            row, column = xp.clip(i + float(k), -1.0, float(height)), xp.clip(j + float(m), -1.0, float(width))
            input_error = input_error + weighted(weight, taken(around, row, column, xp=xp), xp=xp)
    return input_error


def widest(x: Array, *, xp: Any) -> Any:
    """float64, or the dtype of x on a device that lacks it."""
    try:
        return xp.empty(0, dtype=xp.float64, device=x.device).dtype
    except (TypeError, ValueError, RuntimeError):  # each library raises its own
        return x.dtype


def pixels(x: Array, maps: Array, *, xp: Any) -> tuple[Array, Array]:
    """The row (1, H, 1) and the column (1, 1, W) of each pixel of images, in the dtype of their maps."""
    _, height, width, _ = x.shape
    i, j = (xp.arange(size, dtype=maps.dtype, device=x.device) for size in (height, width))
    return xp.reshape(i, (1, height, 1)), xp.reshape(j, (1, 1, width))


def rows_of(maps: Array) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    """The six numbers of each map, (N, 1, 1)."""
    first, second = (tuple(maps[:, row, column, None, None] for column in range(3)) for row in range(2))
    return first, second


def sources(maps: Array, i: Array, j: Array, *, xp: Any) -> tuple[Array, Array]:
    """Where the pixels (i, j) of the result come from: u and v, (N, H, W)."""
    (a, b, c), (d, e, f) = rows_of(maps)
    return a * i + b * j + c, d * i + e * j + f


def near(distance: Array, *, xp: Any) -> Array:
    """b(t) = max(0, 1 - |t|)."""
    return xp.maximum(1.0 - xp.abs(distance), xp.zeros_like(distance))


def weighted(weight: Array, values: Array, *, xp: Any) -> Array:
    """Weights (N, H, W) times values (N, H, W, C); 0 where the weight is 0, whatever the value is."""
    weight = xp.expand_dims(xp.astype(weight, values.dtype), axis=-1)
    return weight * xp.where(weight > 0.0, values, xp.zeros_like(values))


def with_zeros(x: Array, *, xp: Any) -> Array:
    """Images (N, H, W, C) -> (N, H + 3, W + 3, C): a row and a column of zeros before them, two after them."""
    n, height, width, channels = x.shape
    around = xp.zeros((n, height + 3, width + 3, channels), dtype=x.dtype, device=x.device)
    around[:, 1 : height + 1, 1 : width + 1, :] = x
    return around


def taken(around: Array, row: Array, column: Array, *, xp: Any) -> Array:
    """The pixels (N, H, W, C) at rows -1 to H + 1 and columns -1 to W + 1 of images with zeros around them."""
    n, height, width, channels = around.shape
    first = xp.reshape(xp.arange(n, dtype=xp.int64, device=around.device) * (height * width), (n, 1, 1))
    places = first + (xp.astype(row, xp.int64) + 1) * width + (xp.astype(column, xp.int64) + 1)
    flat = xp.reshape(around, (n * height * width, channels))
    return xp.reshape(xp.take(flat, xp.reshape(places, (-1,)), axis=0), (*places.shape, channels))
