"""The train step for NumPy."""

from math import isfinite
from typing import Any


def update_counters(
    step: int, position: int, total: Any, finite: Any, error: Any, size: int
) -> tuple[int, int, Any, Any]:
    """``update_counters`` on Python numbers."""
    total = total + error * size
    return step + 1, position + 1, total, finite + 1 if isfinite(total) else finite
