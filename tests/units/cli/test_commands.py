"""What all commands have in common: help, versions, bad arguments, and models that are none."""

import re
from pathlib import Path

import pytest

import portnn as library
from portnn import FCLayer, Layer, Network
from portnn.cli import console, main

COMMANDS = ["train", "predict", "draw", "explain", "summary", "gradcheck", "export", "run", "info"]
WITH_MODEL = {
    "predict": ["image.npy"],
    "draw": ["--no-open"],
    "explain": ["image.npy"],
    "summary": [],
    "gradcheck": [],
    "export": ["page.html"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_arguments_and_examples(portnn, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for option in ("--help", "-h"):
        status, out, err = portnn(command, option)
        assert (status, err) == (0, "")
    assert out.startswith(f"usage: portnn {command} ")
    assert re.search(rf"^examples:\n  portnn {command}\b", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80


def test_the_help_lists_all_commands_and_the_exit_status(portnn):
    status, out, err = portnn("--help")
    assert (status, err) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^    {command}\b", out, re.MULTILINE)
    assert "exit status: 0" in out


def test_examples_are_accepted():
    """Every example in a help is a command line that its parser takes."""
    from portnn.cli import parser

    made = parser()
    helps = [made.format_help(), *(sub.format_help() for sub in made._subparsers._group_actions[0].choices.values())]
    lines = [line for text in helps for line in re.findall(r"^  portnn (.*)$", text, re.MULTILINE)]
    assert len(lines) > 15
    for line in lines:
        assert made.parse_args(line.split()).run


def test_the_version(portnn):
    assert portnn("--version") == (0, f"portnn {library.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["trian"], "invalid choice: 'trian' (choose from"),
        (["--nothing"], "the following arguments are required: COMMAND"),
        (["summary"], "the following arguments are required: MODEL"),
        (["summary", "a", "b"], "unrecognized arguments: b"),
        (["predict", "model"], "the following arguments are required: IMAGE"),
        (["train", "mnist", "--epochs", "many"], "argument --epochs: expected a whole number from 1, got 'many'"),
        (["train", "mnist", "--batch-size", "0"], "expected a whole number from 1, got '0'"),
        (["train", "mnist", "--learning-rate", "-1"], "expected a number above 0, got '-1'"),
        (["train", "mnist", "--learning-rate", "nan"], "expected a number above 0, got 'nan'"),
        (["train", "mnist", "--model", "vgg"], "invalid choice: 'vgg'"),
        (["train", "mnist", "--optimizer", "lion"], "invalid choice: 'lion'"),
        (["gradcheck", "m", "--input-shape", "2,x"], "expected the shape of one sample, such as 28,28,1, got '2,x'"),
        (["gradcheck", "m", "--input-shape", "0"], "expected the shape of one sample"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments_are_one_line_and_status_2(fails, arguments, told):
    error = fails(*arguments, status=2)
    assert told in error
    assert "--help)" in error


@pytest.mark.parametrize("command", WITH_MODEL)
def test_a_model_that_is_none(fails, tmp_path, trained, command):
    content = Path(trained).read_bytes()
    forged = bytearray(content)
    forged[-5] ^= 1
    kinds = {
        "missing": None,
        "text": b"no model at all, but a text of some length",
        "empty": b"",
        "cut": content[: len(content) // 2],
        "flipped": bytes(forged),
    }
    for name, data in kinds.items():
        path = tmp_path / f"{name}.portnn.safetensors"
        if data is not None:
            path.write_bytes(data)
        error = fails(command, path, *WITH_MODEL[command])
        assert name in error, error
    assert "No such file" in fails(command, tmp_path / "none", *WITH_MODEL[command])
    assert "this is a folder" in fails(command, tmp_path, *WITH_MODEL[command])
    assert not list(tmp_path.glob("*.html"))


class Own(Layer):
    def forward(self, X):
        return X

    def backward(self, output_error):
        return output_error


def test_a_model_with_a_layer_of_ones_own(fails, tmp_path):
    Network([Own(), FCLayer(2, 2)]).save(tmp_path / "own")
    assert "Own" in fails("summary", tmp_path / "own")


def test_debug_shows_the_traceback(portnn, tmp_path):
    for arguments in (["--debug", "summary"], ["summary", "--debug"]):
        status, out, err = portnn(*arguments, tmp_path / "none")
        assert (status, out) == (1, "")
        assert err.startswith("Traceback")
        assert err.splitlines()[-1].startswith("portnn summary: error: ")


def test_an_unforeseen_error_is_one_line_with_its_kind(fails, trained, monkeypatch):
    def broken(*arguments):
        raise KeyError("what\nwas that")

    monkeypatch.setattr("portnn.cli.summary.input_shape", broken)
    assert fails("summary", trained) == "KeyError: 'what\\nwas that' (--debug shows where)"


def test_messages_of_several_lines_are_folded():
    assert console.one_line("lacks 2 files, looked for:\n  a\n  b\n") == "lacks 2 files, looked for: a; b"
    assert console.one_line("  one\ttwo \x1b[31m\n") == "one two ?[31m"
    assert console.message(MemoryError()) == "not enough memory."
    assert console.message(ValueError()) == "ValueError"
    assert console.message(FileNotFoundError(2, "No such file", b"x")) == "No such file"


def test_an_interruption_is_one_line_and_status_130(portnn, trained, monkeypatch):
    def pressed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("portnn.cli.summary.input_shape", pressed)
    assert portnn("summary", trained) == (130, "", "portnn summary: interrupted\n")
    monkeypatch.setattr("portnn.cli.parser", pressed)
    assert portnn("summary", trained) == (130, "", "portnn: interrupted\n")


def test_warnings_are_one_line(portnn, trained, monkeypatch):
    import warnings

    def warning(*arguments):
        warnings.simplefilter("always")
        warnings.warn("of\ntwo lines", UserWarning, stacklevel=1)

    monkeypatch.setattr("portnn.cli.summary.input_shape", warning)
    status, _, err = portnn("summary", trained)
    assert (status, err) == (0, "portnn summary: warning: of; two lines\n")


def test_summary(portnn, trained, tmp_path):
    status, out, err = portnn("summary", trained)
    assert (status, err) == (0, "")
    assert library.load(trained).summary((28, 28, 1)) in out
    assert (
        "loss:      softmax_cross_entropy\noptimizer: Adam, learning rate 0.001\ntrained:   3 epochs, 471 steps: error"
        in out
    )
    Network([FCLayer(2, 3)], seed=4, dtype="float64").save(tmp_path / "new")
    status, out, err = portnn("summary", tmp_path / "new")
    assert status == 0
    assert out.endswith("dtype:     float64\nseed:      4\n")


def test_gradcheck(portnn, trained, tmp_path, fails, monkeypatch):
    status, out, err = portnn("gradcheck", trained)
    assert (status, err) == (0, "")
    assert out.startswith("gradcheck passed\n")
    assert "dE/d5.weights" in out
    Network([library.ActivationLayer("tanh")]).save(tmp_path / "free")
    assert portnn("gradcheck", tmp_path / "free", "--input-shape", "(2,3)")[0] == 0
    backward = FCLayer.backward
    monkeypatch.setattr(FCLayer, "backward", lambda self, D, **more: 2 * backward(self, D, **more))
    Network([FCLayer(2, 3)]).save(tmp_path / "wrong")
    status, out, _ = portnn("gradcheck", tmp_path / "wrong")
    assert status == 1
    assert out.startswith("gradcheck FAILED\n")


def test_info(portnn):
    status, out, err = portnn("info")
    assert (status, err) == (0, "")
    assert "cpu: works" in out


def test_main_takes_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["portnn", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("portnn ")
