"""The examples for controllers: compiled, and run against a decoder that this file plays.

Truth: what is sent here, and the receiver rules (nothing before a person asks, full at 30 ms of
silence, nothing from 100 ms on until a person asks again).
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from spikewire.link.codec import Step
from spikewire.link.profile import Framer, Info
from spikewire.link.receiver import ACTIVE
from spikewire.link.transport import ArmReader, on_serial

uart = pytest.importorskip("spikewire.link.uart", reason="needs pyserial")
FOLDER = Path(__file__).parents[1] / "runtime/receiver"
EXAMPLES = FOLDER / "examples"
MODEL = 0x1234ABCD  # as in the sketch
PERIOD_US = 9766
# after a silence the receiver judges the loss once more, a second of good frames later
LOSS_SPAN_S = 1.3
DISARM, ARM, CLEAR = 0, 1, 2
READY = 2
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
pytestmark = pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("g++")),
                                reason="needs gcc and g++")


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The receiver, compiled as C."""
    made = tmp_path_factory.mktemp("rx") / "rx.o"
    subprocess.run(["gcc", "-std=c99", *WARNINGS, "-O2", "-c", str(FOLDER / "spikewire_rx.c"),
                    "-o", str(made)], check=True)
    return made


def build(source: Path, receiver: Path, out: Path) -> Path:
    """Compile a C++ program with the receiver."""
    subprocess.run(["g++", "-std=c++17", *WARNINGS, "-O2", f"-I{FOLDER}", "-x", "c++", str(source),
                    "-x", "none", str(receiver), "-o", str(out)], check=True)
    return out


# ---- the loop on Linux

FULL = "assist 1000 torque 2.000 Nm"  # 100 pulse/s times the gain of the example


@pytest.fixture(scope="module")
def program(receiver: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(EXAMPLES / "control_loop.cpp", receiver, tmp_path_factory.mktemp("loop") / "loop")


class Decoder:
    """The decoder's end of a pseudo-terminal: ACTIVE as long as the controller asks for it."""

    def __init__(self, port: uart.PtyPort) -> None:
        self.silent = False
        self.requests: list[int] = []
        self._port, self._reader = port, ArmReader()
        self._framer = Framer("full", Info(MODEL, (3,)))
        self._ended = False
        self._armed = 0.0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        """Send a step whenever one is due."""
        number = 0
        while not self._ended:
            now = time.monotonic()
            for arm in self._reader.feed(self._port.read()):
                self.requests.append(arm.request)
                if arm.model_id == MODEL:
                    self._armed = now if arm.request == ARM else 0.0
            state = ACTIVE if now - self._armed < 0.3 else READY
            step = Step(state=state, step=number, age_ms=2.0, drive=(100.0,) * 4, n_mu=3,
                        activation=(10.0,) * 4, model_id16=MODEL & 0xFFFF,
                        sample_time_us=round(now * 1e6 - 2000) % (1 << 32))
            frames = on_serial(self._framer.frames([step]))
            if not self.silent:
                self._port.write(frames)
            number += 1
            time.sleep(PERIOD_US * 1e-6)

    def close(self) -> None:
        """End it."""
        self._ended = True
        self._thread.join(5.0)


class Loop:
    """The program, its output line by line."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        """Keep every line."""
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def ask(self) -> None:
        """Type r, and again if a machine that is slow at the moment lets it go in vain."""
        for _ in range(6):
            self.process.stdin.write("r\n")
            self.process.stdin.flush()
            if self.says("on: ", FULL, 3.0):
                return
        raise AssertionError(f"never on; said: {self.lines[-5:]}")

    def says(self, begin: str, part: str, within_s: float) -> bool:
        """Whether there is a new line of this kind."""
        begun, until = len(self.lines), time.monotonic() + within_s
        while time.monotonic() < until:
            if any(line.startswith(begin) and part in line for line in self.lines[begun:]):
                return True
            time.sleep(0.01)
        return False

    def close(self) -> None:
        """End it, however."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._thread.join(5.0)
        self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def talking(program: Path, folder: Path) -> Iterator[tuple[Decoder, Loop]]:
    """Both ends of a line."""
    port = uart.PtyPort(str(folder / "exo"))
    decoder = Decoder(port)
    loop = Loop([str(program), f"serial:{folder / 'exo'}", f"{MODEL:x}"])
    try:
        yield decoder, loop
    finally:
        loop.close()
        decoder.close()
        port.close()


def test_the_loop_assists_ends_in_silence_and_begins_again_only_when_asked(
    program: Path, tmp_path: Path
) -> None:
    with talking(program, tmp_path) as (decoder, loop):
        loop.ask()  # as the start of the program does
        decoder.silent = True
        assert loop.says("off: ", "assist 0 torque 0.000", 5.0)
        heard = len(decoder.requests)
        decoder.silent = False
        begun = len(loop.lines)
        time.sleep(LOSS_SPAN_S)
        assert len(loop.lines) > begun
        assert all(line.startswith("off: ") for line in loop.lines[begun:])
        assert set(decoder.requests[heard + 1 :]) == {DISARM}
        loop.ask()
        assert CLEAR in decoder.requests[heard:]
        loop.process.send_signal(signal.SIGINT)
        assert loop.process.wait(5.0) == 0
        until = time.monotonic() + 5.0
        while decoder.requests[-1] != DISARM and time.monotonic() < until:
            time.sleep(0.01)
        assert decoder.requests[-1] == DISARM
    assert loop.lines[-1] == "ended: torque 0"


@pytest.mark.parametrize(("argument", "said"), [
    ("tcp:x", "tcp:x came, serial:PORT or can:NAME is allowed"),
    ("serial:/nowhere", "/nowhere: No such file or directory"),
    ("can:nocan9", "nocan9"),
])  # fmt: skip
def test_the_loop_says_what_it_cannot_open(program: Path, argument: str, said: str) -> None:
    done = subprocess.run([str(program), argument, "1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr


# ---- the sketch, on a board of which there is only what it uses

BOARD = r"""
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
enum { LOW, HIGH, INPUT_PULLUP, OUTPUT };
static uint32_t board_us, told_us;
static int pins[8], pwm;
static uint32_t micros() { return board_us; }
static int digitalRead(int pin) { return pins[pin]; }
static void pinMode(int, int) {}
static void analogWrite(int, int value) { pwm = value; }
struct Port {
    std::deque<uint8_t> in;
    void begin(uint32_t) {}
    int available() { return (int)in.size(); }
    int read() { const int first = in.front(); in.pop_front(); return first; }
    int availableForWrite() { return 64; }
    void write(const uint8_t *data, size_t size) {
        std::printf("%u request ", told_us);
        while (size--) std::printf("%02x", *data++);
        std::puts("");
    }
};
static Port Serial1;
#include "SKETCH"
// Lines of standard input: time, then what a pin or the line does. A turn every 0.2 ms.
int main(int, char **word) {
    char what[16], hex[4096];
    unsigned at = 0;
    int pin, level, last = -1;
    const uint32_t start = (uint32_t)std::strtoul(word[1], nullptr, 10);
    for (int k = 0; k < 8; k++) pins[k] = HIGH;
    board_us = start;
    setup();
    while (std::scanf("%u %15s", &at, what) == 2) {
        for (; told_us < at; told_us += 200) {
            board_us = start + told_us;
            loop();
            if (pwm != last) std::printf("%u pwm %d\n", told_us, last = pwm);
        }
        if (what[0] == 'p' && std::scanf("%d %d", &pin, &level) == 2) pins[pin] = level;
        if (what[0] == 'l' && std::scanf("%4095s", hex) == 1)
            for (char *c = hex; *c; c += 2) {
                const char pair[3] = {c[0], c[1], 0};
                Serial1.in.push_back((uint8_t)std::strtoul(pair, nullptr, 16));
            }
    }
    return 0;
}
"""
ENABLE, ASK = 2, 3


def events() -> list[tuple[int, str]]:
    """A decoder that is ACTIVE from 0 to 1 s and from 1.5 to 4 s, and a person."""
    framer, found = Framer("full", Info(MODEL, (3,))), []
    for number in range(409):
        at = number * PERIOD_US
        step = Step(state=ACTIVE, step=number, age_ms=2.0, drive=(50.0,) * 4,
                    model_id16=MODEL & 0xFFFF, sample_time_us=at + 5_000_000)
        line = on_serial(framer.frames([step]))
        if not 1_000_000 <= at < 1_500_000:
            found.append((at, f"line {line.hex()}"))
    press = [(100_000, ASK, 0), (110_000, ASK, 1), (200_000, ENABLE, 0), (300_000, ASK, 0),
             (310_000, ASK, 1), (3_000_000, ASK, 0), (3_010_000, ASK, 1), (3_600_000, ENABLE, 1)]
    found += [(at, f"pin {pin} {level}") for at, pin, level in press]
    return sorted([*found, (4_000_000, "end")])


@pytest.mark.parametrize("start", [0, (1 << 32) - 900_000])  # micros() wraps
def test_the_sketch_assists_only_after_the_button(
    receiver: Path, tmp_path: Path, start: int
) -> None:
    """Switch at 0.2 s, button at 0.3 s and 3 s, silence from 1 to 1.5 s, switch off at 3.6 s."""
    source = tmp_path / "board.cpp"
    source.write_text(BOARD.replace("SKETCH", str(EXAMPLES / "teensy.ino")))
    program = build(source, receiver, tmp_path / "board")
    script = "\n".join(f"{at} {what}" for at, what in events())
    done = subprocess.run([str(program), str(start)], input=script, capture_output=True, text=True,
                          check=True)
    pwm = [(int(at), int(v)) for at, v in re.findall(r"(\d+) pwm (\d+)", done.stdout)]

    def at(us: int) -> int:
        return [value for when, value in pwm if when <= us][-1]

    half = 500 * 255 // 1000  # 50 pulse/s of the 100 that are full torque
    assert at(299_000) == 0
    assert 0 < at(360_000) < half  # on its way up
    assert at(470_000) == at(1_000_000) == half
    last = max(n * PERIOD_US for n in range(103) if n * PERIOD_US < 1_000_000)
    assert at(last + 29_000) == half
    assert 0 < at(last + 65_000) < half
    assert at(last + 100_400) == at(2_999_000) == 0
    assert at(3_170_000) == at(3_599_000) == half
    assert at(3_600_400) == 0
    assert max(value for _, value in pwm) == half
    requests = [(int(t), ArmReader().feed(bytes.fromhex(data))[0].request)
                for t, data in re.findall(r"(\d+) request ([0-9a-f]+)", done.stdout)]
    assert {r for t, r in requests if t < 300_000} == {DISARM}
    assert {r for t, r in requests if 320_000 < t < 1_050_000} == {ARM}
    assert {r for t, r in requests if 1_120_000 < t < 3_000_000} == {DISARM}
    assert [r for _, r in requests].count(CLEAR) == 2
    assert requests[-1][1] == DISARM
    assert max(np.diff([t for t, _ in requests])) <= 60_000


# ---- the page


def test_the_pages_python_runs(tmp_path: Path) -> None:
    page = (FOLDER.parents[1] / "docs/link/controllers.md").read_text()
    assert max(map(len, page.splitlines())) <= 140
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parents[1], check=True,
                          capture_output=True, text=True)
    assert done.stdout.split() == re.findall(r"# (ACTIVE .*)", code)[0].split()


def test_the_pages_c_compiles(receiver: Path, tmp_path: Path) -> None:
    page = (FOLDER.parents[1] / "docs/link/controllers.md").read_text()
    (code,) = re.findall(r"```c\n(.*?)```", page, re.DOTALL)
    (tmp_path / "page.c").write_text(
        '#include "spikewire_rx.h"\nunsigned f(const uint8_t *bytes, size_t n, uint64_t now_us,'
        f" unsigned gain) {{\nunsigned share, wanted;\n{code}\nreturn wanted;\n}}\n")
    subprocess.run(["gcc", "-std=c99", *WARNINGS, f"-I{FOLDER}", "-fsyntax-only",
                    str(tmp_path / "page.c")], check=True)
