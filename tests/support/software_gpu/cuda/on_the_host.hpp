// What CUDA's C++ has and C++ has not, for kernels that g++ compiles and the software device runs.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __constant__
// In a section of its own, so that the device finds a module's shared memory and makes it unknown before each block.
#define __shared__ static SHARED_SECTION
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))
#define UNSEEN __attribute__((no_sanitize("thread"), noinline))  // accesses in it are not reported to the device

// -- what the device provides (see threads.cpp) ------------------------------------------------------------------------

struct Place { unsigned thread[3], block[3], threads[3], blocks[3]; };

extern "C" {
extern Place software_place;
void software_barrier();
void software_warp_barrier(unsigned mask);
void software_fence();
unsigned software_lane();
void *software_exchange(unsigned mask, const void *value, size_t size);  // what each lane gave: 32 places of 16 bytes
unsigned software_present();                                              // the lanes that took part in it
void *software_dynamic_shared();
void software_atomic(void *place, size_t size);
float software_inexact_float(float value, int bound);
double software_inexact_double(double value, int bound);
}

// Read by assembler, which the compiler does not instrument: every thread reads its place.
#define PLACE(name, field) \
    __attribute__((always_inline)) inline unsigned name(int axis_offset) { unsigned v; \
        asm("movl (%1), %0" : "=r"(v) : "r"((const char *)&software_place + offsetof(Place, field) + axis_offset)); \
        return v; }
PLACE(software_thread, thread)
PLACE(software_block, block)
PLACE(software_threads, threads)
PLACE(software_blocks, blocks)
#undef PLACE

struct Index {
    unsigned x, y, z;
};
#define threadIdx (Index{software_thread(0), software_thread(4), software_thread(8)})
#define blockIdx (Index{software_block(0), software_block(4), software_block(8)})
#define blockDim (Index{software_threads(0), software_threads(4), software_threads(8)})
#define gridDim (Index{software_blocks(0), software_blocks(4), software_blocks(8)})
#define warpSize 32

// -- synchronization and warps -----------------------------------------------------------------------------------------

inline void __syncthreads() { software_barrier(); }
inline void __syncwarp(unsigned mask = ~0u) { software_warp_barrier(mask); }
inline void __threadfence() { software_fence(); }
inline void __threadfence_block() {}
inline void __threadfence_system() { software_fence(); }
inline unsigned __activemask() { return ~0u; }

template <class T>
UNSEEN T software_shuffle(unsigned mask, T value, unsigned from, bool is_there)
{
    static_assert(sizeof(T) <= 16, "a shuffle exchanges at most 16 bytes");
    const char *given = (const char *)software_exchange(mask, &value, sizeof(T));
    T found = value;
    if (is_there) memcpy(&found, given + 16 * from, sizeof(T));
    return found;
}

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32)
{
    unsigned lane = software_lane();
    return software_shuffle(mask, value, (lane & ~(width - 1)) | (from & (width - 1)), true);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    unsigned lane = software_lane(), within = lane & (width - 1);
    return software_shuffle(mask, value, (lane + by) & 31, within + by < (unsigned)width);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    unsigned lane = software_lane(), within = lane & (width - 1);
    return software_shuffle(mask, value, (lane - by) & 31, within >= by);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32)
{
    unsigned lane = software_lane(), from = lane ^ by;
    return software_shuffle(mask, value, from & 31, (from & ~(width - 1)) <= (lane & ~(width - 1)));
}

UNSEEN inline unsigned __ballot_sync(unsigned mask, int predicate)
{
    const char *given = (const char *)software_exchange(mask, &predicate, sizeof predicate);
    unsigned votes = 0, present = software_present();
    for (int lane = 0; lane < 32; ++lane)
        if (present >> lane & 1 && *(const int *)(given + 16 * lane)) votes |= 1u << lane;
    return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

// -- atomic operations: one thread runs at a time, so an operation is atomic as it is ------------------------------------

#define ATOMIC(name, expression) \
    template <class T, class U> UNSEEN T name(T *place, U given) \
    { software_atomic(place, sizeof(T)); T old = *place, value = (T)given; *place = expression; return old; }
ATOMIC(atomicAdd, old + value)
ATOMIC(atomicSub, old - value)
ATOMIC(atomicMax, old > value ? old : value)
ATOMIC(atomicMin, old < value ? old : value)
ATOMIC(atomicExch, value)
ATOMIC(atomicInc, old >= value ? 0 : old + 1)
ATOMIC(atomicAnd, old & value)
ATOMIC(atomicOr, old | value)
ATOMIC(atomicXor, old ^ value)
#undef ATOMIC

template <class T>
UNSEEN T atomicCAS(T *place, T expected, T value)
{
    software_atomic(place, sizeof(T));
    T old = *place;
    if (old == expected) *place = value;
    return old;
}

// -- numbers -----------------------------------------------------------------------------------------------------------

using std::isfinite;
using std::isinf;
using std::isnan;
using std::ptrdiff_t;
using std::signbit;
using std::size_t;

template <class A, class B> inline typename std::common_type<A, B>::type max(A a, B b) { return a > b ? a : b; }
template <class A, class B> inline typename std::common_type<A, B>::type min(A a, B b) { return a < b ? a : b; }
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
template <class To, class From> inline To software_bits(From x) { To y; memcpy(&y, &x, sizeof y); return y; }
inline float __int_as_float(int x) { return software_bits<float>(x); }
inline int __float_as_int(float x) { return software_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return software_bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return software_bits<float>(x); }
inline double __longlong_as_double(long long x) { return software_bits<double>(x); }
inline long long __double_as_longlong(double x) { return software_bits<long long>(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
template <class T> inline T __ldg(const T *place) { return *place; }

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(16) int4 { int x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

// Half precision: kept, and turned into floats and back.
inline unsigned short __float2half_rn(float x)
{
    unsigned short sign = signbit(x) ? 0x8000 : 0;
    float size = fabsf(x);
    if (isnan(x)) return sign | 0x7e00;
    if (size >= 65520.0f) return sign | 0x7c00;
    if (size < ldexpf(1, -14)) return sign | (unsigned short)nearbyintf(ldexpf(size, 24));
    int exponent;
    frexpf(size, &exponent);
    return sign | ((exponent + 13) * 1024 + (unsigned short)nearbyintf(ldexpf(size, 11 - exponent)));
}
inline float __half2float(unsigned short x)
{
    int exponent = x >> 10 & 31, rest = x & 1023;
    float size = exponent == 31 ? (rest ? NAN : INFINITY) : exponent ? ldexpf(1024 + rest, exponent - 25) : ldexpf(rest, -24);
    return x & 0x8000 ? -size : size;
}
struct half;
unsigned short __half_as_ushort(const half &x);
half __ushort_as_half(unsigned short x);

// CUDA's functions are off by some units in the last place: bounds from the CUDA C++ Programming Guide. The device adds
// such an error where it is told to (setting "inexact").
#define INEXACT(name, bound, bound_float) \
    inline float software_##name(float x) { return software_inexact_float((float)::name((double)x), bound_float); } \
    inline double software_##name(double x) { return software_inexact_double(::name(x), bound); } \
    template <class T> inline typename std::enable_if<std::is_integral<T>::value, double>::type software_##name(T x) \
    { return software_##name((double)x); }
INEXACT(exp, 1, 2)
INEXACT(expm1, 1, 1)
INEXACT(log, 1, 1)
INEXACT(log1p, 1, 1)
INEXACT(tanh, 1, 2)
INEXACT(sinh, 2, 3)
INEXACT(cosh, 1, 2)
INEXACT(sin, 2, 2)
INEXACT(cos, 2, 2)
INEXACT(erf, 2, 2)
#undef INEXACT

// -- how a kernel is called --------------------------------------------------------------------------------------------

template <class... A, size_t... I>
UNSEEN void software_call(void (*kernel)(A...), void **at, std::index_sequence<I...>)
{
    kernel(*(typename std::remove_const<A>::type *)at[I]...);
}

template <class... A>
UNSEEN void software_call(void (*kernel)(A...), void **at)
{
    software_call(kernel, at, std::index_sequence_for<A...>());
}

template <class... A>
UNSEEN int software_sizes(void (*)(A...), size_t *sizes)
{
    size_t found[] = {sizeof(A)..., 0};
    for (size_t i = 0; i < sizeof...(A); ++i) sizes[i] = found[i];
    return sizeof...(A);
}

// The type of an argument as NumPy names it, "f4" or "i8"; behind a P where it is the address of such numbers; "V" for a
// struct.
template <class T>
constexpr const char *software_type()
{
    if (std::is_pointer<T>::value) {
        using Of = typename std::remove_pointer<T>::type;
        if (std::is_floating_point<Of>::value) return sizeof(Of) == 4 ? "Pf4" : "Pf8";
        if (std::is_signed<Of>::value) return sizeof(Of) == 1 ? "Pi1" : sizeof(Of) == 4 ? "Pi4" : "Pi8";
        if (std::is_unsigned<Of>::value) return sizeof(Of) == 1 ? "Pu1" : sizeof(Of) == 4 ? "Pu4" : "Pu8";
        return "P";
    }
    if (std::is_floating_point<T>::value) return sizeof(T) == 4 ? "f4" : "f8";
    if (std::is_signed<T>::value) return sizeof(T) == 1 ? "i1" : sizeof(T) == 4 ? "i4" : "i8";
    if (std::is_unsigned<T>::value) return sizeof(T) == 1 ? "u1" : sizeof(T) == 4 ? "u4" : "u8";
    return std::is_class<T>::value ? "V" : "?";
}

template <class... A>
UNSEEN int software_types(void (*)(A...), const char **types)
{
    const char *found[] = {software_type<typename std::remove_const<A>::type>()..., ""};
    for (size_t i = 0; i < sizeof...(A); ++i) types[i] = found[i];
    return sizeof...(A);
}

// ``waits``: whether threads wait for each other; ``alone``: whether one thread can do the work of all.
#define SOFTWARE_KERNEL(symbol, kernel, waits, alone) \
    extern "C" int software_waits_##symbol = waits, software_alone_##symbol = alone; \
    extern "C" UNSEEN void software_run_##symbol(void **at) { software_call(kernel, at); } \
    extern "C" UNSEEN int software_sizes_##symbol(size_t *sizes) { return software_sizes(kernel, sizes); } \
    extern "C" UNSEEN int software_types_##symbol(const char **types) { return software_types(kernel, types); }
