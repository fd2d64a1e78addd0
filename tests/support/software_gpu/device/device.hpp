// The parts of the software device, and what they know of each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#define EXPORT extern "C"  // seen by others if exported.map names it

#define LOCKED std::lock_guard<std::recursive_mutex> hold(device_lock)

extern std::recursive_mutex device_lock;  // CuPy calls without Python's lock

// CUDA's error codes, of the runtime and the driver alike.
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
    ILLEGAL_ADDRESS = 700, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901, CAPTURE_UNJOINED = 904, CAPTURE_ISOLATION = 905, CAPTURED_EVENT = 907 };

// -- settings, set from Python -----------------------------------------------------------------------------------------

struct Settings {
    int order;    // 0: blocks and threads in their order; else the seed of another
    int inexact;  // the most units in the last place by which functions are off
    int races;    // whether accesses are compared between threads
    int poison;   // whether new arrays are filled with 0xff (NaN), and shared memory before each block
};
EXPORT Settings software_settings;

// -- log and faults ----------------------------------------------------------------------------------------------------

void note(const char *format, ...) __attribute__((format(printf, 1, 2)));   // a line of the log, if one is kept
void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));  // a mistake of the program
const char *last_fault();

// -- memory (memory.cpp) -----------------------------------------------------------------------------------------------

enum Kind { PAGEABLE = 0, PINNED = 1, DEVICE = 2 };
constexpr size_t TOTAL = 16ull << 30;  // bytes of the device: addresses only, until they are written to

extern uintptr_t arena;  // where device memory begins
extern uint8_t *shadow;  // for each 8 bytes: 0 if all may be used, 1 to 7 if so many may, 0x80 if none
extern size_t memory_used;

void *device_malloc(size_t size);
bool device_free(void *place);
void *pinned_malloc(size_t size);
bool pinned_free(void *place);
Kind kind_of(const void *place);
bool is_pinned(uintptr_t at, size_t size);
bool usable(uintptr_t at, size_t size);  // for addresses in the arena
std::string describe(uintptr_t at, size_t size);
bool check_range(const char *who, const char *what, const void *place, size_t size);

// -- the order of work in streams (order.cpp) --------------------------------------------------------------------------

constexpr size_t GRANULE = 512;  // bytes, all of one array
extern uint32_t *last_writes, *last_reads, work_now;  // for each granule the number of a work; that of the present one

void begin_work(void *stream, const std::string &name);  // what is done from here on is the stream's
void name_work(const std::string &name);                 // another part of the same work
void used(size_t granule, bool is_write);
void forget_use(uintptr_t at, size_t size);  // of memory that was given back, which waits for the device

// Notes that the present work uses memory of the device.
inline void use(uintptr_t at, size_t size, bool is_write)
{
    for (size_t i = (at - arena) / GRANULE, last = (at + size - 1 - arena) / GRANULE; i <= last; ++i)
        if (last_writes[i] != work_now && (is_write || last_reads[i] != work_now)) used(i, is_write);
}

void stream_begins(void *stream, bool is_alone);
void event_is_recorded(void *event, void *stream);
void event_is_gone(void *event);
void stream_waits(void *stream, void *event);
void host_waits_for_event(void *event);
void host_waits_for_stream(void *stream);
void host_waits_for_all();

// -- kernels (threads.cpp) ---------------------------------------------------------------------------------------------

struct Module {
    void *library = nullptr;
    uintptr_t low = 0, high = 0;                      // where its static memory is
    char *shared_low = nullptr, *shared_high = nullptr;  // its __shared__ variables
    bool flushes = false;  // denormals to zero
};

struct Kernel {
    Module *module;
    std::string name;
    void (*run)(void **);
    std::vector<size_t> sizes;  // of the arguments
    bool waits, alone;          // threads wait for each other; one thread can do the work of all
};

struct Shape {
    unsigned blocks[3], threads[3], shared;
};

int run_kernel(const Kernel &kernel, const Shape &shape, void **arguments);

// -- streams and graphs (runtime.cpp) ----------------------------------------------------------------------------------

struct Work {
    std::string name;
    std::function<int()> run;
    bool is_node = true;
};

// Runs work at once, or records it if the stream is being captured.
int submit(void *stream, Work work);
bool is_capturing(void *stream);
bool any_capture();
void invalidate_capture();
const char *error_name(int error);
const char *error_words(int error);
int refuse(const char *what, void *stream = nullptr);  // CAPTURE_UNSUPPORTED, and the capture is invalid
