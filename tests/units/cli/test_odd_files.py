"""Files that are no files, the same file twice, empty names: one line, and nothing is overwritten or waited for."""

import os
import shutil
import struct

import numpy as np
import pytest

from portnn import FCLayer, Network, StepDecay
from portnn.datasets import prepare_digit


@pytest.fixture
def data(tmp_path):
    """The path of a small .npz file."""
    path = tmp_path / "data.npz"
    x, y = np.linspace(0.0, 1.0, 60).reshape(10, 6), np.arange(10) % 3
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", ""],
        ["train", "mnist", "--save", ""],
        ["train", "mnist", "--plot", ""],
        ["predict", "", "digit.png"],
        ["predict", "model", ""],
        ["explain", "model", ""],
        ["explain", "model", "digit.png", "--output", ""],
        ["draw", "model", "--output", ""],
        ["export", "model", ""],
        ["summary", ""],
        ["gradcheck", ""],
        ["run", ""],
    ],
    ids=" ".join,
)
def test_an_empty_name_is_none(fails, arguments):
    assert "expected the name of a file, got an empty one" in fails(*arguments, status=2)


def test_names_to_write_that_are_no_files(fails, data, trained):
    assert "- does not stand for stdout" in fails("train", data, "--save", "-", status=2)
    assert "got that of a folder, 'models/'" in fails("train", data, "--save", "models/", status=2)
    assert "- does not stand for stdout" in fails("export", trained, "-", status=2)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
@pytest.mark.parametrize("name", ["pipe", "pipe.npy", "pipe.npz"])
def test_a_pipe_or_a_device_is_not_waited_for(fails, trained, tmp_path, name):
    os.mkfifo(tmp_path / name)
    for place in (tmp_path / name, "/dev/zero"):
        assert fails("predict", trained, place) == f"{place}: this is no ordinary file"
        assert fails("explain", trained, place) == f"{place}: this is no ordinary file"
        assert fails("train", place) == f"{place}: this is no ordinary file"


def test_what_is_read_is_not_overwritten(fails, data, trained, digits, tmp_path):
    before = data.read_bytes()
    link = tmp_path / "link.npz"
    link.symlink_to(data)
    assert "that is DATA's file too" in fails("train", data, "--save", tmp_path / "." / data.name, status=2)
    assert "that is DATA's file too" in fails("train", link, "--save", data, status=2)
    assert "that is --plot's file too" in fails("train", data, "--save", "a.png", "--plot", "./a.png", status=2)
    assert data.read_bytes() == before
    assert not (tmp_path / "a.png").exists()
    page = shutil.copy(trained, tmp_path / "model.html")
    for arguments in (
        ["draw", page, "--no-open"],
        ["export", page, page],
        ["explain", page, "x.npy", "--output", page],
    ):
        assert "that is MODEL's file too" in fails(*arguments, status=2)
    picture = tmp_path / "digit.html"
    picture.write_bytes(b"a picture")
    assert "that is IMAGE's file too" in fails("explain", trained, picture, "--output", picture, status=2)
    assert picture.read_bytes() == b"a picture"


def test_an_idx_file_is_not_overwritten(fails, tmp_path):
    names = [f"{half}-{kind}" for half in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    for name in names:
        (tmp_path / name).write_bytes(b"data")
    assert f"that is DATA ({names[0]})'s" in fails("train", tmp_path, "--save", tmp_path / names[0], status=2)


def test_explain_names_the_file(fails, trained, tmp_path):
    np.save(tmp_path / "row.npy", np.ones(3))
    np.save(tmp_path / "two.npy", np.ones((2, 28, 28)) * np.arange(28))
    assert fails("explain", trained, tmp_path / "row.npy").startswith(f"{tmp_path / 'row.npy'}: image has shape (3,)")
    assert "two.npy: it holds 2 samples" in fails("explain", trained, tmp_path / "two.npy")


def test_rows_of_784_values_are_images(portnn, trained, digits, tmp_path):
    x = digits[0][:3]
    np.save(tmp_path / "images.npy", x)
    _, expected, _ = portnn("predict", trained, tmp_path / "images.npy")
    for shape in ((3, 784), (3, 1, 784)):
        np.save(tmp_path / "images.npy", x.reshape(shape))
        assert portnn("predict", trained, tmp_path / "images.npy") == (0, expected, "")
    np.save(tmp_path / "images.npy", x[0].reshape(784))
    _, out, _ = portnn("predict", trained, tmp_path / "images.npy")
    assert out == expected.splitlines(True)[0].replace("[0]", "")


@pytest.mark.slow
def test_a_picture_for_a_network_of_rows_and_a_large_one(portnn, fails, trained, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    image.new("L", (28, 28)).save(tmp_path / "small.png")
    Network([FCLayer(2, 3)]).save(tmp_path / "net")
    assert "which are no picture: give an .npy file" in fails("predict", tmp_path / "net", tmp_path / "small.png")
    image.new("1", (10_500, 10_500)).save(tmp_path / "large.png")  # Pillow warns of it
    assert "large.png: it is blank" in fails("predict", trained, tmp_path / "large.png")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full disk")
def test_a_full_disk_is_not_an_images_fault(trained, digits, tmp_path):
    import subprocess
    import sys

    np.save(tmp_path / "digit.npy", digits[0][0])
    command = [sys.executable, "-m", "portnn", "predict", trained, str(tmp_path / "digit.npy")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 1
    assert "digit.npy" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_numbers_that_float32_lacks(fails, data):
    arrays = dict(np.load(data))
    np.savez(data, **arrays | {"x_train": np.full((10, 6), 1e300)})
    assert "x_train: the samples hold numbers from 1e+300 to 1e+300, too large for float32" in fails("train", data)


def test_resume_with_other_data_or_a_schedule(portnn, fails, data, tmp_path):
    assert portnn("train", data, "--epochs", 1, "--save", tmp_path / "net")[0] == 0
    other = tmp_path / "other.npz"
    np.savez(other, **dict(np.load(data)) | {name: np.ones((10, 7)) for name in ("x_train", "x_test")})
    told = fails("train", other, "--save", tmp_path / "net", "--resume", "--epochs", 2)
    assert "a network for samples of shape (6,), but those of" in told
    assert "have shape (7,)" in told

    import portnn as library

    net = Network([FCLayer(6, 3)], seed=1)
    net.use("softmax_cross_entropy", optimizer=library.SGD(StepDecay(0.1, 2, 0.5)), metrics=["accuracy"])
    keep = library.Checkpoint(tmp_path / "net")
    net.fit(np.ones((4, 6)), np.zeros(4, int), epochs=1, verbose=0, callbacks=[keep])
    status, out, err = portnn("train", data, "--epochs", 2, "--save", tmp_path / "net", "--resume", "--batch-size", 1)
    assert "learning rate StepDecay(0.1, 2, 0.5)" in out
    assert "was written by a fit with the callbacks Checkpoint" in err  # which is no run of train
    assert status == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no folder that nobody can write to")
def test_a_picture_that_cannot_be_written_is_told_before_training(portnn, data):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    status, out, err = portnn("train", data, "--plot", "/proc/curve.png")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1


def big_endian_tiff(pixels):
    """The bytes of a TIFF file of 16 bits, high byte first, as scanners write them."""
    height, width = pixels.shape
    data = pixels.astype(">u2").tobytes()
    short, long = 3, 4
    tags = [(256, short, width), (257, short, height), (258, short, 16), (259, short, 1), (262, short, 1)]
    tags += [(273, long, 8), (277, short, 1), (278, short, height), (279, long, len(data))]
    entries = [struct.pack(">HHII", tag, kind, 1, value << 16 if kind == short else value) for tag, kind, value in tags]
    after = struct.pack(">H", len(tags)) + b"".join(entries) + struct.pack(">I", 0)
    return b"MM\0*" + struct.pack(">I", 8 + len(data)) + data + after


def test_pictures_of_more_than_8_bits(portnn, trained, digits, tmp_path):
    """They give what the same picture of 8 bits does, prepared or as it is."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    x = digits[0][0]
    (tmp_path / "big.tif").write_bytes(big_endian_tiff(x.astype(np.uint16) * 257))
    kinds = {
        "bytes.png": x,
        "words.png": x.astype(np.uint16) * 257,
        "long.tif": x.astype(np.int32) * 257,
        "fractions.tif": np.float32(x / 255),
    }
    for name, pixels in kinds.items():
        image.fromarray(pixels).save(tmp_path / name)
    for option in ([], ["--as-is"]):
        answers = [portnn("predict", trained, tmp_path / name, *option) for name in (*kinds, "big.tif")]
        assert {status for status, _, _ in answers} == {0}
        assert len({out.partition(": ")[2] for _, out, _ in answers}) == 1


def test_a_rounding_error_is_no_other_range():
    stroke = np.zeros((30, 30))
    stroke[5:25, 12:17] = 1.0
    for other in (stroke * (1 + 1e-7), stroke - 1e-9, 255 * stroke * (1 + 1e-8)):
        np.testing.assert_array_equal(prepare_digit(other), prepare_digit(stroke))
    with pytest.raises(ValueError, match="expected 0 to 1"):
        prepare_digit(stroke - 0.01)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        prepare_digit(stroke * 255.1)
