"""One forward and backward of a layer with everything that comes of it, and how far two such results are apart."""

import numpy as np

import portnn

N = 4


def draw(*shape, seed=0):
    """Numbers that keep away from the kink of relu at zero."""
    x = np.random.default_rng(seed).standard_normal(shape)
    return x + 0.1 * np.sign(x)


def made(case, dtype="float64", kernels="auto"):
    """The layer of a case, built, and with parameters that hide nothing: no zeros, no ones."""
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
    """(dotted path below the layer, the part it is in, its name) for each parameter, gradient or buffer."""
    return [
        (f"{part.path}.{name}".removeprefix("."), part, name) for part in layer.walk() for name in getattr(part, kind)
    ]


def parameters(layer):
    return {path: np.array(part.parameters[name]) for path, part, name in paths(layer, "parameters")}


def results(layer, X, D=None):
    """Y, dE/dX, each dE/d(parameter) and each new buffer. E = sum(D * Y); D is drawn if it is not given."""
    Y = layer.forward_propagation(X)
    D = draw(*Y.shape, seed=1).astype(X.dtype) if D is None else D.astype(X.dtype)
    found = {"Y": Y, "dE/dX": layer.backward_propagation(D)}
    found |= {f"dE/d{path}": part.gradients[name] for path, part, name in paths(layer, "gradients")}
    found |= {path: part.new_buffers[name] for path, part, name in paths(layer, "new_buffers")}
    return {name: np.array(array) for name, array in found.items()}


def difference(ours, theirs):
    """The largest difference, relative to the largest value of its array.

    An array that is nothing but rounding noise (the gradient of a bias in front of batch normalization) is measured
    against the largest value of all.
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
