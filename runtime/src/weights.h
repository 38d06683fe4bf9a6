// weights.bin: the network of a bundle, little-endian float32 behind a header of 64 bytes.
//
//   char[8]  "SPKWIRE2"
//   uint32   inputs, units, c1, c2, c3, c4, f1, outputs, bin_start, flags, 4 times 0
//   float32  if flags & NETWORK, every matrix [rows][columns] before its bias [columns] and, where
//            marked *, the mean of its input [rows], which corrects the bias of rounded weights,
//            and one number, the largest input, from which inputs are rounded:
//              c1 [3 inputs][c1]    c2 [3 c1][c2] *
//              of every unit in turn:
//              c3 [3 c2][c3] *      own [6][c3] without bias, if flags & OWN
//              c4 [3 c3][c4] *      f1 [27 c4][f1] *       f2 [f1][outputs]
//            if flags & LINEAR: threshold, gain, sharpness, [units] each
//
// `outputs` is 1 (presence) or 21 (presence and 20 positions). Written by spikewire/weights.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace spw {

constexpr int WINDOW = 120, STEP = 20;
constexpr int POOLED = 27; // columns of a window after C4 and the second pool
constexpr int FRESH = 5;   // of them, those that a step adds

struct Layer {
    int rows = 0, columns = 0;
    const float *weights = nullptr, *bias = nullptr, *mean = nullptr, *most = nullptr;

    float at(int row, int column) const {
        return weights[static_cast<size_t>(row) * columns + column];
    }
};

struct Head {
    Layer c3, own, c4, f1, f2;
};

struct Weights {
    int inputs = 0, units = 0, c1 = 0, c2 = 0, c3 = 0, c4 = 0, f1 = 0, outputs = 0, bin_start = 0;
    bool network = false, own = false, linear = false;
    Layer first, second;
    std::vector<Head> heads;
    const float *threshold = nullptr, *gain = nullptr, *sharpness = nullptr;
};

// Views into `data`, which must outlive them and be aligned to floats. An empty string means that
// all is well, another says what is not.
std::string read_weights(const void *data, size_t bytes, Weights &out);

} // namespace spw
