// Compiled once per instruction set, with SPW_KERNELS as the table's name.
//
// Nothing of the C++ library is used here: an inline function of it, compiled for a newer
// processor, could be the copy that the linker keeps for the whole program.
#include "kernels.h"

#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace spw {
namespace {

// Vectors of a tile's rows, and of a panel of the tall products: what the registers hold.
#if defined(__AVX512F__)
constexpr int BYTES = 64, TILE_ROWS = 10, TILE_VECTORS = 2, TALL_VECTORS = 4, FINE_VECTORS = 4;
#if defined(__AVX512VNNI__)
constexpr const char *NAME = "avx512vnni";
#else
constexpr const char *NAME = "avx512";
#endif
#elif defined(__AVX2__)
constexpr int BYTES = 32, TILE_ROWS = 5, TILE_VECTORS = 2, TALL_VECTORS = 8, FINE_VECTORS = 4;
constexpr const char *NAME = "avx2";
#elif defined(__aarch64__)
constexpr int BYTES = 16, TILE_ROWS = 5, TILE_VECTORS = 4, TALL_VECTORS = 16, FINE_VECTORS = 8;
#if defined(__ARM_FEATURE_DOTPROD)
constexpr const char *NAME = "dotprod";
#else
constexpr const char *NAME = "neon";
#endif
#else
constexpr int BYTES = 16, TILE_ROWS = 3, TILE_VECTORS = 3, TALL_VECTORS = 8, FINE_VECTORS = 4;
constexpr const char *NAME = "sse2";
#endif
constexpr int LANES = BYTES / 4;

typedef float Vector __attribute__((vector_size(BYTES), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(BYTES), aligned(4), may_alias));
typedef int16_t Shorts __attribute__((vector_size(BYTES), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(BYTES / 2), aligned(2), may_alias));
typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

inline int padded(int columns) { return (columns + LANES - 1) / LANES * LANES; }

inline Vector load(const float *p) { return *reinterpret_cast<const Vector *>(p); }
inline void store(float *p, Vector v) { *reinterpret_cast<Vector *>(p) = v; }

// fp16 without hardware: the exponent is moved by a multiplication, which also handles subnormals.
inline Vector load(const uint16_t *p) {
#if defined(__AVX512F__)
    return (Vector)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)));
#elif defined(__F16C__)
    return (Vector)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
#elif defined(__aarch64__)
    typedef __fp16 Four __attribute__((vector_size(8), aligned(2), may_alias));
    return __builtin_convertvector(*reinterpret_cast<const Four *>(p), Vector);
#else
    const Ints bits = __builtin_convertvector(*reinterpret_cast<const Halves *>(p), Ints);
    const Vector size = (Vector)((bits & 0x7fff) << 13) * 0x1p112f;
    return (Vector)((Ints)size | ((bits & 0x8000) << 16));
#endif
}

// sum += the products of four bytes 0 .. 127 and four weights in every lane. Two products fit into
// 16 bits: 2 * 127 * 127 = 32258.
inline Ints dot(Ints sum, Ints bytes, Ints weights) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)bytes, (__m512i)weights);
#elif defined(__AVX512BW__)
    const __m512i pairs = _mm512_maddubs_epi16((__m512i)bytes, (__m512i)weights);
    return sum + (Ints)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#elif defined(__AVX2__)
    const __m256i pairs = _mm256_maddubs_epi16((__m256i)bytes, (__m256i)weights);
    return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(__ARM_FEATURE_DOTPROD)
    return (Ints)vdotq_s32((int32x4_t)sum, (int8x16_t)bytes, (int8x16_t)weights);
#elif defined(__aarch64__)
    const int8x16_t a = (int8x16_t)bytes, b = (int8x16_t)weights;
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
    return (Ints)vpadalq_s16((int32x4_t)sum, vpaddq_s16(low, high));
#else
    const Shorts odd = ((Shorts)weights >> 8) * ((Shorts)bytes >> 8);
    const Shorts even = ((Shorts)weights << 8 >> 8) * ((Shorts)bytes << 8 >> 8);
    const Ints pairs = (Ints)(odd + even);
    return sum + (pairs << 16 >> 16) + (pairs >> 16);
#endif
}

inline Ints four(const uint8_t *p) {
    int32_t bytes;
    memcpy(&bytes, p, 4);
    return bytes - Ints{};
}

// Nearest fp16, ties to even; beyond its range the largest finite number.
uint16_t half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint32_t sign = bits >> 16 & 0x8000;
    uint32_t size = bits & 0x7fffffff;
    if (size >= 0x47800000) return static_cast<uint16_t>(sign | 0x7bff); // 65536 and more
    if (size < 0x38800000) { // below 2^-14: a multiple of 2^-24
        float magnitude;
        memcpy(&magnitude, &size, 4);
        const float shifted = magnitude * 0x1p24f + 0x1p23f; // the sum rounds to whole numbers
        memcpy(&size, &shifted, 4);
        return static_cast<uint16_t>(sign | (size & 0x7ff));
    }
    size += 0xfff + (size >> 13 & 1);
    const uint32_t made = (size - 0x38000000) >> 13;
    return static_cast<uint16_t>(sign | (made > 0x7bff ? 0x7bff : made));
}

int8_t rounded(float value) {
    const float away = value < 0 ? value - 0.5f : value + 0.5f;
    return static_cast<int8_t>(away > 127 ? 127 : away < -127 ? -127 : static_cast<int>(away));
}

// Columns come in panels of as many vectors as fit, so that a panel is read straight through.
inline int panel_vectors(int left, int most) {
    const bool tile = most == TILE_VECTORS; // the others are powers of two
    int vectors = most;
    while (vectors * LANES > left) vectors = tile ? vectors - 1 : vectors / 2;
    return vectors;
}

// Of bytes, four rows lie together.
template <class Write>
void in_panels(int rows, int columns, int most, int together, Write write) {
    const int whole = padded(columns);
    size_t at = 0;
    for (int first = 0; first < whole;) {
        const int width = panel_vectors(whole - first, most) * LANES;
        for (int k = 0; k < rows; k += together)
            for (int j = 0; j < width; j++)
                for (int i = 0; i < together; i++) write(at++, k + i, first + j);
        first += width;
    }
}

void pack(const float *weights, int rows, int columns, Format format, bool tall,
          const float *scale, void *out) {
    const bool rounds = format == Format::bytes || format == Format::fine;
    const int most = format == Format::fine ? FINE_VECTORS : tall ? TALL_VECTORS : TILE_VECTORS;
    in_panels(rows, columns, most, rounds ? 4 : 1, [&](size_t at, int k, int column) {
        const float value =
            column < columns ? weights[static_cast<size_t>(k) * columns + column] : 0.0f;
        if (format == Format::f32) static_cast<float *>(out)[at] = value;
        if (format == Format::f16) static_cast<uint16_t *>(out)[at] = half(value);
        if (rounds)
            static_cast<int8_t *>(out)[at] = column < columns ? rounded(value / scale[column]) : 0;
    });
}

size_t packed_bytes(int rows, int columns, Format format) {
    const size_t each = format == Format::f32 ? 4 : format == Format::f16 ? 2 : 1;
    return each * static_cast<size_t>(rows) * padded(columns);
}

template <class T, int ROWS, int VECTORS>
inline __attribute__((always_inline)) void tile(const float *__restrict map, int stride, int rows,
                                                const T *__restrict weights, float *__restrict out,
                                                int out_stride, bool relu) {
    Vector sum[ROWS][VECTORS];
    for (int m = 0; m < ROWS; m++)
        for (int v = 0; v < VECTORS; v++) sum[m][v] = load(out + m * out_stride + v * LANES);
    for (int k = 0; k < rows; k++, weights += VECTORS * LANES) {
        Vector w[VECTORS];
        for (int v = 0; v < VECTORS; v++) w[v] = load(weights + v * LANES);
        for (int m = 0; m < ROWS; m++) {
            const float x = map[m * stride + k];
            for (int v = 0; v < VECTORS; v++) sum[m][v] += x * w[v];
        }
    }
    const Vector zero = {};
    for (int m = 0; m < ROWS; m++)
        for (int v = 0; v < VECTORS; v++) {
            const Vector s = sum[m][v];
            store(out + m * out_stride + v * LANES, relu ? (s > zero ? s : zero) : s);
        }
}

template <class T, int VECTORS>
void panel(const float *map, int stride, int rows, const T *weights, float *out, int out_stride,
           int count, bool relu) {
    int m = 0;
    for (; m + TILE_ROWS <= count; m += TILE_ROWS)
        tile<T, TILE_ROWS, VECTORS>(map + m * stride, stride, rows, weights, out + m * out_stride,
                                    out_stride, relu);
    for (; m < count; m++)
        tile<T, 1, VECTORS>(map + m * stride, stride, rows, weights, out + m * out_stride,
                            out_stride, relu);
}

template <class T>
void product_of(const float *map, int stride, const Packed &w, float *out, int out_stride,
                int count, bool relu) {
    const T *weights = static_cast<const T *>(w.data);
    for (int first = 0; first < w.columns;) {
        const int vectors = panel_vectors(w.columns - first, TILE_VECTORS);
        float *to = out + first;
        switch (vectors) {
        case 1: panel<T, 1>(map, stride, w.rows, weights, to, out_stride, count, relu); break;
        case 2: panel<T, 2>(map, stride, w.rows, weights, to, out_stride, count, relu); break;
        case 3: panel<T, 3>(map, stride, w.rows, weights, to, out_stride, count, relu); break;
        default: panel<T, 4>(map, stride, w.rows, weights, to, out_stride, count, relu);
        }
        weights += static_cast<size_t>(w.rows) * vectors * LANES;
        first += vectors * LANES;
    }
}

void product(const float *map, int stride, const Packed &w, float *out, int out_stride, int count,
             bool relu) {
    if (w.format == Format::f32)
        product_of<float>(map, stride, w, out, out_stride, count, relu);
    else
        product_of<uint16_t>(map, stride, w, out, out_stride, count, relu);
}

template <class T, int VECTORS>
inline __attribute__((always_inline)) void tall_panel(const float *__restrict x,
                                                      const T *__restrict weights, int first,
                                                      int last, float *__restrict out) {
    Vector sum[VECTORS];
    for (int v = 0; v < VECTORS; v++) sum[v] = load(out + v * LANES);
    weights += static_cast<size_t>(first) * VECTORS * LANES;
    for (int k = first; k < last; k++, weights += VECTORS * LANES)
        for (int v = 0; v < VECTORS; v++) sum[v] += x[k] * load(weights + v * LANES);
    for (int v = 0; v < VECTORS; v++) store(out + v * LANES, sum[v]);
}

template <class T>
void accumulate_of(const float *x, const Packed &w, int first, int last, float *out) {
    const T *weights = static_cast<const T *>(w.data);
    for (int column = 0; column < w.columns;) {
        const int vectors = panel_vectors(w.columns - column, TALL_VECTORS);
        float *to = out + column;
        switch (vectors) {
        case 1: tall_panel<T, 1>(x, weights, first, last, to); break;
        case 2: tall_panel<T, 2>(x, weights, first, last, to); break;
        case 4: tall_panel<T, 4>(x, weights, first, last, to); break;
        case 8: tall_panel<T, 8>(x, weights, first, last, to); break;
        default: tall_panel<T, TALL_VECTORS>(x, weights, first, last, to);
        }
        weights += static_cast<size_t>(w.rows) * vectors * LANES;
        column += vectors * LANES;
    }
}

void accumulate(const float *x, const Packed &w, int first, int last, float *out) {
    if (w.format == Format::f32) accumulate_of<float>(x, w, first, last, out);
    if (w.format == Format::f16) accumulate_of<uint16_t>(x, w, first, last, out);
}

template <int ROWS, int VECTORS>
inline __attribute__((always_inline)) void byte_tile(const uint8_t *__restrict map, int stride,
                                                     int first, int last,
                                                     const int8_t *__restrict weights,
                                                     const float *__restrict scale,
                                                     float *__restrict out, int out_stride,
                                                     bool relu) {
    Ints sum[ROWS][VECTORS] = {};
    weights += static_cast<size_t>(first) * VECTORS * LANES;
    for (int k = first; k < last; k += 4, weights += 4 * VECTORS * LANES) {
        Ints w[VECTORS];
        for (int v = 0; v < VECTORS; v++)
            w[v] = *reinterpret_cast<const Ints *>(weights + v * BYTES);
        for (int m = 0; m < ROWS; m++) {
            const Ints x = four(map + m * stride + k);
            for (int v = 0; v < VECTORS; v++) sum[m][v] = dot(sum[m][v], x, w[v]);
        }
    }
    const Vector zero = {};
    for (int m = 0; m < ROWS; m++)
        for (int v = 0; v < VECTORS; v++) {
            float *to = out + m * out_stride + v * LANES;
            const Vector s =
                load(to) + __builtin_convertvector(sum[m][v], Vector) * load(scale + v * LANES);
            store(to, relu ? (s > zero ? s : zero) : s);
        }
}

template <int VECTORS>
void byte_panel(const uint8_t *map, int stride, int first, int last, const int8_t *weights,
                const float *scale, float *out, int out_stride, int count, bool relu) {
    int m = 0;
    for (; m + 5 <= count; m += 5)
        byte_tile<5, VECTORS>(map + m * stride, stride, first, last, weights, scale,
                              out + m * out_stride, out_stride, relu);
    for (; m < count; m++)
        byte_tile<1, VECTORS>(map + m * stride, stride, first, last, weights, scale,
                              out + m * out_stride, out_stride, relu);
}

void bytes_of(const uint8_t *map, int stride, const Packed &w, int first, int last, float *out,
              int out_stride, int count, bool relu, bool tall) {
    const int8_t *weights = static_cast<const int8_t *>(w.data);
    for (int column = 0; column < w.columns;) {
        const int vectors = panel_vectors(w.columns - column, tall ? TALL_VECTORS : TILE_VECTORS);
        const float *scale = w.scale + column;
        float *to = out + column;
        const auto run = [&](auto panel) {
            panel(map, stride, first, last, weights, scale, to, out_stride, count, relu);
        };
        switch (vectors) {
        case 1: run(byte_panel<1>); break;
        case 2: run(byte_panel<2>); break;
        case 3: run(byte_panel<3>); break;
        case 4: run(byte_panel<4>); break;
        case 8: run(byte_panel<8>); break;
        default: run(byte_panel<TALL_VECTORS>);
        }
        weights += static_cast<size_t>(w.rows) * vectors * LANES;
        column += vectors * LANES;
    }
}

void product_bytes(const uint8_t *map, int stride, const Packed &w, float *out, int out_stride,
                   int count, bool relu) {
    bytes_of(map, stride, w, 0, w.rows, out, out_stride, count, relu, false);
}

void accumulate_bytes(const uint8_t *x, const Packed &w, int first, int last, float *out) {
    bytes_of(x, 0, w, first, last, out, 0, 1, false, true);
}

template <int VECTORS>
inline __attribute__((always_inline)) void fine_panel(const uint8_t *__restrict high,
                                                      const uint8_t *__restrict low,
                                                      const int8_t *__restrict weights, int first,
                                                      int last, const float *__restrict scale,
                                                      float *__restrict out) {
    Ints upper[VECTORS] = {}, lower[VECTORS] = {};
    weights += static_cast<size_t>(first) * VECTORS * LANES;
    for (int k = first; k < last; k += 4, weights += 4 * VECTORS * LANES) {
        const Ints x = four(high + k), y = four(low + k);
        for (int v = 0; v < VECTORS; v++) {
            const Ints w = *reinterpret_cast<const Ints *>(weights + v * BYTES);
            upper[v] = dot(upper[v], x, w);
            lower[v] = dot(lower[v], y, w);
        }
    }
    for (int v = 0; v < VECTORS; v++) {
        const Vector sum = __builtin_convertvector(upper[v], Vector) * 128.0f +
                           __builtin_convertvector(lower[v], Vector);
        store(out + v * LANES, load(out + v * LANES) + sum * load(scale + v * LANES));
    }
}

void accumulate_fine(const uint8_t *high, const uint8_t *low, const Packed &w, int first, int last,
                     float *out) {
    const int8_t *weights = static_cast<const int8_t *>(w.data);
    for (int column = 0; column < w.columns;) {
        const int vectors = panel_vectors(w.columns - column, FINE_VECTORS);
        const float *scale = w.scale + column;
        float *to = out + column;
        switch (vectors) {
        case 1: fine_panel<1>(high, low, weights, first, last, scale, to); break;
        case 2: fine_panel<2>(high, low, weights, first, last, scale, to); break;
        case 4: fine_panel<4>(high, low, weights, first, last, scale, to); break;
        default: fine_panel<FINE_VECTORS>(high, low, weights, first, last, scale, to);
        }
        weights += static_cast<size_t>(w.rows) * vectors * LANES;
        column += vectors * LANES;
    }
}

inline Ints nearest(Vector v, float largest) {
    const Vector most = Vector{} + largest, zero = {};
    v += 0.5f;
    return __builtin_convertvector(v > most ? most : v > zero ? v : zero, Ints);
}

inline void store_low(uint8_t *p, Ints v) {
    *reinterpret_cast<Bytes *>(p) = __builtin_convertvector(v, Bytes);
}

void to_bytes(const float *in, float factor, uint8_t *out, int count) {
    for (int c = 0; c < count; c += LANES) store_low(out + c, nearest(load(in + c) * factor, 127));
}

void to_fine(const float *in, float factor, uint8_t *high, uint8_t *low, int count) {
    for (int c = 0; c < count; c += LANES) {
        const Ints whole = nearest(load(in + c) * factor, 16383);
        store_low(high + c, whole >> 7);
        store_low(low + c, whole & 127);
    }
}

void pool(const float *in, int width, float *out, int count) {
    for (int p = 0; p < count; p++, in += 2 * width, out += width)
        for (int c = 0; c < width; c += LANES) {
            const Vector a = load(in + c), b = load(in + width + c);
            store(out + c, a > b ? a : b);
        }
}

} // namespace

extern const Kernels SPW_KERNELS;
const Kernels SPW_KERNELS = {NAME,          LANES,            packed_bytes,    pack,     product,
                             accumulate,    product_bytes,    accumulate_bytes,
                             accumulate_fine, to_bytes,       to_fine,         pool};

} // namespace spw
