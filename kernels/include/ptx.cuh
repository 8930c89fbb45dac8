// Every PTX instruction that CUDA C++ does not have as an operator, one function each, named after the instruction.
// Inline assembly stands here and in hopper.cuh only. Chapters are those of the PTX ISA 9.0.
#pragma once

namespace ptx {

// 9.7.9.21 cvt.rn.bf16.f32: the bits of the nearest bfloat16, ties to even.
__device__ __forceinline__ unsigned short bf16_of(float x) {
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

// 9.7.9.21 cvt.rn.bf16x2.f32: two of them, `low` in the lower half.
__device__ __forceinline__ unsigned bf16x2_of(float low, float high) {
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

// The address of shared memory as instructions of the .shared space take it.
__device__ __forceinline__ unsigned shared_address(const void *at) {
    return static_cast<unsigned>(__cvta_generic_to_shared(at));
}

// 9.7.9.25.3.1 cp.async.cg: 16 bytes from global to shared memory, of which the first `bytes` (0 or 16) are read and the
// others written as zero. Both addresses are multiples of 16.
__device__ __forceinline__ void cp_async_16(void *to, const void *from, unsigned bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}

// 9.7.9.25.3.2 cp.async.commit_group.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// 9.7.9.25.3.3 cp.async.wait_group: until at most N groups of this thread are under way.
template <int N> __device__ __forceinline__ void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// 9.7.14.5.15 ldmatrix.x4: four 8x8 matrices of 16-bit numbers, lane l giving the row l % 8 of matrix l / 8.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&d)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same, each matrix transposed.
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&d)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// 9.7.14.5.8 mma.m16n8k16, bfloat16 operands, f32 sums: c += a · b, fragments as in the chapter's figures.
__device__ __forceinline__ void mma_m16n8k16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

} // namespace ptx
