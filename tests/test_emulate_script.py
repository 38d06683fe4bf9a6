"""The fault script. Truth: the grammar `SECONDS NAME [AMOUNT]`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.emulate.script import FAULTS, Event, parse_script, read_script
from spikewire.signals import InputError


def test_a_script_is_read_in_order_of_time() -> None:
    text = "3 stall 0.5; 2 drop 50\n# nothing\n4.5 partial # half a sample\n\n"
    assert parse_script(text) == [Event(2, "drop", 50), Event(3, "stall", 0.5),
                                  Event(4.5, "partial", 0)]


def test_a_script_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "faults").write_text("1 reset\n")
    assert read_script(str(tmp_path / "faults")) == read_script("1 reset") == [Event(1, "reset", 0)]
    assert len(read_script("; ".join(f"{k} reset" for k in range(500)))) == 500  # no file's name


@pytest.mark.parametrize(("text", "words"), [
    ("drop 50", "allowed is SECONDS NAME"), ("1 explode", "NAME one of drop, duplicate"),
    ("-1 drop 5", "allowed is SECONDS NAME"), ("nan drop 5", "allowed is SECONDS NAME"),
    ("1 drop", "drop takes one amount, in samples"), ("1 reset 5", "reset takes no amount"),
    ("1 drop 0", "0 came, allowed is a whole number, 1 to 200000 samples"),
    ("1 drop 1.5", "1.5 came"), ("1 stall inf", "inf came"), ("1 dead 64", "0 to 63 channel"),
    ("1 drop 5 6", "allowed is SECONDS NAME"),
])
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_script(text)
    assert words in str(caught.value)
    assert repr(text) in str(caught.value)


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "faults").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not readable"):
        read_script(str(tmp_path / "faults"))


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        events = parse_script(text)
    except InputError:
        return
    assert all(e.name in FAULTS for e in events)
