"""Initial weights, by name. All are drawn on the host from seed and path, so that every device gets the same.

fan_in is the number of inputs that one output of the layer is connected to, fan_out the number of outputs per input.
"""

from math import prod, sqrt

import numpy as np

from portnn import names, random

# name -> limit, or standard deviation, from (fan_in, fan_out)
_UNIFORM = {
    # X. Glorot, Y. Bengio (2010), eq. 16; K. He et al. (2015), eq. 10; Y. LeCun et al. (1998), eq. 16
    "glorot_uniform": lambda fan_in, fan_out: sqrt(6 / (fan_in + fan_out)),
    "he_uniform": lambda fan_in, fan_out: sqrt(6 / fan_in),
    "lecun_uniform": lambda fan_in, fan_out: sqrt(3 / fan_in),
    "article_uniform": lambda fan_in, fan_out: 0.5,
}
_NORMAL = {
    "glorot_normal": lambda fan_in, fan_out: sqrt(2 / (fan_in + fan_out)),
    "he_normal": lambda fan_in, fan_out: sqrt(2 / fan_in),
    "lecun_normal": lambda fan_in, fan_out: sqrt(1 / fan_in),
}
NAMES = (*_UNIFORM, *_NORMAL, "orthogonal", "zeros")


def check_name(name: str) -> str:
    """Returns ``name`` if it names an initializer; ValueError with the list of names otherwise."""
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError(
            names.sentences(
                f"unknown initializer {name!r:.60}; known: {', '.join(NAMES)}{names.meant('initializer', name, NAMES)}",
                "To set the values yourself, assign them: layer.weights = array",
            )
        )
    return name


def draw(name: str, shape: tuple[int, ...], fans: tuple[int, int], seed: int, path: str) -> np.ndarray:
    """Returns float64 values of ``shape``: uniform in [-limit, limit), or normal with that standard deviation."""
    key = random.key(seed, path)
    if name in _UNIFORM:
        limit = _UNIFORM[name](*fans)
        return (2.0 * random.uniform(key, 0, shape) - 1.0) * limit
    if name in _NORMAL:
        return random.normal(key, 0, shape) * _NORMAL[name](*fans)
    if name == "orthogonal":
        return _orthogonal(key, shape)
    return np.ones(shape) if name == "ones" else np.zeros(shape)  # "ones": the scale of normalization layers


def _orthogonal(key: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Orthonormal rows, or columns if there are fewer columns; all axes but the last count as rows.

    Source: A. Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear networks", 2014.
    """
    rows, columns = prod(shape[:-1]), shape[-1]
    q, r = np.linalg.qr(random.normal(key, 0, (max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diagonal(r) < 0.0, -1.0, 1.0)  # the signs of r are LAPACK's choice: make them positive
    return np.reshape(q if rows >= columns else q.T, shape)
