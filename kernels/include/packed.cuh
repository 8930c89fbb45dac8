// Packed text: sequences one behind another, offsets [batch + 1] i32, ascending from 0, the last being how many rows are real.
#pragma once
#include "numeric.cuh"

// The sequence that a real row belongs to: the last one that starts at or before it.
__device__ __forceinline__ u32 sequence_of(const i32 *offsets, u32 batch, i32 row) {
    u32 low = 0, high = batch;
    while (high - low > 1) {
        const u32 middle = (low + high) / 2;
        if (offsets[middle] <= row) low = middle;
        else high = middle;
    }
    return low;
}
