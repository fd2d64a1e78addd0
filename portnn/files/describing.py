"""What a network is made of, as a file's metadata hold it: layers, loss, optimizer, metrics, numbers."""

from typing import Any

from portnn.files.arguments import arguments_of
from portnn.files.registry import LAYERS
from portnn.files.values import encoded, thing
from portnn.layers import Layer
from portnn.losses import PAIRS
from portnn.metrics import find as find_metric
from portnn.ops import is_ours


def network(net: Any) -> dict[str, Any]:
    """The description of a network: what another one like it is made from. TypeError for what no file can describe."""
    return {
        "layers": [layer(each) for each in net.layers],
        "dtype": net.dtype,
        "seed": net.seed,
        "loss": _loss(net.loss, net.loss_prime),
        "optimizer": None if net.optimizer is None else thing(net.optimizer, "the optimizer"),
        "metrics": [_metric(name, metric, net.loss) for name, metric in net.metrics],
    }


def layer(each: Any) -> dict[str, Any]:
    """The entry of a layer, with those of the layers in it."""
    made = type(each)
    if LAYERS.get(made.__name__, made) is not made or (is_ours(made) and made.__name__ not in LAYERS):
        raise TypeError(f"layer {each.path} is of class {made.__name__}, a name that portnn itself uses: rename yours")
    what = f"of layer {each.path} ({made.__name__})"
    return {
        "class": made.__name__,
        "arguments": {name: encoded(value, f"{name} {what}") for name, value in _arguments(each).items()},
        "children": [
            [layer(part) for part in child] if isinstance(child, (list, tuple)) else layer(child)
            for child in each.layers
        ],
        "trainable": bool(each.trainable),
    }


def _arguments(each: Layer) -> dict[str, Any]:
    try:
        return arguments_of(each)
    except TypeError as error:
        raise TypeError(f"layer {each.path} cannot be saved: {error}") from None


def _loss(loss: Any, prime: Any) -> Any:
    """A name; a class, for an object with its derivative; or a pair of functions."""
    if loss is None:
        return None
    for name, pair in PAIRS.items():
        if (loss, prime) == pair:
            return name
    if getattr(loss, "prime", None) == prime:
        return thing(loss, "the loss")
    return {"loss": thing(loss, "the loss"), "prime": thing(prime, "the loss's derivative")}


def _metric(name: str, metric: Any, loss: Any) -> Any:
    return name if find_metric(name, loss) is metric else thing(metric, f"metric {name}")
