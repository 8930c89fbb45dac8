// Eight neighbouring numbers at a time, as f32 whatever the storage: 16-byte accesses where the address permits.
#pragma once
#include "numeric.cuh"

constexpr u32 EIGHT = 8;

__device__ __forceinline__ void load_aligned(float (&to)[8], const float *from) {
    const float4 a = reinterpret_cast<const float4 *>(from)[0], b = reinterpret_cast<const float4 *>(from)[1];
    to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w, to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
}

__device__ __forceinline__ void load_aligned(float (&to)[8], const bf16 *from) {
    const uint4 a = *reinterpret_cast<const uint4 *>(from);
    const u32 words[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        to[2 * i] = __uint_as_float(words[i] << 16);
        to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

__device__ __forceinline__ void store_aligned(float *to, const float (&from)[8]) {
    reinterpret_cast<float4 *>(to)[0] = make_float4(from[0], from[1], from[2], from[3]);
    reinterpret_cast<float4 *>(to)[1] = make_float4(from[4], from[5], from[6], from[7]);
}

__device__ __forceinline__ void store_aligned(bf16 *to, const float (&from)[8]) {
    *reinterpret_cast<uint4 *>(to) = make_uint4(ptx::bf16x2_of(from[0], from[1]), ptx::bf16x2_of(from[2], from[3]),
                                                ptx::bf16x2_of(from[4], from[5]), ptx::bf16x2_of(from[6], from[7]));
}

// The first `valid` numbers from there on, zero for the others. `aligned`: eight of them may be accessed as whole
// words of 16 bytes.
template <class T> __device__ __forceinline__ void load8(float (&to)[8], const T *from, u32 valid, bool aligned) {
    if (aligned && valid >= EIGHT) {
        load_aligned(to, from);
    } else {
#pragma unroll
        for (u32 i = 0; i < EIGHT; ++i) to[i] = i < valid ? widen(from[i]) : 0.0f;
    }
}

// The opposite: the numbers behind `valid` are not written.
template <class T> __device__ __forceinline__ void store8(T *to, const float (&from)[8], u32 valid, bool aligned) {
    if (aligned && valid >= EIGHT) {
        store_aligned(to, from);
    } else {
#pragma unroll
        for (u32 i = 0; i < EIGHT; ++i) {
            if (i < valid) to[i] = narrow<T>(from[i]);
        }
    }
}
