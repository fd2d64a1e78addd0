"""``portnn train``: a network for a data set, without a line of Python."""

import argparse
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import portnn
from portnn import SGD, AdaGrad, Adam, AdamW, Checkpoint, Network, RMSprop, TimeLimit
from portnn.cli import arguments, console, data, models
from portnn.cli.arguments import BadArgumentsError
from portnn.cli.inputs import input_shape
from portnn.files import durable

# Each optimizer with the learning rate to take where none is given: what these networks learn quickly with.
OPTIMIZERS: dict[str, tuple[type[Any], float]] = {
    "sgd": (SGD, 0.1),
    "adagrad": (AdaGrad, 0.02),
    "rmsprop": (RMSprop, 1e-3),
    "adam": (Adam, 2e-3),
    "adamw": (AdamW, 2e-3),
}
DEFAULT_SEED = 1

DESCRIPTION = """Trains a network that fits the data, and prints the error of each epoch and the
accuracy on the test samples. DATA is one of:
  mnist                  the digits that come with portnn, 5,000 and 1,000; with
                         --full all 70,000, downloaded once
  fashion_mnist, kmnist  clothes, Japanese characters; with --full, downloaded
  FOLDER                 with train-images-idx3-ubyte, train-labels-idx1-ubyte,
                         t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte,
                         compressed or not
  FILE.npz               with x_train (N, ...), y_train (N,), x_test, y_test:
                         samples of any shape, and class numbers from 0"""

EXAMPLES = """examples:
  portnn train mnist
  portnn train mnist --save model.portnn.safetensors --plot curve.png
  portnn train mnist --save model.portnn.safetensors --epochs 20 --resume
  portnn train table.npz --model fc --optimizer sgd --learning-rate 0.05

Ctrl-C ends the training after the current step. With --save the network is
kept, and --resume goes on from there.
"""


def add(command: Any) -> None:
    parser = command("train", help="train a network on a data set", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("data", metavar="DATA", type=arguments.given)
    parser.add_argument("--model", choices=models.KINDS, help="default: lenet for images, fc for everything else")
    parser.add_argument("--full", action="store_true", help="the whole data set, downloaded once, not the sample")
    parser.add_argument("--epochs", type=arguments.whole(1), default=5, help="default: 5; with --resume, of both runs")
    parser.add_argument("--batch-size", type=arguments.whole(1), default=64, help="default: 64")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, help="default: adam")
    rates = ", ".join(f"{rate:g} for {name}" for name, (_, rate) in OPTIMIZERS.items())
    parser.add_argument("--learning-rate", type=arguments.positive, help=f"default: {rates}")
    parser.add_argument("--seed", type=arguments.seed, help=f"default: {DEFAULT_SEED}")
    parser.add_argument("--backend", type=arguments.backend, default="cpu", help='"cpu", the default, or "gpu"')
    parser.add_argument(
        "--save",
        metavar="FILE",
        type=arguments.output(),
        help="keep the network there, such as model.portnn.safetensors",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the file of --save, if there is one")
    parser.add_argument(
        "--plot", metavar="FILE.png", type=arguments.output(), help="draw error and accuracy of the epochs"
    )
    parser.set_defaults(run=train)


def train(options: argparse.Namespace) -> int:
    if options.resume and not options.save:
        raise BadArgumentsError("--resume goes on from the file of --save: name it, --save FILE --resume")
    arguments.distinct({"--save": options.save, "--plot": options.plot}, data.files(options.data))
    backend = portnn.get_backend(options.backend)
    if options.plot:
        _check_plot(options.plot)
    if options.save:
        durable.check(options.save)
    found = data.load(options.data, options.full)
    resumed = options.resume and Path(options.save).exists()
    net = _network_of_file(options, found, backend) if resumed else _new_network(options, found, backend)
    print(
        f"{len(found.x_train):,} training and {len(found.x_test):,} test samples of shape {found.sample}, "
        f"{found.classes} classes"
    )
    print(net.summary(found.sample))
    print(
        f"{type(net.optimizer).__name__.lower()}, learning rate {_shown(net.optimizer.learning_rate)}, batch size "  # type: ignore[union-attr]
        f"{options.batch_size}, seed {net.seed}, backend {net.backend.name}"
    )
    if resumed:
        print(f"goes on from {options.save}, after {net.epoch:,} epochs")
        if net.epoch >= options.epochs:
            print(f"--epochs {options.epochs} counts those too: nothing is left to train")
    elif options.resume:
        print(f"{options.save} does not exist yet: the training begins")
    console.flush()
    with _ctrl_c() as pause:
        net.fit(
            found.x_train,
            found.y_train,
            epochs=options.epochs,
            batch_size=options.batch_size,
            shuffle=True,
            validation_data=(found.x_test, found.y_test),
            callbacks=[pause, *([Checkpoint(options.save)] if options.save else [])],
            resume=options.save if options.resume else None,
        )
    if options.plot and net.history["error"]:
        _plot(net, options.plot)
    if pause.pressed:
        kept = f"kept in {options.save}; go on with --resume" if options.save else "nothing is kept without --save"
        console.tell(f"portnn train: interrupted after {net.step:,} steps: the network is {kept}")
        return console.INTERRUPTED
    accuracy = net.evaluate(found.x_test, found.y_test)["accuracy"]
    print(f"accuracy: {accuracy:.2%} of {len(found.x_test):,} test samples")
    if options.save:
        print(f"saved: {options.save}")
    return 0


def _shown(rate: Any) -> str:
    """A number, or a schedule."""
    return f"{rate:g}" if isinstance(rate, float) else str(rate)


def _new_network(options: argparse.Namespace, found: data.Data, backend: Any) -> Network:
    kind = options.model or models.kind_for(found.sample)
    seed = DEFAULT_SEED if options.seed is None else options.seed
    net = Network(models.layers(kind, found.x_train, found.classes), backend=backend, seed=seed)
    make, rate = OPTIMIZERS[options.optimizer or "adam"]
    rate = rate if options.learning_rate is None else options.learning_rate
    net.use("softmax_cross_entropy", optimizer=make(rate), metrics=["accuracy"])
    return net


def _network_of_file(options: argparse.Namespace, found: data.Data, backend: Any) -> Network:
    """The network to go on with; BadArgumentsError for an option that says something else than its file."""
    net = portnn.load(options.save, backend=backend)
    if net.optimizer is None or not hasattr(net.optimizer, "learning_rate"):
        raise ValueError(f"{options.save} holds a network without an optimizer: --resume goes on with what train saved")
    then = {
        "optimizer": type(net.optimizer).__name__.lower(),
        "learning_rate": net.optimizer.learning_rate,
        "seed": net.seed,
    }
    for name, value in then.items():
        given = getattr(options, name)
        if given is not None and given != value:
            option = "--" + name.replace("_", "-")
            raise BadArgumentsError(
                f"{options.save} was trained with {option} {value}, not {given}: --resume goes on with what it began "
                f"with; leave {option} out"
            )
    takes = input_shape(net)
    if takes is not None and prod(takes) != prod(found.sample):
        raise ValueError(
            f"{options.save} holds a network for samples of shape {takes}, but those of {options.data} have shape "
            f"{found.sample}: --resume goes on with the data it began with"
        )
    if options.model:
        wanted = models.layers(options.model, found.x_train, found.classes)
        if [repr(layer) for layer in wanted] != [repr(layer) for layer in net.layers]:
            raise BadArgumentsError(
                f"{options.save} holds another network than --model {options.model} for these data: --resume goes on "
                "with that of the file; leave --model out"
            )
    return net


class Pause(TimeLimit):
    """Ends ``fit`` after the step in which Ctrl-C was pressed, as a time limit does: checkpoints save once more."""

    pressed = False

    def __init__(self, seconds: float = 1e9):
        super().__init__(seconds)

    def on_step_end(self, network: Any, step: int) -> None:
        self.is_over = self.pressed

    def press(self, number: int, frame: Any) -> None:
        """The handler of SIGINT; pressed twice, it aborts what does not end."""
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


@contextmanager
def _ctrl_c() -> Iterator[Pause]:
    """A context in which Ctrl-C is noted by the callback that it gives."""
    pause = Pause()
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield pause
        return
    before = signal.signal(signal.SIGINT, pause.press)
    try:
        yield pause
    finally:
        signal.signal(signal.SIGINT, before)


def _check_plot(path: str) -> None:
    """An error for what will keep the picture from being drawn, before an hour of training."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("--plot needs matplotlib: python -m pip install matplotlib") from None
    kinds = Figure().canvas.get_supported_filetypes()
    ending = Path(path).suffix.lstrip(".").lower()
    if ending not in kinds:
        raise BadArgumentsError(
            f"--plot {path}: expected a file that ends in {', '.join('.' + kind for kind in kinds)}"
        )
    if Path(path).is_dir() or not Path(path).parent.is_dir():
        raise ValueError(f"--plot {path}: {'it is a folder' if Path(path).is_dir() else 'its folder does not exist'}")
    try:
        trial = Figure()
        trial.text(0, 0, "0")  # which .pgf needs TeX for
        trial.savefig(BytesIO(), format=ending)
    except (RuntimeError, OSError) as error:
        raise ValueError(f"--plot {path}: {error}") from None
    there = os.path.lexists(path)
    with open(path, "ab"):  # the error for a place that cannot be written to
        pass
    if not there:
        os.unlink(path)


def _plot(net: Network, path: str) -> None:
    from portnn import plot

    plot.history(net.history).savefig(path)
    print(f"drawn: {path}")
