"""Captured steps that outlive their fit, so that the next one of the same network need not capture them again.

Between fits the network has copies of the arrays that the graphs write to. A step is kept for the networks trained
last, as long as all graphs together take a small share of the device's memory.
"""

import weakref
from collections import OrderedDict
from typing import Any

from portnn_cupy import direct
from portnn_cupy.graph import CapturedStep

NETWORKS = 4
SIZES = 8  # of batches of a network, those used last
SHARE = 8  # an eighth of the device's memory at most


class Kept:
    """By network, the key of its steps and for each size of batch the step."""

    def __init__(self) -> None:
        self.by_network: OrderedDict[int, tuple[Any, Any, dict[int, CapturedStep]]] = OrderedDict()

    def steps(self, state: Any) -> dict[int, CapturedStep] | None:
        """The steps of the state's network, where the key is still the same; None where steps are not kept."""
        key, network = getattr(state, "key", None), getattr(state, "network", lambda: None)()
        if network is None:
            return None
        at = id(network)
        _, old, steps = self.by_network.pop(at, (None, None, {}))
        if key is None:
            return None
        key = key, direct.Settings.up_to  # of any backend: it decides which kernels a step runs
        if old != key:
            steps = {}
        forget = self.by_network.pop
        self.by_network[at] = weakref.ref(network, lambda gone: forget(at, None) and None), key, steps
        while len(self.by_network) > NETWORKS:
            self.by_network.popitem(last=False)
        return steps

    def rest(self, steps: dict[int, CapturedStep], most: int, copied: bool) -> None:
        """At the end of a fit: all steps together may take ``most`` bytes, or those of long ago are given up.

        The network has copies of their arrays, or else they are given up at once.
        """
        for step in steps.values():
            step.rest()
        for size in [size for size, step in steps.items() if step.eager or not step.reusable]:
            del steps[size]
        while len(steps) > SIZES:
            del steps[next(iter(steps))]
        if not copied:
            self.clear()
        while self.by_network and sum(map(_bytes_of, self.by_network.values())) > most:
            self.by_network.popitem(last=False)

    def forget(self, network: Any) -> None:
        self.by_network.pop(id(network), None)

    def clear(self) -> None:
        self.by_network.clear()


def _bytes_of(entry: tuple[Any, Any, dict[int, CapturedStep]]) -> int:
    steps = entry[2].values()
    return sum(step.memory.total_bytes() + sum(buffer.nbytes for buffer in step.buffers) for step in steps)
