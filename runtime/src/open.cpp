// Opening: which instructions run, what memory a decoder takes, and its weights in their order.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <new>
#include <string>
#include <vector>

#if defined(__aarch64__)
#include <sys/auxv.h>
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1 << 20)
#endif
#endif

#include "decoder.h"

namespace spw {
namespace {

constexpr int BEFORE = 8; // inputs before a window that its first step reads, and does not need
// Inputs of F1 in int8 may grow to this many times the largest that was seen in calibration.
constexpr float HEADROOM = 4;

int pad(const spw_decoder &d, int width) {
    return (width + d.kernels->lanes - 1) / d.kernels->lanes * d.kernels->lanes;
}

// Weights [groups * width][columns] for maps whose rows are padded: zero rows in between.
const float *spread(const Layer &layer, int width, int whole, float *scratch) {
    if (width == whole) return layer.weights;
    const size_t row = layer.columns, kept = width * row, padding = (whole - width) * row;
    float *to = scratch;
    for (int g = 0; g < layer.rows / width; g++) {
        to = std::copy_n(layer.weights + g * kept, kept, to);
        to = std::fill_n(to, padding, 0.0f);
    }
    return scratch;
}

struct Planner {
    spw_decoder &d;
    float *scratch; // large enough for any layer, once memory is there

    // A layer on maps of `width` columns: its packed weights and its bias, corrected for rounding.
    Packed layer(const Layer &layer, int width, Format format, bool tall, float **bias,
                 float *factor = nullptr) {
        Arena &arena = d.arena;
        Packed made;
        const int whole = pad(d, width), rows = layer.rows / width * whole;
        made.rows = rows;
        made.columns = pad(d, layer.columns);
        made.format = format;
        char *data = arena.take<char>(d.kernels->packed_bytes(rows, layer.columns, format));
        const bool rounds = format == Format::fine || format == Format::bytes;
        float *scale = rounds ? arena.take<float>(made.columns) : nullptr;
        if (bias) *bias = arena.take<float>(made.columns);
        made.data = data;
        made.scale = scale;
        if (arena.counting()) return made;
        if (scale) scales(layer, scale);
        if (bias) std::copy(layer.bias, layer.bias + layer.columns, *bias);
        if (bias && scale) correct(layer, scale, *bias);
        d.kernels->pack(spread(layer, width, whole, scratch), rows, layer.columns, format, tall,
                        scale, data);
        if (rounds) { // a sum of integers is worth both scales
            const float whole = format == Format::bytes ? 127.0f : 16383.0f / HEADROOM;
            *factor = *layer.most > 0 ? whole / *layer.most : 1.0f;
            for (int c = 0; c < made.columns; c++) scale[c] /= *factor;
        }
        return made;
    }

    static void scales(const Layer &layer, float *scale) {
        for (int c = 0; c < layer.columns; c++) {
            float most = 0;
            for (int k = 0; k < layer.rows; k++)
                most = std::max(most, std::fabs(layer.at(k, c)));
            scale[c] = most > 0 ? most / 127 : 1.0f;
        }
    }

    // What rounding adds on average to an output is taken off its bias.
    static void correct(const Layer &layer, const float *scale, float *bias) {
        for (int c = 0; c < layer.columns; c++) {
            double lost = 0;
            for (int k = 0; k < layer.rows; k++) {
                const float w = layer.at(k, c);
                lost += layer.mean[k] * (w - scale[c] * std::round(w / scale[c]));
            }
            bias[c] += static_cast<float>(lost);
        }
    }
};

// Take or count the memory of everything; fill it if it is there.
void plan(spw_decoder &d, const Weights &w, const spw_config &config, float *scratch) {
    Arena &a = d.arena;
    Planner planner{d, scratch};
    const bool bytes = config.precision == SPW_INT8_ALL;
    const Format trunk = bytes ? Format::bytes : Format::f32;
    const Format heads = bytes                             ? Format::bytes
                         : config.precision == SPW_FP32 ? Format::f32
                                                           : Format::f16;
    const Format tall = config.precision == SPW_INT8 ? Format::fine : heads;
    const int inputs = pad(d, w.inputs);
    d.map = a.take<int32_t>(d.channels);
    d.good = a.take<float>(d.channels);
    d.thresholds = a.take<float>(w.units);
    d.label_lag = a.take<int32_t>(w.units);
    d.last = a.take<int64_t>(w.units);
    d.linear = a.take<float>(3 * static_cast<size_t>(w.units));
    d.samples.plan(a, d.channels, d.history + WINDOW, 8 * STEP);
    d.inputs.plan(a, inputs, WINDOW + BEFORE, 8 * STEP);
    if (d.delays) {
        d.oldest = a.take<float>(static_cast<size_t>(d.delays) * d.channels * w.inputs);
        d.masked = a.take<float>(static_cast<size_t>(d.delays) * d.channels * w.inputs);
        d.front = {nullptr, nullptr, d.delays * d.channels, inputs, Format::f32};
        d.packed_front =
            a.take<float>(d.kernels->packed_bytes(d.front.rows, w.inputs, Format::f32) / 4);
        d.front.data = d.packed_front;
    }
    d.bins = a.take<float>(static_cast<size_t>(STEP) * inputs);
    d.summit = a.take<float>(inputs);
    d.units = a.take<Unit>(w.network ? w.units : 0);
    if (!w.network) return;
    const int c1 = pad(d, w.c1), c2 = pad(d, w.c2), c3 = pad(d, w.c3), c4 = pad(d, w.c4);
    d.c1 = planner.layer(w.first, w.inputs, Format::f32, false, &d.c1_bias);
    d.c2 = planner.layer(w.second, w.c1, trunk, false, &d.c2_bias, &d.c2_factor);
    d.c1_map.plan(a, c1, 2, STEP, bytes);
    d.c2_pooled.plan(a, c2, 2, STEP / 2, bytes);
    for (int u = 0; u < w.units; u++) {
        const Head &h = w.heads[u];
        Unit counted, &unit = a.counting() ? counted : d.units[u];
        unit.c3 = planner.layer(h.c3, w.c2, heads, false, &unit.c3_bias, &d.c3_factor);
        if (w.own) unit.own = planner.layer(h.own, 6, Format::f32, false, nullptr);
        unit.c4 = planner.layer(h.c4, w.c3, heads, false, &unit.c4_bias, &unit.c4_factor);
        unit.f1 = planner.layer(h.f1, w.c4, tall, true, &unit.f1_bias, &unit.f1_factor);
        unit.f2 = planner.layer(h.f2, w.f1, Format::f32, true, &unit.f2_bias);
        unit.known = a.take<float>(unit.f1.columns);
        unit.c3_map.plan(a, c3, 2, STEP / 2, bytes);
        unit.pooled.plan(a, c4, POOLED, 4 * FRESH, tall == Format::fine ? 2 : bytes);
    }
    const int f1 = pad(d, w.f1), f2 = pad(d, w.outputs);
    d.c2_new = a.take<float>(STEP * c2);
    d.c4_new = a.take<float>(STEP / 2 * c4);
    d.own_new = a.take<float>(56 * pad(d, 6));
    d.f1_new = a.take<float>(f1);
    d.f2_new = a.take<float>(f2);
    d.full_c1 = a.take<float>(118 * c1);
    d.full_c2 = a.take<float>(116 * c2);
    d.full_p1 = a.take<float>(58 * c2);
    d.full_c3 = a.take<float>(56 * c3);
    d.full_c4 = a.take<float>(54 * c4);
    d.full_p2 = a.take<float>(POOLED * c4);
    d.full_bytes = a.take<uint8_t>(bytes ? 118 * std::max({c1, c2, c3, c4}) : 2 * POOLED * c4);
}

std::string check(const spw_config &c, const Weights &w) {
    if (c.units != w.units || c.inputs != w.inputs || c.bin_start != w.bin_start)
        return "configuration: its units, inputs or bin are not those of the weights";
    if (c.source_channels < 1 || c.source_channels > 4096 || c.channels < 1 || c.channels > 1024)
        return "configuration: 1 to 4096 channels of the source, 1 to 1024 used";
    if (c.delays < 0 || c.delays > 64) return "configuration: delays must be 0 to 64";
    if (!c.channel_map || !c.thresholds || !c.label_lag || (c.delays && (!c.kernels || !c.scale)))
        return "configuration: an array is missing";
    for (int k = 0; k < c.channels; k++)
        if (c.channel_map[k] < 0 || c.channel_map[k] >= c.source_channels)
            return "configuration: the channel map names a channel that the source has not";
    if (!c.delays && c.channels != w.inputs)
        return "configuration: without a front the network's inputs are the channels";
    if (c.precision < SPW_FP32 || c.precision > SPW_INT8_ALL)
        return "configuration: unknown precision";
    if (!std::isfinite(c.input_scale)) return "configuration: the input scale is not finite";
    return "";
}

const Kernels *choose(spw_cpu cpu) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    if (cpu == SPW_CPU_AUTO && vnni) return &kernels_vnni;
    if (cpu == SPW_CPU_AUTO) return avx512 ? &kernels_avx512 : avx2 ? &kernels_avx2 : &kernels_base;
    if (cpu == SPW_CPU_AVX512VNNI) return vnni ? &kernels_vnni : nullptr;
    if (cpu == SPW_CPU_AVX512) return avx512 ? &kernels_avx512 : nullptr;
    if (cpu == SPW_CPU_AVX2) return avx2 ? &kernels_avx2 : nullptr;
#elif defined(__aarch64__)
    const bool dotprod = getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
    if (cpu == SPW_CPU_AUTO) return dotprod ? &kernels_dotprod : &kernels_base;
    if (cpu == SPW_CPU_DOTPROD) return dotprod ? &kernels_dotprod : nullptr;
#endif
    return cpu == SPW_CPU_AUTO || cpu == SPW_CPU_BASE ? &kernels_base : nullptr;
}

// Floats of the largest layer once its rows are padded.
size_t largest_layer(const Weights &w) {
    const auto cells = [](int groups, int width, int columns) {
        return static_cast<size_t>(groups) * (width + 16) * columns;
    };
    if (!w.network) return 1;
    return std::max({cells(3, w.inputs, w.c1), cells(3, w.c1, w.c2), cells(3, w.c2, w.c3),
                     cells(3, w.c3, w.c4), cells(POOLED, w.c4, w.f1), cells(1, w.f1, w.outputs),
                     cells(1, 6, w.c3)});
}

spw_decoder *open(const spw_config &config, const void *weights, size_t bytes, std::string &wrong) {
    // Views need floats at their places; a file that was read into memory may lie anywhere.
    std::vector<float> copy(bytes / sizeof(float) + 1);
    std::memcpy(copy.data(), weights, bytes);
    Weights w;
    std::unique_ptr<spw_decoder> d(new spw_decoder);
    if (wrong = read_weights(copy.data(), bytes, w); !wrong.empty()) return nullptr;
    if (wrong = check(config, w); !wrong.empty()) return nullptr;
    d->kernels = choose(config.cpu);
    if (!d->kernels) {
        wrong = "this processor lacks the instructions that were asked for";
        return nullptr;
    }
    d->source_channels = config.source_channels;
    d->channels = config.channels;
    d->delays = config.delays;
    d->history = std::max(config.delays - 1, 0);
    d->refractory = config.refractory;
    d->input_scale = config.input_scale;
    std::vector<float> scratch(largest_layer(w));
    plan(*d, w, config, nullptr);
    if (!d->arena.allocate()) throw std::bad_alloc();
    plan(*d, w, config, scratch.data());
    std::copy(config.channel_map, config.channel_map + d->channels, d->map);
    std::copy(config.thresholds, config.thresholds + w.units, d->thresholds);
    std::copy(config.label_lag, config.label_lag + w.units, d->label_lag);
    if (w.linear) std::copy(w.threshold, w.threshold + 3 * w.units, d->linear);
    std::fill(d->good, d->good + d->channels, 1.0f);
    d->shape = w;
    d->shape.heads.clear(); // views of what is gone in a moment
    spw_reset(d.get());
    if (d->delays) spw_set_front(d.get(), config.kernels, config.scale);
    return d.release();
}

} // namespace
} // namespace spw

using namespace spw;

extern "C" {

spw_decoder *spw_open(const spw_config *config, const void *weights, size_t bytes, char *error,
                      size_t room) {
    std::string wrong;
    spw_decoder *made = nullptr;
    try {
        made = open(*config, weights, bytes, wrong);
    } catch (...) { // std::bad_alloc, or std::length_error of a size that cannot be
        wrong = "out of memory";
    }
    if (!made && error && room) std::snprintf(error, room, "%s", wrong.c_str());
    return made;
}

void spw_close(spw_decoder *decoder) { delete decoder; }
}
