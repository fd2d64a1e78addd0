"""The gradient checker: is a backward pass right, and if not, which mistake does it look like?

``measure.py`` compares derivatives with finite differences (the measured derivatives), ``subject.py`` runs the layers
for it, ``diagnosis.py`` examines a wrong derivative, and ``mistakes.py`` computes what each usual mistake would give.
"""

from portnn.testing.gradcheck.measure import GradcheckReport, gradcheck

__all__ = ["GradcheckReport", "gradcheck"]
