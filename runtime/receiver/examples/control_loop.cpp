// A torque loop at 1 kHz on Linux that listens to the decoder, over a serial port or a CAN bus.
//
//   gcc -std=c99 -O2 -c -I.. ../spikewire_rx.c
//   g++ -std=c++17 -O2 -I.. control_loop.cpp spikewire_rx.o -o control_loop
//   ./control_loop serial:/dev/ttyUSB0 ARM_ID          (or can:can0; ARM_ID as mu-run prints it)
//
// Ten times a second it prints what it would do. `drive_motor` is the place for a real drive, which
// needs torque limits and an emergency stop of its own: this is research software.
// Typing r and Enter asks for assistance again after it has ended; Ctrl-C ends with torque 0.
#include <fcntl.h>
#include <linux/can.h>
#include <linux/can/raw.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>

#include "spikewire_rx.h"

namespace {

constexpr uint64_t PERIOD_US = 1000;    // of the loop
constexpr uint64_t ARM_US = 50'000;     // the decoder wants at least ten requests a second
constexpr uint64_t ASK_US = 10'000'000; // so long what a person asked for may come true
constexpr uint64_t SAY_US = 100'000;
constexpr double NM_PER_PULSE = 0.02;   // gain: torque for a drive of one pulse/s
constexpr double MAX_NM = 5.0;
constexpr double MAX_NM_PER_S = 20.0;   // also the ramp with which assistance comes back
constexpr speed_t BAUD = B921600;

volatile std::sig_atomic_t stopped = 0;

uint64_t monotonic_us() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000u + static_cast<uint64_t>(t.tv_nsec) / 1000u;
}

void sleep_until(uint64_t when_us) {
    timespec t{};
    t.tv_sec = static_cast<time_t>(when_us / 1'000'000u);
    t.tv_nsec = static_cast<long>(when_us % 1'000'000u * 1000u);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr);
}

[[noreturn]] void refuse(const std::string &what) {
    std::fprintf(stderr, "control_loop: %s: %s\n", what.c_str(), std::strerror(errno));
    std::exit(2);
}

// A wire to the decoder; nothing in it blocks.
struct Wire {
    virtual ~Wire() = default;
    virtual void receive(spw_rx &rx, uint64_t now_us) = 0;
    virtual void request(spw_rx &rx, uint8_t what) = 0;
};

class Serial : public Wire {
  public:
    explicit Serial(const std::string &path)
        : fd_(open(path.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK)) {
        termios line{};
        if (fd_ < 0 || tcgetattr(fd_, &line)) refuse(path);
        cfmakeraw(&line);
        cfsetspeed(&line, BAUD);
        line.c_cflag |= CLOCAL | CREAD;
        if (tcsetattr(fd_, TCSANOW, &line)) refuse(path);
    }
    ~Serial() override { close(fd_); }

    void receive(spw_rx &rx, uint64_t now_us) override {
        uint8_t bytes[512];
        for (ssize_t n; (n = read(fd_, bytes, sizeof bytes)) > 0;)
            spw_rx_bytes(&rx, bytes, static_cast<size_t>(n), now_us);
    }

    void request(spw_rx &rx, uint8_t what) override {
        uint8_t bytes[SPW_RX_ARM_BYTES];
        const size_t n = spw_rx_arm_bytes(&rx, what, bytes);
        // What does not fit is lost; the next request comes soon.
        if (write(fd_, bytes, n) < 0) return;
    }

  private:
    int fd_;
};

class Can : public Wire {
  public:
    explicit Can(const std::string &name) : fd_(socket(PF_CAN, SOCK_RAW | SOCK_NONBLOCK, CAN_RAW)) {
        const int on = 1;
        sockaddr_can address{};
        address.can_family = AF_CAN;
        address.can_ifindex = static_cast<int>(if_nametoindex(name.c_str()));
        if (fd_ < 0 || address.can_ifindex == 0) refuse(name);
        setsockopt(fd_, SOL_CAN_RAW, CAN_RAW_FD_FRAMES, &on, sizeof on);
        if (bind(fd_, reinterpret_cast<sockaddr *>(&address), sizeof address)) refuse(name);
    }
    ~Can() override { close(fd_); }

    void receive(spw_rx &rx, uint64_t now_us) override {
        canfd_frame frame{};
        for (ssize_t n; (n = read(fd_, &frame, sizeof frame)) > 0;) {
            const bool whole = n == CAN_MTU || n == CANFD_MTU;
            if (whole && !(frame.can_id & (CAN_EFF_FLAG | CAN_RTR_FLAG | CAN_ERR_FLAG)))
                spw_rx_can(&rx, frame.can_id, frame.data, frame.len, now_us);
        }
    }

    void request(spw_rx &rx, uint8_t what) override {
        can_frame frame{};
        frame.can_id = spw_rx_arm_can(&rx, what, frame.data);
        frame.can_dlc = SPW_EXO_ARM_SIZE;
        if (write(fd_, &frame, sizeof frame) < 0) return; // as above
    }

  private:
    int fd_;
};

std::unique_ptr<Wire> open_wire(const std::string &uri) {
    if (uri.rfind("serial:", 0) == 0) return std::make_unique<Serial>(uri.substr(7));
    if (uri.rfind("can:", 0) == 0) return std::make_unique<Can>(uri.substr(4));
    errno = EINVAL;
    refuse(uri + " came, serial:PORT or can:NAME is allowed");
}

// A person typed r.
bool asked_again() {
    char typed[64];
    pollfd in{STDIN_FILENO, POLLIN, 0};
    if (poll(&in, 1, 0) < 1 || !(in.revents & POLLIN)) return false;
    const ssize_t n = read(STDIN_FILENO, typed, sizeof typed);
    return n > 0 && std::find(typed, typed + n, 'r') != typed + n;
}

// Newton metres from what the decoder says: gain, limit, and a slope upwards.
double next_torque(double torque, const spw_rx &rx, unsigned assist) {
    const double pulses = rx.held.drive / static_cast<double>(SPW_MU_DRIVE_DRIVE_PER_UNIT);
    const double wanted = std::min(NM_PER_PULSE * pulses, MAX_NM) * assist / 1000.0;
    const double step = MAX_NM_PER_S * PERIOD_US * 1e-6;
    return std::min(wanted, torque + step); // down it goes as fast as it must
}

void drive_motor(double torque_nm) { (void)torque_nm; }

} // namespace

int main(int count, char **word) {
    if (count != 3) return std::fprintf(stderr, "control_loop serial:PORT|can:NAME ARM_ID\n"), 2;
    const auto wire = open_wire(word[1]);
    const spw_rx_config config =
        spw_rx_defaults(static_cast<uint32_t>(std::strtoul(word[2], nullptr, 16)));
    spw_rx rx;
    spw_rx_init(&rx, &config);
    std::signal(SIGINT, [](int) { stopped = 1; });
    std::signal(SIGTERM, [](int) { stopped = 1; });

    // Whoever starts the program asks for assistance. When it has ended, the decoder is disarmed,
    // and both stay so until a person asks again.
    enum { OFF, ASKING, ON } mode = ASKING;
    static const char *const NAMES[] = {"off", "asking", "on"};
    double torque = 0;
    unsigned long late = 0;
    uint64_t due = monotonic_us(), asked = due, arm_due = due, say_due = due;
    for (; !stopped; due += PERIOD_US) {
        sleep_until(due);
        const uint64_t now = monotonic_us();
        if (now > due + PERIOD_US) late++, due = now;
        wire->receive(rx, now);
        if (asked_again() && mode == OFF) {
            mode = ASKING;
            asked = now;
            wire->request(rx, SPW_REQUEST_CLEAR);
        }
        if (mode == ASKING && now - asked > ASK_US) mode = OFF;
        if (mode == ASKING && spw_rx_usable(&rx, now) && spw_rx_rearm(&rx, now)) mode = ON;
        const unsigned allowed = spw_rx_assist(&rx, now);
        if (mode == ON && rx.latched) mode = OFF;
        const unsigned assist = mode == ON ? allowed : 0;
        torque = next_torque(torque, rx, assist);
        drive_motor(torque);
        if (now >= arm_due) {
            arm_due = now + ARM_US;
            wire->request(rx, mode == OFF ? SPW_REQUEST_DISARM : SPW_REQUEST_ARM);
        }
        if (now >= say_due) {
            say_due = now + SAY_US;
            std::printf("%s: state %u assist %u torque %.3f Nm, %lu frames, %lu late turns\n",
                        NAMES[mode], rx.step.state, assist, torque,
                        static_cast<unsigned long>(rx.stats.accepted), late);
            std::fflush(stdout);
        }
    }
    drive_motor(0);
    wire->request(rx, SPW_REQUEST_DISARM);
    std::printf("ended: torque 0\n");
    return 0;
}
