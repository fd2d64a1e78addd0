"""The parallel layer."""

from typing import Any

from portnn import names
from portnn.layers import chain, checks
from portnn.layers.layer import Array, Layer
from portnn.settings import Fixed

Shape = tuple[int, ...] | None
MERGES = ("concat", "add")


class ParallelLayer(Layer):
    """Sends what comes in through several branches and joins what comes out: side by side, or in sum.

        "concat":  Y = [F1(X), F2(X), ...] along the last axis        dE/dFk(X): its part of dE/dY
        "add":     Y = F1(X) + F2(X) + ...                            dE/dFk(X) = dE/dY
        dE/dX    = sum over k of (dE/dX of Fk for dE/dFk(X))

    ``branches``: each a layer, or a list of layers one after the other; an empty list passes X on as it is. X (N, ...);
    the outputs must agree in shape, in all axes but the last for "concat".

    >>> import numpy as np
    >>> from portnn import ScaleLayer
    >>> ParallelLayer([], ScaleLayer(10.0))(np.array([[1.0, 2.0]]))
    array([[ 1.,  2., 10., 20.]])
    >>> ParallelLayer([], ScaleLayer(10.0), merge="add")(np.array([[1.0, 2.0]]))
    array([[11., 22.]])
    """

    merge: Any = Fixed()
    sizes: tuple[int, ...] = ()  # of each branch's output, along the last axis

    def __init__(self, *branches: Layer | list[Layer], merge: str = "concat"):
        if not isinstance(merge, str) or merge not in MERGES:
            raise ValueError(f"merge must be 'concat' or 'add', got {merge!r:.60}{names.meant('merge', merge, MERGES)}")
        if not branches:
            raise ValueError("ParallelLayer needs one branch at least: ParallelLayer(FCLayer(4, 2), [])")
        self.layers = [
            checks.branch("a branch of ParallelLayer", b) if isinstance(b, (list, tuple)) else b for b in branches
        ]
        checks.branch("ParallelLayer", [b for b in self.layers if not isinstance(b, list)])
        self.merge = merge

    @property
    def last_axis_only(self) -> bool:  # type: ignore[override]
        return all(layer.last_axis_only for branch in self.branches for layer in branch)

    @property
    def branches(self) -> list[list[Layer]]:
        """The layers of each branch."""
        return [b if isinstance(b, list) else [b] for b in self.layers]

    def output_shape(self, input_shape: Shape) -> Shape:
        outputs = [self._shapes(k, input_shape)[-1] for k in range(len(self.branches))]
        known = [output for output in outputs if output is not None]
        kept = -1 if self.merge == "concat" else None
        for output in known[1:]:
            if output[:kept] != known[0][:kept]:
                raise checks.misfit(
                    f"the branches of ParallelLayer make {' and '.join(map(str, outputs))} of a sample of shape "
                    f"{input_shape}",
                    f"for merge={self.merge!r} they must agree in "
                    + ("all axes but the last" if self.merge == "concat" else "shape"),
                )
        if len(known) < len(outputs):
            return None
        return known[0] if self.merge == "add" else (*known[0][:-1], sum(output[-1] for output in known))

    def shapes_inside(self, input_shape: Shape) -> list[Any]:
        return [
            self._shapes(k, input_shape)[:-1] if isinstance(child, list) else input_shape
            for k, child in enumerate(self.layers)
        ]

    def _shapes(self, k: int, input_shape: Shape) -> list[Shape]:
        try:
            return chain.shapes(self.branches[k], input_shape)
        except ValueError as error:
            raise checks.within(f"in ParallelLayer, branch {k}, ", error) from error

    def smallest_batch(self, input_shape: Shape) -> int:
        return max(chain.smallest_batch(b, self._shapes(k, input_shape))[0] for k, b in enumerate(self.branches))

    def forward(self, X: Array, *, training: bool = False) -> Array:
        X, xp = self.accept(X), self.xp
        outputs = [chain.forward(branch, X, training) for branch in self.branches]
        kept = -1 if self.merge == "concat" else None
        if any(output.shape[:kept] != outputs[0].shape[:kept] for output in outputs):
            shapes = " and ".join(str(tuple(output.shape)) for output in outputs)
            raise ValueError(f"the branches of ParallelLayer made {shapes}: merge={self.merge!r} cannot join them")
        if self.merge == "concat":
            Y = xp.concat(outputs, axis=-1)
        else:
            Y = outputs[0]
            for output in outputs[1:]:
                Y = Y + output
        if training:
            self.input, self.output = X, Y
            self.sizes = tuple(output.shape[-1] for output in outputs)
        return Y

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array:
        D = self.accept_error(output_error)
        input_error = None
        for branch, error in zip(self.branches, self._parts(D), strict=True):
            d = chain.backward(branch, error, need_input_error)
            input_error = d if input_error is None else input_error + d
        return input_error

    def _parts(self, D: Array) -> list[Array]:
        """dE/dY of each branch."""
        if self.merge == "add":
            return [D] * len(self.branches)
        parts, start = [], 0
        for size in self.sizes:
            parts.append(D[..., start : start + size])
            start += size
        return parts

    def __repr__(self) -> str:
        extras = "" if self.merge == "concat" else f", merge={self.merge!r}"
        return f"ParallelLayer({', '.join(map(repr, self.layers))}{extras})"
