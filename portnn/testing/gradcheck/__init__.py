"""The gradient checker: is a backward pass right, and if not, which mistake does it look like?

``measure.py`` compares derivatives with measured ones, ``subject.py`` runs the layers for it, ``diagnosis.py`` examines
a wrong one, and ``mistakes.py`` computes what each of the usual mistakes would give.
"""

from portnn.testing.gradcheck.measure import GradcheckReport, gradcheck

__all__ = ["GradcheckReport", "gradcheck"]
