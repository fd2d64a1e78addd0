"""Random numbers that depend on the seed and on what they are used for, and on nothing else.

Every stream is Philox 4x64-10, a counter-based generator: its words are a function of a key and a counter, so a stream
has no state and can be drawn on any device, in any order.

    key     = (seed, first 8 bytes of SHA-256 of a path, as SHA-256 writes them: big-endian)    "0.weights", "shuffle"
    counter = (position, 0, step, 0)                                                    step: the update, or the epoch

Only the generator's raw words are used; NumPy's distributions may change from version to version.

Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

import os

import numpy as np

SEED_LIMIT = 1 << 64


def check_seed(seed: int | None) -> int:
    """Returns ``seed`` if it is a whole number in [0, 2**64); draws one from the operating system for None."""
    if seed is None:
        return int.from_bytes(os.urandom(4), "little")  # 32 bits: short enough to write down
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be a whole number or None, got {seed!r} ({type(seed).__name__})")
    if not 0 <= seed < SEED_LIMIT:
        raise ValueError(f"seed must be in [0, 2**64), got {seed}")
    return int(seed)


def key(seed: int, path: str) -> tuple[int, int]:
    """Returns the key of the stream for ``path`` (a dotted path such as ``"0.weights"``) under ``seed``."""
    from hashlib import sha256  # here: `import portnn` draws nothing, so it should not take that time

    return seed, int.from_bytes(sha256(path.encode()).digest()[:8], "big")


def words(key: tuple[int, int], step: int, n: int) -> np.ndarray:
    """Returns the first ``n`` raw 64-bit words, uint64 (n,), of the stream ``key`` at ``step``."""
    philox = np.random.Philox(key=np.array(key, np.uint64), counter=np.array([0, 0, step, 0], np.uint64))
    return np.asarray(philox.random_raw(n))


def bits(key: tuple[int, int], step: int, n: int) -> np.ndarray:
    """Returns ``n`` 32-bit words as int64 (n,) in [0, 2**32): of each 64-bit word the low half, then the high half."""
    w = words(key, step, (n + 1) // 2)
    halves = np.stack([w & np.uint64(0xFFFFFFFF), w >> np.uint64(32)], axis=1)
    return halves.reshape(-1)[:n].astype(np.int64)


def uniform(key: tuple[int, int], step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns float64 values of ``shape``, uniform in [0, 1): the top 53 bits of one word each."""
    w = words(key, step, int(np.prod(shape)))
    return ((w >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def normal(key: tuple[int, int], step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns standard normal float64 values of ``shape``, each from two uniform ones (Box and Muller, 1958)."""
    u, v = uniform(key, step, (2, *shape))
    return np.sqrt(-2.0 * np.log1p(-u)) * np.cos(2.0 * np.pi * v)  # 1 - u is never zero


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """Returns the order, int64 (n,), in which ``epoch`` visits ``n`` samples: the stable argsort of random words."""
    return np.argsort(words(key(seed, "shuffle"), epoch, n), kind="stable").astype(np.int64)
