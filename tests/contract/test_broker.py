"""The message broker on a real socket: every rpc, its errors, long polls, whose queues a ticket opens."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from minicloud.base.errors import CloudError
from minicloud.rpc.errors import from_rpc_error
from minicloud.wire import queue_pb2 as wire
from tests.contract.broker_world import World, broker_world, handles

pytestmark = pytest.mark.asyncio


async def refusal(call: Any) -> CloudError:
    import grpc

    with pytest.raises(grpc.RpcError) as failed:
        await call
    return from_rpc_error(failed.value)


async def make(world: World, name: str = "jobs", **attributes: str) -> wire.Queue:
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"
    return await world.queues.CreateQueue(wire.CreateQueueRequest(name=name, attributes=attributes))


async def test_a_message_goes_through() -> None:
    async with broker_world() as world:
        queue = await make(world)
        assert queue.url == "http://127.0.0.1:4566/000000000000/jobs"
        for reference in (queue.name, queue.url, queue.arn):
            sent = await world.queues.SendBulk(wire.SendBulkRequest(queue=reference, bodies=[b"a", b"b"]))
            assert len(sent.message_ids) == 32
            got = await world.queues.ReceiveMessages(wire.ReceiveMessagesRequest(queue=reference, max_messages=10))
            assert list(got.bodies) == [b"a", b"b"]
            assert got.message_ids == sent.message_ids
            assert list(got.receive_counts) == [1, 1]
            assert len(handles(got)) == 2
            assert not got.extras
            gone = wire.DeleteMessagesRequest(queue=reference, receipt_handles=got.receipt_handles)
            assert not (await world.queues.DeleteMessages(gone)).failed
        assert uuid.UUID(bytes=sent.message_ids[:16]).version == 8
