"""Data to learn from: MNIST and its two relatives, and the one-hot rows that networks are trained with.

``idx`` reads the file format, ``sources`` says where the files are and what they must be, ``download`` fetches them,
``mnist`` puts the four arrays together, ``labels`` turns class numbers into rows.
"""

from portnn.datasets.labels import to_categorical
from portnn.datasets.mnist import load_mnist

__all__ = ["load_mnist", "to_categorical"]
