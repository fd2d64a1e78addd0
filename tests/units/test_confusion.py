"""The confusion matrix: accepted and rejected input."""

import array_api_strict
import numpy as np
import pytest

from portnn import Network, confusion_matrix
from portnn.layers import FCLayer

TRUE, GUESS = np.array([0, 1, 1, 2, 2, 2]), np.array([0, 1, 2, 2, 2, 0])
COUNTS = [[1, 0, 0], [0, 1, 1], [1, 0, 2]]


def rows(labels, classes=3):
    return np.eye(classes)[labels]


@pytest.mark.parametrize(
    ("y_true", "y_pred"),
    [
        (TRUE, GUESS),
        (TRUE.tolist(), GUESS.tolist()),
        (TRUE.astype(np.uint8), GUESS.astype(float)),
        (TRUE[:, None], GUESS[:, None, None]),
        (TRUE, rows(GUESS)),
        (rows(TRUE), GUESS),
        (rows(TRUE).astype(bool), 0.8 * rows(GUESS) + 0.1),
        (rows(TRUE)[:, None], 5.0 * rows(GUESS)[:, None] - 9.0),  # rows (N, 1, C) as in the article, with logits
        (0.4 * rows(TRUE) + 0.2, rows(GUESS).astype(np.float32)),
        (TRUE, np.where(rows(GUESS) == 1.0, np.inf, -np.inf)),
    ],
)
def test_what_it_takes(y_true, y_pred):
    found = confusion_matrix(y_true, y_pred)
    assert found.tolist() == COUNTS
    assert found.dtype == np.int64


def test_its_size():
    assert confusion_matrix([0, 0], [0, 3]).shape == (4, 4)
    assert confusion_matrix([0, 0], rows([0, 1], 7)).shape == (7, 7)
    assert confusion_matrix([0], [0]).tolist() == [[1]]
    assert confusion_matrix([], rows(np.zeros(0, int))).tolist() == np.zeros((3, 3)).tolist()
    assert confusion_matrix(np.repeat(TRUE, 100_000), np.repeat(GUESS, 100_000)).tolist() == (
        (np.array(COUNTS) * 100_000).tolist()
    )


def test_probabilities_of_class_1():
    expected = [[1, 1], [1, 2]]
    fractions = np.array([0.2, 0.7, 0.5, 0.9, 1.0])
    for y_pred in (fractions, fractions[:, None], fractions[:, None, None].astype(np.float32)):
        assert confusion_matrix([0, 0, 1, 1, 1], y_pred).tolist() == expected
        assert confusion_matrix(np.array([[0.0], [0.0], [1.0], [1.0], [1.0]]), y_pred).tolist() == expected
    assert confusion_matrix([False, True], [True, True]).tolist() == [[0, 1], [0, 1]]


def test_what_a_network_predicts():
    net = Network([FCLayer(4, 3)], seed=0)
    x = np.random.default_rng(0).standard_normal((50, 4))
    y = net.predict(x).argmax(axis=1)
    assert np.array_equal(confusion_matrix(y, net.predict(x)), np.diag(np.bincount(y, minlength=3)))


@pytest.mark.parametrize(
    ("y_true", "y_pred", "words"),
    [
        ([0, 1], [0], "y_true holds 2 targets, y_pred 1 predictions: give as many of each"),
        (rows(TRUE), rows(GUESS, 4), "y_true has 3 columns, y_pred 4: both need one for each class"),
        ([], [], "hold no samples: nothing says how many classes"),
        (3, [3], r"y_true has shape \(\): give class numbers \(N,\), or rows with a column for each class"),
        ([[0, 1]], np.zeros((1, 2, 3)), r"y_pred has shape \(1, 2, 3\): .*y_pred.reshape\(-1, C\)"),
        ([0, 1], [0, -1], r"y_pred\[1\] is -1, but class numbers are whole numbers from 0 to 4095$"),
        ([0, 3], rows([0, 1]), r"y_true\[1\] is 3, but class numbers are whole numbers from 0 to 2, the number of col"),
        ([0, 10**9], [0, 1], r"y_true\[1\] is 1e\+09, but"),
        ([0, 1], [0.5, 2.5], r"y_pred\[0\] is 0.5, but .*or fractions from 0 to 1.*of logits give y > 0"),
        ([0, 1], [0.5, np.nan], r"y_pred\[1\] holds NaN: it is of no class"),
        (rows([0, 1]), [[0, 1, 2], [0, np.nan, 0]], r"y_pred\[1\] holds NaN"),
        ([[1, 1, 0]], [0], r"the row y_true\[0\] sums to 2, but a row of targets marks one class"),
        (rows([0, 1]) * 0.0, [0, 1], r"the row y_true\[0\] sums to 0"),
        ([[0, 1], [0]], [0, 1], "y_true"),
    ],
)  # fmt: skip
def test_what_it_refuses(y_true, y_pred, words):
    with pytest.raises(ValueError, match=words):
        confusion_matrix(y_true, y_pred)


def test_types_that_it_refuses():
    with pytest.raises(TypeError, match=r"y_pred is array_api_strict.*: give portnn.to_numpy\(y_pred\)"):
        confusion_matrix([0], array_api_strict.asarray([0]))
    with pytest.raises(TypeError, match="y_true must be real numbers"):
        confusion_matrix(["cat"], [0])
