"""The loop on a scripted source, engine and clock: what must come, step by step."""

from __future__ import annotations

import gc
import itertools
import tracemalloc

import numpy as np
import pytest

from spikewire.bundle import arm_id, read_bundle
from spikewire.io.replay import open_uri
from spikewire.io.runlog import RunLog
from spikewire.io.source import Block
from spikewire.link.codec import Arm, Step, decode_frame, id16
from spikewire.link.framing import Deframer
from spikewire.link.table import FAULTS, STATES
from spikewire.link.transport import LinkError, open_link
from spikewire.runtime.clock import VirtualClock
from spikewire.runtime.decoder import Decoder
from spikewire.runtime.engine import EngineError
from spikewire.runtime.loop import Loop
from spikewire.runtime.spool import Spool
from spikewire.signals import STEP

FS = 2048.0
PERIOD = STEP / FS
NAME = dict(STATES)
BIT = {name: 1 << bit for bit, name in FAULTS.items()}


class Script:
    """A source of zeros that follows a script of (first, samples, due time)."""

    uri, fs_hz, lsb_uv, latency_s, channels, note = "script:", FS, 0.1, 0.0, 16, ""

    def __init__(self, clock: VirtualClock, blocks: list[tuple[int, int, float]],
                 block_samples: int = STEP) -> None:
        self.clock, self.blocks, self.block_samples = clock, blocks, block_samples
        self.until: float | None = None  # go on in silence up to here

    @property
    def ended(self) -> bool:
        return not self.blocks and (self.until is None or self.clock.now() >= self.until)

    def read(self, timeout_s: float) -> list[Block]:
        limit = self.clock.now() + max(timeout_s, 0)
        self.clock.sleep_until(min(self.blocks[0][2], limit) if self.blocks else limit)
        out = []
        while self.blocks and self.blocks[0][2] <= self.clock.now():
            first, samples, due = self.blocks.pop(0)
            out.append(Block(first, np.zeros((samples, self.channels), np.int16), due))
        return out

    def close(self) -> None:
        """Nothing."""


class Engine:
    """Takes the time it is told; ready after 7 steps; unit 0 fires in every fifth window."""

    name, for_control = "scripted", True

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.takes = clock, {}
        self.since, self.advanced, self.decoded, self.resets = 0, 0, [], 0
        self.prepared = []
        self.presence = np.zeros(4, np.float32)

    @property
    def ready(self) -> bool:
        return self.since >= 7

    def advance(self, emg: np.ndarray) -> None:
        assert emg.shape == (STEP, 16)
        self.since += 1
        self.advanced += 1

    def decode(self):
        self.decoded.append(self.advanced)
        self.clock.sleep_until(self.clock.now() + self.takes.get(self.advanced, 0.001))
        presence = self.presence.copy()
        presence[0] = presence[0] or self.advanced % 5 == 0
        return presence, np.full(4, 10)

    def prepare(self) -> None:
        self.prepared.append(self.advanced)

    def reset(self) -> None:
        self.since = 0
        self.resets += 1


class Bench:
    """A loop with everything scripted, and what its loopback link carried."""

    def __init__(self, bundle_path, blocks=None, steps: int = 60, block_samples: int = STEP):
        self.clock = VirtualClock(10.0)
        blocks = blocks or [(STEP * k, STEP, 10 + (k + 1) * PERIOD) for k in range(steps)]
        self.source = Script(self.clock, blocks, block_samples)
        self.engine = Engine(self.clock)
        self.link = open_link("loopback:?arm=1")
        self.loop = Loop(self.source, [Decoder(read_bundle(bundle_path), self.engine, FS)],
                         [self.link], self.clock)
        self.frames: list[Step] = []
        self.deframer = Deframer()
        self.arm_from: int | None = None
        self.identity = self.loop.guard.arm_id

    def hear(self) -> None:
        for kind, payload in self.deframer.feed(self.link.received()):
            found = decode_frame(kind, payload)
            if isinstance(found, Step):
                self.frames.append(found)
        if self.arm_from is not None and len(self.frames) >= self.arm_from:
            self.link.answer(Arm(1, self.identity))

    def run(self) -> list[Step]:
        def stop() -> bool:
            self.hear()
            return False

        self.loop.run(stop)
        self.hear()
        return self.frames

    def armed_always(self) -> None:
        """Drives as for a controller that armed long ago."""
        self.loop.guard.drives = lambda now: True
        self.loop.guard.ramp = lambda now: 1.0

    def states(self) -> list[str]:
        return [NAME[f.state] for f in self.frames]



def test_a_source_that_catches_up_is_old_emg_and_no_overrun(bundle_path) -> None:
    """Nothing for 0.3 s, then all of it at once: SAFE by age, then READY, never FAULT."""
    late = 10 + 71 * PERIOD
    blocks = [(STEP * k, STEP, late if 40 <= k < 70 else 10 + (k + 1) * PERIOD)
              for k in range(140)]
    bench = Bench(bundle_path, blocks)
    states = [NAME[f.state] for f in bench.run()]
    assert "SAFE" in states[:100]
    assert "FAULT" not in states
    assert bench.loop.tally.missed == 30
    assert states[-10] == "READY"


def test_a_loop_that_did_not_run_for_as_long_is_an_overrun(bundle_path) -> None:
    bench = Bench(bundle_path, steps=140)
    bench.engine.takes[40] = 30 * PERIOD
    assert "FAULT" in [NAME[f.state] for f in bench.run()]


def test_one_frame_for_every_step_and_a_last_one(bundle_path) -> None:
    bench = Bench(bundle_path)
    frames = bench.run()
    assert len(frames) == 63  # the last three say that it ends, so that two may be lost
    assert bench.states() == ["IDLE"] * 6 + ["READY"] * 54 + ["SAFE"] * 3
    assert [f.step for f in frames[:60]] == list(range(1, 61))
    assert [f.counter for f in frames] == list(range(63))
    assert all(np.isnan(f.drive[0]) for f in frames)  # nobody has armed
    assert all((f.counts == 15).all() for f in [*frames[:6], *frames[-3:]])
    assert not any((f.counts[:4] == 15).any() for f in frames[6:60])
    assert bench.loop.tally.decoded == 54


def test_the_age_in_a_frame_is_the_time_the_step_took(bundle_path) -> None:
    """Decoding takes 1 ms here and nothing else takes time."""
    frames = Bench(bundle_path).run()
    assert frames[30].age_ms == pytest.approx(1.0, abs=0.02)


def test_two_bundles_each_own_a_frame_and_a_drive(bundle_path) -> None:
    """The second on other channels; one that is not ready keeps both from the controller."""
    bench = Bench(bundle_path)
    bundle, second = read_bundle(bundle_path), Engine(bench.clock)
    second.since = -3  # ready three steps later than the first
    bench.source.channels = 32
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    for engine, at in ((bench.engine, 0), (second, 1)):
        advance = engine.advance
        engine.advance = lambda emg, a=advance, k=at: (seen.append((k, emg.shape)), a(emg))
    decoders = [Decoder(bundle, bench.engine, FS, (0, 16)), Decoder(bundle, second, FS, (16, 32))]
    bench.loop = Loop(bench.source, decoders, [bench.link], bench.clock)
    bench.identity = bench.loop.guard.arm_id
    bench.armed_always()
    frames = bench.run()
    assert dict(seen) == {0: (STEP, 16), 1: (STEP, 16)}
    spans = [(0, 16), (16, 32)]
    assert bench.identity == arm_id([bundle, bundle], spans)
    assert bench.identity != arm_id([bundle, bundle], spans[::-1])  # swapped grids
    assert [f.slot for f in frames] == [0, 1] * 63
    assert {f.model_id16 for f in frames} == {id16(bench.identity)}  # what the controller knows
    assert [f.counter for f in frames[::2]] == [f.counter for f in frames[1::2]] == list(range(63))
    one, other = frames[0:120:2], frames[1:120:2]
    assert [NAME[f.state] for f in other] == ["IDLE"] * 9 + ["READY"] * 51
    assert [f.step for f in one if len(f.counts) and f.counts[0] == 1] == list(range(10, 61, 5))
    assert all(f.drive[0] > 0 and f.drive[1] >= 0 for f in one[12:])
    assert np.isnan(one[-1].drive[2:]).all()
    assert bench.loop.tally.decoded == 51
    assert bench.loop.tally.spikes == sum(int((f.counts[:4] == 1).sum()) for f in one + other
                                          if len(f.counts))
    summary = bench.loop.summary()
    assert summary["n_mu"] == 8
    assert len(summary["bundles"]) == 2


def test_what_can_wait_is_done_after_the_frame_has_left(bundle_path) -> None:
    bench = Bench(bundle_path)
    prepare, sent = bench.engine.prepare, []
    bench.engine.prepare = lambda: (prepare(), sent.append(bench.link.sent))
    bench.run()
    assert bench.engine.prepared == list(range(1, 61))
    assert sent == list(range(1, 61))


def test_spikes_reach_the_frame_and_the_drive(bundle_path) -> None:
    bench = Bench(bundle_path)
    bench.armed_always()
    frames = bench.run()
    fired = [f.step for f in frames if len(f.counts) and f.counts[0] == 1]
    assert fired == [k for k in range(7, 61) if k % 5 == 0]
    assert all(f.counts[4] == 15 for f in frames)  # units that the bundle does not have
    assert frames[59].drive[0] == pytest.approx(1 / (5 * PERIOD), rel=0.35)


def test_the_newest_step_wins(bundle_path) -> None:
    """Step 20 takes 35 ms: 21 to 23 are overdue when it ends, consumed and never decoded."""
    bench = Bench(bundle_path)
    bench.engine.takes = {20: 0.035}
    frames = bench.run()
    assert bench.engine.advanced == 60
    assert set(range(7, 61)) - set(bench.engine.decoded) == {21, 22}
    assert bench.loop.tally.missed == 2
    assert len(frames) == 63 - 2
    assert bench.engine.resets == 0
    assert NAME[frames[19].state] == "DEGRADED"  # the step that took 35 ms says its age


def test_three_overdue_steps_degrade(bundle_path) -> None:
    """And half a second after it, since only what was clean for so long is well again."""
    bench = Bench(bundle_path, steps=100)
    bench.engine.takes = {20: 0.044}
    frames = bench.run()
    assert bench.loop.tally.missed == 3
    said = [f.step for f in frames if f.faults & BIT["overrun"]]
    assert said == list(range(24, 24 + len(said)))
    assert len(said) == pytest.approx(0.5 / PERIOD, abs=1.5)
    assert bench.states()[-4] == "READY"


def test_a_long_stall_counts_as_an_interruption(bundle_path) -> None:
    bench = Bench(bundle_path)
    bench.engine.takes = {20: 8.5 * PERIOD}
    frames = bench.run()
    assert bench.engine.resets == 1
    assert bench.loop.tally.missed == 7
    after = [f for f in frames if f.step > 27]
    assert [NAME[f.state] for f in after[:6]] == ["DEGRADED"] * 6 or \
        NAME[after[0].state] in ("DEGRADED", "SAFE")
    assert np.isnan(after[0].drive[0])


def test_a_gap_degrades_until_the_window_is_full_again(bundle_path) -> None:
    blocks = [(STEP * k + (60 if k >= 20 else 0), STEP, 10 + (k + 1 + (3 if k >= 20 else 0))
               * PERIOD) for k in range(100)]
    bench = Bench(bundle_path, blocks)
    bench.armed_always()
    frames = bench.run()
    assert bench.loop.tally.gaps == 1
    before = next(f for f in frames if f.step == 20).drive[0]
    again = next(f for f in frames if f.step == 27).drive[0]
    assert again < 0.5 * before  # what was fired before the gap is forgotten
    gap = [f for f in frames if f.faults & BIT["gap"]]
    assert all(NAME[f.state] == "DEGRADED" for f in gap)
    hollow = [f for f in gap if f.step <= 26]  # the first window without a hole ends with step 26
    assert len(hollow) >= 6
    assert all((f.counts == 15).all() and np.isnan(f.drive[0]) for f in hollow[-5:])
    assert len(gap) - len(hollow) == pytest.approx(0.5 / PERIOD, abs=1.5)
    assert bench.states()[-4] == "READY"


def test_a_gap_of_more_than_a_quarter_second_is_safe(bundle_path) -> None:
    blocks = [(STEP * k + (600 if k >= 20 else 0), STEP, 10 + (k + 1 + (30 if k >= 20 else 0))
               * PERIOD) for k in range(60)]
    bench = Bench(bundle_path, blocks)
    frames = bench.run()
    first_after = next(f for f in frames if f.step == 21)
    assert NAME[first_after.state] == "SAFE"


def test_an_engine_that_is_ready_at_once_hides_no_gap(bundle_path) -> None:
    blocks = [(STEP * k + (600 if k >= 20 else 0), STEP, 10 + (k + 1 + (30 if k >= 20 else 0))
               * PERIOD) for k in range(100)]
    bench = Bench(bundle_path, blocks)
    bench.engine.reset = lambda: None
    frames = bench.run()
    after = next(f for f in frames if f.step == 21)
    assert (NAME[after.state], after.faults & BIT["gap"]) == ("SAFE", BIT["gap"])
    assert bench.states()[-4] == "READY"


def test_a_restarted_amplifier_is_ready_again_after_a_window(bundle_path) -> None:
    """Its counter begins anew, 2 s after the last sample; ages are true again at once."""
    blocks = [(STEP * (k if k < 300 else k - 300), STEP,
               10 + (k + 1) * PERIOD + (2.0 if k >= 300 else 0)) for k in range(2000)]
    bench = Bench(bundle_path, blocks)
    bench.arm_from = 8
    frames = bench.run()
    first = next(k for k, f in enumerate(frames) if f.step == 301)
    states = bench.states()
    assert states[first : first + 6] == ["SAFE"] * 6
    assert states[first + 6] == "READY"
    assert "FAULT" not in states
    assert all(f.age_ms < 2 for f in frames[first:-3])
    # Spikes before the restart have higher counters: they are no reason to hold back later ones.
    assert any(f.counts[0] == 1 for f in frames[first + 7 : first + 20])


def test_a_long_overrun_is_a_latched_fault(bundle_path) -> None:
    bench = Bench(bundle_path)
    bench.engine.takes = {20: 12 * PERIOD}
    frames = bench.run()
    after = [f for f in frames if f.step > 30]
    assert all(NAME[f.state] == "FAULT" for f in after)
    assert after[0].faults & BIT["overrun"]


def test_the_last_frame_says_its_true_age(bundle_path) -> None:
    """The run is stopped 25 ms after the last sample."""
    bench = Bench(bundle_path, steps=30)
    bench.source.until = 10 + 30 * PERIOD + 0.025
    frames = bench.run()
    assert NAME[frames[-1].state] == "SAFE"
    assert frames[-1].age_ms >= 25


def test_silence_is_said_with_its_true_age_and_ends_the_arming(bundle_path) -> None:
    """The amplifier stops for 300 ms without a gap in its counter: stale, then safe, then ready."""
    bench = Bench(bundle_path, [
        (STEP * k, STEP, 10 + (k + 1) * PERIOD + (0.3 if k >= 20 else 0)) for k in range(60)])
    bench.arm_from = 8
    frames = bench.run()
    quiet = [f for f in frames if f.step == 20][1:]
    assert len(quiet) == pytest.approx(0.3 / PERIOD - 1, abs=2)
    ages = [f.age_ms for f in quiet]
    assert all(b - a == pytest.approx(1e3 * PERIOD, abs=0.1)
               for a, b in itertools.pairwise(ages))
    for f in quiet:
        assert NAME[f.state] == ("SAFE" if f.age_ms > 80 else "DEGRADED" if f.age_ms > 20
                                 else "ACTIVE")
        assert (f.counts == 15).all()
        assert np.isnan(f.drive[0]) == (f.age_ms > 80)
    assert not [f for f in frames if NAME[f.state] == "ACTIVE" and f.age_ms > 80]


def test_only_an_armed_decoder_is_active(bundle_path) -> None:
    bench = Bench(bundle_path)
    bench.arm_from = 20
    bench.run()
    states = bench.states()
    assert "ACTIVE" not in states[:20]
    assert states[25:60] == ["ACTIVE"] * 35
    assert states[60] == "SAFE"
    bench = Bench(bundle_path)
    bench.arm_from, bench.identity = 10, bench.identity ^ 1
    bench.run()
    assert "ACTIVE" not in bench.states()


def test_only_who_has_armed_is_told_the_drive(bundle_path) -> None:
    """READY: spikes, no drive; then it grows; a controller that falls silent loses it again."""
    bench = Bench(bundle_path, steps=150)
    hear, asked = bench.hear, []

    def until_step_60() -> None:
        bench.arm_from = 20 if len(bench.frames) < 60 else None
        asked.append(bench.arm_from)
        hear()

    bench.hear = until_step_60
    frames, states = bench.run(), bench.states()
    told = [not np.isnan(f.drive[0]) for f in frames]
    assert told == [state == "ACTIVE" for state in states]
    first, last = states.index("ACTIVE"), len(states) - 1 - states[::-1].index("ACTIVE")
    drives = [f.drive[0] for f in frames[first : first + 20]]
    assert drives[0] == 0
    assert all(b >= a - 0.2 for a, b in itertools.pairwise(drives))
    assert states[last + 1] == "READY"
    assert last - 60 == pytest.approx(0.3 / PERIOD, abs=2)


def test_a_link_that_may_not_arm_does_not(bundle_path) -> None:
    bench = Bench(bundle_path)
    bench.link.may_arm = False
    bench.arm_from = 8
    bench.run()
    assert "ACTIVE" not in bench.states()


def test_blocks_longer_than_a_step_decode_all_and_never_arm(bundle_path) -> None:
    blocks = [(50 * k, 50, 10 + 50 * (k + 1) / FS) for k in range(24)]
    bench = Bench(bundle_path, blocks, block_samples=50)
    bench.arm_from = 8
    bench.run()
    assert bench.engine.decoded == list(range(7, 61))
    assert bench.loop.tally.missed == 0
    assert "ACTIVE" not in bench.states()


def test_an_engine_that_decodes_nothing_never_arms(bundle_path) -> None:
    bench = Bench(bundle_path)
    bench.engine.for_control = False
    bench.loop = Loop(bench.source, [Decoder(read_bundle(bundle_path), bench.engine, FS)],
                      [bench.link], bench.clock)
    bench.arm_from = 8
    bench.run()
    assert "ACTIVE" not in bench.states()


def test_an_output_that_is_no_number_is_a_latched_fault(bundle_path) -> None:
    bench = Bench(bundle_path)
    bench.engine.presence[2] = np.nan
    frames = bench.run()
    assert bench.states()[6:] == ["FAULT"] * 57
    assert frames[10].faults & BIT["nan"]
    assert all(np.isnan(f.drive[0]) for f in frames)
    assert all((f.counts == 15).all() for f in frames)


def test_an_engine_that_fails_says_fault_three_times_and_ends(bundle_path) -> None:
    bench = Bench(bundle_path)

    def fails() -> None:
        if len(bench.engine.decoded) > 20:
            raise EngineError("CUDA error 700; start the run again")

    decode = bench.engine.decode
    bench.engine.decode = lambda: (fails(), decode())[1]
    with pytest.raises(EngineError, match="700"):
        bench.run()
    bench.hear()
    assert bench.states()[-4:] == ["READY"] + ["FAULT"] * 3
    assert all(f.faults & BIT["engine"] for f in bench.frames[-3:])
    assert all(np.isnan(f.drive[0]) and (f.counts == 15).all() for f in bench.frames[-3:])


@pytest.mark.parametrize(("off", "state"), [(1, "READY"), (3, "DEGRADED"), (5, "SAFE")])
def test_electrodes_that_come_off(bundle_path, off: int, state: str) -> None:
    """Masked in the engine, counted in the frame; of 16 channels, at most 2 and 4 may go."""
    bench = Bench(bundle_path, steps=100)
    masks: list[int] = []
    bench.engine.mask = lambda good: masks.append(int(good.sum()))
    rng, read = np.random.default_rng(0), bench.source.read

    def noise(timeout_s: float) -> list[Block]:
        blocks = read(timeout_s)
        for block in blocks:
            block.counts[:] = rng.integers(-900, 900, block.counts.shape)
            block.counts[:, :off] *= np.int16(block.first < 50 * STEP)
        return blocks

    bench.source.read = noise
    decoder = Decoder(read_bundle(bundle_path), bench.engine, FS, lsb_uv=0.05)
    bench.loop = Loop(bench.source, [decoder], [bench.link], bench.clock)
    frames = bench.run()
    assert masks == [16 - off]
    assert NAME[frames[45].state] == "READY"
    assert (NAME[frames[70].state], frames[70].good_channels) == (state, 16 - off)


def test_a_lost_link_ends_the_run_and_the_others_hear_safe(bundle_path) -> None:
    bench = Bench(bundle_path)

    class Lost:
        uri, may_arm, sent, dropped = "lost:", False, 0, 0

        def send(self, steps: list[Step], vitals: object) -> bool:
            if steps[0].step >= 30:
                raise LinkError("port '/dev/gone': unplugged")
            return True

        def poll(self) -> list[Arm]:
            return []

        def close(self) -> None:
            """Nothing."""

    bench.loop.links.insert(0, Lost())
    with pytest.raises(LinkError, match="unplugged"):
        bench.run()
    bench.hear()
    assert bench.frames[-1].step == 30
    assert bench.states()[-1] == "SAFE"


def test_memory_does_not_grow(bundle_path) -> None:
    """4000 steps more, after a warm-up, take no more memory (tracemalloc)."""
    bench = Bench(bundle_path, steps=5000)
    sizes = []

    def stop() -> bool:
        bench.link.received()
        bench.engine.decoded.clear()
        bench.engine.prepared.clear()
        if bench.loop.tally.steps in (1000, 4990) and len(sizes) < 2 and (
                not sizes or bench.loop.tally.steps == 4990):
            gc.collect()
            sizes.append((tracemalloc.get_traced_memory()[0], len(bench.source.blocks)))
        return len(sizes) == 2

    tracemalloc.start()
    bench.loop.run(stop)
    tracemalloc.stop()
    assert sizes[1][0] - sizes[0][0] < 16_000


def decoded(loop: Loop) -> list[list[int]]:
    """Run, and the spike trains that came of it."""
    with_spool = loop.spool = Spool()
    loop.run(lambda: False)
    trains = [t.tolist() for t in with_spool.trains(4, FS, "test").times]
    with_spool.close()
    return trains


@pytest.mark.parametrize("seed", range(4))
def test_the_log_of_a_bad_run_gives_the_same_spikes_again(bundle_path, tmp_path, seed: int) -> None:
    """Lost and repeated samples, blocks of every size, and a computer that was late."""
    rng = np.random.default_rng(seed)
    blocks, first, due = [], 100, 10.0
    for _ in range(160):
        samples = int(rng.integers(1, 31))
        due += samples / FS
        blocks.append((first, samples, due))
        first += samples + int(rng.choice([7, 400, -5]) if rng.random() < 0.06 else 0)
    bench = Bench(bundle_path, blocks)
    bench.engine.takes = {int(k): 0.06 for k in rng.integers(0, 100, 10)}
    log = bench.loop.log = RunLog(tmp_path / "run.mcap", bench.source, {})
    live = decoded(bench.loop)
    log.close()
    assert bench.loop.tally.missed
    assert bench.loop.tally.gaps
    again = Bench(bundle_path)
    source = open_uri("replay:run", str(tmp_path / "run.mcap"), {"any_rms": "1"}, again.clock)
    again.loop = Loop(source, [Decoder(read_bundle(bundle_path), again.engine, FS)], [again.link],
                      again.clock)
    assert decoded(again.loop) == live
    assert sum(map(len, live)) > 2
    assert again.loop.tally.missed == bench.loop.tally.missed
    assert again.loop.tally.gaps == bench.loop.tally.gaps
