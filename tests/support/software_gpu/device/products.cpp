// cuBLAS's products, in plain loops: columns are kept one after the other, ``lda`` elements apart.
#include "device.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

enum { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID = 7, UNSUPPORTED = 15 };
enum { REAL_32F = 0, REAL_64F = 1 };  // cudaDataType_t

struct Handle {
    void *stream = nullptr;
    int pointer_mode = 0, math_mode = 0;
};

template <class T>
struct Product {
    bool ta, tb;
    int m, n, k;
    T alpha, beta;
    const T *a, *b;
    int lda, ldb;
    T *c;
    int ldc;

    bool is_valid() const
    {
        return m >= 0 && n >= 0 && k >= 0 && lda >= (ta ? k : m) && ldb >= (tb ? n : k) && ldc >= m && lda > 0
            && ldb > 0 && ldc > 0;
    }

    std::string name() const
    {
        char words[120];
        snprintf(words, sizeof words, "product %d x %d x %d", m, k, n);
        return words;
    }

    int run() const
    {
        if (!m || !n) return OK;
        auto extent = [](int rows, int columns, int step) { return sizeof(T) * ((size_t)step * (columns - 1) + rows); };
        std::string who = name();
        if (k && (!check_range(who.c_str(), "reads, as its first matrix,", a, extent(ta ? k : m, ta ? m : k, lda))
                || !check_range(who.c_str(), "reads, as its second matrix,", b, extent(tb ? n : k, tb ? k : n, ldb))))
            return ILLEGAL_ADDRESS;
        if (!check_range(who.c_str(), "writes", c, extent(m, n, ldc))) return ILLEGAL_ADDRESS;
        // Rows of op(A) and columns of op(B) side by side in memory, then each sum in four parts, as GPUs' are.
        std::vector<T> rows((size_t)m * k + 4), columns((size_t)n * k + 4);
        for (int i = 0; i < m; ++i)
            for (int p = 0; p < k; ++p) rows[(size_t)i * k + p] = ta ? a[p + (size_t)i * lda] : a[i + (size_t)p * lda];
        for (int j = 0; j < n; ++j)
            for (int p = 0; p < k; ++p) columns[(size_t)j * k + p] = tb ? b[j + (size_t)p * ldb] : b[p + (size_t)j * ldb];
        for (int j = 0; j < n; ++j)
            for (int i = 0; i < m; ++i) {
                T part[16] = {};
                const T *x = &rows[(size_t)i * k], *y = &columns[(size_t)j * k];
                int p = 0;
                for (; p + 16 <= k; p += 16)
                    for (int q = 0; q < 16; ++q) part[q] += x[p + q] * y[p + q];
                for (int q = 0; p < k; ++p, ++q) part[q] += x[p] * y[p];
                for (int half = 8; half; half /= 2)
                    for (int q = 0; q < half; ++q) part[q] += part[q + half];
                T &to = c[i + (size_t)j * ldc];
                to = beta == 0 ? alpha * part[0] : alpha * part[0] + beta * to;
            }
        return OK;
    }
};

template <class T>
int gemm(Handle *handle, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, const T *b, int ldb,
    const T *beta, T *c, int ldc, long long step_a = 0, long long step_b = 0, long long step_c = 0, int count = 1)
{
    LOCKED;
    if (!handle) return NOT_INITIALIZED;
    bool on_device = kind_of(alpha) == DEVICE;
    if (on_device != (handle->pointer_mode == 1)) {
        fault("a product's factors are not where its handle says they are");
        return INVALID;
    }
    Product<T> product = {ta != 0, tb != 0, m, n, k, *alpha, *beta, a, b, lda, ldb, c, ldc};
    if (!product.is_valid()) {
        fault("%s: leading dimensions %d, %d, %d", product.name().c_str(), lda, ldb, ldc);
        return INVALID;
    }
    return submit(handle->stream, {product.name(), [=] {
        auto one = product;
        for (int i = 0; i < count; ++i, one.a += step_a, one.b += step_b, one.c += step_c)
            if (int error = one.run()) return error;
        return (int)OK;
    }}) == OK ? SUCCESS : 13;
}

// Of as many matrices as there are addresses, which are in memory of the device.
template <class T>
int gemm_batched(Handle *handle, int ta, int tb, int m, int n, int k, const T *alpha, const T *const *a, int lda,
    const T *const *b, int ldb, const T *beta, T *const *c, int ldc, int count)
{
    LOCKED;
    Product<T> product = {ta != 0, tb != 0, m, n, k, *alpha, *beta, nullptr, nullptr, lda, ldb, nullptr, ldc};
    if (!product.is_valid()) {
        fault("%s: leading dimensions %d, %d, %d", product.name().c_str(), lda, ldb, ldc);
        return INVALID;
    }
    return submit(handle->stream, {product.name(), [=] {
        auto one = product;
        for (const void *list : {(const void *)a, (const void *)b, (const void *)c})
            if (!check_range("a product", "reads addresses from", list, count * sizeof(T *))) return (int)ILLEGAL_ADDRESS;
        for (int i = 0; i < count; ++i) {
            one.a = a[i], one.b = b[i], one.c = c[i];
            if (int error = one.run()) return error;
        }
        return (int)OK;
    }}) == OK ? SUCCESS : 13;
}

}  // namespace

EXPORT int cublasCreate_v2(void **handle)
{
    LOCKED;
    note("create a cuBLAS handle");
    if (any_capture()) return refuse("cublasCreate"), NOT_INITIALIZED;
    *handle = new Handle;
    return SUCCESS;
}

EXPORT int cublasDestroy_v2(Handle *handle) { return delete handle, SUCCESS; }
EXPORT int cublasGetVersion_v2(void *, int *version) { return *version = 130000, SUCCESS; }
EXPORT int cublasSetStream_v2(Handle *handle, void *stream) { return handle->stream = stream, SUCCESS; }
EXPORT int cublasGetStream_v2(Handle *handle, void **stream) { return *stream = handle->stream, SUCCESS; }
EXPORT int cublasSetPointerMode_v2(Handle *handle, int mode) { return handle->pointer_mode = mode, SUCCESS; }
EXPORT int cublasGetPointerMode_v2(Handle *handle, int *mode) { return *mode = handle->pointer_mode, SUCCESS; }
EXPORT int cublasSetMathMode(Handle *handle, int mode) { return handle->math_mode = mode, SUCCESS; }
EXPORT int cublasGetMathMode(Handle *handle, int *mode) { return *mode = handle->math_mode, SUCCESS; }

EXPORT int cublasSetWorkspace_v2(Handle *, void *place, size_t size)
{
    LOCKED;
    bool fits = (uintptr_t)place % 256 == 0 && check_range("cuBLAS", "gets as its workspace", place, size);
    return fits ? SUCCESS : INVALID;
}

#define GEMM(letter, T) \
    EXPORT int cublas##letter##gemm_v2(Handle *handle, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, \
        int lda, const T *b, int ldb, const T *beta, T *c, int ldc) \
    { return gemm(handle, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); } \
    EXPORT int cublas##letter##gemmStridedBatched(Handle *handle, int ta, int tb, int m, int n, int k, const T *alpha, \
        const T *a, int lda, long long step_a, const T *b, int ldb, long long step_b, const T *beta, T *c, int ldc, \
        long long step_c, int count) \
    { return gemm(handle, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, step_a, step_b, step_c, count); } \
    EXPORT int cublas##letter##gemmBatched(Handle *handle, int ta, int tb, int m, int n, int k, const T *alpha, \
        const T *const *a, int lda, const T *const *b, int ldb, const T *beta, T *const *c, int ldc, int count) \
    { return gemm_batched(handle, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, count); } \
    EXPORT int cublas##letter##gemv_v2(Handle *handle, int t, int m, int n, const T *alpha, const T *a, int lda, \
        const T *x, int step_x, const T *beta, T *y, int step_y) \
    { return gemm(handle, 0, !t, 1, t ? n : m, t ? m : n, alpha, x, step_x, a, lda, beta, y, step_y); } \
    EXPORT int cublas##letter##dot_v2(Handle *handle, int n, const T *x, int step_x, const T *y, int step_y, T *out) \
    { \
        static const T one = 1, zero = 0; \
        int mode = handle->pointer_mode; \
        handle->pointer_mode = 0; \
        int status = gemm(handle, 0, 1, 1, 1, n, &one, x, step_x, y, step_y, &zero, out, 1); \
        return handle->pointer_mode = mode, status; \
    } \
    EXPORT int cublas##letter##ger_v2(Handle *handle, int m, int n, const T *alpha, const T *x, int step_x, const T *y, \
        int step_y, T *a, int lda) \
    { \
        static const T one = 1; \
        return gemm(handle, 1, 0, m, n, 1, alpha, x, step_x, y, step_y, &one, a, lda); \
    }
GEMM(S, float)
GEMM(D, double)

// By the types of the numbers; half precision is not computed here.
EXPORT int cublasGemmStridedBatchedEx(Handle *handle, int ta, int tb, int m, int n, int k, const void *alpha,
    const void *a, int type_a, int lda, long long step_a, const void *b, int type_b, int ldb, long long step_b,
    const void *beta, void *c, int type_c, int ldc, long long step_c, int count, int, int)
{
    if (type_a != type_b || type_a != type_c || type_a > REAL_64F) return UNSUPPORTED;
    if (type_a == REAL_32F)
        return gemm(handle, ta, tb, m, n, k, (const float *)alpha, (const float *)a, lda, (const float *)b, ldb,
            (const float *)beta, (float *)c, ldc, step_a, step_b, step_c, count);
    return gemm(handle, ta, tb, m, n, k, (const double *)alpha, (const double *)a, lda, (const double *)b, ldb,
        (const double *)beta, (double *)c, ldc, step_a, step_b, step_c, count);
}

EXPORT int cublasGemmEx(Handle *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a,
    int type_a, int lda, const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc, int type,
    int algorithm)
{
    return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c,
        type_c, ldc, 0, 1, type, algorithm);
}

EXPORT int cublasSgemmEx(Handle *handle, int ta, int tb, int m, int n, int k, const float *alpha, const void *a,
    int type_a, int lda, const void *b, int type_b, int ldb, const float *beta, void *c, int type_c, int ldc)
{
    return cublasGemmEx(handle, ta, tb, m, n, k, alpha, a, type_a, lda, b, type_b, ldb, beta, c, type_c, ldc, REAL_32F, 0);
}
