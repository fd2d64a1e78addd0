"""A table of a network's layers: shapes, parameters and cost, computed without any data."""

from math import prod
from typing import Any

from portnn._typing import Shape
from portnn.layers import SequentialLayer, sequential

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
    """Describes layers in order, children under their composite layer.

    ``input_shape`` is that of one sample, by default as the first layer declares it. Parameters of a layer that is
    built on the first batch are counted as soon as its input's shape is known.
    """
    rows: list[dict[str, Any]] = []
    if input_shape is None and layers:
        input_shape = sequential.own_input_shape(layers[0])
    _describe(layers, input_shape, dtype, "", rows)
    total = {head: sum(row["own"][head] for row in rows) for head in HEADS[2:]}
    cells = [HEADS, *(_cells(row) for row in rows), ("total", "", *(f"{total[head]:,}" for head in HEADS[2:]))]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADS))]
    lines = ["  ".join(_padded(i, cell, widths[i]) for i, cell in enumerate(line)).rstrip() for line in cells]
    rule = "-" * max(map(len, lines))
    text = Summary("\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]]))
    text.rows = [{name: value for name, value in row.items() if name != "own"} for row in rows]
    text.total = total
    return text


def _describe(layers: list[Any], input_shape: Shape | None, dtype: str, above: str, rows: list[dict[str, Any]]) -> None:
    shapes = sequential.shapes(layers, input_shape)
    for i, layer in enumerate(layers):
        _row(layer, shapes[i], shapes[i + 1], dtype, f"{above}{i}", rows)


def _row(
    layer: Any, before: Shape | None, after: Shape | None, dtype: str, path: str, rows: list[dict[str, Any]]
) -> None:
    """One row for a layer; that of a composite layer counts everything inside, and a row per child follows."""
    place = len(rows)
    rows.append({})
    if layer.layers and not layer.updates_itself:
        for i, (child, inside) in enumerate(zip(layer.layers, layer.shapes_inside(before), strict=True)):
            if isinstance(child, (list, tuple)) or type(child) is SequentialLayer:
                start = inside[0] if isinstance(inside, list) and inside else inside
                inner = child.layers if isinstance(child, SequentialLayer) else child
                _describe(list(inner), start, dtype, f"{path}.{i}.", rows)
            else:
                (_, behind) = sequential.shapes([child], inside)
                _row(child, inside, behind, dtype, f"{path}.{i}", rows)
    shapes = layer.parameter_shapes(before)
    numbers = sum(map(prod, shapes.values()))
    own = {
        "parameters": numbers,
        "bytes": numbers * BYTES[dtype],
        "multiply-adds": 0 if layer.updates_itself else layer.multiply_adds(before),
    }
    below = [row["own"] for row in rows[place + 1 :]]
    counts = {head: own[head] + sum(part[head] for part in below) for head in own}
    rows[place] = {"path": path, "layer": type(layer).__name__, "output shape": after, **counts, "own": own}


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    depth = row["path"].count(".")
    shape = "?" if row["output shape"] is None else str(row["output shape"])
    return (f"{'  ' * depth}{row['path']} {row['layer']}", shape, *(f"{row[head]:,}" for head in HEADS[2:]))


def _padded(i: int, cell: str, width: int) -> str:
    return cell.ljust(width) if i < 2 else cell.rjust(width)
