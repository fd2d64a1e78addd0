"""The source of the kernels for convolutions without patches in memory; see ``direct.py`` for how they are launched.

They are products of matrices. One operand, the patches, exists only in shared memory, a few steps of the sum at a time.
Each thread has 16 sums in registers: four rows by four columns, spread so that neighbouring threads read neighbouring
numbers of shared memory. A few products are added up, and then added to what came before them without their rounding
error, so that long sums are as accurate as short ones.

``convolve`` is the convolution, with what follows it. Backwards, from dE/dY to dE/dX, it is the same sum with other
steps. ``convolve_gradient`` is dE/dW, whose long sum, over the pixels of all samples, is divided among many blocks;
``convolve_gradients`` is all that backward does between dE/dY after an activation, and pooling, and dE/dW and dE/dB.
"""

from portnn_cupy.kernels import CHAIN, SCALARS
from portnn_cupy.kernels import PIXELS as POOLING
from portnn_cupy.reductions import TOGETHER

STEPS = 8  # of the sum, between two barriers
PIXELS = 512  # of a tile, at most
SPACE = 4416  # numbers in shared memory: the steps of both operands, then the results of a tile

# Tap (u, v) of target pixel (i, j) is source pixel ((i sh - ph + u dh) / th, (j sw - pw + v dw) / tw), where th and tw
# divide and it is on the image.
FIELDS = (
    "n",  # samples
    *("H", "W", "C", "size"),  # source images; the channels of a group
    *("oh", "ow", "F", "filters"),  # target images; the channels of a group
    *("kh", "kw", "dh", "dw", "sh", "sw", "ph", "pw", "th", "tw"),
    *("tap", "inner", "outer", "part"),  # the weights' steps: next tap, source channel, target channel, group
    *("qh", "qw", "rows", "columns"),  # windows of pooling, and how many begin on a target image
    *("lanes", "steps", "parts"),  # threads along the target channels; of dE/dW, along the sums; parts of its sum
)

PLACES = (
    f"#define STEPS {STEPS}\n#define PIXELS {PIXELS}\n#define SPACE {SPACE}\n"
    f"typedef struct {{ int {', '.join(FIELDS)}; }} geometry;\n"
    r"""
#define FAR (-(1 << 30))  /* where no tap is on the image */

/* A target pixel, as its taps need it. */
INSIDE void place_pixel(geometry g, int s, int i, int j, int *from, int *top, int *left)
{
    *from = s * g.H * g.W, *top = i * g.sh - g.ph, *left = j * g.sw - g.pw;
}

/* Whether a tap is on the image, along one axis; its place is divided by the step ``t``. */
INSIDE int is_there(int *a, int t, int size)
{
    if (*a < 0 || (t > 1 && *a % t)) return 0;
    if (t > 1) *a /= t;
    return *a < size;
}

/* The number under a tap, (u, v) away from the first, 0 where none is; ``c``: its channel. */
INSIDE real under(const real *x, geometry g, int from, int top, int left, int u, int v, int c)
{
    int a = top + u * g.dh, b = left + v * g.dw;
    if (!is_there(&a, g.th, g.H) || !is_there(&b, g.tw, g.W)) return 0;
    return x[(from + a * g.W + b) * g.C + c];
}

/* Whether the tap of a step of the sum is on the image. */
INSIDE int is_under(geometry g, int top, int left, int step)
{
    int u = step / g.size / g.kw, a = top + u * g.dh, b = left + step / g.size % g.kw * g.dw;
    return u < g.kh && is_there(&a, g.th, g.H) && is_there(&b, g.tw, g.W);
}
"""
)

CONVOLVE = r"""
/* y = f(sum over taps and channels + bias) for a tile of pixels and filters; the pixels in the order of the windows of
   pooling, of which a tile has whole ones: 1 their largest numbers, 2 their means go to ``pooled``. ``y`` may be null,
   and ``bias``. Forward, taps that are on no image see zeros, those of the padding. Backwards they are no terms of the
   sum: zero times an infinite weight would make it NaN. Such weights are rare, and only where one was seen are terms
   told apart. */
KERNEL void convolve(const real *x, const real *w, const real *bias, real *y, real *pooled, int kind, int pooling,
    const geometry g)
{
    SHARED real space[SPACE];
    SHARED int at[PIXELS], from[PIXELS], top[PIXELS], left[PIXELS], is_odd;
    int t = threadIdx.x, lanes = g.lanes, lane = t % lanes, pixels = THREADS / lanes, pixel = t / lanes;
    int tile = 4 * pixels, filters = 4 * lanes, group = blockIdx.z, first = blockIdx.y * filters;
    int window = g.qh * g.qw, windows = tile / window, before = blockIdx.x * windows;
    int pitch = ((tile - 1) | 31) + 5, pitch_w = ((filters - 1) | 31) + 5;  /* no two steps in one bank */
    real *steps = space, *weights = space + STEPS * pitch;
    real sums[4][4] = {{0}}, lost[4][4] = {{0}};

    if (t == 0) is_odd = 0;
    for (int m = t; m < tile; m += THREADS) {
        int p = before + m / window, s = p / g.columns / g.rows;
        int i = p / g.columns % g.rows * g.qh + m % window / g.qw, j = p % g.columns * g.qw + m % window % g.qw;
        at[m] = -1, from[m] = 0, top[m] = left[m] = FAR;
        if (m >= windows * window || s >= g.n || i >= g.oh || j >= g.ow) continue;
        at[m] = (s * g.oh + i) * g.ow + j;
        place_pixel(g, s, i, j, &from[m], &top[m], &left[m]);
    }

    /* A thread fetches one step of each eight: of channel c under tap (u, v). */
    int step = t % STEPS, c = step % g.size, u = step / g.size / g.kw, v = step / g.size % g.kw;
    int on_c = STEPS % g.size, on_v = STEPS / g.size % g.kw, on_u = STEPS / g.size / g.kw;
    for (int start = 0; start < g.kh * g.kw * g.size; start += STEPS) {
        int is_step = u < g.kh;
        __syncthreads();
        for (int m = t / STEPS; m < tile; m += THREADS / STEPS)
            steps[step * pitch + m] =
                is_step ? under(x, g, from[m], top[m], left[m], u, v, group * g.size + c) : (real)0;
        for (int f = t / STEPS; f < filters; f += THREADS / STEPS) {
            real weight = is_step && first + f < g.filters
                ? w[(u * g.kw + v) * g.tap + c * g.inner + (first + f) * g.outer + group * g.part] : (real)0;
            weights[step * pitch_w + f] = weight;
            if (g.dh < 0 && weight - weight != 0) is_odd = 1;  /* backwards; it stays so */
        }
        c += on_c, v += on_v, u += on_u;
        if (c >= g.size) c -= g.size, ++v;
        if (v >= g.kw) v -= g.kw, ++u;
        __syncthreads();
        if (pixel >= pixels) continue;
        real part[4][4] = {{0}};
        if (is_odd) {
            for (int k = 0; k < STEPS; ++k) FOUR(i) {
                int m = pixel + i * pixels;
                if (is_under(g, top[m], left[m], start + k))
                    FOUR(j) part[i][j] += steps[k * pitch + m] * weights[k * pitch_w + lane + j * lanes];
            }
        } else {
            UNROLLED for (int k = 0; k < STEPS; ++k) {
                real a[4], b[4];
                FOUR(i) a[i] = steps[k * pitch + pixel + i * pixels];
                FOUR(j) b[j] = weights[k * pitch_w + lane + j * lanes];
                FOUR(i) FOUR(j) part[i][j] += a[i] * b[j];
            }
        }
        FOUR(i) FOUR(j) add(&sums[i][j], &lost[i][j], part[i][j]);
    }

    __syncthreads();
    if (pixel < pixels) FOUR(j) {
        int f = lane + j * lanes;
        real added = bias && first + f < g.filters ? bias[group * g.filters + first + f] : (real)0;
        FOUR(i) space[(pixel + i * pixels) * filters + f] = apply(kind, sums[i][j] + added);
    }
    __syncthreads();
    if (y) for (int e = t; e < tile * filters; e += THREADS) {
        int f = e % filters, m = e / filters;
        if (at[m] >= 0 && first + f < g.filters)
            y[(number)at[m] * g.F + group * g.filters + first + f] = space[e];
    }
    if (pooling) for (int e = t; e < windows * filters; e += THREADS) {
        int f = e % filters, p = before + e / filters, i = p / g.columns % g.rows, j = p % g.columns;
        int s = p / g.columns / g.rows, rows = g.oh / g.qh, columns = g.ow / g.qw;
        if (s >= g.n || i >= rows || j >= columns || first + f >= g.filters) continue;
        const real *seen = space + e / filters * window * filters + f;
        real found = seen[0], lost = 0;
        for (int q = 1; q < window; ++q) see(pooling, &found, &lost, seen[q * filters]);
        if (pooling == 2) found = found / (real)window;
        pooled[(number)((s * rows + i) * columns + j) * g.F + group * g.filters + first + f] = found;
    }
}
"""

GRADIENT = r"""
/* The sum of one number of each part, in a fixed order: 16 at a time, as a tree. */
INSIDE real of_all(const volatile real *sums, number apart, int parts)
{
    real sum = 0;
    for (int p = 0; p < parts; p += 16) {
        real seen[16];
        UNROLLED for (int i = 0; i < 16; ++i) seen[i] = p + i < parts ? sums[(p + i) * apart] : (real)0;
        UNROLLED for (int i = 0; i < 8; ++i) seen[i] += seen[i + 8];
        FOUR(i) seen[i] += seen[i + 4];
        sum += (seen[0] + seen[1]) + (seen[2] + seen[3]);
    }
    return sum;
}

#define SUMMED const real *x, const real *d, real *out, const geometry g, real *memory, unsigned *tickets
#define CHAINED const real *y, const real *pooled, real *dx, int kind, int pooling, WINDOW
#define NOT_CHAINED 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0

/* dE/dW for a tile of rows (tap, channel) and columns (filter), from every ``parts``-th run of pixels. Teams of threads
   share the pixels of a run; their sums are added as a tree. The block that finishes a tile last, as a ticket tells,
   adds the tile's parts.
   ``joined``: ``d`` is not dE/dY, but the error after an activation, whose output is ``y``, and after pooling. Then
   dE/dY goes to ``dx``, unless that is null; dE/dB, the sum of dE/dY times 1, is one more row of ``out``. */
INSIDE __forceinline__ void sum_products(SUMMED, const int joined, CHAINED)
{
    SHARED real space[SPACE];
    SHARED int from[THREADS], top[THREADS], left[THREADS], last;
    int t = threadIdx.x, high = 4 * g.steps, wide = 4 * g.lanes, K = g.kh * g.kw * g.size + joined;
    int tall = (K + high - 1) / high, broad = (g.filters + wide - 1) / wide;
    int tile = blockIdx.x / g.parts, part = blockIdx.x % g.parts;
    int row = tile % tall * high, column = tile / tall % broad * wide, group = tile / tall / broad;
    int run = SPACE / (high + wide) < THREADS ? SPACE / (high + wide) : THREADS, all = g.n * g.oh * g.ow;
    real *patches = space, *errors = space + run * high;

    /* What a thread fetches: of channel c under tap (u, v), and of filter f. */
    int k = t % high, c = (row + k) % g.size, u = (row + k) / g.size / g.kw, v = (row + k) / g.size % g.kw;
    int f = t % wide;

    int team = g.steps * g.lanes, teams = THREADS / team, mine = t / team;
    int own_k = t % team % g.steps, own_f = t % team / g.steps;
    real sums[4][4] = {{0}}, lost[4][4] = {{0}};
    for (number start = (number)part * run; start < all; start += (number)g.parts * run) {
        if (t < run) {
            int m = start + t < all ? (int)start + t : -1;
            from[t] = 0, top[t] = left[t] = FAR;
            if (m >= 0) place_pixel(g, m / g.ow / g.oh, m / g.ow % g.oh, m % g.ow, &from[t], &top[t], &left[t]);
        }
        __syncthreads();
        if (t / high < THREADS / high)
            for (int r = t / high; r < run; r += THREADS / high)
                patches[r * high + k] = u < g.kh ? under(x, g, from[r], top[r], left[r], u, v, group * g.size + c)
                    : (real)(joined && row + k == K - 1);
        if (t / wide < THREADS / wide)
            for (int r = t / wide; r < run; r += THREADS / wide) {
                number at = (start + r) * g.F + group * g.filters + column + f;
                int is_error = start + r < all && column + f < g.filters;
                real error = 0;
                if (is_error && !joined) error = d[at];
                if (is_error && joined) {
                    error = pooling == 1 ? max_pool_error(y, pooled, d, at, PLAN)
                        : pooling ? avg_pool_error(d, at, PLAN) : d[at];
                    error = chain_of(kind, y[at], error);
                    if (dx && row == 0) dx[at] = error;
                }
                errors[r * wide + f] = error;
            }
        __syncthreads();
        if (mine >= teams) continue;
        real part_of[4][4] = {{0}};
        for (int r = mine; r < run; r += teams) {
            real a[4], b[4];
            FOUR(i) a[i] = patches[r * high + own_k + i * g.steps];
            FOUR(j) b[j] = errors[r * wide + own_f + j * g.lanes];
            FOUR(i) FOUR(j) part_of[i][j] += a[i] * b[j];
        }
        FOUR(i) FOUR(j) add(&sums[i][j], &lost[i][j], part_of[i][j]);
    }

    __syncthreads();
#define OWN(who, i, j) space[(who) * high * wide + (own_f + (j) * g.lanes) * high + own_k + (i) * g.steps]
    if (mine < teams) FOUR(i) FOUR(j) OWN(mine, i, j) = sums[i][j];
    for (int n = teams, half; n > 1; n = half) {
        half = (n + 1) / 2;
        __syncthreads();
        if (mine < n - half) FOUR(i) FOUR(j) OWN(mine, i, j) += OWN(mine + half, i, j);
    }
    __syncthreads();

    int here = K - row < high ? K - row : high, beside = g.filters - column < wide ? g.filters - column : wide;
    number size = (number)K * g.F;
#define EACH_SUM(e, at) for (int e = t; e < here * beside; e += THREADS) { \
    number at = (number)(row + e / beside) * g.F + group * g.filters + column + e % beside;
    real *to = g.parts > 1 ? memory + part * size : out;
    EACH_SUM(e, at) to[at] = space[e % beside * high + e / beside]; }
    if (g.parts == 1) return;
    __threadfence();  /* a block that sees the ticket sees the sums */
    __syncthreads();
    if (t == 0) {
        last = atomicAdd(&tickets[tile], 1u) == (unsigned)(g.parts - 1);
        if (last) tickets[tile] = 0;  /* for the next launch */
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    EACH_SUM(e, at) out[at] = of_all(memory + at, size, g.parts); }
}

KERNEL void convolve_gradient(SUMMED)
{
    sum_products(x, d, out, g, memory, tickets, 0, NOT_CHAINED);
}

KERNEL void convolve_gradients(SUMMED, CHAINED)
{
    sum_products(x, d, out, g, memory, tickets, 1, y, pooled, dx, kind, pooling, PLAN);
}
"""

NAMES = ("convolve", "convolve_gradient", "convolve_gradients")


def source(head: str) -> str:
    """All of them; ``head`` names the types and the functions."""
    return f"{head}{CHAIN}{POOLING}{SCALARS}{TOGETHER}{PLACES}{CONVOLVE}{GRADIENT}"
