"""Writes tests/support/recorded/onnx/: models as PyTorch's exporters write them, and what PyTorch computes with them.

    python tools/record_onnx.py

It needs the packages torch, onnx and onnxscript. For each model of tests/support/torch_models.py it writes a file by
each exporter, and results.npz: samples, outputs, and outputs after ten steps of gradient descent. So the tests need no
PyTorch. Run this again when the models change.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from torch_models import EXPORTERS, MODELS, made, trained  # noqa: E402

TARGET = ROOT / "tests" / "support" / "recorded" / "onnx"


def bare(model):
    """The model without the places in the source that an exporter notes, which are paths of this machine."""
    parts = [model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]
    for part in [*parts, *model.graph.value_info]:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    return model


TARGET.mkdir(exist_ok=True)
for old in TARGET.iterdir():
    old.unlink()
results = {"torch": np.array(torch.__version__)}
for name in MODELS:
    for exporter, options in EXPORTERS.items():
        model, x = made(name)
        path = TARGET / f"{name}-{exporter}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (x,), str(path), **options)
        onnx.save(bare(onnx.load(path)), path)
    before, targets, after = trained(model, x)
    results |= {f"{name} x": x.numpy(), f"{name} y": before, f"{name} targets": targets, f"{name} trained": after}
np.savez_compressed(TARGET / "results.npz", **results)
print(f"{sum(path.stat().st_size for path in TARGET.iterdir()):,} bytes in {TARGET}")
