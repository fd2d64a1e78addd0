"""Errors about ``validation_data`` say so, because its x and y are not the training data's."""

import numpy as np
import pytest

from portnn import SGD, FCLayer, Network

X, Y = np.ones((6, 3)), np.ones((6, 1))
ROWS = np.asarray([[1.0, 1.0, 1.0]] * 5 + [[np.nan, 1.0, 1.0]])


class Rows:
    """A row source that is read in slices."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, some):
        return self.array[some]


GIVEN = {
    "NaN in x": ((ROWS, Y), r"in validation_data, x\[5, 0\] is nan .*fit needs finite data"),
    "NaN in y": ((X, Y * np.nan), r"in validation_data, y\[0, 0\] is nan"),
    "NaN in rows": ((Rows(ROWS), Y), r"in validation_data, x\[5, 0\] is nan"),
    "NaN in a batch": ([(X, Y), (ROWS, Y)], r"in batch 2 of validation_data, x\[5, 0\] is nan"),
    "NaN in the first batch": ([(ROWS, Y)], r"in batch 1 of validation_data, x\[5, 0\] is nan"),
    "shape of a batch": ([(X, Y), (X[:, :2], Y)], r"in batch 2 of validation_data, x has samples of shape \(2,\)"),
    "lengths": ((X, Y[:5]), "in validation_data, x holds 6 samples, y 5 targets"),
    "lengths of rows": ((Rows(X), Y[:5]), "in validation_data, x holds 6 samples, y 5 targets"),
    "shape of x": ((X[:, :2], Y), r"in validation_data, x has samples of shape \(2,\)"),
    "shape of y": ((X, np.ones((6, 2))), r"in validation_data, a target has shape \(2,\)"),
    "weights": ((X, Y, -np.ones(6)), r"in validation_data, sample_weight\[0\] is -1"),
    "texts": ((np.array([["a"] * 3] * 6), Y), "in validation_data, x must be"),
    "nothing": ((X[:0], Y[:0]), "in validation_data, x holds 0 samples"),
}


@pytest.mark.parametrize("fault", list(GIVEN))
def test_a_fault_in_validation_data(fault):
    given, match = GIVEN[fault]
    net = Network([FCLayer(3, 1)], seed=1)
    net.use("mse", optimizer=SGD(0.01))
    with pytest.raises((ValueError, TypeError), match=match):
        net.fit(X, Y, epochs=1, validation_data=given, verbose=0)
