"""What processes of the cloud measure, on its way to the metric store: batches, retries, no report twice or in vain."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from minicloud.base.arn import Scope
from minicloud.metric.model import Metric
from minicloud.metric.query import StatisticsQuery
from minicloud.metric.rpc import ReportServicer
from minicloud.rpc import fleet_auth, reporter
from minicloud.rpc.door import Entry, door
from minicloud.rpc.reporter import Reporter
from minicloud.rpc.server import Listen, RpcServer
from minicloud.shell.reports import Reading, Report
from minicloud.wire import fleet_pb2, fleet_pb2_grpc
from tests.contract.monitoring_world import SECRET, World, monitoring_world
from tests.turns import until

SCOPE = Scope("111122223333", "eu-west-1")
SERVICE = fleet_pb2.DESCRIPTOR.services_by_name["ReportService"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with monitoring_world() as made:
        yield made


def load(at: float, *values: float, counts: tuple[float, ...] = (), namespace: str = "AWS/EC2") -> Report:
    return Report(SCOPE, namespace, (("InstanceId", "i-1"),), at, [Reading("Load", "Percent", values, counts)])


def seen(world: World, *names: str) -> dict[str, float]:
    metric = Metric(SCOPE, "AWS/EC2", "Load", (("InstanceId", "i-1"),))
    now = world.clock.wall()
    points = world.service.get_statistics(StatisticsQuery(metric, names, 3_600, now - 3_600, now + 60))
    return {name: points[0].values[name] for name in names} if points else {}


@contextlib.asynccontextmanager
async def reporting(target: str, secret: bytes = SECRET) -> AsyncIterator[Reporter]:
    made = Reporter(target, secret, "balancer-0")
    made.start()
    try:
        yield made
    finally:
        await made.close()


async def test_reports_of_many_accounts_arrive_with_their_counts(world: World) -> None:
    at = world.clock.wall() - 60
    async with reporting(world.shard) as to:
        to.report([load(at, *(float(value) for value in range(400))), load(at, 1_000.0, counts=(600.0,))])
    assert seen(world, "SampleCount", "Maximum") == {"SampleCount": 1_000, "Maximum": 1_000}
    assert to.dropped == 0


async def test_metrics_whose_lines_were_given_up_half_way_are_counted_once(world: World) -> None:
    gone = [True]

    async def write(_: Any) -> int:
        if gone:
            gone.pop()
            raise asyncio.CancelledError
        return 0

    servicer = ReportServicer(world.service, write)
    metric = fleet_pb2.MetricReport(
        account=SCOPE.account,
        region=SCOPE.region,
        namespace="AWS/EC2",
        dimensions=["InstanceId", "i-1"],
        time=world.clock.wall() - 60,
        readings=[fleet_pb2.MetricReading(name="Load", unit="Percent", values=[5.0])],
    )
    request = fleet_pb2.ReportRequest(source="a", number=1, metrics=[metric], logs=[fleet_pb2.LogReport()])
    with pytest.raises(asyncio.CancelledError):
        await servicer.Report(request, "a")
    await servicer.Report(request, "a")
    await servicer.Report(request, "a")
    assert seen(world, "Sum") == {"Sum": 5.0}


async def test_what_is_not_valid_costs_nothing_else(world: World) -> None:
    at = world.clock.wall() - 60
    async with reporting(world.shard) as to:
        to.report([load(at, float("inf")), load(at, 1.0, namespace=""), load(at, 5.0)])
    assert seen(world, "Sum") == {"Sum": 5.0} and to.dropped == 2


async def test_what_the_wire_cannot_carry_keeps_nothing_back(world: World) -> None:
    at = world.clock.wall() - 60
    async with reporting(world.shard) as to:
        to.report([load(at, 1.0, namespace="\ud800"), load(at, 5.0)])
    assert seen(world, "Sum") == {"Sum": 5.0} and to.dropped == 1


async def test_what_the_store_stumbles_over_does_not_come_again_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, put = world.clock.wall() - 60, world.service.put

    def stumbles(scope: Scope, namespace: str, *rest: Any, **more: Any) -> None:
        if namespace == "AWS/Odd":
            raise RuntimeError("unforeseen")
        put(scope, namespace, *rest, **more)

    monkeypatch.setattr(world.service, "put", stumbles)
    async with reporting(world.shard) as to:
        to.report([load(at, 1.0, namespace="AWS/Odd"), load(at, 5.0)])
    assert seen(world, "Sum") == {"Sum": 5.0} and to.dropped == 1


async def test_who_does_not_know_the_secret_reports_nothing(world: World) -> None:
    async with grpc.aio.insecure_channel(world.shard) as channel:
        stub: Any = fleet_pb2_grpc.ReportServiceStub(channel)  # type: ignore[no-untyped-call]
        for metadata in ((), ((fleet_auth.METADATA, fleet_auth.token(b"x" * 32, "host")),)):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stub.Report(fleet_pb2.ReportRequest(), metadata=metadata)
            assert failed.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_request_that_comes_again_is_counted_once(world: World) -> None:
    batch = [reporter._wire(load(world.clock.wall() - 60, 5.0))]
    metadata = ((fleet_auth.METADATA, fleet_auth.token(SECRET, "balancer-0")),)
    async with grpc.aio.insecure_channel(world.shard) as channel:
        stub: Any = fleet_pb2_grpc.ReportServiceStub(channel)  # type: ignore[no-untyped-call]
        for source, number in (("a", 1), ("a", 1), ("b", 1), ("a", 2), ("a", 1)):
            await stub.Report(fleet_pb2.ReportRequest(source=source, number=number, metrics=batch), metadata=metadata)
    assert seen(world, "SampleCount") == {"SampleCount": 3}


class Deaf:
    """A store that fails a few times before it takes anything."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.requests: list[Any] = []

    async def Report(self, request: Any, _source: str) -> Any:
        self.requests.append(request)
        if len(self.requests) <= self.failures:
            raise RuntimeError("not now")
        return fleet_pb2.ReportReply()


async def test_what_was_not_answered_goes_again_under_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "PAUSE_S", (0.01, 0.02))
    monkeypatch.setattr(reporter, "BATCH_MAX", 3)
    deaf = Deaf(failures=2)
    server = RpcServer(
        [door(deaf, SERVICE, Entry(fleet_auth.fleet_door(SECRET), lambda: "id"))], lambda: "id", Listen()
    )
    port = await server.start()
    async with reporting(f"127.0.0.1:{port}") as to:
        to.report([load(60.0 * number, 1.0) for number in range(7)])
        async with asyncio.timeout(60):
            await to._idle.wait()
    await server.stop(0)
    assert [request.number for request in deaf.requests] == [1, 1, 1, 2, 3]
    assert [one.time for request in deaf.requests[2:] for one in request.metrics] == [60.0 * n for n in range(7)]


async def test_what_waited_with_many_values_goes_in_as_many_calls_as_it_takes() -> None:
    """As after a store was away: more than one call of gRPC carries."""
    ear = Deaf(failures=0)
    values = tuple(float(number) for number in range(10_000))
    async with listening(ear) as target, reporting(target) as to:
        to.report([load(60.0 * number, *values) for number in range(70)])
        await until(lambda: sum(len(request.metrics) for request in ear.requests) == 70)
    assert max(request.ByteSize() for request in ear.requests) < 2 * reporter.BATCH_BYTES_MAX and to.dropped == 0


async def test_lines_are_counted_in_the_bytes_that_a_call_has_of_them() -> None:
    """Four to a character: a call of so many characters would be more than gRPC carries."""
    ear = Deaf(failures=0)
    async with listening(ear) as target, reporting(target) as to:
        to.write(SCOPE, "/g", "a", [(60.0, "\U0001f980" * 1_100)] * 1_000)
        await until(lambda: sum(len(one.messages) for request in ear.requests for one in request.logs) == 1_000)
    assert max(request.ByteSize() for request in ear.requests) < 2 * reporter.CALL_BYTES_MAX


async def test_a_call_at_which_the_store_breaks_every_time_keeps_no_other_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reporter, "PAUSE_S", (0.001, 0.001))
    monkeypatch.setattr(reporter, "BATCH_MAX", 3)
    ear = Deaf(failures=1 + reporter.BROKEN_MAX)
    async with listening(ear) as target, reporting(target) as to:
        to.report([load(60.0 * number, 1.0) for number in range(4)])
        await until(lambda: ear.requests and ear.requests[-1].number == 2)
    assert to.dropped == 3 and [one.time for one in ear.requests[-1].metrics] == [180.0]


async def test_what_has_no_form_for_the_wire_keeps_nothing_else_from_it() -> None:
    ear = Deaf(failures=0)
    async with listening(ear) as target, reporting(target) as to:
        to.report([load(60.0, 1.0, namespace="\ud800")])
        await to._idle.wait()
        to.report([load(120.0, 1.0)])
        await until(lambda: ear.requests)
    assert [one.time for one in ear.requests[-1].metrics] == [120.0]


async def test_without_a_store_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "WAITING_MAX", 10)
    monkeypatch.setattr(reporter, "CLOSE_S_MAX", 0.01)
    async with reporting("unix:/nowhere/at/all") as to:
        to.report([load(float(number), 1.0) for number in range(25)])
        assert [one.time for one in to._waiting] == [float(number) for number in range(15, 25)] and to.dropped == 15


@contextlib.asynccontextmanager
async def listening(to: Deaf) -> AsyncIterator[str]:
    entry = Entry(fleet_auth.fleet_door(SECRET), lambda: "id")
    server = RpcServer([door(to, SERVICE, entry)], lambda: "id", Listen())
    port = await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop()


async def test_what_comes_together_goes_as_one_call_with_the_lines_of_a_stream_in_one_report() -> None:
    ear = Deaf(failures=0)
    async with listening(ear) as target, reporting(target) as to:
        for number in range(5):
            for stream in ("a", "b"):
                to.write(SCOPE, "/g", stream, [(float(number), f"{stream}{number}")])
        to.report([load(60.0, 1.0)])
        await until(lambda: ear.requests)
    (request,) = ear.requests
    assert [(one.stream, list(one.messages)) for one in request.logs] == [
        (stream, [f"{stream}{number}" for number in range(5)]) for stream in "ab"
    ]
    assert list(request.logs[0].times_ms) == [0, 1_000, 2_000, 3_000, 4_000] and len(request.metrics) == 1


async def test_a_full_call_and_the_last_one_do_not_wait_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "GATHER_S", 3_600.0)
    ear = Deaf(failures=0)
    async with listening(ear) as target, reporting(target) as to:
        for _ in range(3):
            to.write(SCOPE, "/g", "a", [(0.0, "x" * (reporter.CALL_BYTES_MAX // 5))] * 2)
        await until(lambda: ear.requests)
        assert sum(len(one.messages) for one in ear.requests[0].logs) == 4
        to.write(SCOPE, "/g", "a", [(0.0, "last")])
    assert sum(len(one.messages) for request in ear.requests for one in request.logs) == 7


async def test_lines_beyond_what_may_wait_are_dropped_oldest_first_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "LINES_BYTES_MAX", 300)
    monkeypatch.setattr(reporter, "LINES_AT_ONCE", 2)
    to = Reporter("unix:/nowhere", SECRET, "functions-0")
    to.write(SCOPE, "/g", "a", [(0.0, f"{number:084d}") for number in range(6)])
    assert to.lines_dropped == 4 and [one.messages for one in to._lines] == [[f"{number:084d}" for number in (4, 5)]]
    to.write(SCOPE, "/g", "a", [(0.0, "next")])
    assert [len(one.messages) for one in to._lines] == [2, 1]


async def test_lines_that_the_log_does_not_take_are_counted(world: World) -> None:
    async with reporting(world.shard) as to:
        to.write(SCOPE, "not a name", "s", [(world.clock.wall(), "a"), (world.clock.wall(), "b")])
        await to._idle.wait()
    assert (to.lines_dropped, to.dropped) == (2, 0)
