"""What alarms do, carried out: metric.service.Doer over topics, scaling policies and instances.

topic     a message, published as the account that the alarm belongs to
scaling   the policy's execution, with what the metric is now: a state that lasts is acted on every minute anew
ec2       stop, terminate, reboot; `recover` starts an instance that a failure has stopped, and no other one
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from minicloud.base.arn import Scope
from minicloud.base.errors import IncorrectState, InvalidParameterValue, NotFound
from minicloud.cloud_calls import TOPICS_AND_QUEUES, Calls
from minicloud.metric.actions import EC2, SCALING, TOPIC, Act
from minicloud.rpc.errors import from_code
from minicloud.scaling.commands import ExecutePolicy
from minicloud.scaling.queries import policy_by_arn
from minicloud.scaling.state import State
from minicloud.wire import instance_pb2, queue_pb2, topic_pb2


class AlarmActions:
    """`groups`: where policies are. `execute` submits to them; `newest` says what an alarm's metric was last,
    and its threshold."""

    def __init__(
        self,
        calls: Calls,
        groups: State,
        execute: Callable[[ExecutePolicy], Awaitable[object]],
        newest: Callable[[str], tuple[tuple[float, ...], float] | None],
    ) -> None:
        self._calls = calls
        self._groups = groups
        self._execute = execute
        self._newest = newest
        self._carry_out = {TOPIC: self._publish, SCALING: self._scale, EC2: self._on_instance}

    async def act(self, act: Act) -> None:
        """Raises CloudError."""
        await self._carry_out[act.kind](act)

    async def _publish(self, act: Act) -> None:
        await publish(self._calls, act.scope, act.arn, act.subject, act.message)

    async def _scale(self, act: Act) -> None:
        policy = policy_by_arn(self._groups, act.arn)
        if policy is None:
            raise NotFound(f"There is no scaling policy {act.arn[:255]}")
        values, threshold = self._newest(act.alarm_key) or _as_told(act.reason_data)
        alarm = act.alarm_key.rpartition("/")[2]
        group = self._groups.groups[policy.group].name
        await self._execute(ExecutePolicy(act.scope, group, policy.name, values, threshold, alarm=alarm))

    async def _on_instance(self, act: Act) -> None:
        if not act.instance_id:
            raise InvalidParameterValue("the alarm's metric has no dimension InstanceId")
        if act.verb == "recover":
            await self._check_failed(act)
        ids = [act.instance_id]
        verb = {"stop": "Stop", "terminate": "Terminate", "reboot": "Reboot", "recover": "Start"}[act.verb]
        request = (
            instance_pb2.StopInstancesRequest(instance_ids=ids)
            if verb == "Stop"
            else instance_pb2.InstanceIdsRequest(instance_ids=ids)
        )
        await self._calls.control(act.scope, f"InstanceService/{verb}", request, instance_pb2.StateChanges)

    async def _check_failed(self, act: Act) -> None:
        """Raises IncorrectState: it runs, or its user has stopped it."""
        request = instance_pb2.GetInstanceRequest(instance_id=act.instance_id)
        found = await self._calls.control(act.scope, "InstanceService/Get", request, instance_pb2.Instance)
        if found.state != "stopped" or not found.state_reason.code.startswith("Server."):
            text = f"The instance '{act.instance_id}' is {found.state}, and not by a failure; it is not recovered."
            raise IncorrectState(text)


async def publish(calls: Calls, scope: Scope, topic: str, subject: str, text: str) -> None:
    """Raises CloudError."""
    entry = topic_pb2.PublishEntry(message=text.encode(), subject=subject)
    request = topic_pb2.PublishMessagesRequest(topic=topic, entries=[entry])
    method = "TopicService/PublishMessages"
    reply = await calls.shard(TOPICS_AND_QUEUES, scope, method, request, topic_pb2.PublishMessagesReply)
    _raise(reply.results[0].error)


async def send(calls: Calls, scope: Scope, queue: str, text: str) -> None:
    """Raises CloudError."""
    request = queue_pb2.SendMessagesRequest(queue=queue, entries=[queue_pb2.SendEntry(body=text.encode())])
    method = "QueueService/SendMessages"
    reply = await calls.shard(TOPICS_AND_QUEUES, scope, method, request, queue_pb2.SendMessagesReply)
    _raise(reply.results[0].error)


def _raise(error: queue_pb2.EntryError) -> None:
    if error.code:
        raise from_code(error.code, error.message, error.field, error.sender_fault)


def _as_told(reason_data: str) -> tuple[tuple[float, ...], float | None]:
    """What the change of state told, of an alarm whose metric cannot be read now."""
    told = json.loads(reason_data or "{}")
    values = [value for value in told.get("recentDatapoints", []) if value is not None]
    return tuple(values), told.get("threshold")
