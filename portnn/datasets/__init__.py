"""Data sets: MNIST, Fashion-MNIST and KMNIST, and one-hot encoding of labels.

``idx`` reads the file format, ``sources`` lists where the files are and their hashes, ``download`` fetches them,
``mnist`` returns the four arrays, ``labels`` turns class numbers into one-hot rows.
"""

from portnn.datasets.labels import to_categorical
from portnn.datasets.mnist import load_mnist

__all__ = ["load_mnist", "to_categorical"]
