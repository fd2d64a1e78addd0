"""Every case in ``cases.py`` compared with PyTorch's results, which tools/record_pytorch.py recorded."""

from pathlib import Path

import numpy as np
import pytest

import parity
import portnn
from cases import ACTIVATIONS, FUNCTIONS_ONLY, LAYERS, LOSSES, OPTIMIZERS, SCHEDULES
from portnn import activations

RECORDED = Path(__file__).parents[1] / "support" / "recorded" / "pytorch.npz"
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE)


@pytest.fixture(scope="module")
def recorded():
    with np.load(RECORDED) as file:
        return dict(file)


def arrays(recorded, name):
    """The arrays recorded under a name; AssertionError if there are none."""
    found = {key.removeprefix(f"{name}/"): array for key, array in recorded.items() if key.startswith(f"{name}/")}
    assert found, (
        f"nothing recorded for {name!r}: run tools/record_pytorch.py (it needs PyTorch; without it, say so in the pull "
        "request)"
    )
    return found


@dtypes
@pytest.mark.parametrize("kernels", ["auto", "portable"])
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_layer(case, kernels, dtype, recorded):
    theirs = arrays(recorded, case.name)
    layer = parity.made(case, dtype, kernels)
    X, D = theirs.pop("X"), theirs.pop("D")
    for path, part, name in parity.paths(layer, "parameters"):
        part.assign(name, theirs.pop(f"given {path}"))
    assert not [name for name in theirs if name.startswith("given")]
    ours = parity.results(layer, X.astype(dtype), D)
    assert all(array.dtype == dtype for array in ours.values())
    assert parity.difference(ours, theirs) <= TOLERANCE[dtype]


@dtypes
@pytest.mark.parametrize("name", ACTIVATIONS + FUNCTIONS_ONLY)
def test_activation(name, dtype, recorded):
    theirs = arrays(recorded, f"function {name}")
    x = theirs.pop("x").astype(dtype)
    functions = activations.PAIRS[name] if name in ACTIVATIONS else (getattr(activations, name),)
    ours = dict(zip(("y", "prime"), (f(x) for f in functions), strict=False))
    assert ours.keys() == theirs.keys()
    for what, array in theirs.items():
        apart = np.abs(ours[what].astype(np.float64) - array) / np.maximum(1.0, np.abs(array))
        assert apart.max() <= TOLERANCE[dtype], what


@dtypes
@pytest.mark.parametrize(("name", "case"), LOSSES.items(), ids=LOSSES.keys())
def test_loss(name, case, dtype, recorded):
    theirs = arrays(recorded, f"loss {name}")
    y_true, y_pred = theirs.pop("y_true"), theirs.pop("y_pred").astype(dtype)
    y_true = y_true if y_true.dtype.kind == "i" else y_true.astype(dtype)
    for kernels in ("auto", "portable"):
        cpu = portnn.get_backend("cpu")
        loss, prime = (portnn.functions.bound(f, cpu, kernels, dtype) for f in (case.loss, case.prime))
        ours = {"E": np.asarray(loss(y_true, y_pred)), "dE/dY": prime(y_true, y_pred)}
        assert parity.difference(ours, theirs) <= TOLERANCE[dtype]


@pytest.mark.parametrize("kernels", ["auto", "portable"])
@pytest.mark.parametrize(("name", "make"), OPTIMIZERS.items(), ids=OPTIMIZERS.keys())
def test_optimizer(name, make, kernels, recorded):
    """Compares the weights after each of 20 steps."""
    optimizer = make()
    update = portnn.ops.implementation(portnn.get_backend("cpu"), kernels, type(optimizer).update)
    theirs = [arrays(recorded, f"optimizer {name}/{i}") for i in range(2)]
    weights = [part["weights"] for part in theirs]
    slots = optimizer.slots(weights)
    assert len(theirs[0]["steps"]) == 20
    for k in range(20):
        gradients = [part["gradients"][k] for part in theirs]
        weights, slots = update(optimizer, weights, gradients, slots, optimizer.hyper(k))
        for w, part in zip(weights, theirs, strict=True):
            assert np.abs(w - part["steps"][k]).max() <= 1e-10 * np.abs(part["steps"][k]).max()


@pytest.mark.parametrize(("name", "make"), SCHEDULES.items(), ids=SCHEDULES.keys())
def test_schedule(name, make, recorded):
    theirs = arrays(recorded, f"schedule {name}")["rates"]
    schedule = make()
    assert len(theirs) >= 12
    assert np.abs([schedule(k) for k in range(len(theirs))] - theirs).max() <= 1e-12


def test_the_comparison_would_see_a_mistake(recorded):
    case = next(case for case in LAYERS if case.name == "ConvLayer, groups")
    theirs = arrays(recorded, case.name)
    theirs = {name: a for name, a in theirs.items() if name not in ("X", "D") and not name.startswith("given")}
    wrong = {name: np.array(a) for name, a in theirs.items()}
    assert parity.difference(wrong, theirs) == 0.0
    wrong["dE/dweights"][0, 0, 0, 0] *= 1.001
    assert parity.difference(wrong, theirs) > 1e-5
