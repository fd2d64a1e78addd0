"""What a network is made of, as a file's metadata hold it: layers, loss, optimizer, metrics, numbers."""

from typing import Any

from portnn.files.arguments import arguments_of
from portnn.files.registry import LAYERS
from portnn.files.values import Uses, encoded, note_use, thing
from portnn.functions import is_same
from portnn.layers import ActivationLayer, Layer
from portnn.losses import PAIRS
from portnn.metrics import find as find_metric
from portnn.ops import is_ours


def network(net: Any) -> dict[str, Any]:
    """The description of a network: what another one like it is made from. TypeError for what no file can describe."""
    uses: Uses = {}
    return {
        "layers": [layer(each, uses) for each in net.layers],
        "dtype": net.dtype,
        "seed": net.seed,
        "loss": _loss(net.loss, net.loss_prime, uses),
        "optimizer": None if net.optimizer is None else thing(net.optimizer, "the optimizer", uses),
        "metrics": [_metric(name, metric, net.loss, uses) for name, metric in net.metrics],
    }


def layer(each: Any, uses: Uses) -> dict[str, Any]:
    """The entry of a layer, with those of the layers in it; ``uses`` gathers the names in it."""
    made = _written_as(type(each))
    if LAYERS.get(made.__name__, made) is not made or (is_ours(made) and made.__name__ not in LAYERS):
        if is_ours(made):
            raise TypeError(f"layer {each.path}, {each}, cannot be saved: files hold no {made.__name__}")
        raise TypeError(f"layer {each.path} is of class {made.__name__}, a name that portnn itself uses: rename yours")
    note_use(made.__name__, made, f"layer {each.path}", uses)
    what = f"of layer {each.path} ({made.__name__})"
    return {
        "class": made.__name__,
        "arguments": {name: encoded(value, f"{name} {what}", uses) for name, value in _arguments(each).items()},
        "children": [
            [layer(part, uses) for part in child] if isinstance(child, (list, tuple)) else layer(child, uses)
            for child in each.layers
        ],
        "trainable": bool(each.trainable),
    }


def _written_as(made: type) -> type:
    """The class that files name: of a variant of ours, which may round otherwise, the layer that it computes."""
    if not is_ours(made):
        return made
    return next((base for base in made.__mro__ if LAYERS.get(base.__name__) is base), made)


def _arguments(each: Layer) -> dict[str, Any]:
    try:
        found = arguments_of(each)
    except TypeError as error:
        raise TypeError(f"layer {each.path} cannot be saved: {error}") from None
    if isinstance(each, ActivationLayer) and _is_object_with(each.activation, each.activation_prime):
        found = {**found, "activation_prime": None} if "activation_prime" in found else found
    return found


def _is_object_with(function: Any, prime: Any) -> bool:
    """Whether the derivative is that of an object ``function``, which has it again when it is made anew."""
    return not hasattr(function, "__name__") and is_same(getattr(function, "prime", None), prime)


def _loss(loss: Any, prime: Any, uses: Uses) -> Any:
    """A name; a class, for an object with its derivative; or a pair of functions."""
    if loss is None:
        return None
    for name, pair in PAIRS.items():
        if (loss, prime) == pair or _are_variants((loss, prime), pair):
            return name
    if is_same(getattr(loss, "prime", None), prime):
        return thing(loss, "the loss", uses)
    return {"loss": thing(loss, "the loss", uses), "prime": thing(prime, "the loss's derivative", uses)}


def _are_variants(given: tuple[Any, Any], pair: tuple[Any, Any]) -> bool:
    """Whether these are functions of ours that compute the pair's, but for the rounding."""
    return all(
        is_ours(one) and getattr(one, "__name__", "") == own.__name__ for one, own in zip(given, pair, strict=True)
    )


def _metric(name: str, metric: Any, loss: Any, uses: Uses) -> Any:
    return name if find_metric(name, loss) is metric else thing(metric, f"metric {name}", uses)
