"""Downloads from a local server that can misbehave in many ways."""

import gc
import gzip
import hashlib
import socket
import sys
import threading
import time

import numpy as np
import pytest

from bad_server import Handler, Server
from portnn import load_mnist
from portnn.datasets import download as downloading
from portnn.datasets.sources import SOURCES, Source

pytest.importorskip("pooch", reason="downloading needs pooch: python -m pip install pooch")


@pytest.fixture
def server(small_files, monkeypatch):
    """A server that has the files of the small data set; ``asked`` lists the requests."""
    gc.freeze()  # so that the collection after each test need not traverse the objects of all other tests
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as site:
        site.files, site.asked, site.over = small_files, [], threading.Event()
        site.url = f"http://127.0.0.1:{site.server_address[1]}"
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.over.set()
        site.shutdown()
        thread.join()
    gc.collect()  # a connection left open would cause a warning, which is an error


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache folder, which does not exist yet; nor does its parent."""
    place = tmp_path / "caches" / "portnn"
    monkeypatch.setenv("PORTNN_DATA", str(place))
    return place


@pytest.fixture
def sources(server, cache, monkeypatch):
    """A function that sets the sources of MNIST, given as methods of the server's handler or as URLs."""

    def use(*ways, train=12, test=5):
        addresses = tuple(way if "://" in way else f"{server.url}/{way}/" for way in ways)
        sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in server.files.items()}
        monkeypatch.setitem(SOURCES, "mnist", Source(addresses, sha256, train, test))

    return use


def same(data, other):
    return all(
        np.array_equal(a, b)
        for first, second in zip(data, other, strict=True)
        for a, b in zip(first, second, strict=True)
    )


def left(tmp_path):
    """Everything in the test's folder."""
    return sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))


# -- successful downloads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way", ["good", "moved", "moved_at_length", "labelled", "unmeasured", "small_chunks", "length_same_twice"]
)
def test_downloads_the_four_files(sources, cache, small, small_files, way):
    sources(way)
    assert same(load_mnist(full=True), small)
    assert {path.name: path.read_bytes() for path in (cache / "mnist").iterdir()} == small_files


def test_shows_a_bar_if_tqdm_is_there(sources, capsys):
    pytest.importorskip("tqdm", reason="the progress bar needs tqdm")
    sources("good")
    load_mnist(full=True)
    assert "train-images-idx3-ubyte.gz: 100%" in capsys.readouterr().err


def test_shows_no_bar_without_tqdm(sources, small, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    sources("good")
    assert same(load_mnist(full=True), small)
    assert "%" not in capsys.readouterr().err


def test_what_is_in_the_cache_is_not_downloaded_again(sources, server, small):
    sources("good")
    load_mnist(full=True)
    assert len(server.asked) == 4
    assert same(load_mnist(full=True), small)
    assert len(server.asked) == 4


@pytest.mark.parametrize("spoilt", [b"", b"half a file", None], ids=["empty", "other", "cut"])
def test_a_damaged_file_in_the_cache_is_downloaded_again(sources, server, cache, small, small_files, spoilt):
    sources("good")
    load_mnist(full=True)
    name = "t10k-images-idx3-ubyte.gz"
    (cache / "mnist" / name).write_bytes(small_files[name][:-1] if spoilt is None else spoilt)
    assert same(load_mnist(full=True), small)
    assert server.asked[4:] == [("good", name)]
    assert (cache / "mnist" / name).read_bytes() == small_files[name]


def test_what_else_lies_in_the_cache_is_not_read(sources, cache, small, idx_bytes):
    sources("good")
    (cache / "mnist").mkdir(parents=True)
    (cache / "mnist" / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((12, 28, 28), np.uint8)))
    assert same(load_mnist(full=True), small)


def test_the_cache_folder_of_the_platform(monkeypatch):
    import pooch

    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("PORTNN_DATA", raising=False)
        else:
            monkeypatch.setenv("PORTNN_DATA", value)
        assert downloading._cache(pooch) == pooch.os_cache("portnn").absolute()


def test_each_data_set_has_a_folder_of_its_own(sources, cache, monkeypatch, small):
    sources("good")
    monkeypatch.setitem(SOURCES, "kmnist", SOURCES["mnist"])
    assert same(load_mnist(full=True, dataset="kmnist"), small)
    assert [path.name for path in cache.iterdir()] == ["kmnist"]


def test_after_the_download_the_number_of_images_is_checked(sources):
    sources("good", train=60_000)
    with pytest.raises(ValueError, match="holds 12 images, expected 60000"):
        load_mnist(full=True)


# -- sources that fail -------------------------------------------------------------------------------------------------

FAULTS = {
    "absent": "the server answered 404 Not Found",
    "failing": "the server answered 500 Internal Server Error",
    "cut": "the connection failed, IncompleteRead|wrong bytes",
    "cut_unmeasured": "wrong bytes: SHA256 hash of downloaded file",
    "mute": "the connection failed, RemoteDisconnected",
    "wrong": "wrong bytes: SHA256 hash .* expected sha256:[0-9a-f]{64} but got [0-9a-f]{64}",
    "empty": "wrong bytes: expected a gzip file, got nothing",
    "page": "wrong bytes: expected a gzip file, got something that starts with b'<!DOCTYPE html><'",
    "silent": "no answer within 0.5 seconds",
    "stalled": "no answer within 0.5 seconds",
    "refused": "the connection failed, .*refused",
    "endless": r"wrong bytes: more arrived than the 10,457 that the file has at most",
    "endless_chunks": r"wrong bytes: more arrived than the 10,457 that the file has at most",
    "absent_at_length": "the server answered 404 Not Found",
    "moving": "the server redirects more than 5 times",
    "endless_heads": "the connection failed, .*got more than 100 headers",
    "length_no_number": "the server declares the length 'abc', which is not a number of bytes",
    "length_negative": r"the server declares the length '-\d+', which is not a number of bytes",
    "length_twice": r"the headers of the response are invalid: .*Content-Length|the length '\d+, \d+', which is not a number",
    "lengths_differ": r"the headers of the response are invalid: .*Content-Length|the length '\d+, \d+', which is not a number",
    "length_huge": r"the server declares 100000000000000000 bytes, but the file has at most 10,457",
    "length_too_long": r"the server declares 30000 bytes, but the file has at most 10,457",
}
LATE = r"the whole file, of at most 10,457 bytes, did not arrive in 0\.7 seconds"
SLOW = ("dripping", "dripping_unmeasured", "endless_head", "endless_promises", "endless_chunk_head")
FAULTS |= dict.fromkeys(SLOW, LATE)


@pytest.fixture
def refused():
    """An address where no server listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening, so that no other process gets the port
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"


# After any failure the next source is tried. Of the faults that are only slow, one is enough to test this.
QUICK = [name for name in FAULTS if name not in ("silent", *SLOW[1:])]


@pytest.fixture(params=[pytest.param(f, marks=pytest.mark.slow) if f in SLOW[1:] else f for f in FAULTS])
def fault(request, refused, monkeypatch):
    """A source that fails, and a pattern of the reason in the error."""
    if request.param in ("silent", "stalled"):
        monkeypatch.setattr(downloading, "TIMEOUT", 0.5)
    if request.param in SLOW:
        monkeypatch.setattr(downloading, "START", 0.7)
        monkeypatch.setattr(downloading, "SLOWEST", 1e9)
    if request.param == "refused" and sys.platform == "win32":
        pytest.skip("on Windows the message is localized")
    return (refused if request.param == "refused" else request.param), FAULTS[request.param]


@pytest.mark.slow
def test_a_source_that_fails_is_an_error_with_its_reason_and_leaves_nothing(sources, tmp_path, fault):
    way, words = fault
    sources(way)
    with pytest.raises(downloading.DownloadError, match=words) as caught:
        load_mnist(full=True)
    message = str(caught.value)
    assert "train-images-idx3-ubyte.gz could not be downloaded from any source" in message
    assert "load_mnist(dataset='mnist', folder=...)" in message
    assert isinstance(caught.value, RuntimeError)
    assert left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", QUICK, indirect=True)
def test_after_a_source_that_fails_comes_the_next(sources, server, cache, small, fault):
    sources(fault[0], "good")
    assert same(load_mnist(full=True), small)
    assert len(list((cache / "mnist").iterdir())) == 4
    # the source that failed was asked for one file only, not for all four
    assert len({name for way, name in server.asked if way != "good"}) <= 1


def test_when_all_fail_each_is_listed_with_its_own_reason(sources, server, tmp_path):
    sources("absent", "failing", "page")
    with pytest.raises(downloading.DownloadError) as caught:
        load_mnist(full=True)
    lines = str(caught.value).splitlines()
    name = "train-images-idx3-ubyte.gz"
    assert lines[1] == f"  {server.url}/absent/{name}: the server answered 404 Not Found"
    assert lines[2] == f"  {server.url}/failing/{name}: the server answered 500 Internal Server Error"
    assert lines[3].startswith(f"  {server.url}/page/{name}: wrong bytes: ")
    assert left(tmp_path) == []


def test_the_reason_is_not_what_the_caller_was_handling(sources):
    sources("mute")
    try:
        raise FileNotFoundError("of the caller")
    except FileNotFoundError:
        with pytest.raises(downloading.DownloadError, match="RemoteDisconnected: Remote end closed connection"):
            load_mnist(full=True)


def test_a_failure_on_the_way_keeps_the_whole_files_only(sources, server, cache, small, small_files):
    sources("good")
    content = server.files["t10k-images-idx3-ubyte.gz"]
    server.files["t10k-images-idx3-ubyte.gz"] = content[:-3]
    with pytest.raises(downloading.DownloadError, match=r"t10k-images-idx3-ubyte\.gz could not be downloaded"):
        load_mnist(full=True)
    whole = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]
    assert sorted(path.name for path in (cache / "mnist").iterdir()) == whole
    server.files["t10k-images-idx3-ubyte.gz"] = content
    server.asked.clear()
    assert same(load_mnist(full=True), small)
    assert [name for _, name in server.asked] == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_midway_leaves_nothing(sources, server, tmp_path, monkeypatch, interruption):
    sources("good", "good")
    monkeypatch.setattr(downloading, "CHUNK", 1000)
    seen = []

    class Bar:
        def __enter__(self):
            return self.interrupt

        def __exit__(self, *error):
            pass

        def interrupt(self, count):
            seen.extend(path.stat().st_size for path in tmp_path.rglob("tmp*"))
            raise interruption

    monkeypatch.setattr(downloading, "_progress", lambda size, name: Bar())
    with pytest.raises(interruption):
        load_mnist(full=True)
    assert len(seen) == 1, "there was no temporary file to remove"
    assert len(server.asked) == 1, "after an interruption the next source was tried"
    assert left(tmp_path) == []


def test_what_was_in_the_folder_before_stays(sources, cache):
    sources("absent")
    (cache / "mnist").mkdir(parents=True)
    (cache / "mnist" / "notes.txt").write_text("mine")
    with pytest.raises(downloading.DownloadError):
        load_mnist(full=True)
    assert left(cache) == ["mnist", "mnist/notes.txt"]


def test_a_cache_folder_that_cannot_be_used(sources, cache):
    sources("good")
    cache.parent.mkdir()
    cache.write_text("a file, no folder")
    with pytest.raises(downloading.DownloadError, match=r"cache folder .* cannot be used .*PORTNN_DATA to a folder"):
        load_mnist(full=True)
    assert cache.read_text() == "a file, no folder"


def test_without_pooch_the_pip_line_is_given(sources, server, monkeypatch):
    sources("good")
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(RuntimeError, match=r"python -m pip install pooch tqdm\..*folder=") as caught:
        load_mnist(full=True)
    assert isinstance(caught.value, downloading.DownloadError)
    assert server.asked == []


# -- limits of time and size -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_time_is_counted_for_each_source_and_all_are_listed(sources, monkeypatch, tmp_path):
    monkeypatch.setattr(downloading, "START", 0.4)
    monkeypatch.setattr(downloading, "SLOWEST", 1e9)
    sources("dripping", "length_no_number", "endless_head")
    began = time.monotonic()
    with pytest.raises(downloading.DownloadError) as caught:
        load_mnist(full=True)
    assert 0.7 < time.monotonic() - began < 5
    lines = str(caught.value).splitlines()[1:4]
    assert [words in line for words, line in zip(("0.4 seconds", "'abc'", "0.4 seconds"), lines, strict=True)] == [
        True
    ] * 3
    assert left(tmp_path) == []


def test_a_long_file_may_take_longer(monkeypatch):
    """At SLOWEST bytes per second every file arrives in time."""
    for source in SOURCES.values():
        for name in source.sha256:
            seconds = source.longest(name) / downloading.SLOWEST
            assert 0 < seconds < downloading.START + seconds < 20 * 60


@pytest.mark.parametrize("dataset", SOURCES)
def test_the_sizes_of_all_files_are_known(dataset):
    source = SOURCES[dataset]
    assert set(source.bytes) == set(source.sha256)
    bounds = Source(source.addresses, source.sha256, source.train, source.test)
    for name, size in source.bytes.items():
        assert size == source.longest(name) < bounds.longest(name)


def test_a_file_that_cannot_be_packed_is_within_the_bound():
    noise = np.random.default_rng(0).integers(0, 256, (60_000 // 100, 28, 28), dtype=np.uint8).tobytes()
    source = Source((), {}, train=600, test=600)
    for name in ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        assert len(noise) < len(gzip.compress(bytes(16) + noise)) <= source.longest(name)
        assert len(gzip.compress(bytes(16) + noise, 0)) <= source.longest(name)
    assert len(gzip.compress(bytes(8) + noise[:600], 0)) <= source.longest("train-labels-idx1-ubyte.gz")


def test_no_thread_and_no_connection_is_left(sources, monkeypatch):
    monkeypatch.setattr(downloading, "START", 0.3)
    monkeypatch.setattr(downloading, "SLOWEST", 1e9)
    before = {thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)}
    sources("dripping", "good")
    load_mnist(full=True)
    gc.collect()
    new = {thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)} - before
    assert all(timer.finished.is_set() for timer in new)  # canceled: the thread ends soon, but not at once
