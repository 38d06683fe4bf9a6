"""What was run: versions as the packages say them, the processor as the system says it."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
from report_world import EVIL, read

import spikewire
from spikewire.report import page, ran


def test_it_names_command_versions_and_processor(tmp_path: Path) -> None:
    page.write_page(tmp_path / "p.html", "t", [ran.section(f"mu-x {EVIL}", [("seed", 7)])])
    text = read(tmp_path / "p.html").text
    for words in (f"mu-x {EVIL}", "seed7", f"spikewire {spikewire.__version__}",
                  f"Python {platform.python_version()}", f"numpy {np.__version__}"):
        assert words in text


def test_the_processor_is_named_where_the_system_names_it(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nmodel name : A B\nprocessor : 1\nmodel name : A B\n")
    assert ran.processor(cpuinfo) == "A B, 2 threads"
    cpuinfo.write_text("processor : 0\n")  # as on aarch64
    assert ran.processor(cpuinfo) == platform.machine()
    assert ran.processor(tmp_path / "none") == platform.machine()
