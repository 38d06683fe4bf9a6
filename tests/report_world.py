"""What the tests of pages share: foreign parsers that read a page back, and a name that attacks."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

LARGEST = 2_000_000
EVIL = '"><script>alert(1)</script><img src=http://evil/x onerror=alert(2)>'
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Reader(HTMLParser):
    """Collects tags and text; knows whether every tag was closed in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.astray: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.astray.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path, scripts: int = 0) -> Reader:
    """A page as a browser sees it, after what holds for every page; `scripts` it has of its own."""
    size = path.stat().st_size
    assert size < LARGEST, f"{size} bytes"
    html = path.read_text()
    reader = Reader()
    reader.feed(html)
    assert (reader.astray, reader.open) == ([], [])
    assert [t for t, _ in reader.tags].count("script") == scripts
    assert not {"img", "link", "iframe", "object", "base"} & {t for t, _ in reader.tags}
    for tag, attrs in reader.tags:
        assert not [a for a in attrs if a.startswith("on") or a in ("src", "xlink:href")], tag
        assert (attrs.get("href") or "#").startswith("#"), attrs
        assert "url(" not in (attrs.get("style") or ""), attrs
    style = "".join(re.findall(r"<style>(.*?)</style>", html, re.S))
    assert style
    assert not re.search(r"url\(|@import|http", style)
    for svg in re.findall(r"<svg.*?</svg>", html, re.S):
        for element in ET.fromstring(svg).iter():
            for name, value in element.attrib.items():
                if name not in ("class", "aria-label", "style"):
                    assert not re.search("nan|inf", value), (element.tag, name, value[:80])
    return reader


def regular(units: int, seconds: float, fs_hz: float = 2048.0, seed: int = 0) -> list[np.ndarray]:
    """Trains of 10 to 16 discharges a second, sorted sample indices."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(units):
        gaps = np.maximum(rng.normal(fs_hz / (10 + k % 7), 20, int(17 * seconds)), 60)
        times = np.cumsum(gaps).astype(np.int64)
        out.append(times[times < seconds * fs_hz])
    return out
