"""A bad line through the receiver in Python: nothing raises, and it is back within one frame.

    python benchmarks/fuzz_frames.py 1000000

The same in C, a hundred times as long: `make fuzz`.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from spikewire.link.codec import Step
from spikewire.link.framing import Deframer
from spikewire.link.profile import Framer, Info
from spikewire.link.receiver import Receiver
from spikewire.link.transport import on_serial

UNITS = 8
BATCH = 1000


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped, bytes lost, or garbage before, inside and instead."""
    kind, at = rng.integers(4), int(rng.integers(len(data)))
    noise = rng.integers(0, 256, int(rng.integers(1, 120)), np.uint8).tobytes()
    if kind == 0:
        out = bytearray(data)
        for place in rng.integers(0, len(data), int(rng.integers(1, 9))):
            out[place] ^= 1 << int(rng.integers(8))
        return bytes(out)
    if kind == 1:
        return data[:at] + data[at + int(rng.integers(1, 30)) :]
    return (noise, data[:at] + noise + data[at:])[kind - 2]


def main(wanted: int) -> int:
    rng, framer = np.random.default_rng(1), Framer("full", Info(7, (UNITS,)))
    framer._periods = []  # steps only: each has bytes of its own
    deframer, receiver = Deframer(), Receiver()
    sent = whole = found = missed = 0
    counts = np.zeros(UNITS, np.uint8)
    began = time.perf_counter()
    while sent < wanted:
        line, sure, after_whole = bytearray(), [], False
        for _ in range(BATCH):
            step = Step(step=sent, state=3, age_ms=2.0, sample_time_us=9766 * sent % (1 << 32),
                        drive=(50.0,) * 4, n_mu=UNITS, counts=counts)
            data, good = on_serial(framer.frames([step])), rng.random() < 0.85
            line += data if good else damaged(data, rng)
            if good and after_whole:  # the one right after damage may be lost with it
                sure.append(sent % (1 << 32))
            after_whole = good
            sent, whole = sent + 1, whole + good
        heard, at = set(), 0
        while at < len(line):
            size = int(rng.integers(1, 400))
            for kind, payload in deframer.feed(bytes(line[at : at + size])):
                got = receiver.serial(kind, payload, sent * 0.00977)
                heard.add(int.from_bytes(payload[4:8], "little"))
                found += got is not None
            at += size
        missed += len(set(sure) - heard)
    took = (time.perf_counter() - began) / sent
    print(f"{sent} frames, {whole} whole, {found} accepted, {missed} not found again, "
          f"{1e6 * took:.0f} us each with their making")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
