"""Who takes part in the comparison: each module has a class with ``round(epoch)``, ``predict(x)`` and ``about()``.

``round`` trains one epoch and returns its mean error; ``about`` returns versions and numbers of threads.
"""

from importlib import import_module
from typing import Any

NAMES = {
    "portnn": ("contenders.ours", "Ours"),
    "portnn, NumPy alone": ("contenders.ours", "Plain"),
    "portnn portable": ("contenders.ours", "Portable"),
    "portnn portable, eager": ("contenders.ours", "Eager"),
    "article": ("contenders.article", "Article"),
    "torch": ("contenders.pytorch", "Eager"),
    "torch channels-last": ("contenders.pytorch", "ChannelsLast"),
    "torch graphs": ("contenders.pytorch", "Graphed"),
    "torch compiled": ("contenders.pytorch", "Compiled"),
    "jax": ("contenders.jaxed", "Jitted"),
    "jax loop": ("contenders.jaxed", "Loop"),
    "scikit-learn": ("contenders.sklearned", "Sklearn"),
}


def find(name: str) -> Any:
    """The class of a contender; ImportError if its library is not installed."""
    module, cls = NAMES[name]
    return getattr(import_module(module), cls)
