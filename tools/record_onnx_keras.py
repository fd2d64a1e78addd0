"""Writes tests/support/recorded/onnx_keras/: models as Keras' exporters write them, and what Keras computes with them.

    KERAS_BACKEND=tensorflow python tools/record_onnx_keras.py
    KERAS_BACKEND=torch python tools/record_onnx_keras.py
    KERAS_BACKEND=jax python tools/record_onnx_keras.py

Each of Keras' backends has an exporter of its own: the first needs tensorflow and tf2onnx, the second torch and onnx,
the third jax and jax2onnx. For each model of tests/support/keras_models.py that the exporter can write there is a file,
and the results of all are in BACKEND.npz: samples, outputs, and outputs after ten steps of gradient descent. So the
tests need no Keras. Run this again when the models change.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import onnx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from keras_models import MODELS, export, made, trained  # noqa: E402

TARGET = ROOT / "tests" / "support" / "recorded" / "onnx_keras"


def bare(model):
    """The model without the places in the source that an exporter notes, which are paths of this machine."""
    parts = [model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]
    for part in [*parts, *model.graph.value_info]:
        part.ClearField("doc_string")
        if "metadata_props" in part.DESCRIPTOR.fields_by_name:
            part.ClearField("metadata_props")
    return model


backend = keras.backend.backend()
TARGET.mkdir(exist_ok=True)
for old in TARGET.glob(f"*-{backend}.onnx"):
    old.unlink()
results = {"keras": np.array(keras.__version__)}
for name in MODELS:
    model, x = made(name)
    path = TARGET / f"{name}-{backend}.onnx"
    try:
        export(model, x, path)
    except Exception as error:
        print(f"{name}: the exporter fails, {type(error).__name__}")
        path.unlink(missing_ok=True)
        continue
    onnx.save(bare(onnx.load(path)), path)
    before, targets, after = trained(model, x)
    results |= {f"{name} x": x, f"{name} y": before, f"{name} targets": targets, f"{name} trained": after}
np.savez_compressed(TARGET / f"{backend}.npz", **results)
print(f"{sum(path.stat().st_size for path in TARGET.iterdir()):,} bytes in {TARGET}")
