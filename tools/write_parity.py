"""Writes docs/parity.md: for each row of the table of cases, the differences from PyTorch and from numerical
derivatives, and the array libraries that give the same results.

    python tools/write_parity.py            (needs PyTorch and array-api-strict)

Every figure on the page is computed here. Run this again when the table in tests/support/cases.py changes; a test
compares the page's rows with the table.
"""

import platform
import sys
from pathlib import Path

import array_api_strict
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "contracts")]

import test_replay  # noqa: E402

import parity  # noqa: E402
import portnn  # noqa: E402
import pytorch_twin  # noqa: E402
from array_libraries import strict_backend  # noqa: E402
from cases import ACTIVATIONS, FUNCTIONS_ONLY, LAYERS, LOSSES, OPS, OPTIMIZERS, SCHEDULES  # noqa: E402
from portnn.ops.resampling import reach_of  # noqa: E402
from portnn.ops.windows import window_plan  # noqa: E402

TARGET = ROOT / "docs" / "parity.md"
DTYPES = ("float64", "float32")
SMALL = 1e-12  # two libraries agree if they differ by no more, in float64
LIBRARIES = {
    "NumPy": lambda: portnn.get_backend("cpu"),
    "portable": lambda: portnn.get_backend(np),
    "strict": strict_backend,
    "PyTorch": lambda: portnn.get_backend(torch),
}


def main():
    lines = [
        HEAD.format(
            versions=f"portnn {portnn.__version__}, Python {platform.python_version()}, NumPy {np.__version__}, "
            f"PyTorch {torch.__version__.partition('+')[0]}, array-api-strict {array_api_strict.__version__}",
            small=SMALL,
        )
    ]
    for title, note, rows in (
        ("Layers", LAYER_NOTE, map(layer_row, LAYERS)),
        ("Activations", "", map(activation_row, ACTIVATIONS + FUNCTIONS_ONLY)),
        ("Losses", LOSS_NOTE, map(loss_row, LOSSES)),
        ("Optimizers", OPTIMIZER_NOTE, map(optimizer_row, OPTIMIZERS)),
        ("Schedules", SCHEDULE_NOTE, map(schedule_row, SCHEDULES)),
        ("Ops", OPS_NOTE, map(op_row, OPS)),
    ):
        lines += [f"\n## {title}\n", *([note, ""] if note else []), TABLE_HEAD]
        for row in rows:
            lines.append("| " + " | ".join(row) + " |")
            print(lines[-1], flush=True)
    TARGET.write_text("\n".join(lines) + "\n")


# -- rows: name, difference in float64, in float32, gradient check, libraries ------------------------------------------


def layer_row(case):
    apart = []
    for dtype in DTYPES:
        layer = parity.made(case, dtype)
        X = parity.draw(parity.N, *case.sample).astype(dtype)
        D = parity.draw(*layer(X).shape, seed=1).astype(dtype)
        exact = {path: a.astype(np.float64) for path, a in parity.parameters(layer).items()}
        theirs = pytorch_twin.reference(layer, X.astype(np.float64), D.astype(np.float64), exact)
        apart.append(parity.difference(parity.results(layer, X, D), theirs))
    report = portnn.gradcheck(case.make(), input_shape=case.sample)
    assert report.passed, (case.name, report)
    return (
        case.name,
        *map(figure, apart),
        figure(report.worst),
        libraries(lambda place: on(case, place), lambda: test_replay.test_layer(case)),
    )


def on(case, backend):
    """Every result of a layer on a backend, as NumPy arrays."""
    given = parity.parameters(parity.made(case))
    layer = case.make()
    layer.build(case.sample, backend, "float64", 7, "")
    for path, part, name in parity.paths(layer, "parameters"):
        part.assign(name, given[path])
    X = backend.asarray(parity.draw(parity.N, *case.sample))
    Y = layer.forward_propagation(X)
    found = {"Y": Y, "dE/dX": layer.backward_propagation(backend.asarray(parity.draw(*tuple(Y.shape), seed=1)))}
    for kind in ("gradients", "new_buffers"):
        found |= {f"{kind} {path}": getattr(part, kind)[name] for path, part, name in parity.paths(layer, kind)}
    return {name: backend.to_numpy(array) for name, array in found.items()}


def activation_row(name):
    x = np.concatenate([np.linspace(-6.0, 6.0, 49) + 0.01, [-1e4, 1e4]]).reshape(3, 17)
    functions = portnn.activations.PAIRS.get(name) or (getattr(portnn, name),)
    t = pytorch_twin.tensor(x, True)
    y = pytorch_twin.ACTIVATIONS[name](t)
    y.sum().backward()
    theirs = [y.detach().numpy(), t.grad.numpy()]
    apart = [
        max(parity.difference({"f": f(x.astype(dtype))}, {"f": a}) for f, a in zip(functions, theirs, strict=False))
        for dtype in DTYPES
    ]
    if name in FUNCTIONS_ONLY:
        check, replay = "-", None
    else:
        report = portnn.gradcheck(portnn.ActivationLayer(name), input_shape=(7,))
        assert report.passed, report
        check = figure(report.worst)
        replay = lambda: test_replay.assert_replays_equal_eager_steps(  # noqa: E731
            lambda: [portnn.FCLayer(4, 3), portnn.ActivationLayer(name)], (4,)
        )

    def on_library(backend):
        return {str(i): backend.to_numpy(f(backend.asarray(x))) for i, f in enumerate(functions)}

    return name, *map(figure, apart), check, libraries(on_library, replay)


def loss_row(name):
    case, rng = LOSSES[name], np.random.default_rng(2)
    y_true, y_pred = case.targets(rng, 6, 4), 3.0 * rng.standard_normal((6, 4))
    apart = []
    for dtype in DTYPES:
        y, t = y_pred.astype(dtype), y_true if y_true.dtype.kind == "i" else y_true.astype(dtype)
        theirs = pytorch_twin.loss_reference(
            name, t if t.dtype.kind == "i" else t.astype(np.float64), y.astype(np.float64)
        )
        apart.append(parity.difference({"E": np.asarray(case.loss(t, y)), "dE/dY": case.prime(t, y)}, theirs))
    direction, h = rng.standard_normal(y_pred.shape), 1e-6
    measured = (case.loss(y_true, y_pred + h * direction) - case.loss(y_true, y_pred - h * direction)) / (2 * h)
    exact = case.prime(y_true, y_pred) * direction
    check = abs(measured - exact.sum()) / np.sqrt((exact**2).sum())

    def on_library(backend):
        a, b = backend.asarray(y_true), backend.asarray(y_pred)
        return {"E": backend.to_numpy(case.loss(a, b)), "prime": backend.to_numpy(case.prime(a, b))}

    return name, *map(figure, apart), figure(check), libraries(on_library, lambda: test_replay.test_loss(case))


def optimizer_row(name):
    make, rng = OPTIMIZERS[name], np.random.default_rng(3)
    weights = [rng.standard_normal(shape) for shape in ((3, 2), (4,))]
    gradients = [[rng.standard_normal(w.shape) for w in weights] for _ in range(20)]

    def steps(backend, dtype="float64"):
        ours = make()
        w = [backend.asarray(a.astype(dtype)) for a in weights]
        slots = ours.slots(w)
        for k in range(20):
            w, slots = ours.update(w, [backend.asarray(g.astype(dtype)) for g in gradients[k]], slots, ours.hyper(k))
        return {str(i): backend.to_numpy(a) for i, a in enumerate(w)}

    theirs = {str(i): a for i, a in enumerate(pytorch_twin.descend(make(), weights, gradients)[-1])}
    apart = [parity.difference(steps(portnn.get_backend("cpu"), dtype), theirs) for dtype in DTYPES]
    return name, *map(figure, apart), "-", libraries(steps, lambda: test_replay.test_optimizer(make))


def schedule_row(name):
    ours = SCHEDULES[name]()
    limit = getattr(pytorch_twin.base(ours), "steps", 30) + (ours.steps if name.startswith("WarmUp") else 0)
    theirs = np.array(pytorch_twin.rates(ours, limit))
    apart = np.abs([ours(k) for k in range(limit)] - theirs).max() / theirs.max()
    return name, figure(apart), "-", "-", "(Python floats)"


def op_row(name):
    plan = window_plan((5, 4), (3, 2), 2, 1)
    x = parity.draw(3, 5, 4, 4)
    t = torch.tensor(x, requires_grad=True)
    second = t.movedim(-1, 1)

    def run(backend):
        table = portnn.ops.bind(backend, "portable")
        return {name: backend.to_numpy(OURS[name](table, backend))}

    def patches(table, backend):
        (p,) = table.patches(backend.asarray(x), plan)  # (h, w, C) by (N, H', W')
        return p

    def normalize_backward(table, backend):
        z, scale, _, _ = table.normalize(backend.asarray(x), (0, 1, 2), 1e-5)
        return table.normalize_backward(backend.asarray(x[::-1].copy()), z, scale, (0, 1, 2))

    def scaled_backward(table, backend):
        given = (backend.asarray(x[::-1].copy()), backend.asarray(x), backend.asarray(bias))
        return backend.xp.concat([backend.xp.reshape(a, (-1,)) for a in table.scaled_backward(*given)])

    D = parity.draw(3, *plan.output, 4, seed=1)
    labels = np.array([2, 0, 4])
    columns = parity.draw(24, 3 * 9, seed=2)
    W, bias = parity.draw(3, 2, 4, 4, seed=3), parity.draw(4, seed=4)
    square, row = parity.draw(4, 3, seed=5), parity.draw(1, 3, seed=6)
    amounts = 1.5, 20.0, 0.2  # pixels, degrees, share
    maps = pytorch_twin.random_maps(torch.as_tensor(portnn.random.bits((1, 2), 3, 4 * len(x))), x.shape, *amounts)
    OURS = {
        "patches": patches,
        "fold": lambda table, backend: table.fold([backend.asarray(columns)], plan),
        "images": lambda table, backend: table.images(backend.asarray(columns), plan),
        "columns": lambda table, backend: table.columns(backend.asarray(D), plan),
        "max_pool": lambda table, backend: table.max_pool(backend.asarray(x), plan),
        "max_pool_backward": lambda table, backend: table.max_pool_backward(
            backend.asarray(x), table.max_pool(backend.asarray(x), plan), backend.asarray(D), plan
        ),
        "avg_pool": lambda table, backend: table.avg_pool(backend.asarray(x), plan),
        "avg_pool_backward": lambda table, backend: table.avg_pool_backward(backend.asarray(D), plan),
        "biased": lambda table, backend: table.biased(backend.asarray(x), backend.asarray(bias), portnn.relu),
        "convolution": lambda table, backend: table.convolution(backend.asarray(x), backend.asarray(W), plan)[0],
        "convolution_gradient": lambda table, backend: table.convolution_gradient(
            table.convolution(backend.asarray(x), backend.asarray(W), plan)[1], backend.asarray(D), plan, W.shape
        ),
        "convolution_backward": lambda table, backend: table.convolution_backward(
            backend.asarray(W), backend.asarray(D), plan
        ),
        "affine": lambda table, backend: table.affine(
            backend.asarray(x), backend.asarray(square), backend.asarray(row)
        ),
        "rows": lambda table, backend: table.rows(backend.asarray(x)),
        "column_sums": lambda table, backend: table.column_sums(table.rows(backend.asarray(x))),
        "total": lambda table, backend: table.total(backend.asarray(x), (0, 1, 2)),
        "scaled": lambda table, backend: table.scaled(*map(backend.asarray, (x, bias, -bias))),
        "scaled_backward": scaled_backward,
        "normalize": lambda table, backend: table.normalize(backend.asarray(x), (0, 1, 2), 1e-5)[0],
        "normalize_backward": normalize_backward,
        "dropout": lambda table, backend: table.dropout(backend.asarray(x), (1, 2), 3, 2**30, 4 / 3)[0],
        "random_maps": lambda table, backend: table.random_maps(backend.asarray(x), (1, 2), 3, *amounts),
        "resample": lambda table, backend: table.resample(backend.asarray(x), backend.asarray(maps.numpy())),
        "resample_backward": lambda table, backend: table.resample_backward(
            backend.asarray(x[::-1].copy()), backend.asarray(maps.numpy()), reach_of(*amounts[1:])
        ),
        "one_hot": lambda table, backend: table.one_hot(backend.asarray(labels), 5, backend.xp.float64),
        "erf": lambda table, backend: table.erf(backend.asarray(x)),
    }

    def unfolded(a):  # PyTorch's (N, C h w, L) -> (h w C, N L)
        return a.reshape(3, 4, 6, -1).permute(2, 1, 0, 3).reshape(24, -1)

    def folding(a):
        return a.reshape(6, 4, 3, -1).permute(2, 1, 0, 3).reshape(3, 24, -1)

    def pooled(function, **options):
        y = function(second, (3, 2), 2, 1, **options)
        (grad,) = torch.autograd.grad(y, t, torch.tensor(D).movedim(-1, 1))
        return y.movedim(1, -1), grad

    filters = torch.tensor(W, requires_grad=True)
    convolved = F.conv2d(second, filters.permute(3, 2, 0, 1), None, 2, 1).movedim(1, -1)
    input_error, gradient = torch.autograd.grad(convolved, (t, filters), torch.tensor(D), retain_graph=True)
    normal = F.batch_norm(second, None, None, training=True, eps=1e-5).movedim(1, -1)
    (back,) = torch.autograd.grad(normal, t, torch.tensor(x[::-1].copy()), retain_graph=True)
    w, b = torch.tensor(bias, requires_grad=True), torch.tensor(bias, requires_grad=True)
    scaling = torch.autograd.grad(t * w + b, (t, w, b), torch.tensor(x[::-1].copy()), retain_graph=True)
    moved = pytorch_twin.resampled(t, maps)
    (moved_back,) = torch.autograd.grad(moved, t, torch.tensor(x[::-1].copy()), retain_graph=True)
    kept = portnn.random.bits((1, 2), 3, x.size).reshape(x.shape) >= 2**30
    largest, mean = pooled(F.max_pool2d), pooled(F.avg_pool2d, count_include_pad=False)
    theirs = {
        "patches": unfolded(F.unfold(second, (3, 2), 1, 1, 2)),
        "fold": F.fold(folding(torch.tensor(columns)), (5, 4), (3, 2), 1, 1, 2).movedim(1, -1),
        "images": torch.tensor(columns).T.reshape(3, 3, 3, 24),
        "columns": torch.tensor(D).reshape(-1, 4).T,
        "max_pool": largest[0],
        "max_pool_backward": largest[1],
        "avg_pool": mean[0],
        "avg_pool_backward": mean[1],
        "biased": torch.relu(t + torch.tensor(bias)),
        "convolution": convolved,
        "convolution_gradient": gradient,
        "convolution_backward": input_error,
        "affine": F.linear(t, torch.tensor(square).T, torch.tensor(row[0])),
        "rows": t.reshape(-1, t.shape[-1]),
        "column_sums": t.reshape(-1, t.shape[-1]).sum(0, keepdim=True),
        "total": t.sum((0, 1, 2)),
        "scaled": t * torch.tensor(bias) - torch.tensor(bias),
        "scaled_backward": torch.cat([a.reshape(-1) for a in scaling]),
        "normalize": normal,
        "normalize_backward": back,
        "dropout": t * torch.tensor(kept) * (4 / 3),
        "random_maps": maps,
        "resample": moved,
        "resample_backward": moved_back,
        "one_hot": F.one_hot(torch.tensor(labels), 5).to(torch.float64),
        "erf": torch.special.erf(t),
    }[name]
    apart = parity.difference(run(portnn.get_backend("cpu")), {name: theirs.detach().numpy()})
    return name, figure(apart), "-", "-", libraries(run, None)


# -- the page ----------------------------------------------------------------------------------------------------------


def libraries(run, replay):
    """The names of the libraries whose results equal NumPy's, and "replay" if replayed steps equal eager ones."""
    expected = run(LIBRARIES["NumPy"]())
    passed = []
    for name, make in LIBRARIES.items():
        if parity.difference(run(make()), expected) <= SMALL:
            passed.append(name)
    if replay is not None:
        replay()  # raises an AssertionError if it does not
        passed.append("replay")
    return ", ".join(passed)


def figure(value):
    return "0" if value == 0 else f"{value:.0e}"


HEAD = """# Parity

For every row of the table of cases (`tests/support/cases.py`): the largest difference from PyTorch, the error of the
gradient check, and the array libraries that give the same results. `tools/write_parity.py` computes every figure and
writes this page. The tests repeat the comparisons with recorded values and, where PyTorch is installed, with random
shapes.

{versions}.

- **float64, float32**: the largest difference of any output, gradient or new buffer from PyTorch's in float64, relative
  to the largest value of its array.
- **gradient**: the relative difference between derivatives and numerical ones (`portnn.gradcheck`).
- **libraries**: those whose numbers are within {small:g} of NumPy's. *portable*: NumPy with portable code only.
  *strict*: array-api-strict's second device. *PyTorch*: its tensors, through array-api-compat. *replay*: a train step
  that is recorded once and replayed gives the same bits as eager steps (`tests/support/replay.py`). CuPy is missing,
  since no GPU was available; `pytest -m gpu` compares it."""
TABLE_HEAD = "| | float64 | float32 | gradient | libraries |\n|---|---|---|---|---|"
LAYER_NOTE = (
    "Outputs, dE/dX, gradients of all parameters, new running statistics. For dropout, PyTorch is given "
    "portnn's masks, for random affine layers its random words."
)
LOSS_NOTE = "The loss and its derivative."
OPTIMIZER_NOTE = "The weights after twenty steps."
SCHEDULE_NOTE = "All learning rates of a cycle."
OPS_NOTE = "The portable routines, in float64. *images* and *columns* only reshape."

if __name__ == "__main__":
    main()
