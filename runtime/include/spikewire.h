/* spikewire: one decoder of motor-unit discharges, 20 samples at a time.
 *
 * A decoder takes samples of EMG in microvolts and says, for every motor unit, how likely a
 * discharge is in the newest decided bin of 20 samples, where in the bin it lies, and whether it
 * counts. All memory is taken by spw_open; no other call allocates, locks or makes a system call. A
 * decoder belongs to one thread at a time; different decoders are independent.
 */
#ifndef SPIKEWIRE_H
#define SPIKEWIRE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SPW_API __attribute__((visibility("default")))
#else
#define SPW_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum { SPW_WINDOW = 120, SPW_STEP = 20 }; /* samples of a window, and between two windows */

/* How the network is held. The front, C1, F2 and the linear filters are always fp32. */
typedef enum spw_precision {
    SPW_FP32 = 0, /* the reference: equal to its own full window, bit by bit */
    SPW_FP16 = 1, /* C3, C4, F1 in fp16, sums in fp32 */
    SPW_INT8 = 2, /* F1's weights in int8 with one scale per output and corrected biases, its inputs
                     in 14 bits; C3 and C4 in fp16 */
    SPW_INT8_ALL = 3 /* weights and inputs of C2, C3, C4 and F1 in int8 */
} spw_precision;

/* Which instructions run. SPW_CPU_AUTO takes the best that this processor has. */
typedef enum spw_cpu {
    SPW_CPU_AUTO = 0,
    SPW_CPU_BASE = 1, /* x86-64 (SSE2), or aarch64 (NEON) */
    SPW_CPU_AVX2 = 2,
    SPW_CPU_AVX512 = 3,
    SPW_CPU_DOTPROD = 4, /* aarch64 with dot products of bytes, as on Orin */
    SPW_CPU_AVX512VNNI = 5
} spw_cpu;

typedef struct spw_config {
    int32_t units, inputs, bin_start; /* as in the weights: motor units, inputs of the network, and
                                         first sample of the decided bin in the window */
    int32_t source_channels;    /* floats in one sample handed to spw_advance */
    int32_t channels;           /* of them, those that the decoder reads */
    const int32_t *channel_map; /* [channels], each in 0 .. source_channels - 1 */
    float input_scale;          /* factor on the samples, 1 behind a front */
    int32_t delays;             /* of the linear filters in front; 0: the samples are the inputs */
    const float *kernels;       /* [delays * channels][inputs], row d * channels + c weighs the
                                   sample of channel c that is d samples old; NULL if delays is 0 */
    const float *scale;         /* [inputs], divides the filter outputs; NULL if delays is 0 */
    const float *thresholds;    /* [units], of the presence */
    const int32_t *label_lag;   /* [units], samples taken off the times */
    int32_t refractory;         /* samples in which a unit does not count again */
    spw_precision precision;
    spw_cpu cpu;
} spw_config;

typedef struct spw_decoder spw_decoder;

/* Open a decoder from a bundle's weights.bin. Neither the configuration nor the weights are
 * needed afterwards. On failure NULL comes back, and in `error` one line that says why. */
SPW_API spw_decoder *spw_open(const spw_config *config, const void *weights, size_t bytes,
                              char *error, size_t room);
SPW_API void spw_close(spw_decoder *decoder);

SPW_API int32_t spw_units(const spw_decoder *decoder);
SPW_API int32_t spw_inputs(const spw_decoder *decoder);
SPW_API const char *spw_cpu_name(const spw_decoder *decoder); /* "avx2", "neon", ... */
SPW_API const char *spw_version(void);

/* Consume 20 samples, [20][source_channels], microvolts. Always call it, also when late: a hole
 * corrupts what is remembered. After a gap call spw_reset. */
SPW_API void spw_advance(spw_decoder *decoder, const float *emg);

/* Whether enough samples came since the start or the last reset for spw_decode to be of use. */
SPW_API int32_t spw_ready(const spw_decoder *decoder);

/* The newest window: probability of a discharge in its bin, and the most likely sample of the bin,
 * 0 .. 19, of every unit. NaN as long as the window holds what is not finite. */
SPW_API void spw_decode(spw_decoder *decoder, float *presence, int32_t *position);

/* The same from the whole window at once, nothing remembered but the samples: the reference. */
SPW_API void spw_decode_full(spw_decoder *decoder, float *presence, int32_t *position);

/* Do now what the next spw_decode would do before looking at its newest samples. Optional; call it
 * after the answer has left. */
SPW_API void spw_prepare(spw_decoder *decoder);

/* Threshold and refractory time: counts 0 or 1, and times of those that count. `end` is the index
 * one past the newest sample. A count once given is final. */
SPW_API void spw_decide(spw_decoder *decoder, int64_t end, const float *presence,
                        const int32_t *position, uint8_t *counts, int64_t *times);

/* spw_advance, spw_decode and spw_decide. Returns spw_ready; until then it only takes samples. */
SPW_API int32_t spw_step(spw_decoder *decoder, const float *emg, int64_t end, float *presence,
                         int32_t *position, uint8_t *counts, int64_t *times);

/* Forget everything, after a gap in the samples. */
SPW_API void spw_reset(spw_decoder *decoder);

/* Swap the linear filters between two steps; the window is computed again, no step is lost.
 * Layout as in spw_config. Does nothing without a front. */
SPW_API void spw_set_front(spw_decoder *decoder, const float *kernels, const float *scale);

/* Take channels out, from the next step on: good[channels], 0 is out. */
SPW_API void spw_mask(spw_decoder *decoder, const uint8_t *good);

/* The network's inputs of the newest window, [120][inputs], oldest first. */
SPW_API void spw_window(const spw_decoder *decoder, float *inputs);

#ifdef __cplusplus
}
#endif
#endif
