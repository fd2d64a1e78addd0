"""The update: how the optimizer makes new parameters of the old ones and their gradients."""

import math
from typing import Any

import numpy as np

from portnn.optimizers import SGD, AdaGrad, Adam, AdamW, Optimizer, RMSprop
from portnn.show.explain.arithmetic import Expression, N, call, cell, equation, total
from portnn.show.explain.cells import Index, cells, strongest
from portnn.show.explain.page import Section
from portnn.show.explain.trace import RATE, Pass, Trace

LETTERS = {"weights": "W", "bias": "B"}  # as on the blackboard
OURS = (SGD, AdaGrad, RMSprop, Adam, AdamW)

FORMULAS = {
    SGD: ("W_new = W - lr g",),
    AdaGrad: ("s_new = s + g**2", "W_new = W - lr g / (sqrt(s_new) + 1e-10)"),
    RMSprop: ("s_new = decay s + (1 - decay) g**2", "W_new = W - lr g / (sqrt(s_new) + 1e-08)"),
    Adam: (
        "m_new = beta1 m + (1 - beta1) g,  v_new = beta2 v + (1 - beta2) g**2",
        "m_hat = m_new / (1 - beta1**t),  v_hat = v_new / (1 - beta2**t)",
        "W_new = W - lr m_hat / (sqrt(v_hat) + epsilon)",
    ),
}


def letter(name: str) -> str:
    return LETTERS.get(name, name)


class Update:
    """Shows the update of each layer's parameters; ``common`` comes first, what holds for all of them."""

    def __init__(self, traced: Trace):
        self.traced, self.optimizer = traced, traced.optimizer
        self.scale: float | None = None  # of all gradients, where their norm is clipped

    def _digits(self, old: Any, new: Any) -> int:
        return _digits(old, new, self.traced.network.dtype)

    def common(self, section: Section) -> None:
        """The optimizer, the learning rate of this step, and the clipping of all gradients together."""
        optimizer, traced = self.optimizer, self.traced
        if not traced.given_rate:
            section.note(
                f"The network has no optimizer of its own: fit is given a learning rate. Here it is {RATE}, as in the "
                "article, and the step is plain gradient descent."
            )
        else:
            section.note(f"The optimizer is {optimizer!r}; {traced.step} updates have been made before.")
        if type(optimizer) not in OURS:
            section.note(f"{type(optimizer).__name__} is not one of portnn's: only its results can be shown.")
            return
        section.formula(*self._formulas())
        section.equation(f"lr = {N(traced.rate).text(6)}")
        if isinstance(optimizer, Optimizer) and optimizer.clip_norm is not None:
            self._clip_norm(section)

    def _formulas(self) -> list[str]:
        optimizer = self.optimizer
        lines = ["g = dE/dW"]
        if optimizer.clip_value is not None:
            lines.append(f"g = g, but at least -{optimizer.clip_value:g} and at most {optimizer.clip_value:g}")
        if optimizer.clip_norm is not None:
            lines += [
                "g = clip g,  clip = min(1, clip_norm / (norm + 1e-06))",
                "norm = the root of the sum of all g**2",
            ]
        if optimizer.weight_decay and not optimizer.decoupled:
            lines.append("g = g + weight_decay W")
        if optimizer.weight_decay and optimizer.decoupled:
            lines.append("W = W (1 - lr weight_decay)")
        if type(optimizer) is SGD and optimizer.momentum:
            along = "(g + momentum v_new)" if optimizer.nesterov else "v_new"
            return [*lines, "v_new = momentum v + g", f"W_new = W - lr {along}"]
        return [*lines, *FORMULAS[Adam if isinstance(optimizer, Adam) else type(optimizer)]]

    def _clip_norm(self, section: Section) -> None:
        bound = self.optimizer.clip_value
        gradients: list[np.ndarray] = [g for at in self.traced.walk() for g in at.gradients.values()]
        if bound is not None:
            gradients = [np.asarray(np.clip(g, -bound, bound)) for g in gradients]
        sums = [math.fsum(g.astype(np.float64).ravel() ** 2) for g in gradients]
        norm = math.sqrt(math.fsum(sums))
        self.scale = min(1.0, self.optimizer.clip_norm / (norm + 1e-6))
        section.note("Of each parameter the sum of its g**2, and the root of them all:")
        section.equation(equation("norm", call("sqrt", total(sums)), norm))
        put_in = call("min", 1, N(self.optimizer.clip_norm) / (N(norm) + 1e-6))
        section.equation(equation("clip", put_in, self.scale))

    def of_layer(self, at: Pass, section: Section) -> None:
        """The new parameters of one layer, and the new running averages of batch norm."""
        if at.layer.updates_itself:
            self._by_itself(at, section)
            return
        if at.made_alone:
            section.note("Shown with its running averages, the layer is not trained by this sample.")
            return
        if at.frozen:
            section.note("The layer is frozen (trainable=False): its parameters stay.")
            return
        for name, old in at.parameters.items():
            gradient = at.gradients.get(name)
            if gradient is None:
                section.note(f"{name} has no gradient, and stays.")
                continue
            for place in self._places(gradient):
                if type(self.optimizer) in OURS:
                    self._one(at, section, name, place)
                else:
                    self._change(section, name, place, old, at.new_parameters[name])
        self._buffers(at, section)

    def _places(self, gradient: np.ndarray) -> list[Index]:
        """The cells to be shown; where each takes several equations, no more than two."""
        found = cells(gradient)
        return found if self._in_one_line() else sorted({found[0], strongest(gradient)})

    def _in_one_line(self) -> bool:
        optimizer = self.optimizer
        if type(optimizer) not in OURS:
            return True
        plain = optimizer.clip_value is None and optimizer.clip_norm is None and not optimizer.weight_decay
        return plain and type(optimizer) is SGD and not optimizer.momentum

    def _one(self, at: Pass, section: Section, name: str, place: Index) -> None:
        """The update of one number."""
        optimizer, where, what = self.optimizer, cell(place), letter(name)
        old, new = float(at.parameters[name][place]), float(at.new_parameters[name][place])
        digits = self._digits(old, new)
        if not self._in_one_line():
            derivative = N(at.gradients[name][place]).text(4)
            section.note(f"{what}{where} is {N(old).text(4)}, and its derivative {derivative}:")
        g = self._prepared(at, section, name, place)
        lr, w = N(self.traced.rate), N(old)
        if isinstance(optimizer, Adam):
            if optimizer.decoupled and optimizer.weight_decay:
                old = old * (1.0 - self.traced.rate * optimizer.weight_decay)
                put_in = w * (1 - lr * N(optimizer.weight_decay))
                section.equation(equation(f"{what}_decayed{where}", put_in, old, digits))
                w = N(old)
            step = self._adam(at, section, name, place, g)
        elif isinstance(optimizer, (AdaGrad, RMSprop)):
            step = self._by_root(at, section, name, place, g)
        elif optimizer.momentum:
            step = self._momentum(at, section, name, place, g)
        else:
            step = lr * N(g)
        section.equation(equation(f"{what}_new{where}", w - step, new, digits))

    def _prepared(self, at: Pass, section: Section, name: str, place: Index) -> float:
        """The gradient after clipping and weight decay."""
        optimizer, shown = self.optimizer, f"g{cell(place)}"
        g = float(at.gradients[name][place])
        if optimizer.clip_value is not None:
            bound = float(optimizer.clip_value)
            put_in = call("max", N(-bound), call("min", N(g), N(bound)))
            g = max(-bound, min(g, bound))
            section.equation(equation(shown, put_in, g))
        if self.scale is not None:
            put_in, g = N(g) * N(self.scale), g * self.scale
            section.equation(equation(shown, put_in, g))
        if optimizer.weight_decay and not optimizer.decoupled:
            old = float(at.parameters[name][place])
            put_in = N(g) + N(optimizer.weight_decay) * N(old)
            g += optimizer.weight_decay * old
            section.equation(equation(shown, put_in, g))
        return g

    def _slot(self, at: Pass, kind: str, name: str, place: Index) -> tuple[float, float]:
        """A slot of the optimizer before and after the step; it begins at zero."""
        before = at.slots.get(kind, {}).get(name)
        return 0.0 if before is None else float(before[place]), float(at.new_slots[kind][name][place])

    def _momentum(self, at: Pass, section: Section, name: str, place: Index, g: float) -> Expression:
        momentum = self.optimizer.momentum
        v, v_new = self._slot(at, "velocity", name, place)
        section.equation(equation(f"v_new{cell(place)}", N(momentum) * N(v) + N(g), v_new))
        along = N(g) + N(momentum) * N(v_new) if self.optimizer.nesterov else N(v_new)
        return N(self.traced.rate) * along

    def _by_root(self, at: Pass, section: Section, name: str, place: Index, g: float) -> Expression:
        optimizer = self.optimizer
        s, s_new = self._slot(at, "squares", name, place)
        if isinstance(optimizer, RMSprop):
            put_in = N(optimizer.decay) * N(s) + (1 - N(optimizer.decay)) * N(g) ** 2
        else:
            put_in = N(s) + N(g) ** 2
        section.equation(equation(f"s_new{cell(place)}", put_in, s_new))
        return N(self.traced.rate) * N(g) / (call("sqrt", N(s_new)) + optimizer.EPSILON)

    def _adam(self, at: Pass, section: Section, name: str, place: Index, g: float) -> Expression:
        optimizer, where = self.optimizer, cell(place)
        b1, b2, t = optimizer.beta1, optimizer.beta2, at.updates.get(name, 0) + 1
        m, m_new = self._slot(at, "mean", name, place)
        v, v_new = self._slot(at, "square", name, place)
        section.equation(equation(f"m_new{where}", N(b1) * N(m) + (1 - N(b1)) * N(g), m_new))
        section.equation(equation(f"v_new{where}", N(b2) * N(v) + (1 - N(b2)) * N(g) ** 2, v_new))
        m_hat, v_hat = m_new / (1.0 - b1**t), v_new / (1.0 - b2**t)
        section.equation(equation(f"m_hat{where}", N(m_new) / (1 - N(b1) ** t), m_hat))
        section.equation(equation(f"v_hat{where}", N(v_new) / (1 - N(b2) ** t), v_hat))
        epsilon = N(optimizer.epsilon)
        return N(self.traced.rate) * N(m_hat) / (call("sqrt", N(v_hat)) + epsilon)

    def _by_itself(self, at: Pass, section: Section) -> None:
        """A layer written as in the article: what its own backward_propagation has changed."""
        section.note(f"{type(at.layer).__name__} is written as in the article: it updates its own arrays.")
        for name, old in at.parameters.items():
            new = at.new_parameters.get(name)
            if new is not None and new.shape == old.shape:
                for place in cells(old - new):
                    self._change(section, name, place, old, new)

    def _change(self, section: Section, name: str, place: Index, old: np.ndarray, new: np.ndarray) -> None:
        """A parameter before and after, where the rule between them is not ours."""
        before, after = float(old[place]), float(new[place])
        put_in = N(before) + N(after - before)
        section.equation(equation(f"{letter(name)}_new{cell(place)}", put_in, after, self._digits(before, after)))

    def _buffers(self, at: Pass, section: Section) -> None:
        if not ({"running_mean", "running_var"} <= at.buffers.keys() and at.new_buffers):
            return
        momentum, n = float(at.layer.momentum), at.X.size // at.X.shape[-1]
        section.formula(
            "running_mean_new = (1 - momentum) running_mean + momentum mean",
            "running_var_new = (1 - momentum) running_var + momentum variance n / (n - 1)",
        )
        X = at.X.reshape(n, -1)
        for (c,) in cells(at.buffers["running_mean"])[:2]:
            mean, variance = float(X[:, c].mean()), float(X[:, c].var())
            for kind, value in (("running_mean", N(mean)), ("running_var", N(variance) * n / (n - 1))):
                put_in = (1 - N(momentum)) * N(at.buffers[kind][c]) + N(momentum) * value
                section.equation(equation(f"{kind}_new[{c}]", put_in, at.new_buffers[kind][c]))


def _digits(old: Any, new: Any, dtype: str) -> int:
    """So many that the change can be seen, which is often small beside the number."""
    old, change = float(old), abs(float(new) - float(old))
    if not change or not old:
        return 4
    most = 9 if dtype == "float32" else 15
    return int(min(most, max(4, math.ceil(math.log10(abs(old) / change)) + 3)))
