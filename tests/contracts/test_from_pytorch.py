"""The tables of docs/howto/from_pytorch.md: both sides of each row are run, where PyTorch is installed."""

import re
import warnings

import numpy as np
import pytest

import portnn
import portnn.torch
from foreign_rows import HOWTO, tables, value_of
from portnn import ActivationLayer, FCLayer, Network

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
TABLES = tables("from_pytorch.md")
pytestmark = pytest.mark.skipif(not TABLES, reason="a source distribution may lack the documentation")
THEIRS = {"torch": torch, "nn": torch.nn, "optim": torch.optim, "lr_scheduler": torch.optim.lr_scheduler}
DATA = torch.utils.data
OURS = {name: getattr(portnn, name) for name in portnn.__all__}
OURS |= {"DataLoader": DATA.DataLoader, "TensorDataset": DATA.TensorDataset}
RNG = np.random.default_rng(3)


def rows(heading):
    found = TABLES.get(heading, [])
    return pytest.mark.parametrize(("theirs", "ours"), found, ids=[row[0] for row in found])


def test_the_tables_are_read():
    assert {heading: len(found) for heading, found in TABLES.items()} == {
        "Layers": 31,
        "Losses": 10,
        "Optimizers": 11,
        "Learning rates": 5,
        "Initial weights": 8,
        "Training": 5,
        "Results, weights, files": 9,
    }


@rows("Layers")
def test_layers(theirs, ours):
    torch.manual_seed(1)
    module, layer = eval(theirs, THEIRS).double(), eval(ours, OURS)
    shape = (6, 6, 4) if "2d" in theirs else (6, 4) if "1d" in theirs and "Norm" not in theirs else (4,)
    x = RNG.standard_normal((5, *shape))
    there = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch: padding="same" may copy
        module.train()(there)  # running means that are not zero
        Y = module.eval()(there).detach().numpy()
    net = Network([layer], dtype="float64")
    net.predict(x)
    weights = {f"0.{name}": array for name, array in module.state_dict().items()}
    portnn.torch.load_state_dict(net, weights)
    np.testing.assert_allclose(net.predict(x), np.moveaxis(Y, 1, -1), rtol=1e-12, atol=1e-12)
    assert list(portnn.torch.state_dict(net)) == list(weights)


@rows("Losses")
def test_losses(theirs, ours):
    Y, T, labels = RNG.standard_normal((6, 4)), RNG.random((6, 4)), RNG.integers(0, 4, 6)
    found = eval(ours, OURS | {"Y": Y, "T": T, "labels": labels})
    expected = eval(theirs, THEIRS | {"Y": torch.tensor(Y), "T": torch.tensor(T), "labels": torch.tensor(labels)})
    np.testing.assert_allclose(float(found), expected.item(), rtol=1e-12)


@rows("Optimizers")
def test_optimizers(theirs, ours):
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    net = Network([FCLayer(3, 4), ActivationLayer("tanh"), FCLayer(4, 2)], dtype="float64")
    portnn.torch.load_state_dict(net, module.state_dict())
    x, y = torch.tensor(RNG.standard_normal((8, 3))), torch.tensor(RNG.standard_normal((8, 2)))
    net.use("mse", optimizer=eval(ours, OURS))
    net.fit(x, y, epochs=5, batch_size=8, verbose=0)
    optimizer = eval(theirs, THEIRS | {"p": module.parameters()})
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(module(x), y).backward()
        optimizer.step()
    for (name, array), expected in zip(portnn.torch.state_dict(net).items(), module.state_dict().values(), strict=True):
        np.testing.assert_allclose(array, expected.numpy(), rtol=1e-9, atol=1e-11, err_msg=name)


@rows("Learning rates")
def test_learning_rates(theirs, ours):
    """The first rates of each: PyTorch's scheduler moves after every update."""
    optimizer, expected = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1), []
    scheduler = eval(theirs, THEIRS | {"o": optimizer})
    for _ in range(12):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step() if len(expected) < 12 else None
    schedule = eval(ours, OURS)
    assert len({*expected}) > 2
    np.testing.assert_allclose([schedule(k) for k in range(12)], expected, rtol=1e-9)


@rows("Initial weights")
def test_initial_weights(theirs, ours):
    """The same spread; the largest is the same for uniform ones, and orthogonal ones are orthogonal."""
    torch.manual_seed(1)
    there = torch.empty(300, 200, dtype=torch.float64)  # (out, in)
    eval(theirs, THEIRS | {"w": there})
    there, here = there.numpy().T, FCLayer(200, 300, initializer=eval(ours))
    Network([here], seed=1, dtype="float64")
    assert abs(here.weights.mean()) < 0.01
    assert here.weights.std() == pytest.approx(there.std(), rel=0.02)
    if "uniform" in theirs:
        assert np.abs(here.weights).max() == pytest.approx(np.abs(there).max(), rel=0.001)
    if "orthogonal" in theirs:
        np.testing.assert_allclose(here.weights @ here.weights.T, there @ there.T, atol=1e-9)


def loop():
    """The loop of the page, with a call of ``between`` before each step of the optimizer."""
    text = (HOWTO / "from_pytorch.md").read_text()
    (found,) = re.findall(r"^for epoch in range\(3\):\n(?:    .*\n)+", text, re.MULTILINE)
    assert found.count("optimizer.step()") == 1
    return found.replace("optimizer.step()", "between(); optimizer.step()")


def classifiers():
    """The same classifier in both, what the rows call its data, and ``train``."""
    torch.manual_seed(2)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    net = Network([FCLayer(3, 8), ActivationLayer("tanh"), FCLayer(8, 4)], dtype="float64")
    portnn.torch.load_state_dict(net, model.state_dict())
    net.use("softmax_cross_entropy")
    x, y = torch.tensor(RNG.standard_normal((48, 3))), torch.tensor(RNG.integers(0, 4, 48))
    batches = DATA.DataLoader(DATA.TensorDataset(x, y), batch_size=8)

    def train(model, optimizer, between=lambda: None):
        names = dict(model=model, optimizer=optimizer, loss_function=nn.CrossEntropyLoss(), batches=batches)
        exec(loop(), names | {"between": between})

    return model, net, dict(model=model, net=net, x=x, y=y, train=train)


@rows("Training")
def test_training(theirs, ours):
    model, net, names = classifiers()
    before = {name: array.clone() for name, array in model.state_dict().items()}
    value_of(theirs, THEIRS | names)
    value_of(ours, OURS | names)
    found = portnn.torch.state_dict(net)
    assert max(float((before[name] - array).abs().max()) for name, array in model.state_dict().items()) > 1e-3
    for name, expected in model.state_dict().items():
        np.testing.assert_allclose(found[name], expected.numpy(), rtol=1e-6, atol=1e-8, err_msg=name)


@rows("Results, weights, files")
def test_results(theirs, ours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, _, names = classifiers()
    there = value_of(theirs, THEIRS | names)
    there = there.detach().numpy() if isinstance(there, torch.Tensor) else there
    here = np.asarray(value_of(ours, OURS | names))
    assert here.shape == np.shape(there)
    np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-12)
