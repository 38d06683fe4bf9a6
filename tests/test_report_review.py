"""The review of a decomposition: its figures against Python's, its memory, its file, in Chromium.

Truth: `separate.judged` for what a page shows at first, `edits.figures` on the sources themselves
for what it shows after edits that were drawn by chance, numpy and zipfile for what it writes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from monitor_world import CHROMIUM, Browser, Chromium

from spikewire import edits, separate
from spikewire.commands import review as command
from spikewire.decompose import decompose, sources
from spikewire.io import read_trains
from spikewire.io.npz import write_recording, write_trains
from spikewire.report import review
from spikewire.score import nearest
from spikewire.separate import Settings
from spikewire.signals import InputError, Recording, SpikeTrains

BROWSER = pytest.mark.skipif(not CHROMIUM or not find_spec("websockets"),
                             reason="needs Chromium and websockets")
READY = "globalThis.spikewireReview && spikewireReview.facts().ready"
EVIL = "</script><script>globalThis.evil=1</script>\"'<!--<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def found(synthetic) -> SpikeTrains:
    return decompose(synthetic.recording, Settings(starts=32, rounds=2))


@pytest.fixture(scope="module")
def files(synthetic, found, tmp_path_factory) -> Path:
    """A recording, its decomposition, its page."""
    folder = tmp_path_factory.mktemp("review")
    write_recording(folder / "r.npz", synthetic.recording)
    write_trains(folder / "t.npz", found)
    words = [str(folder / n) for n in ("r.npz", "t.npz")]
    assert command.main([*words, "--out", str(folder / "p.html")]) == 0
    return folder


def signals(recording: Recording, trains: SpikeTrains) -> tuple[list[np.ndarray], int]:
    made, start, _ = sources(recording, trains.times)
    return [np.ascontiguousarray(s) for s in made.T], start


def test_sources_are_those_that_the_decomposition_judged(synthetic, found) -> None:
    made, start = signals(synthetic.recording, found)
    fs_hz = found.fs_hz
    for k, (source, times) in enumerate(zip(made, found.times, strict=True)):
        now = edits.figures(source, separate.peaks_of(source, fs_hz), times - start, fs_hz)
        assert now["sil"] == pytest.approx(found.sil[k], abs=0.005)
        # the filter is one refinement further than the one that found these discharges
        assert -0.1 < now["pnr_db"] - found.pnr_db[k] < 1.5
        assert now["cov_isi"] == pytest.approx(found.cov_isi[k], abs=1e-9)
        assert source[times - start].max() == 1  # where the given samples are
        own, _ = separate.discharges(source, fs_hz)
        assert np.abs(nearest(own, times - start)).max() <= 1


def test_figures_are_the_decompositions_where_nobody_has_edited() -> None:
    rng = np.random.default_rng(3)
    source = rng.normal(0, 0.1, 20480).astype(np.float32)
    source[np.arange(300, 20000, 190)] += 1
    judged = separate.judged(source, 2048.0)
    now = edits.figures(source, separate.peaks_of(source, 2048.0), judged.times, 2048.0)
    assert now["sil"] == pytest.approx(judged.sil, abs=1e-6)
    assert now["pnr_db"] == judged.pnr_db
    assert now["cov_isi"] == judged.cov_isi


class Scripts(HTMLParser):
    """The scripts of a page, as a browser cuts them."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[str] = []
        self.images = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.kinds.append(dict(attrs).get("type") or "run")
        self.images += tag == "img"


def test_names_cannot_break_out(synthetic, found, tmp_path: Path) -> None:
    recording = replace(synthetic.recording, name=EVIL)
    hostile = replace(found, method=EVIL)
    _, html = review.section(recording, hostile, EVIL, [{"of": EVIL, "record": []}])
    reader = Scripts()
    reader.feed(html)
    assert reader.kinds == ["application/json", "text/plain", "run"]
    assert reader.images == 0
    head = json.loads(re.search(r'id="review-head">(.*?)</script>', html)[1])
    assert head["name"] == EVIL
    assert re.fullmatch(r"[\w.-]{1,80}", head["out"])


def test_a_long_recording_raises_the_floor_and_the_figures_stay(synthetic, found) -> None:
    """What is below the floor is counted: SIL from what is left, and the counts, is the same."""
    made, start = signals(synthetic.recording, found)
    units = [review.maxima(s, t - start, found.fs_hz)
             for s, t in zip(made, found.times, strict=True)]
    whole = len(review.pack(units, 0.0, 2)[1])
    floor, facts, packed = review.fitted(units, 2, "long", whole // 4)
    assert floor > 0
    assert len(packed) <= whole // 4
    for unit, fact in zip(units, facts, strict=True):
        sent = unit.above(floor, 2)
        times = sent.at[sent.flag & review.GIVEN > 0]
        power = np.square(sent.height.astype(float))
        near = np.abs(nearest(times, sent.at)) <= 2
        peak = sent.flag & review.PEAK > 0
        low = peak & ~near
        count, total = fact["lost"][0] + low.sum(), fact["lost"][1] + power[low].sum()
        above = power[peak & near]
        within = np.square(above - above.mean()).sum()
        between = np.square(above - total / count).sum()
        peaks = separate.peaks_of(unit.source, found.fs_hz)
        assert (between - within) / between == pytest.approx(
            edits.figures(unit.source, peaks, times, found.fs_hz)["sil"], abs=1e-6)
    with pytest.raises(InputError, match="too much for one page"):
        review.fitted(units, 2, "long", 10)


def test_duplicates_are_named_best_first(found) -> None:
    shifted = [found.times[1] + 1, found.times[0][: len(found.times[0]) // 2]]
    trains = replace(found, times=[*found.times, *shifted])
    pairs = review.alike(trains)
    n = len(found)
    assert [p[:2] for p in pairs] == [[1, n], [0, n + 1]]
    assert pairs[0][2] == 1
    assert pairs[1][2] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("change", "words"), [
    ({"times": [np.array([10**7])]}, "discharges at samples 10000000"),
    ({"times": [np.array([-4, 5])]}, "discharges at samples -4"),
    ({"times": [np.zeros(0, np.int64)]}, "holds no discharges"),
    ({"fs_hz": 2000.0}, "counts at 2000 Hz"),
])
def test_trains_of_another_recording_are_refused(
    files: Path, found, capsys, change: dict, words: str
) -> None:
    write_trains(files / "other.npz", replace(
        found, sil=None, pnr_db=None, cov_isi=None, **change))
    out = files / "no.html"
    assert command.main([str(files / "r.npz"), str(files / "other.npz"), "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert words in said[0]
    assert not out.exists()


def test_more_units_than_any_grid_shows_are_refused(synthetic) -> None:
    trains = SpikeTrains([np.array([5000, 6000])] * 151, 2048.0)
    with pytest.raises(InputError, match="151 units, a review takes up to 150"):
        review.section(synthetic.recording, trains, "t")


def test_units_without_discharges_are_shown(synthetic, found) -> None:
    trains = SpikeTrains([*found.times, np.zeros(0, np.int64)], found.fs_hz)
    _, html = review.section(synthetic.recording, trains)
    head = json.loads(re.search(r'id="review-head">(.*?)</script>', html)[1])
    assert len(head["units"]) == len(found) + 1


# in the browser


@pytest.fixture
def page(files: Path, chromium: Chromium):
    """Each test begins as a person does who was never here: in a profile of its own."""
    with Browser((files / "p.html").as_uri(), chromium=chromium) as made:
        made.until(READY)
        assert facts(made)["record"] == []
        yield made
    assert made.errors == []


def facts(page: Browser) -> dict:
    return page.ask("spikewireReview.facts()")


def click(page: Browser, unit: int, sample: int) -> None:
    """A click on the top of a maximum."""
    x, y = page.ask(f"""(() => {{
      const [x, y] = spikewireReview.place({unit}, {sample});
      const box = document.getElementById('review-source').getBoundingClientRect();
      return [x + box.left, y + box.top];
    }})()""")
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def agree(page: Browser, made: list[np.ndarray], start: int, trains: SpikeTrains) -> None:
    """What the page shows of every unit is what Python says of the discharges that it holds."""
    for unit, source in zip(facts(page)["units"], made, strict=True):
        times = np.array(unit["times"], np.int64) - start
        now = edits.figures(source, separate.peaks_of(source, trains.fs_hz), times, trains.fs_hz)
        assert unit["sil"] == pytest.approx(now["sil"], abs=2e-4)
        assert unit["pnr"] == pytest.approx(now["pnr_db"], abs=2e-3)
        assert unit["cov"] == pytest.approx(now["cov_isi"], abs=1e-9)
        assert unit["count"] == len(times)


@BROWSER
def test_figures_after_random_edits_are_pythons(page: Browser, synthetic, found) -> None:
    made, start = signals(synthetic.recording, found)
    agree(page, made, start, found)
    rng = np.random.default_rng(11)
    maxima = [page.ask(f"spikewireReview.maxima({k})") for k in range(len(found))]
    now = [set(t.tolist()) for t in found.times]
    assert all(t <= set(m) for t, m in zip(now, maxima, strict=True))
    for _ in range(60):
        k = int(rng.integers(len(found)))
        # the higher half, where a person clicks, and any discharge
        height = made[k][np.array(maxima[k]) - start]
        high = np.array(maxima[k])[height > np.quantile(height, 0.5)]
        sample = int(rng.choice([*rng.choice(high, 3), *rng.choice(sorted(now[k]), 3)]))
        # a peak within a millisecond of a discharge is that discharge
        sample = next((t for d in (0, -1, -2, 1, 2) if (t := sample + d) in now[k]), sample)
        click(page, k, sample)
        now[k] ^= {sample}
        if rng.random() < 0.2:
            page.key("z", "z")
            now[k] ^= {sample}
    assert [set(u["times"]) for u in facts(page)["units"]] == now
    agree(page, made, start, found)
    for entry in facts(page)["record"]:
        if entry["action"] in ("add", "delete"):
            assert entry["sil"][0] != entry["sil"][1]


def saved(page: Browser, folder: Path) -> Path:
    """Export by the key, and wait for the file."""
    page.downloads(folder)
    page.key("e")
    until = time.monotonic() + 20
    while not (there := list(folder.glob("*_edited.npz"))):
        assert time.monotonic() < until
        time.sleep(0.1)
    return there[0]


@BROWSER
def test_the_export_is_read_by_others_and_leads_back(
    page: Browser, files: Path, found, tmp_path: Path, capsys
) -> None:
    first, second = (int(found.times[0][k]) for k in (5, 9))
    click(page, 0, first)
    click(page, 0, second)
    page.key("z")
    page.key("ArrowDown")
    page.key("ArrowDown")
    page.key("k")
    path = saved(page, tmp_path)
    assert path.name == "t_edited.npz"
    # foreign readers
    assert subprocess.run([sys.executable, "-m", "zipfile", "-t", path]).returncode == 0
    assert zipfile.ZipFile(path).testzip() is None
    with np.load(path) as arrays:
        assert (arrays["sample"].dtype, arrays["unit"].dtype) == (np.int64, np.int32)
        assert arrays["n_units"] == len(found) - 1
        assert arrays["fs_hz"] == 2048
        assert str(arrays["method"]) == f"{found.method}, edited by hand"
        rounds = json.loads(arrays["edits"].item())
    assert [e["action"] for e in rounds[0]["record"]] == ["delete", "delete", "undo", "drop"]
    # ours
    back = read_trains(path)
    kept = [0, 1, *range(3, len(found))]
    assert back.times[0].tolist() == [t for t in found.times[0].tolist() if t != first]
    assert [t.tolist() for t in back.times[1:]] == [found.times[k].tolist() for k in kept[1:]]
    np.testing.assert_allclose(back.cov_isi[1:], found.cov_isi[kept[1:]])
    words = [str(files / "r.npz"), str(files / "t.npz"), "--check", str(path)]
    capsys.readouterr()
    assert command.main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["same"]
    assert said["dropped"] == [2]
    first_unit = said["units"][0]
    assert {k: first_unit[k] for k in ("unit", "now", "added", "deleted", "discharges")} == {
        "unit": 0, "now": 0, "added": 0, "deleted": 1, "discharges": len(found.times[0]) - 1}
    for k, unit in enumerate(said["units"]):  # the file's figures are those of Python
        assert unit["sil"][1] == pytest.approx(back.sil[k], abs=2e-4)
        assert unit["pnr_db"][1] == pytest.approx(back.pnr_db[k], abs=2e-3)
    # work goes on elsewhere: the record so far is shown, and a second round is added to it
    again = tmp_path / "again.html"
    assert command.main([words[0], str(path), "--out", str(again)]) == 0
    page.open(again.as_uri())
    page.until(READY)
    assert facts(page)["record"] == []
    assert "after 4 of earlier reviews" in page.ask("document.body.textContent")
    click(page, 0, second)
    (tmp_path / "second").mkdir()
    path = saved(page, tmp_path / "second")
    assert command.main([*words[:3], str(path)]) == 0
    assert "4 + 1 edits, units 2 dropped" in capsys.readouterr().out
    # and a file that was changed behind the record's back is found out
    trains = read_trains(path)
    with np.load(path) as arrays:
        np.savez(tmp_path / "false.npz", **{**arrays, "sample": trains_moved(arrays["sample"])})
    assert command.main([*words[:3], str(tmp_path / "false.npz")]) == 1
    assert len(trains) == len(found) - 1


def trains_moved(sample: np.ndarray) -> np.ndarray:
    moved = sample.copy()
    moved[-1] += 1
    return moved


@BROWSER
def test_nothing_is_lost_with_the_tab(page: Browser, files: Path, found) -> None:
    for k in (3, 8, 13):
        click(page, 1, int(found.times[1][k]))
    page.key("z")
    before = facts(page)
    old = page.another((files / "p.html").as_uri())
    page.shut(old)
    page.until(READY)
    now = facts(page)
    assert now["record"] == before["record"]
    assert len(now["record"]) == 4
    assert now["units"] == before["units"]
    for kind in ("keyDown", "keyUp"):  # what was undone can still be done again
        page.call("Input.dispatchKeyEvent", type=kind, key="Z", text="Z", modifiers=8)
    page.until("spikewireReview.facts().record.length === 5")
    assert int(found.times[1][13]) not in facts(page)["units"][1]["times"]


@BROWSER
def test_two_tabs_write_one_record_and_say_so(page: Browser, files: Path, found) -> None:
    one, other = (int(found.times[0][k]) for k in (4, 7))
    first = page.another((files / "p.html").as_uri())
    second = page.tab
    page.until(READY)
    click(page, 0, one)
    page.turn(first)
    page.until("spikewireReview.facts().record.length === 1")
    assert "also open in another tab" in page.ask(
        "document.getElementById('review-alert').textContent")
    click(page, 0, other)
    page.turn(second)
    page.until("spikewireReview.facts().record.length === 2")
    assert [e["samples"] for e in facts(page)["record"]] == [[one], [other]]
    assert not {one, other} & set(facts(page)["units"][0]["times"])


@BROWSER
@pytest.mark.parametrize("how", ["absent", "full"])
def test_a_browser_that_keeps_nothing_is_said(
    page: Browser, files: Path, found, tmp_path: Path, how: str
) -> None:
    spoil = {"absent": "Object.defineProperty(window, 'localStorage',"
                       " {get() { throw new Error(); }})",
             "full": "Storage.prototype.setItem = function (key) {"
                     " if (!key.endsWith('test')) throw new Error('full'); }"}[how]
    page.call("Page.addScriptToEvaluateOnNewDocument", source=spoil)
    page.open("about:blank#")
    page.open((files / "p.html").as_uri())
    page.until(READY)
    click(page, 0, int(found.times[0][4]))
    said = page.ask("document.getElementById('review-alert').textContent")
    assert "Export before you close it" in said
    assert len(facts(page)["record"]) == 1
    assert len(read_trains(saved(page, tmp_path)).times[0]) == len(found.times[0]) - 1


@BROWSER
def test_keys_alone_do_everything(page: Browser, found) -> None:
    page.key("ArrowDown")
    assert facts(page)["unit"] == 1
    page.key("Home")
    times = found.times[1].tolist()
    assert facts(page)["cursor"] == times[0]
    page.key("ArrowRight")
    assert facts(page)["cursor"] == times[1]
    page.key("Enter", "\r")
    assert times[1] not in facts(page)["units"][1]["times"]
    page.key(" ")
    assert facts(page)["units"][1]["times"] == times
    page.key("z")
    page.key("z")
    page.key("z")  # nothing is left to undo: no entry
    assert [e["action"] for e in facts(page)["record"]] == ["delete", "add", "undo", "undo"]
    page.key("0")
    assert facts(page)["view"] == [0, 20 * 2048]
    page.key("+")
    assert facts(page)["view"][1] - facts(page)["view"][0] == 10 * 2048
    # a box from one discharge over three more, whose lower edge is the lower of its ends
    page.key("Home")
    page.key("b")
    for _ in range(3):
        page.key("ArrowRight")
    low, high = facts(page)["box"][:2]
    assert (low, high) == (times[0], times[3])
    page.key("d")
    left = facts(page)["units"][1]["times"]
    assert {times[0], times[3]} & set(left) == set()
    assert facts(page)["record"][-1]["samples"] == [t for t in times[:4] if t not in left]
    page.key("k")
    assert facts(page)["dropped"] == [1]
    page.key("k")
    assert facts(page)["dropped"] == []
    page.key("?")
    assert page.ask("document.getElementById('review-keys').open")
    page.key("Escape")


@BROWSER
def test_odd_intervals_are_found_in_turn(page: Browser, found) -> None:
    """A discharge taken out leaves an interval twice as long, and there the key goes."""
    before = facts(page)["odd"]
    middle = len(found.times[0]) // 2
    click(page, 0, int(found.times[0][middle]))
    assert facts(page)["odd"] > before
    page.key("Home")
    seen = set()
    for _ in range(facts(page)["odd"]):
        page.key("]")
        seen.add(facts(page)["cursor"])
    assert int(found.times[0][middle + 1]) in seen


@BROWSER
def test_drag_boxes_and_wheel(page: Browser, found) -> None:
    middle = len(found.times[2]) // 2
    inside = found.times[2][middle : middle + 3].tolist()
    left, right, top, bottom = page.ask(f"""(() => {{
      spikewireReview.place(2, {inside[1]});
      const box = document.getElementById('review-source').getBoundingClientRect();
      return [box.left, box.right, box.top, box.bottom];
    }})()""")
    start, stop = facts(page)["view"]

    def x(sample: int) -> float:
        return left + 34 + (sample - start) / (stop - start) * (right - left - 34)

    ends = [(x(inside[0]) - 8, top + 2), (x(inside[2]) + 8, bottom - 140)]
    for kind, (px, py) in zip(("mousePressed", "mouseMoved", "mouseMoved", "mouseReleased"),
                              (ends[0], ends[0], ends[1], ends[1]), strict=True):
        page.call("Input.dispatchMouseEvent", type=kind, x=px, y=py, button="left", buttons=1,
                  clickCount=1)
    page.key("d")
    entry = facts(page)["record"][-1]
    assert (entry["action"], entry["samples"]) == ("delete", inside)
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=(left + right) / 2, y=bottom - 50,
              deltaX=0, deltaY=-250)
    view = "spikewireReview.facts().view"
    page.until(f"{view}[1] - {view}[0] < {stop - start}")


@BROWSER
def test_screens_and_focus(page: Browser) -> None:
    for width in (320, 700, 1400):
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=2, mobile=True)
        time.sleep(0.2)
        assert page.ask("document.documentElement.scrollWidth") <= width
    seen = set()
    for _ in range(14):
        page.key("Tab")
        seen.add(tuple(page.ask("[document.activeElement.tagName,"
                                " getComputedStyle(document.activeElement).outlineStyle]")))
    assert seen - {("BODY", "none")} == {(tag, "solid") for tag in
                                         ("BUTTON", "CANVAS", "DIV", "SUMMARY")}
    unnamed = page.ask("[...document.querySelectorAll('#review button, #review canvas')].filter("
                       "e => e.offsetParent && !(e.textContent.trim() || e.ariaLabel)).length")
    assert unnamed == 0


@BROWSER
def test_a_hostile_name_runs_nothing(synthetic, found, tmp_path: Path) -> None:
    write_recording(tmp_path / "r.npz", replace(synthetic.recording, name=EVIL))
    write_trains(tmp_path / "t.npz", replace(found, method=EVIL))
    out = tmp_path / "p.html"
    assert command.main([str(tmp_path / "r.npz"), str(tmp_path / "t.npz"), "--out", str(out)]) == 0
    with Browser(out.as_uri()) as made:
        made.until(READY)
        assert made.ask("globalThis.evil") is None
        assert made.ask("document.querySelectorAll('img').length") == 0
        # the policy stops what would have been let in
        made.ask("document.body.append(Object.assign(document.createElement('script'),"
                 " {textContent: 'globalThis.evil = 2'}))")
        assert made.ask("globalThis.evil") is None
        click(made, 0, int(found.times[0][4]))
        assert read_trains(saved(made, tmp_path)).method == f"{EVIL}, edited by hand"
