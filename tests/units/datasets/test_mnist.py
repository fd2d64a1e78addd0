"""load_mnist without downloads: the bundled sample, folders of files, and its arguments."""

import gzip
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import array_api_strict
import numpy as np
import pytest

from portnn import get_backend, load_mnist, to_numpy
from portnn.datasets import mnist
from portnn.datasets.idx import IDXError
from portnn.datasets.sources import SOURCES

ROOT = Path(__file__).parents[3]

# SHA-256 of the sample's files after decompression.
SAMPLE = {
    "train-images-idx3-ubyte": "1e3ffdb2f57e22d9e5363dde25c2d057542c2e72baa312f0f3b03948bb3802b7",
    "train-labels-idx1-ubyte": "685aeb7baef68233efa643639a5e9c15bb48be09a628f96fb7f606ca2a1ea7bc",
    "t10k-images-idx3-ubyte": "de7c252b04f05e1f8309634180ccdf286dc6dbac8c579b74e76e02ae0331ca52",
    "t10k-labels-idx1-ubyte": "832c0d20f0dc42e575488c75a83a970787d4c8d4d05831b2ef03701b4a478a90",
}


def same(data, other):
    return all(
        np.array_equal(a, b)
        for first, second in zip(data, other, strict=True)
        for a, b in zip(first, second, strict=True)
    )


@pytest.fixture
def folder(tmp_path, small_files):
    """A folder with the four compressed files of the small data set."""
    for name, content in small_files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


# -- the sample --------------------------------------------------------------------------------------------------------


def test_the_sample():
    (x_train, y_train), (x_test, y_test) = load_mnist()
    assert [a.shape for a in (x_train, y_train, x_test, y_test)] == [(5000, 28, 28), (5000,), (1000, 28, 28), (1000,)]
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert set(y_train.tolist()) == set(y_test.tolist()) == set(range(10))
    assert x_train.max() == 255  # not scaled


def test_every_call_gives_arrays_of_its_own():
    (x, _), _ = load_mnist()
    x[:] = 0
    (fresh, _), _ = load_mnist()
    assert fresh.any()


@pytest.mark.parametrize("name", SAMPLE)
def test_the_sample_is_the_one_that_was_cut(name):
    packed = (mnist.SAMPLE / f"{name}.gz").read_bytes()
    assert hashlib.sha256(gzip.decompress(packed)).hexdigest() == SAMPLE[name]
    assert packed[3:8] == bytes(5), "the gzip header contains a file name or a time stamp"


def test_the_sample_is_small_and_says_whose_it_is():
    assert sum(path.stat().st_size for path in mnist.SAMPLE.glob("*.gz")) < 1_000_000
    licence = (mnist.SAMPLE / "LICENSE").read_text(encoding="utf-8")
    assert "Yann LeCun, Corinna Cortes and Christopher J.C. Burges" in licence
    assert "CC BY-SA 3.0" in licence


def test_the_sample_needs_no_network_and_no_download_library():
    code = (
        "import socket, sys\n"
        "socket.socket.connect = socket.getaddrinfo = None\n"
        "import portnn\n"
        "portnn.load_mnist()\n"
        "print(sorted({'pooch', 'requests', 'tqdm', 'urllib3'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=in_checkout(), check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def in_checkout():
    paths = [str(ROOT), str(ROOT / "backends"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


# -- the full files, if they are available -----------------------------------------------------------------------------


@pytest.fixture
def full():
    if not os.environ.get("PORTNN_MNIST"):
        pytest.skip("set PORTNN_MNIST to a folder with the four full MNIST files")
    return os.environ["PORTNN_MNIST"]


def test_the_sample_is_the_head_of_the_full_files(full):
    whole = load_mnist(folder=full)
    assert [a.shape for pair in whole for a in pair] == [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]
    (x_train, y_train), (x_test, y_test) = whole
    assert same(load_mnist(), ((x_train[:5000], y_train[:5000]), (x_test[:1000], y_test[:1000])))


def test_the_tool_cuts_the_sample_again(full, tmp_path):
    tool = [sys.executable, str(ROOT / "tools" / "cut_mnist_sample.py"), full, str(tmp_path)]
    subprocess.run(tool, check=True, capture_output=True, env=in_checkout())
    for name in SAMPLE:
        again, ours = (gzip.decompress((place / f"{name}.gz").read_bytes()) for place in (tmp_path, mnist.SAMPLE))
        assert again == ours


def test_the_tool_cuts_nothing_else(folder):
    tool = [sys.executable, str(ROOT / "tools" / "cut_mnist_sample.py"), str(folder), str(folder / "target")]
    done = subprocess.run(tool, check=False, capture_output=True, text=True, env=in_checkout())
    assert done.returncode == 1
    assert "is not the original file of MNIST" in done.stderr


# -- a folder of files -------------------------------------------------------------------------------------------------


def test_a_folder_of_packed_files(folder, small):
    assert not same(small, load_mnist())  # same() does detect a difference
    assert same(load_mnist(folder=folder), small)
    assert same(load_mnist(folder=str(folder), full=True, dataset="kmnist"), small)


def test_a_folder_of_unpacked_and_dotted_files(folder, small):
    for path in list(folder.iterdir()):
        name = path.name.removesuffix(".gz")
        if "images" in name:
            path.with_name(name).write_bytes(gzip.decompress(path.read_bytes()))
        else:
            path.with_name(name.replace("-idx", ".idx") + ".gz").write_bytes(path.read_bytes())
        path.unlink()
    assert {path.name for path in folder.iterdir()} == {
        "train-images-idx3-ubyte",
        "train-labels.idx1-ubyte.gz",
        "t10k-images-idx3-ubyte",
        "t10k-labels.idx1-ubyte.gz",
    }
    assert same(load_mnist(folder=folder), small)


def test_a_folder_in_the_home_folder(folder, small, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))  # Windows
    assert same(load_mnist(folder=f"~/{folder.name}"), small)


def test_missing_files_are_named(folder):
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(ValueError, match="lacks 2 of the 4 files, looked for") as caught:
        load_mnist(folder=folder)
    message = str(caught.value)
    assert str(folder) in message
    for name in ("train-labels", "t10k-images"):
        kind = "idx1" if "labels" in name else "idx3"
        spellings = [
            f"{name}-{kind}-ubyte",
            f"{name}-{kind}-ubyte.gz",
            f"{name}.{kind}-ubyte",
            f"{name}.{kind}-ubyte.gz",
        ]
        assert " or ".join(spellings) in message
    assert "train-images" not in message


def test_what_is_no_folder(folder):
    with pytest.raises(ValueError, match="nowhere' does not exist"):
        load_mnist(folder=folder / "nowhere")
    with pytest.raises(ValueError, match=r"ubyte\.gz' is not a folder"):
        load_mnist(folder=folder / "train-images-idx3-ubyte.gz")
    with pytest.raises(TypeError, match=r"folder must be a path, got 3 \(int\)"):
        load_mnist(folder=3)


WRONG = {
    "damaged": ("train-images", None, "is damaged, it cannot be decompressed"),
    "labels for images": ("train-images", np.zeros(12, np.uint8), r"holds uint8 of shape \(12,\), expected images"),
    "another size": ("t10k-images", np.zeros((5, 32, 32), np.uint8), r"shape \(5, 32, 32\), expected .*\(N, 28, 28\)"),
    "other numbers": ("t10k-images", np.zeros((5, 28, 28), np.int8), r"holds int8 of shape"),
    "images for labels": (
        "train-labels",
        np.zeros((12, 1), np.uint8),
        r"shape \(12, 1\), expected labels: uint8 \(N,\)",
    ),
    "labels of four bytes": ("train-labels", np.zeros(12, ">i4"), "holds int32 of shape"),
    "one label too few": ("train-labels", np.zeros(11, np.uint8), "holds 12 images, but .* holds 11 labels"),
    "a label of 10": ("t10k-labels", np.array([0, 1, 10, 2, 3], np.uint8), "label 2 is 10, expected 0 to 9"),
}


@pytest.mark.parametrize("case", WRONG)
def test_files_that_do_not_fit_are_errors_that_name_them(folder, idx_bytes, case):
    start, array, words = WRONG[case]
    (path,) = folder.glob(f"{start}*")
    if array is None:
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.write_bytes(idx_bytes(array, {"uint8": 0x08, "int8": 0x09}.get(array.dtype.name, 0x0C)))
    with pytest.raises(ValueError, match=words) as caught:
        load_mnist(folder=folder)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, IDXError) == (array is None)


# -- the other arguments -----------------------------------------------------------------------------------------------


def test_known_data_sets():
    assert set(SOURCES) == {"mnist", "fashion_mnist", "kmnist"}
    for source in SOURCES.values():
        assert list(source.sha256) == [f"{name}.gz" for name in SAMPLE]
        assert all(len(bytes.fromhex(sha256)) == 32 for sha256 in source.sha256.values())
        assert all(address.endswith("/") for address in source.addresses)
        assert (source.train, source.test) == (60_000, 10_000)


@pytest.mark.parametrize("dataset", ["MNIST", "emnist", None, ["mnist"]])
def test_an_unknown_data_set(dataset):
    with pytest.raises(ValueError, match=r"unknown data set .*; known: 'mnist', 'fashion_mnist', 'kmnist'"):
        load_mnist(dataset=dataset)


def test_the_sample_is_of_mnist_only():
    with pytest.raises(ValueError, match=r"call load_mnist\(dataset='kmnist', full=True\)"):
        load_mnist(dataset="kmnist")


def test_a_backend_by_name_or_object(folder, small):
    assert same(load_mnist(folder=folder, backend="cpu"), small)
    assert same(load_mnist(folder=folder, backend=get_backend("cpu")), small)
    strict = get_backend(array_api_strict, device=array_api_strict.Device("device1"))
    data = load_mnist(folder=folder, backend=strict)
    assert all(strict.owns(array) for pair in data for array in pair)
    assert all(array.dtype == array_api_strict.uint8 for pair in data for array in pair)
    assert same([[to_numpy(array) for array in pair] for pair in data], small)


def test_a_wrong_backend_is_said_before_anything_is_downloaded(monkeypatch):
    monkeypatch.setattr(mnist, "download", lambda dataset: pytest.fail("downloaded"))
    with pytest.raises(ValueError, match="unknown backend 'tpu'"):
        load_mnist(full=True, backend="tpu")


@pytest.mark.gpu
def test_on_the_gpu():
    gpu = get_backend("gpu")
    data = load_mnist(backend="gpu")
    assert all(gpu.owns(array) for pair in data for array in pair)
    assert same([[to_numpy(array) for array in pair] for pair in data], load_mnist())
