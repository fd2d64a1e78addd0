"""From steps that use each other's results to layers: chains, residual layers, parallel layers."""

from collections.abc import Callable, Sequence
from typing import Any

from portnn._typing import Shape
from portnn.files.errors import FileError
from portnn.layers import ParallelLayer, ResidualLayer

DEEPEST = 40  # parallel layers within each other


class Piece:
    """A layer to be made, with its parameters and buffers, by name; ``kind`` says what may be folded into it.

    ``before`` is the shape of the samples that come in; a shape that is only ``passing`` may be left out again.
    """

    before: Shape = ()
    passing = False

    def __init__(self, kind: str, make: Callable[..., Any], arrays: dict[str, Any] | None = None):
        self.kind, self.make, self.arrays = kind, make, arrays or {}
        self.path = ""

    def layer(self) -> Any:
        layer = self.make(bias="bias" in self.arrays) if self.kind == "linear" else self.make()
        for name, array in self.arrays.items():
            home = layer.buffers if name.startswith("running") else layer.parameters
            home[name] = array
        if self.kind == "norm":
            layer.learn_shapes({name: array.shape for name, array in layer.parameters.items()})
        return layer


class Step:
    """Layers in order after one other step; or a merge, ``"add"`` or ``"concat"``, of several."""

    def __init__(self, inputs: Sequence[int], pieces: Sequence[Any] = (), merge: str | None = None):
        self.inputs, self.pieces, self.merge = list(inputs), list(pieces), merge


def layers(steps: list[Step], last: int) -> list[Any]:
    """The layers that compute the last step from step 0, the network's input.

    The branches of a merge begin where all ways to it part: at the last step that each of them goes through.
    """
    return _Builder(steps, last).chain(last, 0, 0)


class _Builder:
    def __init__(self, steps: list[Step], last: int):
        self.steps, self.used = steps, set[int]()
        self.part, self.depth = [0] * (last + 1), [0] * (last + 1)  # the nearest step that all ways go through
        for i in range(1, last + 1):
            part = steps[i].inputs[0]
            for other in steps[i].inputs[1:]:
                part = self._common(part, other)
            self.part[i], self.depth[i] = part, self.depth[part] + 1

    def _common(self, a: int, b: int) -> int:
        while a != b:
            if self.depth[a] < self.depth[b]:
                a, b = b, a
            a = self.part[a]
        return a

    def chain(self, end: int, start: int, depth: int) -> list[Any]:
        if depth > DEEPEST:
            raise FileError(f"the graph has parts within each other, more than {DEEPEST} deep")
        found: list[Any] = []
        at = end
        while at != start:
            step = self.steps[at]
            if at in self.used:
                raise FileError(
                    "the graph uses the result of a layer in several parts that do not begin there, as densely "
                    "connected networks do: no layer does that"
                )
            self.used.add(at)
            if step.merge is None:
                found += [piece.layer() for piece in reversed(step.pieces)]
            else:
                branches = [self.chain(branch, self.part[at], depth + 1) for branch in step.inputs]
                found.append(_merged(branches, step.merge))
            at = self.part[at]
        return found[::-1]


def _merged(branches: list[list[Any]], merge: str) -> Any:
    if merge == "add" and len(branches) == 2 and bool(branches[0]) != bool(branches[1]):
        return ResidualLayer(*(branches[0] or branches[1]))
    return ParallelLayer(*(branch[0] if len(branch) == 1 else branch for branch in branches), merge=merge)
