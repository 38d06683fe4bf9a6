"""Bad channels of a whole recording: each made in the way it is called, among good ones."""

from __future__ import annotations

import numpy as np

from spikewire.runtime.electrodes import bad_channels
from spikewire.signals import Recording


def emg() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 60, (8192, 16)).astype(np.float32)


def test_each_kind_is_found_and_named() -> None:
    x = emg()
    t = np.arange(len(x)) / 2048
    x[:, 2] = 0.01 * x[:, 2]
    x[:, 5] *= 9
    x[:, 7] += 120 * np.sin(2 * np.pi * 50 * t + 1)
    x[:, 11] += 120 * np.sin(2 * np.pi * 60 * t)
    assert bad_channels(Recording(x, 2048.0)) == {
        2: "flat", 5: "louder than the others", 7: "mostly mains", 11: "mostly mains"}


def test_a_channel_at_the_converters_end() -> None:
    x = emg()
    x[:, 3] = np.clip(4 * x[:, 3], -290, 290)
    assert bad_channels(Recording(x, 2048.0)) == {3: "at the converter's end"}


def test_good_channels_and_hum_that_all_carry_pass() -> None:
    x = emg()
    assert bad_channels(Recording(x, 2048.0)) == {}
    assert bad_channels(Recording(x + np.linspace(-900, 900, 16, dtype=np.float32), 2048.0)) == {}
    hum = 150 * np.sin(2 * np.pi * 50 * np.arange(len(x)) / 2048)
    assert bad_channels(Recording(x + hum[:, None].astype(np.float32), 2048.0)) == {}
    assert bad_channels(Recording(x * np.linspace(0.4, 2.5, 16, dtype=np.float32), 2048.0)) == {}
