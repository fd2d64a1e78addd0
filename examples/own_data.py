"""Trains on data of your own: a folder of PNG images, with a subfolder for each class, or a table in a CSV file.

    python examples/own_data.py --images FOLDER
    python examples/own_data.py --table FILE.csv --target COLUMN

Files are read batch by batch while the network trains, so there may be more of them than fit into memory. Without
arguments, the program draws a few images of its own first.
"""

import argparse
import csv
import itertools
import tempfile
from pathlib import Path

import numpy as np

from portnn import ActivationLayer, Adam, ConvLayer, EarlyStopping, FCLayer, GlobalAvgPoolLayer, Network, ScaleLayer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--images", type=Path, metavar="FOLDER")
parser.add_argument("--table", type=Path, metavar="FILE.csv")
parser.add_argument("--target", metavar="COLUMN", help="the class; other columns are numbers")
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()
if not options.table:
    try:
        from PIL import Image
    except ImportError:
        raise SystemExit("images need Pillow: pip install pillow") from None
BATCH, SIDE = 32, 32  # samples in a batch; images are brought to this size
rng = np.random.default_rng(options.seed)


def draw(folder):
    """Images of a data set to try this with: a bright line on noise, either across or upright."""
    for label, k in itertools.product(("across", "upright"), range(100)):
        image = rng.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
        place = rng.integers(4, SIDE - 4)
        image[(place, slice(None)) if label == "across" else (slice(None), place)] = 255
        (folder / label).mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / label / f"{k}.png")
    return folder


def image_batches(files, classes):
    """Batches (x, y): bytes (N, SIDE, SIDE, 3), which the network scales, and class numbers (N,)."""
    for start in range(0, len(files), BATCH):
        some = files[start : start + BATCH]
        images = [np.asarray(Image.open(file).convert("RGB").resize((SIDE, SIDE))) for file in some]
        yield np.stack(images), np.array([classes.index(file.parent.name) for file in some])


def table_batches(file, part):
    """Batches (x, labels) of a table: numbers (N, columns), and texts. Every fifth row is for validation."""
    with open(file, newline="") as lines:
        rows = (row for k, row in enumerate(csv.DictReader(lines)) if (k % 5 == 0) == (part == "validation"))
        while some := list(itertools.islice(rows, BATCH)):
            labels = [row.pop(options.target) for row in some]
            yield np.array([list(row.values()) for row in some], dtype=float), labels


def train(layers, classes, training, validation):
    """Trains on batches; ``training`` and ``validation`` are functions that return an iterator over them anew."""
    print("classes:", *classes)
    net = Network(layers, backend=options.backend, seed=options.seed)
    net.use("softmax_cross_entropy", optimizer=Adam(0.01), metrics=["accuracy"])
    net.fit(training, epochs=options.epochs, validation_data=validation, callbacks=[EarlyStopping(patience=3)])
    x, y = next(validation())
    for probabilities, label in zip(net.predict_proba(x[:5]), y, strict=False):
        guess = probabilities.argmax()
        print(f"{classes[label]}: predicted {classes[guess]} ({probabilities[guess]:.0%})")


def train_on_images(folder):
    files = sorted(folder.glob("*/*.png"))
    if not files:
        raise SystemExit(f"{folder} has no PNG files in subfolders, one for each class")
    classes = sorted({file.parent.name for file in files})
    rng.shuffle(files)  # batches from an iterable come in its order: mix the classes here
    held_out, files = files[::5], [file for k, file in enumerate(files) if k % 5]
    layers = [
        ScaleLayer(1 / 255),
        ConvLayer((SIDE, SIDE, 3), (3, 3), 16, stride=2, padding="same"),
        ActivationLayer("relu"),
    ]
    layers += [ConvLayer((SIDE // 2, SIDE // 2, 16), (3, 3), 32, stride=2, padding="same"), ActivationLayer("relu")]
    layers += [GlobalAvgPoolLayer(), FCLayer(32, len(classes))]
    train(layers, classes, lambda: image_batches(files, classes), lambda: image_batches(held_out, classes))


def train_on_table(file):
    with open(file, newline="") as lines:
        columns = next(csv.reader(lines))
    if options.target not in columns:
        raise SystemExit(f"give --target, one of the columns {', '.join(columns)}")
    classes, n, total, squares = set(), 0, 0.0, 0.0
    for x, labels in table_batches(file, "training"):
        classes, n = classes.union(labels), n + len(x)
        total, squares = total + x.sum(axis=0), squares + (x**2).sum(axis=0)
    classes, mean = sorted(classes), total / n
    spread = np.sqrt(np.maximum(squares / n - mean**2, 1e-12))

    def batches(part):  # columns with mean 0 and spread 1; class numbers
        for x, labels in table_batches(file, part):
            yield (x - mean) / spread, np.array([classes.index(label) for label in labels])

    layers = [FCLayer(len(columns) - 1, 32), ActivationLayer("relu"), FCLayer(32, len(classes))]
    train(layers, classes, lambda: batches("training"), lambda: batches("validation"))


with tempfile.TemporaryDirectory() as made:
    if options.table:
        train_on_table(options.table)
    else:
        train_on_images(options.images or draw(Path(made)))
