"""``Network.explain``: the whole calculation of one sample, with its real numbers.

``trace.py`` runs one step on copies of the network and writes down what passes between the layers; ``simple.py``,
``windows.py``, ``norms.py``, ``losses.py`` and ``update.py`` put these numbers into the formulas; ``arithmetic.py``
prints equations that hold; ``text.py`` and ``html.py`` are two forms of the same page.
"""

from portnn.show.explain.explaining import explain
from portnn.show.explain.page import Explanation

__all__ = ["Explanation", "explain"]
