"""The GPU in software finds the mistakes it is there for: each is made here on purpose, beside the right version."""

import ctypes

import numpy as np
import pytest

import portnn_cupy.graph
import software_gpu
from captured import RATES, State, Step, eager, same
from faults import refused
from portnn_cupy.graph import CapturedStep, EagerStepWarning
from software_gpu import control

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not software_gpu.is_wanted(), reason="no GPU in software: PORTNN_SOFTWARE_GPU is not set"),
]


# -- memory ------------------------------------------------------------------------------------------------------------

N = 128  # 512 bytes of float32: just what CuPy's pool hands out, so that the next array may begin at the end of this one


def test_a_write_past_the_end(kernel, cupy):
    fill = kernel("void fill(float *x, int n) { int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) x[i] = i; }")
    for size in (N, N - 3):
        x, beside = cupy.zeros(size, "f4"), cupy.zeros(size, "f4")
        fill(3, 64, x, np.int32(size))
        words = rf"fill: thread \({size % 64}, 0, 0\) of block \({size // 64}, 0, 0\) writes memory outside of an array: 4 bytes, 0 bytes after"
        refused(words, fill, 3, 64, x, np.int32(size + 1))
        assert np.array_equal(beside.get(), np.zeros(size))


def test_a_read_past_the_end_and_before_the_beginning(kernel, cupy):
    copy = kernel("void copy(const float *x, float *y, int from) { y[threadIdx.x] = x[(int)threadIdx.x + from]; }")
    x, y = cupy.zeros(N, "f4"), cupy.zeros(N, "f4")
    copy(1, N, x, y, np.int32(0))
    refused("copy: .*reads memory outside of an array", copy, 1, N, x, y, np.int32(1))
    refused("copy: .*reads memory outside of an array", copy, 1, N, x, y, np.int32(-(1 << 27)))


def test_memory_of_the_host(kernel, cupy):
    double = kernel("void twice(float *x) { x[threadIdx.x] *= 2; }")
    host = np.ones(4, np.float32)
    refused("which is no memory of the device", double, 1, 4, np.uint64(host.ctypes.data))
    assert host.tolist() == [1.0] * 4


def test_memory_that_was_freed(kernel, cupy):
    double = kernel("void twice(float *x) { x[threadIdx.x] *= 2; }")
    place = cupy.cuda.Memory(512)
    address = np.uint64(place.ptr)
    double(1, 4, address)
    del place
    refused("twice: .*reads memory outside of an array", double, 1, 4, address)


def test_a_copy_past_the_end(cupy, backend):
    x, y = cupy.zeros(N, "f4"), cupy.zeros(N, "f4")
    copy = cupy.cuda.runtime.memcpyAsync
    copy(y.data.ptr, x.data.ptr, 4 * N, 3, 0)
    refused("a copy reads memory outside", copy, y.data.ptr, x.data.ptr, 4 * N + 4, 3, 0)


def test_memory_that_nothing_was_written_to_is_full_of_nan(cupy, backend):
    assert np.isnan(cupy.empty((5, 7), "f4").get()).all()
    x = cupy.ones(1000)
    del x
    assert np.isnan(cupy.empty(1000).get()).all()  # the same memory, out of CuPy's pool


def test_numbers_and_shared_memory_too(kernel, cupy):
    """Whole numbers are -1, bytes 255; shared memory is unknown anew for each block."""
    assert set(cupy.empty(7, "i4").get()) == {-1}
    assert set(cupy.empty(700, "u1").get()) == {255}
    source = """void keeps(float *x) {
        __shared__ float part[32];
        if (blockIdx.x == 0) part[threadIdx.x] = 1;
        __syncthreads();
        x[blockIdx.x * 32 + threadIdx.x] = part[threadIdx.x];
    }"""
    x = cupy.zeros(64, "f4")
    kernel(source)(2, 32, x)
    assert np.isnan(x.get()).tolist() == [False] * 32 + [True] * 32


def test_also_in_each_replay(backend, cupy):
    """A step that forgets to write a part of an array: right by chance if the memory still holds the last step's."""

    class Forgets(Step):
        def __call__(self):
            a, b, step = super().__call__()
            partial = cupy.empty(2)
            partial[:1] = a[:1]
            if self.runs > 2:  # in the graph alone
                a = partial
            return [a, b, step]

    state = State(backend, rates=RATES)
    run = backend.compile(Forgets(state), state)
    for k in range(5):
        run()
        assert np.isnan(backend.to_numpy(state.home["a"])).any() == (k >= 2)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda x: (x, np.int32(4), np.float32(2)), "argument 1 is i4, it takes i8"),
        (lambda x: (x.astype("f8"), np.int64(4), np.float32(2)), "argument 0 is Pf8, it takes Pf4"),
        (lambda x: (x[::2], np.int64(2), np.float32(2)), "argument 0 is Pf4, with gaps, it takes Pf4"),
        (lambda x: (None, np.int64(4), np.float32(2)), "argument 0 is NoneType"),
        (lambda x: (x, np.int64(4), 2.0), "argument 2 is float, it takes f4"),
        (lambda x: (x, np.int64(4), np.float64(2)), "argument 2 is f8, it takes f4"),
        (lambda x: (x.get(), np.int64(4), np.float32(2)), "argument 0 is an array of the host, it takes Pf4"),
        (lambda x: (x, np.int64(4), np.float32(2), x), "takes 3 arguments, not 4"),
        (lambda x: (x, np.int64(4)), "takes 3 arguments, not 2"),
    ],
)
@pytest.mark.parametrize("made", ["RawModule", "RawKernel"])
def test_arguments_of_other_types(cupy, backend, wrong, words, made):
    code = 'extern "C" __global__ void scale(float *x, long long n, float by) { if (x && n > threadIdx.x) x[threadIdx.x] *= by; }'
    x = cupy.ones(4, "f4")
    scale = cupy.RawKernel(code, "scale") if made == "RawKernel" else cupy.RawModule(code=code).get_function("scale")
    scale((1,), (4,), (x, np.int64(4), np.float32(2)))
    scale((1,), (4,), (np.uint64(0), 4, np.float32(2)))
    assert x.get().tolist() == [2.0] * 4
    with pytest.raises(TypeError, match=words):
        scale((1,), (4,), wrong(x))


def test_a_struct_as_an_argument(cupy, backend):
    code = """typedef struct { long long size[2]; unsigned long long at[2]; } table;
    extern "C" __global__ void ones(const table all) {
        for (int i = 0; i < all.size[blockIdx.y]; ++i) ((float *)all.at[blockIdx.y])[i] = 1;
    }"""
    ones, x, y = cupy.RawModule(code=code).get_function("ones"), cupy.zeros(4, "f4"), cupy.zeros(3, "f4")
    table = np.zeros((), [("size", np.int64, 2), ("at", np.uint64, 2)])
    table["size"], table["at"] = (4, 3), (x.data.ptr, y.data.ptr)
    ones((1, 2), (1,), (table,))
    assert x.get().tolist() + y.get().tolist() == [1.0] * 7
    with pytest.raises(TypeError, match="argument 0 is V16, it takes V32"):
        ones((1, 2), (1,), (np.zeros((), [("size", np.int64, 2)]),))
    with pytest.raises(TypeError, match="argument 0 is an array of the host, it takes V32"):
        ones((1, 2), (1,), (np.zeros(4, np.int64),))


# -- products ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("off", "words"), [(-1, "leading dimensions 3, 5"), (1, r"product 3 x 4 x 5 reads, as its")])
def test_a_wrong_leading_dimension(backend, monkeypatch, off, words):
    import portnn_cupy.blas

    operand = portnn_cupy.blas.operand

    def wrong(x):
        read, operation, step = operand(x)
        return read, operation, step + off * (x.shape == (5, 4))

    a, b = (backend.asarray(np.ones(shape)) for shape in ((5, 4), (4, 3)))
    assert np.array_equal(backend.to_numpy(backend.xp.matmul(a, b)), np.full((5, 3), 4.0))
    monkeypatch.setattr(portnn_cupy.blas, "operand", wrong)
    with pytest.raises(RuntimeError, match="cuBLAS failed to gemm"):
        backend.xp.matmul(a, b)
    (fault,) = control.faults()
    assert words.partition(",")[0] in fault


def test_a_wrong_leading_dimension_of_matrices_that_are_transposed(backend, monkeypatch):
    """Each operand, read along rows or columns: one too small is refused, one too large runs past the matrix's end."""
    import portnn_cupy.blas

    operand, planted = portnn_cupy.blas.operand, {}

    def wrong(x):
        read, operation, step = operand(x)
        return read, operation, step + planted.get(x.shape, 0)

    monkeypatch.setattr(portnn_cupy.blas, "operand", wrong)
    for a_is_turned in (False, True):
        for b_is_turned in (False, True):
            a, b = (
                backend.asarray(np.ones(shape))
                for shape in ((4, 5) if a_is_turned else (5, 4), (3, 4) if b_is_turned else (4, 3))
            )
            a, b = a.T if a_is_turned else a, b.T if b_is_turned else b
            for where, off in ((None, 0), ((5, 4), -1), ((5, 4), 1), ((4, 3), -1), ((4, 3), 1)):
                planted.clear()
                if where is None:
                    assert np.array_equal(backend.to_numpy(backend.xp.matmul(a, b)), np.full((5, 3), 4.0))
                    continue
                planted[where] = off
                with pytest.raises(RuntimeError, match="cuBLAS failed to gemm"):
                    backend.xp.matmul(a, b)
                (fault,) = control.faults()
                number = "second" if where == (5, 4) else "first"  # cuBLAS gets them in the other order
                assert ("leading dimensions" if off < 0 else f"reads, as its {number} matrix") in fault


WRONG_BATCHES = {
    "nothing": ({}, None),
    "a leading dimension that is too small": ({"lda": 3}, "leading dimensions 3, 3, 4"),
    "a leading dimension that is too large": ({"ldb": 4}, "reads, as its second matrix"),
    "a step that is too large": ({"step_a": 13}, "reads, as its first matrix"),
    "a matrix too many": ({"count": 3}, "reads, as its first matrix"),
    "a result that is too large": ({"step_c": 30}, "writes memory outside"),
    "too many rows": ({"m": 5, "lda": 5, "ldc": 5}, "reads, as its first matrix"),
}


@pytest.mark.parametrize("name", WRONG_BATCHES)
@pytest.mark.parametrize("strided", [True, False])
def test_products_of_many_matrices(cupy, backend, name, strided):
    """cuBLAS's batched products, which CuPy calls for arrays of three axes; here two of 4 x 3 x 2."""
    from portnn_cupy.blas import load_library

    changed, words = WRONG_BATCHES[name]
    g = {
        "m": 4,
        "n": 2,
        "k": 3,
        "lda": 4,
        "ldb": 3,
        "ldc": 4,
        "step_a": 12,
        "step_b": 6,
        "step_c": 8,
        "count": 2,
    } | changed
    if not strided and {"step_a", "step_c", "count"} & set(changed):
        pytest.skip("it has no steps")
    a, b, c = (cupy.ones(size) for size in (24, 12, 16))
    library, handle, one, zero = load_library(), ctypes.c_void_p(), ctypes.c_double(1), ctypes.c_double(0)
    library.cublasCreate_v2(ctypes.byref(handle))
    sizes = [handle, 0, 0, g["m"], g["n"], g["k"], ctypes.byref(one)]
    step_a, step_b, step_c = (ctypes.c_longlong(g[f"step_{which}"]) for which in "abc")
    if strided:
        first, second, third = (ctypes.c_void_p(x.data.ptr) for x in (a, b, c))
        call, rest = library.cublasDgemmStridedBatched, [first, g["lda"], step_a, second, g["ldb"], step_b]
        rest += [ctypes.byref(zero), third, g["ldc"], step_c, g["count"]]
    else:
        lists = [cupy.asarray([x.data.ptr, x.data.ptr + 8 * g[f"step_{w}"]]) for x, w in ((a, "a"), (b, "b"), (c, "c"))]
        first, second, third = (ctypes.c_void_p(x.data.ptr) for x in lists)
        call, rest = (
            library.cublasDgemmBatched,
            [first, g["lda"], second, g["ldb"], ctypes.byref(zero), third, g["ldc"], 2],
        )
    status, faults = call(*sizes, *rest), control.faults()
    library.cublasDestroy_v2(handle)
    assert bool(status) == bool(words)
    assert words in faults[0] if words else c.get().tolist() == [3.0] * 16


# -- races -------------------------------------------------------------------------------------------------------------

SHIFT = "void shift(float *x, int n) { int i = blockIdx.x * blockDim.x + threadIdx.x; x[i] = x[(i + 1) % n]; }"
SUM = """void sum(const float *x, float *y) {
    __shared__ float part[64];
    int i = threadIdx.x;
    part[i] = x[blockIdx.x * 64 + i];
    for (int half = 32; half; half /= 2) {
        BARRIER
        if (i < half) part[i] += part[i + half];
    }
    if (i == 0) y[blockIdx.x] = part[0];
}"""


def test_a_race_between_blocks(kernel, cupy):
    shift = kernel(SHIFT)
    with control.settings(races=True):
        refused("a race", shift, 4, 1, cupy.arange(4, dtype="f4"), np.int32(4))
        refused("a race", shift, 1, 4, cupy.arange(4, dtype="f4"), np.int32(4))


def test_a_race_in_shared_memory(kernel, cupy):
    x, y = cupy.arange(128, dtype="f4"), cupy.empty(2, "f4")
    right, wrong = kernel(SUM.replace("BARRIER", "__syncthreads();")), kernel(SUM.replace("BARRIER", ""))
    with control.settings(races=True):
        for order in (0, 1, 2):
            with control.settings(order=order):
                right(2, 64, x, y)
        assert y.get().tolist() == [2016.0, 6112.0]
        refused("sum: .* a race", wrong, 2, 64, x, y)


def test_a_race_changes_the_bits_in_a_drawn_order(kernel, cupy):
    shift, found = kernel(SHIFT), set()
    for order in range(4):
        x = cupy.arange(64, dtype="f4")
        with control.settings(order=order):
            shift(4, 16, x, np.int32(64))
        found.add(tuple(x.get()))
    assert len(found) > 1


def test_sums_by_atomic_additions_depend_on_the_order(kernel, cupy):
    add = kernel("void add(const float *x, float *y) { atomicAdd(y, x[blockIdx.x * blockDim.x + threadIdx.x]); }")
    x, found = cupy.asarray(np.random.default_rng(0).standard_normal(256), "f4"), set()
    for order in range(4):
        y = cupy.zeros(1, "f4")
        with control.settings(order=order, races=True):
            add(4, 64, x, y)
        found.add(float(y[0]))
    assert len(found) > 1
    assert np.allclose(list(found), float(x.sum()), rtol=1e-4)


LAST = """void last(const float *x, float *sums, unsigned *ticket, float *y) {
    __shared__ int is_last;
    if (threadIdx.x < 2) sums[blockIdx.x * 2 + threadIdx.x] = x[blockIdx.x * 2 + threadIdx.x];
    FENCE
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(ticket, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!is_last) return;
    AGAIN
    const volatile float *all = sums;
    if (threadIdx.x == 5) for (int i = *y = 0; i < 2 * gridDim.x; ++i) *y += all[i];
}"""


def test_the_last_block_sees_the_sums_of_the_others(kernel, cupy):
    """Fences and a ticket, taken by an atomic addition, order what blocks do; without a fence they do not."""
    x, sums, y = cupy.arange(8, dtype="f4"), cupy.empty(8, "f4"), cupy.empty(1, "f4")
    fence = "__threadfence();"
    for order in (0, 1):
        with control.settings(order=order, races=True):
            kernel(LAST.replace("FENCE", fence).replace("AGAIN", fence))(4, 64, x, sums, cupy.zeros(1, "u4"), y)
            assert y.get().tolist() == [28.0]
            for first, second in (("", fence), (fence, "")):
                wrong = kernel(LAST.replace("FENCE", first).replace("AGAIN", second))
                refused("last: .* a race", wrong, 4, 64, x, sums, cupy.zeros(1, "u4"), y)


def test_a_barrier_that_some_threads_never_reach(kernel, cupy):
    some = kernel("void some(float *x) { if (threadIdx.x < 40) __syncthreads(); x[threadIdx.x] = 1; }")
    with control.settings(races=True):
        refused("some threads of a block wait at a barrier", some, 1, 64, cupy.zeros(64, "f4"))


def test_our_kernels_have_no_races(backend):
    """A network of all that has a fused kernel: the same bits whatever the order, and no two threads at one place."""
    from captured import everything

    x, y = np.random.default_rng(0).standard_normal((10, 8, 8, 1)), np.arange(10) % 3
    found = []
    for order in (0, 1, 2):
        net = everything(type(backend)(capture=False))
        with control.settings(order=order, races=order == 1):
            net.fit(x, y, epochs=1, batch_size=5, verbose=0)
        found.append({path: backend.to_numpy(w) for path, w in net.parameters.items()})
    for other in found[1:]:
        same(other, found[0])


# -- warps, numbers ----------------------------------------------------------------------------------------------------


def test_warp_shuffles(kernel, cupy):
    source = """void warps(const float *x, float *y) {
        unsigned all = 0xffffffffu;
        float v = x[threadIdx.x], sum = v, before = v;
        for (int by = 16; by; by /= 2) sum += __shfl_down_sync(all, sum, by);
        for (int by = 1; by < 32; by *= 2) {
            float lower = __shfl_up_sync(all, before, by);
            if (threadIdx.x % 32 >= by) before += lower;
        }
        float other = __shfl_xor_sync(all, v, 1), first = __shfl_sync(all, v, 0, 8);
        unsigned odd = __ballot_sync(all, (int)v % 2);
        float *out = y + threadIdx.x * 5;
        out[0] = __shfl_sync(all, sum, 0), out[1] = before, out[2] = other, out[3] = first, out[4] = __popc(odd);
    }"""
    x, y = np.arange(64, dtype=np.float32), cupy.empty((64, 5), "f4")
    for order in (0, 1):
        with control.settings(order=order):
            kernel(source)(1, 64, cupy.asarray(x), y)
        sums, before, other, first, odd = y.get().T
        assert sums.tolist() == [496.0] * 32 + [1520.0] * 32
        assert before.tolist() == [*np.cumsum(x[:32]), *np.cumsum(x[32:])]
        assert other.tolist() == [float(i ^ 1) for i in range(64)]
        assert first.tolist() == [float(i & ~7) for i in range(64)]
        assert set(odd) == {16.0}


@pytest.mark.parametrize(("dtype", "most"), [("f4", 2), ("f8", 1)])
def test_functions_are_as_inexact_as_cudas(backend, cupy, dtype, most):
    x = np.linspace(-3, 3, 1001).astype(dtype)
    for name in ("exp", "tanh"):
        found = []
        for inexact in (0, 2):
            with control.settings(inexact=inexact):
                found.append(getattr(cupy, name)(cupy.asarray(x)).get())
        off = np.abs(found[1] - found[0]) / np.spacing(np.abs(found[0]))
        assert 0.9 < off.max() <= most
        assert np.allclose(found[0], getattr(np, name)(x), rtol=1e-6, atol=0)


# -- captured steps ----------------------------------------------------------------------------------------------------


def test_the_nodes_of_a_graph(backend, cupy):
    x = cupy.ones((4, 4))
    with backend.scope():
        backend.xp.matmul(x, x) + 1.0
        graph = backend.driver.capture(lambda: backend.xp.matmul(x, x) + 1.0)
    assert control.nodes(graph) == ["product 4 x 4 x 4", "cupy_add__float64_float_float64"]


def test_a_rebound_weight(backend, monkeypatch):
    """A graph whose new weight is bound to its name, not copied into its buffer, makes the same step again and again."""
    expected = eager(backend, 5, rates=RATES)

    def recorded(self):
        leaves = self.step()
        self._bind()
        self._copy([self.buffers[0], *leaves[1:]])

    for planted in (False, True):
        if planted:
            monkeypatch.setattr(CapturedStep, "_recorded", recorded)
        state = State(backend, rates=RATES)
        run = backend.compile(Step(state), state)
        for _ in range(5):
            run()
        assert np.array_equal(state.values()["a"], expected[-1]["a"]) != planted


def test_a_host_read_in_a_step(backend):
    def reads(step):
        float(step.state.home["a"][0])

    for hook in (lambda step: None, reads):
        state = State(backend, rates=RATES)
        run = backend.compile(Step(state, hook=hook), state)
        with control.log() as lines:
            run()
        assert any("DtoH" in line or "synchronize" in line for line in lines) == (hook is reads)
    run()
    with pytest.warns(EagerStepWarning, match="RuntimeError"):
        run()


def test_a_module_that_is_not_loaded_before_the_capture(backend, cupy, monkeypatch):
    new = cupy.RawKernel('extern "C" __global__ void late(double *x) { x[threadIdx.x] += 1; }', "late")

    def late(step):
        if step.runs > portnn_cupy.graph.WARM_UPS:
            new((1,), (2,), (step.state.home["a"],))

    state = State(backend, rates=RATES)
    run = backend.compile(Step(state, hook=late), state)
    run()
    run()
    with control.log() as lines, pytest.warns(EagerStepWarning, match="cannot be captured|CAPTURE|capturing"):
        run()
    assert "refused in a capture: loading a module" in lines


def test_a_wait_and_a_new_handle_in_a_capture(backend, cupy):
    from portnn_cupy import blas

    handle = ctypes.c_void_p()
    library = blas.load_library()
    for work in (backend.synchronize, lambda: blas._check(library.cublasCreate_v2(ctypes.byref(handle)), "create")):
        with backend.scope(), pytest.raises(Exception, match=r"capturing|NOT_INITIALIZED"):
            backend.driver.capture(work)
        with backend.scope():
            assert not backend.stream.is_capturing()


# -- builds ------------------------------------------------------------------------------------------------------------


def test_builds_that_nobody_uses_are_removed(tmp_path, monkeypatch):
    """Not those of today, not what is no build, and not the one that is asked for, which counts as used."""
    import os
    import time

    from software_gpu import builds

    monkeypatch.setenv(builds.FOLDER, str(tmp_path))
    old = time.time() - (builds.DAYS + 1) * 86400
    names = {"wanted": "a" * 24, "old": "b" * 24, "new": "c" * 24, "no build": "notes"}
    for name in names.values():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("kept")
    for name in ("wanted", "old", "no build"):
        os.utime(tmp_path / names[name], (old, old))
    assert builds.kept_folder(names["wanted"]) == tmp_path / names["wanted"]
    assert {path.name for path in tmp_path.iterdir()} == {names[name] for name in ("wanted", "new", "no build")}
    assert time.time() - (tmp_path / names["wanted"]).stat().st_mtime < 3600
