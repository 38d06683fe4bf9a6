"""The limits file of an adapter.

Truth: the ceilings written here by hand, half of what the H3's controller (50 N.m) and the AK80-9's
packet (18 N.m) take. A file is any table of keys and values that hypothesis thinks of.
"""

from __future__ import annotations

import json
import math
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.adapters import h3, mit
from spikewire.adapters.limits import COMMON, Limits, Row, bounded, read_limits
from spikewire.signals import InputError

DOCS = Path(__file__).parent.parent / "docs" / "adapters"
GIVEN = {"sign": 1, "gain_nm_per_pps": 0.1, "threshold_pps": 20.0}
# machine -> its keys, largest torque, fastest rate, largest trip, by hand
MACHINES = {"h3": (h3.ROWS, 25.0, 100.0, 50.0), "mit": (mit.ROWS, 9.0, 50.0, 17.0)}


def toml(values: dict[str, Any]) -> str:
    """Write a table; TOML spells text as JSON does, and NaN and infinity as Python does."""
    spell = {bool: lambda v: str(v).lower(), str: json.dumps}
    return "".join(f"{json.dumps(key)} = {spell.get(type(value), repr)(value)}\n"
                   for key, value in values.items())


def read(values: dict[str, Any], machine: str = "h3") -> Limits:
    """Read a table as a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "limits.toml"
        path.write_text(toml(values), encoding="utf-8")
        return read_limits(path, MACHINES[machine][0])


def test_the_example_in_the_documentation_is_an_ankle_far_below_its_ceiling() -> None:
    limits = read_limits(DOCS / "h3_ankle.toml", h3.ROWS)
    assert limits.own == {"joint": "right_ankle"}
    assert limits.max_nm <= 10.0
    assert limits.sign in (1, -1)
    text = (DOCS / "h3_ankle.toml").read_text()
    for key in {**COMMON, **h3.ROWS}:
        assert f"\n{key} =" in text, f"{key} is not shown in the example"


def test_the_documentation_names_every_key_and_what_it_may_be() -> None:
    def cell(rows: dict[str, Row], key: str) -> str:
        if key not in rows:
            return ""
        default = rows[key].default
        shown = f"{default:g}" if type(default) is float else default
        return f"{'required' if default is None else shown}; {rows[key].allowed} "

    page = (DOCS.parent / "adapters.md").read_text()
    for key in {**COMMON, **h3.ROWS, **mit.ROWS}:
        cells = [cell({**COMMON, **rows}, key) for rows in (h3.ROWS, mit.ROWS)]
        assert f"| `{key}` | {cells[0]}| {cells[1]}|\n" in page, key


def test_without_a_toml_reader_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.10 has none of its own."""
    for name in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"type: pip install 'spikewire\[can\]'"):
        read(GIVEN)


def test_what_a_file_leaves_out() -> None:
    """Facts: ankle, 10 N.m; what belongs to a person has no default."""
    limits = read(GIVEN)
    assert (limits.max_nm, limits.own["joint"]) == (10.0, "right_ankle")
    assert (read(GIVEN, "mit").max_nm, read(GIVEN, "mit").own["can_id"]) == (3.0, 1)
    for key in GIVEN:
        with pytest.raises(InputError, match=f"key '{key}' is missing, allowed is "):
            read({k: v for k, v in GIVEN.items() if k != key})


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("sign", 0, "sign is 0, allowed is 1 or -1"),
        ("sign", True, "sign is True, allowed is 1 or -1"),
        ("sign", 1.0, "sign is 1.0, allowed is 1 or -1"),
        ("gain_nm_per_pps", -0.1, "gain_nm_per_pps is -0.1, allowed is 0 to 1 N.m per pulse/s"),
        ("gain_nm_per_pps", math.nan, "gain_nm_per_pps is nan, allowed is 0 to 1 N.m"),
        ("threshold_pps", "20", "threshold_pps is '20', allowed is 0 to 6553.3 pulse/s"),
        ("rate_nm_per_s", 0, "rate_nm_per_s is 0, allowed is 0.1 to "),
        ("rate_nm_per_s", math.inf, "rate_nm_per_s is inf, allowed is 0.1 to "),
        ("max_nm", 25.1, "max_nm is 25.1, allowed is 0 to "),
        ("max_nm", 10**400, "max_nm is 1000"),
        ("trip_nm", 50.1, "trip_nm is 50.1, allowed is 1 to "),
        ("max_torque", 5, "key 'max_torque' is unknown, allowed are sign, gain_nm_per_pps, "),
    ],
)
def test_one_line_names_key_value_and_what_is_allowed(
    machine: str, key: str, value: Any, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        read({**GIVEN, key: value}, machine)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trip_below_the_largest_torque_is_refused() -> None:
    with pytest.raises(InputError, match=r"trip_nm is 5, allowed is max_nm \(8\) or more"):
        read({**GIVEN, "max_nm": 8, "trip_nm": 5})


def test_keys_of_another_machine_are_refused() -> None:
    with pytest.raises(InputError, match="key 'can_id' is unknown"):
        read({**GIVEN, "can_id": 1}, "h3")
    with pytest.raises(InputError, match="key 'joint' is unknown"):
        read({**GIVEN, "joint": "right_ankle"}, "mit")


@pytest.mark.parametrize(("content", "words"), [
    (None, "cannot read the limits"), (b"sign == 1", "not a TOML file"),
    (b"\xff", "not a TOML file"),
])
def test_files_that_are_none(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_limits(path, h3.ROWS)


KEYS = st.sampled_from(sorted({*COMMON, *h3.ROWS, *mit.ROWS, "max_torque", ""}))
ANY = st.one_of(st.booleans(), st.integers(-10**6, 10**6), st.floats(),
                st.text('a"\n=#', max_size=3), st.sampled_from([*h3.JOINTS, *mit.MOTORS]))


@pytest.mark.parametrize("machine", MACHINES)
@given(st.dictionaries(KEYS, ANY, max_size=8),
       st.fixed_dictionaries({}, optional={"max_nm": st.floats(0, 60), "trip_nm": st.floats(0, 60),
                                           "rate_nm_per_s": st.floats(0, 200)}),
       st.floats())
def test_no_file_lifts_a_ceiling(
    machine: str, wild: dict[str, Any], likely: dict[str, Any], nm: float
) -> None:
    """Any file is refused or stays below; and what is sent stays below whatever the limits say."""
    _, most, fastest, reported = MACHINES[machine]
    try:
        limits = read({**GIVEN, **wild, **likely}, machine)
    except InputError:
        limits = read(GIVEN, machine)
    assert 0 <= limits.max_nm <= most
    assert limits.max_nm <= limits.trip_nm <= reported
    assert 0.1 <= limits.rate_nm_per_s <= fastest
    assert limits.sign in (1, -1)
    assert 0 <= limits.gain_nm_per_pps <= 1
    assert 0 <= limits.threshold_pps <= 6553.3
    for changed in (limits, replace(limits, max_nm=1e9)):
        assert abs(sent_nm(machine, changed, nm)) <= most


def sent_nm(machine: str, limits: Limits, nm: float) -> float:
    """What one set-point says on the wire, read here."""
    make: Callable[[Limits], Any] = {"h3": h3.H3, "mit": mit.Mit}[machine]
    ((_, data),) = make(limits).torque(nm)
    if machine == "h3":
        return max(struct.unpack("6b", data), key=abs)
    return int.from_bytes(data, "big") % 4096 * 36 / 4095 - 18


@given(st.floats(), st.floats(0, 100))
def test_bounded(nm: float, most: float) -> None:
    if math.isnan(nm):
        assert bounded(nm, most) == 0
    else:
        assert bounded(nm, most) == sorted((-most, nm, most))[1]
