#include "spikewire_rx.h"

enum { INFO, INFO2 }; /* places in has_info and info_us */
#define OVERHEAD 5u   /* of a frame on a line: type byte and CRC-32 */

/* One frame on its way through the receiver. */
typedef struct frame {
    const uint8_t *data;
    size_t size;
    uint32_t can_id; /* of the CRC */
    unsigned slot;
    uint64_t now_us;
} frame;

/* 0 for a time that lies ahead: a clock that went back makes nothing younger. */
static uint64_t since(uint64_t now_us, uint64_t then_us) {
    return now_us > then_us ? now_us - then_us : 0;
}

static int trusted(const spw_rx *rx) { return rx->streak >= SPW_RX_TRUST; }

/* Latch if nothing usable has come for too long. */
static void expire(spw_rx *rx, uint64_t now_us) {
    if (rx->has_usable && since(now_us, rx->usable_us) >= SPW_RX_LATCH_US) rx->latched = 1;
}

/* Judge the losses of each second. A bad frame shows as a gap in the counter, too. */
static void count_loss(spw_rx *rx, uint32_t lost, uint64_t now_us) {
    rx->stats.gaps += lost;
    if (!rx->has_loss || since(now_us, rx->loss_us) >= SPW_RX_LOSS_US) {
        const uint64_t all = (uint64_t)rx->came + rx->lost;
        if ((uint64_t)rx->lost * SPW_RX_LOSS_ONE_IN > all) rx->latched = 1;
        rx->has_loss = 1;
        rx->loss_us = now_us;
        rx->came = rx->lost = 0;
    }
    rx->came++;
    rx->lost += lost;
}

/* Compare the counter with the one before. */
static unsigned follow(spw_rx *rx, uint8_t counter, int modulus, uint64_t now_us) {
    int delta = 1;
    if (rx->has_counter) {
        delta = ((int)counter - (int)rx->counter) % modulus;
        if (delta < 0) delta += modulus;
    }
    rx->has_counter = 1;
    rx->counter = counter;
    if (delta == 0) {
        if (rx->repeats < SPW_RX_TRUST) rx->repeats++;
        return SPW_RX_REPEATED;
    }
    rx->repeats = 0;
    count_loss(rx, (uint32_t)(delta - 1), now_us);
    if (delta > SPW_RX_MAX_DELTA) {
        rx->streak = 0;
        return SPW_RX_JUMP;
    }
    if (!trusted(rx)) rx->streak = (uint8_t)(delta == 1 ? rx->streak + 1 : 1);
    return SPW_OK;
}

/* Follow the number of the step, of which a frame has so many bits. A decoder that starts anew also
 * begins to count anew, but is not ACTIVE at first; trust begins anew with it. */
static unsigned advance(spw_rx *rx, const spw_rx_step *step, unsigned bits) {
    const uint32_t all = UINT32_MAX >> (32 - bits);
    const uint32_t delta = rx->has_number ? (step->step - rx->number) & all : 0;
    if (delta >> (bits - 1)) {
        if (step->state == SPW_STATE_ACTIVE) return SPW_RX_OLD;
        rx->streak = 0;
    }
    rx->has_number = 1;
    rx->number = step->step;
    rx->counted += delta;
    return SPW_OK;
}

/* Microseconds, rounded up, that a frame took longer than the quickest lately.
 *
 * A frame says when it left, on the decoder's clock: time of its newest sample plus age. The
 * quickest way is the reference, which may rise as two quartz clocks drift apart; its 5000th parts
 * of a microsecond are in least_rest. Everything wraps at 2^32 us, as the sample time does. Frames
 * without a time tell it by the number of their step, as long as the decoder is ACTIVE: lost
 * samples do not count as steps, but it is DEGRADED for half a second after any. */
static uint32_t transit(spw_rx *rx, const spw_rx_step *step, int timed, uint64_t now_us) {
    const uint64_t quiet = since(now_us, rx->received_us);
    uint32_t offset, ahead;
    uint64_t late, rise;
    if (step->age_us == SPW_RX_NO_AGE || (timed && step->sample_time_us == 0)) return 0;
    offset = (uint32_t)(now_us & UINT32_MAX) - step->age_us;
    offset -= timed ? step->sample_time_us : rx->counted * rx->info.step_period_us;
    if (!timed && step->state != SPW_STATE_ACTIVE) rx->has_least = 0;
    ahead = offset - rx->least_us;
    /* Quicker than the quickest, or so much later that it is another clock. */
    if (!rx->has_least || (ahead == 0 && rx->least_rest) || ahead > SPW_RX_OTHER_CLOCK_US) {
        rx->has_least = 1;
        rx->least_us = offset;
        rx->least_rest = 0;
        return 0;
    }
    late = (uint64_t)ahead * SPW_RX_DRIFT_ONE_IN - rx->least_rest;
    rise = quiet < SPW_RX_LOSS_US ? quiet : SPW_RX_LOSS_US;
    rx->least_rest += (uint32_t)(rise < late ? rise : late);
    rx->least_us += rx->least_rest / SPW_RX_DRIFT_ONE_IN;
    rx->least_rest %= SPW_RX_DRIFT_ONE_IN;
    return (uint32_t)((late + SPW_RX_DRIFT_ONE_IN - 1) / SPW_RX_DRIFT_ONE_IN);
}

/* Make an accepted frame the current one. */
static void believe(spw_rx *rx, const spw_rx_step *step, int timed, uint64_t now_us) {
    spw_rx_stats *stats = &rx->stats;
    const int known = step->age_us != SPW_RX_NO_AGE;
    size_t k;
    rx->late_us = transit(rx, step, timed, now_us);
    stats->late += known && (uint64_t)step->age_us + rx->late_us > rx->config.age_max_us;
    stats->stale_marked_valid +=
        known && step->state == SPW_STATE_ACTIVE && step->age_us > SPW_RX_AGE_MAX_US;
    stats->accepted++;
    rx->has_step = 1;
    rx->received_us = now_us;
    rx->step = *step;
    for (k = 0; k < SPW_N_UNITS; k++) rx->counts[k] = SPW_MU_STEP_FD_COUNTS_INVALID;
    if (step->state == SPW_STATE_SAFE || step->state == SPW_STATE_FAULT) rx->latched = 1;
    if (spw_rx_usable(rx, now_us)) {
        stats->usable++;
        rx->held = *step;
        rx->has_usable = 1;
        rx->usable_us = now_us;
    }
}

static int another_model(const spw_rx *rx, uint16_t model_id16) {
    return !rx->config.any_model && model_id16 != (rx->config.model_id & 0xFFFFu);
}

static uint32_t age_of(uint32_t raw, uint32_t invalid, uint32_t per_ms) {
    return raw == invalid ? SPW_RX_NO_AGE : raw * (1000u / per_ms);
}

/* The functions below take one message each, and return SPW_OK or why not. Whose frames come is
 * asked after the counter: two senders on one slot must never look like one. */

static unsigned take_drive(spw_rx *rx, const frame *f) {
    spw_mu_drive m;
    spw_rx_step step = {0};
    unsigned reason = spw_mu_drive_unpack(&m, f->data, f->size, f->can_id);
    if (reason) return reason;
    if (f->slot != rx->config.slot) return SPW_RX_SLOT;
    reason = follow(rx, m.counter, SPW_MU_DRIVE_COUNTER_MODULUS, f->now_us);
    if (reason) return reason;
    step.step = m.step;
    step.age_us = age_of(m.age_ms, SPW_MU_DRIVE_AGE_MS_INVALID, SPW_MU_DRIVE_AGE_MS_PER_UNIT);
    step.drive = m.drive;
    step.activation = m.activation;
    step.state = m.state;
    step.counter = m.counter;
    reason = advance(rx, &step, 16);
    if (reason) return reason;
    believe(rx, &step, 0, f->now_us);
    return SPW_OK;
}

static unsigned take_short(spw_rx *rx, const frame *f) {
    spw_mu_short m;
    spw_rx_step step = {0};
    unsigned reason = spw_mu_short_unpack(&m, f->data, f->size);
    if (reason) return reason;
    if (f->slot != rx->config.slot) return SPW_RX_SLOT;
    reason = follow(rx, m.counter, SPW_MU_SHORT_COUNTER_MODULUS, f->now_us);
    if (reason) return reason;
    if (another_model(rx, m.model_id16)) return SPW_RX_MODEL;
    step.step = m.step;
    step.age_us = age_of(m.age_ms, SPW_MU_SHORT_AGE_MS_INVALID, SPW_MU_SHORT_AGE_MS_PER_UNIT);
    step.faults = m.faults;
    step.drive = m.drive;
    step.activation = m.activation;
    step.state = m.state;
    step.counter = m.counter;
    step.model_id16 = m.model_id16;
    reason = advance(rx, &step, 32);
    if (reason) return reason;
    believe(rx, &step, 0, f->now_us);
    return SPW_OK;
}

static unsigned take_full(spw_rx *rx, const frame *f) {
    spw_mu_step_fd m;
    spw_rx_step step = {0};
    size_t k;
    unsigned reason = spw_mu_step_fd_unpack(&m, f->data, f->size, f->can_id);
    if (reason) return reason;
    if (f->slot != rx->config.slot) return SPW_RX_SLOT;
    reason = follow(rx, m.counter, SPW_MU_STEP_FD_COUNTER_MODULUS, f->now_us);
    if (reason) return reason;
    if (another_model(rx, m.model_id16)) return SPW_RX_MODEL;
    step.step = m.step;
    step.sample_time_us = m.sample_time_us;
    step.age_us = age_of(m.age_ms, SPW_MU_STEP_FD_AGE_MS_INVALID, SPW_MU_STEP_FD_AGE_MS_PER_UNIT);
    step.faults = m.faults;
    step.drive = m.drive[f->slot];
    step.activation = m.activation[f->slot];
    step.state = m.state;
    step.counter = m.counter;
    step.n_mu = m.n_mu;
    step.good_channels = m.good_channels;
    step.model_id16 = m.model_id16;
    reason = advance(rx, &step, 32);
    if (reason) return reason;
    believe(rx, &step, 1, f->now_us);
    for (k = 0; k < SPW_N_UNITS; k++) rx->counts[k] = m.counts[k];
    return SPW_OK;
}

static unsigned take_counts(spw_rx *rx, const frame *f) {
    spw_mu_counts m;
    size_t k, first;
    const unsigned reason = spw_mu_counts_unpack(&m, f->data, f->size, f->can_id);
    if (reason) return reason;
    first = (size_t)m.bank * SPW_UNITS_PER_BANK;
    for (k = 0; k < SPW_UNITS_PER_BANK && first + k < SPW_N_UNITS; k++)
        rx->counts[first + k] = m.counts[k];
    return SPW_OK;
}

static unsigned take_valid(spw_rx *rx, const frame *f) {
    spw_mu_valid m;
    const unsigned reason = spw_mu_valid_unpack(&m, f->data, f->size);
    if (!reason) rx->valid = m;
    return reason;
}

static unsigned take_status(spw_rx *rx, const frame *f) {
    spw_mu_status m;
    const unsigned reason = spw_mu_status_unpack(&m, f->data, f->size, f->can_id);
    if (!reason) rx->status = m;
    return reason;
}

/* MU_INFO and MU_INFO2 that do not fit end what they had allowed. */
static void know(spw_rx *rx, int which, int fits, uint64_t now_us) {
    rx->has_info[which] = (uint8_t)fits;
    rx->info_us[which] = now_us;
}

static unsigned take_info(spw_rx *rx, const frame *f) {
    spw_mu_info m;
    int fits;
    const unsigned reason = spw_mu_info_unpack(&m, f->data, f->size);
    if (reason) return reason;
    rx->info = m;
    fits = rx->config.any_model || m.model_id == rx->config.model_id;
    know(rx, INFO, fits, f->now_us);
    return fits ? SPW_OK : (unsigned)SPW_RX_MODEL;
}

static unsigned take_info2(spw_rx *rx, const frame *f) {
    spw_mu_info2 m;
    int fits;
    const unsigned reason = spw_mu_info2_unpack(&m, f->data, f->size, f->can_id);
    if (reason) return reason;
    fits = m.table_hash == SPW_TABLE_HASH;
    know(rx, INFO2, fits, f->now_us);
    return fits ? SPW_OK : (unsigned)SPW_RX_TABLE;
}

static unsigned take_arm(spw_rx *rx, const frame *f) {
    spw_exo_arm m;
    const unsigned reason = spw_exo_arm_unpack(&m, f->data, f->size, f->can_id);
    (void)rx;
    return reason ? reason : (unsigned)SPW_RX_TYPE;
}

/* What there is on the wires; an identifier or type of 0: not on that one. */
typedef struct message {
    uint16_t can_id;
    uint8_t type, slots, is_step;
    unsigned (*take)(spw_rx *rx, const frame *f);
} message;

static const message MESSAGES[] = {
    {SPW_MU_DRIVE_ID, 0, SPW_MU_DRIVE_SLOTS, 1, take_drive},
    {SPW_MU_STEP_FD_ID, SPW_MU_STEP_FD_TYPE, SPW_MU_STEP_FD_SLOTS, 1, take_full},
    {0, SPW_MU_SHORT_TYPE, SPW_MU_SHORT_SLOTS, 1, take_short},
    {SPW_MU_COUNTS_ID, 0, SPW_MU_COUNTS_SLOTS, 0, take_counts},
    {SPW_MU_VALID_ID, SPW_MU_VALID_TYPE, SPW_MU_VALID_SLOTS, 0, take_valid},
    {SPW_MU_STATUS_ID, SPW_MU_STATUS_TYPE, SPW_MU_STATUS_SLOTS, 0, take_status},
    {SPW_MU_INFO_ID, SPW_MU_INFO_TYPE, SPW_MU_INFO_SLOTS, 0, take_info},
    {SPW_MU_INFO2_ID, SPW_MU_INFO2_TYPE, SPW_MU_INFO2_SLOTS, 0, take_info2},
    {SPW_EXO_ARM_ID, SPW_EXO_ARM_TYPE, SPW_EXO_ARM_SLOTS, 0, take_arm},
};
#define N_MESSAGES (sizeof MESSAGES / sizeof MESSAGES[0])

/* Count what was rejected; before there is trust it breaks a row of good frames. */
static spw_rx_result reject(spw_rx *rx, unsigned reason) {
    rx->stats.rejected[reason]++;
    /* another slot says nothing of ours */
    if (!trusted(rx) && reason != SPW_RX_SLOT) rx->streak = 0;
    return SPW_RX_REJECTED;
}

static spw_rx_result accept(spw_rx *rx, const message *m, unsigned slot, const uint8_t *data,
                            size_t size, uint64_t now_us) {
    frame f = {0};
    unsigned reason;
    f.data = data;
    f.size = size;
    f.can_id = m->can_id + slot + rx->config.base - SPW_BASE;
    f.slot = slot;
    f.now_us = now_us;
    expire(rx, now_us);
    reason = m->take(rx, &f);
    if (reason) return reject(rx, reason);
    return m->is_step ? SPW_RX_STEP : SPW_RX_NOTICE;
}

spw_rx_config spw_rx_defaults(uint32_t model_id) {
    spw_rx_config config = {0};
    config.model_id = model_id;
    config.base = SPW_BASE;
    config.age_max_us = SPW_RX_AGE_MAX_US;
    return config;
}

void spw_rx_init(spw_rx *rx, const spw_rx_config *config) {
    static const spw_rx nothing = {0};
    size_t k;
    *rx = nothing;
    rx->config = *config;
    rx->step.age_us = rx->held.age_us = SPW_RX_NO_AGE;
    rx->step.drive = SPW_MU_DRIVE_DRIVE_INVALID;
    rx->step.activation = SPW_MU_DRIVE_ACTIVATION_INVALID;
    rx->step.state = rx->held.state = SPW_STATE_NA;
    for (k = 0; k < SPW_N_UNITS; k++) rx->counts[k] = SPW_MU_STEP_FD_COUNTS_INVALID;
}

spw_rx_result spw_rx_can(spw_rx *rx, uint32_t can_id, const uint8_t *data, size_t size,
                         uint64_t now_us) {
    const uint32_t usual = can_id - rx->config.base + SPW_BASE;
    size_t k;
    for (k = 0; k < N_MESSAGES; k++) {
        const message *m = &MESSAGES[k];
        if (m->can_id && usual - m->can_id < m->slots)
            return accept(rx, m, usual - m->can_id, data, size, now_us);
    }
    return SPW_RX_OTHER;
}

/* One frame off a line, type byte first. */
static spw_rx_result take_body(spw_rx *rx, const uint8_t *body, size_t size, uint64_t now_us) {
    size_t k;
    for (k = 0; k < N_MESSAGES; k++) {
        const message *m = &MESSAGES[k];
        if (m->type && (unsigned)body[0] - m->type < m->slots)
            return accept(rx, m, (unsigned)body[0] - m->type, body + 1, size - 1, now_us);
    }
    return reject(rx, SPW_RX_TYPE);
}

/* CRC-32 of zlib: "123456789" gives 0xCBF43926. */
static uint32_t crc32(const uint8_t *data, size_t size) {
    static const uint32_t nibble[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u,
        0x4DB26158u, 0x5005713Cu, 0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,
        0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};
    uint32_t crc = UINT32_MAX;
    size_t k;
    for (k = 0; k < size; k++) {
        crc ^= data[k];
        crc = crc >> 4 ^ nibble[crc & 15u];
        crc = crc >> 4 ^ nibble[crc & 15u];
    }
    return ~crc;
}

/* Undo COBS in place. Returns 1, or 0 if a code points past the end; the bytes are then of no use.
 * There is no zero in them, and fewer than 255. */
static int cobs_decode(uint8_t *data, size_t *size) {
    size_t from = 0, to = 0;
    while (from < *size) {
        const size_t end = from + data[from];
        if (end > *size) return 0;
        for (from++; from < end; from++) data[to++] = data[from];
        if (from < *size) data[to++] = 0;
    }
    *size = to;
    return 1;
}

/* End the frame that has begun. Returns whether a step was accepted. */
static int end_line(spw_rx *rx, uint64_t now_us) {
    const int skipped = rx->skipping;
    size_t size = rx->filled;
    rx->filled = rx->skipping = 0;
    if (skipped || size == 0) return 0; /* two zeros in a row are an idle line, not an error */
    if (!cobs_decode(rx->line, &size)) {
        rx->stats.bad_cobs++;
        return 0;
    }
    if (size < OVERHEAD || crc32(rx->line, size - 4) != spw_get32(rx->line + size - 4)) {
        rx->stats.bad_crc32++;
        return 0;
    }
    return take_body(rx, rx->line, size - 4, now_us) == SPW_RX_STEP;
}

unsigned spw_rx_bytes(spw_rx *rx, const uint8_t *data, size_t size, uint64_t now_us) {
    unsigned accepted = 0;
    size_t k;
    for (k = 0; k < size; k++) {
        if (data[k] == 0) {
            accepted += (unsigned)end_line(rx, now_us);
        } else if (rx->filled < SPW_RX_LINE_BYTES) {
            rx->line[rx->filled++] = data[k];
        } else if (!rx->skipping) {
            rx->skipping = 1; /* until the next zero */
            rx->stats.too_long++;
        }
    }
    return accepted;
}

int spw_rx_usable(const spw_rx *rx, uint64_t now_us) {
    int which;
    if (!rx->has_step || !trusted(rx) || rx->repeats >= SPW_RX_TRUST) return 0;
    for (which = INFO; which <= INFO2; which++)
        if (!rx->has_info[which] || since(now_us, rx->info_us[which]) > SPW_RX_INFO_US) return 0;
    return rx->step.state == SPW_STATE_ACTIVE && rx->step.drive != SPW_MU_DRIVE_DRIVE_INVALID &&
           rx->step.age_us != SPW_RX_NO_AGE && spw_rx_age_us(rx, now_us) <= rx->config.age_max_us;
}

uint32_t spw_rx_age_us(const spw_rx *rx, uint64_t now_us) {
    const uint64_t held = since(now_us, rx->received_us);
    uint64_t age;
    if (rx->step.age_us == SPW_RX_NO_AGE || held >= SPW_RX_NO_AGE) return SPW_RX_NO_AGE;
    age = (uint64_t)rx->step.age_us + rx->late_us + rx->config.wire_us + held;
    return age < SPW_RX_NO_AGE ? (uint32_t)age : SPW_RX_NO_AGE;
}

unsigned spw_rx_assist(spw_rx *rx, uint64_t now_us) {
    uint64_t silent;
    expire(rx, now_us);
    if (rx->latched || !rx->has_usable) return 0;
    silent = since(now_us, rx->usable_us);
    if (silent <= SPW_RX_HOLD_US) return 1000;
    return (unsigned)((SPW_RX_LATCH_US - silent) * 1000u / (SPW_RX_LATCH_US - SPW_RX_HOLD_US));
}

int spw_rx_rearm(spw_rx *rx, uint64_t now_us) {
    expire(rx, now_us);
    if (spw_rx_usable(rx, now_us)) {
        rx->latched = 0;
        /* What was lost before it counts no longer: else it would latch a second later. */
        rx->has_loss = 1;
        rx->loss_us = now_us;
        rx->came = rx->lost = 0;
    }
    return !rx->latched;
}

uint32_t spw_rx_arm_can(spw_rx *rx, uint8_t request, uint8_t data[SPW_EXO_ARM_SIZE]) {
    const uint32_t can_id = SPW_EXO_ARM_ID + rx->config.base - SPW_BASE;
    const uint32_t age = rx->config.age_max_us / (1000u / SPW_EXO_ARM_MAX_AGE_MS_PER_UNIT);
    spw_exo_arm m = {0};
    m.counter = rx->arms;
    m.request = request;
    m.model_id = rx->config.model_id;
    m.max_age_ms = (uint16_t)(age < SPW_EXO_ARM_MAX_AGE_MS_SATURATED
                                  ? age : SPW_EXO_ARM_MAX_AGE_MS_SATURATED);
    spw_exo_arm_pack(data, &m, can_id);
    rx->arms = (uint8_t)((rx->arms + 1) % SPW_EXO_ARM_COUNTER_MODULUS);
    return can_id;
}

size_t spw_rx_arm_bytes(spw_rx *rx, uint8_t request, uint8_t line[SPW_RX_ARM_BYTES]) {
    uint8_t body[1 + SPW_EXO_ARM_SIZE + 4];
    size_t k, code = 0; /* where the code of the block that has begun stands */
    body[0] = SPW_EXO_ARM_TYPE;
    spw_rx_arm_can(rx, request, body + 1);
    spw_put32(body + 1 + SPW_EXO_ARM_SIZE, crc32(body, 1 + SPW_EXO_ARM_SIZE));
    for (k = 0; k < sizeof body; k++) {
        line[k + 1] = body[k];
        if (body[k] == 0) {
            line[code] = (uint8_t)(k + 1 - code);
            code = k + 1;
        }
    }
    line[code] = (uint8_t)(sizeof body + 1 - code);
    line[sizeof body + 1] = 0;
    return SPW_RX_ARM_BYTES;
}
