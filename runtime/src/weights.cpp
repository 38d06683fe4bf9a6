#include "weights.h"

#include <cmath>
#include <cstring>

namespace spw {
namespace {

constexpr uint32_t NETWORK = 1, OWN = 2, LINEAR = 4;
constexpr int MOST_UNITS = 256, WIDEST = 1024; // so that no product below overflows
constexpr size_t HEADER = 64;

// Hands out consecutive arrays and never more than there is.
class Cursor {
  public:
    Cursor(const float *at, size_t left) : at_(at), left_(left) {}

    const float *take(size_t count) {
        if (count > left_) {
            short_ = true;
            return nullptr;
        }
        const float *taken = at_;
        at_ += count;
        left_ -= count;
        return taken;
    }

    Layer layer(int rows, int columns, bool bias, bool mean) {
        Layer made;
        made.rows = rows;
        made.columns = columns;
        made.weights = take(static_cast<size_t>(rows) * columns);
        if (bias) made.bias = take(columns);
        if (mean) made.mean = take(rows);
        if (mean) made.most = take(1);
        return made;
    }

    bool done() const { return !short_ && left_ == 0; }

  private:
    const float *at_;
    size_t left_;
    bool short_ = false;
};

std::string check(const Weights &w, const uint32_t *words) {
    const auto within = [](uint32_t value, uint32_t low, uint32_t high) {
        return low <= value && value <= high;
    };
    if (words[10] || words[11] || words[12] || words[13] || words[9] > (NETWORK | OWN | LINEAR))
        return "weights: of a newer version; take the library that came with the exporter";
    if (!w.network && !w.linear) return "weights: neither a network nor a linear decoder";
    if (!within(words[0], 1, WIDEST)) return "weights: inputs must be 1 to 1024";
    if (!within(words[1], 1, MOST_UNITS)) return "weights: units must be 1 to 256";
    for (int k = 2; k < 7; k++)
        if (!within(words[k], w.network ? 1 : 0, w.network ? WIDEST : 0))
            return "weights: widths must be 1 to 1024, and 0 where there is no network";
    if (words[7] != 1 && words[7] != 1 + STEP) return "weights: outputs must be 1 or 21";
    if (!within(words[8], 0, WINDOW - STEP)) return "weights: the bin must lie inside the window";
    if (w.linear && !within(words[8], 10, WINDOW - STEP - 10))
        return "weights: a linear decoder's bin must be 10 samples inside the window";
    if ((w.linear || w.own) && words[0] != words[1])
        return "weights: a linear decoder has one input for each unit";
    if (w.linear && words[7] == 1) return "weights: a linear decoder has 21 outputs";
    return "";
}

} // namespace

std::string read_weights(const void *data, size_t bytes, Weights &out) {
    const char *start = static_cast<const char *>(data);
    if (bytes < HEADER || bytes % 4 || std::memcmp(start, "SPKWIRE2", 8) != 0)
        return "weights: not a weights.bin of this version; export the bundle again";
    uint32_t words[14];
    std::memcpy(words, start + 8, sizeof words);
    Weights w;
    w.network = words[9] & NETWORK;
    w.own = words[9] & OWN;
    w.linear = words[9] & LINEAR;
    const std::string wrong = check(w, words);
    if (!wrong.empty()) return wrong;
    int *sizes[] = {&w.inputs, &w.units, &w.c1,      &w.c2,       &w.c3,
                    &w.c4,     &w.f1,    &w.outputs, &w.bin_start};
    for (int k = 0; k < 9; k++) *sizes[k] = static_cast<int>(words[k]);
    const float *numbers = reinterpret_cast<const float *>(start + HEADER);
    const size_t count = (bytes - HEADER) / 4;
    Cursor cursor(numbers, count);
    if (w.network) {
        w.first = cursor.layer(3 * w.inputs, w.c1, true, false);
        w.second = cursor.layer(3 * w.c1, w.c2, true, true);
        w.heads.resize(w.units);
        for (Head &h : w.heads) {
            h.c3 = cursor.layer(3 * w.c2, w.c3, true, true);
            if (w.own) h.own = cursor.layer(6, w.c3, false, false);
            h.c4 = cursor.layer(3 * w.c3, w.c4, true, true);
            h.f1 = cursor.layer(POOLED * w.c4, w.f1, true, true);
            h.f2 = cursor.layer(w.f1, w.outputs, true, false);
        }
    }
    if (w.linear) {
        w.threshold = cursor.take(w.units);
        w.gain = cursor.take(w.units);
        w.sharpness = cursor.take(w.units);
    }
    if (!cursor.done()) return "weights: cut short or too long; copy or export the bundle again";
    for (size_t k = 0; k < count; k++)
        if (!std::isfinite(numbers[k])) return "weights: hold a number that is not finite";
    out = w;
    return "";
}

} // namespace spw
