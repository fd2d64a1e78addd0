"""Files: a network with its training, in the safetensors format.

``writing.py`` and ``reading.py`` are the two ways; ``durable.py`` survives crashes, ``header.py`` and ``text.py`` check
what is read, ``describing.py`` and ``building.py`` turn a network into a description and back, ``filling.py`` gives it
its arrays and numbers. The modules are loaded at first use.
"""

from portnn.files.errors import FileError

__all__ = ["FileError"]
