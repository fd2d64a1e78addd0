"""Random numbers, and the same numbers in other memory layouts."""

import numpy as np


def numbers(seed, *shape, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def laid_out(x, layout):
    """The same values in another memory layout; ``"as it is"`` is ``x`` itself."""
    if layout == "batch fastest":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    if layout == "channels first":  # as a convolution returns images: (C, H, W, N)
        order = (x.ndim - 1, *range(1, x.ndim - 1), 0)
        return np.ascontiguousarray(x.transpose(order)).transpose(order)
    if layout == "with gaps":
        return np.repeat(x, 2, axis=-1)[..., ::2]
    if layout == "read-only":
        x = x.copy()
        x.flags.writeable = False
    elif layout != "as it is":
        raise ValueError(f"there is no layout {layout!r}")
    return x
