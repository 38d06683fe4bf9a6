"""Tables that benchmarks leave: as text at the end of a run, as JSON and as a page with plots."""

from __future__ import annotations

import json
from pathlib import Path

from spikewire.durable import write_durably
from spikewire.report import page, plots

# table -> x, y and what tells its curves apart
PLOTS = {"growth with units": ("units", "us", "what")}


class Table:
    """Rows of all benchmarks in the order in which they came."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def add(self, title: str, **cells: object) -> None:
        self.rows.append({"table": title} | cells)

    def titles(self) -> list[str]:
        return list(dict.fromkeys(str(r["table"]) for r in self.rows))

    def cells(self, title: str) -> list[list[str]]:
        """Head and rows of one table."""
        rows = [{k: v for k, v in r.items() if k != "table"} for r in self.rows
                if r["table"] == title]
        heads = list(dict.fromkeys(k for r in rows for k in r))
        return [heads, *([show(r.get(h, "")) for h in heads] for r in rows)]

    def text(self) -> str:
        lines = []
        for title in self.titles():
            cells = self.cells(title)
            widths = [max(len(c[k]) for c in cells) for k in range(len(cells[0]))]
            lines += ["", title]
            lines += ["  ".join(c.rjust(w) if k else c.ljust(w)
                                for k, (c, w) in enumerate(zip(row, widths, strict=True)))
                      for row in cells]
        return "\n".join(lines)

    def plot(self, title: str) -> str:
        if title not in PLOTS:
            return ""
        x, y, kind = PLOTS[title]
        rows = [r for r in self.rows if r["table"] == title]
        series = [(str(name), [r[x] for r in rows if r[kind] == name],
                   [r[y] for r in rows if r[kind] == name])
                  for name in dict.fromkeys(r[kind] for r in rows)]
        return plots.curves(series, x, y, max(float(str(r[y])) for r in rows))

    def write(self, path: Path, machine: dict[str, str | int]) -> None:
        """JSON, and the page beside it."""
        content = json.dumps({"machine": machine, "rows": self.rows}, indent=1) + "\n"
        write_durably(path, lambda file: file.write(content.encode()))
        page.write_page(path.with_suffix(".html"), "spikewire: benchmarks", [
            ("Machine", page.facts(list(machine.items()))),
            *((title, page.table(*split(self.cells(title))) + self.plot(title))
              for title in self.titles())])


def split(cells: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    return cells[0], cells[1:]


def show(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


TABLE = Table()
