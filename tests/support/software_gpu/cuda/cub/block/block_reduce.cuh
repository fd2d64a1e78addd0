// In the place of CUB's, which is written in the machine code of GPUs: a tree in shared memory. Thread 0 has the result.
#pragma once

namespace cub {

template <class T, int THREADS>
struct BlockReduce {
    struct TempStorage {
        alignas(T) char parts[THREADS * sizeof(T)];
    };
    T *parts;
    explicit BlockReduce(TempStorage &storage) : parts((T *)storage.parts) {}

    template <int ITEMS, class Op>
    T Reduce(T (&items)[ITEMS], Op op)
    {
        T sum = items[0];
        for (int j = 1; j < ITEMS; ++j) sum = op(sum, items[j]);
        return Reduce(sum, op);
    }

    template <class Op>
    T Reduce(T given, Op op)
    {
        unsigned i = threadIdx.x;
        parts[i] = given;
        for (unsigned half = THREADS / 2; half; half /= 2) {  // CuPy's blocks are powers of two
            __syncthreads();
            if (i < half) parts[i] = op(parts[i], parts[i + half]);
        }
        return i == 0 ? parts[0] : given;
    }
};

}  // namespace cub
