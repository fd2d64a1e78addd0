"""The forward pass of ``predict`` and ``evaluate``, and what its outputs mean."""

from collections.abc import Callable
from typing import Any

from portnn import activations, losses
from portnn._typing import Array
from portnn.backend import device_dtype, in_order, namespace
from portnn.functions import name_of
from portnn.layers import sequential
from portnn.layers.kept import Kept
from portnn.ops import is_ours


class Inference:
    """A network's layers as ``predict`` and ``evaluate`` run them; kept until the layers change."""

    def __init__(self, network: Any, known: list[Any], layers: list[Any]):
        """``known`` are the network's layers, ``layers`` those to run: fused and adapted."""
        self.layers = layers
        self.xp, self.dtype = network.backend.xp, device_dtype(network.backend, network.dtype)
        self.all = [part for layer in known for part in layer.walk()]
        self.own = all(layer._own for layer in self.all)  # no user's class among them
        for layer in self.all:
            layer._check_leaves()
        self.all_ours = self.own and all(is_ours(getattr(layer, "activation", Inference)) for layer in self.all)
        self.owns_output = self.own and any(layer.parameters for layer in self.all)  # Y is not a view of X
        # Whether arrays do not expose their memory order.
        self.order_unknown = not hasattr(network.backend.xp.empty(0), "flags")
        self.leaves: list[tuple[dict[str, Any], str, list[tuple[str, type, Any, Any]]]] = []
        for layer in self.all:
            for kind, names in (("parameters", layer.shapes), ("buffers", layer.buffers)):
                if names and not layer.updates_itself:
                    home = getattr(layer, kind)
                    known = [(name, type(in_order(a := home[name])), a.shape, _strides_in_order(a)) for name in names]
                    self.leaves.append((vars(layer), kind, known))

    def forward(self, X: Array) -> Array:
        """Y for a batch of the backend's arrays, cast to the network's dtype."""
        X = in_order(X)
        self.check_leaves()
        if X.dtype != self.dtype:
            X = self.xp.astype(X, self.dtype)
        if self.all_ours:
            return sequential.run(self.layers, X, False, known=self.own)
        with Kept(self.all, shapes=[X.shape]):  # a user's layer may keep the batch in predict, too
            return sequential.run(self.layers, X, False, known=self.own)

    def check_leaves(self) -> None:
        """Checks every parameter and buffer: quickly, and in full only where the quick check fails."""
        dtype = self.dtype
        for attributes, kind, known in self.leaves:
            arrays = attributes[kind]
            for name, kind_of_array, shape, strides in known:
                array: Any = arrays.get(name)
                try:
                    fits = array.shape == shape and array.dtype is dtype and type(array) is kind_of_array
                    if fits and (self.order_unknown or array.strides == strides or array.flags.c_contiguous):
                        continue
                except AttributeError:  # no array
                    pass
                for part in self.all:
                    part._check_leaves()
                arrays[name] = in_order(array)


def _strides_in_order(array: Any) -> Any:
    return array.strides if getattr(getattr(array, "flags", None), "c_contiguous", False) else None


def classes(loss: Any) -> Callable[[Array], Array]:
    """The function from outputs (N, ..., K) to class numbers (N, ...)."""

    def of(Y: Array) -> Array:
        xp = namespace(Y)
        if Y.ndim > 1 and Y.shape[-1] > 1:
            return xp.astype(xp.argmax(Y, axis=-1), xp.int64, copy=False)
        return xp.astype((Y[..., 0] if Y.ndim > 1 else Y) > (0.0 if losses.takes_logits(loss) else 0.5), xp.int64)

    return of


def probabilities(loss: Any) -> Callable[[Array], Array]:
    """The function from outputs to probabilities; RuntimeError for a loss that does not say which one it is."""
    if losses.takes_classes(loss):
        return activations.softmax
    if loss is losses.binary_cross_entropy:
        return activations.sigmoid
    given = "no loss" if loss is None else f"the loss {name_of(loss)}"
    raise RuntimeError(
        f"the network has {given}, which does not say what its outputs mean: predict_proba needs "
        'use("softmax_cross_entropy") or use("binary_cross_entropy"); predict(x) returns the outputs'
    )
