"""The portable version of every routine, for any array API namespace, given as ``xp``.

Convolution becomes a matrix product when every patch of the image that the kernel covers is written out as a column
("im2col": K. Chellapilla et al., 2006). There are M = N * H' * W' columns, one per output pixel; a backend may keep
them in any order it likes, as long as its own routines agree. Here the order is (N, H', W').
"""

from math import prod
from typing import Any

from portnn._typing import Array
from portnn.ops.windows import WindowPlan

# -- convolution -----------------------------------------------------------------------------------------------------


def patches(x: Array, plan: WindowPlan, groups: int = 1, *, xp: Any) -> list[Array]:
    """Images (N, H, W, C) -> for each group of channels its patches (K, M), K = h * w * C / groups.

    The rows are in the order of the weights' first three axes.
    """
    x, size = padded(x, plan, 0.0, xp=xp), x.shape[-1] // groups
    n, m = x.shape[0], x.shape[0] * prod(plan.output)
    parts = []
    for start in range(0, x.shape[-1], size):
        channels = slice(start, start + size)
        # Not concat: for many arrays some libraries upload their addresses to the device, which a capture forbids.
        p = xp.empty((n, *plan.output, len(plan.windows), size), dtype=x.dtype, device=x.device)
        for k, window in enumerate(plan.windows):
            p[..., k, :] = x[(slice(None), *window, channels)]  # (N, H', W', C/groups)
        parts.append(xp.reshape(p, (m, len(plan.windows) * size)).T)
    return parts


def fold(parts: list[Array], plan: WindowPlan, *, xp: Any) -> Array:
    """The adjoint of ``patches``: (K, M) per group -> images (N, H, W, C), each pixel the sum of its copies."""
    n = parts[0].shape[1] // prod(plan.output)
    size = parts[0].shape[0] // len(plan.windows)
    x = zeros_around(n, plan, size * len(parts), parts[0], xp=xp)
    for group, p in enumerate(parts):
        p = xp.reshape(p.T, (n, *plan.output, len(plan.windows), size))  # (N, H', W', h*w, C/groups)
        channels = slice(group * size, (group + 1) * size)
        for k, window in enumerate(plan.windows):
            x[(slice(None), *window, channels)] += p[..., k, :]
    return cropped(x, plan)


def images(columns: Array, plan: WindowPlan, *, xp: Any) -> Array:
    """Columns (F, M), one per output pixel -> images (N, H', W', F)."""
    n = columns.shape[1] // prod(plan.output)
    return xp.reshape(columns.T, (n, *plan.output, columns.shape[0]))


def columns(images: Array, plan: WindowPlan, *, xp: Any) -> Array:
    """Images (N, H', W', F) -> columns (F, M), the inverse of ``images``."""
    return xp.reshape(images, (images.shape[0] * prod(plan.output), images.shape[-1])).T


# -- pooling ---------------------------------------------------------------------------------------------------------


def max_pool(x: Array, plan: WindowPlan, *, xp: Any) -> Array:
    """Images (N, H, W, C) -> the largest value in each window (N, H', W', C)."""
    x = padded(x, plan, -float("inf"), xp=xp)
    y, *others = (x[(slice(None), *window, ...)] for window in plan.windows)
    for seen in others:
        y = xp.maximum(y, seen)
    return y


def max_pool_backward(x: Array, y: Array, output_error: Array, plan: WindowPlan, *, xp: Any) -> Array:
    """dE/dX of ``max_pool``: each window's error goes to its largest pixel, to the first where several are equal.

    NaN counts as the largest. The padding is NaN here, which equals nothing, so that it never receives an error.
    """
    nan = padded(x != x, plan, False, xp=xp)
    x = padded(x, plan, float("nan"), xp=xp)
    input_error = zeros_around(x.shape[0], plan, x.shape[-1], y, xp=xp)
    left, nothing = output_error, xp.zeros_like(output_error)
    for window in plan.windows:
        here = (slice(None), *window, ...)
        largest = xp.logical_or(x[here] == y, nan[here])
        input_error[here] += xp.where(largest, left, nothing)
        left = xp.where(largest, nothing, left)  # each window's error is assigned once
    return cropped(input_error, plan)


def avg_pool(x: Array, plan: WindowPlan, *, xp: Any) -> Array:
    """Images (N, H, W, C) -> the mean of each window (N, H', W', C), of the pixels that are not padding."""
    x = padded(x, plan, 0.0, xp=xp)
    y = _added([x[(slice(None), *window, ...)] for window in plan.windows])
    return y * shares(plan, y, xp=xp)


def _added(parts: list[Array]) -> Array:
    """The sum of arrays; many are summed in blocks, as in ``total``."""
    if len(parts) > FEW:
        return _added([_added(parts[i : i + BLOCK]) for i in range(0, len(parts), BLOCK)])
    y, *others = parts
    for part in others:
        y = y + part
    return y


def avg_pool_backward(output_error: Array, plan: WindowPlan, *, xp: Any) -> Array:
    """dE/dX of ``avg_pool``: each window's error is divided equally among its pixels."""
    share = output_error * shares(plan, output_error, xp=xp)
    input_error = zeros_around(share.shape[0], plan, share.shape[-1], share, xp=xp)
    for window in plan.windows:
        input_error[(slice(None), *window, ...)] += share
    return cropped(input_error, plan)


def shares(plan: WindowPlan, like: Array, *, xp: Any) -> Any:
    """1 / (number of a window's pixels that are not padding): a float, or an array (H', W', 1)."""
    if not plan.is_padded:
        return 1.0 / prod(plan.kernel)
    share: Any = 1.0
    axes = zip(plan.image, plan.kernel, plan.output, plan.stride, plan.padding, strict=True)
    for axis, (n, k, m, stride, (before, _)) in enumerate(axes):
        first = xp.arange(m, dtype=like.dtype, device=like.device) * float(stride) - float(before)
        zero = xp.zeros_like(first)
        count = xp.minimum(first + float(k), zero + float(n)) - xp.maximum(first, zero)
        share = share / xp.reshape(count, (m,) + (1,) * (len(plan.image) - axis))
    return share


# -- padding ---------------------------------------------------------------------------------------------------------


def padded(x: Array, plan: WindowPlan, value: float, *, xp: Any) -> Array:
    """Images (N, H, W, C) with the plan's padding around them, filled with ``value``."""
    if not plan.is_padded:
        return x
    around = xp.full((x.shape[0], *plan.padded, x.shape[-1]), value, dtype=x.dtype, device=x.device)
    around[(slice(None), *plan.inside, ...)] = x
    return around


def zeros_around(n: int, plan: WindowPlan, channels: int, like: Array, *, xp: Any) -> Array:
    """Zeros in the shape of n padded images, of the dtype and on the device of ``like``."""
    return xp.zeros((n, *plan.padded, channels), dtype=like.dtype, device=like.device)


def cropped(x: Array, plan: WindowPlan) -> Array:
    """Padded images without their padding."""
    return x[(slice(None), *plan.inside, ...)] if plan.is_padded else x


# -- sums ------------------------------------------------------------------------------------------------------------

FEW = 64  # terms that may be summed sequentially
BLOCK = 16


def total(x: Array, axes: int | tuple[int, ...] | None = None, keepdims: bool = False, *, xp: Any) -> Array:
    """The sum over ``axes`` (one, several, or all), to a few units in the last place however many terms there are.

    Summed sequentially, a million float32 values can be off by a few per cent: each addition rounds, and the
    rounding error grows with the sum. Here 16 equally long parts of an axis are added at a time, so that no term takes
    part in more than a few dozen additions. Some libraries do so themselves, but only along the axis that is innermost
    in memory.

    Source: N. Higham, "The accuracy of floating point summation", SIAM J. Sci. Comput. 14, 1993 (pairwise summation).
    """
    if axes is None:
        axes = tuple(range(x.ndim))
    axes = tuple(axis % x.ndim for axis in (axes if isinstance(axes, tuple) else (axes,)))
    if prod(x.shape[axis] for axis in axes) <= FEW:
        return xp.sum(x, axis=axes, keepdims=keepdims)
    for axis in axes:
        x = _total_along(x, axis, xp=xp)
    return x if keepdims else xp.squeeze(x, axis=axes)


def _total_along(x: Array, axis: int, *, xp: Any) -> Array:
    """The sum over one axis, which is kept with length 1."""
    before, rest = (slice(None),) * axis, None
    while (n := x.shape[axis]) > FEW:
        whole = n - n % BLOCK
        if whole < n:  # the remainder
            left = xp.sum(x[(*before, slice(whole, n), ...)], axis=axis, keepdims=True)
            x, rest = x[(*before, slice(0, whole), ...)], left if rest is None else rest + left
        parts = xp.reshape(x, (*x.shape[:axis], BLOCK, whole // BLOCK, *x.shape[axis + 1 :]))
        x = xp.sum(parts, axis=axis)
    y = xp.sum(x, axis=axis, keepdims=True)
    return y if rest is None else y + rest


# -- functions -------------------------------------------------------------------------------------------------------


def rows(x: Array, *, xp: Any) -> Array:
    """The vectors on the last axis of (..., n) as the rows of a matrix (M, n)."""
    return x if x.ndim == 2 else xp.reshape(x, (-1, x.shape[-1]))


def biased(product: Array, bias: Array, activation: Any = None, *, xp: Any) -> Array:
    """Y = f(product + bias), where f is an elementwise function or None. ``product`` may be overwritten.

    A fast version may write into it; it is only given portnn's ``tanh`` and ``relu``, which it knows by name.
    """
    y = product + bias
    return y if activation is None else activation(y)


def one_hot(labels: Array, classes: int, dtype: Any, *, xp: Any) -> Array:
    """Class numbers (...) -> rows (..., classes) with a one at the class and zeros elsewhere."""
    numbers = xp.arange(classes, dtype=xp.int64, device=labels.device)
    return xp.astype(xp.expand_dims(xp.astype(labels, xp.int64), axis=-1) == numbers, dtype)


def erf(x: Array, *, xp: Any) -> Array:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x, to 1e-15.

    Source: W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23, 1969.
    """
    z = xp.abs(x)
    zero = xp.zeros_like(z)
    # near zero: erf x = x R(x**2)
    s = xp.minimum(z, zero + 0.46875)
    near = s * _ratio(s * s, _ERF_NEAR)
    # further out: 1 - erf x = exp(-x**2) R(x), which is less than 1e-16 from x = 6 on
    f = xp.minimum(xp.maximum(z, zero + 0.46875), zero + 6.0)
    middle = _ratio(xp.minimum(f, zero + 4.0), _ERF_MIDDLE)
    r = 1.0 / (f * f)
    far = (0.5641895835477563 - r * _ratio(r, _ERF_FAR)) / f  # the first number is 1 / sqrt(pi)
    rest = 1.0 - xp.exp(-f * f) * xp.where(f <= 4.0, middle, far)
    y = xp.where(z <= 0.46875, near, rest)
    return xp.where(x < 0, -y, y)


def _ratio(x: Array, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Array:
    """A quotient of two polynomials, their coefficients from the highest power down."""
    values = []
    for first, second, *others in coefficients:
        value = first * x + second
        for c in others:
            value = value * x + c
        values.append(value)
    return values[0] / values[1]


_ERF_NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_ERF_MIDDLE = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)
_ERF_FAR = (
    (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    ),
    (
        1.0,
        2.56852019228982242,
        1.87295284992346725,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)
