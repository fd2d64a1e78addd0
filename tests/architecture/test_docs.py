"""The documentation that Sphinx builds: it builds without a network, every cell runs, links lead somewhere, search finds.

The slow tests look at a build: the one in the folder that PORTNN_DOCS names, else their own.
"""

import ast
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

import documentation
import pages
import portnn
import portnn.layers
import portnn.plot
from documents import ROOT, run

DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
SOURCES = [path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts]
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="a source distribution may lack the documentation")


def name(path):
    return path.relative_to(ROOT).as_posix()


# -- the sources -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [n for n in portnn.layers.__all__ if n != "Layer"])
def test_every_layer_has_a_page_that_shows_its_code_and_measures_it(layer):
    shown = [path for path in (DOCS / "understand").glob("*.md") if f":pyobject: {layer}.backward" in path.read_text()]
    assert shown, f"no page under docs/understand/ shows {layer}.backward"
    for path in shown:
        text = path.read_text()
        assert f":pyobject: {layer}.forward" in text
        assert re.search(rf"gradcheck\((portnn\.)?{layer}\(|gradcheck\(net", text), (
            f"{path.name} does not check {layer}"
        )


def listed(page):
    """The names that a page of the reference shows."""
    return re.findall(r"^\.\. auto(?:class|function|data):: ([\w.]+)", page.read_text(), re.MULTILINE)


def test_the_reference_shows_every_public_name_once():
    shown = [name for page in sorted((DOCS / "reference").glob("*.md")) for name in listed(page)]
    assert len(shown) == len(set(shown))
    assert sorted(set(portnn.__all__) - set(shown) - {"plot"}) == []
    assert {f"portnn.plot.{name}" for name in portnn.plot.__all__} <= set(shown)


def literal_blocks(page):
    """The blocks of Python that are not cells, but those marked as not to be run."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [p for p in SOURCES if p.parent != DOCS and literal_blocks(p)], ids=name)
def test_blocks_that_are_no_cells_are_few_and_correct_python(page):
    """Such a block needs a GPU, or stands for the reader's own code: everything else is a cell, and runs."""
    for block in literal_blocks(page):
        ast.parse(block)
        assert 'backend="gpu"' in block or "Your" in block, block


def test_the_first_program_runs(tmp_path):
    (block,) = literal_blocks(DOCS / "index.md")
    done = run("-c", block, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(re.findall(r"error=(\S+)", done.stdout)[-1]) < 0.01


# -- docstrings as reStructuredText --------------------------------------------------------------------------------------------


def extension(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    pytest.importorskip("sphinx", reason="Sphinx is not installed")
    spec.loader.exec_module(module)
    return module


def plain(text):
    return extension("plain_docstrings").plain(text.split("\n"), "mse")


def test_docstrings_become_text_formulas_and_examples():
    assert plain("The mean of |Y* - Y|, a_ b_c.") == [r"The mean of \|Y\* - Y\|, a\_ b_c."]
    assert plain("See ``mae``, ``mse``, ``x``.") == ["See :py:obj:`mae <portnn.mae>`, ``mse``, ``x``."]
    formula = ["A.", "", ".. code-block:: text", "", "    Y*  = |X|", "    Z", "", "B*."]
    assert plain("A.\n\n    Y*  = |X|\n    Z\n\nB*.") == [*formula[:-1], r"B\*."]
    assert plain(">>> a * b\n    4\n\nB*") == [">>> a * b", "    4", "", r"B\*"]


# -- the kernels' ports --------------------------------------------------------------------------------------------------------


def test_kernels_get_free_ports_that_the_system_gives_to_nobody_else(monkeypatch):
    pytest.importorskip("jupyter_client", reason="jupyter_client is not installed")
    module = extension("kernel_ports")
    local, process = "127.0.0.1", 7
    monkeypatch.setattr(module.os, "getpid", lambda: process)
    with socket.socket() as other:
        taken = module.FIRST + 7 * module.EACH + 1
        other.bind((local, taken))
        cache = module.OwnPorts()
        ports = [cache.find_available_port(local) for _ in range(5)]
    assert len(set(ports)) == 5
    assert taken not in ports
    assert max(ports) < 32_768
    process = 8
    assert not set(ports) & {cache.find_available_port(local) for _ in range(5)}
    process = 7
    for _ in range(module.EACH - 6):
        cache.find_available_port(local)
    with pytest.raises(RuntimeError, match="no port from 10700 to 10799 is free"):
        [cache.find_available_port(local) for _ in range(2)]


# -- notebooks -------------------------------------------------------------------------------------------------------------


def cells(notebook):
    return json.loads(notebook.read_text())["cells"]


def code_of(notebook):
    return ["".join(cell["source"]) for cell in cells(notebook) if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_a_notebook_opens_in_colab_and_installs_only_there(notebook):
    (first, *_), code = cells(notebook), code_of(notebook)
    repository = re.search(r'"GITHUB_REPOSITORY", "([\w/-]+)"', (DOCS / "conf.py").read_text())[1]
    assert f"https://colab.research.google.com/github/{repository}/blob/main/{name(notebook)})" in "".join(
        first["source"]
    )
    assert re.match(r'import sys\n\nif "google.colab" in sys.modules:.*\n    %pip install .*portnn\[', code[0])
    assert f"git+https://github.com/{repository}" in code[0]
    for block in code:
        ast.parse(re.sub(r"^( *)%.*", r"\1pass", block, flags=re.MULTILINE))
    assert not any(cell.get("outputs") for cell in cells(notebook)), "clear the outputs: they are computed anew"


def run_notebook(path, folder, **replaced):
    """Runs a notebook in ``folder``, with some texts of its code replaced; returns what its cells printed."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for old, new in replaced.items():
            cell.source = re.sub(rf"^{old} = .*", f"{old} = {new!r}", cell.source, flags=re.MULTILINE)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.fixture
def kernels(monkeypatch, tmp_path):
    """Notebooks run on this checkout, with settings of nobody's."""
    path = [str(ROOT), str(ROOT / "backends"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (folder := tmp_path / "here").mkdir()
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of nbclient and what it uses
def test_the_notebook_of_digits_runs(kernels):
    printed = run_notebook(DOCS / "notebooks" / "digits.ipynb", kernels)
    assert float(re.search(r"([\d.]+)% of 1000 test digits", printed)[1]) > 85
    assert "gradcheck passed" in printed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_for_the_gpu_runs_on_the_cpu(kernels):
    printed = run_notebook(DOCS / "notebooks" / "gpu.ipynb", kernels, BACKEND="cpu")
    assert float(re.search(r"'accuracy': ([\d.]+)", printed)[1]) > 0.9
    assert re.search(r"cpu: [\d.]+ s for 5000 digits", printed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif("gpu" in portnn.available_backends(), reason="there is a GPU")
def test_the_notebook_for_the_gpu_says_that_there_is_none(kernels):
    with pytest.raises(Exception, match=r"There is no GPU here that portnn can use"):
        run_notebook(DOCS / "notebooks" / "gpu.ipynb", kernels)


# -- the build ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the built pages."""
    if given := os.environ.get("PORTNN_DOCS"):
        folder = (ROOT / given).resolve()
        assert folder.is_dir(), f"PORTNN_DOCS={given} is no folder"
        return folder
    for module in ("myst_nb", "sphinx_copybutton", "pydata_sphinx_theme"):
        pytest.importorskip(module, reason='the extra "docs" is not installed')
    folder = tmp_path_factory.mktemp("docs") / "html"
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "build_docs.py"), str(folder)],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def built_pages(folder):
    found = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    assert len(found) > 50
    return found


@pytest.mark.slow
def test_every_internal_link_leads_somewhere(built):
    dead = {path.relative_to(built).as_posix(): documentation.dead(path, built) for path in built_pages(built)}
    assert {page: links for page, links in dead.items() if links} == {}
    assert sum(len(documentation.read(path).links) for path in built_pages(built)) > 2000


@pytest.mark.slow
def test_dead_links_of_pages_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="x"></p><a href="#x">1</a><a href="#y">2</a><a href="b.html">3</a><img src="c.png">'
    )
    assert documentation.dead(tmp_path / "a.html", tmp_path) == ["#y", "b.html", "c.png"]


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(built):
    for path in built_pages(built):
        assert not [target for target in documentation.read(path).loaded if documentation.is_outside(target)], path
    styles = "".join(path.read_text() for path in built.glob("_static/**/*.css"))
    assert not re.findall(r"(?:@import|url\()\s*[\"']?https?:", styles)
    assert (built / "_static" / "mathjax" / "tex-svg.js").stat().st_size > 1_000_000


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(built):
    anchors = set().union(
        *(documentation.read(path).anchors for path in built_pages(built) if path.parent.name == "reference")
    )
    assert {f"portnn.{name}" for name in portnn.__all__ if name != "plot"} <= anchors


@pytest.mark.slow
def test_every_page_with_cells_was_run(built):
    """A cell that fails is a warning, and so an error, of the build. Here: were they run at all?"""
    for source in SOURCES:
        count = len(re.findall(r"^```\{code-cell\}", source.read_text(), re.MULTILINE))
        page = built / source.relative_to(DOCS).with_suffix(".html")
        if count:
            html = page.read_text()
            assert len(re.findall(r'<div class="cell[ "]', html)) == count, source
            assert 'class="cell_output' in html
            assert "Traceback (most recent call last)" not in html


# -- in a browser --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if reason := pages.why_no_browser():
        pytest.skip(reason)
    with pages.browser(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def site(built):
    """The address of the pages, served on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def wait(browser, script, *arguments):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(f"return {script}", *arguments))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "page"),
    [("dropout", "understand/dropout.html"), ("published", "erratum.html"), ("to_categorical", "reference/data.html")],
)
def test_search_finds(browser, site, query, page):
    """Results are listed one after the other, with a short text of each page that is fetched."""
    browser.get(f"{site}/search.html?q={query}")
    found = "[...document.querySelectorAll('#search-results li a')].some(a => a.href.includes(arguments[0]))"
    wait(browser, found, page)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["index", "understand/batch_norm", "tutorial/pictures", "reference/layers", "api"])
@pytest.mark.parametrize("width", [320, 1280])
def test_pages_fit_the_screen_and_fetch_nothing_from_elsewhere(browser, site, page, width):
    pages.size(browser, width, 900)
    browser.get(f"{site}/{page}.html")
    if page.startswith("understand"):
        wait(browser, "document.querySelectorAll('mjx-container svg').length > 5")
        assert browser.execute_script("return document.querySelectorAll('mjx-merror, [data-mjx-error]').length") == 0
    wait(browser, "document.readyState === 'complete'")
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    urls = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert urls
    assert [url for url in urls if not url.startswith((site, "data:", "blob:"))] == []


@pytest.mark.slow
def test_headings_of_tables_are_shown_where_there_are_any(browser, site):
    browser.get(f"{site}/notebooks/digits.html")
    heights = "return [...document.querySelectorAll('table.portnn thead')].map(head => head.offsetHeight)"
    shown = browser.execute_script(heights)
    assert shown
    assert min(shown) > 0
    browser.get(f"{site}/understand/index.html")  # its table has none
    assert browser.execute_script(heights.replace("table.portnn", "table.table")) == [0]


@pytest.mark.slow
def test_no_formula_is_wrong(browser, site):
    """MathJax marks what it cannot read, which no builder notices."""
    pages.size(browser, 1280, 900)
    for source in sorted((DOCS / "understand").glob("*.md")):
        if source.stem == "index":
            continue
        browser.get(f"{site}/understand/{source.stem}.html")
        count = len(re.findall(r"\$\$.*?\$\$", source.read_text(), re.DOTALL))
        wait(browser, f"document.querySelectorAll('mjx-container svg').length >= {count}")
        wrong = browser.execute_script(
            "return [...document.querySelectorAll('[data-mjx-error]')].map(e => e.getAttribute('data-mjx-error'))"
        )
        assert wrong == [], source.name
