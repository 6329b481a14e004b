"""Active access keys as a process knows them that verifies signatures: one stream from the control plane.

While the control plane is away what was said last holds: nobody can change a key meanwhile. Before the first stream has
said all keys, nobody can be told from anybody, so asking raises Unavailable.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from minicloud.base.errors import Unavailable
from minicloud.rpc import fleet_auth
from minicloud.rpc.peer import OPTIONS
from minicloud.shell.background import Background
from minicloud.wire import fleet_pb2 as pb
from minicloud.wire import fleet_pb2_grpc

log = logging.getLogger("minicloud.aws")

PAUSE_S = (0.1, 1.0)  # between two streams, doubling
K = TypeVar("K")


class KeyRing(Background, Generic[K]):
    """`made`: what a key becomes here; it may raise ValueError for one that cannot be opened, which nobody has then."""

    def __init__(self, address: str, secret: bytes, name: str, made: Callable[[pb.ActiveKey], K]) -> None:
        """address: the control plane's gRPC server. name: who asks."""
        self._address = address
        self._metadata = ((fleet_auth.METADATA, fleet_auth.token(secret, name)),)
        self._made = made
        self._keys: dict[str, K] = {}
        self._complete = False

    def find(self, key_id: str) -> K | None:
        """Raises Unavailable before all keys are known."""
        if not self._complete:
            raise Unavailable("The cloud's access keys are not known here yet; retry.")
        return self._keys.get(key_id)

    async def _run(self) -> None:
        pause_s = PAUSE_S[0]
        while True:
            try:
                async with grpc.aio.insecure_channel(self._address, options=OPTIONS) as channel:
                    stub: Any = fleet_pb2_grpc.KeyServiceStub(channel)  # type: ignore[no-untyped-call]
                    await self._follow(stub.FollowKeys(pb.KeysAsked(), metadata=self._metadata, wait_for_ready=True))
                    pause_s = PAUSE_S[0]
            except grpc.aio.AioRpcError as error:
                log.info("the stream of keys is down: %s", error.code().name)
            except Exception:
                log.exception("the stream of keys is opened again")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_S[1])

    async def _follow(self, call: Any) -> None:
        """A new stream says everything anew: until it has, what was known holds beside it."""
        fresh: dict[str, K] | None = {}
        async for changes in call:
            into = self._keys if fresh is None else fresh
            for one in changes.keys:
                self._put(into, one)
            for key_id in changes.gone:
                into.pop(key_id, None)
            if changes.complete and fresh is not None:
                self._keys, fresh, self._complete = fresh, None, True

    def _put(self, into: dict[str, K], one: pb.ActiveKey) -> None:
        try:
            into[one.id] = self._made(one)
        except ValueError as error:
            into.pop(one.id, None)
            log.warning("access key %s: %s", one.id, error)
