"""``portnn train``: data of any shape, files that go on, and what is said about data that are none."""

import gzip
import signal
import sys

import numpy as np
import pytest

import portnn as library
from portnn import FCLayer, Network
from portnn.cli import data, models

SEED = 0


def dataset(shape, classes=3, n=120, dtype=None, scale=1.0, offset=0.0):
    """Samples around a centre for each class, as x_train, y_train, x_test, y_test."""
    rng = np.random.default_rng(SEED)
    labels = rng.integers(0, classes, n)
    x = rng.standard_normal((classes, *shape))[labels] + 0.2 * rng.standard_normal((n, *shape))
    x = x * scale + offset
    x = np.clip(x, 0, 255).astype(dtype) if dtype == "uint8" else x.astype(dtype or "float64")
    half = 2 * n // 3
    return {"x_train": x[:half], "y_train": labels[:half], "x_test": x[half:], "y_test": labels[half:]}


@pytest.fixture
def npz(tmp_path):
    def write(arrays, name="data.npz"):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def accuracy(out):
    (line,) = [line for line in out.splitlines() if line.startswith("accuracy: ")]
    return float(line.split()[1].rstrip("%"))


SHAPES = {
    "table": dict(shape=(4,), scale=np.array([1.0, 1e3, 1e-3, 1.0]), offset=np.array([0.0, 1e5, 0.0, -3.0])),
    "one column": dict(shape=(1,), classes=2),
    "integers": dict(shape=(6,), dtype="int16", scale=100),
    "grey": dict(shape=(12, 9)),
    "bytes": dict(shape=(10, 14), dtype="uint8", scale=40, offset=128, classes=12, n=600),
    "colours": dict(shape=(16, 11, 3), dtype="uint8", scale=40, offset=128, classes=5),
    "one pixel": dict(shape=(1, 1), scale=10, classes=2),
    "wide": dict(shape=(1, 30), classes=2),
    "volumes": dict(shape=(3, 4, 5, 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_samples_of_any_shape(portnn, npz, tmp_path, name):
    arrays = dataset(**SHAPES[name])
    kinds = models.KINDS if 3 <= arrays["x_train"].ndim <= 4 else ("fc",)
    for kind in kinds:
        save = tmp_path / f"{kind}.portnn.safetensors"
        status, out, err = portnn(
            "train", npz(arrays), "--model", kind, "--epochs", 12, "--batch-size", 16, "--save", save
        )
        assert (status, err) == (0, "")
        assert accuracy(out) >= 80
        net = library.load(save)
        found = net.predict_classes(arrays["x_test"])
        assert f"{(found == arrays['y_test']).mean():.2%}" in out
        np.save(tmp_path / "x.npy", arrays["x_test"][0])
        predicted = portnn("predict", save, tmp_path / "x.npy")[1]
        assert predicted.split(": ")[1].startswith(f"{found[0]}, probability ")


def test_the_kind_that_is_taken():
    assert [models.kind_for(shape) for shape in [(28, 28), (28, 28, 3), (784,), (4, 4), (9, 9, 9, 1), (1, 784)]] == [
        "lenet", "lenet", "fc", "fc", "fc", "fc",
    ]  # fmt: skip


def test_scaling():
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert [repr(layer) for layer in models.layers("fc", grey, 2)[:2]] == [
        "ReshapeLayer((16, 16, 1))",
        "ScaleLayer(0.00392157)",
    ]
    fractions = grey / 255
    assert "ScaleLayer" not in str(models.layers("fc", fractions, 2))
    net = Network(models.layers("fc", 1000 + 50 * fractions, 2)[:2])
    assert abs(net.predict(1000 + 50 * fractions).mean()) < 1e-3
    constant = Network(models.layers("fc", np.full((5, 3), 7.0), 2)[:2])
    assert np.all(np.abs(constant.predict(np.full((5, 3), 7.0))) < 1e-2)


@pytest.mark.slow
def test_the_defaults_reach_a_good_accuracy_soon(portnn):
    """96 % of the bundled digits with LeNet-5; the others in the same five epochs."""
    for kind, least in (("lenet", 95), ("resnet", 94), ("fc", 91)):
        status, out, err = portnn("train", "mnist", "--model", kind)
        assert (status, err) == (0, "")
        assert accuracy(out) > least


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rmsprop", "adam", "adamw"])
def test_every_optimizer_learns_at_its_default_rate(portnn, optimizer):
    status, out, _ = portnn("train", "mnist", "--model", "fc", "--optimizer", optimizer)
    assert status == 0
    assert accuracy(out) > 88


# -- save and resume ---------------------------------------------------------------------------------------------------


def test_a_resumed_run_is_that_which_never_stopped(portnn, npz, tmp_path):
    path = npz(dataset((6,)))
    one, two = tmp_path / "one", tmp_path / "two"
    options = ["train", path, "--batch-size", 16, "--seed", 5, "--optimizer", "adamw"]
    assert portnn(*options, "--epochs", 4, "--save", one)[0] == 0
    _, out, _ = portnn(*options, "--epochs", 2, "--save", two, "--resume")
    assert f"{two} does not exist yet: the training begins" in out
    status, out, _ = portnn("train", path, "--batch-size", 16, "--epochs", 4, "--save", two, "--resume")
    assert status == 0
    assert f"goes on from {two}, after 2 epochs" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("epoch")] == ["3/4", "4/4"]
    first, second = library.load(one), library.load(two)
    assert all(np.array_equal(first.parameters[name], second.parameters[name]) for name in first.parameters)
    status, out, _ = portnn(*options, "--epochs", 3, "--save", two, "--resume")
    assert status == 0
    assert "nothing is left to train" in out
    assert "epoch 5" not in out


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--seed", "2"], "was trained with --seed 1, not 2"),
        (["--optimizer", "sgd"], "was trained with --optimizer adam, not sgd"),
        (["--learning-rate", "0.5"], "was trained with --learning-rate 0.002, not 0.5"),
        (["--model", "lenet"], "holds another network than --model lenet"),
    ],
)
def test_resume_with_other_options(fails, portnn, npz, tmp_path, option, told):
    path, save = npz(dataset((8, 8))), tmp_path / "net"
    assert portnn("train", path, "--model", "fc", "--epochs", 1, "--save", save)[0] == 0
    before = save.read_bytes()
    assert told in fails("train", path, "--epochs", 2, "--save", save, "--resume", *option, status=2)
    assert save.read_bytes() == before


def test_resume_needs_what_train_saved(fails, npz, tmp_path):
    path, save = npz(dataset((6,))), tmp_path / "net"
    assert "name it, --save FILE --resume" in fails("train", path, "--resume", status=2)
    Network([FCLayer(6, 3)]).save(save)
    assert "a network without an optimizer" in fails("train", path, "--save", save, "--resume")
    save.write_bytes(b"no network")
    assert str(save) in fails("train", path, "--save", save, "--resume")


def test_where_nothing_can_be_saved(fails, npz, tmp_path):
    path = npz(dataset((6,)))
    assert "there is no such folder" in fails("train", path, "--save", tmp_path / "none" / "net")
    assert str(tmp_path) in fails("train", path, "--save", tmp_path)


def test_a_training_that_diverges(fails, portnn, npz, tmp_path):
    path = npz(dataset((6,)))
    with np.errstate(all="ignore"):
        assert "the weights diverged" in fails("train", path, "--optimizer", "sgd", "--learning-rate", "1e30")


class Presses:
    """Stands for somebody who presses Ctrl-C in the third step."""

    def __init__(self, monkeypatch, times=1):
        from portnn.cli.train import Pause

        original = Pause.on_step_end

        def on_step_end(callback, network, step):
            if step == 3:
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)
            original(callback, network, step)

        monkeypatch.setattr(Pause, "on_step_end", on_step_end)


def test_ctrl_c_keeps_what_there_is(portnn, npz, tmp_path, monkeypatch):
    path, save = npz(dataset((6,))), tmp_path / "net"
    handler = signal.getsignal(signal.SIGINT)
    options = ["train", path, "--epochs", 3, "--batch-size", 8]
    with monkeypatch.context() as pressed:
        Presses(pressed)
        status, out, err = portnn(*options, "--save", save)
    assert status == 130
    assert err.count("\n") == 1
    assert "interrupted after " in err
    assert f"the network is kept in {save}; go on with --resume" in err
    assert "accuracy: " not in out
    assert signal.getsignal(signal.SIGINT) is handler
    steps = library.load(save).step
    assert f"after {steps} steps" in err
    assert 3 <= steps <= 5
    status, out, _ = portnn(*options, "--save", save, "--resume")
    assert status == 0
    assert portnn(*options, "--save", tmp_path / "other")[0] == 0
    one, other = library.load(save), library.load(tmp_path / "other")
    assert np.array_equal(one.parameters["2.weights"], other.parameters["2.weights"])


def test_ctrl_c_without_save(portnn, npz, monkeypatch):
    Presses(monkeypatch)
    status, _, err = portnn("train", npz(dataset((6,))), "--batch-size", 8)
    assert status == 130
    assert "nothing is kept without --save" in err


# -- data --------------------------------------------------------------------------------------------------------------


def idx(array):
    kinds = {"uint8": 8, "int32": 12}
    head = bytes([0, 0, kinds[str(array.dtype)], array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def test_a_folder_of_idx_files_of_any_size(portnn, fails, tmp_path):
    arrays = dataset((9, 7), dtype="uint8", scale=40, offset=128, classes=13, n=400)
    names = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte.gz",
    )
    for name, array in zip(names, arrays.values(), strict=True):
        content = idx(array.astype("uint8"))
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    status, out, _ = portnn("train", tmp_path, "--epochs", 6, "--model", "fc")
    assert status == 0
    assert "samples of shape (9, 7), 13 classes" in out
    assert accuracy(out) > 80
    (tmp_path / names[1]).write_bytes(b"\0\0\x08\x01\0\0\0\x05abc")
    assert names[1] in fails("train", tmp_path)
    (tmp_path / names[1]).unlink()
    assert "lacks 1 of the 4 files, looked for: train-labels" in fails("train", tmp_path)


def test_one_hot_rows_and_columns_are_labels(portnn, npz):
    arrays = dataset((6,))
    plain = portnn("train", npz(arrays), "--epochs", 1)[1]
    for change in (lambda y: np.eye(3)[y], lambda y: y[:, None], lambda y: y.astype("float32")):
        changed = {name: change(a) if name[0] == "y" else a for name, a in arrays.items()}
        assert portnn("train", npz(changed), "--epochs", 1)[1] == plain


X, Y = np.zeros((3, 2)), np.array([0, 1, 1])


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        (dict(x_train=X), "lacks y_train, x_test, y_test, it holds x_train"),
        (dict(), "it holds nothing"),
        (dict(x_train=X, y_train=Y[:2], x_test=X, y_test=Y), "x_train holds 3 samples, but"),
        (dict(x_train=X, y_train=Y - 1, x_test=X, y_test=Y), "y_train: label 0 is -1, expected class numbers from 0"),
        (dict(x_train=X, y_train=Y + 0.5, x_test=X, y_test=Y), "y_train: label 0 is 0.5"),
        (dict(x_train=X, y_train=Y * 10**6, x_test=X, y_test=Y), "y_train: label 1 is 1000000"),
        (dict(x_train=X, y_train=Y * np.nan, x_test=X, y_test=Y), "y_train: label 0 is nan"),
        (dict(x_train=X, y_train=np.array(["a"] * 3), x_test=X, y_test=Y), "y_train: the labels are <U1"),
        (dict(x_train=X, y_train=np.ones((3, 2)), x_test=X, y_test=Y), "the rows are not one-hot"),
        (dict(x_train=X, y_train=Y, x_test=X[:, :1], y_test=Y), "samples of shape (2,), but"),
        (dict(x_train=X * np.nan, y_train=Y, x_test=X, y_test=Y), "x_train: the samples hold NaN or infinity"),
        (dict(x_train=X[:0], y_train=Y[:0], x_test=X, y_test=Y), "at least one of them"),
        (dict(x_train=X[:, 0], y_train=Y, x_test=X, y_test=Y), "have shape (3,), expected (N, ...)"),
        (dict(x_train=X + 1j, y_train=Y, x_test=X, y_test=Y), "of type complex128, expected numbers"),
        (dict(x_train=np.array([{}]), y_train=Y, x_test=X, y_test=Y), "x_train: it cannot be read as numbers"),
    ],
)
def test_arrays_that_do_not_fit(fails, npz, arrays, told):
    assert told in fails("train", npz(arrays))


def test_files_that_are_none(fails, npz, tmp_path):
    path = npz(dataset((6,)))
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert f"{path} is no .npz file: expected an .npz file" in fails("train", path)
    damaged = bytearray(whole)
    damaged[250:300] = bytes(50)
    path.write_bytes(damaged)
    assert f"{path}" in fails("train", path)


def test_names_that_are_none(fails, tmp_path):
    assert "mnst is no data set, and no file or folder of that name exists" in fails("train", "mnst")
    assert "add --full, which downloads kmnist once" in fails("train", "kmnist")
    assert "--full goes with mnist" in fails("train", tmp_path, "--full", status=2)
    assert "unknown backend 'tpu'" in fails("train", "mnist", "--backend", "tpu", status=2)
    assert "lenet takes images" in fails("train", _table(tmp_path), "--model", "lenet")


def _table(folder):
    np.savez(folder / "table.npz", **dataset((6,)))
    return folder / "table.npz"


def test_full_downloads(monkeypatch):
    asked = {}

    def load_mnist(**options):
        asked.update(options)
        return (np.zeros((2, 28, 28), np.uint8), np.array([0, 9])), (np.zeros((1, 28, 28), np.uint8), np.array([3]))

    monkeypatch.setattr("portnn.cli.data.load_mnist", load_mnist)
    found = data.load("kmnist", full=True)
    assert asked == {"full": True, "dataset": "kmnist"}
    assert (found.classes, found.sample) == (10, (28, 28))


# -- the plot ----------------------------------------------------------------------------------------------------------


def test_plot(portnn, npz, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    path = tmp_path / "curve.png"
    status, out, err = portnn("train", npz(dataset((6,))), "--epochs", 2, "--plot", path)
    assert (status, err) == (0, "")
    assert f"drawn: {path}\n" in out
    with image.open(path) as drawn:
        assert min(drawn.size) > 200
        assert len(drawn.convert("L").getcolors()) > 20


def test_a_plot_that_cannot_be_drawn_is_told_before_training(fails, npz, tmp_path, monkeypatch):
    path = npz(dataset((6,)))
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "matplotlib.figure", None)
        told = fails("train", path, "--plot", tmp_path / "c.png")
        assert told == "--plot needs matplotlib: python -m pip install matplotlib"
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert "expected a file that ends in" in fails("train", path, "--plot", tmp_path / "c.xyz", status=2)
    assert "its folder does not exist" in fails("train", path, "--plot", tmp_path / "none" / "c.png")
