"""Philox 4x64-10 on the GPU, bit for bit the words that NumPy's generator gives.

The arithmetic is written in the part of C that CUDA and a host compiler share, so that a test can compile it anywhere.
Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

from typing import Any

ARITHMETIC = r"""
/* HIGH(a, b): the upper 64 bits of the product a * b */
DEVICE void philox(unsigned long long c[4], unsigned long long k0, unsigned long long k1) {
    for (int round = 0; round < 10; ++round) {
        unsigned long long h0 = HIGH(0xD2E7470EE14C6C93ull, c[0]), l0 = 0xD2E7470EE14C6C93ull * c[0];
        unsigned long long h1 = HIGH(0xCA5A826395121157ull, c[2]), l1 = 0xCA5A826395121157ull * c[2];
        c[0] = h1 ^ c[1] ^ k0;  c[1] = l1;  c[2] = h0 ^ c[3] ^ k1;  c[3] = l0;
        k0 += 0x9E3779B97F4A7C15ull;  k1 += 0xBB67AE8584CAA73Bull;
    }
}

/* Eight words of 32 bits from the block-th counter; NumPy counts up before it draws. */
DEVICE void eight_words(long long block, unsigned long long k0, unsigned long long k1, long long step,
                        long long* out, long long n) {
    unsigned long long c[4] = {(unsigned long long)block + 1, 0, (unsigned long long)step, 0};
    philox(c, k0, k1);
    for (int i = 0; i < 8; ++i)
        if (8 * block + i < n)
            out[8 * block + i] = (long long)((c[i / 2] >> (32 * (i % 2))) & 0xFFFFFFFFull);
}
"""

KERNEL = (
    "#define DEVICE __device__\n#define HIGH(a, b) __umul64hi(a, b)\n"
    + ARITHMETIC
    + r"""
extern "C" __global__ void random_bits(unsigned long long k0, unsigned long long k1, const long long* step,
                                       long long* out, long long n) {
    long long block = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (8 * block < n) eight_words(block, k0, k1, *step, out, n);
}
"""
)

THREADS = 128


def random_bits(key: tuple[int, int], step: Any, n: int) -> Any:
    """Returns ``n`` words of 32 bits as int64; ``step`` is a 0-d int64 array, read on the device."""
    import cupy

    out = cupy.empty(n, cupy.int64)
    if n:
        blocks = -(-n // (8 * THREADS))
        k0, k1 = (cupy.uint64(k) for k in key)
        _kernel()((blocks,), (THREADS,), (k0, k1, step, out, cupy.int64(n)))
    return out


_compiled: list[Any] = []


def _kernel() -> Any:
    if not _compiled:
        import cupy

        _compiled.append(cupy.RawKernel(KERNEL, "random_bits"))
    return _compiled[0]
