"""Action potentials of motor units where the electrodes lie: spike-triggered means as SVG.

Averaging and filtering change places, so the band-pass acts on the mean, which is short, and not on
the recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from spikewire.signals import Recording, Times

Doubles = NDArray[np.float64]
BAND_HZ, ORDER = (20.0, 500.0), 2  # as the decomposition's, twice through
AROUND_S = (0.035, 0.055)  # searched for the action potential, before and after a discharge
MARGIN_S = 0.1  # beyond it, where the filter may ring
SHOWN_S = 0.03
MOST_DISCHARGES = 2000
MOST_POINTS, MOST_SHAPES = 60_000, 8_000  # of a page
FAINTEST_UV = 0.1  # anything below is drawn as nothing
WIDEST = 64  # rows or columns of a grid that is believed
CELL_W, CELL_H, PER_COLUMN = 40.0, 26.0, 16


def gain(size: int, fs_hz: float) -> Doubles:
    """What a Butterworth band-pass leaves of each frequency if it runs forwards and backwards.

    Parameters
    ----------
    size : samples of a real Fourier transform

    Notes
    -----
    |H|^2 of the analogue filter at prewarped frequencies, as the bilinear transform has it.
    """
    low, high = np.tan(np.pi * np.minimum(BAND_HZ, 0.49 * fs_hz) / fs_hz)
    f = np.tan(np.pi * np.fft.rfftfreq(size)[:-1])
    with np.errstate(divide="ignore"):
        detuned = (f**2 - low * high) / (f * (high - low))
    return np.append(1 / (1 + detuned ** (2 * ORDER)), 0.0)


def triggered_mean(recording: Recording, times: Times) -> Doubles:
    """Mean band-passed EMG around a unit's discharges.

    Returns
    -------
    float64 (samples, channels), microvolt
        From `AROUND_S[0]` before a discharge to `AROUND_S[1]` after it; zeros if there is none far
        enough from the recording's ends. Of more than 2000 discharges, 2000 evenly chosen ones.
    """
    fs = recording.fs_hz
    margin, before, after = (round(s * fs) for s in (MARGIN_S, *AROUND_S))
    first, size = before + margin, 2 * ((before + after + 2 * margin) // 2)
    inside = times[(times >= first) & (times + size - first <= len(recording.emg))]
    if not len(inside):
        return np.zeros((before + after, recording.emg.shape[1]))
    chosen = inside[np.linspace(0, len(inside) - 1, min(len(inside), MOST_DISCHARGES)).astype(int)]
    total = np.zeros((size, recording.emg.shape[1]))
    for t in chosen:
        total += recording.emg[t - first : t - first + size]
    mean = total / len(chosen)
    clean = np.fft.irfft(np.fft.rfft(mean, axis=0) * gain(size, fs)[:, None], size, axis=0)
    return np.asarray(clean[margin : margin + before + after])


def most_energy(shape: Doubles, length: int) -> Doubles:
    """The stretch of `length` samples that holds most of a shape."""
    power = np.concatenate([[0.0], np.cumsum(np.square(shape).sum(axis=1))])
    start = int(np.argmax(power[length:] - power[:-length])) if len(shape) > length else 0
    return shape[start : start + length]


def places(recording: Recording) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Row and column of every channel, and whether the recording knows them."""
    row, col = recording.grid_row, recording.grid_col
    if row is not None and col is not None:
        row, col = row - row.min(), col - col.min()
        if max(row.max(), col.max()) < WIDEST and len(set(zip(row, col, strict=True))) == len(row):
            return row, col, True
    channel = np.arange(recording.emg.shape[1])
    return channel % PER_COLUMN, channel // PER_COLUMN, False


def round_down(value: float) -> float:
    """1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value * 1.000001))
    return float(next(m * power for m in (5, 2, 1) if m * power <= value * 1.000001))


def grid_svg(
    shape: Doubles, row: NDArray[np.int64], col: NDArray[np.int64], fs_hz: float,
    bad: Sequence[int] = (), points: int = 52,
) -> str:
    """One unit: a path for each channel in its place, and bars of microvolts and milliseconds.

    Parameters
    ----------
    shape : float64 (samples, channels), microvolt
    bad : channels not drawn
    points : of a path at most
    """
    good = np.setdiff1d(np.arange(shape.shape[1]), bad)
    high = max(float(np.abs(shape[:, good]).max(initial=0.0)), FAINTEST_UV)
    at = np.unique(np.linspace(0, len(shape) - 1, min(points, len(shape))).astype(int))
    x = np.rint(10 * at / (len(shape) - 1) * (CELL_W - 4)).astype(int)
    y = np.rint(-10 * shape[at] / high * CELL_H * 0.9).astype(int)
    steps = np.diff(x)
    parts = []
    for k in good:
        up = np.diff(y[:, k])
        left, middle = 10 * (CELL_W * col[k] + 2), 10 * CELL_H * (row[k] + 1)
        moves = "".join(f"l{a} {b}" for a, b in zip(steps, up, strict=True))
        parts.append(f'<path class="l0" d="M{left:.0f} {middle + y[0, k]:.0f}{moves}"/>')
    rows, columns = int(row.max()) + 1, int(col.max()) + 1
    uv = round_down(high)
    ms = round_down(1e3 * len(shape) / fs_hz * 0.6)
    tall = uv / high * CELL_H * 0.9
    wide = ms / 1e3 * fs_hz / (len(shape) - 1) * (CELL_W - 4)
    base = CELL_H * (rows + 1) + 24
    bars = (f'<path class="axis" d="M20 {10 * (base - tall):.0f}V{10 * base:.0f}h{10 * wide:.0f}"/>'
            f'<text font-size="100" x="{10 * wide + 60:.0f}" y="{10 * base:.0f}">'
            f"{uv:g} \u00b5V, {ms:g} ms</text>")
    width, height = max(CELL_W * columns, 150.0), base + 3
    return (f'<svg viewBox="0 0 {10 * width:.0f} {10 * height:.0f}" role="img" '
            f'aria-label="Action potential on {len(good)} channels">{"".join(parts)}{bars}</svg>')


def section(recording: Recording, trains: Sequence[Times]) -> str:
    """Every unit's action potential in the grid; HTML."""
    row, col, known = places(recording)
    channels = recording.emg.shape[1]
    shown = min(len(trains), max(MOST_SHAPES // channels, 1))
    points = int(np.clip(MOST_POINTS / max(shown * channels, 1), 12, 52))
    length = round(SHOWN_S * recording.fs_hz)
    figures = []
    for unit in range(shown):
        shape = most_energy(triggered_mean(recording, trains[unit]), length)
        good = np.setdiff1d(np.arange(channels), recording.bad)
        largest = float(np.ptp(shape[:, good], axis=0).max(initial=0.0))
        picture = grid_svg(shape, row, col, recording.fs_hz, recording.bad, points)
        figures.append(f"<figure>{picture}<figcaption><b>unit {unit}</b> largest {largest:.0f} "
                       "\u00b5V peak to peak</figcaption></figure>")
    where = "A path for each electrode, in its place; rows run down." if known else (
        "The recording does not say where its electrodes lie: channels in their order, "
        f"{PER_COLUMN} to a column.")
    more = f" The first {shown} of {len(trains)} units." if shown < len(trains) else ""
    words = (f"{where} Mean of the EMG between {BAND_HZ[0]:g} and {BAND_HZ[1]:g} Hz around the "
             f"unit's discharges, the {1e3 * SHOWN_S:g} ms with most of its energy; each unit has "
             "its own scale. What other units leave in a mean falls with the root of the number of "
             f"discharges: small shapes of few discharges are mostly that.{more}")
    return f'<div class="shapes">{"".join(figures)}</div><p class="note">{escape(words)}</p>'
