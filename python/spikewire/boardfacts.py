"""What is known of a board: plain facts, and beside each what it may be, in words and as a test."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
VERSION = r"\d{1,3}(\.\d{1,4}){1,3}"


class Row(NamedTuple):
    """What one key may be, in words and as a test, and what is made of it."""

    allowed: str
    holds: Callable[[Any], bool]
    make: Callable[[Any], Any] = lambda value: value

    def key(self, default: Any = None) -> Any:
        """Return a field of a dataclass under this row; without a default it must be given."""
        return field(metadata={"row": self, "default": default})


def text(allowed: str, pattern: str) -> Row:
    """Return the row of a text that fits a pattern."""
    fits = re.compile(pattern, re.ASCII).fullmatch
    return Row(allowed, lambda v: isinstance(v, str) and fits(v) is not None)


def whole(low: int, high: int) -> Row:
    """Return the row of an integer."""
    return Row(f"{low} to {high}", lambda v: type(v) is int and low <= v <= high)


def number(low: float, high: float) -> Row:
    """Return the row of a number; NaN is in no range."""
    return Row(f"{low:g} to {high:g}", lambda v: type(v) in (int, float) and low <= v <= high,
               float)


def choice(*values: Any) -> Row:
    """Return the row of one of some values."""
    words = (str(v).lower() if type(v) is bool else str(v) for v in values)
    return Row(" or ".join(words), lambda v: any(type(v) is type(x) and v == x for x in values))


def several(row: Row) -> Row:
    """Return the row of a list, each item under another row."""
    return Row(f"a list of at most 16, each: {row.allowed}",
               lambda v: isinstance(v, list) and len(v) <= 16 and all(map(row.holds, v)), tuple)


def _is_pinmux(value: Any) -> bool:
    """Whether a value is "sfio" or pairs of numbers; which numbers depends on the SoC."""
    return value == "sfio" or (isinstance(value, list) and 0 < len(value) <= 8 and all(
        isinstance(pair, list) and [type(x) for x in pair] == [int, int] for pair in value))


YES_NO = choice(True, False)
PINMUX = Row('"sfio" or a list of [address, value]', _is_pinmux,
             lambda v: v if v == "sfio" else tuple(tuple(pair) for pair in v))


def rows(section: type) -> dict[str, tuple[Row, Any]]:
    """Return the keys of a section: row and default of each."""
    return {f.name: (f.metadata["row"], f.metadata["default"])
            for f in fields(section) if f.metadata}


@dataclass(frozen=True, kw_only=True)
class JetPack:
    """One JetPack that a board may run, with the versions it brings.

    Attributes
    ----------
    version : str, such as "6.2"
    l4t : str
        Oldest Jetson Linux of it; any later one of the same major version passes.
    tensorrt, cuda, python : str
    """

    version: str = text("such as 6.2", r"\d{1,2}\.\d{1,2}(\.\d{1,2})?").key()
    l4t: str = text("such as 36.4.3", VERSION).key()
    tensorrt: str = text("such as 10.3.0", VERSION).key()
    cuda: str = text("such as 12.6", VERSION).key()
    python: str = text("such as 3.10", r"3\.\d{1,2}").key()


@dataclass(frozen=True, kw_only=True)
class Flash:
    """NVIDIA's own command that writes a whole board, typed in Linux_for_Tegra.

    Attributes
    ----------
    jetpack : str, one of the board's
    storage : str, "nvme", "sd" or "emmc"
    command : str
    """

    jetpack: str = text("the version of one of the board's jetpack sections", r"[\d.]{1,8}").key()
    storage: str = choice("nvme", "sd", "emmc").key()
    command: str = text("sudo ./... of letters, digits, spaces and _./=\"-",
                        r"sudo \./[\w ./=\"-]{1,400}").key()


@dataclass(frozen=True, kw_only=True)
class Power:
    """Power mode and clocks.

    Attributes
    ----------
    mode : str
        By name, since numbers differ between boards; "" leaves the mode alone.
    jetson_clocks : bool
        Lock the clocks at the mode's highest.
    allow_maxn_super : bool
        Let `mode` be MAXN_SUPER, for which not every carrier is cooled.
    """

    mode: str = text('the name of a mode, or ""', r"\w{0,40}").key()
    jetson_clocks: bool = YES_NO.key()
    allow_maxn_super: bool = YES_NO.key()


@dataclass(frozen=True, kw_only=True)
class Can:
    """One CAN interface with its full bit timing.

    Attributes
    ----------
    dt : str
        Its device, as /sys/class/net/can0/device names it: "c310000.mttcan".
    pinmux : "sfio" or tuple of (address, value)
        "sfio": the pins are CAN from power-on; else 32-bit registers to write before it is up.
    bitrate, dbitrate : int, bit/s; the second one of FD data
    sample_point, dsample_point : float, share of a bit
    sjw, dsjw : int, time quanta
    fd : bool
        Whether FD frames may pass; dbitrate, dsample_point and dsjw count only then.
    txqueuelen : int, frames
    transceiver : "external", "onboard" or "none"
    """

    dt: str = text('such as "c310000.mttcan"', r"[\w.:-]{1,40}").key()
    pinmux: str | tuple[tuple[int, int], ...] = PINMUX.key()
    bitrate: int = whole(10_000, 1_000_000).key()
    dbitrate: int = whole(10_000, 8_000_000).key()
    sample_point: float = number(0.5, 0.95).key()
    dsample_point: float = number(0.5, 0.95).key()
    sjw: int = whole(1, 128).key()
    dsjw: int = whole(1, 16).key()
    fd: bool = YES_NO.key()
    txqueuelen: int = whole(1, 1000).key()
    transceiver: str = choice("external", "onboard", "none").key()


@dataclass(frozen=True, kw_only=True)
class Uart:
    """One serial port, bound by its address: ttyTHS numbers move between JetPacks.

    Attributes
    ----------
    dt : str, such as "3100000.serial"
    symlink : str
        Its name below /dev.
    baud, stop_bits : int
    getty : str
        Unit of a login that may hold it; "" if there is none.
    """

    dt: str = text('such as "3100000.serial"', r"[0-9a-f]{4,12}\.serial").key()
    symlink: str = text("spikewire-NAME", r"spikewire-[a-z0-9]{1,20}").key()
    baud: int = choice(115200, 230400, 460800, 921600).key()
    stop_bits: int = choice(1, 2).key()
    getty: str = text('a unit, such as "nvgetty.service", or ""', r"([\w@-]{1,60}\.service)?").key()


@dataclass(frozen=True, kw_only=True)
class Realtime:
    """What the runtime may ask of the scheduler.

    Attributes
    ----------
    priority : int
        Highest SCHED_FIFO priority; the loop takes 20.
    cpus : tuple of int
        Cores of the runtime, the loop on the first; empty: any.
    """

    priority: int = whole(20, 90).key()
    cpus: tuple[int, ...] = several(whole(0, 255)).key()


@dataclass(frozen=True, kw_only=True)
class Board:
    """One board.

    Attributes
    ----------
    id, title : str
    verified : str
        "none", or "bench:DATE,WHO,LOG" once a log from this hardware is in the repository.
    supported, reason : bool, str
        Why not, if not.
    arch : "aarch64" or "x86_64"
    compatible : tuple of str
        Beginnings of the device tree's `compatible` entries, of which one must fit; empty: any.
    soc : str, "any" if it does not matter
    sm : int
        Compute capability of the GPU, 87 for 8.7; 0 without one.
    cores, dla : int; 0 cores: not known
    mem_bw_gbs : float, GB/s; 0: not known
    python : tuple of str
        Versions that a release can be built for.
    glibc : str
        Oldest C library that a release must run on.
    engine : "tensorrt" or "native"
    power, realtime, jetpack, flash, can, uart
        Their sections.
    """

    id: str = text("small letters, digits, _ and -", r"[a-z0-9][a-z0-9_-]{0,39}").key()
    title: str = text("1 to 80 printable characters", r"[ -~]{1,80}").key()
    verified: str = text('"none" or "bench:YYYY-MM-DD,WHO,LOG"',
                         r"none|bench:\d{4}-\d\d-\d\d,[\w .-]{1,60},[\w./-]{1,120}").key()
    supported: bool = YES_NO.key()
    reason: str = text("a sentence of printable characters", r"[ -~]{0,200}").key("")
    arch: str = choice("aarch64", "x86_64").key()
    compatible: tuple[str, ...] = several(
        text("letters, digits and ,+._-", r"[\w,+.-]{3,80}")).key()
    soc: str = text("small letters and digits", r"[a-z0-9]{1,16}").key()
    sm: int = whole(0, 130).key()
    cores: int = whole(0, 256).key()
    mem_bw_gbs: float = number(0, 10_000).key()
    dla: int = whole(0, 4).key()
    python: tuple[str, ...] = several(choice(*PYTHONS)).key()
    glibc: str = text("such as 2.35", r"2\.\d{1,2}").key()
    engine: str = choice("tensorrt", "native").key()
    power: Power
    realtime: Realtime
    jetpack: tuple[JetPack, ...]
    flash: tuple[Flash, ...]
    can: Mapping[str, Can]
    uart: Mapping[str, Uart]
