"""to_categorical: class numbers as one-hot rows."""

import array_api_strict
import numpy as np
import pytest

from portnn import to_categorical

ROWS = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]], np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("classes", [None, 3, np.int32(3)])
def test_one_row_a_label(dtype, shape, classes):
    labels = np.array([1, 2, 0, 2], dtype).reshape(shape)
    before = labels.copy()
    rows = to_categorical(labels, classes)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, ROWS)
    assert np.array_equal(labels, before)


@pytest.mark.parametrize("labels", [[1, 2, 0, 2], (1, 2, 0, 2), [[1], [2], [0], [2]], [1.0, 2.0, 0.0, 2.0]])
def test_lists_are_labels_too(labels):
    assert np.array_equal(to_categorical(labels), ROWS)


def test_booleans_are_two_classes():
    assert np.array_equal(to_categorical([True, False]), [[0, 1], [1, 0]])


def test_strided_and_read_only_labels():
    labels = np.array([1, 9, 2, 9, 0, 9, 2, 9])[::2]
    labels.flags.writeable = False
    assert np.array_equal(to_categorical(labels, 3), ROWS)


def test_classes_make_the_row_longer():
    assert to_categorical([0, 1], classes=10).shape == (2, 10)
    assert to_categorical([], classes=10).shape == (0, 10)


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        ([0, 1, 3], 3, r"labels\[2\] is 3, but a label is a whole number from 0 to 2 \(classes=3\)"),
        ([0, -1], 3, r"labels\[1\] is -1, but .* from 0 to 2"),
        ([0, -1], None, r"labels\[1\] is -1, but a label is a whole number from 0$"),
        ([0, 1.5], 3, r"labels\[1\] is 1\.5, but a label is a whole number"),
        ([0, float("nan")], 3, r"labels\[1\] is nan"),
        ([float("inf"), 0], None, r"labels\[0\] is inf"),
        (np.array([2**64 - 1], np.uint64), 3, r"labels\[0\] is 18446744073709551615"),
        (np.array([2**64 - 1], np.uint64), None, "do not fit into memory: are these labels class numbers"),
        ([1e300], None, "do not fit into memory"),
        (np.eye(3), None, r"shape \(3, 3\), expected \(N,\) or \(N, 1\): one-hot rows need no conversion"),
        (np.zeros((2, 1, 1), int), None, r"shape \(2, 1, 1\), expected"),
        (3, None, r"shape \(\), expected"),
        ([], None, r"no labels to count the classes of.*classes=10"),
        ([0], 0, "classes must be 1 or more, got 0"),
        ([[0], [1, 2]], None, "labels cannot be made an array"),
    ],
)
def test_wrong_labels_are_value_errors(labels, classes, words):
    with pytest.raises(ValueError, match=words):
        to_categorical(labels, classes)


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        (["three"], None, "labels must be real numbers"),
        ([None], None, "labels must be real numbers"),
        ([1j], None, "labels must be real numbers"),
        ([0], 2.5, r"classes must be a whole number, got 2\.5 \(float\)"),
        ([0], "ten", "classes must be a whole number, got 'ten'"),
        ([0], True, "classes must be a whole number, got True"),
        (array_api_strict.asarray([0, 1]), None, r"got array_api_strict.*portnn\.to_numpy\(labels\)"),
    ],
)
def test_what_is_no_label_is_a_type_error(labels, classes, words):
    with pytest.raises(TypeError, match=words):
        to_categorical(labels, classes)
