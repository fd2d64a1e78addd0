// Memory of the device: addresses reserved once, and for each 8 bytes a note of how many may be used.
#include "device.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

std::recursive_mutex device_lock;
Settings software_settings = {0, 0, 0, 1};
uintptr_t arena;
uint8_t *shadow;
size_t memory_used;

namespace {

std::map<uintptr_t, size_t> allocated, pinned;  // address, size
std::map<uintptr_t, size_t> arrays;             // of each array ever made at an address the latest size
std::map<uintptr_t, size_t> gaps;               // addresses that are free
constexpr size_t ALIGNMENT = 512;
constexpr uint8_t NOTHING = 0x80;

bool log_is_kept;
std::vector<std::string> log_lines, fault_lines;

std::string formatted(const char *format, va_list arguments)
{
    char line[1000];
    vsnprintf(line, sizeof line, format, arguments);
    return line;
}

size_t aligned(size_t size) { return (std::max<size_t>(size, 1) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

void allow(uintptr_t at, size_t size)
{
    uint8_t *first = shadow + (at - arena) / 8;
    memset(first, 0, size / 8);
    if (size % 8) first[size / 8] = size % 8;
}

void forbid(uintptr_t at, size_t size) { memset(shadow + (at - arena) / 8, NOTHING, size / 8); }

void *reserved(size_t size)
{
    void *place = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED) {
        fprintf(stderr, "software device: no %zu bytes of addresses\n", size);
        abort();
    }
    return place;
}

struct Opened {
    Opened()
    {
        arena = (uintptr_t)reserved(TOTAL);
        shadow = (uint8_t *)reserved(TOTAL / 8);
        gaps[arena] = TOTAL;
    }
} opened;

std::pair<const uintptr_t, size_t> *containing(std::map<uintptr_t, size_t> &blocks, uintptr_t at)
{
    auto next = blocks.upper_bound(at);
    if (next == blocks.begin()) return nullptr;
    auto &block = *std::prev(next);
    return at < block.first + block.second ? &block : nullptr;
}

}  // namespace

// -- log and faults ----------------------------------------------------------------------------------------------------

void note(const char *format, ...)
{
    if (!log_is_kept) return;
    va_list arguments;
    va_start(arguments, format);
    log_lines.push_back(formatted(format, arguments));
    va_end(arguments);
}

void fault(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fault_lines.push_back(formatted(format, arguments));
    va_end(arguments);
}

const char *last_fault() { return fault_lines.empty() ? "" : fault_lines.back().c_str(); }

EXPORT void software_keep_log(int on)
{
    LOCKED;
    log_is_kept = on;
    log_lines.clear();
}

// Writes the lines of the log (0) or the faults (1) into ``text``; returns the length that all of them have.
EXPORT size_t software_lines(int which, char *text, size_t room)
{
    LOCKED;
    std::string all;
    for (auto &line : which ? fault_lines : log_lines) all += line + "\n";
    if (text && room) {
        size_t n = std::min(room - 1, all.size());
        memcpy(text, all.data(), n);
        text[n] = 0;
    }
    return all.size();
}

EXPORT void software_forget_faults()
{
    LOCKED;
    fault_lines.clear();
}

// -- allocation --------------------------------------------------------------------------------------------------------

void *device_malloc(size_t size)
{
    size_t whole = aligned(size) + ALIGNMENT;  // the last part is never used: what runs past the end is seen
    for (auto gap = gaps.begin(); gap != gaps.end(); ++gap) {
        if (gap->second < whole || memory_used + size > TOTAL) continue;
        uintptr_t at = gap->first;
        size_t rest = gap->second - whole;
        gaps.erase(gap);
        if (rest) gaps[at + whole] = rest;
        allocated[at] = size;
        memory_used += size;
        forbid(at, whole);
        allow(at, size);
        if (software_settings.poison) memset((void *)at, 0xff, size);
        return (void *)at;
    }
    return nullptr;
}

bool device_free(void *place)
{
    auto found = allocated.find((uintptr_t)place);
    if (found == allocated.end()) return false;
    uintptr_t at = found->first;
    size_t whole = aligned(found->second) + ALIGNMENT;
    memory_used -= found->second;
    allocated.erase(found);
    arrays.erase(arrays.lower_bound(at), arrays.lower_bound(at + whole));
    forbid(at, whole);
    forget_use(at, whole);
    if (whole > 1 << 20) madvise((void *)((at + 4095) & ~4095ull), (whole - 4096) & ~4095ull, MADV_DONTNEED);
    auto next = gaps.upper_bound(at);
    if (next != gaps.end() && at + whole == next->first) {
        whole += next->second;
        next = gaps.erase(next);
    }
    if (next != gaps.begin() && std::prev(next)->first + std::prev(next)->second == at)
        std::prev(next)->second += whole;
    else
        gaps[at] = whole;
    return true;
}

// CuPy's pool hands out parts of what it allocated: Python tells of each array where it ends (see control.py). Its
// memory is unknown from here on. A captured step uses memory again for other arrays, so each replay does the same.
EXPORT void software_array(uintptr_t at, size_t size)
{
    LOCKED;
    if (at - arena >= TOTAL) return;
    auto whole = containing(allocated, at);
    if (!whole || !size) return;
    size_t room = std::min(aligned(size + 1), aligned(whole->first + whole->second - at));
    auto begin = [at, size, room] {
        if (!containing(allocated, at)) return 0;  // a graph is launched whose memory was given back
        forbid(at, room);
        allow(at, size);
        arrays.erase(arrays.lower_bound(at), arrays.lower_bound(at + room));  // older ones, here before
        arrays[at] = size;
        if (software_settings.poison) memset((void *)at, 0xff, size);
        return 0;
    };
    begin();
    if (any_capture()) submit(nullptr, {"array", begin, false});
}

void *pinned_malloc(size_t size)
{
    void *place = aligned_alloc(ALIGNMENT, aligned(size));
    if (place) pinned[(uintptr_t)place] = size;
    return place;
}

bool pinned_free(void *place)
{
    if (!pinned.erase((uintptr_t)place)) return false;
    free(place);
    return true;
}

// -- checks ------------------------------------------------------------------------------------------------------------

bool is_pinned(uintptr_t at, size_t size)
{
    auto block = containing(pinned, at);
    return block && at + size <= block->first + block->second;
}

Kind kind_of(const void *place)
{
    uintptr_t at = (uintptr_t)place;
    return at - arena < TOTAL ? DEVICE : containing(pinned, at) ? PINNED : PAGEABLE;
}

bool usable(uintptr_t at, size_t size)
{
    if (at - arena >= TOTAL || at + size - arena > TOTAL) return false;
    for (uintptr_t end = at + size; at < end;) {
        size_t within = std::min<size_t>(8 - at % 8, end - at), note = shadow[(at - arena) / 8];
        if (note && at % 8 + within > note) return false;
        if (note == NOTHING) return false;
        at += within;
    }
    return true;
}

std::string describe(uintptr_t at, size_t size)
{
    char words[200];
    if (at - arena >= TOTAL) {
        snprintf(words, sizeof words, "%zu bytes at %p, which is no memory of the device", size, (void *)at);
        return words;
    }
    auto found = containing(allocated, at);  // else it was freed, or never allocated
    auto &blocks = arrays.empty() ? allocated : arrays;
    auto next = blocks.upper_bound(at);
    if (next == blocks.begin() || (!found && allocated.empty())) return "memory that nobody allocated";
    auto &block = *std::prev(next);
    if (at < block.first + block.second && !found)
        snprintf(words, sizeof words, "%zu bytes of an array of %zu bytes that was freed", size, block.second);
    else
        snprintf(words, sizeof words, "%zu bytes, %zd bytes after the end of an array of %zu bytes", size,
            (ptrdiff_t)(at - block.first - block.second), block.second);
    return words;
}

bool check_range(const char *who, const char *what, const void *place, size_t size)
{
    uintptr_t at = (uintptr_t)place;
    if (size == 0) return true;
    if (usable(at, size)) {
        if (*what == 'w' || *what == 'r') use(at, size, *what == 'w');  // "writes ...", "reads ..."
        return true;
    }
    fault("%s %s memory outside of an array: %s", who, what, describe(at, size).c_str());
    return false;
}
