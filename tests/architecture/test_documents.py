"""The documentation: links resolve, the code on its pages runs, what it names exists, and the issue forms are valid."""

import ast
import inspect
import re
import shlex
from functools import cache

import pytest

import portnn
from cases import ACTIVATIONS, LOSSES, OPTIMIZERS, SCHEDULES
from documents import ROOT, run

TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
PAGES = [
    *(ROOT / name for name in TOP),
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts),
    *sorted(ROOT.glob(".github/**/*.md")),
]
WORKLOADS = re.findall(r'^    "(\w+)": Workload\(', (ROOT / "benchmarks" / "workloads.py").read_text(), re.MULTILINE)
DEVELOPMENT = ROOT / "docs" / "development.md"
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
pytestmark = pytest.mark.skipif(
    not (ROOT / ".github").is_dir(), reason="a source distribution lacks some of the files that the pages link to"
)


def name(path):
    return path.relative_to(ROOT).as_posix()


def prose(text):
    """A page without code blocks and inline code, where text that looks like a link is not one."""
    return re.sub(r"`[^`\n]+`", "", re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL))


@cache
def anchors(path):
    """The anchors of a page's headings, as GitHub generates them."""
    text = re.sub(r"^( *)```.*?^\1```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page, root=ROOT):
    """The broken relative links of a page, both inline and reference links."""
    text = prose(page.read_text())
    targets = re.findall(r"\]\(<?([^)\s>]+)>?(?: +[^)]*)?\)", text) + re.findall(
        r"^\[[^\]]+\]: *(\S+)", text, re.MULTILINE
    )
    dead = []
    for target in targets:
        if re.match(r"[a-z][a-z0-9+.-]*:", target):  # https, mailto
            continue
        file, _, fragment = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        inside = place == root or root in place.parents
        if not (inside and place.exists()) or (fragment and fragment not in anchors(place)):
            dead.append(target)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page):
    assert dead_links(page) == []


def test_dead_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A b\n[x](no.md) [y](#a-b) [z](#c) `[q](code.md)` [w](https://example.org)\n\n[r]: gone.md\n")
    assert dead_links(page, tmp_path) == ["no.md", "#c", "gone.md"]


NUMBERS = "no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


def test_the_readme_counts_right():
    text = " ".join((ROOT / "README.md").read_text().split()).lower()
    losses = {
        name.split(",")[0].lower().replace("_", "") for name in LOSSES
    }  # a loss function and its class count once
    optimizers = {name.split(",")[0] for name in OPTIMIZERS}
    schedules = {name.split(",")[0] for name in SCHEDULES}
    for what, found in (
        ("activations", ACTIVATIONS),
        ("losses", losses),
        ("optimizers", optimizers),
        ("learning-rate schedules", schedules),
        ("programs", list((ROOT / "examples").glob("*.py"))),
    ):
        said = f"{NUMBERS.split()[len(found)]} {what}"
        assert said in text, f"README.md does not say: {said}"


# -- CONTRIBUTING.md -------------------------------------------------------------------------------------------------------


def test_the_guide_names_files_and_tests_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    folders = "portnn|backends|tests|tools|docs|benchmarks|examples"
    files = set(re.findall(rf"`((?:{folders})/[\w./]+)`", text)) - {"portnn/layers/yours.py"}
    assert len(files) > 20
    assert sorted(file for file in files if not (ROOT / file).exists()) == []
    there = re.findall(rf"`(\w+)`(?: in| of)?\s+\(?`((?:{folders})/[\w./]+\.py)`", text)
    assert len(there) > 12
    assert [pair for pair in there if not re.search(rf"\b{pair[0]}\b", (ROOT / pair[1]).read_text())] == []
    rows = re.findall(r"^\| (?:`(test_\w+\.py)`: )(.*?) \|", text, re.MULTILINE)
    assert len(rows) > 12
    for file, named in rows:
        (path,) = ROOT.glob(f"tests/**/{file}")
        for test in re.findall(r"`(test_\w+)", named):
            assert f"def {test}(" in path.read_text(), f"{file} has no {test}"


# -- docs/development.md ---------------------------------------------------------------------------------------------------


def blocks(page, language):
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def test_the_code_of_the_development_page_runs_and_prints_what_is_said(tmp_path):
    path = f"import sys; sys.path.append({str(ROOT / 'tests' / 'support')!r})\n"
    done = run("-c", path + "\n".join(blocks(DEVELOPMENT, "python")), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
    for shown in blocks(DEVELOPMENT, "text"):
        assert shown in done.stdout
    said = re.findall(r"\bIt prints `([^`]+)`", DEVELOPMENT.read_text())
    assert len(said) == 3
    for line in said:
        assert line in done.stdout.splitlines()
    assert done.stdout.count("\nlayer 2 (Gain()): ") == 2
    assert re.search(r"ncalls +tottime", done.stdout)


def test_the_diagnoses_that_are_explained_exist():
    table = DEVELOPMENT.read_text().partition("| the diagnosis says |")[2].partition("\n\n")[0]
    explained = [words for row in table.splitlines()[2:] for words in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(explained) > 12
    trees = [ast.parse(path.read_text()) for path in (ROOT / "portnn" / "testing" / "gradcheck").glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert [words for words in explained if not any(words in text for text in texts)] == []


def commands():
    """Each shell command on the page that names a file of the checkout: its words, and that file."""
    lines = [line for block in blocks(DEVELOPMENT, "bash") for line in block.splitlines()]
    lines += re.findall(r"`((?:python|bash) [^`\n]+)`", DEVELOPMENT.read_text())
    for command in [part for line in lines for part in line.split("&&")]:
        words = shlex.split(command, comments=True)
        for word in words:
            if re.match(r"(benchmarks|tests|tools|examples|\.ci)/", word):
                yield words, word


def test_the_commands_name_files_and_options_that_exist():
    found = list(commands())
    assert {"benchmarks/profile_step.py", "benchmarks/before_after.py", ".ci/run"} <= {file for _, file in found}
    for words, file in found:
        assert (ROOT / file).is_file(), file
        for option in [word for word in words if word.startswith("--")]:
            assert f'"{option}"' in (ROOT / file).read_text(), f"{file} has no {option}"
        if file in ("benchmarks/profile_step.py", "benchmarks/compare.py", "benchmarks/before_after.py"):
            work = [word for word in words[words.index(file) + 1 :] if re.fullmatch(r"[a-z]\w*", word)]
            assert set(work) <= {*WORKLOADS, "predict"}


def test_networks_are_passed_on_as_the_security_page_says(tmp_path):
    (code,) = blocks(ROOT / "SECURITY.md", "python")
    before = "import numpy as np, portnn\nnet = portnn.Network([portnn.FCLayer(2, 3)], seed=1)\n"
    saving, loading = code.split("\n\n")
    change = "old = net.layers[0].weights.copy()\nnet.layers[0].weights = old * 0\n"
    after = "assert np.array_equal(net.layers[0].weights, old) and old.any()\n"
    done = run("-c", f"{before}{saving}\n{change}{loading}\n{after}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_code_of_the_page_on_files_runs(tmp_path):
    done = run("-c", "\n".join(blocks(ROOT / "docs" / "files.md", "python")), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.portnn.safetensors", "own.portnn.safetensors"]


def test_the_code_of_the_page_on_training_runs(tmp_path):
    done = run("-c", "\n".join(blocks(ROOT / "docs" / "training.md", "python")), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.portnn.safetensors", "samples.npy"]
    assert "never_predicted=" in done.stdout


def test_the_page_on_training_names_what_exists():
    """The classes in its text are public, and the last tables recommend only arguments that exist."""
    page = (ROOT / "docs" / "training.md").read_text()
    fit = inspect.signature(portnn.Network.fit).parameters
    rows = re.findall(r"^\| .* \| (.*) \|$", page.partition("## From Keras")[2], re.MULTILINE)
    assert len(rows) > 18
    said = [name for row in rows for call in re.findall(r"`([^`]+)`", row) for name in re.findall(r"(\w+)=", call)]
    known = {*fit, "optimizer", "metrics", "seed", "weight_decay"}
    for each in (portnn.EarlyStopping, portnn.Checkpoint, portnn.ReduceLROnPlateau, portnn.Adam):
        known |= set(inspect.signature(each).parameters)
    assert sorted(set(said) - known) == []
    classes = set(re.findall(r"`([A-Z]\w+)\(", page.partition("## From Keras")[0]))
    assert classes >= {"EarlyStopping", "Checkpoint", "TimeLimit"}
    assert sorted(classes - set(dir(portnn))) == []


# -- files that programs read ------------------------------------------------------------------------------------------


def test_the_version_to_cite_is_this_one():
    """Parsed line by line, so that the test runs without PyYAML."""
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    assert [line for line in lines if line.startswith("version:")] == [f"version: {portnn.__version__}"]


def load(path):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return yaml.safe_load(path.read_text())


def test_the_citation_is_whole():
    cff = load(ROOT / "CITATION.cff")
    assert cff["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license", "version", "references"} <= set(cff)
    assert (cff["title"], cff["license"], str(cff["version"])) == ("portnn", "MIT", portnn.__version__)
    assert cff["authors"] == [{"name": "The portnn developers"}]
    (article,) = cff["references"]
    assert {"type", "title", "authors"} <= set(article)
    assert article["authors"] == [{"family-names": "Aflak", "given-names": "Omar"}]
    assert article["url"] in (ROOT / "README.md").read_text()


def test_the_forms_are_there():
    assert {path.stem for path in FORMS} == {"bug", "wrong_gradient", "idea", "config"}
    config = load(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml")
    assert type(config["blank_issues_enabled"]) is bool
    for link in config["contact_links"]:
        assert set(link) == {"name", "url", "about"}
        assert link["url"].startswith("https://")


NEEDS = {
    "markdown": {"value"},
    "textarea": {"label"},
    "input": {"label"},
    "dropdown": {"label", "options"},
    "checkboxes": {"label", "options"},
}


@pytest.mark.parametrize("path", [path for path in FORMS if path.stem != "config"], ids=name)
def test_a_form_is_one_that_github_shows(path):
    """GitHub silently drops a form with a wrong key or type: an unquoted option `No`, for one, is read as false."""
    form = load(path)
    assert (
        {"name", "description", "body"} <= set(form) <= {"name", "description", "body", "labels", "title", "assignees"}
    )
    assert all(isinstance(form[key], str) and len(form[key]) > 3 for key in ("name", "description"))
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert fields
    ids = [field["id"] for field in fields]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[\w-]+", each) for each in ids)
    labels = [field["attributes"]["label"] for field in fields]
    assert len(set(labels)) == len(labels)
    for field in form["body"]:
        attributes = field["attributes"]
        assert set(field) <= {"type", "id", "attributes", "validations"}
        assert set(field.get("validations", {})) <= {"required"}
        assert NEEDS[field["type"]] <= set(attributes)
        assert set(attributes) <= {"label", "description", "placeholder", "value", "render", "options", "multiple"}
        words = [value for key, value in attributes.items() if key not in ("options", "multiple")]
        options = attributes.get("options", [])
        words += [option["label"] if field["type"] == "checkboxes" else option for option in options]
        assert all(isinstance(word, str) and word.strip() for word in words)
