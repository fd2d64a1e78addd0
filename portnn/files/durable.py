"""Writing a file so that a crash at any instant leaves the old one or the new one, whole.

The bytes go into a temporary file in the same folder, which is flushed to the disk and then renamed. There is one name
for temporary files in a folder, and one save at a time holds its lock: so what an earlier crash left behind is
overwritten by the next save, and no save can touch the file of another.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from portnn import checks

try:
    import fcntl
except ImportError:  # Windows, which has neither these locks nor renames open files
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".portnn.saving"
CHUNK = 1 << 20  # bytes written at a time


def replace(path: Any, parts: Iterable[bytes | memoryview]) -> None:
    """Makes ``parts``, one after the other, the contents of the file at ``path``.

    A symbolic link stays, and the file that it leads to is replaced; permissions are kept. OSError where that fails:
    the old file is as it was then (or, if only the last flush of the folder failed, the new one is in its place).
    """
    target = os.path.realpath(checks.path("path", path))
    temporary = os.path.join(_folder(target), TEMPORARY)
    old = _old(target)
    with _locked(temporary) as file:
        try:
            _fill(file, parts)
            if old is not None:
                _keep_rights(file, old)
            os.fsync(file)
            if fcntl is not None:
                os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                if _is_at(file, temporary):
                    os.unlink(temporary)
            raise
    if fcntl is None:
        os.replace(temporary, target)
    _flush_folder(os.path.dirname(target))


def check(path: Any, *, name: bool = True) -> None:
    """OSError for what can be known before ``replace`` is called; without ``name``, of the folder alone."""
    target = os.path.realpath(checks.path("path", path))
    folder = _folder(target)
    if name:
        _old(target)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "this folder cannot be written to", folder)


def check_appending(path: Any) -> None:
    """OSError for what can be known before lines are appended to a file, which may be a device or a pipe too."""
    target = os.path.realpath(checks.path("path", path))
    _folder(target)
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, "there is a folder of this name", target)
    there = os.path.exists(target)
    if not os.access(target if there else os.path.dirname(target), os.W_OK):
        what = "file" if there else "folder"
        raise PermissionError(errno.EACCES, f"this {what} cannot be written to", target)


def _folder(target: str) -> str:
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "there is no such folder; create it first", folder)
    return folder


def _old(target: str) -> os.stat_result | None:
    """The file to be replaced; an error for what is no file: renaming would do away with a device or a pipe."""
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "there is a folder of this name", target)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "this is no ordinary file, and would be replaced by one", target)
    return found


@contextmanager
def _locked(temporary: str) -> Iterator[int]:
    """The temporary file, open, held by this save alone."""
    while True:
        file = _opened(temporary)
        try:
            _lock(file)
            if _is_at(file, temporary):  # else another save has renamed it meanwhile
                yield file
                return
        finally:
            os.close(file)


def _opened(temporary: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.open(temporary, flags, 0o666)
    except PermissionError:  # left behind by a save over a file that was read-only
        os.unlink(temporary)
        return os.open(temporary, flags, 0o666)


def _lock(file: int) -> None:
    """Waits until no other save uses the temporary file. A process that ends, however it does, gives the lock back."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)


def _is_at(file: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _fill(file: int, parts: Iterable[bytes | memoryview]) -> None:
    os.ftruncate(file, 0)
    for part in parts:
        view = memoryview(part).cast("B")
        while len(view):
            view = view[os.write(file, view[:CHUNK]) :]


def _keep_rights(file: int, old: os.stat_result) -> None:
    if hasattr(os, "fchown"):
        with suppress(PermissionError):  # only the superuser may give files away
            os.fchown(file, old.st_uid, old.st_gid)
        os.fchmod(file, stat.S_IMODE(old.st_mode))


def _flush_folder(folder: str) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
