"""Networks for other programs: ``network.export(path)``, ``network.to_source(language)``, and PyTorch's weights.

``export`` chooses by the path's ending: ``page`` writes a page for a browser, ``numpy_file`` a Python file, ``c`` a C
file; ``source`` writes the source of a network in other libraries. ``samples`` finds out what a network takes,
``counterparts`` what has no counterpart elsewhere; the modules ``torch_...`` turn weights to and from PyTorch.
"""
