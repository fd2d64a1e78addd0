"""Damaged files: flipped bits, truncation and changes during reading are detected."""

import numpy as np
import pytest

import portnn
from forged import forged
from portnn import Adam, BatchNormLayer, FCLayer, Network
from portnn.files import FileError


@pytest.fixture
def data(tmp_path):
    net = Network([FCLayer(4, 3), BatchNormLayer(), FCLayer(3, 2)], seed=1)
    net.use("mse", optimizer=Adam(0.1), metrics=["accuracy"])
    net.fit(np.ones((4, 4)), np.ones((4, 2)), epochs=2, batch_size=2, verbose=0)
    net.save(tmp_path / "good")
    return (tmp_path / "good").read_bytes()


def refused(path, data, match=None):
    path.write_bytes(data)
    with pytest.raises(FileError, match=match):
        portnn.load(path)


def test_400_flipped_bits(data, tmp_path):
    rng = np.random.default_rng(0)
    places = rng.choice(8 * len(data), 400, replace=False)
    for place in map(int, places):
        bad = bytearray(data)
        bad[place // 8] ^= 1 << place % 8
        refused(tmp_path / "bad", bytes(bad))


def test_a_flipped_bit_of_a_weight_is_called_damage(data, tmp_path):
    bad = bytearray(data)
    bad[-3] ^= 64
    refused(tmp_path / "bad", bytes(bad), r"bad: the file is damaged: its SHA-256 is .*, expected .*Use another copy")


def test_100_truncations(data, tmp_path):
    for length in np.linspace(0, len(data) - 1, 100).astype(int):
        refused(tmp_path / "bad", data[:length])


def test_something_behind_the_end(data, tmp_path):
    refused(tmp_path / "bad", data + b"\0", "behind its tensors")
    refused(tmp_path / "bad", data + data)


def test_what_is_taken_apart_and_put_together_is_read_again(data, tmp_path):
    """Reassembling a file is harmless in itself: files in other tests are rejected only because of what was changed."""
    (tmp_path / "same").write_bytes(forged(data))
    net = portnn.load(tmp_path / "same")
    assert net.step == 4
    assert net.predict(np.ones((1, 4))).tolist() == portnn.load(tmp_path / "good").predict(np.ones((1, 4))).tolist()


def test_files_that_are_no_files(tmp_path):
    with pytest.raises(FileError, match="this is a folder"):
        portnn.load(tmp_path)
    with pytest.raises(FileError, match="no ordinary file"):
        portnn.load("/dev/zero")


def test_a_file_error_is_a_value_error(data, tmp_path):
    (tmp_path / "bad").write_bytes(data[:-1])
    with pytest.raises(ValueError, match="cut off"):
        portnn.load(tmp_path / "bad")


@pytest.mark.parametrize(
    "change", [lambda data: data[:-4] + b"\0\0\x80?", lambda data: data[:-4]], ids=["other", "short"]
)
def test_a_file_that_changes_while_it_is_read(change, data, tmp_path, monkeypatch):
    from portnn.files.reading import Source

    path, contents = tmp_path / "net", Source.contents
    path.write_bytes(data)

    def changed(self):
        path.write_bytes(change(data))
        return contents(self)

    monkeypatch.setattr(Source, "contents", changed)
    net = Network([FCLayer(4, 3), BatchNormLayer(), FCLayer(3, 2)], seed=2)
    before = {name: array.copy() for name, array in net.parameters.items()}
    for call in (portnn.load, net.load_weights):
        path.write_bytes(data)
        with pytest.raises(FileError, match="was changed while it was read"):
            call(path)
    assert all(np.array_equal(array, before[name]) for name, array in net.parameters.items())


def test_a_header_that_changes_while_it_is_read_is_used_as_it_was_checked(data, tmp_path, monkeypatch):
    from portnn.files.reading import Source

    path, contents = tmp_path / "net", Source.contents
    path.write_bytes(data)
    expected = portnn.load(path)

    def changed(self):
        path.write_bytes(data.replace(b"portnn", b"PORTNN"))
        return contents(self)

    monkeypatch.setattr(Source, "contents", changed)
    x = np.ones((1, 4))
    assert np.array_equal(portnn.load(path).predict(x), expected.predict(x))


def test_reading_takes_no_more_memory_than_the_file_has_bytes(tmp_path):
    import tracemalloc

    Network([FCLayer(1000, 1000)], seed=1).save(tmp_path / "net")
    portnn.files.reading.read(tmp_path / "net")  # so that lazy imports are not measured
    tracemalloc.start()
    try:
        found = portnn.files.reading.read(tmp_path / "net")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.arrays["parameters/0.weights"].shape == (1000, 1000)
    assert peak < (tmp_path / "net").stat().st_size + (2 << 20)
