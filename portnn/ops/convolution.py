"""Convolution as a matrix product, in any array API namespace, given as ``xp``.

With every patch of X under the kernel written out as a column of P, (K, M), convolution and its two derivatives are
matrix products:

    Y = W^T P        dE/dW = P dE/dY^T        dE/dX: the columns of W dE/dY, each added back where its patch was

W is (K, F/groups), dE/dY is (F/groups, M); there are K = h * w * C / groups values per patch and M = N * H' * W'
patches, in an order that ``ops.patches`` and its companions choose. With groups, each part of the filters has products
of its own.

Source: K. Chellapilla et al., "High performance convolutional neural networks for document processing", 2006.
"""

from typing import Any

from portnn._typing import Array
from portnn.ops.windows import WindowPlan


def convolution(x: Array, weights: Array, plan: WindowPlan, groups: int = 1, *, xp: Any, ops: Any) -> tuple[Array, Any]:
    """Images (N, H, W, C), weights (h, w, C/groups, F) -> images (N, H', W', F), and ``seen`` for the derivatives."""
    P = ops.patches(x, plan, groups)  # (K, M) per group
    products = [xp.matmul(w.T, p) for w, p in zip(_by_group(weights, groups, xp), P, strict=True)]  # (F/groups, M)
    return ops.images(_joined(products, xp), plan), P


def convolution_gradient(seen: Any, output_error: Array, plan: WindowPlan, shape: Any, *, xp: Any, ops: Any) -> Array:
    """dE/dW of that ``shape``, (h, w, C/groups, F), from ``seen`` of ``convolution`` and dE/dY (N, H', W', F)."""
    D = _filters(ops.columns(output_error, plan), len(seen))
    dW = [xp.matmul(p, d.T) for p, d in zip(seen, D, strict=True)]  # (K, F/groups) per group, ordered as the weights
    if len(dW) == 1:
        return xp.reshape(dW[0], shape)
    size, whole = dW[0].shape[1], xp.empty((dW[0].shape[0], shape[-1]), dtype=dW[0].dtype, device=dW[0].device)
    for g, part in enumerate(dW):
        whole[:, g * size : (g + 1) * size] = part
    return xp.reshape(whole, shape)


def convolution_backward(
    weights: Array, output_error: Array, plan: WindowPlan, groups: int = 1, *, xp: Any, ops: Any
) -> Array:
    """dE/dX (N, H, W, C) from W and dE/dY (N, H', W', F)."""
    D = _filters(ops.columns(output_error, plan), groups)
    W = _by_group(weights, groups, xp)
    return ops.fold([xp.matmul(w, d) for w, d in zip(W, D, strict=True)], plan)  # (K, M) per group


def _by_group(weights: Array, groups: int, xp: Any) -> list[Array]:
    """(h, w, C/groups, F) -> (K, F/groups) per group."""
    filters = weights.shape[-1]
    W, size = xp.reshape(weights, (-1, filters)), filters // groups
    return [W[:, g * size : (g + 1) * size] for g in range(groups)] if groups > 1 else [W]


def _filters(columns: Array, groups: int) -> list[Array]:
    """(F, M) -> (F/groups, M) per group."""
    size = columns.shape[0] // groups
    return [columns[g * size : (g + 1) * size, ...] for g in range(groups)] if groups > 1 else [columns]


def _joined(parts: list[Array], xp: Any) -> Array:
    """A matrix for each group of filters -> one, (F, ...). Not by concat: see ``patches``."""
    if len(parts) == 1:
        return parts[0]
    size, length = parts[0].shape
    whole = xp.empty((size * len(parts), length), dtype=parts[0].dtype, device=parts[0].device)
    for g, part in enumerate(parts):
        whole[g * size : (g + 1) * size, :] = part
    return whole
