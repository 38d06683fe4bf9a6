"""The page: its colours by WCAG's own formula, its behaviour in headless Chromium."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("websockets")

from monitor_world import CHROMIUM, Browser, Chromium, Made, Server

from spikewire.link.table import FAULTS, STATES
from spikewire.monitor import words
from spikewire.monitor.app import FOLDER

STYLE = (FOLDER / "style.css").read_text()
BROWSER = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
# text or picture -> what it stands on, and the contrast that WCAG 2.2 AA asks for
TEXT = 4.5
PICTURE = 3.0
PAIRS = [
    *[(ink, ground, TEXT) for ink in ("ink", "soft", "accent") for ground in ("panel", "ground")],
    ("accent-ink", "accent", TEXT), ("ink", "band", TEXT),
    *[(f"{state}-ink", state, TEXT)
      for state in ("READY", "ACTIVE", "DEGRADED", "SAFE", "FAULT", "NA", "IDLE", "BOOT")],
    *[(f"b{k}", ground, PICTURE) for k in range(4) for ground in ("panel", "ground")],
    ("accent", "band", PICTURE), ("target", "band", PICTURE), ("edge", "panel", PICTURE),
    ("edge", "ground", PICTURE),
]


def palette(dark: bool) -> dict[str, str]:
    """The style sheet's variables."""
    light, rest = STYLE.split("@media (prefers-color-scheme: dark)", 1)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))
    if dark:
        found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", rest.split("\n}\n")[0]))
    return found


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    c = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    a, b = sorted((luminance(one), luminance(other)))
    return (b + 0.05) / (a + 0.05)


def test_the_formula_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # WebAIM's example


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_is_aa(dark: bool) -> None:
    colours = palette(dark)
    assert len(colours) > 30
    low = {(a, b): round(contrast(colours[a], colours[b]), 2) for a, b, least in PAIRS
           if contrast(colours[a], colours[b]) < least}
    assert low == {}


# Viénot, Brettel and Mollon 1999: linear RGB as a protanope and a deuteranope see it
BLIND = {
    "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
}


@pytest.mark.parametrize("blind", [None, *BLIND])
@pytest.mark.parametrize("dark", [False, True])
def test_bundles_are_told_apart_whatever_the_eye(dark: bool, blind: str | None) -> None:
    """Distance in CIE Lab of each two of the four colours; 10 is what nobody overlooks."""
    colours = palette(dark)

    def lab(colour: str) -> np.ndarray:
        c = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        if blind:
            c = np.clip(np.array(BLIND[blind]) @ c, 0, 1)
        xyz = np.array([[.4124, .3576, .1805], [.2126, .7152, .0722], [.0193, .1192, .9505]]) @ c
        f = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 0.008856))
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    four = [lab(colours[f"b{k}"]) for k in range(4)]
    assert min(np.linalg.norm(a - b) for i, a in enumerate(four) for b in four[:i]) > 10


def test_every_state_and_fault_has_words() -> None:
    assert words.STATE_WORDS.keys() == set(STATES.values())
    assert words.FAULT_WORDS.keys() == set(FAULTS.values())
    assert words.faults_of(0x8001) == ["EMG is old", "until the controller clears it"]
    css = set(re.findall(r"--([A-Z]+):", STYLE))
    assert css == set(STATES.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def server(folder: Path):
    made = Server(f"unix:{folder}/s", "--token", "auto", cwd=folder)
    yield made
    assert made.close() == ""


@pytest.fixture
def run(folder: Path):
    made = Made(str(folder / "s"))
    yield made
    made.close()


@pytest.fixture
def page(server: Server, chromium: Chromium):
    with Browser(server.url, chromium=chromium) as made:
        yield made
    assert made.errors == []


def facts(page: Browser) -> dict:
    return page.ask("spikewire.facts()")


UP = "globalThis.spikewire && spikewire.facts().units === 30 && spikewire.facts().drawn > 200"


@BROWSER
def test_every_spike_that_was_sent_is_drawn_or_counted(page: Browser, run: Made) -> None:
    page.until(UP)
    page.until("spikewire.facts().drawn > 700")
    run.close()  # nothing more is sent
    page.until("!spikewire.facts().live")
    found = page.until("spikewire.facts().drawn === spikewire.facts().spikes && spikewire.facts()")
    assert found["sent"] == found["drawn"] + found["lostSpikes"]
    assert found["drawn"] > 500
    assert found["damaged"] == 0
    page.until("document.querySelector('.badge').textContent === 'NO RUN'")
    # and it is ink: rows of the first bundle's colour, as many runs of it as spikes in that row
    runs = page.ask("""(() => {
      const canvas = document.getElementById('spikes'), pen = canvas.getContext('2d');
      const top = 20 + (canvas.height - 20) * 6.5 / 30;
      const line = pen.getImageData(0, Math.round(top), canvas.width, 1).data;
      let runs = 0, before = false;
      for (let x = 0; x < canvas.width; x++) {
        const ink = line[4 * x] < 60 && line[4 * x + 2] > 140;
        if (ink && !before) runs++;
        before = ink;
      }
      return runs;
    })()""")
    shown = [k for k in run.sixth if k > run.sequence - found["steps"]]
    assert len(shown) > 10
    assert runs == pytest.approx(len(shown), abs=1)  # one may lie at the edge


@BROWSER
def test_lost_datagrams_are_counted_in_steps_and_spikes(page: Browser, run: Made) -> None:
    page.until(UP)
    before = facts(page)
    run.pause.set()  # as if a socket had had no room
    spikes, steps = run.spikes, run.sequence
    time.sleep(0.7)
    spikes, steps = run.spikes - spikes, run.sequence - steps
    run.pause.clear()
    page.until(f"spikewire.facts().lostSteps > {before['lostSteps']}")
    run.close()
    page.until("!spikewire.facts().live")
    found = page.until("spikewire.facts().drawn === spikewire.facts().spikes && spikewire.facts()")
    assert found["lostSteps"] == pytest.approx(steps, abs=4)
    assert found["lostSpikes"] == pytest.approx(spikes, abs=30)
    assert found["sent"] == found["drawn"] + found["lostSpikes"]


@BROWSER
def test_keys_alone_do_everything(page: Browser, run: Made, folder: Path) -> None:
    page.until(UP)
    page.key(" ")
    assert facts(page)["paused"]
    page.key("ArrowLeft")
    page.key("ArrowLeft")
    time.sleep(0.3)
    assert facts(page)["behind"] > 0
    page.key("End")
    assert not facts(page)["paused"]
    page.key("+")
    assert facts(page)["span"] == 5
    page.key("-")
    page.key("-")
    assert facts(page)["span"] == 20
    page.key("m")
    for letter in "cue 1":
        page.key(letter)
    page.key("Enter", "\r")
    page.until("document.getElementById('said').textContent.includes('written to')")
    line = json.loads((folder / "marks.jsonl").read_text().splitlines()[-1])
    assert line["label"] == "cue 1"
    assert 0 < line["step"] <= run.sequence
    assert not facts(page)["paused"]  # the space in the label was a space
    page.key("?")
    assert page.ask("document.getElementById('keys').open")
    page.key("Escape")
    page.until("!document.getElementById('keys').open")


@BROWSER
def test_tab_reaches_every_button_and_shows_where_it_is(page: Browser, run: Made) -> None:
    page.until(UP)
    wanted = page.ask("""[...document.querySelectorAll('button, summary, a, [tabindex="0"]')]
                      .filter(e => e.offsetParent && !e.closest('dialog')).length""")
    seen = set()
    for _ in range(wanted):
        page.key("Tab")
        name, outline = page.ask(
            "[document.activeElement.id || document.activeElement.textContent.trim(),"
            " getComputedStyle(document.activeElement).outlineStyle]")
        assert outline == "solid", name
        seen.add(name)
    assert len(seen) == wanted
    unnamed = page.ask("[...document.querySelectorAll('button, canvas[role], section, dialog')]"
                       ".filter(e => !(e.textContent.trim() || e.ariaLabel)).length")
    assert unnamed == 0


@BROWSER
def test_a_picture_is_saved(page: Browser, run: Made, tmp_path: Path) -> None:
    page.until(UP)
    page.downloads(tmp_path)
    page.key("s")
    until = time.monotonic() + 20
    while not (saved := list(tmp_path.glob("*.png"))):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert saved[0].read_bytes()[:4] == b"\x89PNG"
    assert saved[0].stat().st_size > 10_000


@BROWSER
def test_calm_and_narrow_screens(page: Browser, run: Made) -> None:
    page.until(UP)
    page.media(dark=True, calm=True)
    time.sleep(0.3)
    before = len(facts(page)["gaps_ms"])
    time.sleep(2)
    assert len(facts(page)["gaps_ms"]) - before <= 5  # twice a second
    for width in (320, 700):
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=2, mobile=True)
        time.sleep(0.3)
        assert page.ask("document.documentElement.scrollWidth") <= width


@BROWSER
def test_the_participant_follows_a_target(
    server: Server, run: Made, chromium: Chromium
) -> None:
    plan = "/feedback?level=50&hold=10&rest=1&ramp=1&full=300#"
    with Browser(server.url.replace("/#", plan), chromium=chromium) as page:
        page.until("document.getElementById('cue').textContent === 'Ready?'")
        page.key(" ")
        page.until("document.getElementById('cue').textContent === 'Hold 50 %, steady'")
        page.open(server.url.replace("/#", "/feedback?level=500#"))
        page.until("document.getElementById('left').textContent.includes('allowed is 1 to 100')")
        assert [e for e in page.errors if "400" not in e] == []


@BROWSER
def test_without_the_token_nothing_is_shown(
    server: Server, run: Made, chromium: Chromium
) -> None:
    with Browser(server.url.partition("#")[0], chromium=chromium) as page:
        page.until(
            "document.getElementById('state').textContent.includes('does not let this page in')")
        assert facts(page)["steps"] == 0
    with Browser(server.url, chromium=chromium) as shown:
        shown.until(UP)
        assert shown.ask("location.href").endswith("/")  # the token is not left in the address
