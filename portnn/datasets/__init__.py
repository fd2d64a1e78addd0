"""Data sets: MNIST, Fashion-MNIST and KMNIST, pictures of one's own made like them, and one-hot encoding of labels.

``idx`` reads the file format, ``sources`` lists where the files are and their hashes, ``download`` fetches them,
``mnist`` returns the four arrays, ``digits`` makes any picture of a digit an image as MNIST's, ``labels`` turns class
numbers into one-hot rows.
"""

from portnn.datasets.digits import prepare_digit
from portnn.datasets.labels import to_categorical
from portnn.datasets.mnist import load_mnist

__all__ = ["load_mnist", "prepare_digit", "to_categorical"]
