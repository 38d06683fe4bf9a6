"""One HTML page without any outside file, in the look of the live monitor."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from spikewire.durable import write_durably

LONG = 4  # sections from which a page has a table of contents
NUMBER = re.compile(r"[-+\u2212]?\d[\d\s.,:]*(%|dB|ms|s|Hz|uV|/s)?|\u2013|")
NONE = "\u2013"
NO_SCRIPT = ('<meta http-equiv="Content-Security-Policy" '
             "content=\"default-src 'none'; style-src 'unsafe-inline'\">")
STYLE = Path(__file__).with_name("page.css").read_text()

Row = Sequence[object]
Section = tuple[str, str]  # a heading, and HTML made by this package


def figure(value: float | None, digits: int = 2) -> str:
    """A number, or a dash for what is not known."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def table(head: Row, rows: Sequence[Row]) -> str:
    """An HTML table; columns of numbers are set to the right."""
    columns = zip(*([str(c) for c in r] for r in rows), strict=True)
    right = [all(NUMBER.fullmatch(c) for c in column) for column in columns]
    right += [False] * (len(head) - len(right))

    def cells(row: Row, tag: str) -> str:
        kinds = (' class="n"' if n else "" for n in right)
        return "<tr>" + "".join(f"<{tag}{kind}>{escape(str(c))}</{tag}>"
                                for c, kind in zip(row, kinds, strict=True)) + "</tr>"

    body = "".join(cells(r, "td") for r in rows)
    return (f'<div class="scroll"><table><thead>{cells(head, "th")}</thead>'
            f"<tbody>{body}</tbody></table></div>")


def facts(rows: Sequence[tuple[str, object]]) -> str:
    """Names and what is known of them, a line each."""
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>'
                   for name, value in rows)
    return f'<div class="scroll"><table class="facts"><tbody>{body}</tbody></table></div>'


def tiles(rows: Sequence[tuple[str, str, str]]) -> str:
    """The few figures that matter most: name, figure, and what stands small behind it."""
    return '<dl class="tiles">' + "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)} <small>{escape(unit)}</small></dd></div>"
        for name, value, unit in rows) + "</dl>"


def matrix(
    rows: Sequence[tuple[str, Sequence[float]]], columns: Sequence[str], totals: Sequence[float],
    apart: int, corner: str, own: Sequence[int | None],
) -> str:
    """Counts in a square, tinted by their share of the row's total.

    Parameters
    ----------
    rows : name and a count for each column
    columns : names
    totals : of each row
    apart : columns from this one on stand off
    corner : what rows and columns are
    own : for each row the column that is its own, outlined
    """
    def cell(value: float, k: int, total: float, mine: int | None) -> str:
        names = " ".join(n for n, yes in (("own", k == mine), ("apart", k == apart)) if yes)
        share = min(value / total, 1.0) if total else 0.0
        style = f' style="--share:{share:.2f}"' if share >= 0.005 else ""
        kind = f' class="{names}"' if names else ""
        return f"<td{kind}{style}>{value:g}</td>"

    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(cell(v, k, total, mine) for k, v in enumerate(values)) + "</tr>"
        for (name, values), total, mine in zip(rows, totals, own, strict=True))
    return (f'<div class="scroll"><table class="matrix"><thead><tr><th>{escape(corner)}</th>{head}'
            f"</tr></thead><tbody>{body}</tbody></table></div>")


def note(text: str) -> str:
    """A line of explanation."""
    return f'<p class="note">{escape(text)}</p>'


def said(text: str, kind: str = "") -> str:
    """What the page comes down to, in a sentence; `kind` is a verdict's word."""
    return f'<p class="said {escape(kind)}">{escape(text)}</p>'


def write_page(
    path: Path, title: str, sections: Sequence[Section], head: str = NO_SCRIPT, about: str = "",
    top: str = "",
) -> None:
    """Write the page, whole or not at all.

    Parameters
    ----------
    path : Path
    title, about : str
        Headline, and a line below it; any text.
    sections : list of (heading, HTML)
        The HTML is put in as it is, a `<style>` of its own included; whatever in it came from a
        file is escaped by who made it.
    head : HTML of the page's head
        By default no script runs, whoever wrote it; a section that brings one needs its own policy
        here.
    top : HTML above the sections: `said`, `tiles`.
    """
    links = "".join(f'<a href="#s{k}">{escape(h)}</a>' for k, (h, _) in enumerate(sections))
    contents = f'<nav aria-label="Contents">{links}</nav>' if len(sections) >= LONG else ""
    below = f'<p class="about">{escape(about)}</p>' if about else ""
    body = "".join(f'<section id="s{k}"><h2>{escape(h)}</h2>{content}</section>'
                   for k, (h, content) in enumerate(sections))
    html = ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{STYLE}</style>{head}</head><body>"
            f"<header><h1>{escape(title)}</h1>{below}</header>{top}{contents}"
            f"<main>{body}</main></body></html>\n")
    # A file's name may hold what is no text.
    write_durably(path, lambda file: file.write(html.encode("utf-8", "replace")))
