"""NumPy as a backend: its own functions, a quicker ``matmul``, memory that is kept, and the fast twins."""

from collections.abc import Callable
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from portnn.backend import Backend
from portnn_numpy import kernels, memory

# The names of the array API standard (2024.12) that NumPy has under the same name, with the same meaning.
STANDARD = """
    e inf nan newaxis pi
    asarray arange empty empty_like eye from_dlpack full full_like linspace meshgrid ones ones_like tril triu zeros
    zeros_like astype can_cast finfo iinfo isdtype result_type
    bool complex64 complex128 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64
    abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_invert bitwise_left_shift bitwise_or
    bitwise_right_shift bitwise_xor ceil clip conj copysign cos cosh divide equal exp expm1 floor floor_divide greater
    greater_equal hypot imag isfinite isinf isnan less less_equal log log10 log1p log2 logaddexp logical_and logical_not
    logical_or logical_xor maximum minimum multiply negative nextafter not_equal positive pow real reciprocal remainder
    round sign signbit sin sinh sqrt square subtract tan tanh trunc
    matrix_transpose tensordot vecdot
    broadcast_arrays broadcast_to concat expand_dims flip moveaxis permute_dims repeat roll squeeze stack tile unstack
    argmax argmin count_nonzero nonzero searchsorted where take take_along_axis
    unique_all unique_counts unique_inverse unique_values argsort sort
    cumulative_prod cumulative_sum max mean min prod std var all any diff
    linalg fft __array_namespace_info__
"""


def thin_namespace(library: Any, names: str, **replaced: Callable[..., Any]) -> SimpleNamespace:
    """Gathers the standard's functions that ``library`` has, some replaced by quicker ones of the same meaning."""
    found = {name: getattr(library, name) for name in names.split() if hasattr(library, name)}
    return SimpleNamespace(**found, **replaced, __name__=library.__name__, __version__=library.__version__)


class NumpyBackend(Backend):
    """NumPy on the CPU."""

    def __init__(self) -> None:
        self.name = "cpu"
        self.xp = thin_namespace(np, STANDARD, matmul=kernels.matmul, reshape=kernels.reshape, sum=kernels.sum)
        self.device = "cpu"
        self.faster = MappingProxyType(kernels.TWINS)

    def asarray(self, host: Any, dtype: str | None = None, *, copy: bool = False) -> np.ndarray:
        return np.array(host, dtype=dtype) if copy else np.asarray(host, dtype=dtype)

    def to_numpy(self, x: Any) -> np.ndarray:
        return np.asarray(x)

    def owns(self, x: Any) -> bool:
        return isinstance(x, (np.ndarray, np.generic))

    def compile(self, step: Callable[[], list[Any]], state: Any) -> Callable[[], None]:
        memory.keep_freed()
        return super().compile(step, state)

    def describe(self) -> dict[str, str]:
        return {"library": f"NumPy {np.__version__}", "device": "cpu"}

    def __reduce__(self) -> tuple[Any, ...]:
        from portnn.backend import get_backend

        return (get_backend, ("cpu",))
