// A Teensy (or another 32-bit Arduino board with a second serial port) that turns the decoder's
// drive into a torque factor, 0..1, on a PWM pin.
//
// Put spikewire_link.h, spikewire_rx.h and spikewire_rx.c beside this file. Wires: the decoder's
// board at Serial1 (3.3 V), a switch that closes to ground at pin 2 (enable), a button to ground at
// pin 3 (ask), the motor drive's torque input at pin 5. Assistance begins when the button is
// pressed while the switch is closed, ends when it opens or the receiver says so, and comes back
// only when the button is pressed again.
//
// Research software: the motor drive needs torque limits and an emergency stop of its own.
#include "spikewire_rx.h"

const uint32_t ARM_ID = 0x1234ABCD;   // as mu-run and mu-export print it
const uint32_t BAUD = 921600;         // 115200 for profile=short
const uint32_t FULL_DRIVE = 1000;     // 0.1 pulse/s: the drive that gives factor 1
const uint32_t UP_MS = 300;           // from 0 to 1 takes at least so long
const int ENABLE = 2, ASK = 3, TORQUE = 5;
const uint32_t ARM_US = 50000;        // the decoder wants at least ten requests a second
const uint32_t ASK_US = 5000000;      // so long what the button asked for may come true

spw_rx rx;
uint32_t factor;                      // thousandths
enum { OFF, ASKING, ON } mode = OFF;

// Time since the start in 64 bits; to be called at least once in 71 minutes.
uint64_t now_us() {
    static uint32_t last, turns;
    const uint32_t now = micros();
    if (now < last) turns++;
    last = now;
    return (uint64_t)turns << 32 | now;
}

void request(uint8_t what) {
    uint8_t line[SPW_RX_ARM_BYTES];
    const size_t n = spw_rx_arm_bytes(&rx, what, line);
    if (Serial1.availableForWrite() >= (int)n) Serial1.write(line, n);
}

// Off, until a person asks, and again when the receiver has ended assistance.
void choose(uint64_t now) {
    static uint64_t asked;
    const bool enabled = digitalRead(ENABLE) == LOW;
    spw_rx_assist(&rx, now);          // notices a silence
    if (!enabled || (mode == ON && rx.latched)) mode = OFF;
    if (mode == OFF && enabled && digitalRead(ASK) == LOW) {
        mode = ASKING;
        asked = now;
        request(SPW_REQUEST_CLEAR);
    }
    if (mode == ASKING && now - asked > ASK_US) mode = OFF;
    if (mode == ASKING && spw_rx_usable(&rx, now) && spw_rx_rearm(&rx, now)) mode = ON;
}

// Thousandths of full torque: what the drive asks for, times what the receiver allows; up slowly,
// down at once.
void follow(uint64_t now) {
    static uint64_t turn;
    const uint32_t assist = mode == ON ? spw_rx_assist(&rx, now) : 0;
    const uint32_t drive = rx.held.drive < FULL_DRIVE ? rx.held.drive : FULL_DRIVE;
    const uint32_t goal = drive * assist / FULL_DRIVE;
    if (goal <= factor) {
        factor = goal;
        turn = now;
    }
    for (; factor < goal && now - turn >= UP_MS; turn += UP_MS) factor++; // UP_MS us for each
    analogWrite(TORQUE, (int)(factor * 255 / 1000));
}

void setup() {
    const spw_rx_config config = spw_rx_defaults(ARM_ID);
    spw_rx_init(&rx, &config);
    pinMode(ENABLE, INPUT_PULLUP);
    pinMode(ASK, INPUT_PULLUP);
    pinMode(TORQUE, OUTPUT);
    analogWrite(TORQUE, 0);
    Serial1.begin(BAUD);
#if defined(TEENSYDUINO)
    static uint8_t room[512];         // a full frame is 71 bytes, the usual buffer 64
    Serial1.addMemoryForRead(room, sizeof room);
#endif
}

void loop() {
    static uint64_t armed;
    const uint64_t now = now_us();
    while (Serial1.available() > 0) {
        const uint8_t came = (uint8_t)Serial1.read();
        spw_rx_bytes(&rx, &came, 1, now);
    }
    choose(now);
    follow(now);
    if (now - armed >= ARM_US) {
        armed = now;
        request(mode == OFF ? SPW_REQUEST_DISARM : SPW_REQUEST_ARM);
    }
}
