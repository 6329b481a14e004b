"""How a shard calls other processes of its cloud, in the stead of the account and region that it acts for.

    control(...)   the control plane's users' services (rpc/internal.py)
    shard(...)     another shard, by its unix socket: all shards are on one machine; the ticket is one of our own

A call waits for a process that is just being restarted, within its deadline. Raises the CloudError that was answered;
Unavailable, DeadlineExceeded and Internal leave open whether the call was carried out.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from minicloud.base.arn import Scope
from minicloud.rpc import internal, shard_ticket, ticket
from minicloud.rpc.errors import from_rpc_error
from minicloud.rpc.peer import OPTIONS
from minicloud.rpc.shard_ticket import BALANCERS, BROKERS, FUNCTIONS, Shards
from minicloud.settings import BALANCER, MESSAGE_BROKER, CloudSettings, ShardKind
from minicloud.settings import FUNCTIONS as FUNCTION_PROCESS

CALL_S_MAX = 15.0
PACKAGE = "minicloud.v1"
Reply = TypeVar("Reply", bound=Message)
Located = tuple[ShardKind, Shards]
TOPICS_AND_QUEUES: Located = (MESSAGE_BROKER, BROKERS)
FUNCTIONS_OF: Located = (FUNCTION_PROCESS, FUNCTIONS)
LOAD_BALANCERS: Located = (BALANCER, BALANCERS)
_Metadata = tuple[tuple[str, str], ...]


class Calls:
    """One connection to each process that is called. Belongs to one event loop; `close` ends the connections."""

    def __init__(self, cloud: CloudSettings, secret: bytes, who: str) -> None:
        """who: the process that calls, for logs."""
        self._cloud = cloud
        self._secret = secret
        self._who = who
        self._control = f"{cloud.control_host}:{cloud.control_port}"
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._methods: dict[tuple[str, str], Any] = {}
        self._tickets: dict[tuple[str, Scope], tuple[str, float]] = {}

    async def control(self, scope: Scope, method: str, request: Message, reply: type[Reply]) -> Reply:
        """method: 'InstanceService/Launch'."""
        proof = internal.metadata(self._secret, self._who, scope)
        return await self._call(self._control, method, request, reply, proof)

    async def shard(self, of: Located, scope: Scope, method: str, request: Message, reply: type[Reply]) -> Reply:
        target, number = self._place(of, scope)
        return await self._call(target, method, request, reply, self._proof(of[1], number, scope))

    def shard_channel(self, of: Located, scope: Scope) -> grpc.aio.Channel:
        """For calls in the cloud's own name."""
        return self.channel(self._place(of, scope)[0])

    def control_channel(self) -> grpc.aio.Channel:
        return self.channel(self._control)

    def channel(self, target: str) -> grpc.aio.Channel:
        if target not in self._channels:
            self._channels[target] = grpc.aio.insecure_channel(target, options=OPTIONS)
        return self._channels[target]

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)

    def _place(self, of: Located, scope: Scope) -> tuple[str, int]:
        kind, _ = of
        number = shard_ticket.shard_of(scope, len(self._cloud.shards(kind)))
        return f"unix:{self._cloud.shard_socket(kind, number)}", number

    async def _call(self, target: str, method: str, request: Message, reply: type[Reply], metadata: _Metadata) -> Reply:
        known = (target, method)
        if known not in self._methods:
            self._methods[known] = self.channel(target).unary_unary(
                f"/{PACKAGE}.{method}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=reply.FromString,
            )
        try:
            answer: Reply = await self._methods[known](
                request, metadata=metadata, timeout=CALL_S_MAX, wait_for_ready=True
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return answer

    def _proof(self, of: Shards, number: int, scope: Scope) -> _Metadata:
        now = time.time()
        proof, expires = self._tickets.get((of.noun, scope), ("", 0.0))
        if now > expires - shard_ticket.TICKET_S / 2:
            expires = now + shard_ticket.TICKET_S
            proof = shard_ticket.issue(of, self._secret, number, scope, expires)
            self._tickets[(of.noun, scope)] = (proof, expires)
        return ((ticket.TICKET_METADATA, proof),)
