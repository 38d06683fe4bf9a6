"""What samples and spikes say about themselves. Truth: signals made here with one known fault."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewire.runtime.quality import Firing, Samples
from spikewire.signals import STEP, Floats

FS, LSB, RAIL, CHANNELS = 2048.0, 0.05, 1638.35, 64
Fault = Callable[[Floats, Floats], None]  # of (emg, seconds), in place


def emg(seconds: float = 4.0, seed: int = 0) -> tuple[Floats, Floats]:
    """Noise of other loudness on every channel, and its times."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(FS * seconds)) / FS
    x = rng.normal(0, 1, (len(time), CHANNELS)) * rng.uniform(30, 200, CHANNELS)
    return x.astype(np.float32), time.astype(np.float32)


def heard(x: Floats, samples: Samples | None = None) -> list[Samples]:
    """The judge after every step; it is one object, so its flags are copied."""
    samples = samples or Samples(CHANNELS, FS, LSB, RAIL)
    out = []
    for k in range(0, len(x) - STEP + 1, STEP):
        samples.step(x[k : k + STEP])
        seen = Samples(CHANNELS, FS, LSB, RAIL)
        for name in ("flat", "saturated", "loose"):
            setattr(seen, name, getattr(samples, name).copy())
        seen.at_end = samples.at_end
        out.append(seen)
    return out


def lift(x: Floats, t: Floats) -> None:
    x[t > 3, 5] = 0.3 * np.float32(1)


def offset(x: Floats, t: Floats) -> None:
    x[t > 3, 5] = 900.0


def clip(x: Floats, t: Floats) -> None:
    x[t > 3, 5] = np.clip(x[t > 3, 5] * 100, -RAIL, RAIL)


def hum(x: Floats, t: Floats) -> None:
    x[:, 5] += np.where(t > 3, 600 * np.sin(2 * np.pi * 50 * t), 0)


def hum60(x: Floats, t: Floats) -> None:
    x[:, 5] += np.where(t > 3, 600 * np.sin(2 * np.pi * 60 * t + 1), 0)


def hum_beside_offsets(x: Floats, t: Floats) -> None:
    x += np.float32(700.0)  # of the electrodes; it leaked into the share of hum
    hum(x, t)


def loud(x: Floats, t: Floats) -> None:
    x[t > 3, 5] *= 8


FAULTS: list[tuple[Fault, str]] = [(lift, "flat"), (offset, "flat"), (clip, "saturated"),
                                   (hum, "loose"), (hum60, "loose"), (loud, "loose"),
                                   (hum_beside_offsets, "loose")]


@pytest.mark.parametrize(("fault", "flag"), FAULTS)
def test_one_bad_channel_is_found_at_once_and_no_other(fault: Fault, flag: str) -> None:
    x, t = emg()
    fault(x, t)
    verdicts = heard(x)
    before = verdicts[: int(3 * FS) // STEP]
    assert not any(v.bad.any() for v in before)
    after = verdicts[int(3.16 * FS) // STEP :]  # 98 ms of it, and up to 39 ms to the next look
    for v in after:
        assert np.flatnonzero(getattr(v, flag)).tolist() == [5]
        assert np.flatnonzero(v.bad).tolist() == [5]
        assert not v.artefact


def test_a_good_channel_comes_back() -> None:
    x, t = emg()
    x[(t > 2) & (t < 2.5), 9] = 0
    verdicts = heard(x)
    assert verdicts[int(2.4 * FS) // STEP].flat[9]
    assert not verdicts[int(2.7 * FS) // STEP].bad.any()


@pytest.mark.parametrize("what", ["a contraction", "rest", "hum everywhere", "silence and hum",
                                  "hum that quiet channels drown in"])
def test_what_all_channels_share_is_no_fault(what: str) -> None:
    x, t = emg()
    common = (100 * np.sin(2 * np.pi * 50 * t))[:, None]
    late = (t > 2)[:, None]
    if what == "a contraction":
        x *= np.where(late, 1, 0.05)
    elif what == "rest":
        x *= np.where(late, 0.05, 1)
    elif what == "hum everywhere":
        x = x + np.where(late, 8 * common, 0)
    elif what == "hum that quiet channels drown in":
        x = x + np.where(late, 0.6 * common, 0)
    else:
        x = 0.02 * x + common
    x = np.clip(x, -RAIL + 1, RAIL - 1).astype(np.float32)
    assert not any(v.bad.any() for v in heard(x))


def test_many_channels_at_their_end_are_an_artefact() -> None:
    x, t = emg()
    x[(t > 1) & (t < 1.5), :9] = RAIL
    verdicts = heard(x)
    first = next(k for k, v in enumerate(verdicts) if v.artefact)
    assert first <= int(FS) // STEP + 5
    assert sum(v.artefact for v in verdicts) == pytest.approx(0.5 * FS / STEP + 10, abs=4)
    x[:, :9] = 0
    x[(t > 1) & (t < 1.5), :8] = -RAIL
    assert not any(v.artefact for v in heard(x))


def test_two_samples_at_the_end_are_none() -> None:
    x, _ = emg()
    x[[3000, 3001], 7] = RAIL
    assert not any(v.bad.any() for v in heard(x))
    x[3002, 7] = -RAIL
    assert any(v.saturated[7] for v in heard(x))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["noise", "zeros", "rail", "huge", "step"]), min_size=1,
                max_size=30), st.integers(0, 2**31))
def test_nothing_that_comes_breaks_it(kinds: list[str], seed: int) -> None:
    rng, samples = np.random.default_rng(seed), Samples(CHANNELS, FS, LSB, RAIL)
    for kind in kinds:
        x = rng.normal(0, 100, (STEP, CHANNELS))
        x *= {"noise": 1.0, "zeros": 0.0, "rail": 1e3, "huge": 1e6, "step": 1.0}[kind]
        if kind == "step":
            x += 1e4
        with np.errstate(all="raise"):
            samples.step(np.clip(x, -1e9, 1e9).astype(np.float32))
        assert samples.bad.shape == (CHANNELS,)


def counts_at(rate_hz: float, steps: int, n_mu: int = 10, unit: int = 3) -> list[np.ndarray]:
    """One unit that fires regularly, counted in steps."""
    times = np.arange(0, steps * STEP / FS, 1 / rate_hz)
    per_step = np.bincount((times * FS / STEP).astype(int), minlength=steps)[:steps]
    out = np.zeros((steps, n_mu), np.uint8)
    out[:, unit] = per_step
    return list(out)


@pytest.mark.parametrize(("rate", "cannot_be"), [(20, False), (45, False), (59, False), (68, True)])
def test_no_unit_fires_faster_than_60_hz_for_long(rate: float, cannot_be: bool) -> None:
    firing, said = Firing(10, STEP / FS), []
    for counts in counts_at(rate, 300):
        firing.step(counts)
        said.append(firing.implausible)
    assert any(said) is cannot_be
    if cannot_be:
        assert np.flatnonzero(said)[0] <= 21  # within 200 ms


def test_a_doublet_is_no_fault() -> None:
    firing, counts = Firing(10, STEP / FS), np.zeros((60, 10), np.uint8)
    counts[::6, 2], counts[1::6, 2] = 1, 1  # pairs of 10 ms, 17 times a second
    for c in counts[:21]:
        firing.step(c)
        assert not firing.implausible


@pytest.mark.parametrize(("n_mu", "fire", "cannot_be"), [
    (10, 6, False), (10, 7, True), (4, 4, False),
])
def test_most_units_never_fire_in_one_step(n_mu: int, fire: int, cannot_be: bool) -> None:
    firing = Firing(n_mu, STEP / FS)
    firing.step((np.arange(n_mu) < fire).astype(np.uint8))
    assert firing.implausible is cannot_be
    firing.step(None)
    assert not firing.implausible
