"""scikit-learn's MLPClassifier, which has its own initial weights and order of samples."""

import warnings
from typing import Any

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier


class Sklearn:
    def __init__(self, workload: Any, x: np.ndarray, y: np.ndarray):
        sizes = tuple(part[2] for part in workload.parts if part[0] == "fc")[:-1]
        self.model = MLPClassifier(
            sizes, solver="adam", alpha=0.0, batch_size=workload.batch, learning_rate_init=workload.optimizer[1]
        )
        self.x, self.y = x, y

    def round(self, epoch: int) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model.partial_fit(self.x, self.y, classes=np.arange(10))
        return float(self.model.loss_)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(x)

    def about(self) -> str:
        return f"scikit-learn {sklearn.__version__}"
