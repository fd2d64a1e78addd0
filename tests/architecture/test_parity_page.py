"""docs/parity.md has a row for every part of the library, and all differences on it are within the promised limits."""

import re
from pathlib import Path

import pytest

from cases import ACTIVATIONS, FUNCTIONS_ONLY, LAYERS, LOSSES, OPS, OPTIMIZERS, SCHEDULES

PAGE = (Path(__file__).parents[2] / "docs" / "parity.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| \w.*\|$", PAGE, re.MULTILINE)
]
LIMITS = {"float64": 1e-10, "float32": 1e-5, "gradient": 1e-6}


def test_every_part_has_its_row():
    parts = [case.name for case in LAYERS]
    assert [row[0] for row in ROWS] == [
        *parts, *ACTIVATIONS, *FUNCTIONS_ONLY, *LOSSES, *OPTIMIZERS, *SCHEDULES, *OPS
    ], "run tools/write_parity.py (it needs PyTorch; without it, say so in the pull request)"  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_figures_keep_the_promise(row):
    name, *figures, libraries = row
    for limit, figure in zip(LIMITS.values(), figures, strict=True):
        assert figure == "-" or float(figure) <= limit
    if name not in SCHEDULES:
        assert {"NumPy", "portable", "strict", "PyTorch"} <= set(libraries.split(", "))
    if name in [case.name for case in LAYERS] or name in [*ACTIVATIONS, *LOSSES, *OPTIMIZERS]:
        assert "replay" in libraries
