// One decoder in motion. Step 20 is a multiple of the pooling stride 4, so the columns of
// overlapping windows coincide: a step computes 20 new columns of C1 and C2, 10 of C3 and C4, 5
// after the second pool, and F1 sums over 22 columns known before and 5 new ones.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "decoder.h"

namespace spw {
namespace {

constexpr int KNOWN = POOLED - FRESH; // columns of the next window that are known already
constexpr int AROUND = 10; // samples on each side that a local maximum must exceed
constexpr int64_t NEVER = INT64_MIN / 2;

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

void fill(float *rows, const float *bias, int width, int count) {
    for (int m = 0; m < count; m++) std::memcpy(rows + m * width, bias, sizeof(float) * width);
}

// Bytes of rows of a map, if it has any.
void round_rows(const spw_decoder &d, const Map &map, float factor, int count) {
    const int many = count * map.width;
    if (map.low)
        d.kernels->to_fine(map.floats, factor, map.bytes, map.low, many);
    else if (map.bytes)
        d.kernels->to_bytes(map.floats, factor, map.bytes, many);
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
    if (w.format == Format::fine)
        d.kernels->accumulate_fine(from.bytes, from.low, w, low, high, to);
    else if (w.format == Format::bytes)
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

} // namespace
} // namespace spw

using namespace spw;

extern "C" {

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
        const Map c1{d->full_c1, bytes, nullptr, d->c1.columns};
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
        const Map p1{d->full_p1, bytes, nullptr, d->c2.columns};
        const Map c3{d->full_c3, bytes, nullptr, unit.c3.columns};
        round_rows(*d, p1, d->c3_factor, 58);
        convolve_c3(*d, u, p1, d->inputs.row(-WINDOW + 2), d->full_c3, 56);
        round_rows(*d, c3, unit.c4_factor, 56);
        convolve(*d, unit.c4, unit.c4_bias, c3, d->full_c4, 54);
        k.pool(d->full_c4, unit.c4.columns, d->full_p2, POOLED);
        const int p2_size = POOLED * unit.c4.columns;
        const Map p2{d->full_p2, unit.pooled.rounded ? d->full_bytes : nullptr,
                     unit.pooled.low ? d->full_bytes + p2_size : nullptr, unit.c4.columns};
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
