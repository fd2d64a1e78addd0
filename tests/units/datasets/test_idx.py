"""The IDX reader: every type, compressed or not, and many ways in which a file can be wrong."""

import gzip
import tracemalloc

import numpy as np
import pytest

from portnn.datasets.idx import IDXError, read_idx

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.fixture
def file(tmp_path):
    """A function that writes bytes to a file and returns its path."""

    def write(content, name="some-idx"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("name", ["a-idx", "a-idx.gz"])
@pytest.mark.parametrize("packed", [False, True])
def test_reads_packed_or_not_whatever_the_name(file, idx_bytes, name, packed):
    content = idx_bytes(IMAGES)
    array = read_idx(file(gzip.compress(content) if packed else content, name))
    assert array.dtype == np.uint8
    assert np.array_equal(array, IMAGES)
    assert array.flags.writeable
    assert array.flags.c_contiguous


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x08, np.uint8), (0x09, np.int8), (0x0B, np.int16), (0x0C, np.int32), (0x0D, np.float32), (0x0E, np.float64)],
)
def test_reads_every_type_in_the_byte_order_of_this_machine(file, idx_bytes, code, dtype):
    values = np.array([[1, 2, 127], [0, 100, 3]], dtype)
    array = read_idx(file(idx_bytes(values.astype(values.dtype.newbyteorder(">")), code)))
    assert array.dtype == np.dtype(dtype)
    assert array.dtype.isnative
    assert np.array_equal(array, values)


def test_takes_a_path_as_text(file, idx_bytes):
    assert np.array_equal(read_idx(str(file(idx_bytes(IMAGES)))), IMAGES)


def test_reads_more_than_a_chunk(file, idx_bytes, monkeypatch):
    monkeypatch.setattr("portnn.datasets.idx.CHUNK", 5)
    assert np.array_equal(read_idx(file(idx_bytes(IMAGES))), IMAGES)
    with pytest.raises(IDXError, match="holds more"):
        read_idx(file(idx_bytes(IMAGES) + b"x"))


FAULTS = {
    "an empty file": (lambda good: b"", "is empty"),
    "three bytes": (lambda good: good[:3], "is not an IDX file: it starts with"),
    "a web page": (lambda good: b"<!DOCTYPE html><p>404", r"it starts with b'<!DO', expected two zero bytes"),
    "little-endian": (lambda good: b"\x03\x08\0\0" + good[4:], "is not an IDX file"),
    "an unknown type": (lambda good: good[:2] + b"\x0a" + good[3:], "type code 0x0a, expected one of 0x08, 0x09"),
    "no dimensions": (lambda good: good[:3] + b"\0" + good[4:], "declares 0 dimensions, expected 1 to 64"),
    "too many dimensions": (lambda good: good[:3] + b"\x41" + good[4:], "declares 65 dimensions"),
    "a cut header": (lambda good: good[:15], "ends within its header, after 15 of 16 bytes"),
    "a size of zero": (lambda good: good[:4] + bytes(4) + good[8:], r"the shape \(0, 3, 4\), expected sizes of 1"),
    "no data": (lambda good: good[:16], r"shape \(2, 3, 4\), 24 bytes, but holds only 0"),
    "one byte too few": (lambda good: good[:-1], r"24 bytes, but holds only 23"),
    "one byte too many": (lambda good: good + b"x", "24 bytes, but holds more"),
    "a promise of exabytes": (
        lambda good: good[:4] + b"\xff" * 12 + good[16:],
        r"\(4294967295, 4294967295, 4294967295\)",
    ),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_an_error_that_names_it(file, idx_bytes, fault, packed):
    spoil, words = FAULTS[fault]
    content = spoil(idx_bytes(IMAGES))
    path = file(gzip.compress(content) if packed else content, "spoilt-idx")
    with pytest.raises(IDXError, match=words) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_gz_file_of_no_bytes_is_empty(file):
    # gzip decompresses it to nothing without an error
    with pytest.raises(IDXError, match=r"zero\.gz is empty"):
        read_idx(file(b"", "zero.gz"))


def test_a_broken_packing_is_an_error_wherever_it_breaks(file, idx_bytes):
    packed = gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, 200, dtype=np.uint8)))
    for length in range(2, len(packed)):
        with pytest.raises(IDXError, match="is damaged, it cannot be decompressed"):
            read_idx(file(packed[:length]))


def test_a_changed_byte_in_the_packing_is_an_error_or_changes_nothing(file, idx_bytes):
    values = np.random.default_rng(0).integers(0, 256, 100, dtype=np.uint8)
    packed = gzip.compress(idx_bytes(values))
    refused = 0
    for place in range(len(packed)):
        changed = bytearray(packed)
        changed[place] ^= 0x10
        try:
            array = read_idx(file(changed))
        except IDXError:
            refused += 1
        else:
            assert np.array_equal(array, values)  # such as the time stamp
    assert refused > len(packed) - 20


def test_bytes_after_the_packing_are_an_error(file, idx_bytes):
    with pytest.raises(IDXError, match="is damaged"):
        read_idx(file(gzip.compress(idx_bytes(IMAGES)) + b"and more"))
    with pytest.raises(IDXError, match="holds more"):
        read_idx(file(gzip.compress(idx_bytes(IMAGES)) + gzip.compress(b"more")))


def test_no_memory_is_taken_for_a_promise(file, idx_bytes):
    header = bytes([0, 0, 0x08, 1]) + (2**32 - 1).to_bytes(4, "big")  # declares four gigabytes
    promises = [file(header, "plain"), file(gzip.compress(header), "packed")]
    # the opposite: a small file that decompresses to far more than it declares
    bomb = file(gzip.compress(idx_bytes(IMAGES) + bytes(100_000_000), 1), "bomb")
    tracemalloc.start()
    try:
        for path in promises:
            with pytest.raises(IDXError, match="4,294,967,295 bytes, but holds only 0"):
                read_idx(path)
        with pytest.raises(IDXError, match="holds more"):
            read_idx(bomb)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_what_cannot_be_read_is_an_error_that_says_why(tmp_path):
    with pytest.raises(IDXError, match=r"nowhere-idx cannot be read: No such file"):
        read_idx(tmp_path / "nowhere-idx")
    with pytest.raises(IDXError, match="cannot be read"):
        read_idx(tmp_path)
