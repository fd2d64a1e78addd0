"""The results of one forward and backward pass of a layer, and the difference between two sets of results."""

import numpy as np

import portnn

N = 4


def draw(*shape, seed=0):
    """Random numbers that stay away from relu's kink at zero."""
    x = np.random.default_rng(seed).standard_normal(shape)
    return x + 0.1 * np.sign(x)


def made(case, dtype="float64", kernels="auto"):
    """The layer of a case, built, with random parameters: zeros and ones could hide mistakes."""
    return built(case.make(), case.sample, dtype, kernels)


def built(layer, sample, dtype="float64", kernels="auto"):
    for part in layer.walk():
        part.kernels = kernels
    layer.build(sample, portnn.get_backend("cpu"), dtype, 7, "")
    for k, (path, part, name) in enumerate(paths(layer, "parameters")):
        part.assign(name, draw(*part.parameters[name].shape, seed=k + 10))
        assert path
    return layer


def paths(layer, kind):
    """(dotted path, the layer that has it, its name) for each parameter, gradient or buffer."""
    return [
        (f"{part.path}.{name}".removeprefix("."), part, name) for part in layer.walk() for name in getattr(part, kind)
    ]


def parameters(layer):
    return {path: np.array(part.parameters[name]) for path, part, name in paths(layer, "parameters")}


def results(layer, X, D=None):
    """Y, dE/dX, each dE/d(parameter) and each new buffer. E = sum(D * Y); D is random if not given."""
    Y = layer.forward_propagation(X)
    D = draw(*Y.shape, seed=1).astype(X.dtype) if D is None else D.astype(X.dtype)
    found = {"Y": Y, "dE/dX": layer.backward_propagation(D)}
    found |= {f"dE/d{path}": part.gradients[name] for path, part, name in paths(layer, "gradients")}
    found |= {path: part.new_buffers[name] for path, part, name in paths(layer, "new_buffers")}
    return {name: np.array(array) for name, array in found.items()}


def difference(ours, theirs):
    """The largest difference, relative to the largest value of its array.

    An array of nothing but rounding noise (the gradient of a bias before batch normalization) is instead compared with
    a thousandth of the largest value of all arrays.
    """
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    floor = 1e-3 * max(largest(array) for array in theirs.values())
    worst = 0.0
    for name, array in theirs.items():
        assert ours[name].shape == array.shape, (name, ours[name].shape, array.shape)
        apart = largest(ours[name].astype(np.float64) - array.astype(np.float64))
        worst = max(worst, apart / max(largest(array), floor, 1e-30))
        assert np.isfinite(ours[name]).all(), name
    return worst


def largest(array):
    return float(np.abs(array).max()) if array.size else 0.0
