"""The page of a comparison: swapped and merged units are seen where a reader looks for them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from report_world import EVIL, read, regular

from spikewire import score
from spikewire.report import ran, scoring
from spikewire.signals import SpikeTrains

FS_HZ = 2048.0
CELL = re.compile(r"<td[^>]*>(\d+)</td>")


def write(path: Path, predicted: list, reference: list, pairs: list, seconds: int) -> str:
    a, b = SpikeTrains(predicted, FS_HZ), SpikeTrains(reference, FS_HZ)
    mine, theirs = a.only([p for p, _ in pairs]), b.only([r for _, r in pairs])
    stop = seconds * 2048
    figures = score.table(score.score(mine, theirs, 0, stop)) | {
        "cst": score.cst_correlation(mine, theirs, 0, stop),
        "unpaired": {"predicted": len(a) - len(pairs), "reference": len(b) - len(pairs)}}
    scoring.write(path, scoring.Compared(a, b, pairs, 0, stop), figures, (EVIL, "truth"),
                  ran.section("mu-score"))
    return read(path).text


def matrix(path: Path) -> list[list[int]]:
    html = path.read_text().split('class="matrix"')[1].split("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", html)[1:]
    return [[int(v) for v in CELL.findall(row)] for row in rows]


def test_swapped_merged_and_missed_units_are_seen(tmp_path: Path) -> None:
    truth = regular(5, 20)
    n = [len(t) for t in truth]
    late = [t + 7 for t in truth]  # a constant lag is none
    merged = np.unique(np.concatenate([late[3], late[4]]))
    found = [late[1], late[0], late[2][::2], merged, late[4]]
    write(tmp_path / "p.html", found, truth, [(k, k) for k in range(5)], 20)
    m = matrix(tmp_path / "p.html")
    assert m[0][1] == n[0]  # reference 0 was called 1
    assert m[1][0] == n[1]
    assert m[2][2] == len(late[2][::2])
    assert m[3][3] == n[3]
    assert m[4][3] >= 0.95 * n[4]  # unit 3 is both
    assert [row[-1] for row in m[:5]] == [n[k] - m[k][k] for k in range(5)]  # missed
    assert m[5][:5] == [len(t) - m[k][k] for k, t in enumerate(found)]  # extra
    assert m[0][2] < 0.2 * n[0]  # chance


def test_units_without_a_partner_are_in_the_matrix(tmp_path: Path) -> None:
    truth = regular(3, 20)
    text = write(tmp_path / "p.html", [truth[2], truth[1]], truth, [(0, 2), (1, 1)], 20)
    assert "2 (0)" in text
    m = matrix(tmp_path / "p.html")
    assert [len(row) for row in m] == [3, 3, 3, 3]  # two found units and what was missed
    assert m[0][0] == len(truth[2])
    assert m[2][2] == len(truth[0])  # nobody found reference 0
    assert EVIL in text


def test_it_shows_the_correlations_and_where_they_come_from(tmp_path: Path) -> None:
    truth = regular(3, 20)
    text = write(tmp_path / "p.html", truth, truth, [(k, k) for k in range(3)], 20)
    assert "segments of 1 s, lag 01.000" in text
    assert "best lag within 100 ms1.000" in text
    assert "a Hann window of 400 ms" in text


def test_a_silent_comparison_and_a_long_one(tmp_path: Path) -> None:
    none = [np.zeros(0, np.int64)] * 2
    write(tmp_path / "p.html", none, none, [(0, 0), (1, 1)], 1)
    many = regular(12, 300)
    write(tmp_path / "p.html", many, many, [(k, k) for k in range(12)], 300)


def test_the_seconds_shown_are_those_in_which_the_most_units_fire() -> None:
    quiet = [np.arange(0, 40_000, 200), np.arange(30 * 2048, 31 * 2048, 200)]
    a, b = scoring.informative(quiet, 0, 100 * 2048, FS_HZ)
    assert a <= 19 < 30 < b
