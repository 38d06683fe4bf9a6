"""The participant's target. Truth: `guide.Plan` itself, sampled every 100 ms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewire.guide import Plan
from spikewire.monitor.exercise import describe
from spikewire.signals import InputError


@settings(max_examples=15)
@given(st.integers(1, 100), st.integers(1, 4), st.integers(10, 30), st.integers(0, 9),
       st.integers(0, 9), st.integers(1, 5))
def test_the_corners_are_the_plan(level: int, contractions: int, hold: int, ramp: int, rest: int,
                                  maximum: int) -> None:
    made = describe(f"level={level}&contractions={contractions}&hold={hold}&ramp={ramp}&rest={rest}"
                    f"&maximum={maximum}")
    plan = Plan(level, contractions, hold, ramp, rest, maximum)
    t, v = np.array(made["corners"]).T
    assert (np.diff(t) >= 0).all()
    at = np.arange(0.01, plan.seconds, 0.1)
    near = np.abs(at[:, None] - t[None]).min(axis=1) < 1e-3
    wanted = np.array([plan.target(x) for x in at])
    assert np.allclose(np.interp(at, t, v)[~near], wanted[~near], atol=0.02)
    assert made["seconds"] == plan.seconds
    assert all(kind in made["words"] for kind, _, _ in made["stages"])


def test_a_known_full_effort_needs_no_maximum() -> None:
    made = describe("level=30&full=400&slot=1")
    assert (made["full"], made["slot"]) == (400, 1)
    assert "maximum" not in made["words"]
    assert "maximum" in describe("")["words"]


@pytest.mark.parametrize(("query", "words"), [
    ("level=0", "level is 0, allowed is 1 to 100"), ("level=nan", "level is nan"),
    ("level=1e400", "level is inf"), ("hold=5", "hold is 5, allowed is 10 to 600"),
    ("level", "names and numbers"), ("level=x", "names and numbers"), ("x=1", "allowed are level"),
    ("level=1&level=2", "each once"), ("full=0", "full is 0"), ("full=nan", "full is nan"),
    ("slot=4", "slot is 4"), ("slot=0.5", "slot is 0.5"), ("contractions=1.5", "whole"),
    ("contractions=nan", "whole"), ("contractions=inf", "whole"), ("contractions=-1", "is -1"),
    ("maximum=0", "then say full"), ("&".join(["level=1"] * 40), "names and numbers"),
    ("level=<script>", "names and numbers"), ("%", "names and numbers"),
])
def test_what_is_no_plan_is_one_line(query: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        describe(query)
    assert "<" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_query_is_a_plan_or_refused(query: str) -> None:
    said = ""
    try:
        assert describe(query)["corners"]
    except InputError as error:
        said = str(error)
    assert "\n" not in said
