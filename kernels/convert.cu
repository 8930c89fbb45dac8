// Convert: the same numbers, stored as another type.
//
// Formula   y = x
// Pointers  x, y  [count] contiguous, f32 or bf16, 256-byte aligned
// Launch    grid (count / 2048 rounded up), block 256; no dynamic shared memory
// Numbers   no arithmetic but the rounding to bf16, to nearest even
// Assumes   count < 2^31: src/ops/convert/cuda.rs checks
#include "include/vector.cuh"

struct Convert {
    const void *x;
    void *y;
    u32 count;
    u32 unused;
};

template <class From, class To> __device__ __forceinline__ void convert(const Convert &p) {
    const u32 at = (blockIdx.x * 256 + threadIdx.x) * EIGHT;
    if (at >= p.count) return;
    float x[8];
    load8(x, static_cast<const From *>(p.x) + at, p.count - at, true);
    store8(static_cast<To *>(p.y) + at, x, p.count - at, true);
}

extern "C" __global__ void __launch_bounds__(256) convert_copy_f32_eights_sm80(const Convert p) { convert<float, float>(p); }
extern "C" __global__ void __launch_bounds__(256) convert_copy_bf16_eights_sm80(const Convert p) { convert<bf16, bf16>(p); }
extern "C" __global__ void __launch_bounds__(256) convert_narrow_bf16_eights_sm80(const Convert p) { convert<float, bf16>(p); }
extern "C" __global__ void __launch_bounds__(256) convert_widen_f32_eights_sm80(const Convert p) { convert<bf16, float>(p); }
