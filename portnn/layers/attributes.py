"""Attributes of layers that do more than hold a value when they are set."""

from typing import Any
from weakref import WeakKeyDictionary

from portnn import checks, names
from portnn.settings import Setting


class Parameter:
    """``layer.weights`` reads and sets ``layer.parameters["weights"]``; what is assigned is copied, moved and cast."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        if layer is None:
            return self
        if self.name not in layer.parameters:
            raise RuntimeError(layer.why_no_parameter(self.name))
        return layer.parameters[self.name]

    def __set__(self, layer: Any, value: Any) -> None:
        layer.assign(self.name, value)


class Trainable:
    """``layer.trainable = False`` freezes a layer, from the next fit on."""

    def __set__(self, layer: Any, value: Any) -> None:  # and no __get__: the value is read from the layer itself
        value = checks.flag("trainable", value)
        if layer.updates_itself and not value:
            raise ValueError(
                f"{layer} updates its own weights, so portnn cannot freeze it: leave the update out of its "
                "backward_propagation"
            )
        layer.__dict__["trainable"] = value


class OfNetwork:
    """An attribute that a network sets on its layers."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, layer: Any, value: Any) -> None:  # and no __get__, as above
        if layer._network_ref is not None and not layer.updates_itself and value != vars(layer).get(self.name):
            raise ValueError(
                f"{self.name} of {layer} is fixed by its network: create another network, "
                f"Network(copy.deepcopy(net.layers), {self.name}=...)"
            )
        vars(layer)[self.name] = value


def check_names(layer: Any) -> None:
    """ValueError for an attribute that is nearly a setting's name: ``layer.trainble = False`` would do nothing."""
    cls = type(layer)
    fine = _fine.setdefault(cls, set())
    for name in vars(layer).keys() - fine:
        if name[0] == "_" or hasattr(cls, name) or any(name in getattr(c, "__annotations__", ()) for c in cls.__mro__):
            fine.add(name)
            continue
        # A user's layer may have any attributes, but hardly one that differs in a letter from what all layers have.
        own = layer._own
        guess = names.meant("setting of a layer" if own else "", name, settings(cls) if own else ["trainable"], 0.85)
        if guess:
            raise ValueError(f"layer {layer.path} ({layer}) has no setting {name!r}{guess}")
        fine.add(name)


_fine: WeakKeyDictionary[type, set[str]] = WeakKeyDictionary()  # by class, the names that have been looked at


def settings(cls: type) -> list[str]:
    """What may be set on a layer of this class."""
    kinds = (Setting, Parameter, Trainable)
    return [name for c in cls.__mro__ for name, value in vars(c).items() if isinstance(value, kinds)]


def declared(cls: type) -> list[str]:
    """The names of the parameters that a class has attributes for."""
    return [name for c in cls.__mro__ for name, value in vars(c).items() if isinstance(value, Parameter)]
