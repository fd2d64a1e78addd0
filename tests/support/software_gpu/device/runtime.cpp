// CUDA's runtime as CuPy calls it: each function takes the place of the one linked into CuPy (see patching.py).
// Work is done at once; streams and events matter to captures, and to what may be used when (see order.cpp).
#include "device.hpp"

#include <driver_types.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <set>

namespace {

struct Graph {
    std::vector<Work> work;
};

struct Capture {
    void *origin;
    std::set<void *> streams;  // the origin, and those that waited for an event of it
    std::shared_ptr<Graph> graph = std::make_shared<Graph>();
    bool is_valid = true, is_relaxed = true;  // relaxed: memory may be allocated and freed meanwhile
};

struct Event {
    bool is_recorded = false;
    Capture *capture = nullptr;
};

std::unique_ptr<Capture> capture;  // one at a time
std::map<void *, std::shared_ptr<Graph>> graphs, executables;
std::map<void *, Event> events;
std::set<void *> streams;
uintptr_t last_handle = 0x10000;

void *new_handle() { return (void *)(last_handle += 16); }
const char *const kinds[] = {"pageable", "pinned", "device"};
const char *const ways[] = {"HtoH", "HtoD", "DtoH", "DtoD", "default"};

}  // namespace

bool any_capture() { return capture != nullptr; }
bool is_capturing(void *stream) { return capture && capture->streams.count(stream); }

void invalidate_capture()
{
    if (capture) capture->is_valid = false;
}

int refuse(const char *what, void *stream)
{
    if (!any_capture()) return OK;
    note("refused in a capture: %s", what);
    invalidate_capture();
    return CAPTURE_UNSUPPORTED;
}

int submit(void *stream, Work work)
{
    if (!work.is_node ? any_capture() : is_capturing(stream)) {
        if (work.is_node) note("record %s", work.name.c_str());
        capture->graph->work.push_back(std::move(work));
        return OK;
    }
    if (work.is_node) {
        note("run %s", work.name.c_str());
        begin_work(stream, work.name);
    }
    return work.run();
}

// The names of a graph's nodes, one a line.
EXPORT size_t software_nodes(void *graph, char *text, size_t room)
{
    LOCKED;
    std::string all;
    auto found = graphs.find(graph);
    if (found != graphs.end())
        for (auto &work : found->second->work)
            if (work.is_node) all += work.name + "\n";
    if (text && room > all.size()) strcpy(text, all.c_str());
    return all.size();
}

#define CALL(name, ...) EXPORT int device_##name(__VA_ARGS__)

// -- the device --------------------------------------------------------------------------------------------------------

CALL(cudaGetLastError) { return OK; }
CALL(cudaPeekAtLastError) { return OK; }
CALL(cudaDriverGetVersion, int *version) { return *version = 13000, OK; }
CALL(cudaRuntimeGetVersion, int *version) { return *version = 13000, OK; }
CALL(cudaGetDevice, int *device) { return *device = 0, OK; }
CALL(cudaSetDevice, int device) { return device ? 101 : OK; }
CALL(cudaGetDeviceCount, int *count) { return *count = 1, OK; }
CALL(cudaDeviceCanAccessPeer, int *can, int, int) { return *can = 1, OK; }
CALL(cudaMemGetInfo, size_t *free, size_t *total) { return *total = TOTAL, *free = TOTAL - memory_used, OK; }

static const std::map<int, const char *> names = {{OK, "cudaSuccess"}, {INVALID_VALUE, "cudaErrorInvalidValue"},
    {OUT_OF_MEMORY, "cudaErrorMemoryAllocation"}, {ILLEGAL_ADDRESS, "cudaErrorIllegalAddress"},
    {NOT_SUPPORTED, "cudaErrorNotSupported"}, {CAPTURE_UNSUPPORTED, "cudaErrorStreamCaptureUnsupported"},
    {CAPTURE_INVALIDATED, "cudaErrorStreamCaptureInvalidated"}, {CAPTURE_UNJOINED, "cudaErrorStreamCaptureUnjoined"},
    {CAPTURE_ISOLATION, "cudaErrorStreamCaptureIsolation"}, {CAPTURED_EVENT, "cudaErrorCapturedEvent"}};

const char *error_name(int error)
{
    auto found = names.find(error);
    return found == names.end() ? "an error" : found->second;
}

const char *error_words(int error)
{
    if (error == OUT_OF_MEMORY) return "out of memory";
    if (error == CAPTURE_UNSUPPORTED) return "operation not permitted when stream is capturing";
    return error == ILLEGAL_ADDRESS || error == NOT_SUPPORTED ? last_fault() : "see cudaError_t";
}

EXPORT const char *device_cudaGetErrorName(int error) { return error_name(error); }
EXPORT const char *device_cudaGetErrorString(int error) { return error_words(error); }

CALL(cudaDeviceGetAttribute, int *value, int attribute, int)
{
    static const std::map<int, int> known = {{cudaDevAttrComputeCapabilityMajor, 9},
        {cudaDevAttrComputeCapabilityMinor, 0}, {cudaDevAttrMultiProcessorCount, 132}, {cudaDevAttrWarpSize, 32},
        {cudaDevAttrMaxThreadsPerBlock, 1024}, {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
        {cudaDevAttrMaxSharedMemoryPerBlock, 48 << 10}, {cudaDevAttrMaxSharedMemoryPerBlockOptin, 227 << 10},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, 228 << 10}, {cudaDevAttrMaxRegistersPerBlock, 65536},
        {cudaDevAttrMemoryPoolsSupported, 0}, {cudaDevAttrManagedMemory, 0}, {cudaDevAttrL2CacheSize, 50 << 20}};
    auto found = known.find(attribute);
    return *value = found == known.end() ? 1 : found->second, OK;
}

CALL(cudaGetDeviceProperties, cudaDeviceProp *properties, int)
{
    *properties = {};
    strcpy(properties->name, "NVIDIA GPU in software");
    properties->totalGlobalMem = TOTAL;
    properties->sharedMemPerBlock = 48 << 10;
    properties->regsPerBlock = 65536;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->major = 9;
    properties->multiProcessorCount = 132;
    return OK;
}

CALL(cudaDeviceSynchronize)
{
    LOCKED;
    note("synchronize the device");
    host_waits_for_all();
    return refuse("cudaDeviceSynchronize");
}

// -- memory ------------------------------------------------------------------------------------------------------------

CALL(cudaMalloc, void **place, size_t size)
{
    LOCKED;
    note("malloc %zu", size);
    if (capture && !capture->is_relaxed) return refuse("cudaMalloc");
    *place = device_malloc(size);
    return *place ? OK : OUT_OF_MEMORY;
}

CALL(cudaFree, void *place)
{
    LOCKED;
    if (!place) return OK;
    note("free");
    if (capture && !capture->is_relaxed) return refuse("cudaFree");
    host_waits_for_all();
    if (device_free(place)) return OK;
    fault("cudaFree of %p, which is not the beginning of an allocation", place);
    return INVALID_VALUE;
}

CALL(cudaHostAlloc, void **place, size_t size, unsigned)
{
    LOCKED;
    note("malloc pinned %zu", size);
    return *place = pinned_malloc(size), *place ? OK : OUT_OF_MEMORY;
}

CALL(cudaFreeHost, void *place)
{
    LOCKED;
    return pinned_free(place) ? OK : INVALID_VALUE;
}

CALL(cudaPointerGetAttributes, cudaPointerAttributes *attributes, const void *place)
{
    LOCKED;
    *attributes = {};
    attributes->type = (cudaMemoryType)kind_of(place);
    attributes->devicePointer = attributes->hostPointer = const_cast<void *>(place);
    return OK;
}

static int copy(void *to, const void *from, size_t size)
{
    if (kind_of(from) == DEVICE && !check_range("a copy", "reads", from, size)) return ILLEGAL_ADDRESS;
    if (kind_of(to) == DEVICE && !check_range("a copy", "writes", to, size)) return ILLEGAL_ADDRESS;
    memmove(to, from, size);
    return OK;
}

CALL(cudaMemcpyAsync, void *to, const void *from, size_t size, int way, void *stream)
{
    LOCKED;
    Kind source = kind_of(from), target = kind_of(to);
    if (is_capturing(stream) && (source == PAGEABLE || target == PAGEABLE)) {
        // Pageable memory must have been read, or written, by the time the call returns.
        return refuse("a copy between the device and memory that is not pinned", stream);
    }
    char name[100];
    snprintf(name, sizeof name, "copy %s %zu %s %s", ways[way], size, kinds[source], kinds[target]);
    int error = submit(stream, {name, [=] { return copy(to, from, size); }});
    if (target == PAGEABLE) host_waits_for_stream(stream);
    return error;
}

CALL(cudaMemcpy, void *to, const void *from, size_t size, int way)
{
    LOCKED;
    note("copy %s %zu, and wait", ways[way], size);
    if (int refused = refuse("cudaMemcpy")) return refused;
    begin_work(nullptr, "cudaMemcpy");
    int error = copy(to, from, size);
    host_waits_for_stream(nullptr);
    return error;
}

CALL(cudaMemsetAsync, void *place, int value, size_t size, void *stream)
{
    LOCKED;
    return submit(stream, {"memset", [=] {
        if (!check_range("a memset", "writes", place, size)) return (int)ILLEGAL_ADDRESS;
        memset(place, value, size);
        return (int)OK;
    }});
}

CALL(cudaMemset, void *place, int value, size_t size)
{
    LOCKED;
    return device_cudaMemsetAsync(place, value, size, nullptr);
}

// -- streams and events ------------------------------------------------------------------------------------------------

CALL(cudaStreamCreateWithPriority, void **stream, unsigned flags, int)
{
    LOCKED;
    streams.insert(*stream = new_handle());
    stream_begins(*stream, flags & cudaStreamNonBlocking);
    return OK;
}
CALL(cudaStreamCreateWithFlags, void **stream, unsigned flags)
{
    return device_cudaStreamCreateWithPriority(stream, flags, 0);
}
CALL(cudaStreamCreate, void **stream) { return device_cudaStreamCreateWithPriority(stream, 0, 0); }
CALL(cudaStreamGetFlags, void *, unsigned *flags) { return *flags = cudaStreamNonBlocking, OK; }

CALL(cudaStreamDestroy, void *stream)
{
    LOCKED;
    return streams.erase(stream) ? OK : INVALID_HANDLE;
}

CALL(cudaStreamSynchronize, void *stream)
{
    LOCKED;
    note("synchronize %p", stream);
    host_waits_for_stream(stream);
    return is_capturing(stream) ? refuse("cudaStreamSynchronize", stream) : OK;
}

CALL(cudaStreamQuery, void *stream)
{
    LOCKED;
    return is_capturing(stream) ? refuse("cudaStreamQuery", stream) : OK;
}

CALL(cudaEventCreateWithFlags, void **event, unsigned)
{
    LOCKED;
    events[*event = new_handle()];
    return OK;
}
CALL(cudaEventCreate, void **event) { return device_cudaEventCreateWithFlags(event, 0); }

CALL(cudaEventDestroy, void *event)
{
    LOCKED;
    event_is_gone(event);
    return events.erase(event) ? OK : INVALID_HANDLE;
}

CALL(cudaEventRecord, void *event, void *stream)
{
    LOCKED;
    note("record event %p on %p", event, stream);
    events[event] = {true, is_capturing(stream) ? capture.get() : nullptr};
    if (!is_capturing(stream)) event_is_recorded(event, stream);
    return OK;
}

static int captured(void *event, const char *what)
{
    auto &known = events[event];
    if (!known.capture || known.capture != capture.get()) return OK;
    return refuse(what), CAPTURED_EVENT;
}

CALL(cudaEventQuery, void *event)  // orders nothing: CuPy asks for ends of its own, which a GPU may not have reached
{
    LOCKED;
    return captured(event, "cudaEventQuery");
}

CALL(cudaEventSynchronize, void *event)
{
    LOCKED;
    note("synchronize event %p", event);
    host_waits_for_event(event);
    return captured(event, "cudaEventSynchronize");
}
CALL(cudaEventElapsedTime, float *time, void *, void *) { return *time = 1.0f, OK; }

CALL(cudaStreamWaitEvent, void *stream, void *event, unsigned)
{
    LOCKED;
    note("%p waits for event %p", stream, event);
    auto &known = events[event];
    if (capture && known.capture == capture.get()) {
        capture->streams.insert(stream);  // it works for the capture from here on
        return OK;
    }
    if (!is_capturing(stream) || !known.is_recorded) {
        if (known.is_recorded) stream_waits(stream, event);
        return OK;
    }
    return refuse("a wait for work outside of the capture", stream), CAPTURE_ISOLATION;
}

// -- captures and graphs -----------------------------------------------------------------------------------------------

CALL(cudaStreamBeginCapture, void *stream, int mode)
{
    LOCKED;
    note("begin capture on %p", stream);
    if (capture || !stream) return CAPTURE_UNSUPPORTED;
    capture = std::make_unique<Capture>();
    capture->streams.insert(capture->origin = stream);
    capture->is_relaxed = mode == cudaStreamCaptureModeRelaxed;
    return OK;
}

CALL(cudaStreamEndCapture, void *stream, void **graph)
{
    LOCKED;
    note("end capture");
    *graph = nullptr;
    if (!capture || capture->origin != stream) return INVALID_VALUE;
    auto ended = std::move(capture);
    for (auto &[event, known] : events)
        if (known.capture == ended.get()) known.capture = nullptr;
    if (!ended->is_valid) return CAPTURE_INVALIDATED;
    graphs[*graph = new_handle()] = ended->graph;
    return OK;
}

CALL(cudaStreamIsCapturing, void *stream, int *status)
{
    LOCKED;
    *status = !is_capturing(stream) ? 0 : capture->is_valid ? 1 : 2;
    return OK;
}

CALL(cudaStreamGetCaptureInfo, void *stream, int *status, unsigned long long *id)
{
    if (id) *id = 1;
    return device_cudaStreamIsCapturing(stream, status);
}

CALL(cudaGraphInstantiate, void **executable, void *graph, unsigned long long)
{
    LOCKED;
    note("instantiate a graph");
    if (!graphs.count(graph)) return INVALID_VALUE;
    executables[*executable = new_handle()] = graphs[graph];
    return OK;
}

CALL(cudaGraphGetNodes, void *graph, void **nodes, size_t *count)
{
    LOCKED;
    size_t found = 0;
    for (auto &work : graphs[graph]->work) {
        if (nodes && work.is_node && found < *count) nodes[found] = &work;
        found += work.is_node;
    }
    return *count = found, OK;
}

CALL(cudaGraphDestroy, void *graph)
{
    LOCKED;
    return graphs.erase(graph) ? OK : INVALID_VALUE;
}

CALL(cudaGraphExecDestroy, void *graph)
{
    LOCKED;
    return executables.erase(graph) ? OK : INVALID_VALUE;
}

CALL(cudaGraphUpload, void *, void *) { return OK; }

CALL(cudaGraphLaunch, void *executable, void *stream)
{
    LOCKED;
    note("launch a graph");
    if (is_capturing(stream)) return refuse("a graph within a graph", stream);
    auto found = executables.find(executable);
    if (found == executables.end()) return INVALID_VALUE;
    begin_work(stream, "a graph");
    for (auto &work : found->second->work) {
        if (work.is_node) name_work(work.name + ", of a graph,");
        if (int error = work.run()) return error;
    }
    return OK;
}

// -- CUB's and Thrust's other kernels, which are compiled into CuPy for a GPU alone -------------------------------------

CALL(cudaFuncGetAttributes, cudaFuncAttributes *attributes, const void *)
{
    *attributes = {};
    attributes->maxThreadsPerBlock = 1024;
    attributes->ptxVersion = attributes->binaryVersion = 90;
    return OK;
}

int lacking(const char *name)
{
    LOCKED;
    fault("the software device has no %s", name);
    return NOT_SUPPORTED;
}
