// The threads of a kernel, one after the other: as functions called in a loop, or, where a kernel synchronizes, as
// coroutines that run from one barrier to the next.
#include "device.hpp"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <unordered_map>

struct Place { unsigned thread[3], block[3], threads[3], blocks[3]; };
EXPORT Place software_place;
Place software_place = {};

// Saves the registers that a function must keep, and goes on where another coroutine did so.
extern "C" void software_switch(void **from, void *to);
asm(R"(
.text
.globl software_switch
.hidden software_switch
software_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

namespace {

constexpr size_t STACK = 256 << 10, MOST_THREADS = 1024;
constexpr unsigned WARP = 32;
enum State { READY, AT_BARRIER, AT_WARP_BARRIER, DONE };

// What the threads of a warp gave each other, and which of them did.
struct Exchange {
    char given[WARP][16];
    unsigned present;
};

struct Thread {
    void *at;  // the stack pointer where it stopped
    State state;
    unsigned mask, fences;  // the lanes that it waits for at its warp's barrier
    char gives[16];
    std::shared_ptr<Exchange> got;
};

struct Warp {
    unsigned epoch;
};

char *stacks;
Thread threads[MOST_THREADS];
Warp warps[MOST_THREADS / WARP];
unsigned current, count, epoch;
void *scheduler;
bool is_broken;  // a fault ended the kernel
const Kernel *running;
void **given;
const Shape *shape;
std::vector<unsigned> order_of_blocks, order_of_threads;
alignas(16) char dynamic_shared[232 << 10];

// What threads of a block had written when one of them did an atomic operation, and who sees it: see ``announce``.
struct Known {
    unsigned thread, epoch;
    std::vector<unsigned> fences;  // of each thread of the block so far
};
using Blocks = std::unordered_map<unsigned, std::shared_ptr<const Known>>;
std::unordered_map<uintptr_t, Blocks> announced;  // by the place of the atomic operation
Blocks seen;                                      // by the block that runs
Known seeing;                                     // when it saw

void stand_at_thread(unsigned i)
{
    unsigned x = shape->threads[0], y = shape->threads[1];
    software_place.thread[0] = i % x;
    software_place.thread[1] = i / x % y;
    software_place.thread[2] = i / x / y;
}

void stand_at_block(unsigned i)
{
    unsigned x = shape->blocks[0], y = shape->blocks[1];
    software_place.block[0] = i % x;
    software_place.block[1] = i / x % y;
    software_place.block[2] = i / x / y;
    seen.clear();
}

// -- races -------------------------------------------------------------------------------------------------------------

struct Stamp {
    unsigned thread, block, epoch, warp_epoch, fences;
    bool is_set;
};

struct Byte {
    Stamp writer, reader;
    bool many, many_blocks;  // readers since the last write: of several threads, of several blocks
};

std::unordered_map<uintptr_t, Byte> bytes, shared_bytes;  // shared memory is another for each block

Stamp now()
{
    auto &p = software_place;
    unsigned thread = p.thread[0] + p.threads[0] * (p.thread[1] + p.threads[1] * p.thread[2]);
    unsigned block = p.block[0] + p.blocks[0] * (p.block[1] + p.blocks[1] * p.block[2]);
    return {thread, block, epoch, warps[thread / WARP].epoch, threads[thread].fences, true};
}

Known state_of(const Stamp &stamp)
{
    Known known = {stamp.thread, stamp.epoch, {}};
    for (unsigned i = 0; i < count; ++i) known.fences.push_back(threads[i].fences);
    return known;
}

// An atomic operation: the block sees what others did before theirs on the same place, and lets others see.
void announce(uintptr_t at)
{
    Stamp mine = now();
    seeing = state_of(mine);
    for (auto &[block, known] : announced[at]) seen[block] = known;
    announced[at] = seen;
    announced[at][mine.block] = std::make_shared<Known>(seeing);
}

// Whether what another block did is seen: it comes before an atomic operation with a fence between them, which comes
// before one of this block's, which comes before the access, again with a fence between them.
bool is_seen(const Stamp &before, const Stamp &after)
{
    auto found = seen.find(before.block);
    if (found == seen.end()) return false;
    const Known &known = *found->second;
    return (before.thread == known.thread || before.epoch < known.epoch)
        && before.fences < known.fences[before.thread]
        && (after.thread == seeing.thread || after.epoch > seeing.epoch)
        && after.fences > seeing.fences[after.thread];
}

bool ordered(const Stamp &before, const Stamp &after)  // by a barrier between them, or by fences and atomic operations
{
    if (before.block != after.block) return is_seen(before, after);
    if (before.thread == after.thread || before.epoch != after.epoch) return true;
    return before.thread / WARP == after.thread / WARP && before.warp_epoch != after.warp_epoch;
}

bool is_race(uintptr_t at, bool is_write, Stamp &other)
{
    Byte &byte = (at - arena < TOTAL ? bytes : shared_bytes)[at];
    Stamp mine = now();
    bool race = byte.writer.is_set && !ordered(byte.writer, mine);
    if (race) other = byte.writer;
    if (is_write) {
        bool same_part = byte.reader.epoch == mine.epoch && byte.reader.warp_epoch == mine.warp_epoch;
        if (byte.reader.is_set && (byte.many_blocks || !ordered(byte.reader, mine) || (byte.many && same_part)))
            race = true, other = byte.reader;
        byte.writer = mine;
        byte.reader.is_set = byte.many = byte.many_blocks = false;
    } else {
        if (byte.reader.is_set) {
            byte.many_blocks |= byte.reader.block != mine.block;
            byte.many = (byte.many && byte.reader.epoch == mine.epoch) || byte.reader.thread != mine.thread;
        }
        mine.is_set = true;
        byte.reader = mine;
    }
    return race;
}

// -- accesses ----------------------------------------------------------------------------------------------------------

__attribute__((noreturn)) void stop()
{
    is_broken = true;
    void *nowhere;
    software_switch(&nowhere, scheduler);
    __builtin_unreachable();
}

std::string where()
{
    char words[300];
    auto &p = software_place;
    snprintf(words, sizeof words, "kernel %s: thread (%u, %u, %u) of block (%u, %u, %u)", running->name.c_str(),
        p.thread[0], p.thread[1], p.thread[2], p.block[0], p.block[1], p.block[2]);
    return words;
}

bool usable_elsewhere(uintptr_t at, size_t size)
{
    auto module = running->module;
    if (at >= (uintptr_t)stacks && at < (uintptr_t)stacks + STACK * MOST_THREADS) return true;
    if (at >= module->low && at + size <= module->high) return true;
    if (at >= (uintptr_t)dynamic_shared && at < (uintptr_t)dynamic_shared + sizeof dynamic_shared)
        return at + size <= (uintptr_t)dynamic_shared + shape->shared;
    return is_pinned(at, size);
}

__attribute__((noinline)) void outside(uintptr_t at, size_t size, bool is_write)
{
    if (at - arena < TOTAL ? usable(at, size) : usable_elsewhere(at, size)) return;
    fault("%s %s memory outside of an array: %s", where().c_str(), is_write ? "writes" : "reads",
        describe(at, size).c_str());
    stop();
}

__attribute__((noinline)) void compare(uintptr_t at, size_t size, bool is_write)
{
    if (at >= (uintptr_t)stacks && at < (uintptr_t)stacks + STACK * MOST_THREADS) return;
    for (size_t i = 0; i < size; ++i) {
        Stamp other = {};
        if (!is_race(at + i, is_write, other)) continue;
        fault("%s %s what thread %u of block %u uses, with no barrier between them: a race", where().c_str(),
            is_write ? "writes" : "reads", other.thread, other.block);
        stop();
    }
}

inline void access(void *place, size_t size, bool is_write)
{
    uintptr_t at = (uintptr_t)place, offset = at - arena;
    if (offset >= TOTAL || shadow[offset / 8] || offset % 8 + size > 8) outside(at, size, is_write);
    if (offset < TOTAL) use(at, size, is_write);
    if (__builtin_expect(software_settings.races, 0)) compare(at, size, is_write);
}

// -- blocks ------------------------------------------------------------------------------------------------------------

void begin(unsigned i, void (*function)())
{
    void **top = (void **)(stacks + (i + 1) * STACK);
    *--top = nullptr;  // the function finds its stack aligned as after a call
    *--top = (void *)function;
    for (int k = 0; k < 6; ++k) *--top = nullptr;  // the registers
    threads[i].at = top, threads[i].state = READY, threads[i].fences = 0;
    threads[i].got.reset();
}

[[noreturn]] void leave_for_good()
{
    threads[current].state = DONE;
    software_switch(&threads[current].at, scheduler);
    __builtin_unreachable();
}

void one_thread()
{
    running->run(given);
    leave_for_good();
}

void shake_shared_memory()
{
    auto module = running->module;
    if (!software_settings.poison) return;
    if (module->shared_low) memset(module->shared_low, 0xff, module->shared_high - module->shared_low);
    memset(dynamic_shared, 0xff, shape->shared);
}

void whole_grid()  // a kernel that does not synchronize: loops over all blocks and threads
{
    for (unsigned block : order_of_blocks) {
        stand_at_block(block);
        for (unsigned thread : order_of_threads) {
            stand_at_thread(thread);
            running->run(given);
        }
    }
    leave_for_good();
}

void go_on(unsigned i)
{
    current = i;
    stand_at_thread(i);
    software_switch(&scheduler, threads[i].at);
}

// The threads that wait at the block's barrier go on, if all that are left do.
bool release()
{
    bool any = false;
    for (unsigned i = 0; i < count; ++i) {
        if (threads[i].state != AT_BARRIER && threads[i].state != DONE) return false;
        any |= threads[i].state == AT_BARRIER;
    }
    for (unsigned i = 0; i < count; ++i)
        if (threads[i].state == AT_BARRIER) threads[i].state = READY;
    return any;
}

// The lanes of a warp that wait for one another go on, each with what all of them gave: those of one mask, if none that
// it names is elsewhere. A lane that has ended, or that the block does not have, is not waited for.
bool release_lanes(unsigned first)
{
    bool any = false;
    for (unsigned i = first; i < std::min(first + WARP, count); ++i) {
        if (threads[i].state != AT_WARP_BARRIER) continue;
        unsigned mask = threads[i].mask, present = 0;
        bool all = true;
        for (unsigned lane = 0; lane < WARP && first + lane < count; ++lane) {
            Thread &other = threads[first + lane];
            if (!(mask >> lane & 1) || other.state == DONE) continue;
            if (other.state != AT_WARP_BARRIER || other.mask != mask) all = false;
            present |= 1u << lane;
        }
        if (!all) continue;
        auto exchange = std::make_shared<Exchange>();
        exchange->present = present;
        memset(exchange->given, 0xff, sizeof exchange->given);  // what a lane that is not there gives is unknown
        for (unsigned lane = 0; lane < WARP; ++lane)
            if (present >> lane & 1) {
                Thread &other = threads[first + lane];
                memcpy(exchange->given[lane], other.gives, sizeof other.gives);
                other.got = exchange, other.state = READY;
            }
        ++warps[first / WARP].epoch;
        any = true;
    }
    return any;
}

// A lane that waits for others of its warp that never come, in words.
std::string who_waits()
{
    for (unsigned i = 0; i < count; ++i)
        for (unsigned lane = 0, first = i / WARP * WARP; threads[i].state == AT_WARP_BARRIER && lane < WARP; ++lane) {
            Thread *other = first + lane < count ? &threads[first + lane] : nullptr;
            if (!(threads[i].mask >> lane & 1) || !other || other->state == DONE) continue;
            if (other->state == AT_WARP_BARRIER && other->mask == threads[i].mask) continue;
            char words[200];
            snprintf(words, sizeof words, "thread %u waits for lane %u of its warp, which its mask %#x names and which "
                "never comes with that mask", i, lane, threads[i].mask);
            return words;
        }
    return "threads of a block wait at different barriers for ever";
}

void one_block()
{
    for (unsigned i = 0; i < count; ++i) begin(i, one_thread);
    memset(warps, 0, sizeof warps);
    epoch = 0;
    shared_bytes.clear();
    shake_shared_memory();
    for (;;) {
        bool ran = false;
        for (unsigned i : order_of_threads) {
            if (threads[i].state != READY) continue;
            ran = true;
            go_on(i);
            if (is_broken) return;
        }
        bool released = false;
        for (unsigned first = 0; first < count; first += WARP)
            released |= release_lanes(first);
        bool any_done = std::any_of(threads, threads + count, [](Thread &t) { return t.state == DONE; });
        if (!released && release()) {
            released = true, ++epoch;
            if (any_done && software_settings.races) {
                fault("kernel %s: some threads of a block wait at a barrier, the others have ended",
                    running->name.c_str());
                is_broken = true;
                return;
            }
        }
        if (released || ran) continue;
        if (std::any_of(threads, threads + count, [](Thread &t) { return t.state != DONE; })) {
            fault("kernel %s: %s", running->name.c_str(), who_waits().c_str());
            is_broken = true;
        }
        return;
    }
}

std::vector<unsigned> drawn(size_t n, std::mt19937 &source)
{
    std::vector<unsigned> order(n);
    std::iota(order.begin(), order.end(), 0);
    if (software_settings.order) std::shuffle(order.begin(), order.end(), source);
    return order;
}

}  // namespace

int run_kernel(const Kernel &kernel, const Shape &given_shape, void **arguments)
{
    Shape asked = given_shape;
    // Loops that are divided among all threads: one thread takes them whole, unless the threads are to be compared.
    if (kernel.alone && !software_settings.order && !software_settings.races) asked.blocks[0] = asked.threads[0] = 1;
    static std::mt19937 source;
    static int seed;
    if (seed != software_settings.order) source.seed(seed = software_settings.order);
    if (!stacks)
        stacks = (char *)mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    running = &kernel, shape = &asked, given = arguments;
    size_t blocks = (size_t)asked.blocks[0] * asked.blocks[1] * asked.blocks[2];
    count = asked.threads[0] * asked.threads[1] * asked.threads[2];
    memcpy(software_place.threads, asked.threads, sizeof asked.threads);
    memcpy(software_place.blocks, asked.blocks, sizeof asked.blocks);
    order_of_blocks = drawn(blocks, source);
    order_of_threads = drawn(count, source);
    bytes.clear();
    shared_bytes.clear();
    announced.clear();
    is_broken = false;
    unsigned before = _mm_getcsr();
    if (kernel.module->flushes) _mm_setcsr(before | 0x8040);  // denormals are zero
    if (!kernel.waits) {
        epoch = 0;
        memset(warps, 0, sizeof warps);
        begin(0, whole_grid);
        current = 0;
        software_switch(&scheduler, threads[0].at);
    } else {
        for (unsigned block : order_of_blocks) {
            stand_at_block(block);
            one_block();
            if (is_broken) break;
        }
    }
    _mm_setcsr(before);
    return is_broken ? ILLEGAL_ADDRESS : OK;
}

// -- what kernels call -------------------------------------------------------------------------------------------------

static void wait_at(State barrier)
{
    threads[current].state = barrier;
    software_switch(&threads[current].at, scheduler);
}

EXPORT void software_barrier() { wait_at(AT_BARRIER); }
EXPORT void software_warp_barrier(unsigned mask)
{
    if (!(mask >> current % WARP & 1)) {
        fault("%s is not in the mask %#x that it waits with: its warp's other lanes do not know of it", where().c_str(),
            mask);
        stop();
    }
    threads[current].mask = mask;
    wait_at(AT_WARP_BARRIER);
}
EXPORT void software_fence()
{
    if (software_settings.races) ++threads[now().thread].fences;
}
EXPORT unsigned software_lane() { return current % WARP; }
EXPORT void *software_dynamic_shared() { return dynamic_shared; }

// What all lanes of the mask gave, 16 bytes each. What others give is unknown: all bits are set, as in NaN.
EXPORT void *software_exchange(unsigned mask, const void *value, size_t size)
{
    memcpy(threads[current].gives, value, size);
    software_warp_barrier(mask);
    return threads[current].got->given;
}

EXPORT unsigned software_present() { return threads[current].got->present; }

EXPORT void software_atomic(void *place, size_t size)
{
    outside((uintptr_t)place, size, true);
    if ((uintptr_t)place - arena < TOTAL) use((uintptr_t)place, size, true);
    if (software_settings.races) announce((uintptr_t)place);
}

// An error that depends on the value alone, as a function's does.
EXPORT float software_inexact_float(float value, int bound)
{
    bound = std::min(bound, software_settings.inexact);
    if (bound <= 0 || !std::isfinite(value) || value == 0 || std::fabs(value) == 1) return value;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits += (int)((bits * 2654435761u >> 16) % (2 * bound + 1)) - bound;
    memcpy(&value, &bits, sizeof bits);
    return value;
}

EXPORT double software_inexact_double(double value, int bound)
{
    bound = std::min(bound, software_settings.inexact);
    if (bound <= 0 || !std::isfinite(value) || value == 0 || std::fabs(value) == 1) return value;
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits += (int64_t)((bits * 0x9E3779B97F4A7C15ull >> 32) % (2 * bound + 1)) - bound;
    memcpy(&value, &bits, sizeof bits);
    return value;
}

// The compiler calls these before each access (-fsanitize=thread), by their names.
#define ACCESS(size) \
    EXPORT void __tsan_read##size(void *place) { access(place, size, false); } \
    EXPORT void __tsan_write##size(void *place) { access(place, size, true); } \
    EXPORT void __tsan_unaligned_read##size(void *place) { access(place, size, false); } \
    EXPORT void __tsan_unaligned_write##size(void *place) { access(place, size, true); }
ACCESS(1) ACCESS(2) ACCESS(4) ACCESS(8) ACCESS(16)
EXPORT void __tsan_read_range(void *place, size_t size) { access(place, size, false); }
EXPORT void __tsan_write_range(void *place, size_t size) { access(place, size, true); }
EXPORT void __tsan_vptr_update(void *, void *) {}
EXPORT void __tsan_init() {}
