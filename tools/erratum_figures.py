"""Prints the figures that docs/erratum.md quotes: the errors of the article's repository, compared with portnn.

    PYTHONPATH=.:backends python tools/erratum_figures.py

The classes called Published... compute what the repository's classes compute, including their errors; they were written
for this comparison, not copied. All values are small whole numbers, so the output is the same on every machine.
"""

import sys
from collections.abc import Callable, Iterator

import numpy as np

import portnn

Figure = Callable[[], list[str]]


# -- the repository's layers, errors and all ---------------------------------------------------------------------------


class PublishedFCLayer:
    """The repository's fully connected layer: one sample (1, n) at a time; backward also updates."""

    def __init__(self, input_size: int, output_size: int):
        self.weights = np.random.rand(input_size, output_size) - 0.5  # noqa: NPY002 (as published)
        self.bias = np.random.rand(1, output_size) - 0.5  # noqa: NPY002

    def forward_propagation(self, input_data: np.ndarray) -> np.ndarray:
        self.input = input_data
        return np.dot(input_data, self.weights) + self.bias

    def backward_propagation(self, output_error: np.ndarray, learning_rate: float) -> np.ndarray:
        input_error = np.dot(output_error, self.weights.T)
        self.weights -= learning_rate * np.dot(self.input.T, output_error)
        self.bias -= learning_rate * output_error
        return input_error


class PublishedActivationLayer:
    """The repository's activation layer: a function and its derivative, no shape."""

    def __init__(self, activation: Callable[..., np.ndarray], activation_prime: Callable[..., np.ndarray]):
        self.activation, self.activation_prime = activation, activation_prime


class PublishedFlattenLayer:
    """The repository's flatten layer: everything becomes one row."""

    def forward_propagation(self, input_data: np.ndarray) -> np.ndarray:
        return input_data.reshape((1, -1))


class PublishedConvLayer:
    """The repository's convolution: the bias is added inside the loop over channels, dE/dB is multiplied by F."""

    def __init__(self, weights: np.ndarray, bias: np.ndarray):
        self.weights, self.bias = weights, bias  # (h, w, C, F), (F,)

    def forward_propagation(self, input_data: np.ndarray) -> np.ndarray:
        h, w, channels, filters = self.weights.shape
        H, W = input_data.shape[0] - h + 1, input_data.shape[1] - w + 1
        output = np.zeros((H, W, filters))
        for f in range(filters):
            for c in range(channels):
                for i in range(H):
                    for j in range(W):
                        patch = input_data[i : i + h, j : j + w, c]
                        output[i, j, f] += np.sum(patch * self.weights[:, :, c, f]) + self.bias[f]  # once per channel
        return output

    def bias_error(self, output_error: np.ndarray) -> np.ndarray:
        filters = self.weights.shape[-1]
        return np.array([filters * np.sum(output_error[:, :, f]) for f in range(filters)])  # multiplied by F


# -- the figures: each returns the lines it prints ---------------------------------------------------------------------

WIDTHS = ((1, 1), (3, 1), (1, 2), (3, 2), (2, 2))


def bias_values() -> Iterator[tuple[int, int, float, float, float, float, float]]:
    """For each (C, F): Y as published and ours for a black image and a bias of 1; then dE/dB as published, the slope of
    what the published forward computes, and ours, for dE/dY = 1 at each of 2 x 2 output pixels."""
    for C, F in WIDTHS:
        X, W, B, dY = np.zeros((3, 3, C)), np.ones((2, 2, C, F)), np.ones(F), np.ones((2, 2, F))
        published = PublishedConvLayer(W, B)
        Y = published.forward_propagation(X)
        up, down = (PublishedConvLayer(W, B + h * np.eye(F)[0]).forward_propagation(X) for h in (0.5, -0.5))

        ours = portnn.ConvLayer((3, 3, C), (2, 2), F)
        ours.weights, ours.bias = W, B
        our_Y = ours.forward_propagation(X[None])
        ours.backward_propagation(dY[None])
        yield (
            *(C, F),
            float(Y[0, 0, 0]),
            float(our_Y[0, 0, 0, 0]),
            float(published.bias_error(dY)[0]),
            float(np.sum(up - down)),  # E = sum of Y, so that dE/dY = 1
            float(ours.gradients["bias"][0]),
        )


def bias_forward() -> list[str]:
    lines = ["X = 0, B = 1: every output must be 1", "C  F  published  portnn"]
    return lines + [f"{C}  {F}  {Y:9.1f}  {our_Y:6.1f}" for C, F, Y, our_Y, *_ in bias_values()]


def bias_backward() -> list[str]:
    lines = ["dE/dY = 1 at 4 pixels: dE/dB must be 4", "C  F  published  slope of the published Y  portnn"]
    return lines + [f"{C}  {F}  {dB:9.1f}  {slope:24.1f}  {our:6.1f}" for C, F, _, _, dB, slope, our in bias_values()]


def batch_axis() -> list[str]:
    X, dY = np.ones((4, 2)), np.ones((4, 3))
    fc = PublishedFCLayer(2, 3)
    fc.forward_propagation(X)
    published = message(lambda: fc.backward_propagation(dY, 0.1))
    ours = portnn.FCLayer(2, 3)
    ours.forward_propagation(X)
    ours.backward_propagation(dY)
    images = np.zeros((4, 3, 3, 2))
    return [
        "4 samples at once",
        f"published FCLayer, backward: {published}",
        f"portnn FCLayer, dE/dB: shape {ours.gradients['bias'].shape}, values {ours.gradients['bias'].tolist()}",
        f"published FlattenLayer: {images.shape} -> {PublishedFlattenLayer().forward_propagation(images).shape}",
        f"portnn FlattenLayer: {images.shape} -> {portnn.FlattenLayer()(images).shape}",
    ]


def update_inside_backward() -> list[str]:
    X, dY = np.array([[1.0, 2.0]]), np.ones((1, 3))
    weights = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    published = PublishedFCLayer(2, 3)
    published.weights, published.bias = weights.copy(), np.zeros((1, 3))
    published.forward_propagation(X)
    twice = [published.backward_propagation(dY, 0.5).tolist() for _ in range(2)]
    ours = portnn.FCLayer(2, 3)
    ours.weights = weights
    ours.forward_propagation(X)
    ours_twice = [ours.backward_propagation(dY).tolist() for _ in range(2)]
    return [
        "dE/dX of the same dE/dY, asked for twice",
        f"published: {twice[0]}, then {twice[1]}",
        f"portnn: {ours_twice[0]}, then {ours_twice[1]}; dE/dW = {ours.gradients['weights'].tolist()}",
    ]


def shapes_as_tuples() -> list[str]:
    pair = portnn.tanh, portnn.tanh_prime
    return [
        "FCLayer((1, 2), (1, 3))",
        f"  published: {message(lambda: PublishedFCLayer((1, 2), (1, 3)))}",  # type: ignore[arg-type]
        f"  portnn: {message(lambda: portnn.FCLayer((1, 2), (1, 3)))}",  # type: ignore[arg-type]
        "ActivationLayer((1, 3), tanh, tanh_prime)",
        f"  published: {message(lambda: PublishedActivationLayer((1, 3), *pair))}",  # type: ignore[call-arg, arg-type]
        f"  portnn: {message(lambda: portnn.ActivationLayer((1, 3), *pair))}",  # type: ignore[call-arg, arg-type]
    ]


def layers_that_do_not_fit() -> list[str]:
    net = portnn.Network()
    net.add(portnn.FCLayer(2, 3))
    return [
        "net.add(FCLayer(2, 3))",
        "net.add(FCLayer(4, 1))",
        f"  portnn: {message(lambda: net.add(portnn.FCLayer(4, 1)))}",
    ]


def message(call: Callable[[], object]) -> str:
    """The error that a call raises, as Python shows it."""
    try:
        call()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


FIGURES: tuple[Figure, ...] = (
    bias_forward,
    bias_backward,
    batch_axis,
    update_inside_backward,
    shapes_as_tuples,
    layers_that_do_not_fit,
)


def main() -> None:
    sys.stdout.write("\n".join("\n".join(figure()) + "\n" for figure in FIGURES))


if __name__ == "__main__":
    main()
