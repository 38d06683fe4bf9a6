// One decoder in motion. Step 20 is a multiple of the pooling stride 4, so the columns of
// overlapping windows coincide: a step computes 20 new columns of C1 and C2, 10 of C3 and C4, 5
// after the second pool, and F1 sums over 22 columns known before and 5 new ones.
#include "../include/spikewire.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
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

#include "kernels.h"
#include "memory.h"
#include "weights.h"

namespace spw {
namespace {

constexpr int KNOWN = POOLED - FRESH; // columns of the next window that are known already
constexpr int BEFORE = 8; // inputs before a window that its first step reads, and does not need
constexpr int AROUND = 10; // samples on each side that a local maximum must exceed
constexpr int64_t NEVER = INT64_MIN / 2;

struct Unit {
    Packed c3, own, c4, f1, f2;
    float c4_factor, f1_factor; // from inputs to bytes
    float *c3_bias, *c4_bias, *f1_bias, *f2_bias;
    float *known; // F1's sums over the columns of the next window that are known
    Stream c3_map, pooled;
};

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

} // namespace
} // namespace spw

using namespace spw;

struct spw_decoder {
    const Kernels *kernels = nullptr;
    Arena arena;
    Weights shape; // sizes only once it is open
    int source_channels, channels, delays, refractory, history;
    float input_scale;
    int32_t *map;
    float *good;             // [channels], 1 or 0
    float *oldest, *masked;  // the front's kernels [delays][channels][inputs], oldest delay first
    Packed front, c1, c2;
    float *packed_front, *c1_bias, *c2_bias;
    float c2_factor, c3_factor;
    Stream samples, inputs, c1_map, c2_pooled;
    Unit *units;
    float *c2_new, *c4_new, *own_new, *f1_new, *f2_new, *bins, *summit;           // of one step
    float *full_c1, *full_c2, *full_p1, *full_c3, *full_c4, *full_p2; // of a window
    uint8_t *full_bytes;
    float *thresholds, *linear; // [3][units]
    int32_t *label_lag;
    int64_t *last;
    int64_t taken = 0, prepared = -1; // steps since the reset; the step that `known` is for
    int64_t sound_from = 0;           // the first step whose window holds finite numbers only
};

namespace spw {
namespace {

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
        const bool rounds = format == Format::i8 || format == Format::bytes;
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
        if (format == Format::bytes) { // a sum of integers is worth both scales
            *factor = *layer.most > 0 ? 127 / *layer.most : 1.0f;
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
    const Format tall = config.precision == SPW_INT8 ? Format::i8 : heads;
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
        unit.pooled.plan(a, c4, POOLED, 4 * FRESH, bytes);
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
    d.full_bytes = a.take<uint8_t>(bytes ? 118 * std::max({c1, c2, c3, c4}) : 0);
}

void fill(float *rows, const float *bias, int width, int count) {
    for (int m = 0; m < count; m++) std::memcpy(rows + m * width, bias, sizeof(float) * width);
}

// Bytes of rows of a map, if it has any.
void round_rows(const spw_decoder &d, const Map &map, float factor, int count) {
    if (map.bytes) d.kernels->to_bytes(map.floats, factor, map.bytes, count * map.width);
}

// `to` holds what is added: a product over rows of `from`, overlapping if it is a convolution.
void add_product(const spw_decoder &d, const Packed &w, const Map &from, float *to, int count) {
    if (w.format == Format::bytes)
        d.kernels->product_bytes(from.bytes, from.width, w, to, w.columns, count, true);
    else
        d.kernels->product(from.floats, from.width, w, to, w.columns, count, true);
}

// A valid convolution of width 3 over rows of `from`, with ReLU.
void convolve(const spw_decoder &d, const Packed &w, const float *bias, const Map &from,
              float *to, int count) {
    fill(to, bias, w.columns, count);
    add_product(d, w, from, to, count);
}

// F1's sums over columns [first, last) of a unit.
void add_columns(const spw_decoder &d, const Packed &w, const Map &from, int first, int last,
                 float *to) {
    const int low = first * from.width, high = last * from.width;
    if (w.format == Format::bytes)
        d.kernels->accumulate_bytes(from.bytes, w, low, high, to);
    else
        d.kernels->accumulate(from.floats, w, low, high, to);
}

// C3 of a unit; `own` is the row of the inputs that holds the first of its own six samples.
void convolve_c3(const spw_decoder &d, int u, const Map &trunk, const float *own, float *to,
                 int count) {
    const Unit &unit = d.units[u];
    fill(to, unit.c3_bias, unit.c3.columns, count);
    if (d.shape.own) {
        const int width = d.inputs.width, six = unit.own.rows;
        for (int p = 0; p < count; p++)
            for (int j = 0; j < 6; j++) d.own_new[p * six + j] = own[(2 * p + j) * width + u];
        d.kernels->product(d.own_new, six, unit.own, to, unit.c3.columns, count, false);
    }
    add_product(d, unit.c3, trunk, to, count);
}

// The network's state after 20 more rows of inputs, the newest of which are at `end` from the end.
void network_step(spw_decoder &d, int end) {
    const Kernels &k = *d.kernels;
    const int half = STEP / 2;
    float *c1 = d.c1_map.push(STEP);
    convolve(d, d.c1, d.c1_bias, d.inputs.map(end - STEP - 2), c1, STEP);
    round_rows(d, d.c1_map.map(-STEP), d.c2_factor, STEP);
    convolve(d, d.c2, d.c2_bias, d.c1_map.map(-STEP - 2), d.c2_new, STEP);
    k.pool(d.c2_new, d.c2.columns, d.c2_pooled.push(half), half);
    round_rows(d, d.c2_pooled.map(-half), d.c3_factor, half);
    const Map trunk = d.c2_pooled.map(-half - 2);
    const float *own = d.inputs.row(end - STEP - 6);
    for (int u = 0; u < d.shape.units; u++) {
        Unit &unit = d.units[u];
        convolve_c3(d, u, trunk, own, unit.c3_map.push(half), half);
        round_rows(d, unit.c3_map.map(-half), unit.c4_factor, half);
        convolve(d, unit.c4, unit.c4_bias, unit.c3_map.map(-half - 2), d.c4_new, half);
        k.pool(d.c4_new, unit.c4.columns, unit.pooled.push(FRESH), FRESH);
        round_rows(d, unit.pooled.map(-FRESH), unit.f1_factor, FRESH);
    }
}

void network_reset(spw_decoder &d) {
    d.prepared = -1;
    if (!d.shape.network) return;
    d.c1_map.reset();
    d.c2_pooled.reset();
    for (int u = 0; u < d.shape.units; u++) {
        d.units[u].c3_map.reset();
        d.units[u].pooled.reset();
    }
}

// Network inputs of the 20 samples that end at `end` from the end, into `to`. What is not finite
// would not survive the ReLUs: it is noted here, and nothing is said of windows that hold it.
void front(spw_decoder &d, int end, float *to) {
    const int width = d.inputs.width;
    std::memset(to, 0, sizeof(float) * STEP * width);
    if (d.delays) {
        const float *from = d.samples.row(end - STEP - d.history);
        d.kernels->product(from, d.channels, d.front, to, width, STEP, false);
    } else {
        const float *from = d.samples.row(end - STEP);
        for (int t = 0; t < STEP; t++)
            for (int c = 0; c < d.channels; c++)
                to[t * width + c] = from[t * d.channels + c] * d.good[c];
    }
    float nothing = 0;
    for (int k = 0; k < STEP * width; k++) nothing += to[k] * 0.0f;
    const int64_t gone = d.taken + end / STEP + WINDOW / STEP; // when no window holds these
    if (!(nothing == 0)) d.sound_from = std::max(d.sound_from, gone);
}

void pack_front(spw_decoder &d) {
    if (!d.delays) return;
    const int inputs = d.shape.inputs;
    const size_t rows = static_cast<size_t>(d.delays) * d.channels;
    for (size_t r = 0; r < rows; r++)
        for (int i = 0; i < inputs; i++)
            d.masked[r * inputs + i] = d.oldest[r * inputs + i] * d.good[r % d.channels];
    d.kernels->pack(d.masked, static_cast<int>(rows), inputs, Format::f32, false, nullptr,
                    d.packed_front);
}

// F2 of a unit from F1's sums, and what the linear filter says; presence and position come out.
void answer(spw_decoder &d, int u, const float *f1, float *presence, int32_t *position) {
    const Weights &w = d.shape;
    const float *out = d.f2_new;
    if (w.network) {
        const Unit &unit = d.units[u];
        for (int k = 0; k < w.f1; k++) d.f1_new[k] = std::max(f1[k], 0.0f);
        std::memcpy(d.f2_new, unit.f2_bias, sizeof(float) * unit.f2.columns);
        d.kernels->accumulate(d.f1_new, unit.f2, 0, w.f1, d.f2_new);
    }
    float logit = w.network ? out[0] : 0.0f, best = 0;
    int at = STEP / 2;
    if (w.linear) {
        const float *threshold = d.linear, *gain = threshold + w.units, *sharp = gain + w.units;
        float most = 0;
        for (int s = 0; s < STEP; s++) most = std::max(most, d.bins[s * d.inputs.width + u]);
        logit += gain[u] * (most - threshold[u]);
        for (int s = 0; s < STEP; s++) {
            const float value =
                sharp[u] * d.bins[s * d.inputs.width + u] + (w.network ? out[1 + s] : 0.0f);
            if (s == 0 || value > best) best = value, at = s;
        }
    } else if (w.outputs > 1) {
        at = static_cast<int>(std::max_element(out + 1, out + 1 + STEP) - (out + 1));
    }
    presence[u] = d.taken < d.sound_from ? NAN : sigmoid(logit);
    position[u] = at;
}

// Samples of the bin that are local maxima of their filter's output, the others zero.
void find_peaks(spw_decoder &d) {
    if (!d.shape.linear) return;
    const int width = d.inputs.width;
    const float *bin = d.inputs.row(-WINDOW + d.shape.bin_start);
    for (int s = 0; s < STEP; s++) {
        const float *here = bin + s * width;
        std::memcpy(d.summit, here, sizeof(float) * width);
        for (int j = -AROUND; j <= AROUND; j++)
            for (int i = 0; i < width; i++)
                d.summit[i] = std::max(d.summit[i], here[j * width + i]);
        for (int i = 0; i < width; i++)
            d.bins[s * width + i] = here[i] >= d.summit[i] ? here[i] : 0.0f;
    }
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
    if (cpu == SPW_CPU_AUTO) return avx512 ? &kernels_avx512 : avx2 ? &kernels_avx2 : &kernels_base;
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

int32_t spw_units(const spw_decoder *d) { return d->shape.units; }
int32_t spw_inputs(const spw_decoder *d) { return d->shape.inputs; }
const char *spw_cpu_name(const spw_decoder *d) { return d->kernels->name; }
const char *spw_version(void) { return SPW_VERSION; }

int32_t spw_ready(const spw_decoder *d) { return d->taken * STEP >= d->history + WINDOW; }

void spw_advance(spw_decoder *d, const float *emg) {
    float *to = d->samples.push(STEP);
    for (int t = 0; t < STEP; t++, emg += d->source_channels)
        for (int c = 0; c < d->channels; c++) {
            const float value = emg[d->map[c]] * d->input_scale;
            *to++ = d->good[c] != 0 || std::isfinite(value) ? value : 0.0f;
        }
    d->taken++;
    front(*d, 0, d->inputs.push(STEP));
    if (d->shape.network) network_step(*d, 0);
}

void spw_decode(spw_decoder *d, float *presence, int32_t *position) {
    find_peaks(*d);
    for (int u = 0; u < d->shape.units; u++) {
        if (!d->shape.network) {
            answer(*d, u, nullptr, presence, position);
            continue;
        }
        Unit &unit = d->units[u];
        const Map columns = unit.pooled.map(-POOLED);
        if (d->prepared != d->taken) {
            std::memcpy(unit.known, unit.f1_bias, sizeof(float) * unit.f1.columns);
            add_columns(*d, unit.f1, columns, 0, KNOWN, unit.known);
        }
        add_columns(*d, unit.f1, columns, KNOWN, POOLED, unit.known);
        answer(*d, u, unit.known, presence, position);
    }
    d->prepared = -1;
}

void spw_prepare(spw_decoder *d) {
    if (!d->shape.network) return;
    for (int u = 0; u < d->shape.units; u++) {
        Unit &unit = d->units[u];
        std::memcpy(unit.known, unit.f1_bias, sizeof(float) * unit.f1.columns);
        add_columns(*d, unit.f1, unit.pooled.map(-KNOWN), 0, KNOWN, unit.known);
    }
    d->prepared = d->taken + 1;
}

void spw_decode_full(spw_decoder *d, float *presence, int32_t *position) {
    const Kernels &k = *d->kernels;
    uint8_t *bytes = d->c1_map.rounded ? d->full_bytes : nullptr;
    find_peaks(*d);
    if (d->shape.network) {
        convolve(*d, d->c1, d->c1_bias, d->inputs.map(-WINDOW), d->full_c1, 118);
        const Map c1{d->full_c1, bytes, d->c1.columns};
        round_rows(*d, c1, d->c2_factor, 118);
        convolve(*d, d->c2, d->c2_bias, c1, d->full_c2, 116);
        k.pool(d->full_c2, d->c2.columns, d->full_p1, 58);
    }
    for (int u = 0; u < d->shape.units; u++) {
        if (!d->shape.network) {
            answer(*d, u, nullptr, presence, position);
            continue;
        }
        Unit &unit = d->units[u];
        const Map p1{d->full_p1, bytes, d->c2.columns}, c3{d->full_c3, bytes, unit.c3.columns};
        round_rows(*d, p1, d->c3_factor, 58);
        convolve_c3(*d, u, p1, d->inputs.row(-WINDOW + 2), d->full_c3, 56);
        round_rows(*d, c3, unit.c4_factor, 56);
        convolve(*d, unit.c4, unit.c4_bias, c3, d->full_c4, 54);
        k.pool(d->full_c4, unit.c4.columns, d->full_p2, POOLED);
        const Map p2{d->full_p2, bytes, unit.c4.columns};
        round_rows(*d, p2, unit.f1_factor, POOLED);
        std::memcpy(d->f1_new, unit.f1_bias, sizeof(float) * unit.f1.columns);
        add_columns(*d, unit.f1, p2, 0, KNOWN, d->f1_new);
        add_columns(*d, unit.f1, p2, KNOWN, POOLED, d->f1_new);
        answer(*d, u, d->f1_new, presence, position);
    }
}

void spw_decide(spw_decoder *d, int64_t end, const float *presence, const int32_t *position,
                uint8_t *counts, int64_t *times) {
    const int64_t bin = end - WINDOW + d->shape.bin_start;
    for (int u = 0; u < d->shape.units; u++) {
        const int64_t peak = bin + position[u];
        counts[u] = presence[u] > d->thresholds[u] && peak - d->last[u] >= d->refractory;
        if (counts[u]) d->last[u] = peak;
        times[u] = peak - d->label_lag[u];
    }
}

int32_t spw_step(spw_decoder *d, const float *emg, int64_t end, float *presence, int32_t *position,
                 uint8_t *counts, int64_t *times) {
    spw_advance(d, emg);
    if (!spw_ready(d)) return 0;
    spw_decode(d, presence, position);
    spw_decide(d, end, presence, position, counts, times);
    return 1;
}

void spw_reset(spw_decoder *d) {
    d->samples.reset();
    d->inputs.reset();
    network_reset(*d);
    d->taken = d->sound_from = 0;
    std::fill(d->last, d->last + d->shape.units, NEVER);
}

void spw_set_front(spw_decoder *d, const float *kernels, const float *scale) {
    if (!d->delays) return;
    const int inputs = d->shape.inputs;
    const size_t row = static_cast<size_t>(d->channels) * inputs; // of one delay
    for (int delay = 0; delay < d->delays; delay++) {
        float *to = d->oldest + (d->delays - 1 - delay) * row;
        for (size_t k = 0; k < row; k++) to[k] = kernels[delay * row + k] / scale[k % inputs];
    }
    pack_front(*d);
    network_reset(*d);
    d->sound_from = 0;
    for (int end = STEP - WINDOW; end <= 0; end += STEP) {
        front(*d, end, d->inputs.row(end - STEP));
        if (d->shape.network) network_step(*d, end);
    }
}

void spw_mask(spw_decoder *d, const uint8_t *good) {
    for (int c = 0; c < d->channels; c++) d->good[c] = good[c] ? 1.0f : 0.0f;
    pack_front(*d);
}

void spw_window(const spw_decoder *d, float *inputs) {
    for (int t = 0; t < WINDOW; t++)
        std::memcpy(inputs + t * d->shape.inputs, d->inputs.row(t - WINDOW),
                    sizeof(float) * d->shape.inputs);
}
}
