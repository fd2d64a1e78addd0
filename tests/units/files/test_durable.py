"""Saving: whatever fails, and whenever the process dies, the file is the complete old one or the complete new one."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import portnn
from documents import ROOT
from portnn import FCLayer, Network
from portnn.files import durable
from portnn.files.durable import TEMPORARY

FAILING = ["write", "fsync", "replace", "open", "ftruncate", "fchmod"]
KILLS = 200


def network(seed):
    return Network([FCLayer(60, 40)], seed=seed)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("call", FAILING)
def test_every_call_that_fails(call, error, tmp_path, monkeypatch):
    """The n-th call of a system function fails, for every n until a save succeeds."""
    path, (old, new) = tmp_path / "net", (network(1), network(2))
    monkeypatch.setattr(durable, "CHUNK", 1 << 10)
    old.save(path)
    os.chmod(path, 0o640)
    before, codes = path.read_bytes(), []
    original = getattr(os, call)
    for n in range(100):
        count = [0]

        def failing(*arguments, count=count, n=n, **options):
            count[0] += 1
            if count[0] == n + 1:
                raise OSError(error, os.strerror(error))
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                new.save(path)
                break
            except OSError as caught:
                codes.append(caught.errno)
        whole = path.read_bytes() == before or np.array_equal(
            portnn.load(path).parameters["0.weights"], new.parameters["0.weights"]
        )
        assert whole
        assert names(tmp_path) == ["net"]
        path.write_bytes(before)
    assert len(codes) >= (10 if call == "write" else 1)
    assert set(codes) == {error}
    assert np.array_equal(portnn.load(path).parameters["0.weights"], new.parameters["0.weights"])


def test_a_short_write_goes_on(tmp_path, monkeypatch):
    original = os.write
    monkeypatch.setattr(os, "write", lambda file, data: original(file, data[: max(1, len(data) // 3)]))
    network(1).save(tmp_path / "net")
    assert np.array_equal(portnn.load(tmp_path / "net").parameters["0.weights"], network(1).parameters["0.weights"])


def test_the_order_of_calls(tmp_path, monkeypatch):
    """The data is synced before the rename, and the rename before the call returns."""
    seen = []
    for call in ("write", "fsync", "replace"):
        original = getattr(os, call)

        def noted(*arguments, call=call, original=original):
            seen.append(call)
            return original(*arguments)

        monkeypatch.setattr(os, call, noted)
    network(1).save(tmp_path / "net")
    assert [*dict.fromkeys(seen[:-1]), seen[-1]] == ["write", "fsync", "replace", "fsync"]


def test_a_full_disk(tmp_path):
    """On a small file system in memory, if one can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        small = Network([FCLayer(10, 10)], seed=1)
        small.save(disk / "net")
        with pytest.raises(OSError, match="No space left"):
            Network([FCLayer(200, 200)], seed=1).save(disk / "net")
        assert names(disk) == ["net"]
        assert np.array_equal(portnn.load(disk / "net").parameters["0.weights"], small.parameters["0.weights"])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


PROGRAM = """
import sys
from portnn import FCLayer, Network
nets = [Network([FCLayer(400, 300)], seed=seed) for seed in (1, 2)]
nets[0].save(sys.argv[1])
print("ready", flush=True)
while True:
    for net in nets:
        net.save(sys.argv[1])
"""


def killed(path, delay):
    """Kills a process that saves in a loop, after ``delay`` seconds."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "backends")])}
    with subprocess.Popen([sys.executable, "-c", PROGRAM, path], env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("times", [2, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_a_process_killed_at_random_moments(times, tmp_path):
    rng = np.random.default_rng(times)
    expected = [Network([FCLayer(400, 300)], seed=seed).parameters["0.weights"] for seed in (1, 2)]
    for _ in range(times):
        killed(str(tmp_path / "net"), rng.uniform(0.0, 0.03))
        found = portnn.load(tmp_path / "net").parameters["0.weights"]
        assert any(np.array_equal(found, each) for each in expected)
        assert set(names(tmp_path)) <= {"net", TEMPORARY}
    network(1).save(tmp_path / "other")
    assert names(tmp_path) == ["net", "other"]


def test_what_a_crash_left_behind_goes_with_the_next_save(tmp_path):
    (tmp_path / TEMPORARY).write_bytes(b"x" * 1_000_000)
    os.chmod(tmp_path / TEMPORARY, 0o400)
    network(1).save(tmp_path / "net")
    assert names(tmp_path) == ["net"]
    portnn.load(tmp_path / "net")


def test_an_interrupted_save_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(file):
        raise KeyboardInterrupt

    network(1).save(tmp_path / "net")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        network(2).save(tmp_path / "net")
    assert names(tmp_path) == ["net"]


def test_saves_side_by_side(tmp_path):
    """Several threads save into one folder: each file is complete, and no save uses another's temporary file."""
    nets, errors = [network(seed) for seed in range(4)], []

    def saves(i):
        try:
            for _ in range(20):
                nets[i].save(tmp_path / f"net {i % 2}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=saves, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names(tmp_path) == ["net 0", "net 1"]
    for i in range(2):
        found = portnn.load(tmp_path / f"net {i}").parameters["0.weights"]
        assert any(np.array_equal(found, nets[k].parameters["0.weights"]) for k in (i, i + 2))


def test_permissions_are_kept(tmp_path):
    path = tmp_path / "net"
    network(1).save(path)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    for mode in (0o600, 0o664, 0o444):
        os.chmod(path, mode)
        network(2).save(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_symbolic_links_are_followed(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "net")
    (tmp_path / "link to link").symlink_to("link")
    network(1).save(tmp_path / "link to link")
    network(2).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "link to link").is_symlink()
    assert names(tmp_path / "far") == ["net"]
    for name in ("link", "link to link", "far/net"):
        assert np.array_equal(portnn.load(tmp_path / name).parameters["0.weights"], network(2).parameters["0.weights"])


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="no ordinary file"):
        network(1).save(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        network(1).save(tmp_path / "folder")
    assert names(tmp_path) == ["folder", "pipe"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_link_in_place_of_the_temporary_file_leads_nowhere(tmp_path):
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / TEMPORARY).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"):
        network(1).save(tmp_path / "net")
    assert (tmp_path / "victim").read_bytes() == b"mine"


def test_a_network_that_cannot_be_saved_leaves_the_old_file(tmp_path):
    net = network(1)
    net.save(tmp_path / "net")
    before = (tmp_path / "net").read_bytes()
    net.layers[0].buffers["words"] = np.array(["a"])
    with pytest.raises(TypeError, match=r"buffers/0.words has dtype <U1"):
        net.save(tmp_path / "net")
    assert (tmp_path / "net").read_bytes() == before
    assert names(tmp_path) == ["net"]
