"""One HTML page without any outside file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from spikewire.durable import write_durably

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; margin: 2rem auto;
       max-width: 900px; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; }
table { border-collapse: collapse; } caption { text-align: left; }
td, th { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #d0d7de; text-align: left; }
td { font-variant-numeric: tabular-nums; }
.note { color: #57606a; }
"""

Row = Sequence[object]


def table(head: Row, rows: Sequence[Row]) -> str:
    """An HTML table."""
    def cells(row: Row, tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(c))}</{tag}>" for c in row) + "</tr>"

    body = "".join(cells(r, "td") for r in rows)
    return f"<table><thead>{cells(head, 'th')}</thead><tbody>{body}</tbody></table>"


def note(text: str) -> str:
    """A line of explanation."""
    return f'<p class="note">{escape(text)}</p>'


def write_page(path: Path, title: str, sections: Sequence[tuple[str, str]]) -> None:
    """Write the page; each section is a heading and HTML made by this package."""
    body = "".join(f"<h2>{escape(h)}</h2>{content}" for h, content in sections)
    html = (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
            f"</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{body}"
            "</body></html>\n")
    write_durably(path, lambda file: file.write(html.encode()))
