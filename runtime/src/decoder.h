// A decoder in memory: what open.cpp plans and fills, and decoder.cpp moves on by 20 samples.
#pragma once

#include "../include/spikewire.h"
#include "kernels.h"
#include "memory.h"
#include "weights.h"

namespace spw {

struct Unit {
    Packed c3, own, c4, f1, f2;
    float c4_factor, f1_factor; // from inputs to bytes
    float *c3_bias, *c4_bias, *f1_bias, *f2_bias;
    float *known; // F1's sums over the columns of the next window that are known
    Stream c3_map, pooled;
};

} // namespace spw

struct spw_decoder {
    const spw::Kernels *kernels = nullptr;
    spw::Arena arena;
    spw::Weights shape; // sizes only once it is open
    int source_channels, channels, delays, refractory, history;
    float input_scale;
    int32_t *map;
    float *good;             // [channels], 1 or 0
    float *oldest, *masked;  // the front's kernels [delays][channels][inputs], oldest delay first
    spw::Packed front, c1, c2;
    float *packed_front, *c1_bias, *c2_bias;
    float c2_factor, c3_factor;
    spw::Stream samples, inputs, c1_map, c2_pooled;
    spw::Unit *units;
    float *c2_new, *c4_new, *own_new, *f1_new, *f2_new, *bins, *summit;           // of one step
    float *full_c1, *full_c2, *full_p1, *full_c3, *full_c4, *full_p2; // of a window
    uint8_t *full_bytes;
    float *thresholds, *linear; // [3][units]
    int32_t *label_lag;
    int64_t *last;
    int64_t taken = 0, prepared = -1; // steps since the reset; the step that `known` is for
    int64_t sound_from = 0;           // the first step whose window holds finite numbers only
};
