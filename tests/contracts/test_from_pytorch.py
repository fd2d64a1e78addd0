"""The tables of docs/howto/pytorch_weights.md: both sides of each row are run, where PyTorch is installed."""

import re
import warnings

import numpy as np
import pytest

import portnn
import portnn.torch
from documents import ROOT
from portnn import Network

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
TEXT = (ROOT / "docs" / "howto" / "pytorch_weights.md").read_text()
ROWS = re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", TEXT, re.MULTILINE)
LAYERS = [row for row in ROWS if row[0].startswith("nn.") and "Loss" not in row[0]]
LOSSES = [row for row in ROWS if "Loss" in row[0]]
OPTIMIZERS = [row for row in ROWS if row[0].startswith("optim.")]
THEIRS = {"nn": torch.nn, "optim": torch.optim}
OURS = {name: getattr(portnn, name) for name in portnn.__all__}
RNG = np.random.default_rng(3)


def test_the_tables_are_read():
    assert (len(LAYERS), len(LOSSES), len(OPTIMIZERS)) == (31, 6, 7)
    assert len(ROWS) == 44


@pytest.mark.parametrize(("theirs", "ours"), LAYERS, ids=[row[0] for row in LAYERS])
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


@pytest.mark.parametrize(("theirs", "ours"), LOSSES, ids=[row[0] for row in LOSSES])
def test_losses(theirs, ours):
    Y, T, labels = RNG.standard_normal((6, 4)), RNG.random((6, 4)), RNG.integers(0, 4, 6)
    found = eval(ours, OURS | {"Y": Y, "T": T, "labels": labels})
    expected = eval(theirs, THEIRS | {"Y": torch.tensor(Y), "T": torch.tensor(T), "labels": torch.tensor(labels)})
    np.testing.assert_allclose(float(found), expected.item(), rtol=1e-12)


@pytest.mark.parametrize(("theirs", "ours"), OPTIMIZERS, ids=[row[0] for row in OPTIMIZERS])
def test_optimizers(theirs, ours):
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    net = Network([portnn.FCLayer(3, 4), portnn.ActivationLayer("tanh"), portnn.FCLayer(4, 2)], dtype="float64")
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
