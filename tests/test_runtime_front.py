"""The front. Truth: the convolution written as plain loops in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spikewire.bundle import Bundle, read_bundle, save_array
from spikewire.runtime.front import Front
from spikewire.signals import STEP, WINDOW, Recording

STEPS = 15


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return read_bundle(bundle_path)


@pytest.fixture(scope="module")
def emg(synthetic) -> np.ndarray:
    recording: Recording = synthetic.recording
    return recording.emg[5000 : 5000 + STEP * STEPS]


def convolve(emg: np.ndarray, kernels: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Row d * channels + c weighs the sample of channel c that is d samples old."""
    channels = emg.shape[1]
    out = np.zeros((len(emg), kernels.shape[1]))
    for t in range(len(emg)):
        for row in range(len(kernels)):
            d, c = divmod(row, channels)
            if t >= d:
                out[t] += float(emg[t - d, c]) * kernels[row].astype(float) / scale
    return out


def feed(front: Front, emg: np.ndarray) -> Front:
    for at in range(0, len(emg), STEP):
        front.push(emg[at : at + STEP])
    return front


def other_bank(bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    shape = bundle.array("front/kernels.npy").shape
    return rng.normal(0, 0.01, shape).astype(np.float32), np.array([1, 2, 0.5, 3], np.float32)


def test_streaming_is_the_plain_loop(bundle: Bundle, emg: np.ndarray) -> None:
    kernels, scale = bundle.front()
    wanted = convolve(emg, kernels, scale)
    front = Front(bundle)
    for k in range(STEPS):
        front.push(emg[k * STEP : (k + 1) * STEP])
        if front.ready:
            end = (k + 1) * STEP
            assert np.allclose(front.window, wanted[end - WINDOW : end], atol=1e-4)


def test_ready_after_history_and_window(bundle: Bundle, emg: np.ndarray) -> None:
    """ceil((H + 120) / 20) steps: 7 with 7 samples of history, 6 without a front."""
    plain = replace(bundle, manifest=replace(bundle.manifest, history_samples=0, inputs=16))
    for what, wanted in ((bundle, 7), (plain, 6)):
        front = Front(what)
        for _ in range(2):
            states = []
            for k in range(10):
                front.push(emg[k * STEP : (k + 1) * STEP])
                states.append(front.ready)
            assert states == [False] * (wanted - 1) + [True] * (11 - wanted)
            front.reset()
            assert not front.ready
            assert not front.window.any()


def test_set_front_between_steps_loses_none(bundle: Bundle, emg: np.ndarray) -> None:
    kernels, scale = other_bank(bundle)
    half = STEP * 9
    swapped = feed(Front(bundle), emg[:half])
    swapped.set_front(kernels, scale)
    assert swapped.ready
    wanted = convolve(emg, kernels, scale)
    assert np.allclose(swapped.window, wanted[half - WINDOW : half], atol=1e-4)
    # As a front that never knew other filters.
    fresh = replace(bundle, files={**bundle.files, "front/kernels.npy": save_array(kernels),
                                   "front/scale.npy": save_array(scale)})
    assert np.array_equal(swapped.window, feed(Front(fresh), emg[:half]).window)
    assert np.array_equal(feed(swapped, emg[half:]).window, feed(Front(fresh), emg).window)


def test_a_mask_is_a_zeroed_channel(bundle: Bundle, emg: np.ndarray) -> None:
    good = np.ones(16, bool)
    good[[2, 7, 8]] = False
    masked = Front(bundle)
    masked.mask(good)
    assert np.allclose(feed(masked, emg).window, feed(Front(bundle), emg * good).window, atol=1e-5)
    # It outlives a change of filters, and another mask takes it back.
    kernels, scale = other_bank(bundle)
    masked.set_front(kernels, scale)
    wanted = convolve(emg * good, kernels, scale)[-WINDOW:]
    assert np.allclose(masked.window, wanted, atol=1e-4)
    masked.mask(np.ones(16, bool))
    assert np.allclose(feed(masked, emg).window, convolve(emg, kernels, scale)[-WINDOW:], atol=1e-4)


def test_without_filters_the_scaled_emg_is_the_window(bundle: Bundle, emg: np.ndarray) -> None:
    channel_map = [5, 0, 9]
    front = Front(replace(bundle, manifest=replace(
        bundle.manifest, history_samples=0, inputs=3, channel_map=channel_map, input_scale=0.01)))
    feed(front, emg)
    assert np.allclose(front.window, emg[-WINDOW:, channel_map] * 0.01, rtol=1e-6)
    front.mask(np.array([True, False, True]))
    feed(front, emg)
    assert not front.window[:, 1].any()
    assert np.allclose(front.window[:, 2], emg[-WINDOW:, 9] * 0.01, rtol=1e-6)


def test_the_channel_map_picks_and_orders(bundle: Bundle, emg: np.ndarray) -> None:
    turned = list(range(15, -1, -1))
    front = Front(replace(bundle, manifest=replace(bundle.manifest, channel_map=turned)))
    assert np.allclose(feed(front, emg).window, feed(Front(bundle), emg[:, ::-1]).window, atol=1e-5)
