"""What goes out with a step, and when.

Truth: the contract (which messages each profile has, 1 Hz, 10 Hz and at once, three times when the
mask changes, banks of 24 counts), typed here again.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from spikewire.link.codec import Arm, FrameError, Notice, Step, decode
from spikewire.link.profile import PROFILES, Framer, Info, Vitals
from spikewire.link.table import STATES, STEP, table_number

RATE = {  # messages of 1024 steps, ten seconds, one bundle of 30 units
    "full": {"STEP": 1024, "STATUS": 103, "INFO": 11, "INFO2": 11, "VALID": 11},
    "short": {"SHORT": 1024, "INFO": 11, "INFO2": 11},
    "classic": {"DRIVE": 1024, "STATUS": 103, "INFO": 11, "INFO2": 11},
    "counts": {"DRIVE": 1024, "COUNTS": 2048, "STATUS": 103, "INFO": 11, "INFO2": 11, "VALID": 11},
    "fd": {"STEP": 1024, "STATUS": 103, "INFO": 11, "INFO2": 11, "VALID": 11},
}


def step(number: int, **change: Any) -> Step:
    usual = {"step": number, "state": 2, "n_mu": 30, "counts": np.ones(30, np.uint8)}
    return Step(**usual | change)


def read(framer: Framer, steps: list[Step], vitals: Vitals | None = None) -> list[Any]:
    """Messages of one step, decoded."""
    return [(p.message.name, decode(p.message, p.slot, p.data, framer.base))
            for p in framer.frames(steps, vitals or Vitals())]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_message_has_its_rate(profile: str) -> None:
    framer, seen = Framer(profile, Info(7, (30,))), Counter[str]()
    for number in range(1024):
        names = [name for name, _ in read(framer, [step(number)])]
        assert names[0] in ("STEP", "SHORT", "DRIVE")
        seen.update(names)
        assert len(names) <= 3 + 2  # no burst: the periodic ones come at different steps
    assert all(abs(seen[name] - count) <= 2 for name, count in RATE[profile].items())
    assert set(seen) == set(RATE[profile])


def test_infos_come_with_the_first_two_steps() -> None:
    """So that a receiver believes from the third step on."""
    framer = Framer("full", Info(0xDEADBEEF, (30, 20)))
    first, second = (dict(read(framer, [step(n), step(n, slot=1)])) for n in (0, 1))
    info, info2 = first["INFO"], second["INFO2"]
    assert isinstance(info, Notice)
    assert isinstance(info2, Notice)
    assert info.values == {"proto": 1, "n_mu": 50, "step_period_us": 9766, "model_id": 0xDEADBEEF}
    assert info2.values == {"counter": 0, "table_hash": table_number()}


def test_status_comes_at_once_when_the_state_changes() -> None:
    framer = Framer("classic", Info(7, (30,)))
    states = [STATES[2], STATES[2], STATES[3], STATES[3], STATES[6]]
    number = {name: key for key, name in STATES.items()}
    said = []
    for k, state in enumerate(states):
        found = dict(read(framer, [step(k, state=number[state], faults=5, good_channels=61)],
                          Vitals(9.5, 41.0)))
        said.append(found.get("STATUS"))
    assert [s is not None for s in said] == [True, False, True, False, True]
    assert said[4].values == {"counter": 2, "state": 6, "faults": 5, "good_channels": 61,
                              "n_mu": 30, "latency_p99_ms": 9.5, "temperature_c": 41.0}


def test_counts_are_those_of_all_bundles_in_banks_of_24() -> None:
    framer = Framer("counts", Info(7, (20, 30)))
    counts = np.arange(50) % 4
    sent = [step(0, counts=counts[:20].astype(np.uint8)),
            step(0, slot=1, counts=counts[20:].astype(np.uint8))]
    banks = [n.values for name, n in read(framer, sent) if name == "COUNTS"]
    assert [b["bank"] for b in banks] == [0, 1, 2]
    assert np.concatenate([b["counts"] for b in banks])[:50].tolist() == counts.tolist()


def test_counts_that_are_not_known_are_not_sent() -> None:
    """A bank of zeros would say that nobody fired."""
    framer = Framer("counts", Info(7, (20, 30)))
    sent = [step(0, counts=np.ones(20, np.uint8)), step(0, slot=1, counts=np.zeros(0, np.uint8))]
    assert "COUNTS" not in dict(read(framer, sent))


def test_a_muted_unit_leaves_the_mask_and_that_is_said_three_times() -> None:
    framer, masks = Framer("counts", Info(7, (3, 2))), []
    for number in range(300):
        muted = np.array([1]) if number >= 150 else np.zeros(0, np.int64)
        found = dict(read(framer, [step(number, counts=np.zeros(3, np.uint8), muted=muted),
                                   step(number, slot=1, counts=np.zeros(2, np.uint8))]))
        if "VALID" in found:
            masks.append((number, found["VALID"].values["units"].tolist()[:6]))
    before, after = [1, 1, 1, 1, 1, 0], [1, 0, 1, 1, 1, 0]
    assert [m for k, m in masks if k < 150] == [before] * 2
    assert [(k, m) for k, m in masks if 150 <= k < 160] == [(k, after) for k in (150, 151, 152)]


def test_what_has_no_room_is_refused() -> None:
    with pytest.raises(FrameError, match=r"70 motor units came.*room for 64; take another"):
        Framer("counts", Info(7, (40, 30)))
    with pytest.raises(FrameError, match="5 bundles came, up to 4 fit"):
        Framer("full", Info(7, (1,) * 5))


def test_a_refused_step_moves_no_counter() -> None:
    framer = Framer("full", Info(7, (30,)))
    framer.frames([step(0)])
    with pytest.raises(FrameError):
        framer.frames([step(1, state=9)])
    assert [s.counter for _, s in read(framer, [step(1)]) if isinstance(s, Step)] == [1]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_works_at_a_low_base(profile: str) -> None:
    """SHORT has no identifier that could be moved below 0."""
    framer = Framer(profile, Info(7, (30,)), base=0)
    (_, first), *_ = read(framer, [step(5)])
    assert isinstance(first, Step)


def test_another_base_moves_identifiers_and_crcs() -> None:
    framer = Framer("classic", Info(7, (30,)), base=0x100)
    (first, *_) = framer.frames([step(0)])
    assert isinstance(decode(first.message, 0, first.data, 0x100), Step)
    with pytest.raises(FrameError, match="crc"):
        decode(first.message, 0, first.data)
    assert not isinstance(first, Arm)
    assert first.message is not STEP
