"""Writes what PyTorch computes with the modules of tests/support/torch_nets.py, and their weights.

    python tools/record_torch_weights.py

``tests/support/recorded/torch_weights.npz`` has, for each row, the state dict in PyTorch's own order, inputs and
outputs; ``torch_lenet.safetensors`` and ``torch_lenet_bfloat16.safetensors`` are files as safetensors.torch writes
them. The test suite compares with these, so it needs no PyTorch.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(ROOT / "tests" / "support")]

import torch_nets  # noqa: E402

RECORDED = ROOT / "tests" / "support" / "recorded"


def main():
    arrays = {"torch": np.array(torch.__version__)}
    for name in torch_nets.ROWS:
        module, x = torch_nets.module(name), torch_nets.batch(name)
        arrays |= {f"{name}/weights/{key}": value.numpy() for key, value in module.state_dict().items()}
        arrays |= {f"{name}/x": x, f"{name}/y": torch_nets.answer(module, name, x)}
    np.savez_compressed(RECORDED / "torch_weights.npz", **arrays)
    lenet = torch_nets.module("lenet with names").float()
    save_file(lenet.state_dict(), RECORDED / "torch_lenet.safetensors", metadata={"format": "pt"})
    save_file(lenet.bfloat16().state_dict(), RECORDED / "torch_lenet_bfloat16.safetensors")
    print(f"PyTorch {torch.__version__}: {len(arrays)} arrays")


if __name__ == "__main__":
    main()
