"""What becomes of instances, on its way from the control plane to the process that has the rules.

    a transition is on disk -> told, with all others of its scope that wait -> taken there -> forgotten here

An answer that was lost, or a crash in between, has it told again, under the same id. A process that is away is waited
for. Scopes in which no rule listens (any more) are not written down from then on (compute/transitions.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.cloud_telling import event_id, tell
from minicloud.compute.model import Transition
from minicloud.compute.service import ComputeService
from minicloud.compute.transitions import Told
from minicloud.rpc.peer import Peer
from minicloud.rpc.shard_ticket import shard_of
from minicloud.shell.background import Background
from minicloud.wire import fleet_pb2

log = logging.getLogger("minicloud.events")

AT_ONCE_MAX = 100  # ours: transitions in one call
PAUSE_S = (0.1, 5.0)  # after a pass in which nothing was taken, doubling
# EC2 guide, "State change events for your instances".
SOURCE, DETAIL_TYPE = "aws.ec2", "EC2 Instance State-change Notification"


class Transitions(Background):
    """`peers`: the processes that have rules, by their numbers; belongs to one event loop."""

    def __init__(self, service: ComputeService, peers: Sequence[Peer], secret: bytes) -> None:
        self._service = service
        self._peers = peers
        self._secret = secret
        self._wake = asyncio.Event()
        service.owed = self._wake.set

    async def _run(self) -> None:
        self._wake.set()  # what a predecessor left
        pause_s = PAUSE_S[0]
        while self._peers:
            await self._wake.wait()
            self._wake.clear()
            while scopes := list(self._service.state.owing):
                if any(await asyncio.gather(*(self._told(scope) for scope in scopes))):
                    pause_s = PAUSE_S[0]
                    continue
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S[1])

    async def _told(self, scope: Scope) -> bool:
        """Whether something of this scope was taken."""
        try:
            return await self._tell(scope)
        except CloudError as error:
            log.info("what happened in %s is told later: %s", scope.key(), error)
        except Exception:
            log.exception("what happened in %s is told later", scope.key())
        return False

    async def _tell(self, scope: Scope) -> bool:
        state = self._service.state

        def look() -> tuple[list[Transition], int]:
            listener = state.listeners.get(scope.key())
            found = [state.transitions[key] for key in state.page(Transition.kind, scope)[:AT_ONCE_MAX]]
            return found, 0 if listener is None else listener.number

        found, number = await self._service.shown(look)
        if not found:
            return False
        channel = self._peers[shard_of(scope, len(self._peers))].channel
        unheard = await tell(channel, self._secret, "control-plane", [_event(one) for one in found])
        await self._service.submit(Told(tuple(one.id for one in found), dict.fromkeys(unheard, number)))
        return True


def _event(one: Transition) -> fleet_pb2.CloudEvent:
    return fleet_pb2.CloudEvent(
        id=event_id(f"{one.instance_id}/{one.id}"),
        account=one.account,
        region=one.region,
        source=SOURCE,
        detail_type=DETAIL_TYPE,
        time=one.time,
        resources=[one.scope.arn("ec2", f"instance/{one.instance_id}")],
        detail=json.dumps({"instance-id": one.instance_id, "state": one.state}),
    )
