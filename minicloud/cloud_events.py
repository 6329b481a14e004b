"""Rules, plugged in: what functions, queues and topics take of events, and who tells what happens in the cloud."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import grpc.aio

from minicloud.base.arn import Scope
from minicloud.cloud_calls import CALL_S_MAX, PACKAGE, Calls
from minicloud.cloud_function_messages import BrokerMessages
from minicloud.event.model import Target
from minicloud.function.invoking import Origin, Request
from minicloud.function.service import FunctionService
from minicloud.rpc import fleet_auth
from minicloud.rpc.errors import from_rpc_error
from minicloud.settings import AUTOSCALER, CloudSettings
from minicloud.wire import fleet_pb2

PRINCIPAL = "events.amazonaws.com"
LISTEN = f"/{PACKAGE}.ListenService/Listen"


class EventTargets:
    """Implements event.ports.Targets: functions of this process, queues and topics of the broker."""

    def __init__(self, functions: FunctionService, messages: BrokerMessages) -> None:
        self._functions = functions
        self._messages = messages

    async def deliver(self, scope: Scope, rule_arn: str, target: Target, body: str) -> None:
        if target.arn.startswith("arn:aws:lambda:"):
            origin = Origin(PRINCIPAL, rule_arn)
            await self._functions.accept(Request(scope, target.arn, body.encode(), origin=origin))
        else:
            await self._messages.send(scope, target.arn, body.encode(), {}, target.group)

    async def dead_letter(self, scope: Scope, queue: str, body: str, attributes: Mapping[str, str]) -> None:
        given = {name: ("String", value.encode()) for name, value in attributes.items() if value}
        await self._messages.send(scope, queue, body.encode(), given)


class CloudSources:
    """Implements event.ports.Sources: instances on the control plane, groups in the autoscaler."""

    def __init__(self, calls: Calls, cloud: CloudSettings, secret: bytes, who: str) -> None:
        self._calls = calls
        self._groups = [f"unix:{cloud.shard_socket(AUTOSCALER, number)}" for number in range(len(cloud.autoscalers))]
        self._metadata = ((fleet_auth.METADATA, fleet_auth.token(secret, who)),)

    async def listen(self, scope: Scope) -> None:
        channels = [self._calls.control_channel(), *map(self._calls.channel, self._groups)]
        request = fleet_pb2.ListenRequest(account=scope.account, region=scope.region)
        try:
            await asyncio.gather(*(self._listen(channel, request) for channel in channels))
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def _listen(self, channel: grpc.aio.Channel, request: fleet_pb2.ListenRequest) -> None:
        call = channel.unary_unary(
            LISTEN,
            request_serializer=fleet_pb2.ListenRequest.SerializeToString,
            response_deserializer=fleet_pb2.ListenReply.FromString,
        )
        await call(request, metadata=self._metadata, timeout=CALL_S_MAX, wait_for_ready=True)
