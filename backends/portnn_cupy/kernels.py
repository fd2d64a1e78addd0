"""The source of the fused kernels: each thread computes all values that it writes.

There are no atomic additions, so the same step gives the same bits each time. A test compares every kernel with its
portable routine. ``real`` is float or double.
Many arrays come as one argument, a struct of their addresses: each argument costs the host time in every launch.
Images are (N, H, W, C), sequences (N, 1, L, C); ``WINDOW`` is a plan as integers.
"""

HEAD = r"""
#define KERNEL extern "C" __global__
#define INSIDE static __device__

typedef long long number;
typedef unsigned long long word;

/* A loop over 0 .. n - 1, divided among all threads, however many there are. */
#define EACH(i, n) \
    for (number i = (number)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (number)blockDim.x * gridDim.x)

#define WINDOW number H, number W, number C, number kh, number kw, number oh, number ow, \
    number sh, number sw, number ph, number pw, number dh, number dw
"""

# -- random words (see ``philox.py``) ----------------------------------------------------------------------------------

PHILOX = r"""
/* The four words of draw number ``draw``. */
INSIDE void philox(number draw, word key0, word key1, word step, word *words)
{
    word counter0 = draw + 1, counter1 = 0, counter2 = step, counter3 = 0;
    for (int round = 0; round < 10; ++round) {
        word high0 = __umul64hi(0xD2E7470EE14C6C93ULL, counter0), low0 = 0xD2E7470EE14C6C93ULL * counter0;
        word high2 = __umul64hi(0xCA5A826395121157ULL, counter2), low2 = 0xCA5A826395121157ULL * counter2;
        counter0 = high2 ^ counter1 ^ key0;
        counter1 = low2;
        counter2 = high0 ^ counter3 ^ key1;
        counter3 = low0;
        key0 += 0x9E3779B97F4A7C15ULL;
        key1 += 0xBB67AE8584CAA73BULL;
    }
    words[0] = counter0, words[1] = counter1, words[2] = counter2, words[3] = counter3;
}

/* 32-bit words, eight per thread. ``step_at``: the address of the step's number on the device, or null. */
KERNEL void philox_bits(word key0, word key1, const number *step_at, word step, number n, number *out)
{
    EACH(draw, (n + 7) / 8) {
        word words[4];
        philox(draw, key0, key1, step_at ? (word)*step_at : step, words);
        for (int i = 0; i < 8 && draw * 8 + i < n; ++i)
            out[draw * 8 + i] = (number)((words[i / 2] >> (i % 2 * 32)) & 0xFFFFFFFFULL);
    }
}
"""

# -- activations and losses -------------------------------------------------------------------------------------------

# The chain rule of an activation from Y = f(X).
CHAIN = r"""
INSIDE real chain_of(int kind, real y, real d)
{
    if (kind == 1) return d * (real)(y > 0);  /* relu */
    if (kind == 2) return ((real)1 - y * y) * d;  /* tanh */
    return kind == 3 ? ((real)1 - y) * y * d : d;  /* sigmoid; none */
}
"""

SCALARS = r"""
/* sum += x; the rounding error, ``lost``, is subtracted from the next x (W. Kahan, 1965). */
INSIDE void add(real *sum, real *lost, real x)
{
    real y = x - *lost, t = *sum + y, rounding = (t - *sum) - y;
    *lost = rounding - rounding == 0 ? rounding : 0;  /* an infinite sum stays infinite */
    *sum = t;
}

INSIDE real apply(int kind, real z)
{
    if (kind == 1) return z < 0 ? (real)0 : z;  /* relu; NaN stays NaN */
    return kind == 2 ? TANH(z) : z;
}

/* One more number of a window of pooling, whose largest number (1) or sum (2) so far is ``found``. */
INSIDE void see(int pooling, real *found, real *lost, real x)
{
    if (pooling == 2) add(found, lost, x);
    else if (x > *found || x != x) *found = x;  /* NaN wins */
}
"""

ELEMENTWISE = r"""
/* y = f(y + bias), for rows of features. */
KERNEL void biased(real *y, const real *bias, number n, number features, int kind)
{
    EACH(i, n) y[i] = apply(kind, y[i] + bias[i % features]);
}

/* dE/dX = f'(X) dE/dY from Y = f(X). */
KERNEL void chained(const real *y, const real *d, real *dx, number n, int kind)
{
    EACH(i, n) dx[i] = chain_of(kind, y[i], d[i]);
}

INSIDE real largest_of(const real *row, number classes)
{
    real m = row[0];
    for (number c = 1; c < classes; ++c)
        m = row[c] > m || row[c] != row[c] ? row[c] : m;  /* NaN wins */
    return m;
}

/* (Y* - Y)**2 * share, and (Y - Y*) * share. */
KERNEL void squares(const real *t, const real *y, real *out, number n, real share)
{
    EACH(i, n) out[i] = (t[i] - y[i]) * (t[i] - y[i]) * share;
}

KERNEL void differences(const real *t, const real *y, real *out, number n, real share)
{
    EACH(i, n) out[i] = (y[i] - t[i]) * share;
}

/* For each row of logits (log(sum of exp(Y)) - Y[label]) * share. */
KERNEL void cross_entropy(const real *y, const number *labels, real *lost, number rows, number classes, real share)
{
    EACH(i, rows) {
        const real *row = y + i * classes;
        real m = largest_of(row, classes), sum = 0, rest = 0;
        for (number c = 0; c < classes; ++c) add(&sum, &rest, EXP(row[c] - m));
        lost[i] = (LOG(sum) - (row[labels[i]] - m)) * share;
    }
}

/* (softmax(Y) - Y*) * share, where Y* is 1 at the label, else 0. */
KERNEL void cross_entropy_prime(const real *y, const number *labels, real *dy, number rows, number classes, real share)
{
    EACH(i, rows) {
        const real *row = y + i * classes;
        real m = largest_of(row, classes), sum = 0, rest = 0;
        for (number c = 0; c < classes; ++c) add(&sum, &rest, EXP(row[c] - m));
        for (number c = 0; c < classes; ++c)
            dy[i * classes + c] = (EXP(row[c] - m) / sum - (real)(c == labels[i])) * share;
    }
}
"""

# -- the train step ---------------------------------------------------------------------------------------------------

COPIES = 64  # at most, in one launch
PARAMETERS = 48  # at most, in one launch: each has a row of the grid
DATA = 3  # arrays of a batch: samples, targets, weights
STEP = (
    f"#define COPIES {COPIES}\n#define PARAMETERS {PARAMETERS}\n#define DATA {DATA}\n"
    + r"""
typedef unsigned char byte;
#define AT(kind, word) ((kind *)(size_t)(word))  /* an address, as the host knows it */

/* The arrays of a batch: (samples, size) each, and where their rows go. ``cast``: 0 bytes to reals, 1 reals, 2 bytes to
   numbers, 3 numbers. */
typedef struct { number size[DATA], cast[DATA]; word from[DATA], to[DATA]; } batch;

/* The rows of a batch, and the row of the table with its hyperparameters. Where the arrays are is in device memory, if
   ``addresses`` is given: then a graph can be used with others. */
KERNEL void gather(const batch data, const number *addresses, const number *order, const number *position,
    number batch_size, number rows, const real *table, real *row, number columns)
{
    number size = data.size[blockIdx.y], cast = data.cast[blockIdx.y];
    word from = addresses ? (word)addresses[blockIdx.y] : data.from[blockIdx.y], to = data.to[blockIdx.y];
    if (blockIdx.y == 0) EACH(k, columns) row[k] = table[*position * columns + k];
    EACH(t, rows * size) {
        number i = *position * batch_size + t / size;
        number at = (order ? order[i] : i) * size + t % size;
        if (cast == 0) AT(real, to)[t] = (real)AT(const byte, from)[at];
        else if (cast == 1) AT(real, to)[t] = AT(const real, from)[at];
        else AT(number, to)[t] = cast == 2 ? (number)AT(const byte, from)[at] : AT(const number, from)[at];
    }
}

#define COUNTERS const number *step, const number *position, const double *total, const number *finite, \
    const real *error, number *new_step, number *new_position, double *new_total, number *new_finite, number size

/* The counters after a step, each in an array of its own; the new ones may be the old ones. */
INSIDE void count(COUNTERS)
{
    if (blockIdx.x || blockIdx.y || threadIdx.x) return;
    double sum = *total + (double)*error * (double)size;
    *new_step = *step + 1;
    *new_position = *position + 1;
    *new_total = sum;
    *new_finite = *finite + (sum - sum == 0);  /* no increment for NaN and infinity */
}

#define COUNTED step, position, total, finite, error, new_step, new_position, new_total, new_finite, size
KERNEL void update_counters(COUNTERS)
{
    count(COUNTED);
}

typedef struct { number words[COPIES]; word from[COPIES], to[COPIES]; } copies;

KERNEL void copy_all(const copies all)
{
    number n = all.words[blockIdx.y];
    word from = all.from[blockIdx.y], to = all.to[blockIdx.y];
    EACH(i, n) AT(unsigned, to)[i] = AT(const unsigned, from)[i];
}
"""
)

# -- images -----------------------------------------------------------------------------------------------------------

# dE/dX of pooling at pixel ``t`` of the images.
PIXELS = r"""
#define PLAN H, W, C, kh, kw, oh, ow, sh, sw, ph, pw, dh, dw
#define IS_LARGEST(x, y) ((x) == (y) || (x) != (x))  /* where there is NaN, y is NaN */

/* Each pixel checks for every window that contains it whether it is the first with the window's largest value. */
INSIDE real max_pool_error(const real *x, const real *y, const real *d, number t, WINDOW)
{
    number c = t % C, b = t / C % W, a = t / C / W % H, s = t / C / W / H;
    real sum = 0;
    for (number u = 0; u < kh; ++u) {
        number i = a + ph - u * dh;
        if (i < 0 || i % sh || i / sh >= oh) continue;
        for (number v = 0; v < kw; ++v) {
            number j = b + pw - v * dw;
            if (j < 0 || j % sw || j / sw >= ow) continue;
            number window = ((s * oh + i / sh) * ow + j / sw) * C + c;
            int first = IS_LARGEST(x[t], y[window]);
            for (number q = 0; first && q < u * kw + v; ++q) {
                number a2 = i + q / kw * dh - ph, b2 = j + q % kw * dw - pw;
                if (a2 >= 0 && a2 < H && b2 >= 0 && b2 < W
                    && IS_LARGEST(x[((s * H + a2) * W + b2) * C + c], y[window]))
                    first = 0;
            }
            if (first) sum += d[window];
        }
    }
    return sum;
}

/* The number of pixels of the image, without padding, in a window that begins at pixel ``from``. */
INSIDE number pixels(number from, number k, number size)
{
    number to = from + k < size ? from + k : size;
    return to - (from > 0 ? from : 0);
}

INSIDE real avg_pool_error(const real *d, number t, WINDOW)
{
    number c = t % C, b = t / C % W, a = t / C / W % H, s = t / C / W / H;
    real sum = 0;
    for (number u = 0; u < kh; ++u) {
        number i = a + ph - u * dh;
        if (i < 0 || i % sh || i / sh >= oh) continue;
        for (number v = 0; v < kw; ++v) {
            number j = b + pw - v * dw;
            if (j < 0 || j % sw || j / sw >= ow) continue;
            sum += d[((s * oh + i / sh) * ow + j / sw) * C + c]
                / (real)(pixels(i - ph, kh, H) * pixels(j - pw, kw, W));
        }
    }
    return sum;
}
"""

IMAGES = r"""
/* p[m, (u, v, c)] for m = (n, i, j): the pixel of channel c under (u, v) of window (i, j), 0 in the padding.
   ``first`` and ``size``: the channels of one group. */
KERNEL void patches(const real *x, real *p, number n, WINDOW, number first, number size)
{
    number k = kh * kw * size;
    EACH(t, n * oh * ow * k) {
        number c = t % size, v = t / size % kw, u = t / size / kw % kh, m = t / k;
        number a = m / ow % oh * sh + u * dh - ph, b = m % ow * sw + v * dw - pw;
        p[t] = a >= 0 && a < H && b >= 0 && b < W ? x[((m / ow / oh * H + a) * W + b) * C + first + c] : (real)0;
    }
}

/* The adjoint: each pixel sums its copies, in the order of the kernel's pixels. */
KERNEL void fold(const real *p, real *x, number n, WINDOW, number first, number size)
{
    number k = kh * kw * size;
    EACH(t, n * H * W * size) {
        number c = t % size, b = t / size % W, a = t / size / W % H, s = t / size / W / H;
        real sum = 0;
        for (number u = 0; u < kh; ++u) {
            number i = a + ph - u * dh;
            if (i < 0 || i % sh || i / sh >= oh) continue;
            for (number v = 0; v < kw; ++v) {
                number j = b + pw - v * dw;
                if (j < 0 || j % sw || j / sw >= ow) continue;
                sum += p[((s * oh + i / sh) * ow + j / sw) * k + (u * kw + v) * size + c];
            }
        }
        x[((s * H + a) * W + b) * C + first + c] = sum;
    }
}

KERNEL void max_pool(const real *x, real *y, number n, WINDOW)
{
    EACH(t, n * oh * ow * C) {
        number c = t % C, j = t / C % ow, i = t / C / ow % oh, s = t / C / ow / oh;
        real m = 0;
        int none = 1;
        for (number u = 0; u < kh; ++u) for (number v = 0; v < kw; ++v) {
            number a = i * sh + u * dh - ph, b = j * sw + v * dw - pw;
            if (a < 0 || a >= H || b < 0 || b >= W) continue;
            real seen = x[((s * H + a) * W + b) * C + c];
            m = none || seen > m || seen != seen ? seen : m;  /* NaN wins */
            none = 0;
        }
        y[t] = m;
    }
}

/* y = f(y + bias), and pooling of that: windows (kh, kw) are next to each other, and those cut by the edge are none. */
KERNEL void biased_pooled(real *y, const real *bias, real *pooled, int kind, int pooling, number n, WINDOW)
{
    number rows = (H + kh - 1) / kh, columns = (W + kw - 1) / kw;
    EACH(t, n * rows * columns * C) {
        number c = t % C, j = t / C % columns, i = t / C / columns % rows, s = t / C / columns / rows;
        real found = 0, lost = 0;
        for (number u = 0; u < kh && i * kh + u < H; ++u) for (number v = 0; v < kw && j * kw + v < W; ++v) {
            number at = ((s * H + i * kh + u) * W + j * kw + v) * C + c;
            real seen = apply(kind, y[at] + bias[c]);
            y[at] = seen;
            if (u || v) see(pooling, &found, &lost, seen);
            else found = seen;
        }
        if (i < oh && j < ow)
            pooled[((s * oh + i) * ow + j) * C + c] = pooling == 2 ? found / (real)(kh * kw) : found;
    }
}

KERNEL void max_pool_backward(const real *x, const real *y, const real *d, real *dx, number n, WINDOW)
{
    EACH(t, n * H * W * C) dx[t] = max_pool_error(x, y, d, t, PLAN);
}

KERNEL void avg_pool(const real *x, real *y, number n, WINDOW)
{
    EACH(t, n * oh * ow * C) {
        number c = t % C, j = t / C % ow, i = t / C / ow % oh, s = t / C / ow / oh;
        real sum = 0, lost = 0;
        for (number u = 0; u < kh; ++u) for (number v = 0; v < kw; ++v) {
            number a = i * sh + u - ph, b = j * sw + v - pw;
            if (a >= 0 && a < H && b >= 0 && b < W) add(&sum, &lost, x[((s * H + a) * W + b) * C + c]);
        }
        y[t] = sum / (real)(pixels(i * sh - ph, kh, H) * pixels(j * sw - pw, kw, W));
    }
}

KERNEL void avg_pool_backward(const real *d, real *dx, number n, WINDOW)
{
    EACH(t, n * H * W * C) dx[t] = avg_pool_error(d, t, PLAN);
}
"""

# -- normalization of each channel ------------------------------------------------------------------------------------

NORMALIZE = r"""
KERNEL void standardize(const real *x, const real *mean, const real *rest, const real *scale, real *z,
    number n, number C)
{
    EACH(i, n) z[i] = (x[i] - mean[i % C] - rest[i % C]) * scale[i % C];
}

KERNEL void standardize_backward(const real *d, const real *z, const real *mean, const real *along, const real *scale,
    real *dx, number n, number C)
{
    EACH(i, n) dx[i] = scale[i % C] * (d[i] - mean[i % C] - z[i] * along[i % C]);
}
"""

# -- dropout ----------------------------------------------------------------------------------------------------------

# With PHILOX in front of it.
DROPOUT = r"""
/* mask = scale where the word is at least the threshold, else 0; y = x mask. Each thread computes eight. */
KERNEL void dropout(const real *x, real *y, real *mask, word key0, word key1, const number *step_at, word step,
    word threshold, real scale, number n)
{
    EACH(draw, (n + 7) / 8) {
        word words[4];
        philox(draw, key0, key1, step_at ? (word)*step_at : step, words);
        for (int i = 0; i < 8 && draw * 8 + i < n; ++i) {
            real kept = (words[i / 2] >> (i % 2 * 32) & 0xFFFFFFFFULL) >= threshold ? scale : (real)0;
            mask[draw * 8 + i] = kept;
            y[draw * 8 + i] = x[draw * 8 + i] * kept;
        }
    }
}
"""

# -- images moved at random -------------------------------------------------------------------------------------------

# With PHILOX in front of it. A map is six numbers: where a pixel (i, j) of the result comes from.
RESAMPLE = r"""
/* Four 32-bit words for each image: its rows, columns, angle and size. Each thread computes two maps, in double. */
KERNEL void random_maps(double *maps, word key0, word key1, const number *step_at, word step, double shift,
    double rotate, double scale, double middle_i, double middle_j, number n)
{
    EACH(draw, (n + 1) / 2) {
        word words[4];
        philox(draw, key0, key1, step_at ? (word)*step_at : step, words);
        for (int half = 0; half < 2 && draw * 2 + half < n; ++half) {
            double share[4];
            for (int i = 0; i < 4; ++i)
                share[i] = (double)(words[half * 2 + i / 2] >> (i % 2 * 32) & 0xFFFFFFFFULL) / 2147483648.0 - 1.0;
            double angle = share[2] * rotate, factor = share[3] * scale + 1.0;
            double c = cos(angle) / factor, s = sin(angle) / factor;
            double i = share[0] * shift + middle_i, j = share[1] * shift + middle_j;
            double *map = maps + (draw * 2 + half) * 6;
            map[0] = c, map[1] = s, map[2] = middle_i - (c * i + s * j);
            map[3] = -s, map[4] = c, map[5] = middle_j - (c * j - s * i);
        }
    }
}

INSIDE double source(const double *row, number i, number j)
{
    return row[0] * (double)i + row[1] * (double)j + row[2];
}

INSIDE double hat(double t)  /* b(t) */
{
    t = t < 0 ? -t : t;
    return t < 1 ? 1 - t : 0;
}

KERNEL void resample(const real *x, const double *maps, real *y, number n, number H, number W, number C)
{
    EACH(t, n * H * W * C) {
        number c = t % C, j = t / C % W, i = t / C / W % H, s = t / C / W / H;
        double u = source(maps + s * 6, i, j), v = source(maps + s * 6 + 3, i, j);
        real sum = 0;
        if (u > -1 && u < H && v > -1 && v < W) {
            number first = (number)floor(u), left = (number)floor(v);
            for (number p = first; p < first + 2; ++p) for (number q = left; q < left + 2; ++q) {
                real weight = (real)(hat(u - (double)p) * hat(v - (double)q));
                if (p >= 0 && p < H && q >= 0 && q < W && weight > 0) sum += weight * x[((s * H + p) * W + q) * C + c];
            }
        }
        y[t] = sum;
    }
}

/* The adjoint: each pixel (p, q) looks for the pixels of the result that it contributed to, around the place where the
   inverse map puts it. */
KERNEL void resample_backward(const real *d, const double *maps, real *dx, number n, number H, number W, number C,
    number reach)
{
    EACH(t, n * H * W * C) {
        number c = t % C, q = t / C % W, p = t / C / W % H, s = t / C / W / H;
        const double *a = maps + s * 6, *b = a + 3;
        double size = a[0] * b[1] - a[1] * b[0], x = (double)p - a[2], y = (double)q - b[2];
        real sum = 0;
        double above = floor((b[1] * x - a[1] * y) / size), before = floor((a[0] * y - b[0] * x) / size);
        if (above > -reach - 1 && above < H + reach && before > -reach - 1 && before < W + reach)
            for (number k = 1 - reach; k <= reach; ++k) for (number m = 1 - reach; m <= reach; ++m) {
                number i = (number)above + k, j = (number)before + m;
                if (i < 0 || i >= H || j < 0 || j >= W) continue;
                real weight = (real)(hat(source(a, i, j) - (double)p) * hat(source(b, i, j) - (double)q));
                if (weight > 0) sum += weight * d[((s * H + i) * W + j) * C + c];
            }
        dx[t] = sum;
    }
}
"""

# -- optimizers -------------------------------------------------------------------------------------------------------

# The step's hyperparameters come from device memory if they are there, else by value; the others are constants.
UPDATE = r"""
/* A gradient bounded by ``top``, so that its square is finite; infinity and NaN are kept. */
INSIDE real bounded(real g, real top)
{
    real size = g < 0 ? -g : g;
    return size > top && size - size == 0 ? (g < 0 ? -top : top) : g;
}

/* Weights, gradient, two slots, and where the new weights and slots go: the old ones, in a captured step. */
typedef struct { number size[PARAMETERS]; word at[PARAMETERS][7]; } tensors;

KERNEL void update_all(int kind, const real *lr_at, const real *r_at, const real *q_at, real lr, real r,
    real q, real a, real a1, real b, real b1, real c, real e, real top, const tensors all, COUNTERS)
{
    const real *w = AT(const real, all.at[blockIdx.y][0]), *g = AT(const real, all.at[blockIdx.y][1]);
    const real *s = AT(const real, all.at[blockIdx.y][2]), *t = AT(const real, all.at[blockIdx.y][3]);
    real *new_w = AT(real, all.at[blockIdx.y][4]), *new_s = AT(real, all.at[blockIdx.y][5]);
    real *new_t = AT(real, all.at[blockIdx.y][6]);
    number n = all.size[blockIdx.y];
    if (lr_at) lr = *lr_at;
    if (r_at) r = *r_at;
    if (q_at) q = *q_at;
    EACH(i, n) {
        if (kind == 0) new_w[i] = w[i] - lr * g[i];
        else if (kind <= 2) {  /* momentum a; 2: nesterov */
            real v = a * s[i] + g[i];
            new_w[i] = w[i] - lr * (kind == 1 ? v : g[i] + a * v);
            new_s[i] = v;
        } else if (kind == 3) {  /* squares: a times the old mean plus a1 times the new square */
            real d = bounded(g[i], top), v = a * s[i] + a1 * (d * d);
            new_w[i] = w[i] - lr * d / (SQRT(v) + e);
            new_s[i] = v;
        } else {  /* Adam: betas a and b, a1 = 1 - a and b1 = 1 - b (which would be rounded here), decoupled weight
                    decay c; r = lr / (1 - a**t), q = 1 / sqrt(1 - b**t) */
            real d = bounded(g[i], top);
            real m = a * s[i] + a1 * d, v = b * t[i] + b1 * (d * d);
            new_w[i] = w[i] * ((real)1 - lr * c) - r * m / (SQRT(v) * q + e);
            new_s[i] = m;
            new_t[i] = v;
        }
    }
    if (error) count(COUNTED);
}
"""

FUNCTIONS = {"float": ("tanhf", "expf", "logf", "sqrtf"), "double": ("tanh", "exp", "log", "sqrt")}


def head(real: str) -> str:
    """Types and functions for ``real``, ``"float"`` or ``"double"``."""
    names = zip(("TANH", "EXP", "LOG", "SQRT"), FUNCTIONS[real], strict=True)
    return f"{HEAD}\ntypedef {real} real;\n" + "".join(f"#define {name} {function}\n" for name, function in names)


def source(real: str) -> str:
    """All kernels for ``real``."""
    drawn = f"{PHILOX}{DROPOUT}{RESAMPLE}"
    return f"{head(real)}{CHAIN}{PIXELS}{SCALARS}{ELEMENTWISE}{STEP}{IMAGES}{NORMALIZE}{drawn}{UPDATE}"
