"""The thermometer. Truth: files as the kernel shows them, typed here."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from spikewire.runtime import thermal
from spikewire.runtime.thermal import Thermometer, hottest


def zones(folder: Path, *texts: str) -> Path:
    for k, text in enumerate(texts):
        place = folder / f"thermal_zone{k}"
        place.mkdir(exist_ok=True)
        (place / "temp").write_text(text)
    return folder


@pytest.mark.parametrize(("texts", "celsius"), [
    ((), math.nan), (("45500\n",), 45.5), (("45500\n", "61000\n", "-5000\n"), 61.0),
    (("nothing", "39000\n"), 39.0), (("9" * 400, "nan", "30000\n"), 30.0),
    (("-256000\n", "999999999\n"), math.nan),
])
def test_the_hottest_zone_counts(tmp_path: Path, texts: tuple[str, ...], celsius: float) -> None:
    assert hottest(zones(tmp_path, *texts)) == pytest.approx(celsius, nan_ok=True)


def test_it_reads_again_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thermal, "EVERY_S", 0.01)
    thermometer = Thermometer(zones(tmp_path, "40000"))
    assert thermometer.celsius == 40
    zones(tmp_path, "90000")
    limit = time.monotonic() + 2
    while thermometer.celsius != 90 and time.monotonic() < limit:
        time.sleep(0.005)
    assert thermometer.celsius == 90
    thermometer.close()
    thermometer._thread.join(2)
    assert not thermometer._thread.is_alive()


def test_without_sensors_nothing_runs(tmp_path: Path) -> None:
    thermometer = Thermometer(tmp_path)
    assert math.isnan(thermometer.celsius)
    assert not thermometer._thread.is_alive()
    thermometer.close()
