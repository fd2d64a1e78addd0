// CUB's reductions and Thrust's sorts of a whole device, which are compiled into CuPy for GPUs alone: these functions
// take their places (see patching.py). In the orders of trees, as theirs are, but not to their bits.
#include "device.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstring>
#include <numeric>
#include <type_traits>

namespace {

enum { SUM, MIN, MAX, ARGMIN, ARGMAX, CUMSUM, CUMPROD, PROD };  // as CuPy's cub module numbers them
const char *const operations[] = {"sum", "min", "max", "argmin", "argmax", "cumsum", "cumprod", "prod"};
constexpr int TILE = 4096;  // elements of a block: more of them take a second launch, for the blocks' results

template <class T>
struct Tag {
    using type = T;
};

// Calls a function with a tag of the numbers' type; false where there is none.
template <class F>
bool with_type(int type, F f)
{
    switch (type) {
    case 0: return f(Tag<int8_t>()), true;
    case 1: return f(Tag<uint8_t>()), true;
    case 2: return f(Tag<int16_t>()), true;
    case 3: return f(Tag<uint16_t>()), true;
    case 4: return f(Tag<int32_t>()), true;
    case 5: return f(Tag<uint32_t>()), true;
    case 6: return f(Tag<int64_t>()), true;
    case 7: return f(Tag<uint64_t>()), true;
    case 9: return f(Tag<float>()), true;
    case 10: return f(Tag<double>()), true;
    case 11: return f(Tag<std::complex<float>>()), true;
    case 12: return f(Tag<std::complex<double>>()), true;
    case 13: return f(Tag<bool>()), true;
    default: fault("CUB and Thrust in software have no numbers of type %d (8: half precision)", type); return false;
    }
}

template <class T> struct IsComplex : std::false_type {};
template <class T> struct IsComplex<std::complex<T>> : std::true_type {};

template <class T>
bool is_less(const T &a, const T &b)  // NaN comes last
{
    if constexpr (IsComplex<T>::value)
        return is_less(a.real(), b.real()) || (!is_less(b.real(), a.real()) && is_less(a.imag(), b.imag()));
    else
        return a < b || (a == a && b != b);
}

template <class T>
bool is_better(int op, const T &a, const T &b)  // whether ``a`` wins over an earlier ``b``; NaN wins over all numbers
{
    if (a != a) return b == b;
    if (b != b) return false;
    return op == MIN || op == ARGMIN ? is_less(a, b) : is_less(b, a);
}

template <class T>
T joined(int op, const T &a, const T &b)
{
    if (op == SUM || op == CUMSUM) return a + b;
    if (op == PROD || op == CUMPROD) return a * b;
    return is_better(op, b, a) ? b : a;
}

template <class T>
T reduced(int op, const T *x, size_t n)  // n > 0
{
    if (n <= 4) {
        T all = x[0];
        for (size_t i = 1; i < n; ++i) all = joined(op, all, x[i]);
        return all;
    }
    return joined(op, reduced(op, x, n / 2), reduced(op, x + n / 2, n - n / 2));
}

template <class T>
T of_none(int op)
{
    return op == PROD ? T(1) : T(0);
}

size_t workspace_for(size_t n) { return 16 * ((n + TILE - 1) / TILE) + 256; }

// A launch: it uses the workspace, reads ``bytes`` and writes.
void launch(void *stream, std::string name, void *workspace, size_t room, const void *x, size_t read, void *y,
    size_t written, std::function<void()> work)
{
    submit(stream, {name, [=] {
        bool fine = check_range(name.c_str(), "writes, as its workspace,", workspace, room)
            && check_range(name.c_str(), "reads", x, read) && check_range(name.c_str(), "writes", y, written);
        if (fine) work();
        return fine ? (int)OK : (int)ILLEGAL_ADDRESS;
    }});
}

}  // namespace

// -- CUB ---------------------------------------------------------------------------------------------------------------

EXPORT size_t software_cub_device_reduce_get_workspace_size(void *, void *, int n, void *, int, int)
{
    return workspace_for(n);
}

EXPORT void software_cub_device_reduce(void *workspace, size_t &room, void *x, void *y, int n, void *stream, int op,
    int type)
{
    LOCKED;
    std::string name = std::string("CUB ") + operations[op];
    with_type(type, [&](auto tag) {
        using T = typename decltype(tag)::type;
        bool is_place = op == ARGMIN || op == ARGMAX;
        size_t read = n * sizeof(T), written = is_place ? sizeof(int) : sizeof(T), used = workspace_for(n);
        if (room < used) return fault("%s: a workspace of %zu bytes, not %zu", name.c_str(), room, used);
        auto work = [=] {
            auto from = (const T *)x;
            if (!is_place) return void(*(T *)y = n ? reduced(op, from, n) : of_none<T>(op));
            int best = 0;
            for (int i = 1; i < n; ++i)
                if (is_better(op, from[i], from[best])) best = i;
            *(int *)y = best;
        };
        if (n > TILE)
            launch(stream, name + ", tiles", workspace, used, x, read, workspace, used, [] {});
        launch(stream, name, workspace, used, x, read, y, written, work);
    });
}

EXPORT size_t software_cub_device_segmented_reduce_get_workspace_size(void *, void *, int, int, void *, int, int)
{
    return 1;
}

EXPORT void software_cub_device_segmented_reduce(void *workspace, size_t &, void *x, void *y, int segments, int size,
    void *stream, int op, int type)
{
    LOCKED;
    std::string name = std::string("CUB ") + operations[op] + " of segments";
    with_type(type, [&](auto tag) {
        using T = typename decltype(tag)::type;
        size_t read = (size_t)segments * size * sizeof(T);
        launch(stream, name, workspace, 1, x, read, y, segments * sizeof(T), [=] {
            for (int i = 0; i < segments; ++i)
                ((T *)y)[i] = size ? reduced(op, (const T *)x + (size_t)i * size, size) : of_none<T>(op);
        });
    });
}

EXPORT size_t software_cub_device_scan_get_workspace_size(void *, void *, int n, void *, int, int)
{
    return workspace_for(n);
}

EXPORT void software_cub_device_scan(void *workspace, size_t &, void *x, void *y, int n, void *stream, int op, int type)
{
    LOCKED;
    std::string name = std::string("CUB ") + operations[op];
    with_type(type, [&](auto tag) {
        using T = typename decltype(tag)::type;
        size_t size = n * sizeof(T), used = workspace_for(n);
        launch(stream, name + ", begin", workspace, used, x, 0, workspace, used, [] {});
        launch(stream, name, workspace, used, x, size, y, size, [=] {
            auto from = (const T *)x;
            auto to = (T *)y;
            for (int i = 0; i < n; ++i) to[i] = i ? joined(op, to[i - 1], from[i]) : from[i];
        });
    });
}

// -- Thrust, which CuPy has not wait for the device --------------------------------------------------------------------

// Sorts rows of the last axis, and what belongs to each number with it, if anything does.
EXPORT void software_thrust_sort(int type, void *data, size_t *, const std::vector<ptrdiff_t> &shape, intptr_t stream,
    void *)
{
    LOCKED;
    size_t last = shape.back(), all = 1;
    for (ptrdiff_t n : shape) all *= n;
    with_type(type, [&](auto tag) {
        using T = typename decltype(tag)::type;
        launch((void *)stream, "Thrust sort", data, all * sizeof(T), data, all * sizeof(T), data, all * sizeof(T), [=] {
            for (size_t row = 0; row < all; row += last)
                std::stable_sort((T *)data + row, (T *)data + row + last, is_less<T>);
        });
    });
}

EXPORT void software_thrust_argsort(int type, size_t *places, void *data, void *, const std::vector<ptrdiff_t> &shape,
    intptr_t stream, void *)
{
    LOCKED;
    size_t last = shape.back(), all = 1;
    for (ptrdiff_t n : shape) all *= n;
    with_type(type, [&](auto tag) {
        using T = typename decltype(tag)::type;
        launch((void *)stream, "Thrust argsort", data, all * sizeof(T), data, all * sizeof(T), places, all * sizeof *places, [=] {
            auto from = (const T *)data;
            for (size_t row = 0; row < all; row += last) {
                std::iota(places + row, places + row + last, 0);
                std::stable_sort(places + row, places + row + last,
                    [&](size_t a, size_t b) { return is_less(from[row + a], from[row + b]); });
            }
        });
    });
}
