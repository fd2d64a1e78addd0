"""The frameworks that are compared: each module has a class with ``round(epoch)``, ``predict(x)`` and ``about()``.

``round`` trains one epoch and returns its mean error; ``about`` returns versions and numbers of threads.
"""

from importlib import import_module
from typing import Any

NAMES = {
    "portnn": ("frameworks.ours", "Ours"),
    "portnn, NumPy alone": ("frameworks.ours", "Plain"),
    "portnn portable": ("frameworks.ours", "Portable"),
    "portnn portable, eager": ("frameworks.ours", "Eager"),
    "article": ("frameworks.article", "Article"),
    "torch": ("frameworks.pytorch", "Eager"),
    "torch channels-last": ("frameworks.pytorch", "ChannelsLast"),
    "torch graphs": ("frameworks.pytorch", "Graphed"),
    "torch compiled": ("frameworks.pytorch", "Compiled"),
    "jax": ("frameworks.jaxed", "Jitted"),
    "jax loop": ("frameworks.jaxed", "Loop"),
    "scikit-learn": ("frameworks.sklearned", "Sklearn"),
}


def find(name: str) -> Any:
    """The class of a framework; ImportError if its library is not installed."""
    module, cls = NAMES[name]
    return getattr(import_module(module), cls)
