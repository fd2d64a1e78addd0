"""Softmax and the normalization layers: what many cells have in common is computed first."""

import math
from math import prod

import numpy as np

from portnn.layers import BatchNormLayer, GroupNormLayer
from portnn.show.explain.arithmetic import N, call, cell, equation, exp, products, total
from portnn.show.explain.cells import Index, cells
from portnn.show.explain.page import Section
from portnn.show.explain.trace import Pass

MOST = 3  # cells of a normalized array


def exponentials(logits: np.ndarray) -> tuple[float, np.ndarray, float]:
    """The largest of a row of logits, exp(x - largest), and the sum of these."""
    m = float(logits.max())
    z = np.exp(logits - m)
    return m, z, math.fsum(z)


def sum_of_exponentials(section: Section, name: str, logits: np.ndarray) -> tuple[float, float]:
    """Shows the sum of exp(x - m) of a row; returns m, the largest, and the sum."""
    m, z, s = exponentials(logits)
    section.equation(equation(name, total(z, lambda i: exp(N(logits[i]) - N(m))), s))
    return m, s


def softmax_forward(at: Pass, section: Section) -> None:
    section.formula(
        "Y[i] = exp(X[i] - m) / s,  s = sum over j of exp(X[j] - m)",
        "m, the largest X[j], changes nothing, but keeps exp from overflowing",
    )
    for row, places in _by_row(at.Y):
        m, s = sum_of_exponentials(section, f"s{cell(row)}", at.X[row])
        for place in places:
            section.equation(equation(f"Y{cell(place)}", exp(N(at.X[place]) - N(m)) / N(s), at.Y[place]))


def softmax_backward(at: Pass, section: Section) -> None:
    section.formula("dE/dX[i] = Y[i] (dE/dY[i] - t),  t = sum over j of dE/dY[j] Y[j]")
    for row, places in _by_row(at.input_error):
        t = math.fsum(at.D[row] * at.Y[row])
        section.equation(equation(f"t{cell(row)}", products(at.D[row], at.Y[row]), t))
        for place in places:
            section.equation(
                equation(f"dE/dX{cell(place)}", N(at.Y[place]) * (N(at.D[place]) - N(t)), at.input_error[place])
            )


def _by_row(array: np.ndarray) -> list[tuple[Index, list[Index]]]:
    """The cells to be shown, together with those of the same row along the last axis."""
    rows: dict[Index, list[Index]] = {}
    for place in cells(array):
        rows.setdefault(place[:-1], []).append(place)
    return list(rows.items())


# -- normalization -----------------------------------------------------------------------------------------------------


class _Group:
    """The cells that are normalized together with one cell: their name, and their places as an index of the array."""

    def __init__(self, at: Pass, place: Index):
        channels = at.Y.shape[-1]
        whole = (slice(None),) * (at.Y.ndim - 1)
        if isinstance(at.layer, BatchNormLayer):
            self.name, self.index = cell((place[-1],)), (*whole, place[-1])
        elif isinstance(at.layer, GroupNormLayer):
            size = channels // at.layer.groups
            g = place[-1] // size
            self.name, self.index = cell((g,)), (*whole, slice(g * size, (g + 1) * size))
        else:
            self.name, self.index = cell(place[:-1]), (*place[:-1], slice(None))

    def of(self, array: np.ndarray) -> np.ndarray:
        return np.asarray(array[self.index]).ravel()


def _moments(at: Pass) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and S of the group of each cell, in the shape of X."""
    n, channels = prod(at.X.shape[:-1]), at.X.shape[-1]
    shape: tuple[int, ...] = (n, channels)
    axes: tuple[int, ...] = (0,) if isinstance(at.layer, BatchNormLayer) else (1,)
    if isinstance(at.layer, GroupNormLayer):
        shape, axes = (n, at.layer.groups, channels // at.layer.groups), (0, 2)
    x = at.X.reshape(shape)
    mean = x.mean(axis=axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    S = 1.0 / np.sqrt(variance + at.layer.epsilon)
    whole = [np.broadcast_to(a, shape).reshape(at.X.shape) for a in (mean, variance, S)]
    return whole[0], whole[1], whole[2]


def _over(at: Pass) -> str:
    if isinstance(at.layer, BatchNormLayer):
        return "the pixels of a channel"
    return "the pixels and channels of a group" if isinstance(at.layer, GroupNormLayer) else "the last axis"


def norm_forward(at: Pass, section: Section) -> None:
    if at.frozen and isinstance(at.layer, BatchNormLayer):
        _running_forward(at, section)
        return
    section.formula("Z = (X - mean) S,  S = 1 / sqrt(variance + epsilon)", "Y = Z W + B")
    section.note(f"Mean and variance are over {_over(at)}; W and B are one number for each channel.")
    W, B = at.parameters["weights"], at.parameters["bias"]
    means, variances, slopes = _moments(at)
    told: set[str] = set()
    for place in cells(at.Y)[:MOST]:
        group = _Group(at, place)
        values, mean, variance, S = group.of(at.X), means[place], variances[place], slopes[place]
        if group.name not in told:
            told.add(group.name)
            section.equation(equation(f"mean{group.name}", total(values) / values.size, mean))
            squares = total((values - mean) ** 2, lambda i, v=values, m=mean: (N(v[i]) - N(m)) ** 2)  # type: ignore[misc]
            section.equation(equation(f"variance{group.name}", squares / values.size, variance))
            root = call("sqrt", N(variance) + N(at.layer.epsilon))
            section.equation(equation(f"S{group.name}", 1 / root, S))
        z, c = (at.X[place] - mean) * S, place[-1]
        section.equation(equation(f"Z{cell(place)}", (N(at.X[place]) - N(mean)) * N(S), z))
        section.equation(equation(f"Y{cell(place)}", N(z) * N(W[c]) + N(B[c]), at.Y[place]))


def _running_forward(at: Pass, section: Section) -> None:
    section.formula("Y = (X - running mean) S W + B,  S = 1 / sqrt(running variance + epsilon)")
    section.note(
        "One sample has one value per channel, and a variance needs two: so the layer is shown with its running mean "
        "and variance, as in predict. In fit it needs larger batches."
        if at.made_alone
        else "The layer is frozen: it uses its running mean and variance, as in predict, and keeps them."
    )
    W, B = at.parameters["weights"], at.parameters["bias"]
    told: set[int] = set()
    for place in cells(at.Y)[:MOST]:
        c = place[-1]
        mean = at.buffers["running_mean"][c]
        if c not in told:
            told.add(c)
            _slope(at, section, c)
        S = 1.0 / math.sqrt(at.buffers["running_var"][c] + at.layer.epsilon)
        put_in = (N(at.X[place]) - N(mean)) * N(S) * N(W[c]) + N(B[c])
        section.equation(equation(f"Y{cell(place)}", put_in, at.Y[place]))


def _slope(at: Pass, section: Section, c: int) -> None:
    variance = at.buffers["running_var"][c]
    S = 1.0 / math.sqrt(variance + at.layer.epsilon)
    section.equation(equation(f"S[{c}]", 1 / call("sqrt", N(variance) + N(at.layer.epsilon)), S))


def norm_backward(at: Pass, section: Section) -> None:
    if at.frozen and isinstance(at.layer, BatchNormLayer):
        section.formula("dE/dX = dE/dY W S: the running mean and variance are constants")
        for place in cells(at.input_error)[:MOST]:
            c = place[-1]
            S = 1.0 / math.sqrt(at.buffers["running_var"][c] + at.layer.epsilon)
            put_in = N(at.D[place]) * N(at.parameters["weights"][c]) * N(S)
            section.equation(equation(f"dE/dX{cell(place)}", put_in, at.input_error[place]))
        return
    W = at.parameters["weights"]
    section.formula(
        "dE/dX = S (dE/dZ - m1 - Z m2),  dE/dZ = dE/dY W",
        f"m1 = mean of dE/dZ,  m2 = mean of dE/dZ Z,  both over {_over(at)}",
    )
    dZ, (means, _, slopes) = at.D * W, _moments(at)
    Z = (at.X - means) * slopes
    told: set[str] = set()
    for place in cells(at.input_error)[:MOST]:
        group = _Group(at, place)
        errors, of_group = group.of(dZ), group.of(Z)
        m1, m2 = math.fsum(errors) / errors.size, math.fsum(errors * of_group) / errors.size
        if group.name not in told:
            told.add(group.name)
            section.equation(equation(f"m1{group.name}", total(errors) / errors.size, m1))
            section.equation(equation(f"m2{group.name}", products(errors, of_group) / errors.size, m2))
        section.equation(equation(f"dE/dZ{cell(place)}", N(at.D[place]) * N(W[place[-1]]), dZ[place]))
        put_in = N(slopes[place]) * (N(dZ[place]) - N(m1) - N(Z[place]) * N(m2))
        section.equation(equation(f"dE/dX{cell(place)}", put_in, at.input_error[place]))
    _norm_gradients(at, section, Z)


def _norm_gradients(at: Pass, section: Section, Z: np.ndarray) -> None:
    dW, dB = at.gradients.get("weights"), at.gradients.get("bias")
    if dW is None or dB is None:
        return
    several = prod(at.Y.shape[:-1]) > 1
    over = "the sum over all axes but the last of " if several else ""
    section.formula(f"dE/dW = {over}dE/dY Z", f"dE/dB = {over}dE/dY")
    for (c,) in cells(dW)[:MOST]:
        section.equation(equation(f"dE/dW[{c}]", products(at.D[..., c], Z[..., c]), dW[c]))
        section.equation(equation(f"dE/dB[{c}]", total(at.D[..., c]), dB[c]))
