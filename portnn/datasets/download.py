"""Fetches the files of a data set into a cache folder, from the first source that gives the right bytes.

pooch compares the hashes, downloads beside the final name and moves the whole file there; it knows no second source, so
the loop over the sources is here. The folder is ``$PORTNN_DATA``, or else the platform's place for caches.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from portnn.datasets.idx import PACKED
from portnn.datasets.sources import SOURCES

TIMEOUT = 20.0  # seconds without an answer, or without a byte, after which a source is given up
CHUNK = 1 << 16  # bytes


class DownloadError(RuntimeError):
    """A data set could not be downloaded; the message gives the reason of each source, and what else can be done."""


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
            _fetch(pooch, name, sha256, addresses, folder, other_ways)
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


def _fetch(pooch: ModuleType, name: str, sha256: str, addresses: list[str], folder: Path, other_ways: str) -> None:
    """Puts one file into the folder; the address that served it goes to the head of the list, for the next file."""
    import requests
    import urllib3

    reasons = []
    for address in list(addresses):
        try:
            pooch.retrieve(address + name, f"sha256:{sha256}", fname=name, path=folder, downloader=_save)
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            reasons.append(f"\n  {address + name}: {_reason(error)}")
        else:
            addresses.remove(address)
            addresses.insert(0, address)
            return
    raise DownloadError(f"{name} could not be downloaded from any source:{''.join(reasons)}\n{other_ways}")


def _save(url: str, output_file: str, pooch: Any) -> None:
    """Writes what lies at ``url`` to a file: pooch's downloader, but for three things.

    It closes the connection when something fails, gives up a silent server sooner, and takes the bytes as they are
    sent: some servers label a .gz file as an encoding, and then it would arrive unpacked, with another hash.
    """
    import requests

    with requests.get(url, stream=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}) as response:
        response.raise_for_status()
        size = int(response.headers.get("Content-Length", 0))
        with open(output_file, "wb") as file, _progress(size, url.rpartition("/")[2]) as advance:
            start = b""
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                start = start or chunk[:16]
                file.write(chunk)
                advance(len(chunk))
    if not start.startswith(PACKED):  # the hash would be wrong too, but say less
        came = f"something that starts with {start!r}" if start else "nothing"
        raise ValueError(f"no gzip file came but {came}")


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
            f'downloading needs pooch, which is not installed: pip install "portnn[data]". {other_ways}'
        ) from error
    return pooch
