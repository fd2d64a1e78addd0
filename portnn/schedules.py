"""Learning rate schedules. Each is a function of k, the number of updates made since ``use()``.

A schedule is accepted wherever a learning rate is: ``SGD(StepDecay(0.1, 1000, 0.5))``,
``fit(..., learning_rate=schedule)``. The first update uses the rate for k = 0. Any function of k may be a schedule.
Arguments out of range raise ValueError.
"""

from collections.abc import Callable
from math import cos, inf, pi
from typing import Any

from portnn import checks
from portnn.checks import positive
from portnn.optimizers import check_learning_rate, check_number, rate_at
from portnn.settings import Setting, WithSettings


class StepDecay(WithSettings):
    """lr(k) = learning_rate * factor ** (k // every): multiplied by ``factor`` after each ``every`` updates.

    >>> [StepDecay(1.0, 2, 0.5)(k) for k in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    learning_rate: Any = Setting(check_number)
    every: Any = Setting(checks.size)
    factor: Any = Setting(positive)

    def __init__(self, learning_rate: float, every: int, factor: float):
        self.learning_rate = learning_rate
        self.every = every
        self.factor = factor

    def __call__(self, k: int) -> float:
        return _decayed(self.learning_rate, self.factor, k // self.every)

    def __repr__(self) -> str:
        return f"StepDecay({self.learning_rate:g}, {self.every}, {self.factor:g})"


class ExponentialDecay(WithSettings):
    """lr(k) = learning_rate * factor ** k: the rate is multiplied by ``factor`` after each update.

    >>> [ExponentialDecay(1.0, 0.5)(k) for k in range(3)]
    [1.0, 0.5, 0.25]
    """

    learning_rate: Any = Setting(check_number)
    factor: Any = Setting(positive)

    def __init__(self, learning_rate: float, factor: float):
        self.learning_rate = learning_rate
        self.factor = factor

    def __call__(self, k: int) -> float:
        return _decayed(self.learning_rate, self.factor, k)

    def __repr__(self) -> str:
        return f"ExponentialDecay({self.learning_rate:g}, {self.factor:g})"


class CosineDecay(WithSettings):
    """lr(k) = learning_rate / 2 * (1 + cos(pi * min(k, steps) / steps)): half a cosine wave down to zero, then zero.

    Source: I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017 (one period).

    >>> [round(CosineDecay(1.0, 4)(k), 3) for k in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    learning_rate: Any = Setting(check_number)
    steps: Any = Setting(checks.size)

    def __init__(self, learning_rate: float, steps: int):
        self.learning_rate = learning_rate
        self.steps = steps

    def __call__(self, k: int) -> float:
        return 0.5 * self.learning_rate * (1.0 + cos(pi * min(k, self.steps) / self.steps))

    def __repr__(self) -> str:
        return f"CosineDecay({self.learning_rate:g}, {self.steps})"


class WarmUp(WithSettings):
    """Rises linearly to the first rate of another schedule, then follows that schedule from its beginning.

    lr(k) = schedule(0) * (k + 1) / steps for k < steps, then schedule(k - steps). ``schedule`` may be a number.

    Source: P. Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017.

    >>> [WarmUp(0.8, 4)(k) for k in range(5)]
    [0.2, 0.4, 0.6000000000000001, 0.8, 0.8]
    """

    schedule: Any = Setting(check_learning_rate)
    steps: Any = Setting(checks.size)

    def __init__(self, schedule: float | Callable[[int], float], steps: int):
        self.schedule = schedule
        self.steps = steps

    def __call__(self, k: int) -> float:
        if k < self.steps:
            return rate_at(self.schedule, 0) * ((k + 1) / self.steps)
        return rate_at(self.schedule, k - self.steps)

    def __repr__(self) -> str:
        return f"WarmUp({self.schedule}, {self.steps})"


class OneCycle(WithSettings):
    """Rises to ``peak`` and falls to almost zero along half cosine waves, within ``steps`` updates.

    The rate rises from peak / 25 to ``peak`` in the first 30 % of the updates, then falls to peak / 250,000 and stays
    there: with top = 0.3 * steps - 1 and end = steps - 1, lr(k) = b + (a - b) / 2 * (1 + cos(pi * p)), where p goes
    from 0 to 1 while k goes from 0 to top (a = peak / 25, b = peak), then from top to end (a = peak, b = peak /
    250,000).

    Source: L. Smith, N. Topin, "Super-convergence", 2017; the numbers are PyTorch's.

    >>> [round(OneCycle(1.0, 10)(k), 3) for k in range(10)]
    [0.04, 0.52, 1.0, 0.95, 0.812, 0.611, 0.389, 0.188, 0.05, 0.0]
    """

    START, END, UP = 25.0, 250_000.0, 0.3

    peak: Any = Setting(check_number)
    steps: Any = Setting(checks.size)

    def __init__(self, peak: float, steps: int):
        self.peak = peak
        self.steps = steps

    def __call__(self, k: int) -> float:
        top, end = self.UP * self.steps - 1.0, self.steps - 1.0
        k = min(k, self.steps - 1)
        if k <= top:
            return _wave(self.peak / self.START, self.peak, k / top)
        return _wave(self.peak, self.peak / self.END, (k - top) / (end - top))

    def __repr__(self) -> str:
        return f"OneCycle({self.peak:g}, {self.steps})"


def _wave(a: float, b: float, p: float) -> float:
    """From a (p = 0) to b (p = 1) along half a cosine wave."""
    return b + 0.5 * (a - b) * (1.0 + cos(pi * p))


def _decayed(rate: float, factor: float, n: int) -> float:
    """rate * factor**n."""
    power = _power(factor, n)
    if 0.0 < power < inf:
        return rate * power
    # factor**n alone is outside a float's range; its product with a tiny or huge rate may be inside.
    return rate * _power(factor, n // 2) * _power(factor, n - n // 2) if rate else 0.0


def _power(factor: float, n: int) -> float:
    try:
        return factor**n
    except OverflowError:  # the result, or n itself, is too large for a float
        return 1.0 if factor == 1.0 else inf if factor > 1.0 else 0.0  # the train step refuses inf, naming the step
