"""What ``fit`` shows while it runs: the article's line for each epoch, and a bar during a long one."""

import sys
import warnings
from collections.abc import Callable
from typing import Any

DELAY = 2.0  # seconds after which an epoch shows its bar


def line(epoch: int, epochs: int, logs: dict[str, float]) -> str:
    """``epoch 1/3   error=0.125000``, as in the article, with further values after it."""
    rest = "".join(f"   {name}={_shown(name, value)}" for name, value in logs.items() if name != "error")
    return f"epoch {epoch}/{epochs}   error={logs['error']:f}{rest}"


def _shown(name: str, value: float) -> str:
    return f"{value:g}" if name == "learning_rate" else f"{value:.4f}"


class Bar:
    """The bar of one epoch, on a terminal or in a notebook; it vanishes when the epoch ends."""

    def __init__(self, verbose: int, epoch: int, epochs: int, steps: int | None, done: int = 0):
        self.bar: Any = None
        if _is_shown(verbose):
            self.bar = _tqdm()(
                total=steps,
                initial=done,  # steps before the run was resumed
                desc=f"epoch {epoch}/{epochs}",
                unit="step",
                delay=DELAY if verbose == 1 else 0.0,
                leave=False,
                file=sys.stderr,
            )

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def teller(verbose: int) -> Callable[[str], None] | None:
    """Prints what a backend tells where a bar would be shown, above the bar; None where none would."""
    return (lambda text: _tqdm().write(text, file=sys.stderr)) if _is_shown(verbose) else None


def _is_shown(verbose: int) -> bool:
    return verbose == 2 or (verbose == 1 and _is_watched())


def _is_watched() -> bool:
    """Whether somebody may look on: stderr is a terminal, or this is a notebook."""
    return "ipykernel" in sys.modules or bool(getattr(sys.stderr, "isatty", lambda: False)())


def _tqdm() -> Any:
    if "ipykernel" in sys.modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets it falls back to text, and says so
            from tqdm.auto import tqdm
    else:
        from tqdm import tqdm
    return tqdm
