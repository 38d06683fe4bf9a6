"""mu-run on emulated amplifiers. Truth: when the emulator acquired the newest sample that it sent.

Emulator and loop share a clock, so the true age of the data has a lower bound at every frame. The
promise is that no frame says less than that, and that none is valid beyond 80 ms.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from amplifier_bench import OPENS_S, emulated, free_port

from spikewire.bundle import read_bundle
from spikewire.commands.run import assemble, parser
from spikewire.emulate import AMPLIFIERS
from spikewire.emulate.played import Played, recording_signal
from spikewire.link.codec import Arm, Step, decode_frame
from spikewire.link.framing import Deframer
from spikewire.link.table import COUNT_NA, FAULTS, STATES
from spikewire.runtime.clock import MonotonicClock
from spikewire.signals import Recording

REFERENCE = Path(__file__).parents[1] / "models" / "reference.mub"
BIT = {name: 1 << bit for bit, name in FAULTS.items()}
SLACK_S = 0.04  # of an emulator that a busy machine has made late from the first sample on


def golden(name: str) -> Played:
    """The reference bundle's golden excerpt, as the amplifier would have measured it."""
    bundle = read_bundle(REFERENCE)
    emg = bundle.array("golden/emg.npy") * np.float32(bundle.manifest.golden_lsb_uv)
    wire = AMPLIFIERS[name]()
    return recording_signal(wire, Recording(emg, wire.fs_hz))


def since(frame: Step, now: float) -> float:
    """Seconds from when a frame was made until now; its own time counts microseconds in 32 bits."""
    made_us = frame.sample_time_us + round(1e3 * frame.age_ms)
    return ((round(1e6 * now) - made_us) % (1 << 32)) / 1e6


def frames_of(name: str, script: str, until_s: float, words: str):
    """(moment, lower bound of the true age, frame) of every frame, and the loop."""
    with emulated(name, script, golden(name)) as (box, uri), ExitStack() as opened:
        args = parser().parse_args([*words.split(), "--source", uri, "--link", "loopback:?arm=1",
                                    "--no-upkeep"])
        loop = assemble(args, opened)
        [link], clock, deframer, heard = loop.links, MonotonicClock(), Deframer(), []

        def stop() -> bool:
            now = clock.now()
            for kind, payload in deframer.feed(link.received()):
                found = decode_frame(kind, payload)
                if isinstance(found, Step):
                    oldest_s = (box.index_at(now) - box._next) / box._rate_hz
                    heard.append((now, oldest_s - since(found, now), found))
            link.answer(Arm(1, loop.guard.arm_id))
            return box._anchor is not None and now - box._anchor[0] > until_s + OPENS_S

        loop.run(stop)
        return heard, loop, box


def test_no_stale_value_is_ever_valid() -> None:
    script = "1.2 stall 0.25; 1.9 drop 300; 2.6 disconnect 0.2; 4.4 late 0.2"
    heard, loop, box = frames_of("quattrocento", script, 5.2, f"{REFERENCE}@0-59")
    assert [name for name, _, _ in box.happened] == ["stall", "drop", "disconnect", "late"]
    states = [STATES[frame.state] for _, _, frame in heard]
    for (_, oldest_s, frame), state in zip(heard, states, strict=True):
        if frame.step:  # else there is no sample yet whose age it could say
            assert frame.age_ms >= 1e3 * (oldest_s - SLACK_S)
        if state in ("READY", "ACTIVE", "DEGRADED"):
            assert oldest_s <= 0.080 + SLACK_S
            assert frame.age_ms <= 80.5
        else:
            assert not any(v == v for v in frame.drive)
            assert (frame.counts == COUNT_NA).all()
    assert states.count("ACTIVE") + states.count("READY") > 10
    troubles = loop.summary()["troubles"]
    assert troubles["gaps"] == loop.tally.gaps == 2
    assert troubles["disconnects"] == 1
    seen = {name for _, _, f in heard for name, bit in BIT.items() if f.faults & bit}
    assert {"stale", "gap"} <= seen
    # late for good: 200 ms of age, so nothing is valid at the end
    last = [s for (now, _, _), s in zip(heard, states, strict=True) if now > heard[-1][0] - 0.2]
    assert set(last) <= {"SAFE", "FAULT"}


def test_motor_units_fire_through_an_amplifier() -> None:
    """Through the converter's steps of 0.5 uV and the wire; how many depends on missed steps."""
    heard, loop, _ = frames_of("quattrocento", "", 2.4, f"{REFERENCE}@0-59")
    fired = [int(np.sum(f.counts[f.counts < COUNT_NA])) for _, _, f in heard]
    assert sum(fired) > 0
    assert loop.tally.gaps == 0
    assert not any(v for k, v in loop.summary()["troubles"].items() if k != "late_s")


def test_a_nearly_full_buffer_degrades() -> None:
    heard, _, _ = frames_of("quattrocento", "1.2 full 0.2", 1.8, f"{REFERENCE}@0-59")
    full = [STATES[f.state] for _, _, f in heard if f.faults & BIT["stale"]]
    assert full
    assert not {"READY", "ACTIVE"} & set(full)


RUN = [sys.executable, "-m", "spikewire.commands.run"]
EMULATE = [sys.executable, "-m", "spikewire.commands.emulate"]


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, error = process.communicate(timeout=30)
    return process.returncode, out, error


def test_two_commands_and_a_wrong_rate_refused_with_both() -> None:
    port = str(free_port())
    box = subprocess.Popen([*EMULATE, "muovi+", "--port", port, "--seconds", "20", "--json"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done = subprocess.run([*RUN, str(REFERENCE) + "@0-59", "--source", f"muovi+::{port}"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "rate 2000, the bundle was trained on 2048; use a bundle made for" in done.stderr
    assert done.stderr.count("\n") == 1
    box.send_signal(signal.SIGINT)
    code, out, _ = ended(box)
    assert code == 0
    assert json.loads(out)["amplifier"] == "muovi+"
    assert json.loads(out)["sent"] > 500


@pytest.mark.parametrize(("words", "expected"), [
    ("quattrocento --faults '1 explode'", "NAME one of drop"),
    ("quattrocento --recording no.npz", "no.npz: no such file"),
    ("quattrocento --port 0", "--port is 0, allowed is more than 0"),
    ("muovi --seconds nan", "--seconds is nan"),
    ("quattrocento --recording slow.npz", "rate 2000 came, quattrocento samples at 2048 Hz"),
    ("muovi --recording slow.npz", "40 channels came, muovi has 32"),
])
def test_the_emulator_refuses_in_one_line(words: str, expected: str, tmp_path: Path) -> None:
    import shlex

    emg = np.random.default_rng(0).normal(0, 50, (4000, 40))
    np.savez(tmp_path / "slow.npz", emg=emg, unit="uV", fs_hz=2000.0)
    done = subprocess.run([*EMULATE, *shlex.split(words)], cwd=tmp_path, capture_output=True,
                          text=True, check=False, env=os.environ)
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_live_source_keeps_its_own_pace() -> None:
    with emulated("quattrocento") as (_, uri):
        done = subprocess.run([*RUN, str(REFERENCE) + "@0-59", "--source", uri, "--pace", "max"],
                              capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has a pace of its own; leave --pace max out" in done.stderr
