"""Downloads the files of a data set into a cache folder, from the first source that serves the right bytes.

pooch compares the hashes, downloads to a temporary name and moves the complete file; it takes a single source, so the
loop over the sources is here. No source can block a program for ever, whatever the server does: each file has a known
maximum length, and its download a time limit. The folder is ``$PORTNN_DATA``, or else the platform's cache folder.
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

TIMEOUT = 20.0  # seconds without an answer, or without a byte, after which a source has failed
START, SLOWEST = 60.0, 1 << 15  # seconds for an empty file, and the least bytes per second for longer ones
MOST_MOVES = 5  # redirects, at most
CHUNK = 1 << 16  # bytes


class DownloadError(RuntimeError):
    """A data set could not be downloaded; the message gives each source's reason, and the alternatives."""


class _SourceError(ValueError):
    """A source failed; the message says how."""


def download(dataset: str) -> Path:
    """Returns the folder with the four gzip files of a data set, after downloading those that are missing.

    Existing files are used if their SHA-256 is right, and downloaded again if not. A download that fails or is
    interrupted leaves only complete and correct files. Raises DownloadError if pooch is not installed, if no source
    serves the right bytes, or if the folder cannot be written to.
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
    except BaseException as error:  # an interruption leaves nothing either
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
    """Downloads one file into the folder; the address that served it moves to the front of the list."""
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
    """Writes the content of ``url`` to a file: pooch's downloader, with four differences.

    It closes the connection when something fails, has a shorter timeout, and takes the bytes as they are sent: some
    servers declare a .gz file as an encoding, and then it would arrive unpacked, with another hash. And it accepts at
    most ``longest`` bytes, within the time limit for that many.
    """
    import requests

    limit = START + longest / SLOWEST
    session: Any = requests.Session()
    with session, _Deadline(limit) as deadline:
        target_of = session.get_redirect_target
        session.get_redirect_target = lambda response: None  # requests would read the whole body of a redirect
        _watch(session, deadline)
        try:
            _receive(partial(_answer, session, target_of, url), output_file, url.rpartition("/")[2], longest)
        except Exception:
            if not deadline.passed:
                raise
        if deadline.passed:  # the end of a connection may look like the end of a file
            raise _SourceError(f"the whole file, of at most {longest:,} bytes, did not arrive in {limit:.3g} seconds")


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
                    raise _SourceError(f"wrong bytes: more arrived than the {longest:,} that the file has at most")
                file.write(chunk)
                advance(len(chunk))
    if not start.startswith(PACKED):  # the hash would be wrong too, but its message would say less
        came = f"something that starts with {start!r}" if start else "nothing"
        raise _SourceError(f"wrong bytes: expected a gzip file, got {came}")


def _answer(session: Any, target_of: Callable[[Any], str | None], url: str) -> Any:
    """The response at ``url``, or at the address that it redirects to."""
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
    raise _SourceError(f"the server redirects more than {MOST_MOVES} times")


def _announced(response: Any, longest: int) -> int:
    """The length that the server declares; 0 if it declares none."""
    given = response.headers.get("Content-Length")
    if given is None:
        return 0
    lengths = {part.strip() for part in given.split(",")}  # some servers send the header twice
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit()):
        raise _SourceError(f"the server declares the length {given!r}, which is not a number of bytes")
    if len(length) > 18 or int(length) > longest:
        raise _SourceError(f"the server declares {length:.18} bytes, but the file has at most {longest:,}")
    return int(length)


class _Deadline:
    """Closes, after ``limit`` seconds, the connections that it watches, so that code waiting for one fails.

    A socket's timeout does not bound the whole download: each byte, also of the headers, starts it again.
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
        """Keeps a duplicate of the socket: TLS may take over the original."""
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
    with contextlib.suppress(OSError):  # the other side may have closed it already
        connection.shutdown(socket.SHUT_RDWR)


def _watch(session: Any, deadline: _Deadline) -> None:
    """Makes the deadline watch each connection that a session opens, also through a proxy."""
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
    """Shows a progress bar if tqdm is installed: yields the function to call with each number of bytes received."""
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
        return f"the headers of the response are invalid: {error}"
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
