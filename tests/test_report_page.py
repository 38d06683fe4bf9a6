"""The page: one file, nothing from outside, foreign text escaped (read back by html.parser)."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from spikewire.report import page


class Reader(HTMLParser):
    """Collects tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_self_contained_and_escapes(tmp_path: Path) -> None:
    out = tmp_path / "p.html"
    evil = "<script>alert(1)</script>"
    page.write_page(out, evil, [(evil, page.table((evil,), [(evil, 3)]) + page.note(evil))])
    reader = Reader()
    reader.feed(out.read_text())
    tags = [t for t, _ in reader.tags]
    assert "script" not in tags
    assert not [a for _, attrs in reader.tags for a in attrs if a in ("src", "href")]
    assert reader.text.count(evil) == 6  # title, heading, section, head, cell, note
    assert tags.count("td") == 2
