"""Writes tests/support/recorded/pytorch.npz: PyTorch's results for every row of the table of cases.

    python tools/record_pytorch.py

Inputs, outputs, all gradients and new buffers of each layer and loss, twenty steps of each optimizer, the rates of each
schedule; in float64. The test suite compares with this file, so it needs no PyTorch. Run this again when the table in
tests/support/cases.py changes.
"""

import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(ROOT / "tests" / "support")]

import parity  # noqa: E402
import pytorch_twin  # noqa: E402
from cases import ACTIVATIONS, FUNCTIONS_ONLY, LAYERS, LOSSES, OPTIMIZERS, SCHEDULES  # noqa: E402

TARGET = ROOT / "tests" / "support" / "recorded" / "pytorch.npz"
STEPS = 20


def layers():
    for case in LAYERS:
        layer = parity.made(case)
        X = parity.draw(parity.N, *case.sample)
        D = parity.draw(*layer(X).shape, seed=1)
        given = parity.parameters(layer)
        yield case.name, {"X": X, "D": D} | {f"given {path}": array for path, array in given.items()}
        yield case.name, pytorch_twin.reference(layer, X, D, given)


def functions():
    x = np.concatenate([np.linspace(-6.0, 6.0, 49) + 0.01, [-1e4, 1e4]]).reshape(3, 17)
    for name in ACTIVATIONS + FUNCTIONS_ONLY:
        t = pytorch_twin.tensor(x, True)
        y = pytorch_twin.ACTIVATIONS[name](t)
        y.sum().backward()
        found = {"x": x, "y": y.detach().numpy()}
        yield f"function {name}", found | ({} if name in FUNCTIONS_ONLY else {"prime": t.grad.numpy()})


def losses():
    for name, case in LOSSES.items():
        rng = np.random.default_rng(2)  # of its own: a new row changes no other
        y_true, y_pred = case.targets(rng, 6, 4), 3.0 * rng.standard_normal((6, 4))
        yield f"loss {name}", {"y_true": y_true, "y_pred": y_pred} | pytorch_twin.loss_reference(name, y_true, y_pred)


def optimizers():
    for name, make in OPTIMIZERS.items():
        rng = np.random.default_rng(3)
        shapes = ((3, 2), (4,))
        weights = [rng.standard_normal(shape) for shape in shapes]
        gradients = [[rng.standard_normal(shape) for shape in shapes] for _ in range(STEPS)]
        steps = pytorch_twin.descend(make(), weights, gradients)
        for i in range(len(shapes)):
            arrays = {"weights": weights[i], "gradients": [g[i] for g in gradients], "steps": [s[i] for s in steps]}
            yield f"optimizer {name}/{i}", arrays


def schedules():
    for name, make in SCHEDULES.items():
        ours = make()
        # PyTorch's cosine rises again where ours stays at zero, and its one-cycle schedule ends with an error
        limit = getattr(pytorch_twin.base(ours), "steps", 30) + (ours.steps if name.startswith("WarmUp") else 0)
        yield f"schedule {name}", {"rates": pytorch_twin.rates(ours, limit)}


def main():
    recorded = {}
    for part in (layers, functions, losses, optimizers, schedules):
        for name, arrays in part():
            recorded |= {f"{name}/{what}": np.asarray(array) for what, array in arrays.items()}
    recorded["PyTorch"] = np.array(torch.__version__)
    TARGET.parent.mkdir(exist_ok=True)
    np.savez_compressed(TARGET, **recorded)
    print(f"{TARGET.relative_to(ROOT)}: {len(recorded)} arrays, {TARGET.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
