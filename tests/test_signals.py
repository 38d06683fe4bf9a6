"""Windows, bins and spans against plain loops; limits against the design's definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.signals import (
    STEP,
    WINDOW,
    InputError,
    Labels,
    Recording,
    SpikeTrains,
    counts,
    parse_spans,
)


def test_window_and_step_are_the_papers() -> None:
    """Wen et al. 2021: window 120, step 20."""
    assert (WINDOW, STEP) == (120, 20)


@given(st.lists(st.integers(-50, 500), max_size=40), st.integers(-30, 30), st.integers(0, 20))
def test_counts_equal_a_plain_loop(times: list[int], first: int, steps: int) -> None:
    got = counts([np.array(sorted(times), np.int64)], first, steps)[:, 0]
    for k in range(steps):
        start = first + STEP * k
        assert got[k] == sum(start <= t < start + STEP for t in times)


@pytest.mark.parametrize(("look_ahead", "start"), [(60, 50), (20, 90), (10, 100)])
def test_bin_of_a_window(look_ahead: int, start: int) -> None:
    """The bin is [e - L - 10, e - L + 10) for a window that ends at e; the paper's L is 60."""
    assert Labels(look_ahead).bin_start == WINDOW - look_ahead - 10 == start


@pytest.mark.parametrize("look_ahead", [9, 111, -1])
def test_a_bin_outside_the_window_is_refused(look_ahead: int) -> None:
    with pytest.raises(InputError, match="allowed is 10 to 110"):
        Labels(look_ahead)


def recording(**changes: object) -> Recording:
    emg = np.random.default_rng(0).normal(0, 50, (4096, 8)).astype(np.float32)
    return Recording(**({"emg": emg, "fs_hz": 2048.0, "name": "r"} | changes))  # type: ignore[arg-type]


def test_a_sound_recording_passes_and_describes_itself() -> None:
    r = recording().check("r.npz")
    assert r.seconds == 2.0
    assert r.rms_uv == pytest.approx(50, rel=0.02)
    for word in ("8 channels", "2048 Hz", "2.0 s", "uV", "RMS"):
        assert word in r.summary()


def test_a_flat_channel_is_named() -> None:
    emg = recording().emg.copy()
    emg[:, 3] = 0.1
    assert "channels [3] are flat" in recording(emg=emg).summary()
    assert "flat" not in recording().summary()


@pytest.mark.parametrize(("changes", "words"), [
    ({"fs_hz": 1000.0}, "fs_hz is 1000"),
    ({"fs_hz": float("nan")}, "fs_hz is nan"),
    ({"emg": np.zeros((8, 4096), np.float32)}, "transpose"),
    ({"emg": np.zeros(8, np.float32)}, "shape"),
    ({"emg": np.zeros((0, 0), np.float32)}, "shape"),
    ({"emg": np.full((4096, 8), np.nan, np.float32)}, "NaN"),
    ({"emg": np.full((4096, 8), np.inf, np.float32)}, "NaN or infinity"),
    ({"emg": np.zeros((4096, 8), np.float32)}, "RMS is 0"),
    ({"emg": np.full((4096, 8), 1e5, np.float32)}, "is the unit right"),
])
def test_what_cannot_be_emg_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        recording(**changes).check("r.npz")


def test_any_rms_lets_an_odd_amplitude_pass() -> None:
    recording(emg=np.full((4096, 8), 1e5, np.float32)).check("r", any_rms=True)


def test_trains_between_is_half_open() -> None:
    trains = SpikeTrains([np.array([1, 5, 9])], 2048.0)
    assert trains.between(1, 9).times[0].tolist() == [1, 5]


def test_spans_are_seconds_and_half_open() -> None:
    assert parse_spans("18:24,30:30.5", 2048.0, 66560) == [(36864, 49152), (61440, 62464)]
    assert parse_spans("", 2048.0) == []


def test_a_span_of_years_is_refused() -> None:
    """Its bins would not fit into memory."""
    with pytest.raises(InputError, match="START must come before STOP inside"):
        parse_spans("0:1e9", 2048.0)


@given(st.text(max_size=12))
def test_any_text_gives_spans_or_an_input_error(text: str) -> None:
    try:
        spans = parse_spans(text, 2048.0, 66560)
    except InputError:
        return
    assert all(0 <= a < b <= 66560 for a, b in spans)
