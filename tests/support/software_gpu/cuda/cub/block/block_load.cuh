// In the place of CUB's: the threads of a block load a tile, each its items side by side.
#pragma once

namespace cub {

enum BlockLoadAlgorithm { BLOCK_LOAD_DIRECT };

template <class T, int THREADS, int ITEMS, BlockLoadAlgorithm = BLOCK_LOAD_DIRECT>
struct BlockLoad {
    struct TempStorage {};
    explicit BlockLoad(TempStorage &) {}

    template <class From, class Otherwise>
    void Load(From from, T (&items)[ITEMS], int valid, Otherwise otherwise)
    {
        for (int j = 0; j < ITEMS; ++j) {
            int at = threadIdx.x * ITEMS + j;
            items[j] = at < valid ? (T)from[at] : (T)otherwise;
        }
    }
};

}  // namespace cub
