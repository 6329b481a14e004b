"""Metrics and alarms by the SDK, through Locate and with tickets: every rpc, and the wall between tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from minicloud.base import errors
from minicloud.base.arn import Scope
from minicloud.client.broker import AUTOSCALERS
from minicloud.client.metric_models import Metric, MetricDatum, MetricQuery, StatisticSet
from minicloud.rpc import shard_ticket
from tests.contract.monitoring_world import SECRET, World, monitoring_world

OTHER = "111122223333"
TOPIC = "arn:aws:sns:us-east-1:000000000000:pages"
LOAD = Metric("My/App", "Load", {"Host": "a"})
ABOVE = "GreaterThanThreshold"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with monitoring_world() as made:
        yield made


async def test_what_is_put_is_read_again(world: World) -> None:
    at = world.clock.wall() // 60 * 60 - 600
    async with world.client() as cloud:
        await cloud.metrics.put("My/App", "Load", 7.0, dimensions={"Host": "a"}, time=at, unit="Count")
        data = [
            MetricDatum(
                "Load", None, {"Host": "a"}, datetime.fromtimestamp(at + 60, UTC), (1.0, 3.0), (9.0, 1.0), unit="Count"
            ),
            MetricDatum("Load", summary=StatisticSet(4, 20, 2, 9), time=at, dimensions={"Host": "b"}),
            MetricDatum("Fine", 1.5, time=at + 1.25, resolution_s=1),
        ]
        await cloud.metrics.put_data("My/App", data)
        points = await cloud.metrics.statistics(
            "My/App", "Load", ["Average", "SampleCount", "p95"], dimensions={"Host": "a"}
        )
        assert [(p.time.timestamp() if p.time else 0, p.values["Average"], p.unit) for p in points] == [
            (at, 7.0, "Count"), (at + 60, 1.2, "Count")
        ]  # fmt: skip
        assert points[1].values["SampleCount"] == 10 and points[1].values["p95"] == pytest.approx(3, rel=0.01)
        (summed,) = await cloud.metrics.statistics("My/App", "Load", ["Maximum", "Sum"], dimensions={"Host": "b"})
        assert summed.values == {"Maximum": 9.0, "Sum": 20.0}
        queries = [
            MetricQuery("a", LOAD, "Sum", 60, hidden=True),
            MetricQuery("twice", expression="a * 2", label="doubled"),
            MetricQuery("fine", Metric("My/App", "Fine"), "Average", 60),
        ]
        twice, fine = await cloud.metrics.get(queries, start=at, end=at + 120)
        assert (twice.label, twice.times, twice.values) == ("doubled", (at, at + 60), (14.0, 24.0))
        assert fine.points == ((datetime.fromtimestamp(at, UTC), 1.5),)
        (newest, _) = await cloud.metrics.get(queries, start=at, end=at + 120, oldest_first=False)
        assert newest.values == (24.0, 14.0)


async def test_metrics_are_listed_by_what_they_have(world: World) -> None:
    async with world.client() as cloud:
        for number in range(505):
            await cloud.metrics.put("Many", f"m{number:03}", 1.0)
        await cloud.metrics.put("My/App", "Load", 1.0, dimensions={"Host": "a", "Zone": "z"})
        await cloud.metrics.put("My/App", "Load", 1.0, dimensions={"Host": "b"})

        async def found(*args: str, **options: object) -> list[str]:
            listed = cloud.metrics.list(*args, **options)  # type: ignore[arg-type]
            return [one.dimensions.get("Host", one.name) async for one in listed]

        assert len(await found()) == 507 and len(await found("Many")) == 505
        assert await found("My/App") == ["a", "b"]
        assert await found("My/App", "Load", dimensions={"Zone": None}) == ["a"]
        assert await found(dimensions={"Host": "b"}, recently_active=True) == ["b"]
        assert await found(dimensions={"Host": ""}) == []


async def test_what_is_not_valid_is_refused_by_name(world: World) -> None:
    async with world.client() as cloud:
        with pytest.raises(errors.InvalidParameterValue, match="AWS/") as caught:
            await cloud.metrics.put("AWS/EC2", "CPUUtilization", 1.0)
        assert caught.value.field == "Namespace"
        with pytest.raises(errors.InvalidRequest):
            await cloud.metrics.put("N", "m", float("nan"))
        with pytest.raises(errors.InvalidParameterValue):
            await cloud.metrics.put("N", "m", 1.0, resolution_s=1 << 40)
        with pytest.raises(errors.InvalidRequest) as caught_bad:
            await cloud.metrics.get([MetricQuery("e1", expression="a +")])
        assert caught_bad.value.code == "ValidationError"
        with pytest.raises(errors.UnsupportedOperation, match="tm99"):
            await cloud.metrics.statistics("N", "m", ["tm99"])


async def test_an_alarm_from_its_making_to_its_end(world: World) -> None:
    async with world.client() as cloud:
        made = await cloud.alarms.put(
            "hot", ABOVE, 80, metric=LOAD, stat="p90", evaluation_periods=3, datapoints_to_alarm=2,
            alarm_actions=[TOPIC], tags={"a": "b"}, description="too hot", missing_data="notBreaching",
        )  # fmt: skip
        assert (made.state, made.type, made.threshold, made.single_metric) == (
            "INSUFFICIENT_DATA",
            "MetricAlarm",
            80,
            True,
        )
        assert made.arn == "arn:aws:cloudwatch:us-east-1:000000000000:alarm:hot" and made.configured_time is not None
        (query,) = made.queries
        assert (query.metric, query.stat, query.period_s) == (LOAD, "p90", 60)
        assert await cloud.alarms.get("hot") == made and await cloud.alarms.get("cold") is None
        assert [one.name for one in await cloud.alarms.for_metric(LOAD, stat="p90", period_s=60)] == ["hot"]
        assert await cloud.alarms.tag("hot", {"c": "d"}) == {"a": "b", "c": "d"}
        assert await cloud.alarms.untag("hot", "a", "nothing") == {"c": "d"}
        changed = await cloud.alarms.put("hot", ABOVE, 90, metric=LOAD)
        assert changed.threshold == 90 and changed.tags == {"c": "d"} and changed.alarm_actions == ()
        await cloud.alarms.delete("hot", "cold")
        assert [one async for one in cloud.alarms.list()] == []
        with pytest.raises(errors.NotFound):
            await cloud.alarms.set_state("hot", "OK", "try")
        with pytest.raises(errors.NotFound):
            await cloud.alarms.tag("hot", {"a": "b"})
        with pytest.raises(errors.InvalidRequest) as caught:
            await cloud.alarms.put("hot", "Above", 1, metric=LOAD)
        assert caught.value.field == "ComparisonOperator"


async def test_an_alarm_goes_off_and_does_what_it_must(world: World) -> None:
    async with world.client() as cloud:
        await cloud.alarms.put("hot", ABOVE, 80, metric=LOAD, alarm_actions=[TOPIC])
        await cloud.metrics.put("My/App", "Load", 99.0, dimensions={"Host": "a"}, time=world.clock.wall())
        await world.clock.advance(125)
        found = await cloud.alarms.get("hot")
        assert found is not None and found.state == "ALARM" and "99.0" in found.reason
        assert [(act.kind, act.state) for act in world.doer.acts] == [("topic", "ALARM")]
        items = [item async for item in cloud.alarms.history("hot")]
        assert [item.kind for item in items] == ["Action", "StateUpdate", "ConfigurationUpdate"]
        assert [item.kind async for item in cloud.alarms.history(kind="StateUpdate", oldest_first=True)] == [
            "StateUpdate"
        ]
        await cloud.alarms.disable_actions("hot", "cold")
        await cloud.alarms.set_state("hot", "OK", "by hand", '{"a": 1}')
        await cloud.alarms.set_state("hot", "ALARM", "by hand")
        assert len(world.doer.acts) == 1
        await cloud.alarms.enable_actions("hot")
        await cloud.alarms.set_state("hot", "OK", "by hand")
        await cloud.alarms.set_state("hot", "ALARM", "by hand")
        await world.clock.settle()
        assert len(world.doer.acts) == 2


async def test_alarms_on_alarms(world: World) -> None:
    async with world.client() as cloud:
        for name in ("a", "b"):
            await cloud.alarms.put(name, ABOVE, 1, metric=LOAD)
        top = await cloud.alarms.put_composite(
            "top", 'ALARM("a") AND NOT ALARM(b)', suppressor="b", suppressor_wait_s=0, suppressor_extension_s=5
        )
        assert (top.type, top.state, top.suppressor_extension_s) == ("CompositeAlarm", "OK", 5)
        await cloud.alarms.set_state("a", "ALARM", "by hand")
        assert [one.name async for one in cloud.alarms.list(state="ALARM")] == ["a", "top"]
        assert [one.name async for one in cloud.alarms.list(types=["MetricAlarm"], page_size=1)] == ["a", "b"]
        assert [one.name for one in await cloud.alarms.family(children_of="top")] == ["a", "b"]
        assert [one.name for one in await cloud.alarms.family(parents_of="a")] == ["top"]
        with pytest.raises(errors.Conflict):
            await cloud.alarms.delete("a")


async def test_another_account_sees_and_touches_nothing(world: World) -> None:
    async with world.client() as mine, world.client(OTHER) as other:
        await mine.metrics.put("My/App", "Load", 1.0, dimensions={"Host": "a"})
        await mine.alarms.put("hot", ABOVE, 1, metric=LOAD)
        assert [one async for one in other.metrics.list()] == [] == [one async for one in other.alarms.list()]
        (line,) = await other.metrics.get([MetricQuery("m1", LOAD, "Sum", 60)])
        assert line.values == ()
        assert await other.alarms.for_metric(LOAD) == () and await other.alarms.get("hot") is None
        await other.alarms.delete("hot")
        await other.alarms.disable_actions("hot")
        assert [one async for one in other.alarms.history("hot")] == []
        found = await mine.alarms.get("hot")
        assert found is not None and found.actions_enabled


async def test_a_ticket_of_another_kind_is_none(world: World) -> None:
    async with world.client() as cloud:
        await cloud.metrics.put("N", "m", 1.0)
        place = cloud._transport.place(AUTOSCALERS)
        forged = shard_ticket.issue(shard_ticket.BALANCERS, SECRET, 0, Scope(), world.clock.wall() + 900)
        place.metadata = (("x-minicloud-ticket", forged),)
        await cloud.metrics.put("N", "m", 1.0)  # refused, located again, put
        assert place.metadata[0][1] != forged
