"""Paths of checkpoints: placeholders, symbolic links, and paths given as bytes."""

import os

import numpy as np
import pytest

from portnn import SGD, Checkpoint, FCLayer, Network, load


def fitted(epochs, *calls, **options):
    net = Network([FCLayer(2, 2)], seed=1)
    net.use("mse", optimizer=SGD(0.1))
    net.fit(np.ones((2, 2)), np.ones((2, 2)), epochs=epochs, verbose=0, callbacks=calls, **options)
    return net


BAD = ["a}}b", "a{{b", "{{epoch}}", "a}b", "a{", "{}", "{0}", "{epochs}", "{epoch!r}", "{epoch.real}", "{epoch[0]}"]
BAD += ["{epoch:{step}}", "{epoch:s}"]


@pytest.mark.parametrize("path", BAD)
def test_other_braces_are_refused(path, tmp_path):
    with pytest.raises(ValueError, match=r"a path may contain \{epoch\} and \{step\} only.*got"):
        Checkpoint(path)
    with pytest.raises(ValueError, match=r"resume may contain \{epoch\} and \{step\} only.*got"):
        fitted(1, resume=tmp_path / path)


def test_a_link_that_leads_nowhere_yet_is_written_through(tmp_path):
    os.symlink(tmp_path / "run-2", tmp_path / "latest")
    os.symlink(tmp_path / "nothing", tmp_path / "run-1")
    more = lambda: Checkpoint(tmp_path / "latest")  # noqa: E731
    assert fitted(1, more(), resume=tmp_path / "latest").step == 2
    assert fitted(2, more(), resume=tmp_path / "latest").step == 4
    assert (tmp_path / "latest").is_symlink()
    assert load(tmp_path / "run-2").step == 4
    assert fitted(3, more(), resume=tmp_path / "run-{epoch}").step == 6


def test_paths_as_bytes(tmp_path):
    path = tmp_path / "run"
    fitted(1, Checkpoint(path))
    assert fitted(2, Checkpoint(path), resume=os.fsencode(path)).step == 4
    assert load(os.fsencode(path)).step == 4
    with pytest.raises(TypeError, match=r"path must be a file's path, got b'run'"):
        Checkpoint(b"run")
