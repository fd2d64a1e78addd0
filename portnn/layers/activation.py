"""The activation layer."""

from collections.abc import Callable
from typing import Any

from portnn import activations, ops
from portnn._typing import Array
from portnn.backend import Backend, quiet
from portnn.functions import bound, find_pair, name_of
from portnn.layers.layer import Layer
from portnn.settings import Fixed


class ActivationLayer(Layer):
    """A function applied to each element.

        Y     = f(X)
        dE/dX = dE/dY * f'(X)

    ``activation`` is a name (``"tanh"``), one of portnn's functions, or any function of an array together with its
    derivative ``activation_prime``. X and Y have the same shape, which may be any. Raises ValueError for an unknown
    name (it lists the known ones), TypeError for a function without its derivative.

    >>> import numpy as np
    >>> ActivationLayer("relu")(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    def forward(self, X: Array) -> Array:
        return self.f(X)

    def backward(self, output_error: Array) -> Array:
        if self.chain is not None:  # f'(X) as a function of Y
            return self.chain(self.output, output_error)
        return self.f_prime(self.input) * output_error

    last_axis_only = True
    f: Callable[[Array], Array]  # the activation as it runs here, its derivative, and the chain rule from Y
    f_prime: Callable[[Array], Array]
    chain: Callable[[Array, Array], Array] | None
    activation: Any = Fixed()
    activation_prime: Any = Fixed()

    def __init__(
        self,
        activation: str | Callable[[Array], Array],
        activation_prime: Callable[[Array], Array] | None = None,
    ):
        self.activation, self.activation_prime = find_pair(
            "activation", activations.PAIRS, activation, activation_prime
        )

    def _bound(self, backend: Backend) -> dict[str, Any]:
        f, f_prime = (
            bound(function, backend, self.kernels, self.dtype) for function in (self.activation, self.activation_prime)
        )
        # Underflow is not an error in a network, so it is not one here either.
        f, f_prime = (f, f_prime) if self._network_ref is not None else (quiet(f), quiet(f_prime))
        chain: Any = self._chain_of_pair()
        portable = chain is None or self.kernels == "portable"
        chain = None if portable else ops.implementation(backend, self.kernels, chain)
        return super()._bound(backend) | {"f": f, "f_prime": f_prime, "chain": chain}

    def _chain_of_pair(self) -> Callable[[Array, Array], Array] | None:
        """The chain rule from Y, if there is one for f and f', and Y is f(X): a derived class may change Y."""
        if type(self) is not ActivationLayer:
            return None
        pair = self.activation, self.activation_prime
        return next((chain for both, chain in activations.CHAINS.items() if _same(both, pair)), None)

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return input_shape

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in ("f", "f_prime", "chain")}

    def __repr__(self) -> str:
        return f"ActivationLayer({name_of(self.activation)})"


def _same(pair: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    """Whether these are the same objects: a user's function need be neither hashable nor comparable."""
    return pair[0] is other[0] and pair[1] is other[1]
