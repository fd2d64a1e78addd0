"""Stand-ins for data outside of memory: objects with shape, dtype and slicing, which record how many rows are read."""

import numpy as np


class Rows:
    """Takes slices, and arrays of indices in any order."""

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
    """Like h5py, takes slices and strictly ascending indices."""

    def check(self, some):
        if not isinstance(some, slice) and (np.ndim(some) != 1 or np.any(np.diff(some) <= 0)):
            raise TypeError("Indexing elements must be in increasing order")


class SlicesOnly(Rows):
    def check(self, some):
        if not isinstance(some, slice):
            raise AssertionError(f"slices only, got {some!r:.30}")


KINDS = {"any numbers": Rows, "ascending": Ascending, "slices only": SlicesOnly}
