"""Pages in headless Chromium: nothing fails, nothing overflows, no script runs, dark is dark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("websockets")
pytest.importorskip("uvicorn")

from monitor_world import CHROMIUM, Browser, Chromium
from report_world import EVIL
from test_report_running import made
from test_report_scoring import write as write_scoring

from spikewire.report import decomposition, page, ran, rasters, running

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
LONG = "mu-x " + "a" * 300
GROUND = "getComputedStyle(document.documentElement).backgroundColor"
# what is wider than the page, but for what scrolls by itself
WIDE = """[...document.querySelectorAll("body *")].filter(e => !e.closest(".plot, .scroll")
  && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(
  e => e.tagName + "." + e.className)"""


@pytest.fixture(scope="module")
def folder(synthetic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One page of each kind that differs in what it is built of."""
    out = tmp_path_factory.mktemp("pages")
    truth = synthetic.truth
    running.write(out / "run.html", made(), ran.section(LONG), EVIL)
    decomposition.write(out / "units.html", [(synthetic.recording, truth)], ran.section(LONG))
    write_scoring(out / "score.html", truth.times, truth.times,
                  [(k, k) for k in range(len(truth))], 20)
    page.write_page(out / "evil.html", "t", [("x", "<script>document.title = 'ran'</script>")])
    return out


@pytest.mark.parametrize("width", [1360, 390])
def test_pages_fit_and_follow_the_systems_colours(
    folder: Path, width: int, chromium: Chromium
) -> None:
    with Browser((folder / "run.html").as_uri(), width, chromium=chromium) as browser:
        for name in ("run", "units", "score"):
            browser.open((folder / f"{name}.html").as_uri())
            browser.until(f"location.pathname.endsWith('{name}.html')")
            assert browser.ask(WIDE) == []
            assert browser.ask("document.documentElement.scrollWidth") <= width
            browser.media(dark=False)
            light = browser.ask(GROUND)
            browser.media(dark=True)
            assert (light, browser.ask(GROUND)) == ("rgb(243, 245, 247)", "rgb(13, 18, 24)")
            assert browser.ask("document.querySelectorAll('svg').length") > 1
        assert browser.errors == []


def test_no_script_runs_whoever_wrote_it(folder: Path, chromium: Chromium) -> None:
    with Browser((folder / "evil.html").as_uri(), chromium=chromium) as browser:
        assert browser.ask("document.title") == "t"
        assert "Content Security Policy" in "".join(browser.errors)


def test_a_raster_lies_where_its_axis_says(tmp_path: Path, chromium: Chromium) -> None:
    """Chromium's own geometry of the marks, against the label below them."""
    trains = [np.array([4.0])]
    html = rasters.raster(trains, trains, (0.0, 8.0))
    page.write_page(tmp_path / "p.html", "t", [("x", html)])
    with Browser((tmp_path / "p.html").as_uri(), chromium=chromium) as browser:
        mark, label = browser.ask("""[document.querySelector("path[style='stroke-width:9']"),
          [...document.querySelectorAll("text")].find(t => t.textContent == "4")].map(
          e => { const b = e.getBoundingClientRect(); return b.left + b.width / 2; })""")
    assert mark == pytest.approx(label, abs=1.5)
