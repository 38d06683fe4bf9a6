"""Action potentials: scipy's zero-phase filter and the simulated muscle's own are the truth."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from report_world import regular

from spikewire.report import shapes
from spikewire.signals import Recording

FS_HZ = 2048.0


def test_the_band_pass_is_that_of_scipy_forwards_and_backwards() -> None:
    signal = pytest.importorskip("scipy.signal")
    sos = signal.butter(2, shapes.BAND_HZ, "bandpass", fs=FS_HZ, output="sos")
    f, h = signal.freqz_sos(sos, np.fft.rfftfreq(400, 1 / FS_HZ), fs=FS_HZ)
    assert shapes.gain(400, FS_HZ) == pytest.approx(np.abs(h) ** 2, abs=1e-9)
    assert f[-1] == FS_HZ / 2


def test_filtering_the_mean_is_the_mean_of_the_filtered() -> None:
    signal = pytest.importorskip("scipy.signal")
    rng = np.random.default_rng(1)
    emg = np.cumsum(rng.normal(0, 20, (20_000, 3)), axis=0) * 0.05 + rng.normal(0, 20, (20_000, 3))
    times = np.sort(rng.choice(np.arange(1000, 19_000), 200, replace=False))
    found = shapes.triggered_mean(Recording(emg.astype(np.float32), FS_HZ), times)
    sos = signal.butter(2, shapes.BAND_HZ, "bandpass", fs=FS_HZ, output="sos")
    clean = signal.sosfiltfilt(sos, emg, axis=0)
    before, after = (round(s * FS_HZ) for s in shapes.AROUND_S)
    wanted = np.mean([clean[t - before : t + after] for t in times], axis=0)
    assert np.abs(found - wanted).max() < 0.03 * np.abs(wanted).max()


def test_shapes_are_those_of_the_simulated_muscle(tmp_path: Path) -> None:
    signal = pytest.importorskip("scipy.signal")
    from spikewire.simulate.discharge import Contraction
    from spikewire.simulate.emg import Scene, montage_of, simulate
    from spikewire.simulate.muap import LENGTH, OVERSAMPLING, Anatomy, Grid, cached

    grid = Grid(11, 3)
    anatomy = Anatomy(3, n_mu=14, grid=grid)
    made = cached(anatomy, tmp_path)
    recording, truth = simulate(Scene(anatomy, Contraction(60.0, 12.0, 0.0, 0.0)), tmp_path)
    sos = signal.butter(2, shapes.BAND_HZ, "bandpass", fs=recording.fs_hz, output="sos")
    before, after = (round(s * recording.fs_hz) for s in shapes.AROUND_S)
    length, compared = round(shapes.SHOWN_S * recording.fs_hz), 0
    for unit, times in enumerate(truth.times):
        leads = np.zeros((LENGTH + 600, 33), np.float32)
        leads[300 : 300 + LENGTH] = made[unit, ::OVERSAMPLING]
        own, _ = montage_of(leads, grid.rows, grid.columns, "sd")
        wanted = signal.sosfiltfilt(sos, own, axis=0)[300 - before : 300 + after]
        if len(times) < 100 or np.ptp(wanted) < 300:  # the others' noise in the mean is 20 uV
            continue
        found = shapes.triggered_mean(recording, times)
        at = int(np.argmax(np.convolve(np.square(wanted).sum(1), np.ones(length), "valid")))
        here, true = found[at : at + length], wanted[at : at + length]
        assert np.corrcoef(here.ravel(), true.ravel())[0, 1] > 0.97, unit
        assert np.ptp(here) == pytest.approx(np.ptp(true), rel=0.05)
        compared += 1
    assert compared >= 2


def test_every_good_channel_has_one_path_in_its_place() -> None:
    shape = np.outer(np.sin(np.arange(60) / 5), 1.2 * np.arange(6.0))
    row, col = np.arange(6) % 3, np.arange(6) // 3
    svg = ET.fromstring(shapes.grid_svg(shape, row, col, FS_HZ, bad=[4]))
    starts = [tuple(map(int, re.findall(r"-?\d+", p.get("d", ""))[:2]))
              for p in svg.iter("path") if p.get("class") == "l0"]
    assert len(starts) == 5
    assert [x for x, _ in starts] == [20, 20, 20, 420, 420]
    assert starts[1][1] - starts[0][1] == 10 * shapes.CELL_H
    words, = (t.text or "" for t in svg.iter("text"))
    assert words == "5 \u00b5V, 10 ms"  # of 6 uV and 29 ms


def test_the_stretch_with_most_energy_is_taken() -> None:
    shape = np.zeros((100, 2))
    shape[70:80] = 1
    assert shapes.most_energy(shape, 20).sum() == 20
    assert shapes.most_energy(shape[:10], 20).shape == (10, 2)


@pytest.mark.parametrize("place", [None, np.zeros(4, np.int64), np.array([0, 1, 2, 10**9])])
def test_a_grid_that_cannot_be_is_not_believed(place: np.ndarray | None) -> None:
    recording = Recording(np.zeros((9000, 4), np.float32), FS_HZ, grid_row=place, grid_col=place)
    html = shapes.section(recording, [np.array([4000])])
    assert "does not say where its electrodes lie" in html


def test_too_few_discharges_give_a_flat_shape_and_a_picture() -> None:
    recording = Recording(np.ones((9000, 4), np.float32), FS_HZ)
    for times in ([], [3], [8999]):
        ET.fromstring(re.findall("<svg.*?</svg>", shapes.section(recording, [np.array(
            times, np.int64)]))[0])


@pytest.mark.parametrize(("channels", "units"), [(64, 30), (256, 60)])
def test_large_grids_and_many_units_stay_small(channels: int, units: int) -> None:
    rng = np.random.default_rng(0)
    emg = rng.normal(0, 50, (2 * 2048, channels)).astype(np.float32)
    side = np.arange(channels)
    recording = Recording(emg, FS_HZ, grid_row=side % 16, grid_col=side // 16)
    html = shapes.section(recording, [t[3:6] for t in regular(units, 2)])
    assert len(html) < 1_000_000
    shown = len(re.findall("<figure>", html))
    assert shown == units or f"The first {shown} of {units} units" in html
