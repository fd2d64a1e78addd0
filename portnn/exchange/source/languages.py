"""What ``Network.to_source`` does."""

import copy
from collections.abc import Callable
from typing import Any

from portnn import names
from portnn.exchange.source import keras, torch

LANGUAGES: dict[str, Callable[[Any], str]] = {"torch": torch.source, "keras": keras.source}


def to_source(network: Any, language: Any) -> str:
    """The source of a network in a language, by its name."""
    if not isinstance(language, str) or language not in LANGUAGES:
        known = tuple(LANGUAGES)
        raise ValueError(
            f"to_source writes 'torch' or 'keras', got {language!r:.60}{names.meant('language', language, known)}"
        )
    if network.turns.held_elsewhere() is not None:  # as it was between two steps
        network = copy.deepcopy(network)
    network._arrange()
    for layer in network.walk():
        layer.check_leaves()
    with network.backend.scope():
        return LANGUAGES[language](network)
