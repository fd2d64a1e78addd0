"""``portnn draw`` and ``portnn export``."""

import shutil

import pytest

import portnn as library


@pytest.fixture
def model(trained, tmp_path):
    return shutil.copy(trained, tmp_path / "digits.portnn.safetensors")


@pytest.fixture
def opened(monkeypatch):
    """The addresses that were opened in the browser; ``opened.works = False`` for a machine without one."""

    class Opened(list):
        works = True

    found = Opened()
    monkeypatch.setattr("webbrowser.open", lambda address: found.append(address) or found.works)
    return found


def test_draw_writes_the_page_beside_the_model_and_opens_it(portnn, model, opened, tmp_path):
    status, out, err = portnn("draw", model)
    page = tmp_path / "digits.html"
    assert (status, out, err) == (0, f"written: {page}\n", "")
    assert opened == [page.as_uri()]
    net = library.load(model)
    net.export(str(tmp_path / "same.html"))
    assert page.read_bytes() == (tmp_path / "same.html").read_bytes()


def test_draw_elsewhere_without_opening(portnn, model, opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert portnn("draw", model, "--output", "my.HTML", "--no-open")[0] == 0
    assert (tmp_path / "my.HTML").exists()
    assert opened == []
    opened.works = False
    status, out, _ = portnn("draw", "digits.portnn.safetensors")
    assert status == 0
    assert out.endswith("no browser was found: open the page yourself\n")
    shutil.copy(model, tmp_path / "net.st")
    portnn("draw", "net.st", "--no-open")
    assert (tmp_path / "net.html").exists()


def test_draw_that_fails(fails, model, opened, tmp_path):
    assert "expected a file that ends in .html" in fails("draw", model, "--output", "page.txt", status=2)
    assert "there is no such folder" in fails("draw", model, "--output", tmp_path / "none" / "p.html")
    assert opened == []


def test_export(portnn, fails, model, tmp_path):
    page = tmp_path / "page.html"
    assert portnn("export", model, page) == (0, f"written: {page}\n", "")
    assert page.stat().st_size > 10_000
    assert "export writes what the path's ending says" in fails("export", model, tmp_path / "page.docx")
    assert "there is no such folder" in fails("export", model, tmp_path / "none" / "p.html")
    assert not list(tmp_path.glob("*.docx"))
    folder = tmp_path / "folder.html"
    folder.mkdir()
    assert str(folder) in fails("export", model, folder)


def test_a_network_that_has_no_counterpart(fails, tmp_path):
    net = library.Network()
    net.save(tmp_path / "empty")
    assert "no layers" in fails("export", tmp_path / "empty", tmp_path / "page.html")
