"""The hottest part of the board, read by a thread of its own: a sensor may take milliseconds."""

from __future__ import annotations

import math
import threading
from pathlib import Path

ZONES = Path("/sys/class/thermal")
EVERY_S = 2.0
COLDEST, HOTTEST = -40.0, 200.0  # anything else is no temperature


def hottest(zones: Path = ZONES) -> float:
    """Degrees Celsius of the hottest thermal zone; NaN if none can be read."""
    found = []
    for zone in zones.glob("thermal_zone*/temp"):
        try:
            celsius = float(zone.read_text()) / 1e3
        except (OSError, ValueError):  # a part that is switched off says so with an error
            continue
        if COLDEST < celsius < HOTTEST:
            found.append(celsius)
    return max(found, default=math.nan)


class Thermometer:
    """Reads again every two seconds until it is closed.

    Attributes
    ----------
    celsius : float, of the last reading
    """

    def __init__(self, zones: Path = ZONES) -> None:
        self.celsius = hottest(zones)
        self._zones, self._end = zones, threading.Event()
        self._thread = threading.Thread(target=self._read, name="thermometer", daemon=True)
        if not math.isnan(self.celsius):
            self._thread.start()

    def _read(self) -> None:
        while not self._end.wait(EVERY_S):
            self.celsius = hottest(self._zones)

    def close(self) -> None:
        """Stop reading."""
        self._end.set()
