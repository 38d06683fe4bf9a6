"""What a participant is asked to do. Truth: arithmetic on the plan's own words."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikewire.guide import BARS, WORDS, Plan, trace
from spikewire.signals import InputError

PLANS = st.builds(
    Plan, level=st.floats(1, 100), contractions=st.integers(1, 5), hold_s=st.floats(10, 60),
    ramp_s=st.one_of(st.just(0.0), st.floats(0.5, 10)),
    rest_s=st.one_of(st.just(0.0), st.floats(0.5, 10)),
    maximum_s=st.one_of(st.just(0.0), st.floats(0.5, 5)))


@given(PLANS)
def test_the_stages_cover_the_plan_without_a_hole(plan: Plan) -> None:
    stages = plan.stages()
    assert stages[0].start_s == 0
    for one, other in itertools.pairwise(stages):
        assert one.stop_s == other.start_s
    seconds = plan.contractions * (plan.rest_s + 2 * plan.ramp_s + plan.hold_s) + plan.rest_s
    seconds += plan.maximum_s + (plan.rest_s if plan.maximum_s else 0)
    assert plan.seconds == pytest.approx(seconds)
    assert sum(s.kind == "hold" for s in stages) == plan.contractions


@given(PLANS)
def test_what_is_held_out_is_the_end_of_the_last_hold(plan: Plan) -> None:
    a, b = plan.hold_out_s()
    assert b - a == pytest.approx(plan.hold_s / 4)
    assert plan.contractions_s()[-1][0] < a < b <= plan.contractions_s()[-1][1]


@given(PLANS, st.floats(0, 1))
def test_the_target_stays_within_what_was_asked(plan: Plan, share: float) -> None:
    t_s = share * plan.seconds
    stage = plan.at(t_s)
    target = plan.target(t_s)
    assert stage.kind in WORDS
    assert 0 <= target <= (100 if stage.kind == "maximum" else plan.level * (1 + 1e-9))
    if stage.kind == "hold":
        assert target == plan.level
    assert set(trace(plan, t_s, 40)) <= set(BARS)
    assert len(trace(plan, t_s, 40)) == 40
    assert plan.words(t_s)


def test_the_ramp_is_straight() -> None:
    plan = Plan(level=20, ramp_s=5, rest_s=3, maximum_s=0)
    assert [plan.target(t) for t in (0, 2.9, 3, 5.5, 8, 30)] == pytest.approx([0, 0, 0, 10, 20, 20])
    assert plan.target(8 + 30 + 2.5) == pytest.approx(10)


@pytest.mark.parametrize(("field", "value", "said"), [
    ("hold_s", 9.0, "--hold is 9, allowed is 10 to 600"), ("level", 0.0, "--level"),
    ("contractions", 0, "--contractions"), ("ramp_s", -1.0, "--ramp"),
    ("rest_s", float("nan"), "--rest"), ("maximum_s", float("inf"), "--maximum")])
def test_what_nobody_can_do_is_refused(field: str, value: float, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Plan(**{field: value})
