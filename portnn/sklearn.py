"""Networks as estimators of scikit-learn, for its pipelines, searches and scores (the extra ``sklearn``).

``import portnn`` does not load this module, and so not scikit-learn.
"""

try:
    import sklearn  # noqa: F401  (scikit-learn: imports are absolute)
except ImportError as error:
    raise ImportError(f"portnn.sklearn needs scikit-learn ({error}): python -m pip install scikit-learn") from error

from portnn.estimators.classifier import NetworkClassifier
from portnn.estimators.regressor import NetworkRegressor

__all__ = ["NetworkClassifier", "NetworkRegressor"]
