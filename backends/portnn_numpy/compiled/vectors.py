"""SIMD vectors as a Numba type, for loops that must keep many sums in registers.

The compiler vectorizes most loops itself, but does not keep a dozen running sums of several values each in registers
from one product to the next. So ``Lanes``, a vector of LANES float32 values, is a type of its own here, with the few
operations that the loops of ``_convolution.py`` need.
"""

from typing import Any

import llvmlite.binding
import llvmlite.ir as ir
import numba
from numba import types
from numba.extending import intrinsic, models, register_model


def _has_avx512() -> bool:
    """Whether the processor that Numba compiles for has AVX-512: this one, unless the user has named another."""
    if numba.config.CPU_FEATURES is not None:
        return "+avx512f" in numba.config.CPU_FEATURES
    return not numba.config.CPU_NAME and bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))


LANES = 16 if _has_avx512() else 8
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_FUSED = ("contract", "nsz")  # a multiplication and an addition may be one instruction


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(f"Lanes({LANES})")


_lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any):
        super().__init__(manager, kind, _VECTOR)


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    start = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(start, [index]), _VECTOR.as_pointer())


@intrinsic
def zeros(typing_context: Any) -> Any:
    """Lanes of zeros."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_VECTOR, [0.0] * LANES)

    return _lanes(), code


@intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """The values ``array[index]`` to ``array[index + LANES - 1]`` of a 1-D float32 array. Bounds are not checked."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_address(context, builder, signature.args[0], *arguments))
        value.align = 4
        return value

    return _lanes(array, types.uintp), code


@intrinsic
def store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """The inverse of ``load``."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _address(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], place).align = 4
        return context.get_dummy_value()

    return types.void(array, types.uintp, _lanes), code


@intrinsic
def add_scaled(typing_context: Any, total: Any, x: Any, factor: Any) -> Any:
    """``total + x * factor`` for Lanes and a float32 scalar."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, undefined = ir.Constant(ir.IntType(32), 0), ir.Constant(_VECTOR, ir.Undefined)
        one = builder.insert_element(undefined, arguments[2], first)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        factor = builder.shuffle_vector(one, undefined, everywhere)
        return builder.fadd(arguments[0], builder.fmul(arguments[1], factor, flags=_FUSED), flags=_FUSED)

    return _lanes(_lanes, _lanes, types.float32), code


@intrinsic
def add_product(typing_context: Any, total: Any, x: Any, y: Any) -> Any:
    """``total + x * y`` for Lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(arguments[0], builder.fmul(*arguments[1:], flags=_FUSED), flags=_FUSED)

    return _lanes(_lanes, _lanes, _lanes), code
