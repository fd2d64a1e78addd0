// The order of work in streams. All work is done at once, in the order of the calls; a GPU does what one stream is given
// in its order, and nothing more is certain but by events, by waits of the host, and by the default stream. So each
// stream has a clock: for every stream the number of its works that come before (C. J. Fidge, 1988). For each 512 bytes
// of memory, which are those of one array, it is noted which work wrote and read it last. A work that uses what another
// has written, or writes what another uses, and does not come after it, is a fault.
//
// A graph is one work: what streams do that were forked within its capture is taken to be in order.
#include "device.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <unordered_map>

uint32_t *last_writes, *last_reads, work_now;

namespace {

constexpr size_t MOST_WORKS = 1 << 22;  // remembered; then all is forgotten
using Clock = std::vector<uint32_t>;

struct Stream {
    unsigned index;
    bool is_alone;  // neither waits for the default stream nor makes it wait
    Clock clock;
};

struct Done {
    unsigned stream;
    uint32_t time, name;
};

void *const DEFAULT = nullptr;
std::map<void *, Stream> streams;
std::map<void *, Clock> events;
Clock host;
std::vector<Done> works(1);  // number 0: none
std::vector<std::string> names;
std::unordered_map<std::string, uint32_t> numbers;  // of names
std::unordered_map<size_t, std::vector<uint32_t>> more_reads;  // of one place by several streams, since it was written
Stream *stream_now;
uint32_t told;  // the last work that a fault was noted of

struct Opened {
    Opened()
    {
        size_t size = TOTAL / GRANULE * sizeof(uint32_t);
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        last_writes = (uint32_t *)mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
        last_reads = (uint32_t *)mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (last_writes == MAP_FAILED || last_reads == MAP_FAILED) abort();
    }
} opened;

void join(Clock &clock, const Clock &other)
{
    if (clock.size() < other.size()) clock.resize(other.size());
    for (size_t i = 0; i < other.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

Stream &stream_of(void *handle)
{
    if (handle == (void *)1) handle = DEFAULT;  // cudaStreamLegacy
    auto found = streams.find(handle);
    if (found == streams.end()) found = streams.insert({handle, {(unsigned)streams.size(), false, {}}}).first;
    return found->second;
}

// The stream, with all in its clock that comes before what it is given now.
Stream &entered(void *handle)
{
    Stream &stream = stream_of(handle), &none = stream_of(DEFAULT);
    join(stream.clock, host);
    if (&stream == &none) {
        for (auto &[other, known] : streams)
            if (!known.is_alone) join(stream.clock, known.clock);
    } else if (!stream.is_alone) {
        join(stream.clock, none.clock);
    }
    if (stream.clock.size() <= stream.index) stream.clock.resize(stream.index + 1);
    return stream;
}

void forget_works()
{
    works.resize(1);
    more_reads.clear();
    size_t size = TOTAL / GRANULE * sizeof(uint32_t);
    madvise(last_writes, size, MADV_DONTNEED);
    madvise(last_reads, size, MADV_DONTNEED);
}

bool comes_before(uint32_t work)
{
    const Done &done = works[work];
    return work == work_now || (done.stream < stream_now->clock.size() && done.time <= stream_now->clock[done.stream]);
}

void compare(uint32_t work, bool is_write, const char *did)
{
    if (!work || comes_before(work) || told == work_now) return;
    told = work_now;
    fault("%s %s memory that %s %s in another stream, and nothing orders them: no event, no wait",
        names[works[work_now].name].c_str(), is_write ? "writes" : "reads", names[works[work].name].c_str(), did);
}

}  // namespace

void name_work(const std::string &name)
{
    auto found = numbers.find(name);
    if (found == numbers.end()) {
        found = numbers.insert({name, (uint32_t)names.size()}).first;
        names.push_back(name);
    }
    works[work_now].name = found->second;
}

void begin_work(void *handle, const std::string &name)
{
    if (works.size() > MOST_WORKS) forget_works();
    stream_now = &entered(handle);
    uint32_t time = ++stream_now->clock[stream_now->index];
    work_now = works.size();
    works.push_back({stream_now->index, time, 0});
    name_work(name);
}

void used(size_t place, bool is_write)
{
    if (!work_now) return;
    compare(last_writes[place], is_write, "writes");
    uint32_t reader = last_reads[place];
    if (!is_write) {
        if (reader && !comes_before(reader)) more_reads[place].push_back(reader);
        last_reads[place] = work_now;
        return;
    }
    compare(reader, true, "reads");
    auto more = more_reads.find(place);
    if (more != more_reads.end()) {
        for (uint32_t other : more->second) compare(other, true, "reads");
        more_reads.erase(more);
    }
    last_writes[place] = work_now, last_reads[place] = 0;
}

void forget_use(uintptr_t at, size_t size)
{
    size_t first = (at - arena) / GRANULE, n = (size + GRANULE - 1) / GRANULE;
    for (size_t place = first; place < first + n; ++place)
        if (last_reads[place] && !more_reads.empty()) more_reads.erase(place);
    std::fill_n(last_writes + first, n, 0);
    std::fill_n(last_reads + first, n, 0);
}

// -- what orders work --------------------------------------------------------------------------------------------------

void stream_begins(void *handle, bool is_alone) { stream_of(handle).is_alone = is_alone; }
void event_is_recorded(void *event, void *stream) { events[event] = entered(stream).clock; }
void event_is_gone(void *event) { events.erase(event); }
void stream_waits(void *stream, void *event) { join(stream_of(stream).clock, events[event]); }
void host_waits_for_event(void *event) { join(host, events[event]); }
void host_waits_for_stream(void *stream) { join(host, entered(stream).clock); }

void host_waits_for_all()
{
    for (auto &[handle, known] : streams) join(host, known.clock);
}
