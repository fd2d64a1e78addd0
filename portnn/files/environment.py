"""What the bits of a run depend on besides the network: versions, kernels, threads, the processor."""

import platform
import sys
from typing import Any

import numpy as np

from portnn.version import __version__


def environment(network: Any) -> dict[str, str]:
    """What the last digits of results depend on where this network runs, as texts by name."""
    return {
        "portnn": __version__,
        "python": f"{platform.python_implementation()} {'.'.join(map(str, sys.version_info[:3]))}",
        "system": f"{platform.system()} {platform.machine()}",
        "numpy": np.__version__,
        "backend": network.backend.name,
        "kernels": network.kernels,
        **{f"backend: {name}": value for name, value in network.backend.numerics().items()},
    }


def differences(then: dict[str, str], now: dict[str, str]) -> list[str]:
    """In what two environments differ, one text each, such as ``"numpy 2.1.0, now 2.4.6"``; empty if in nothing.

    >>> differences({"numpy": "2.1.0", "kernels": "auto"}, {"numpy": "2.4.6", "kernels": "auto"})
    ['numpy 2.1.0, now 2.4.6']
    """
    names = dict.fromkeys([*then, *now])
    return [
        f"{name} {then.get(name, 'unknown')}, now {now.get(name, 'unknown')}"
        for name in names
        if then.get(name) != now.get(name)
    ]
