"""The source of the kernels that sum columns, whose threads work together; see ``sums.py`` for how they are launched.

Rows (R, C) are cut into strips of ``lanes`` columns, and the rows of a strip into ``parts``: a tile is a part of a
strip, and a block's. Neighbouring threads read neighbouring numbers, and each has four loads under way. The threads'
sums are added as a tree in shared memory. Where there are several parts, the block that finishes a strip last, as a
ticket tells, adds them, in their order: which block that is makes no difference to the sum. Tickets are counted by
integer atomics; there is no other atomic addition.
"""

from portnn_cupy.kernels import CHAIN, PIXELS

TOGETHER = r"""
#define SHARED __shared__
#define THREADS 256  /* of a block */
#ifdef __CUDACC__
#define UNROLLED _Pragma("unroll")
#else
#define UNROLLED
#endif
#define FOUR(i) UNROLLED for (int i = 0; i < 4; ++i)
"""

SUMS = r"""
#define TILES real *memory, unsigned *tickets, number lanes, number parts

/* Where a thread stands in a tile: its column, its first row and the distance to its next one. */
typedef struct { number strip, part, column, group, groups, width, row, step; int works; } place;

INSIDE place place_in(number tile, number C, number lanes, number parts)
{
    place p;
    p.width = lanes;
    p.groups = blockDim.x / lanes;
    p.part = tile % parts, p.strip = tile / parts;
    p.group = threadIdx.x / lanes;
    p.column = p.strip * lanes + threadIdx.x % lanes;
    p.works = p.group < p.groups && p.column < C;
    p.row = p.part * p.groups + p.group;
    p.step = parts * p.groups;
    return p;
}

#define EACH_TILE(p) for (number tile = blockIdx.x; tile < (C + lanes - 1) / lanes * parts; tile += gridDim.x) { \
    place p = place_in(tile, C, lanes, parts);
#define END }
#define IS_FIRST(p) (p.works && p.group == 0)

/* The sum of the numbers that the threads of a column have, in the column's first thread. */
INSIDE real tree(real *space, place p, real x)
{
    __syncthreads();  /* what was there has been read */
    space[threadIdx.x] = x;
    for (number n = p.groups, half; n > 1; n = half) {
        half = (n + 1) / 2;
        __syncthreads();
        if (p.works && p.group < n - half) space[threadIdx.x] += space[threadIdx.x + half * p.width];
    }
    return space[threadIdx.x];
}

/* The sum of one number of each of the first ``n`` threads, in the first. */
INSIDE real across(real *space, number n, real x)
{
    place p;
    p.width = 1, p.group = threadIdx.x, p.groups = n, p.works = p.group < n;
    return tree(space, p, x);
}

INSIDE real of_parts(const volatile real *sums, place p, number C, number parts)
{
    real sum = 0;
    if (p.works)
        for (number g = p.group; g < parts; g += p.groups) sum += sums[g * C + p.column];
    return sum;
}

/* Whether this block now has the sums of whole columns, in their first threads: in ``a`` and, if it is given, ``b``. */
INSIDE int sum_up(place p, real *a, real *b, real *memory, unsigned *tickets, number C, number parts)
{
    SHARED real space[THREADS];
    SHARED int last;
    *a = tree(space, p, *a);
    if (b) *b = tree(space, p, *b);
    if (parts == 1) return 1;
    if (IS_FIRST(p)) {
        memory[p.part * C + p.column] = *a;
        if (b) memory[(parts + p.part) * C + p.column] = *b;
    }
    __threadfence();  /* a block that sees the ticket sees the sums */
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(&tickets[p.strip], 1u) == (unsigned)(parts - 1);
        if (last) tickets[p.strip] = 0;  /* for the next launch */
    }
    __syncthreads();
    if (!last) return 0;
    __threadfence();
    *a = tree(space, p, of_parts(memory, p, C, parts));
    if (b) *b = tree(space, p, of_parts(memory + parts * C, p, C, parts));
    return 1;
}

/* out = the sum of x / size for each column; of x others / size as well, if ``others`` is given. */
KERNEL void sum_columns(const real *x, const real *others, real *out, real *out_of_others, real size,
    number R, number C, TILES)
{
    EACH_TILE(p)
    real a = 0, b = 0;
    if (p.works) {
        real sums[4] = {0, 0, 0, 0};
        for (number r = p.row; r < R; r += 4 * p.step) {
            real seen[4], other[4];
            FOUR(i) {
                number at = (r + i * p.step) * C + p.column;
                seen[i] = r + i * p.step < R ? x[at] : (real)0;
                other[i] = others && r + i * p.step < R ? others[at] : (real)0;
            }
            FOUR(i) sums[i] += seen[i];
            FOUR(i) b += seen[i] * other[i];
        }
        a = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }
    if (sum_up(p, &a, others ? &b : 0, memory, tickets, C, parts) && IS_FIRST(p)) {
        out[p.column] = a / size;
        if (others) out_of_others[p.column] = b / size;
    }
    END
}

/* From the sums of x - mean and of its square, where the mean was rounded: the mean of x - mean, a corrected mean, the
   variance, and 1 / sqrt(variance + epsilon). */
KERNEL void sum_squares(const real *x, const real *mean, real *rest, real *better, real *variance, real *scale,
    real size, real epsilon, number R, number C, TILES)
{
    EACH_TILE(p)
    real a = 0, b = 0;
    if (p.works) {
        real middle = mean[p.column];
        for (number r = p.row; r < R; r += 4 * p.step) {
            real seen[4];
            FOUR(i) seen[i] = r + i * p.step < R ? x[(r + i * p.step) * C + p.column] - middle : (real)0;
            a += (seen[0] + seen[1]) + (seen[2] + seen[3]);
            b += (seen[0] * seen[0] + seen[1] * seen[1]) + (seen[2] * seen[2] + seen[3] * seen[3]);
        }
    }
    if (sum_up(p, &a, &b, memory, tickets, C, parts) && IS_FIRST(p)) {
        real left = a / size, square = b / size - left * left;
        rest[p.column] = left;
        better[p.column] = mean[p.column] + left;
        square = square < 0 ? (real)0 : square;
        variance[p.column] = square;
        scale[p.column] = (real)1 / SQRT(square + epsilon);
    }
    END
}

/* The chain rule of an activation, dE/dX from Y, and the sum of each column of it. ``d`` is dE/dY; after a pooling
   layer it is that of the pooled image ``pooled``: 1 for the largest, 2 for the mean of each window. */
KERNEL void sum_chained(const real *y, const real *pooled, const real *d, real *dx, real *out, int kind, int pooling,
    WINDOW, number R, TILES)
{
    EACH_TILE(p)
    real a = 0;
    if (p.works) {
        for (number r = p.row; r < R; r += 4 * p.step) {
            real seen[4], error[4];
            FOUR(i) {
                number at = (r + i * p.step) * C + p.column;
                seen[i] = error[i] = 0;
                if (r + i * p.step < R) {
                    seen[i] = y[at];
                    error[i] = pooling == 1 ? max_pool_error(y, pooled, d, at, PLAN)
                        : pooling ? avg_pool_error(d, at, PLAN) : d[at];
                }
            }
            FOUR(i) if (r + i * p.step < R) {
                real chained = chain_of(kind, seen[i], error[i]);
                dx[(r + i * p.step) * C + p.column] = chained;
                a += chained;
            }
        }
    }
    if (sum_up(p, &a, 0, memory, tickets, C, parts) && IS_FIRST(p)) out[p.column] = a;
    END
}

/* Mean squared error: the error, its derivative with the chain rule of the last activation, and the sum of each column
   of that. There is one strip. */
KERNEL void squares_whole(const real *t, const real *y, real *error, real *dx, real *out, int kind, real size,
    number R, number C, TILES)
{
    SHARED real space[THREADS];
    EACH_TILE(p)
    real a = 0, b = 0, share = (real)2 / size;
    if (p.works) {
        for (number r = p.row; r < R; r += 4 * p.step) {
            real seen[4], apart[4];
            FOUR(i) {
                number at = (r + i * p.step) * C + p.column;
                seen[i] = r + i * p.step < R ? y[at] : (real)0;
                apart[i] = r + i * p.step < R ? seen[i] - t[at] : (real)0;
            }
            FOUR(i) if (r + i * p.step < R) {
                real chained = chain_of(kind, seen[i], apart[i] * share);
                dx[(r + i * p.step) * C + p.column] = chained;
                a += chained;
                b += apart[i] * apart[i];
            }
        }
    }
    if (sum_up(p, &a, &b, memory, tickets, C, parts)) {
        if (IS_FIRST(p)) out[p.column] = a;
        b = across(space, C, b);
        if (threadIdx.x == 0) *error = b / size;
    }
    END
}

/* The same for softmax cross-entropy with class numbers, after no activation: (softmax(Y) - Y*) share. Neighbouring
   threads have the classes of one row, and share their exponentials. There is one strip. */
KERNEL void classes_whole(const number *labels, const real *y, real *error, real *dx, real *out, real share,
    number R, number C, TILES)
{
    SHARED real space[THREADS];
    EACH_TILE(p)
    real a = 0, b = 0;
    number first = threadIdx.x - p.column;  /* the thread of the row's first class */
    for (number top = p.part * p.groups; top < R; top += p.step) {
        number r = top + p.group;
        int here = p.works && r < R;
        const real *row = y + r * C;
        real m = 0, sum = 0;
        if (here) {
            m = row[0];
            for (number c = 1; c < C; ++c) m = row[c] > m || row[c] != row[c] ? row[c] : m;  /* NaN wins */
        }
        __syncthreads();
        if (here) space[threadIdx.x] = EXP(row[p.column] - m);
        __syncthreads();
        if (here) {
            for (number c = 0; c < C; ++c) sum += space[first + c];
            int right = p.column == labels[r];
            real part = (space[threadIdx.x] / sum - (real)right) * share;
            dx[r * C + p.column] = part;
            a += part;
            if (right) b += (LOG(sum) - (row[p.column] - m)) * share;
        }
    }
    if (sum_up(p, &a, &b, memory, tickets, C, parts)) {
        if (IS_FIRST(p)) out[p.column] = a;
        b = across(space, C, b);
        if (threadIdx.x == 0) *error = b;
    }
    END
}
"""


def source(head: str) -> str:
    """All of them; ``head`` names the types and the functions."""
    return f"{head}{CHAIN}{PIXELS}{TOGETHER}{SUMS}"
