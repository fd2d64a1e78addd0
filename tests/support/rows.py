"""Stand-ins for data that lies elsewhere: objects with shape, dtype and slices, which count what is read of them."""

import numpy as np


class Rows:
    """Takes slices, and arrays of numbers in any order."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.reads = array, array.shape, array.dtype, []

    def __getitem__(self, some):
        self.check(some)
        found = self.array[some]
        self.reads.append(len(found))
        return found

    def check(self, some):
        pass


class Ascending(Rows):
    """As h5py does, it takes slices, and strictly ascending numbers."""

    def check(self, some):
        if not isinstance(some, slice) and (np.ndim(some) != 1 or np.any(np.diff(some) <= 0)):
            raise TypeError("Indexing elements must be in increasing order")


class SlicesOnly(Rows):
    def check(self, some):
        if not isinstance(some, slice):
            raise AssertionError(f"slices only, got {some!r:.30}")


KINDS = {"any numbers": Rows, "ascending": Ascending, "slices only": SlicesOnly}
