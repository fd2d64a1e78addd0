// CUDA's driver as CuPy calls it: modules and kernels. The image of a module is the name of a library that g++ made.
#include "device.hpp"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstring>

namespace {

constexpr char MARK[] = "software kernels: ";  // in front of the library's name
constexpr size_t PARAMETER_BYTES = 4096;

// Where a library's own data is: its shared, constant and static memory.
int find_data(dl_phdr_info *info, size_t, void *wanted)
{
    auto module = (Module *)wanted;
    link_map *map;
    dlinfo(module->library, RTLD_DI_LINKMAP, &map);
    if (info->dlpi_addr != map->l_addr) return 0;
    module->low = UINTPTR_MAX;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        auto &part = info->dlpi_phdr[i];
        if (part.p_type != PT_LOAD) continue;
        module->low = std::min<uintptr_t>(module->low, info->dlpi_addr + part.p_vaddr);
        module->high = std::max<uintptr_t>(module->high, info->dlpi_addr + part.p_vaddr + part.p_memsz);
    }
    return 1;
}

std::vector<std::unique_ptr<Module>> modules;
std::vector<std::unique_ptr<Kernel>> kernels;

bool flag(void *library, const std::string &name)
{
    auto found = (const int *)dlsym(library, name.c_str());
    return found && *found;
}

}  // namespace

EXPORT int cuGetErrorName(int error, const char **name) { return *name = error_name(error), OK; }
EXPORT int cuGetErrorString(int error, const char **words) { return *words = error_words(error), OK; }
// NVRTC asks the driver, too, and does without it where there is no device; CuPy does not call these.
EXPORT int cuInit(unsigned) { return 100; }
EXPORT int cuGetExportTable(const void **table, const void *) { return *table = nullptr, NOT_FOUND; }
EXPORT int cuDriverGetVersion(int *version) { return *version = 13000, OK; }
EXPORT int cuCtxGetCurrent(void **context) { return *context = (void *)1, OK; }
EXPORT int cuCtxSetCurrent(void *) { return OK; }

EXPORT int cuModuleLoadData(void **module, const void *image)
{
    LOCKED;
    note("load a module");
    // With lazy loading CUDA may wait for the device here: what a step runs is loaded before it is captured.
    if (any_capture()) return refuse("loading a module");
    auto text = (const char *)image;
    if (strncmp(text, MARK, sizeof MARK - 1) != 0) {
        fault("a module was loaded that g++ has not compiled");
        return NOT_SUPPORTED;
    }
    auto made = std::make_unique<Module>();
    made->library = dlopen(text + sizeof MARK - 1, RTLD_NOW | RTLD_LOCAL);
    if (!made->library) {
        fault("%s", dlerror());
        return NOT_FOUND;
    }
    dl_iterate_phdr(find_data, made.get());
    made->shared_low = (char *)dlsym(made->library, "software_shared_low");
    if (made->shared_low) {
        made->shared_low = *(char **)made->shared_low;
        made->shared_high = *(char **)dlsym(made->library, "software_shared_high");
    }
    made->flushes = flag(made->library, "software_flushes");
    *module = made.get();
    modules.push_back(std::move(made));
    return OK;
}

EXPORT int cuModuleUnload(void *)
{
    LOCKED;
    return any_capture() ? refuse("unloading a module") : OK;  // kept: graphs may still run its kernels
}

EXPORT int cuModuleGetFunction(void **function, void *module, const char *name)
{
    LOCKED;
    auto library = ((Module *)module)->library;
    auto run = (void (*)(void **))dlsym(library, (std::string("software_run_") + name).c_str());
    auto sizes = (int (*)(size_t *))dlsym(library, (std::string("software_sizes_") + name).c_str());
    if (!run || !sizes) {
        fault("no kernel %s in its module", name);
        return NOT_FOUND;
    }
    size_t found[1024];
    int n = sizes(found);
    bool waits = flag(library, std::string("software_waits_") + name);
    bool alone = flag(library, std::string("software_alone_") + name);
    auto kernel = std::make_unique<Kernel>(Kernel{(Module *)module, name, run, {found, found + n}, waits, alone});
    *function = kernel.get();
    kernels.push_back(std::move(kernel));
    return OK;
}

EXPORT int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
    unsigned shared, void *stream, void **arguments, void **)
{
    LOCKED;
    auto kernel = (Kernel *)function;
    size_t threads = (size_t)bx * by * bz;
    if (!gx || !gy || !gz || !threads || gx > 0x7fffffff || gy > 65535 || gz > 65535 || threads > 1024
        || shared > 227u << 10) {
        fault("kernel %s: no grid of (%u, %u, %u) blocks of (%u, %u, %u) threads", kernel->name.c_str(), gx, gy, gz, bx,
            by, bz);
        return INVALID_VALUE;
    }
    Shape shape = {{gx, gy, gz}, {bx, by, bz}, shared};
    size_t all = 0;
    for (size_t size : kernel->sizes) all = (all + 7) / 8 * 8 + size;
    if (all > PARAMETER_BYTES) {
        fault("kernel %s: %zu bytes of arguments, of %zu", kernel->name.c_str(), all, PARAMETER_BYTES);
        return INVALID_VALUE;
    }
    if (!is_capturing(stream)) {
        note("run %s", kernel->name.c_str());
        begin_work(stream, kernel->name);
        return run_kernel(*kernel, shape, arguments);
    }
    auto kept = std::make_shared<std::vector<std::vector<char>>>();  // what the arguments are now
    for (size_t i = 0; i < kernel->sizes.size(); ++i)
        kept->emplace_back((char *)arguments[i], (char *)arguments[i] + kernel->sizes[i]);
    return submit(stream, {kernel->name, [=] {
        std::vector<void *> places;
        for (auto &bytes : *kept) places.push_back(bytes.data());
        return run_kernel(*kernel, shape, places.data());
    }});
}

EXPORT int cuFuncGetAttribute(int *value, int attribute, void *)
{
    return *value = attribute == 0 ? 1024 : 0, OK;  // 0: the most threads of a block
}

EXPORT int cuFuncSetAttribute(void *, int, int) { return OK; }

EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *, int threads, size_t)
{
    return *blocks = std::max(1, 2048 / std::max(threads, 1)), OK;
}
