"""A small network that reads digits, saved once, and the command line in this process."""

import pytest

from portnn import ActivationLayer, FCLayer, FlattenLayer, Network, ReshapeLayer, ScaleLayer, load_mnist
from portnn.cli import main


@pytest.fixture(scope="session")
def digits():
    """1,000 test digits, and what they show."""
    return load_mnist()[1]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The file of a network that reads most digits."""
    (x, y), _ = load_mnist()
    net = Network([ReshapeLayer((28, 28, 1)), ScaleLayer(1 / 255), FlattenLayer(), FCLayer(784, 32)], seed=1)
    net.add(ActivationLayer("relu"))
    net.add(FCLayer(32, 10))
    net.use("softmax_cross_entropy", optimizer="adam", metrics=["accuracy"])
    net.fit(x, y, epochs=3, batch_size=32, shuffle=True, verbose=0)
    path = tmp_path_factory.mktemp("models") / "digits.portnn.safetensors"
    net.save(path)
    return str(path)


@pytest.fixture
def portnn(capsys):
    """Runs a command in this process; returns its exit status, and what it printed on stdout and on stderr."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def fails(portnn):
    """Runs a command that has to fail; returns the one line that it prints on stderr."""

    def run(*arguments, status=1):
        found, out, err = portnn(*arguments)
        assert found == status, (out, err)
        assert err.count("\n") == 1, err
        assert err.startswith("portnn")
        assert ": error: " in err
        return err.partition(": error: ")[2].rstrip("\n")

    return run
