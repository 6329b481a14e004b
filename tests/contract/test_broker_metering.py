"""What a message broker reports of its queues and topics to the metric store."""

from __future__ import annotations

from collections.abc import Sequence

from minicloud.base.arn import Scope
from minicloud.queue import metering
from minicloud.shell.reports import Report
from minicloud.sim.log import MemoryLog
from minicloud.wire import queue_pb2
from tests.contract.broker_world import World, broker_world
from tests.contract.topic_world import confirmed, offline, publish, queue, subscribe, take, topic

HOUR_S = 3_600


async def measured(world: World, moment: int = 120) -> list[Report]:
    return await world.broker.measured(moment)


def values(reports: Sequence[Report], name: str) -> dict[str, float]:
    """Of the queue or topic of this name; what is 0 left out."""
    (found,) = [report for report in reports if report.dimensions[0][1] == name]
    return {each.name: each.values[0] for each in found.readings if each.values[0]}


async def test_a_queue_says_what_it_did_and_what_it_holds() -> None:
    async with broker_world() as world:
        await queue(world, "jobs")
        await measured(world)
        await world.queues.SendBulk(queue_pb2.SendBulkRequest(queue="jobs", bodies=[b"a", b"b", b"c", b"d"]))
        got = await take(world, "jobs", 3)
        await world.queues.DeleteMessages(
            queue_pb2.DeleteMessagesRequest(queue="jobs", receipt_handles=got.receipt_handles[:28])
        )
        reports = await measured(world)
        assert [(one.scope, one.namespace, one.dimensions, one.time) for one in reports] == [
            (Scope(), "AWS/SQS", (("QueueName", "jobs"),), 60)
        ]
        assert reports[0].readings[-1].values[0] >= 0
        assert {name: value for name, value in values(reports, "jobs").items() if not name.endswith("Message")} == {
            "ApproximateNumberOfMessagesVisible": 1, "ApproximateNumberOfMessagesNotVisible": 2,
            "NumberOfMessagesSent": 4, "NumberOfMessagesReceived": 3, "NumberOfMessagesDeleted": 1,
        }  # fmt: skip
        await world.queues.PurgeQueue(queue_pb2.PurgeQueueRequest(queue="jobs"))
        assert not (await take(world, "jobs")).bodies
        assert values(await measured(world), "jobs") == {"NumberOfEmptyReceives": 1}


async def test_what_is_replayed_was_counted_before() -> None:
    log = MemoryLog()
    async with broker_world(log=log) as world:
        await queue(world, "jobs")
        await world.queues.SendBulk(queue_pb2.SendBulkRequest(queue="jobs", bodies=[b"a", b"b"]))
        got = await take(world, "jobs", 1)
        await world.queues.DeleteMessages(
            queue_pb2.DeleteMessagesRequest(queue="jobs", receipt_handles=got.receipt_handles)
        )
    async with broker_world(log=log.reopened()) as world:
        found = values(await measured(world), "jobs")
        assert "NumberOfMessagesSent" not in found and "NumberOfMessagesDeleted" not in found
        assert found["ApproximateNumberOfMessagesVisible"] == 1


async def test_a_queue_that_nobody_uses_is_reported_for_six_hours() -> None:
    async with broker_world() as world:
        await queue(world, "jobs")
        assert len(await measured(world, 60)) == 1
        assert len(await measured(world, 60 + 6 * HOUR_S)) == 1
        assert await measured(world, 120 + 6 * HOUR_S) == []
        await world.queues.SendBulk(queue_pb2.SendBulkRequest(queue="jobs", bodies=[b"a"]))
        assert len(await measured(world, 180 + 6 * HOUR_S)) == 1


async def test_many_queues_are_reported_part_by_part_and_in_bounds() -> None:
    async with broker_world() as world:
        for number in range(metering.AT_ONCE + 1):
            await queue(world, f"q{number}")
        parts = list(world.broker._meter.report(0))
        assert [len(part) for part in parts] == [metering.AT_ONCE, 1]


async def test_a_topic_says_what_it_published_and_what_became_of_it() -> None:
    async with offline() as (world, poster, _):
        await topic(world)
        await topic(world, "quiet")
        await subscribe(world, await queue(world, "all"))
        await subscribe(world, await queue(world, "some"), FilterPolicy='{"kind": ["x"]}')
        await confirmed(world, poster)
        await publish(world, "four", "sixsix")
        await poster.got(2)
        reports = [one for one in await measured(world) if one.namespace == "AWS/SNS"]
        assert [one.dimensions for one in reports] == [(("TopicName", "news"),)]
        found = values(reports, "news")
        assert found["NumberOfMessagesPublished"] == 2 and found["NumberOfNotificationsFilteredOut"] == 2
        (size,) = [each for each in reports[0].readings if each.name == "PublishSize"]
        assert (size.values, size.counts, size.unit) == ((5.0,), (2.0,), "Bytes")
        assert {one.dimensions[0][1] for one in await measured(world) if one.namespace == "AWS/SQS"} == {"all", "some"}
        assert not [one for one in await measured(world) if one.namespace == "AWS/SNS"]
