"""A table of a network's layers: shapes, parameters and cost, computed without any data."""

from math import prod
from typing import Any

from portnn._typing import Shape
from portnn.show import structure
from portnn.show.structure import Part

BYTES = {"float32": 4, "float64": 8}
HEADS = ("layer", "output shape", "parameters", "bytes", "multiply-adds")


class Summary(str):
    """The table as text; ``rows`` holds its values, one dict per layer, and ``total`` their sums."""

    rows: list[dict[str, Any]]
    total: dict[str, int]

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from portnn.show.pages import summary

        return summary(self.rows, self.total, HEADS)


def summary(layers: list[Any], input_shape: Shape | None, dtype: str) -> Summary:
    """Describes layers in order, children under their composite layer, which counts everything inside.

    ``input_shape`` is that of one sample, by default as the first layer declares it. Parameters of a layer that is
    built on the first batch are counted as soon as its input's shape is known.
    """
    rows: list[dict[str, Any]] = []
    total = dict.fromkeys(HEADS[2:], 0)
    for outer in structure.parts(layers, input_shape):
        for part in (outer, *outer.below()):
            name, counts = type(part.layer).__name__, _counted(part, dtype)
            rows.append({"path": part.path, "layer": name, "output shape": part.after, **counts})
        total = {head: total[head] + number for head, number in _counted(outer, dtype).items()}
    cells = [HEADS, *(_cells(row) for row in rows), ("total", "", *(f"{total[head]:,}" for head in HEADS[2:]))]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADS))]
    lines = ["  ".join(_padded(i, cell, widths[i]) for i, cell in enumerate(line)).rstrip() for line in cells]
    rule = "-" * max(map(len, lines))
    text = Summary("\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]]))
    text.rows, text.total = rows, total
    return text


def _counted(part: Part, dtype: str) -> dict[str, int]:
    """What a layer and all in it count."""
    own = [_own(inner, dtype) for inner in (part, *part.below())]
    return {head: sum(numbers[head] for numbers in own) for head in HEADS[2:]}


def _own(part: Part, dtype: str) -> dict[str, int]:
    """What a layer counts without those in it."""
    layer = part.layer
    numbers = sum(map(prod, layer.parameter_shapes(part.before).values()))
    products = 0 if layer.updates_itself else layer.multiply_adds(part.before)
    return {"parameters": numbers, "bytes": numbers * BYTES[dtype], "multiply-adds": products}


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    depth = row["path"].count(".")
    shape = "?" if row["output shape"] is None else str(row["output shape"])
    return (f"{'  ' * depth}{row['path']} {row['layer']}", shape, *(f"{row[head]:,}" for head in HEADS[2:]))


def _padded(i: int, cell: str, width: int) -> str:
    return cell.ljust(width) if i < 2 else cell.rjust(width)
