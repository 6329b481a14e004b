"""Composite alarms: the rule's language, what rests on what, suppression with its waits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicloud.base.errors import CloudError
from minicloud.metric import rule
from minicloud.metric.alarm import name_of
from minicloud.metric.alarms import DeleteAlarms
from minicloud.metric.evaluation import ALARM, INSUFFICIENT, OK, STATES
from tests.pure.alarm_world import AlarmWorld
from tests.pure.metric_world import SCOPE


@pytest.fixture
def world() -> AlarmWorld:
    made = AlarmWorld()
    for name in ("a", "b", "c"):
        made.alarm(name, alarm_actions=(), missing="ignore")  # without data it stays as it was set
        made.set(name, OK)
    made.taken()
    return made


def refused(call: Any, *args: Any, **given: Any) -> str:
    with pytest.raises(CloudError) as caught:
        call(*args, **given)
    assert caught.value.code == "ValidationError"
    return caught.value.message


def true(text: str, **states: str) -> bool:
    return rule.holds(rule.parse(text, name_of), lambda name: states.get(name, INSUFFICIENT))


# guide, "Creating a composite alarm": the examples
@pytest.mark.parametrize(
    ("text", "states", "result"),
    [
        ("ALARM(Cpu) AND ALARM(Disk)", {"Cpu": ALARM, "Disk": ALARM}, True),
        ("ALARM(Cpu) AND ALARM(Disk)", {"Cpu": ALARM, "Disk": OK}, False),
        ("ALARM(Cpu) AND NOT ALARM(Deploy)", {"Cpu": ALARM, "Deploy": OK}, True),
        ("ALARM(Cpu) AND NOT ALARM(Deploy)", {"Cpu": ALARM, "Deploy": ALARM}, False),
        ('(ALARM("Cpu") OR ALARM("Disk")) AND OK("Net")', {"Disk": ALARM, "Net": OK}, True),
        ('(ALARM("Cpu") OR ALARM("Disk")) AND OK("Net")', {"Disk": ALARM}, False),
        ("INSUFFICIENT_DATA(Cpu)", {}, True),
        ("TRUE", {}, True),
        ("FALSE OR NOT FALSE", {}, True),
        ("TRUE OR TRUE AND FALSE", {}, True),
        ("NOT TRUE OR TRUE", {}, True),
        ("NOT (TRUE OR TRUE)", {}, False),
        ("ALARM(arn:aws:cloudwatch:us-east-1:000000000000:alarm:Cpu)", {"Cpu": ALARM}, True),
        ('ALARM( "Cpu (1) AND more" )', {"Cpu (1) AND more": ALARM}, True),
        ("ALARM(Cpu-1.2/x y)", {"Cpu-1.2/x y": ALARM}, True),
        ("OK ( OR ) AND ALARM(AND)", {"OR": OK, "AND": ALARM}, True),
        ("((((ALARM(Cpu)))))", {"Cpu": ALARM}, True),
    ],
)
def test_rules(text: str, states: dict[str, str], result: bool) -> None:
    assert true(text, **states) is result


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("ALARM", 0),
        ("ALARM(", 0),
        ("ALARM()", 0),
        ("ALARM(a", 0),
        ("ALARM(a) ALARM(b)", 9),
        ("ALARM(a) AND", 12),
        ("alarm(a)", 0),
        ("(TRUE", 5),
        ("TRUE)", 4),
        ("NOT", 3),
        ("TRUE & FALSE", 5),
    ],
)
def test_rules_that_are_none(text: str, at: int) -> None:
    with pytest.raises(CloudError) as caught:
        rule.parse(text, name_of)
    assert caught.value.details == {"position": str(at)}


def test_rules_are_bounded() -> None:
    assert "characters" in refused(rule.parse, "", name_of)
    assert "characters" in refused(rule.parse, " OR ".join(["TRUE"] * 2_000), name_of)
    assert "levels" in refused(rule.parse, "(" * 60 + "TRUE" + ")" * 60, name_of)
    assert "levels" in refused(rule.parse, "NOT " * 60 + "TRUE", name_of)
    assert "100" in refused(rule.parse, " OR ".join(f"OK(a{n})" for n in range(101)), name_of)
    assert true(" OR ".join(["FALSE"] * 1_000) + " OR TRUE")


trees = st.recursive(
    st.sampled_from(["TRUE", "FALSE", "ALARM(a)", 'OK("b")', "INSUFFICIENT_DATA(a)"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" AND ", " OR "]), inner).map(lambda parts: f"({''.join(parts)})"),
        inner.map(lambda one: f"NOT {one}"),
    ),
    max_leaves=10,
)


@given(trees, st.sampled_from(STATES), st.sampled_from(STATES))
def test_rules_against_python(text: str, a: str, b: str) -> None:
    plain = text.replace("AND", "and").replace("OR", "or").replace("NOT", "not")
    plain = plain.replace("ALARM(a)", str(a == ALARM)).replace('OK("b")', str(b == OK))
    plain = plain.replace("INSUFFICIENT_DATA(a)", str(a == INSUFFICIENT))
    plain = plain.replace("TRUE", "True").replace("FALSE", "False")
    assert true(text, a=a, b=b) is eval(plain)


def test_a_composite_follows_its_children(world: AlarmWorld) -> None:
    world.composite("both", "ALARM(a) AND ALARM(b)")
    assert world.state("both") == OK
    assert world.taken() == [("both", OK, "topic")]
    world.set("a", ALARM)
    assert world.taken() == []
    world.set("b", ALARM)
    assert world.taken() == [("both", ALARM, "topic")]
    assert world.reason("both").startswith(
        "arn:aws:cloudwatch:us-east-1:000000000000:alarm:b transitioned to ALARM at "
    )
    world.set("a", OK)
    assert world.state("both") == OK


def test_a_diamond_changes_once(world: AlarmWorld) -> None:
    """top rests on left and right, which rest on a: top never sees one of them without the other."""
    world.composite("left", "ALARM(a)")
    world.composite("right", "NOT ALARM(a)")
    world.composite("top", "ALARM(left) AND ALARM(right)")
    world.composite("either", "ALARM(left) OR ALARM(right) OR ALARM(top)")
    world.taken()
    world.set("a", ALARM)
    world.set("a", OK)
    assert [one for one in world.taken() if one[0] in ("top", "either")] == []
    assert len(world.history("top")) == 2


def test_alarms_in_a_tick_move_those_above_once(world: AlarmWorld) -> None:
    world.composite("all", "ALARM(a) AND ALARM(b) AND ALARM(c)")
    for name in ("a", "b", "c"):
        world.put(name, 99.0)
    world.tick(62)
    assert world.state("all") == ALARM


def test_rules_on_what_is_not_there_and_cycles_are_refused(world: AlarmWorld) -> None:
    assert "nobody" in refused(world.composite, "x", "ALARM(nobody)")
    assert "itself" in refused(world.composite, "x", "ALARM(x)")
    world.composite("x", "ALARM(a)")
    world.composite("y", "ALARM(x)")
    world.composite("z", "ALARM(y)")
    assert "cycle" in refused(world.composite, "x", "ALARM(z) OR ALARM(a)")
    assert "itself" in refused(world.composite, "x", "TRUE", suppressor="x", wait_s=1, extension_s=1)
    assert "type" in refused(world.alarm, "x")
    assert "type" in refused(world.composite, "a", "TRUE")
    assert "with it" in refused(world.composite, "w", "TRUE", suppressor="a", wait_s=1)
    assert "with it" in refused(world.composite, "w", "TRUE", wait_s=1, extension_s=1)


def test_nesting_is_bounded(world: AlarmWorld) -> None:
    world.composite("n0", "ALARM(a)")
    for number in range(1, 50):
        world.composite(f"n{number}", f"ALARM(n{number - 1})")
    assert "levels" in refused(world.composite, "n50", "ALARM(n49)")
    world.set("a", ALARM)
    assert world.state("n49") == ALARM


def test_what_others_rest_on_is_not_deleted(world: AlarmWorld) -> None:
    world.composite("x", "ALARM(a)", suppressor="b", wait_s=0, extension_s=0)
    assert "depending on it: x" in refused(world.do, DeleteAlarms(SCOPE, ["a"]))
    assert "depending on it: x" in refused(world.do, DeleteAlarms(SCOPE, ["b"]))
    world.composite("y", "TRUE")
    assert "One composite" in refused(world.do, DeleteAlarms(SCOPE, ["x", "y"]))
    world.do(DeleteAlarms(SCOPE, ["x", "a"]))
    world.do(DeleteAlarms(SCOPE, ["b"]))


# --- suppression


def suppressible(world: AlarmWorld, wait_s: int = 120, extension_s: int = 180) -> None:
    world.composite("x", "ALARM(a)", suppressor="b", wait_s=wait_s, extension_s=extension_s)
    world.tick(300)  # the first change of state has its wait, too
    world.taken()


def hold(world: AlarmWorld, seconds: float, **states: str) -> None:
    """Set states and let time pass."""
    for name, state in states.items():
        world.set(name, state)
    world.tick(seconds)


def test_a_suppressor_in_alarm_holds_actions_back(world: AlarmWorld) -> None:
    suppressible(world)
    hold(world, 5, b=ALARM)
    hold(world, 5, a=ALARM)
    assert world.state("x") == ALARM
    assert world.suppressed("x") == "Alarm"
    assert world.taken() == []
    hold(world, 100, b=OK)
    assert world.suppressed("x") == "ExtensionPeriod"
    assert world.taken() == []
    hold(world, 100)
    assert world.suppressed("x") == ""
    assert world.taken() == [("x", ALARM, "topic")]


def test_the_wait_gives_the_suppressor_time(world: AlarmWorld) -> None:
    suppressible(world)
    hold(world, 60, a=ALARM)
    assert world.suppressed("x") == "WaitPeriod"
    hold(world, 120, b=ALARM)
    assert world.suppressed("x") == "Alarm"
    assert world.taken() == []


def test_the_wait_ends_with_the_actions(world: AlarmWorld) -> None:
    suppressible(world)
    hold(world, 119, a=ALARM)
    assert world.taken() == []
    hold(world, 2)
    assert world.taken() == [("x", ALARM, "topic")]
    assert world.suppressed("x") == ""


def test_what_came_and_went_in_a_wait_tells_nobody(world: AlarmWorld) -> None:
    suppressible(world)
    hold(world, 30, a=ALARM)
    hold(world, 200, a=OK)
    assert world.suppressed("x") == ""
    assert world.taken() == []


def test_a_wait_that_runs_is_not_made_longer_by_another_change(world: AlarmWorld) -> None:
    suppressible(world)
    hold(world, 60, a=ALARM)
    hold(world, 30, a=OK)
    hold(world, 29, a=ALARM)
    assert world.taken() == []
    hold(world, 2)
    assert world.taken() == [("x", ALARM, "topic")]


def test_without_waits_actions_come_at_once(world: AlarmWorld) -> None:
    suppressible(world, 0, 0)
    hold(world, 1, a=ALARM)
    assert world.taken() == [("x", ALARM, "topic")]
    hold(world, 1, b=ALARM)
    hold(world, 1, a=OK)
    assert world.taken() == []
    hold(world, 1, b=OK)
    assert world.taken() == [("x", OK, "topic")]


def test_a_suppressor_that_is_taken_away_lets_go(world: AlarmWorld) -> None:
    suppressible(world)
    hold(world, 5, b=ALARM)
    hold(world, 5, a=ALARM)
    world.composite("x", "ALARM(a)")
    assert world.suppressed("x") == ""
    assert world.taken() == [("x", ALARM, "topic")]
