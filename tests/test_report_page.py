"""The page: one file, nothing from outside, foreign text escaped, the monitor's colours."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from report_world import EVIL, read

from spikewire.report import page

MONITOR = (Path(page.__file__).parents[1] / "monitor/page/style.css").read_text()


def palettes(style: str) -> list[dict[str, str]]:
    """Colours of a style sheet, light and dark."""
    light, dark = re.split(r"@media (?:screen and )?\(prefers-color-scheme: dark\)", style)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part))
            for part in (light, dark.split("\n}\n")[0])]


def test_page_is_self_contained_and_escapes(tmp_path: Path) -> None:
    out = tmp_path / "p.html"
    html = page.table((EVIL,), [(EVIL, 3)][:0] or [(EVIL,)]) + page.note(EVIL) + page.said(EVIL)
    html += page.tiles([(EVIL, EVIL, EVIL)]) + page.facts([(EVIL, EVIL)])
    html += page.matrix([(EVIL, [1])], [EVIL], [1], 9, EVIL, [0])
    page.write_page(out, EVIL, [(EVIL, html)], about=EVIL, top=page.said("x", EVIL))
    reader = read(out)
    # title, headline, about; section; head, cell, note, said; tile; facts; matrix
    assert reader.text.count(EVIL) == 3 + 1 + 4 + 3 + 2 + 3


def test_colours_are_the_monitors() -> None:
    for ours, theirs in zip(palettes(page.STYLE), palettes(MONITOR), strict=True):
        assert len(ours) > 10
        assert ours == {name: theirs[name] for name in ours}


def luminance(rgb: np.ndarray) -> float:
    """Relative luminance of WCAG 2.2, of red, green and blue from 0 to 1."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("dark", [0, 1])
def test_numbers_on_the_darkest_field_of_a_matrix_are_read(dark: int) -> None:
    """Plain colours have their contrast from the monitor's test; a tint is a mixture."""
    colour = {k: np.array([int(v[i : i + 2], 16) for i in (1, 3, 5)]) / 255
              for k, v in palettes(page.STYLE)[dark].items()}
    tint = [int(v) / 100 for v in re.findall(r"--tint: (\d+)%", page.STYLE)][dark]
    field = tint * colour["accent"] + (1 - tint) * colour["panel"]
    low, high = sorted((luminance(field), luminance(colour["ink"])))
    assert (high + 0.05) / (low + 0.05) > 4.5


def test_print_is_never_dark() -> None:
    assert re.findall(r"@media ([^{]*prefers-color-scheme[^{]*) {", page.STYLE) == [
        "screen and (prefers-color-scheme: dark)"]


def test_a_long_page_has_contents_that_lead_somewhere(tmp_path: Path) -> None:
    page.write_page(tmp_path / "p.html", "t", [(f"part {k}", "") for k in range(page.LONG)])
    tags = read(tmp_path / "p.html").tags
    goals = {a["id"] for t, a in tags if t == "section"}
    assert {(a["href"] or "")[1:] for t, a in tags if t == "a"} == goals
    page.write_page(tmp_path / "p.html", "t", [("one", ""), ("two", "")])
    assert "nav" not in {t for t, _ in read(tmp_path / "p.html").tags}


def test_a_section_may_bring_its_own_script_and_style(tmp_path: Path) -> None:
    mine = "<style>.mine { color: red; }</style><div class=mine></div><script>let a = 1;</script>"
    policy = '<meta http-equiv="Content-Security-Policy" content="script-src \'unsafe-inline\'">'
    page.write_page(tmp_path / "p.html", "t", [("mine", mine)], policy)
    html = (tmp_path / "p.html").read_text()
    assert mine in html
    assert policy in html
    assert page.NO_SCRIPT not in html


def test_a_name_that_is_no_text_does_not_end_the_work(tmp_path: Path) -> None:
    page.write_page(tmp_path / "p.html", "a\udcff", [])
    assert "a?" in read(tmp_path / "p.html").text


def test_numbers_stand_to_the_right() -> None:
    html = page.table(("unit", "F1", "what"), [("0", "0.981", "12 of"), ("12", page.NONE, "9")])
    assert re.findall(r"<th( class=\"n\")?>(\w+)", html) == [
        (' class="n"', "unit"), (' class="n"', "F1"), ("", "what")]
    assert page.figure(float("nan")) == page.figure(None) == page.NONE
    assert page.figure(0.98765, 3) == "0.988"


def test_a_matrix_is_tinted_by_the_share_of_its_row() -> None:
    html = page.matrix([("a", [75, 25, 0])], ["x", "y", "missed"], [100], 2, "", [0])
    assert re.findall(r"<td([^>]*)>(\d+)", html) == [
        (' class="own" style="--share:0.75"', "75"), (' style="--share:0.25"', "25"),
        (' class="apart"', "0")]
