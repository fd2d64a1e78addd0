"""SIMD vectors as a Numba type, for loops that must keep many sums in registers.

The compiler vectorizes most loops itself, but does not keep a dozen running sums of several values each in registers
from one product to the next. So ``Lanes``, a vector of LANES float32 values, is a type of its own here, with the few
operations that the loops of ``_convolution.py`` and ``_strips.py`` need; ``Tile`` is a matrix of such sums.
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
def add(typing_context: Any, x: Any, y: Any) -> Any:
    """``x + y`` for Lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments)

    return _lanes(_lanes, _lanes), code


@intrinsic
def add_product(typing_context: Any, total: Any, x: Any, y: Any) -> Any:
    """``total + x * y`` for Lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(arguments[0], builder.fmul(*arguments[1:], flags=_FUSED), flags=_FUSED)

    return _lanes(_lanes, _lanes, _lanes), code


class Tile:
    """``height`` x ``width`` Lanes of sums, one row for each of ``height`` filters: as many as registers can hold.

    ``zeros()`` makes one; ``add(sums, x, i, w, j, count)`` adds ``count`` products of a column of ``height`` weights
    with a row of ``width`` Lanes: the columns lie one after another from w[j] on, the rows from x[i] on;
    ``store(y, o, step, sums)`` writes row r to y[o + r * step]. They take float32 arrays and do not check bounds.
    """

    def __init__(self, height: int, width: int):
        self.height, self.width, self.n = height, width, height * width
        self.kind = types.UniTuple(_lanes, self.n)
        self.zeros, self.add, self.store = self._zeros(), self._add(), self._store()

    def _zeros(self) -> Any:
        @intrinsic
        def tile_zeros(typing_context: Any) -> Any:
            def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                return ir.Constant(ir.ArrayType(_VECTOR, self.n), [ir.Constant(_VECTOR, [0.0] * LANES)] * self.n)

            return self.kind(), code

        return tile_zeros

    def _add(self) -> Any:
        @intrinsic
        def tile_add(typing_context: Any, sums: Any, x: Any, i: Any, w: Any, j: Any, count: Any) -> Any:
            def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                kinds, (sums, x, i, w, j, count) = signature.args, arguments
                row = builder.gep(context.make_array(kinds[1])(context, builder, x).data, [i])
                column = builder.gep(context.make_array(kinds[3])(context, builder, w).data, [j])
                before, body = builder.block, builder.append_basic_block("tile")
                after = builder.append_basic_block("tile.end")
                old = [builder.extract_value(sums, n) for n in range(self.n)]
                some = builder.icmp_unsigned("!=", count, _number(count, 0))
                builder.cbranch(some, body, after)

                builder.position_at_end(body)
                k, *now = (_phi(builder, value, before) for value in (_number(count, 0), *old))
                new = self._products(builder, now, row, column, k)
                following = builder.add(k, _number(k, 1))
                for phi, value in zip((k, *now), (following, *new), strict=True):
                    phi.add_incoming(value, body)
                builder.cbranch(builder.icmp_unsigned("<", following, count), body, after)

                builder.position_at_end(after)
                found = [_phi(builder, value, before) for value in old]
                for phi, value in zip(found, new, strict=True):
                    phi.add_incoming(value, body)
                for n, phi in enumerate(found):
                    sums = builder.insert_value(sums, phi, n)
                return sums

            return self.kind(self.kind, x, types.uintp, w, types.uintp, types.uintp), code

        return tile_add

    def _products(self, builder: Any, sums: list[Any], row: Any, column: Any, k: Any) -> list[Any]:
        """The sums with the k-th products."""
        row = builder.gep(row, [builder.mul(k, _number(k, self.width * LANES))])
        column = builder.gep(column, [builder.mul(k, _number(k, self.height))])
        lanes = []
        for v in range(self.width):
            lanes.append(builder.load(_vector_at(builder, row, _number(k, v * LANES))))
            lanes[-1].align = 4
        found = []
        for h in range(self.height):
            weight = _everywhere(builder, builder.load(builder.gep(column, [_number(k, h)])))
            for v in range(self.width):
                product = builder.fmul(lanes[v], weight, flags=_FUSED)
                found.append(builder.fadd(sums[h * self.width + v], product, flags=_FUSED))
        return found

    def _store(self) -> Any:
        @intrinsic
        def tile_store(typing_context: Any, y: Any, o: Any, step: Any, sums: Any) -> Any:
            def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                y, o, step, sums = arguments
                place = builder.gep(context.make_array(signature.args[0])(context, builder, y).data, [o])
                for n in range(self.n):
                    if n and n % self.width == 0:
                        place = builder.gep(place, [step])
                    at = _vector_at(builder, place, _number(o, n % self.width * LANES))
                    builder.store(builder.extract_value(sums, n), at).align = 4
                return context.get_dummy_value()

            return types.void(y, types.uintp, types.uintp, self.kind), code

        return tile_store


def _vector_at(builder: Any, start: Any, offset: Any) -> Any:
    return builder.bitcast(builder.gep(start, [offset]), _VECTOR.as_pointer())


def _number(like: Any, value: int) -> Any:
    return ir.Constant(like.type, value)


def _phi(builder: Any, value: Any, block: Any) -> Any:
    phi = builder.phi(value.type)
    phi.add_incoming(value, block)
    return phi


def _everywhere(builder: Any, number: Any) -> Any:
    """Lanes of one number."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))
