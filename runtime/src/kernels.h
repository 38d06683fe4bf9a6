// The arithmetic that is worth writing for one instruction set, behind a table of functions.
//
// kernels.cpp is compiled once per instruction set; open.cpp picks a table.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spw {

// bytes: weights rounded to int8, bytes 0 .. 127 in, sums of integers. fine: the same weights,
// inputs of 14 bits as two such bytes.
enum class Format : int { f32, f16, bytes, fine };

// A weight matrix [rows][columns] in the order in which its kernel reads it.
struct Packed {
    const void *data = nullptr;
    const float *scale = nullptr; // [padded columns], what a sum is worth, of bytes and fine
    int rows = 0, columns = 0;    // columns are padded to whole vectors
    Format format = Format::f32;
};

struct Kernels {
    const char *name;
    int lanes; // floats in a vector: widths of all maps are multiples of it

    // Bytes of a packed matrix, without scales.
    size_t (*packed_bytes)(int rows, int columns, Format format);

    // Pack weights [rows][columns] for `product` (tall = false) or `accumulate` (tall = true).
    // scale[columns] divides the weights of bytes and fine and is not used otherwise.
    void (*pack)(const float *weights, int rows, int columns, Format format, bool tall,
                 const float *scale, void *out);

    // out[m] += sum over k of map[m * stride + k] * weights[k], m = 0 .. count - 1, then ReLU if
    // asked. Rows of the map overlap: with stride = channels and weights.rows = 3 * channels this
    // is a valid convolution of width 3. f32 and f16.
    void (*product)(const float *map, int stride, const Packed &weights, float *out,
                    int out_stride, int count, bool relu);

    // out += sum over k in [first, last) of x[k] * weights[k]. f32 and f16.
    void (*accumulate)(const float *x, const Packed &weights, int first, int last, float *out);

    // The same two with bytes in; weights.rows and the bounds are multiples of 4.
    void (*product_bytes)(const uint8_t *map, int stride, const Packed &weights, float *out,
                          int out_stride, int count, bool relu);
    void (*accumulate_bytes)(const uint8_t *x, const Packed &weights, int first, int last,
                             float *out);

    // out += sum over k in [first, last) of (128 high[k] + low[k]) * weights[k]; bounds likewise.
    void (*accumulate_fine)(const uint8_t *high, const uint8_t *low, const Packed &weights,
                            int first, int last, float *out);

    // Nearest whole numbers of in * factor: 0 .. 127, or 0 .. 16383 as 128 high + low. count is a
    // multiple of a vector.
    void (*to_bytes)(const float *in, float factor, uint8_t *out, int count);
    void (*to_fine)(const float *in, float factor, uint8_t *high, uint8_t *low, int count);

    // out[p] = max(in[2 p], in[2 p + 1]) for maps of `width` columns.
    void (*pool)(const float *in, int width, float *out, int count);
};

extern const Kernels kernels_base;
#if defined(__aarch64__)
extern const Kernels kernels_dotprod;
#elif defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
extern const Kernels kernels_vnni;
#endif

} // namespace spw
