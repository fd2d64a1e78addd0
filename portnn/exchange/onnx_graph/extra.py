"""The package onnx, which is imported only where a model is written or read."""

from typing import Any


def onnx() -> Any:
    """The package; ImportError that says how to install it."""
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError("ONNX models need the package onnx: python -m pip install onnx") from error
    return onnx
