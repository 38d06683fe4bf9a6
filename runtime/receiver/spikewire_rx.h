/* spikewire_rx: which of the decoder's frames a controller may believe, and how much they allow.
 *
 * C99, for one slot of one link, CAN or serial. No heap, no floating point, no input or output;
 * time is passed in, in microseconds of any clock that does not go back. One spw_rx belongs to one
 * thread. The same rules in Python, with which the tests compare this file, are in
 * python/spikewire/link/receiver.py:
 *
 * A frame is accepted if it decodes, is of the expected model, and its counter went up by 1 to 3.
 * It is usable if MU_INFO and MU_INFO2, not older than 2 s, say that the decoder speaks this very
 * table, three frames came in a row since the start or the last jump, the decoder is ACTIVE, the
 * drive is there, and the EMG behind it is at most 80 ms old by now. Assistance is full up to 30 ms
 * after the last usable frame, then goes down to 0 at 100 ms, and stays there until spw_rx_rearm. A
 * state of SAFE or FAULT ends it at once, and so does a second in which more than 5 % of the frames
 * were lost.
 *
 *     spw_rx rx;
 *     spw_rx_config config = spw_rx_defaults(0x1234ABCD);
 *     spw_rx_init(&rx, &config);
 *     for (;;) {                                   // every millisecond
 *         spw_rx_bytes(&rx, bytes, n, now_us);     // what came
 *         torque = limit(gain * rx.held.drive * spw_rx_assist(&rx, now_us) / 1000);
 *         ...                                      // ten times a second or more: spw_rx_arm_bytes
 *     }
 *
 * Research software, without any certification: an emergency stop and torque limits that do not
 * depend on it stay mandatory.
 */
#ifndef SPIKEWIRE_RX_H
#define SPIKEWIRE_RX_H

#include "spikewire_link.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SPW_RX_AGE_MAX_US 80000u  /* oldest EMG to act on */
#define SPW_RX_HOLD_US 30000u     /* three steps without a usable frame change nothing */
#define SPW_RX_LATCH_US 100000u   /* silence that ends assistance */
#define SPW_RX_INFO_US 2000000u   /* so long MU_INFO and MU_INFO2 hold */
#define SPW_RX_LOSS_US 1000000u   /* span in which losses are counted */
#define SPW_RX_LOSS_ONE_IN 20u    /* more than one frame in so many lost is too much */
#define SPW_RX_MAX_DELTA 3        /* of the counter */
#define SPW_RX_TRUST 3            /* frames in a row; also repeats that make a value stale */
#define SPW_RX_DRIFT_ONE_IN 5000u /* two quartz clocks of 100 ppm each */
#define SPW_RX_OTHER_CLOCK_US 10000000u

#define SPW_RX_NO_AGE UINT32_MAX                  /* an age that is not known */
#define SPW_RX_LINE_BYTES (SPW_MAX_SIZE + 5u + 1u) /* longest frame on a line, without its end */
#define SPW_RX_ARM_BYTES 15u                      /* of an EXO_ARM on a line */

/* Why a frame was rejected: a spw_check, or one of these. */
enum spw_rx_reason {
    SPW_RX_MODEL = SPW_N_CHECKS, /* another model than the expected one */
    SPW_RX_TABLE,                /* MU_INFO2 says another table: the header is of other sources */
    SPW_RX_SLOT,                 /* of another bundle */
    SPW_RX_TYPE,                 /* nothing that a decoder sends */
    SPW_RX_REPEATED,             /* the counter stood still */
    SPW_RX_JUMP,                 /* the counter went up by more than 3 */
    SPW_RX_N_REASONS
};

typedef enum spw_rx_result {
    SPW_RX_OTHER,   /* an identifier that is none of the link's */
    SPW_RX_STEP,    /* accepted, and now in `step` */
    SPW_RX_NOTICE,  /* anything else from the decoder, kept */
    SPW_RX_REJECTED /* counted in stats.rejected */
} spw_rx_result;

typedef struct spw_rx_config {
    uint32_t model_id;   /* the arm id that mu-run and mu-export print */
    uint8_t any_model;   /* 1: listen to any model. For monitors; a controller names one */
    uint8_t slot;        /* bundle, 0..3 */
    uint16_t base;       /* first CAN identifier */
    uint32_t age_max_us; /* oldest EMG to act on */
    uint32_t wire_us;    /* what a frame takes on the wire; it is added to every age */
} spw_rx_config;

/* An accepted frame. Raws as in spikewire_link.h, of the slot. */
typedef struct spw_rx_step {
    uint32_t step;           /* 16 bits of it in MU_DRIVE */
    uint32_t sample_time_us; /* of the newest sample; 0 where the frame bears none */
    uint32_t age_us;         /* of that sample when the frame was handed over, or SPW_RX_NO_AGE */
    uint16_t faults;         /* SPW_FAULT_...; MU_DRIVE bears none, see `status` */
    uint16_t drive;          /* 0.1 pulse/s; SPW_MU_DRIVE_DRIVE_INVALID, ..._SATURATED */
    uint16_t model_id16;     /* 0 in MU_DRIVE */
    uint8_t activation;      /* 0.5 %; SPW_MU_DRIVE_ACTIVATION_INVALID, ..._SATURATED */
    uint8_t state;           /* enum spw_state */
    uint8_t counter;
    uint8_t n_mu, good_channels; /* MU_STEP_FD only, else 0 */
} spw_rx_step;

typedef struct spw_rx_stats {
    uint32_t accepted, usable;   /* frames */
    uint32_t rejected[SPW_RX_N_REASONS];
    uint32_t gaps;               /* frames that the counter says are missing */
    uint32_t stale_marked_valid; /* ACTIVE with an age above 80 ms: an error of the decoder */
    uint32_t late;               /* older than the limit on arrival, by age and transit */
    uint32_t bad_crc32, bad_cobs, too_long; /* stretches of a serial line thrown away */
} spw_rx_stats;

/* To be read: config to stats. The rest is the receiver's own. */
typedef struct spw_rx {
    spw_rx_config config;
    spw_rx_step step;            /* the last accepted frame, whatever it says */
    spw_rx_step held;            /* the last usable one: what a controller acts on. Its drive is
                                    never "not available", its activation may be; 0 at first */
    uint8_t counts[SPW_N_UNITS]; /* spikes of the newest step; 15 where they are not known. On
                                    classic CAN they follow the drive, are those of all bundles in
                                    order, and 3 is three or more */
    spw_mu_info info;            /* the newest of each; all 0 before the first */
    spw_mu_status status;
    spw_mu_valid valid;
    uint8_t latched; /* assistance is off until spw_rx_rearm */
    spw_rx_stats stats;

    uint8_t has_step, has_usable, has_counter, has_least, has_loss, has_info[2];
    uint8_t counter, repeats, streak, arms;
    uint32_t late_us, least_us, least_rest;
    uint32_t came, lost;
    uint64_t received_us, usable_us, loss_us, info_us[2];
    uint8_t line[SPW_RX_LINE_BYTES];
    uint8_t filled, skipping;
} spw_rx;

/* Slot 0 of the usual base, 80 ms, nothing on the wire, and the model that `model_id` names. */
spw_rx_config spw_rx_defaults(uint32_t model_id);

/* Begin anew: nothing is usable, nothing was heard, nothing is latched. */
void spw_rx_init(spw_rx *rx, const spw_rx_config *config);

/* Take one frame off a CAN bus. Frames of identifiers above 0x7FF, remote and error frames are not
 * to be handed in. `size` is the number of data bytes, 0..64. */
spw_rx_result spw_rx_can(spw_rx *rx, uint32_t can_id, const uint8_t *data, size_t size,
                         uint64_t now_us);

/* Take bytes off a serial line as they came: any number, from any place in the stream. Returns how
 * many steps were accepted. After garbage the next whole frame is found. */
unsigned spw_rx_bytes(spw_rx *rx, const uint8_t *data, size_t size, uint64_t now_us);

/* Share of assistance that may be given, 0..1000 permille. Call it in every turn of the control
 * loop, and multiply what held.drive asks for by it: it is what watches the silence. */
unsigned spw_rx_assist(spw_rx *rx, uint64_t now_us);

/* Whether the last accepted frame is usable at `now_us`. It does not know of the latch: to drive
 * something use spw_rx_assist. */
int spw_rx_usable(const spw_rx *rx, uint64_t now_us);

/* Age of the newest EMG by now, or SPW_RX_NO_AGE. */
uint32_t spw_rx_age_us(const spw_rx *rx, uint64_t now_us);

/* End a latch, if what comes is usable now; to be called when a person asks for it, never by
 * itself. Returns whether assistance is allowed now. */
int spw_rx_rearm(spw_rx *rx, uint64_t now_us);

/* Write the next EXO_ARM with a request (enum spw_request) and the model of the configuration; send
 * it at least ten times a second for as long as the decoder may be ACTIVE.
 * For CAN: fills 8 bytes, returns the identifier. For a line: returns the number of bytes. */
uint32_t spw_rx_arm_can(spw_rx *rx, uint8_t request, uint8_t data[SPW_EXO_ARM_SIZE]);
size_t spw_rx_arm_bytes(spw_rx *rx, uint8_t request, uint8_t line[SPW_RX_ARM_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
