"""Events from where they happen to targets: matched, on disk, delivered, tried again, given up; killed in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import (
    AccessDenied,
    InsufficientStorage,
    Internal,
    NotFound,
    Throttled,
    Unavailable,
)
from minicloud.event import commands, limits
from minicloud.event.events import Flaw
from minicloud.event.links.delivery import EVENT, PARCEL
from minicloud.event.model import Target
from tests.contract.rule_bench import DEAD, FUNCTION, HOME, OTHER, QUEUE, STATES, Bench, state_change

TO_QUEUE = Target("q", QUEUE)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = await Bench().start()
    yield made
    await made.stop()


def on_disk(bench: Bench) -> int:
    return sum(kind == PARCEL for kind, _ in bench.disk.rows)


async def test_an_event_goes_to_every_target_of_every_rule_that_matches(bench: Bench) -> None:
    await bench.rule(TO_QUEUE, Target("f", FUNCTION, input='{"a":1}'))
    await bench.rule(TO_QUEUE, name="all", pattern='{"source":[{"prefix":"my."}]}')
    await bench.rule(TO_QUEUE, name="off", enabled=False)
    await bench.rule(TO_QUEUE, name="other", pattern='{"source":["other"]}')
    await bench.rule(name="nowhere")
    (event_id,) = await bench.send(n=1)
    await bench.until(lambda: len(bench.world.arrived) == 3 and not on_disk(bench))
    assert sorted((arn, rule) for arn, rule, _ in bench.world.arrived) == sorted(
        [(QUEUE, "r"), (FUNCTION, "r"), (QUEUE, "all")]
    )
    event = bench.world.events()[0]
    assert (event["id"], event["source"], event["detail"], event["account"]) == (event_id, "my.app", {"n": 1}, "0" * 12)
    assert bench.world.events(FUNCTION) == [{"a": 1}]


async def test_an_entry_that_is_not_taken_holds_up_no_other(bench: Bench) -> None:
    await bench.rule(TO_QUEUE)
    first, second, third = await bench.send("my.app", "aws.ec2", "my.app")
    assert isinstance(second, Flaw) and second.code == "NotAuthorizedForSourceException"
    await bench.until(lambda: len(bench.world.arrived) == 2)
    assert {event["id"] for event in bench.world.events()} == {first, third}


async def test_another_accounts_events_do_not_match(bench: Bench) -> None:
    await bench.rule(TO_QUEUE)
    await bench.send(scope=OTHER)
    await bench.send()
    await bench.until(lambda: bench.world.arrived)
    assert [event["account"] for event in bench.world.events()] == [HOME.account]


async def test_what_is_taken_survives_a_kill_and_arrives(bench: Bench) -> None:
    await bench.rule(TO_QUEUE)
    bench.world.refuse[QUEUE] = Unavailable("away")
    await bench.send(n=1)
    await bench.until(lambda: bench.world.tried)
    assert on_disk(bench) == 1
    del bench.world.refuse[QUEUE]
    await bench.again()
    await bench.until(lambda: bench.world.arrived and not on_disk(bench))
    assert bench.world.events()[0]["detail"] == {"n": 1}
    await bench.again()
    await bench.send(n=2)  # a number that was used is not used again while it waits
    await bench.until(lambda: len(bench.world.arrived) == 2)


async def test_a_target_as_it_was_when_the_event_came(bench: Bench) -> None:
    await bench.rule(TO_QUEUE)
    bench.world.refuse[QUEUE], bench.world.times[QUEUE] = Throttled("slow"), 1
    await bench.send()
    await bench.until(lambda: bench.world.tried == 1)
    await bench.service.submit(commands.RemoveTargets(HOME, "r", ("q",)))
    await bench.service.submit(commands.DeleteRule(HOME, "r"))
    await bench.move(1.0, lambda: bench.world.arrived)


async def test_a_target_that_is_away_is_tried_again_with_growing_pauses(bench: Bench) -> None:
    await bench.rule(TO_QUEUE)
    bench.world.refuse[QUEUE], bench.world.times[QUEUE] = Unavailable("away"), 4
    await bench.send()
    for tries, pause_s in enumerate((0.0, 1.0, 2.0, 4.0), 1):
        await bench.move(pause_s, lambda tries=tries: bench.world.tried == tries)  # type: ignore[misc]
    await bench.clock.advance(7.9)
    assert not bench.world.arrived
    await bench.move(0.2, lambda: bench.world.arrived)
    assert bench.world.tried == 5


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("gone"), "NO_RESOURCE"),
        (AccessDenied("no"), "NO_PERMISSIONS"),
    ],
)
async def test_a_refusal_is_a_dead_letter_at_once(bench: Bench, error: Exception, code: str) -> None:
    made = await bench.rule(replace(TO_QUEUE, dead_letter=DEAD))
    bench.world.refuse[QUEUE] = error
    await bench.send(n=1)
    await bench.until(lambda: bench.world.dead and not on_disk(bench))
    queue, body, attributes = bench.world.dead[0]
    assert queue == DEAD and json.loads(body)["detail"] == {"n": 1}
    assert attributes == {
        "RULE_ARN": made.arn,
        "TARGET_ARN": QUEUE,
        "ERROR_CODE": code,
        "ERROR_MESSAGE": str(error).partition(": ")[2],
        "RETRY_ATTEMPTS": "0",
    }
    assert bench.world.tried == 1


async def test_a_refusal_without_a_dead_letter_queue_is_dropped(bench: Bench) -> None:
    await bench.rule(TO_QUEUE)
    bench.world.refuse[QUEUE] = NotFound("gone")
    await bench.send()
    await bench.until(lambda: bench.world.tried and not on_disk(bench))


async def test_tries_end_by_number_and_by_age(bench: Bench) -> None:
    letters = replace(TO_QUEUE, dead_letter=DEAD)
    await bench.rule(
        replace(letters, id="n", retries=2), replace(letters, id="0", retries=0), replace(letters, age_s=60)
    )
    bench.world.refuse[QUEUE] = Throttled("slow")
    await bench.send()
    await bench.until(lambda: len(bench.world.dead) == 1)
    await bench.move(3.0, lambda: len(bench.world.dead) == 2)
    await bench.move(70.0, lambda: len(bench.world.dead) == 3 and not on_disk(bench))
    found = [(one["RETRY_ATTEMPTS"], one["EXHAUSTED_RETRY_CONDITION"]) for _, _, one in bench.world.dead]
    assert found == [("0", "MaximumRetryAttempts"), ("2", "MaximumRetryAttempts"), ("6", "MaximumEventAgeInSeconds")]
    assert {one["ERROR_CODE"] for _, _, one in bench.world.dead} == {"THROTTLING"}


async def test_a_dead_letter_queue_that_is_away_is_waited_for_and_one_that_is_gone_is_not(bench: Bench) -> None:
    await bench.rule(replace(TO_QUEUE, dead_letter=DEAD))
    bench.world.refuse[QUEUE] = NotFound("gone")
    bench.world.refuse[DEAD], bench.world.times[DEAD] = Unavailable("away"), 2
    await bench.send()
    await bench.move(10.0, lambda: len(bench.world.dead) == 1 and not on_disk(bench))
    bench.world.refuse[DEAD], bench.world.times[DEAD] = NotFound("gone"), 9
    await bench.send()
    await bench.until(lambda: not on_disk(bench))
    assert len(bench.world.dead) == 1


async def test_a_flaw_of_ours_with_one_event_is_bounded_as_well(bench: Bench) -> None:
    await bench.rule(replace(TO_QUEUE, retries=1, dead_letter=DEAD))
    bench.world.refuse[QUEUE] = ValueError("oops")
    await bench.send()
    await bench.move(5.0, lambda: bench.world.dead and not on_disk(bench))
    assert bench.world.dead[0][2]["ERROR_CODE"] == "INTERNAL_ERROR"


async def test_a_target_that_hangs_holds_up_no_other(bench: Bench) -> None:
    await bench.rule(TO_QUEUE, Target("f", FUNCTION))
    bench.world.refuse[QUEUE] = Unavailable("away")
    for _ in range(limits.AT_ONCE_MAX + 5):
        await bench.send()
    await bench.until(lambda: len(bench.world.events(FUNCTION)) == limits.AT_ONCE_MAX + 5)


async def test_an_event_of_many_targets_is_on_disk_once_until_the_last_has_it(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        await bench.rule(TO_QUEUE, Target("f", FUNCTION), name=name)
    bench.world.refuse[QUEUE] = Unavailable("away")
    text = "x" * 100_000
    await bench.send("my.app", "my.app", text=text)
    await bench.until(lambda: len(bench.world.arrived) == 6)
    assert on_disk(bench) == 6 and sum(kind == EVENT for kind, _ in bench.disk.rows) == 2
    assert sum(len(str(row)) for row in bench.disk.rows.values()) < 3 * len(text)
    await bench.again()
    del bench.world.refuse[QUEUE]
    await bench.move(1.0, lambda: len(bench.world.arrived) == 12)
    assert all(event["detail"] == {"text": text} for event in bench.world.events())
    await bench.until(lambda: not on_disk(bench))
    assert not any(kind == EVENT for kind, _ in bench.disk.rows)
    assert not len(bench.service.deliveries)


async def test_an_event_stays_for_others_where_the_end_of_one_parcel_is_not_recorded(bench: Bench) -> None:
    await bench.rule(TO_QUEUE, Target("f", FUNCTION))
    bench.world.refuse[QUEUE] = Unavailable("away")
    deliver = bench.world.deliver

    async def full(scope: Scope, rule_arn: str, target: Target, body: str) -> None:
        await deliver(scope, rule_arn, target, body)
        if len(bench.world.arrived) == 1:
            bench.journal.fail(InsufficientStorage("full"))

    bench.world.deliver = full  # type: ignore[method-assign]
    await bench.send(text="x" * 5_000)
    await bench.move(1.0, lambda: len(bench.world.events(FUNCTION)) == 2)
    del bench.world.refuse[QUEUE]
    await bench.move(2.0, lambda: bench.world.events(QUEUE) and not on_disk(bench))
    assert not any(kind == EVENT for kind, _ in bench.disk.rows)


async def test_an_account_delivers_so_much_at_once_and_another_ones_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ACCOUNT_AT_ONCE_MAX", 3)
    await bench.again()
    gate, running, most = asyncio.Event(), 0, 0

    async def slow(scope: Scope, rule_arn: str, target: Target, body: str) -> None:
        nonlocal running, most
        if scope == HOME:
            running += 1
            most = max(most, running)
            await gate.wait()
            running -= 1
        bench.world.arrived.append((target.arn, rule_arn, body))

    monkeypatch.setattr(bench.world, "deliver", slow)
    theirs = OTHER.arn("sqs", "jobs")
    await bench.rule(Target("q", theirs), scope=OTHER)
    for name in "abcd":
        await bench.rule(Target("q", HOME.arn("sqs", name)), name=name)
    for _ in range(5):
        await bench.send()
    await bench.send(scope=OTHER)
    await bench.until(lambda: bench.world.events(theirs))
    assert running == 3 and not bench.world.events(HOME.arn("sqs", "a"))
    gate.set()
    await bench.until(lambda: len(bench.world.arrived) == 21 and not on_disk(bench))
    assert most == 3


async def test_a_template_makes_no_more_of_an_event_than_a_target_takes(bench: Bench) -> None:
    much = Target("q", QUEUE, template="<aws.events.event.json>" * 300, dead_letter=DEAD)
    await bench.rule(much)
    await bench.send(text="x" * 100_000)
    await bench.until(lambda: bench.world.dead)
    assert not bench.world.tried and bench.world.dead[0][2]["ERROR_CODE"] == "INVALID_PARAMETER"


async def test_nothing_is_taken_that_is_not_on_disk(bench: Bench) -> None:
    await bench.rule(TO_QUEUE)
    bench.journal.fail(InsufficientStorage("full"))
    with pytest.raises(InsufficientStorage):
        await bench.send()
    await bench.send(n=2)
    await bench.until(lambda: bench.world.arrived)
    assert [event["detail"] for event in bench.world.events()] == [{"n": 2}]
    bench.journal.fail(Internal("the disk lies"))
    with pytest.raises(Internal):
        await bench.send()
    assert bench.service.ended.is_set()
    with pytest.raises(Unavailable):
        await bench.send()


async def test_a_backlog_has_its_bound(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACCOUNT_DELIVERIES_MAX", 2)
    await bench.rule(TO_QUEUE)
    bench.world.refuse[QUEUE] = Unavailable("away")
    await bench.send("my.app", "my.app")
    with pytest.raises(Throttled) as caught:
        await bench.send()
    assert caught.value.code == "ThrottlingException" and on_disk(bench) == 2


async def test_a_caller_that_leaves_takes_nothing_back(bench: Bench) -> None:
    await bench.rule(TO_QUEUE)
    bench.journal.hold()
    sending = asyncio.create_task(bench.send())
    await bench.clock.settle()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    bench.journal.release()
    await bench.until(lambda: bench.world.arrived)


async def test_what_rules_did_is_measured(bench: Bench) -> None:
    await bench.rule(TO_QUEUE, Target("f", FUNCTION, retries=1, dead_letter=DEAD))
    await bench.rule(Target("g", QUEUE + "-gone", dead_letter=DEAD + "-gone"), name="bad")
    bench.world.refuse = {
        FUNCTION: Throttled("slow"),
        QUEUE + "-gone": NotFound("gone"),
        DEAD + "-gone": NotFound("gone"),
    }
    await bench.send()
    await bench.move(10.0, lambda: bench.world.dead and not on_disk(bench))
    await bench.clock.advance(10.0)
    counted: dict[str, dict[str, float]] = {}
    for one in bench.reports.kept:
        assert (one.namespace, one.scope, one.dimensions[0][0]) == ("AWS/Events", HOME, "RuleName")
        known = counted.setdefault(one.dimensions[0][1], {})
        for reading in one.readings:
            known[reading.name] = known.get(reading.name, 0.0) + sum(reading.values)
    assert counted == {
        "r": {
            "MatchedEvents": 1.0,
            "TriggeredRules": 1.0,
            "Invocations": 2.0,
            "SuccessfulInvocationAttempts": 1.0,
            "FailedInvocations": 1.0,
            "RetryInvocationAttempts": 1.0,
            "InvocationsSentToDlq": 1.0,
        },
        "bad": {
            "MatchedEvents": 1.0,
            "TriggeredRules": 1.0,
            "Invocations": 1.0,
            "FailedInvocations": 1.0,
            "InvocationsFailedToBeSentToDlq": 1.0,
        },
    }


async def test_a_deletion_that_fails_is_none_for_who_tells(bench: Bench) -> None:
    await bench.rule(pattern=STATES)
    bench.journal.hold()
    deleting = asyncio.create_task(bench.service.submit(commands.DeleteRule(HOME, "r")))
    await bench.clock.settle()
    telling = asyncio.create_task(bench.service.happened([state_change("i-1", "running")]))
    await bench.clock.settle()
    bench.journal.fail(InsufficientStorage("full"))
    bench.journal.release()
    with pytest.raises(InsufficientStorage):
        await deleting
    assert await telling == set()


# --- time


async def test_a_schedule_sends_an_event_to_its_own_targets(bench: Bench) -> None:
    made = await bench.rule(TO_QUEUE, name="tick", pattern="", expression="rate(1 minute)")
    await bench.rule(Target("f", FUNCTION), name="all", pattern='{"source":[{"prefix":"aws."}]}')
    await bench.move(60.0, lambda: bench.world.arrived)
    (event,) = bench.world.events()
    assert (event["source"], event["detail-type"], event["detail"]) == ("aws.events", "Scheduled Event", {})
    assert event["resources"] == [made.arn] and event["time"] == "2026-09-21T14:14:20Z"
    await bench.move(60.0, lambda: len(bench.world.arrived) == 2)
    await bench.service.submit(commands.SetRuleState(HOME, "tick", False))
    await bench.clock.advance(300.0)
    assert len(bench.world.arrived) == 2


async def test_what_was_due_while_nobody_was_there_fires_once(bench: Bench) -> None:
    await bench.rule(TO_QUEUE, name="tick", pattern="", expression="rate(1 minute)")
    await bench.stop()
    await bench.clock.advance(600.0)
    await bench.start()
    await bench.move(0.0, lambda: len(bench.world.arrived) == 1)
    await bench.move(59.0, lambda: len(bench.world.arrived) == 1)
    await bench.move(1.0, lambda: len(bench.world.arrived) == 2)


async def test_a_schedule_whose_disk_is_full_fires_later(bench: Bench) -> None:
    await bench.rule(TO_QUEUE, name="tick", pattern="", expression="rate(1 minute)")
    bench.journal.fail(InsufficientStorage("full"))
    await bench.clock.advance(60.0)
    assert not bench.world.arrived
    await bench.move(5.0, lambda: bench.world.arrived)


# --- what the cloud tells


async def test_state_changes_of_instances_reach_rules(bench: Bench) -> None:
    await bench.rule(TO_QUEUE, pattern=STATES)
    told = [state_change("i-1", state) for state in ("pending", "running", "shutting-down", "terminated")]
    assert await bench.service.happened(told) == set()
    await bench.until(lambda: len(bench.world.arrived) == 2)
    assert sorted(event["detail"]["state"] for event in bench.world.events()) == ["running", "terminated"]
    assert bench.world.events()[0] == {
        "version": "0",
        "id": "id-running",
        "detail-type": "EC2 Instance State-change Notification",
        "source": "aws.ec2",
        "account": HOME.account,
        "time": "2026-09-21T14:13:20Z",
        "region": HOME.region,
        "resources": [HOME.arn("ec2", "instance/i-1")],
        "detail": {"instance-id": "i-1", "state": "running"},
    }


async def test_the_cloud_is_asked_to_tell_before_the_first_rule_is_there(bench: Bench) -> None:
    bench.world.deaf = Unavailable("away")
    with pytest.raises(Unavailable):
        await bench.rule()
    assert not bench.service.state.rules
    bench.world.deaf = None
    await bench.rule(name="tick", pattern="", expression="rate(1 minute)")
    assert bench.world.listened == []
    await bench.rule()
    await bench.rule(name="second")
    assert bench.world.listened == [HOME]
    await bench.rule(scope=OTHER)
    assert bench.world.listened == [HOME, OTHER]


async def test_the_cloud_is_asked_again_after_a_start(bench: Bench) -> None:
    await bench.rule(pattern=STATES)
    await bench.rule(scope=OTHER)
    bench.world.listened.clear()
    bench.world.deaf = Unavailable("away")
    await bench.again()
    await bench.clock.advance(1.0)
    bench.world.deaf = None
    await bench.move(5.0, lambda: len(bench.world.listened) == 2)
    assert set(bench.world.listened) == {HOME, OTHER}
    await bench.clock.advance(60.0)
    assert len(bench.world.listened) == 2


async def test_who_tells_hears_where_nobody_listens_any_more(bench: Bench) -> None:
    await bench.rule(pattern=STATES)
    assert await bench.service.happened([state_change("i-1", "running"), state_change("i-2", "running", OTHER)]) == {
        OTHER
    }
    await bench.service.submit(commands.DeleteRule(HOME, "r"))
    assert await bench.service.happened([state_change("i-1", "running")]) == {HOME}
    bench.journal.hold()
    opening = asyncio.create_task(bench.rule(pattern=STATES))
    await bench.clock.settle()
    telling = asyncio.create_task(bench.service.happened([state_change("i-1", "pending")]))
    await bench.clock.settle()
    bench.journal.release()
    await opening
    assert await telling == set()


async def test_a_rule_that_is_not_yet_recorded_listens_already(bench: Bench) -> None:
    gate = asyncio.Event()

    async def slow(_scope: object) -> None:
        await gate.wait()

    bench.world.listen = slow  # type: ignore[method-assign, assignment]
    opening = asyncio.create_task(bench.rule(pattern=STATES))
    await bench.clock.settle()
    assert await bench.service.happened([state_change("i-1", "pending")]) == set()
    gate.set()
    await opening
