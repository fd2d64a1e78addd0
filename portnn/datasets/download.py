"""Fetches the files of a data set into a cache folder, from the first source that gives the right bytes.

pooch compares the hashes, downloads beside the final name and moves the whole file there; it knows no second source, so
the loop over the sources is here. No source holds a program up for ever: each file has a known length, and a time by
which the whole of it must have come, whatever the server does meanwhile. The folder is ``$PORTNN_DATA``, or else the
platform's place for caches.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urljoin

from portnn.datasets.idx import PACKED
from portnn.datasets.sources import SOURCES

TIMEOUT = 20.0  # seconds without an answer, or without a byte, after which a source is given up
START, SLOWEST = 60.0, 1 << 15  # seconds for a file of no bytes; those of longer ones come at so many a second, or more
MOST_MOVES = 5  # from one address to another
CHUNK = 1 << 16  # bytes


class DownloadError(RuntimeError):
    """A data set could not be downloaded; the message gives the reason of each source, and what else can be done."""


class _SourceError(ValueError):
    """What a source does wrong, in words."""


def download(dataset: str) -> Path:
    """Returns the folder with the four packed files of a data set, after downloading those that are not there yet.

    Files that are there are used if their SHA-256 is right, and downloaded again if not. A download that fails or is
    interrupted leaves whole and right files or nothing. Raises DownloadError if pooch is not installed, if no source
    gives the right bytes, or if the folder cannot be written to.
    """
    source = SOURCES[dataset]
    other_ways = (
        f"Or fetch the files by other means and give their folder: load_mnist(dataset={dataset!r}, folder=...). "
        "load_mnist() with neither full=True nor a folder loads the small sample that comes with portnn"
    )
    pooch = _pooch(other_ways)
    folder = _cache(pooch) / dataset
    addresses = list(source.addresses)
    made: list[Path] = []
    try:
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        for name, sha256 in source.sha256.items():
            save = partial(_save, longest=source.longest(name))
            _fetch(pooch, name, sha256, addresses, folder, save, other_ways)
    except BaseException as error:  # an interruption too leaves nothing
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()  # succeeds only if empty
        if isinstance(error, OSError):
            raise DownloadError(
                f"the cache folder {folder} cannot be used ({error}): set the environment variable PORTNN_DATA to a "
                f"folder that can be written to. {other_ways}"
            ) from error
        raise
    return folder


def _fetch(
    pooch: ModuleType, name: str, sha256: str, addresses: list[str], folder: Path, save: Any, other_ways: str
) -> None:
    """Puts one file into the folder; the address that served it goes to the head of the list, for the next file."""
    import requests
    import urllib3

    reasons = []
    for address in list(addresses):
        try:
            pooch.retrieve(address + name, f"sha256:{sha256}", fname=name, path=folder, downloader=save)
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            reasons.append(f"\n  {address + name}: {_reason(error)}")
        else:
            addresses.remove(address)
            addresses.insert(0, address)
            return
    raise DownloadError(f"{name} could not be downloaded from any source:{''.join(reasons)}\n{other_ways}")


def _save(url: str, output_file: str, pooch: Any, *, longest: int) -> None:
    """Writes what lies at ``url`` to a file: pooch's downloader, but for four things.

    It closes the connection when something fails, gives up a silent server sooner, and takes the bytes as they are
    sent: some servers label a .gz file as an encoding, and then it would arrive unpacked, with another hash. And it
    takes no more than ``longest`` bytes, nor longer than they may take.
    """
    import requests

    limit = START + longest / SLOWEST
    session: Any = requests.Session()
    with session, _Deadline(limit) as deadline:
        target_of = session.get_redirect_target
        session.get_redirect_target = lambda response: None  # requests would read the body that tells of a move, whole
        _watch(session, deadline)
        try:
            _receive(partial(_answer, session, target_of, url), output_file, url.rpartition("/")[2], longest)
        except Exception:
            if not deadline.passed:
                raise
        if deadline.passed:  # the end of a connection may look like the end of a file
            raise _SourceError(f"the whole file, of at most {longest:,} bytes, had not come after {limit:.3g} seconds")


def _receive(ask: Callable[[], Any], output_file: str, name: str, longest: int) -> None:
    with contextlib.closing(ask()) as response:
        size = _announced(response, longest)
        start, count = b"", 0
        with open(output_file, "wb") as file, _progress(size, name) as advance:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                start, count = (start + chunk)[:16], count + len(chunk)
                if not start.startswith(PACKED[: len(start)]):
                    break
                if count > longest:
                    raise _SourceError(f"wrong bytes: more came than the {longest:,} that the file has at most")
                file.write(chunk)
                advance(len(chunk))
    if not start.startswith(PACKED):  # the hash would be wrong too, but say less
        came = f"something that starts with {start!r}" if start else "nothing"
        raise _SourceError(f"wrong bytes: no gzip file came but {came}")


def _answer(session: Any, target_of: Callable[[Any], str | None], url: str) -> Any:
    """The answer at ``url``, or where that has moved to."""
    for _ in range(MOST_MOVES + 1):
        response = session.get(
            url, stream=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}, allow_redirects=False
        )
        try:
            response.raise_for_status()
            target = target_of(response)
            if target is None:
                return response
        except BaseException:
            response.close()
            raise
        response.close()
        url = urljoin(url, target)
    raise _SourceError(f"the server moves from address to address, {MOST_MOVES + 1} times and more")


def _announced(response: Any, longest: int) -> int:
    """The length that the server gives the file; 0 if it gives none."""
    given = response.headers.get("Content-Length")
    if given is None:
        return 0
    lengths = {part.strip() for part in given.split(",")}  # some servers say the same twice
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit()):
        raise _SourceError(f"the server gives the file the length {given!r}, which is no number of bytes")
    if len(length) > 18 or int(length) > longest:
        raise _SourceError(f"the server gives the file {length:.18} bytes, but it has at most {longest:,}")
    return int(length)


class _Deadline:
    """Ends, after ``limit`` seconds, the connections that it was told of: whatever waits for one then fails.

    The timeouts of a socket do not bound the whole: each byte, of the head of an answer too, begins a new one.
    """

    def __init__(self, limit: float):
        self.timer = threading.Timer(limit, self._end)
        self.timer.daemon = True
        self.lock = threading.Lock()
        self.sockets: list[socket.socket] = []
        self.passed = False

    def __enter__(self) -> "_Deadline":
        self.timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.timer.cancel()
        with self.lock:
            for each in self.sockets:
                each.close()
            self.sockets.clear()

    def watch(self, connection: socket.socket) -> None:
        """Takes a second handle of the connection: the first may be given away to an encrypted one."""
        with self.lock:
            self.sockets.append(connection.dup())
            if self.passed:
                _hang_up(self.sockets[-1])

    def _end(self) -> None:
        with self.lock:
            self.passed = True
            for each in self.sockets:
                _hang_up(each)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side may have been quicker
        connection.shutdown(socket.SHUT_RDWR)


def _watch(session: Any, deadline: _Deadline) -> None:
    """Has a session tell the deadline of each connection that it opens, through a proxy too."""
    import requests
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    def watched(kind: Any) -> Any:
        class Connection(kind):
            def _new_conn(self) -> Any:
                made = super()._new_conn()
                deadline.watch(made)
                return made

        return Connection

    class Plain(HTTPConnectionPool):
        ConnectionCls = watched(HTTPConnectionPool.ConnectionCls)

    class Encrypted(HTTPSConnectionPool):
        ConnectionCls = watched(HTTPSConnectionPool.ConnectionCls)

    pools = {"http": Plain, "https": Encrypted}

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
            super().init_poolmanager(*arguments, **named)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
            manager = super().proxy_manager_for(proxy, **named)
            if not proxy.lower().startswith("socks"):  # they open connections of their own kind
                manager.pool_classes_by_scheme = pools
            return manager

    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())


@contextlib.contextmanager
def _progress(size: int, name: str) -> Iterator[Callable[[int], object]]:
    """A progress bar if tqdm is installed: yields the function that is told of each number of bytes."""
    try:
        tqdm = import_module("tqdm.auto").tqdm
    except ImportError:
        yield lambda count: None
        return
    with tqdm(total=size or None, desc=name, unit="B", unit_scale=True) as bar:
        yield bar.update


def _reason(error: Exception) -> str:
    """Why a source failed, in one line."""
    import requests
    import urllib3

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return f"no answer within {TIMEOUT:g} seconds"
    if isinstance(error, _SourceError):
        return str(error)
    if isinstance(error, requests.exceptions.InvalidHeader):
        return f"the head of the answer makes no sense: {error}"
    if isinstance(error, ValueError) and not isinstance(error, requests.RequestException):
        return f"wrong bytes: {error}".partition(". Deleted download")[0]
    # requests wraps the error of urllib3, which wraps the socket's own.
    while inner := [e for e in (getattr(error, "reason", None), *error.args) if isinstance(e, Exception)]:
        error = inner[0]
    return f"the connection failed, {type(error).__name__}: {error}"


def _cache(pooch: ModuleType) -> Path:
    given = os.environ.get("PORTNN_DATA")
    return (Path(given) if given else Path(pooch.os_cache("portnn"))).expanduser().absolute()


def _pooch(other_ways: str) -> ModuleType:
    try:
        import pooch
    except ImportError as error:
        raise DownloadError(
            f"downloading needs pooch, which is not installed: python -m pip install pooch tqdm. {other_ways}"
        ) from error
    return pooch
