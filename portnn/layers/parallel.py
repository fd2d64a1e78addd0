"""The parallel layer."""

from itertools import accumulate, pairwise
from typing import Any

from portnn import article, checks, names
from portnn._typing import Array, Shape
from portnn.layers.layer import Layer
from portnn.layers.sequential import SequentialLayer, run, run_backward, shapes, smallest_batch
from portnn.settings import Fixed

MERGES = ("concat", "add")


class ParallelLayer(Layer):
    """Passes X through several branches and merges their outputs: concatenated, or added.

        "concat":  Y = [F1(X), F2(X), ...] along the last axis        dE/dFk(X): its part of dE/dY
        "add":     Y = F1(X) + F2(X) + ...                            dE/dFk(X) = dE/dY
        dE/dX    = sum over k of (dE/dX of Fk for dE/dFk(X))

    Each of ``branches`` is a layer, or a list of layers run in order; an empty list is the identity. ``merge`` is
    ``"concat"`` or ``"add"``. X is (N, ...). The outputs must have equal shapes, for "concat" in all axes but the last;
    ValueError if they do not.

    >>> import numpy as np
    >>> from portnn import ScaleLayer
    >>> ParallelLayer([], ScaleLayer(10.0))(np.array([[1.0, 2.0]]))
    array([[ 1.,  2., 10., 20.]])
    >>> ParallelLayer([], ScaleLayer(10.0), merge="add")(np.array([[1.0, 2.0]]))
    array([[11., 22.]])
    """

    def forward(self, X: Array, *, training: bool = False) -> Array:
        outputs = [run([branch], X, training) for branch in article.adapted(self.layers)]
        self.check_outputs(outputs)
        if training:
            self.sizes = tuple(output.shape[-1] for output in outputs)
        return self.xp.concat(outputs, axis=-1) if self.merge == "concat" else sum(outputs[1:], outputs[0])

    def backward(self, output_error: Array, *, need_input_error: bool = True) -> Array | None:
        D, ends = output_error, list(accumulate(self.sizes))
        errors = [D[..., a:b] for a, b in pairwise([0, *ends])] if self.merge == "concat" else [D] * len(ends)
        branches = article.adapted(self.layers)
        found: list[Any] = [run_backward([b], d, need_input_error) for b, d in zip(branches, errors, strict=True)]
        return sum(found[1:], found[0]) if need_input_error else None

    merge: Any = Fixed()
    sizes: tuple[int, ...] = ()  # of each branch's output, along the last axis

    def __init__(self, *branches: Layer | list[Layer], merge: str = "concat"):
        if not isinstance(merge, str) or merge not in MERGES:
            raise ValueError(f"merge must be 'concat' or 'add', got {merge!r:.60}{names.meant('merge', merge, MERGES)}")
        if not branches:
            raise ValueError("ParallelLayer needs at least one branch: ParallelLayer(FCLayer(4, 2), [])")
        for branch in branches:
            if isinstance(branch, (list, tuple)):
                checks.branch("a branch of ParallelLayer", branch)
        alone = [branch for branch in branches if not isinstance(branch, (list, tuple))]
        checks.branch("ParallelLayer", alone)
        self.layers = [SequentialLayer(*b) if isinstance(b, (list, tuple)) else b for b in branches]
        self.merge = merge

    @property
    def last_axis_only(self) -> bool:  # type: ignore[override]
        return all(layer.last_axis_only for layer in self.layers)

    def output_shape(self, input_shape: Shape | None) -> Shape | None:
        if not self.layers:
            raise ValueError("ParallelLayer needs at least one branch, but its list of layers is empty")
        outputs = [self._shapes(k, input_shape)[-1] for k in range(len(self.layers))]
        known = [output for output in outputs if output is not None]
        kept = -1 if self.merge == "concat" else None
        for output in known[1:]:
            if output[:kept] != known[0][:kept]:
                raise checks.misfit(
                    f"the branches of ParallelLayer turn a sample of shape {input_shape} into "
                    f"{' and '.join(map(str, outputs))}",
                    f"for merge={self.merge!r} they must agree in "
                    + ("all axes but the last" if self.merge == "concat" else "shape"),
                )
        if len(known) < len(outputs):
            return None
        return known[0] if self.merge == "add" else (*known[0][:-1], sum(output[-1] for output in known))

    def shapes_inside(self, input_shape: Shape | None) -> list[Any]:
        return [input_shape] * len(self.layers)

    def _shapes(self, k: int, input_shape: Shape | None) -> list[Shape | None]:
        branch = self.layers[k]
        try:
            return shapes(branch.layers if type(branch) is SequentialLayer else [branch], input_shape)
        except ValueError as error:
            raise checks.within(f"in ParallelLayer, branch {k}, ", error) from error

    def smallest_batch(self, input_shape: Shape | None) -> int:
        return max(smallest_batch([branch], [input_shape])[0] for branch in self.layers)

    def check_outputs(self, outputs: list[Array]) -> None:
        """Checks the outputs' shapes, which for users' layers may not be known before they run."""
        kept = -1 if self.merge == "concat" else None
        if any(output.shape[:kept] != outputs[0].shape[:kept] for output in outputs):
            found = " and ".join(str(tuple(output.shape)) for output in outputs)
            raise ValueError(f"the branches of ParallelLayer returned {found}: merge={self.merge!r} cannot merge them")

    def __repr__(self) -> str:
        extras = "" if self.merge == "concat" else f", merge={self.merge!r}"
        shown = (repr(b.layers) if type(b) is SequentialLayer else repr(b) for b in self.layers)
        return f"ParallelLayer({', '.join(shown)}{extras})"
