"""Metrics and class weights compared with scikit-learn's on random data, if it is installed."""

import warnings

import numpy as np
import pytest

import portnn
from portnn import losses, metrics
from portnn.backend import get_backend
from portnn.metrics import TopK, batch_sums, find
from portnn.samples import class_weights

sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
compute_sample_weight = pytest.importorskip("sklearn.utils.class_weight").compute_sample_weight
SEEDS = range(8)
seeds = pytest.mark.parametrize("seed", SEEDS)
SCORES = {"precision": sklearn.precision_score, "recall": sklearn.recall_score, "f1": sklearn.f1_score}
scores = pytest.mark.parametrize("name", SCORES)


def drawn(seed, classes=None):
    """The generator, targets in which some class is absent, outputs, and for even seeds weights with some zeros."""
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(2, 80)), classes or int(rng.integers(2, 9))
    y_true, y_pred = rng.integers(0, max(1, classes - 1), n), rng.standard_normal((n, classes))
    weights = None if seed % 2 else rng.random(n) * (rng.random(n) < 0.8)
    return rng, y_true, y_pred, weights


def value(metric, y_true, y_pred, weights):
    sums = batch_sums("metric", metric, y_true, y_pred, weights, get_backend("cpu"))
    return metrics.value(metric, sums, len(y_pred) if weights is None else weights.sum())


def close(found, expected):
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-14)


@seeds
@scores
def test_scores_of_classes(name, seed):
    _, y_true, y_pred, weights = drawn(seed)
    counted = np.ones(len(y_true), bool) if weights is None else weights > 0.0
    theirs = SCORES[name](
        y_true[counted],
        y_pred.argmax(axis=1)[counted],
        average="macro",
        zero_division=0.0,
        sample_weight=None if weights is None else weights[counted],
    )
    close(value(getattr(portnn, name), y_true, y_pred, weights), theirs)
    one_hot = np.eye(y_pred.shape[1])[y_true][:, None, :]
    close(value(getattr(portnn, name), one_hot, y_pred[:, None, :], weights), theirs)


@seeds
@scores
def test_scores_of_the_positive_class(name, seed):
    rng, _, y_pred, weights = drawn(seed, 1)
    y_true = rng.integers(0, 2, y_pred.shape)
    for loss, threshold in ((losses.mse, 0.5), (losses.binary_cross_entropy, 0.0)):
        theirs = SCORES[name](y_true[:, 0], y_pred[:, 0] > threshold, zero_division=0.0, sample_weight=weights)
        close(value(find(name, loss), y_true, y_pred, weights), theirs)


@seeds
@scores
def test_scores_of_several_labels(name, seed):
    rng, _, y_pred, weights = drawn(seed, 4)
    y_true = rng.integers(0, 2, y_pred.shape)
    y_true[0], y_pred[0], weights = 1, 1.0, None  # each label occurs
    theirs = SCORES[name](y_true, y_pred > 0.0, average="macro", zero_division=0.0, sample_weight=weights)
    close(value(find(name, losses.binary_cross_entropy), y_true, y_pred, weights), theirs)


@seeds
def test_accuracy_and_top_k(seed):
    _, y_true, y_pred, weights = drawn(seed)
    theirs = sklearn.accuracy_score(y_true, y_pred.argmax(axis=1), sample_weight=weights)
    close(value(portnn.accuracy, y_true, y_pred, weights), theirs)
    if y_pred.shape[1] == 2:
        return  # for two classes, scikit-learn expects the scores of one column
    for k in range(1, y_pred.shape[1]):
        labels = np.arange(y_pred.shape[1])
        theirs = sklearn.top_k_accuracy_score(y_true, y_pred, k=k, labels=labels, sample_weight=weights)
        close(value(TopK(k), y_true, y_pred, weights), theirs)


@seeds
@pytest.mark.parametrize("outputs", [1, 3])
def test_r2_and_mean_absolute_error(seed, outputs):
    rng, _, y_pred, weights = drawn(seed, outputs)
    y_true = y_pred + rng.standard_normal(y_pred.shape) + 100.0 * rng.standard_normal(outputs)
    if (
        outputs > 1 and weights is None
    ):  # with weights, scikit-learn's mean of equal targets differs from them by rounding
        y_true[:, 1] = 7.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one sample
        theirs = sklearn.r2_score(y_true, y_pred, sample_weight=weights)
    metric = portnn.r2.prepared(y_true)
    assert value(metric, y_true, y_pred, weights) == pytest.approx(theirs, rel=1e-10)
    theirs = sklearn.mean_absolute_error(y_true, y_pred, sample_weight=weights)
    close(value(portnn.mean_absolute_error, y_true, y_pred, weights), theirs)


@seeds
def test_confusion_matrix(seed):
    _, y_true, y_pred, _ = drawn(seed)
    theirs = sklearn.confusion_matrix(y_true, y_pred.argmax(axis=1), labels=np.arange(y_pred.shape[1]))
    assert np.array_equal(portnn.confusion_matrix(y_true, y_pred), theirs)


@seeds
@pytest.mark.parametrize(
    "make", [lambda n, rng: rng.integers(0, n, 40), lambda n, rng: rng.integers(0, n, 40) // 2 * 2]
)
def test_balanced_class_weights(seed, make):
    rng = np.random.default_rng(seed)
    labels = make(int(rng.integers(1, 9)), rng)  # in the second case every other class is absent
    theirs = compute_sample_weight("balanced", labels)
    assert class_weights(labels, "balanced", 10) == pytest.approx(theirs, rel=1e-12)
