/* Fuzz target: any bytes as a serial line and as CAN frames. libFuzzer finds its entry here; built
 * with SPW_FUZZ_MAIN the program damages frames by itself, checks that every one that is accepted
 * is one that was sent, and says how long a frame takes:
 *
 *   gcc -std=c99 -O2 -DSPW_FUZZ_MAIN fuzz_rx.c spikewire_rx.c -o fuzz_rx && ./fuzz_rx 100000000
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "spikewire_rx.h"

#define MODEL 0xDEADBEEFu
#define PERIOD_US 9766u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "wrong: %s\n", what);
    abort();
}

/* What must hold of a receiver whatever it was given. */
static void inspect(spw_rx *rx, uint64_t now_us) {
    const unsigned assist = spw_rx_assist(rx, now_us);
    insist(assist <= 1000, "assist is a share");
    insist(!rx->latched || assist == 0, "no assist while latched");
    insist(!assist || now_us - rx->usable_us < SPW_RX_LATCH_US, "no assist after a silence");
    insist(!spw_rx_usable(rx, now_us) || spw_rx_age_us(rx, now_us) <= rx->config.age_max_us,
           "nothing old is usable");
    insist(rx->filled <= SPW_RX_LINE_BYTES, "the line fits");
}

/* The first byte of each stretch says its length and where it goes, the second how long after. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    spw_rx rx;
    spw_rx_config config = spw_rx_defaults(MODEL);
    uint64_t now_us = 0;
    config.any_model = 1;
    spw_rx_init(&rx, &config);
    while (size > 4) {
        const size_t wanted = data[0] & 127u, n = wanted < size - 4 ? wanted : size - 4;
        const uint32_t can_id = SPW_BASE + (data[2] & 63u);
        now_us += (uint64_t)data[1] * (data[3] & 1 ? 1000u : 100u);
        if (data[0] & 128u)
            spw_rx_can(&rx, data[3] & 2 ? can_id : spw_get16(data + 2), data + 4, n, now_us);
        else
            spw_rx_bytes(&rx, data + 4, n, now_us);
        inspect(&rx, now_us);
        if (data[3] & 4) spw_rx_rearm(&rx, now_us);
        data += 4 + n;
        size -= 4 + n;
    }
    return 0;
}

#if defined(SPW_FUZZ_MAIN)

enum { BATCH = 1024 };

static uint32_t seed = 1;

static uint32_t dice(void) {
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

static uint32_t below(uint32_t n) { return dice() % n; }

/* Everything in a step follows from its number, so that a receiver's answer can be checked. */
static uint32_t mixed(uint32_t step, uint32_t what) {
    uint32_t x = step * 2654435761u ^ what * 2246822519u;
    x ^= x >> 15;
    return x * 3266489917u >> 8;
}

static void make_step(uint8_t payload[SPW_MU_STEP_FD_SIZE], uint32_t step) {
    spw_mu_step_fd m;
    unsigned k;
    memset(&m, 0, sizeof m);
    m.counter = (uint8_t)(step & 255u);
    m.state = SPW_STATE_ACTIVE;
    m.proto = SPW_PROTO;
    m.step = step;
    m.sample_time_us = step * PERIOD_US;
    m.age_ms = (uint16_t)(mixed(step, 1) % 3000u);
    for (k = 0; k < SPW_N_DRIVES; k++) m.drive[k] = (uint16_t)(mixed(step, 2 + k) & 0xFFFFu);
    m.n_mu = SPW_N_UNITS;
    m.model_id16 = (uint16_t)(MODEL & 0xFFFFu);
    for (k = 0; k < SPW_N_UNITS; k++) m.counts[k] = (uint8_t)(mixed(step, 10 + k) & 15u);
    spw_mu_step_fd_pack(payload, &m, SPW_MU_STEP_FD_ID);
}

static void check_step(const spw_rx *rx) {
    const uint32_t step = rx->step.step;
    unsigned k;
    insist(rx->step.counter == (step & 255u), "counter of an accepted step");
    insist(rx->step.drive == (mixed(step, 2) & 0xFFFFu), "drive of an accepted step");
    insist(rx->step.age_us == mixed(step, 1) % 3000u * 10u, "age of an accepted step");
    for (k = 0; k < SPW_N_UNITS; k++)
        insist(rx->counts[k] == (mixed(step, 10 + k) & 15u), "counts of an accepted step");
}

/* COBS and CRC-32 once more, from their definitions. Returns the bytes of the frame. */
static size_t make_line(uint8_t *line, uint8_t type, const uint8_t *payload, size_t size) {
    uint8_t body[1 + SPW_MAX_SIZE + 4];
    uint32_t crc = UINT32_MAX;
    size_t k, bit, code = 0, at = 1;
    body[0] = type;
    memcpy(body + 1, payload, size);
    for (k = 0; k < size + 1; k++) {
        crc ^= body[k];
        for (bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1u ? 0xEDB88320u : 0u);
    }
    spw_put32(body + size + 1, ~crc);
    for (k = 0; k < size + 5; k++) {
        if (body[k]) {
            line[at++] = body[k];
        } else {
            line[code] = (uint8_t)(at - code);
            code = at++;
        }
    }
    line[code] = (uint8_t)(at - code);
    line[at++] = 0;
    return at;
}

/* Damage a frame, in one of the ways that lines have. Returns its new length. */
static size_t damage(uint8_t *line, size_t size) {
    const size_t at = below((uint32_t)size);
    switch (below(6)) {
    case 0: line[at] = (uint8_t)(line[at] ^ 1u << below(8)); return size;
    case 1: line[at] = (uint8_t)(dice() & 255u); return size;
    case 2: memmove(line + at, line + at + 1, size - at - 1); return size - 1;
    case 3: line[size - 1] = 0x55; return size; /* its end is lost */
    case 4: return at;
    default: return 0;
    }
}

static size_t make_infos(uint8_t *line) {
    const spw_mu_info info = {SPW_PROTO, SPW_N_UNITS, PERIOD_US, MODEL};
    const spw_mu_info2 info2 = {0, SPW_TABLE_HASH};
    uint8_t payload[SPW_MU_INFO_SIZE];
    size_t at;
    spw_mu_info_pack(payload, &info);
    at = make_line(line, SPW_MU_INFO_TYPE, payload, sizeof payload);
    spw_mu_info2_pack(payload, &info2, SPW_MU_INFO2_ID);
    return at + make_line(line + at, SPW_MU_INFO2_TYPE, payload, sizeof payload);
}

/* A batch of steps as bytes on a line that is bad, passable or good, with chatter now and then.
 * `ends` says where each step ends, `whole` counts those that must be found: undamaged, and after a
 * zero. */
static size_t make_batch(uint8_t *out, size_t ends[BATCH], uint32_t first, uint32_t *whole) {
    static const uint32_t ONE_IN[] = {3, 30, 300};
    const uint32_t one_in = ONE_IN[below(3)];
    uint8_t payload[SPW_MU_STEP_FD_SIZE];
    size_t at = 0, size;
    uint32_t k, n;
    *whole = 0;
    for (k = 0; k < BATCH; k++) {
        if (k % 64 == 0) at += make_infos(out + at);
        if (below(8 * one_in) == 0)
            for (n = below(300); n > 0; n--) out[at++] = (uint8_t)(dice() & 255u);
        make_step(payload, first + k);
        size = make_line(out + at, SPW_MU_STEP_FD_TYPE, payload, sizeof payload);
        if (below(one_in) == 0)
            size = damage(out + at, size);
        else if (out[at - 1] == 0)
            ++*whole;
        at += size;
        ends[k] = at;
    }
    out[at++] = 0;
    return at;
}

/* The line in pieces, as a port hands them over; every accepted step must be one that was sent. */
static void feed(spw_rx *rx, const uint8_t *line, size_t size, const size_t ends[BATCH],
                 uint64_t begin_us) {
    uint32_t accepted = rx->stats.accepted, step = 0;
    uint64_t now_us;
    size_t at = 0, n;
    for (; at < size; at += n) {
        n = 1 + below(90);
        if (n > size - at) n = size - at;
        while (step < BATCH && ends[step] < at + n) step++;
        now_us = begin_us + (uint64_t)step * PERIOD_US;
        spw_rx_bytes(rx, line + at, n, now_us);
        inspect(rx, now_us);
        if (rx->stats.accepted != accepted) check_step(rx);
        accepted = rx->stats.accepted;
        if (rx->latched) spw_rx_rearm(rx, now_us);
    }
}

/* CAN frames with one or two bits wrong, all of which the CRC-8 must find. */
static void feed_can(spw_rx *rx, uint32_t step, uint64_t now_us) {
    const spw_mu_drive m = {(uint8_t)(step % 15u), SPW_STATE_ACTIVE, (uint16_t)(step & 0xFFFFu),
                            (uint16_t)(mixed(step, 2) & 0xFFFFu), 100, 9};
    uint8_t data[SPW_MU_DRIVE_SIZE];
    uint32_t bit = below(64), other = below(64);
    spw_mu_drive_pack(data, &m, SPW_MU_DRIVE_ID);
    data[bit / 8] = (uint8_t)(data[bit / 8] ^ 1u << bit % 8);
    if (other != bit) data[other / 8] = (uint8_t)(data[other / 8] ^ 1u << other % 8);
    insist(spw_rx_can(rx, SPW_MU_DRIVE_ID, data, sizeof data, now_us) == SPW_RX_REJECTED,
           "a damaged drive is rejected");
    inspect(rx, now_us);
}

/* Steps that got through the framing. */
static uint32_t through(const spw_rx *rx) {
    return rx->stats.accepted + rx->stats.rejected[SPW_RX_JUMP] +
           rx->stats.rejected[SPW_RX_REPEATED];
}

int main(int count, char **word) {
    static uint8_t line[BATCH * 400];
    static size_t ends[BATCH];
    const unsigned long wanted = count > 1 ? strtoul(word[1], NULL, 10) : 0;
    const spw_rx_config config = spw_rx_defaults(MODEL);
    spw_rx pieces, at_once, can;
    uint64_t now_us = 0;
    unsigned long sent = 0, sure = 0;
    uint32_t whole, before, came, k;
    size_t size;
    clock_t began, spent = 0;
    if (wanted == 0) return fprintf(stderr, "fuzz_rx FRAMES [SEED]\n"), 2;
    if (count > 2) seed = (uint32_t)strtoul(word[2], NULL, 10) * 2 + 1;
    spw_rx_init(&pieces, &config);
    spw_rx_init(&at_once, &config);
    spw_rx_init(&can, &config);
    for (; sent < wanted; sent += BATCH, sure += whole) {
        size = make_batch(line, ends, (uint32_t)(sent & UINT32_MAX), &whole);
        before = through(&pieces);
        feed(&pieces, line, size, ends, now_us);
        now_us += (uint64_t)BATCH * PERIOD_US;
        came = through(&pieces) - before;
        insist(came >= whole && came <= BATCH, "every whole frame after a zero is found");
        began = clock();
        spw_rx_bytes(&at_once, line, size, now_us);
        spent += clock() - began;
        insist(through(&at_once) == through(&pieces) &&
                   at_once.stats.bad_crc32 == pieces.stats.bad_crc32 &&
                   at_once.stats.bad_cobs == pieces.stats.bad_cobs &&
                   at_once.stats.too_long == pieces.stats.too_long,
               "it does not matter in which pieces bytes come");
        for (k = 0; k < BATCH / 8; k++) feed_can(&can, k, now_us);
        LLVMFuzzerTestOneInput(line, size);
        for (k = 0; k < 4096; k++) line[k] = (uint8_t)(dice() & 255u);
        LLVMFuzzerTestOneInput(line, 4096);
    }
    printf("%lu frames, %lu whole, %lu accepted, %lu usable, %.0f ns each: none wrong\n", sent,
           sure, (unsigned long)pieces.stats.accepted, (unsigned long)pieces.stats.usable,
           1e9 * (double)spent / CLOCKS_PER_SEC / (double)sent);
    return 0;
}
#endif
