"""Instances: launch, describe, change, end, wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

from minicloud.base.errors import (
    DeadlineExceeded,
    IncorrectState,
    InvalidParameterCombination,
    InvalidParameterValue,
)
from minicloud.client.config import new_token
from minicloud.client.convert import check_names, to_model
from minicloud.client.guest import AsyncGuests
from minicloud.client.lazy import lazy

if TYPE_CHECKING:
    from minicloud.client import models
    from minicloud.wire import common_pb2, instance_pb2
else:
    models = lazy("minicloud.client.models")
    common_pb2 = lazy("minicloud.wire.common_pb2")
    instance_pb2 = lazy("minicloud.wire.instance_pb2")

STATES = ("pending", "running", "stopping", "stopped", "shutting-down", "terminated")
# From where the awaited state cannot come any more, as the waiters of AWS's own SDKs see it.
_DEAD_ENDS = {
    "pending": {"shutting-down", "terminated"},
    "running": {"stopping", "shutting-down", "terminated"},
    "stopping": {"shutting-down", "terminated"},
    "stopped": {"shutting-down", "terminated"},
    "shutting-down": set[str](),
    "terminated": set[str](),
}
_USER_DATA_OPEN = ("running", "")


class LaunchOptions(TypedDict, total=False):
    """Keyword arguments of `launch`, as EC2's RunInstances has them.

    count: exactly so many; or min_count and max_count. user_data: text, at most 16 KiB. group_name, partition: a
    placement group. strategy: binpack | spread. http_tokens: optional | required. http_endpoint: enabled | disabled.
    shutdown_behavior: stop | terminate. cpu_credits: standard | unlimited. monitoring: detailed, metrics every 10 s and
    not every minute. template: id or name; template_version: number, "$Default" or "$Latest". dry_run: all checks,
    nothing created. security_groups: ids or names.
    """

    count: int
    min_count: int
    max_count: int
    client_token: str
    key_name: str
    user_data: str
    tags: Mapping[str, str]
    zone: str
    host_id: str
    group_name: str
    partition: int
    strategy: str
    termination_protection: bool
    http_tokens: str
    http_endpoint: str
    shutdown_behavior: str
    cpu_credits: str
    monitoring: bool
    template: str
    template_version: str
    dry_run: bool
    security_groups: Sequence[str]


class ModifyOptions(TypedDict, total=False):
    """Keyword arguments of `modify`; what is absent stays. type and user_data change only while it is stopped."""

    type: str
    termination_protection: bool
    user_data: str
    shutdown_behavior: str
    cpu_credits: str
    monitoring: bool
    http_tokens: str
    http_endpoint: str
    security_groups: Sequence[str]


class AsyncInstances(AsyncGuests):
    """Virtual servers."""

    async def launch(
        self,
        type: str = "",
        image: str = "",
        *,
        wait: bool = False,
        wait_timeout: float = 300.0,
        **options: Unpack[LaunchOptions],
    ) -> tuple[models.Instance, ...]:
        """Launch instances of a type. image: an id or a name (default "base", or the template's).

        wait: return when all run and their user data has ended (look at `user_data_status`). Safe to repeat: every
        launch carries a client token. Raises InvalidRequest, NotFound, LimitExceeded, InsufficientCapacity;
        with `wait` also IncorrectState (ended instead) and DeadlineExceeded.
        """
        request = _launch_request(type, image, options)
        reply = await self._transport.call("InstanceService/Launch", request, instance_pb2.LaunchResponse)
        launched = tuple(to_model(models.Instance, item) for item in reply.instances)
        if wait and launched:
            return await self.wait_ready([item.id for item in launched], wait_timeout)
        return launched

    async def get(self, instance_id: str) -> models.Instance:
        """Raises NotFound, MalformedId."""
        request = instance_pb2.GetInstanceRequest(instance_id=instance_id)
        return to_model(
            models.Instance, await self._transport.call("InstanceService/Get", request, instance_pb2.Instance)
        )

    async def list(
        self,
        instance_ids: Sequence[str] = (),
        *,
        filters: Mapping[str, str | Sequence[str]] | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[models.Instance]:
        """All instances, or those named (each must exist); pages are fetched as they are needed.

        filters: EC2's names (`instance-state-name`, `tag:Name`, ...), one value or several, `*` and `?` are wildcards.
        """
        request = instance_pb2.ListInstancesRequest(
            instance_ids=instance_ids, filters=_filters(filters), page_size=page_size
        )
        while True:
            reply = await self._transport.call("InstanceService/List", request, instance_pb2.ListInstancesResponse)
            for item in reply.instances:
                yield to_model(models.Instance, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def watch(self, instance_ids: Sequence[str]) -> AsyncIterator[models.Instance]:
        """The present state of each, then every change, until the caller stops. Outlives a restart of the cloud."""
        seen: dict[str, models.Instance] = {}
        request = instance_pb2.WatchInstancesRequest(instance_ids=instance_ids)
        async for message in self._transport.follow("InstanceService/Watch", request, instance_pb2.Instance):
            instance = to_model(models.Instance, message)
            if seen.get(instance.id) != instance:  # a reconnect repeats the present state
                seen[instance.id] = instance
                yield instance

    async def wait_until(
        self,
        instance_ids: str | Sequence[str],
        state: str,
        timeout: float = 300.0,
        on_change: Callable[[models.Instance], None] | None = None,
    ) -> tuple[models.Instance, ...]:
        """Wait until all are in a state. on_change hears of every change on the way.

        Raises IncorrectState where the state cannot come any more, DeadlineExceeded.
        """
        if state not in STATES:
            raise InvalidParameterValue(f"not a state of an instance: {state!r} ({', '.join(STATES)})", field="state")
        wait = _Wait(state, timeout, lambda instance: instance.state == state, on_change)
        return await self._wait(instance_ids, wait)

    async def wait_ready(
        self,
        instance_ids: str | Sequence[str],
        timeout: float = 300.0,
        on_change: Callable[[models.Instance], None] | None = None,
    ) -> tuple[models.Instance, ...]:
        """Wait until all run and their user data has ended, well or not (`user_data_status`)."""
        return await self._wait(instance_ids, _Wait("running", timeout, _is_ready, on_change))

    async def start(self, *instance_ids: str) -> tuple[models.StateChange, ...]:
        """Start stopped instances. Raises NotFound, IncorrectState, InsufficientCapacity."""
        return await self._change("Start", instance_pb2.InstanceIdsRequest(instance_ids=instance_ids))

    async def stop(self, *instance_ids: str, force: bool = False) -> tuple[models.StateChange, ...]:
        """Stop instances; their disks stay. force: no grace, the guest is killed."""
        return await self._change("Stop", instance_pb2.StopInstancesRequest(instance_ids=instance_ids, force=force))

    async def reboot(self, *instance_ids: str) -> tuple[models.StateChange, ...]:
        """Restart the guests in place. Not retried: each call is a reboot."""
        return await self._change("Reboot", instance_pb2.InstanceIdsRequest(instance_ids=instance_ids), False)

    async def terminate(self, *instance_ids: str) -> tuple[models.StateChange, ...]:
        """End instances and delete their disks. Idempotent. Raises NotFound, OperationNotPermitted (protected)."""
        return await self._change("Terminate", instance_pb2.InstanceIdsRequest(instance_ids=instance_ids))

    async def modify(self, instance_id: str, **options: Unpack[ModifyOptions]) -> models.Instance:
        """Change attributes. Raises NotFound, IncorrectState (type or user data while not stopped), InvalidRequest."""
        request = _modify_request(instance_id, options)
        reply = await self._transport.call("InstanceService/Modify", request, instance_pb2.Instance)
        return to_model(models.Instance, reply)

    async def console(self, instance_id: str) -> models.ConsoleOutput:
        """The last 64 KiB of the console log."""
        request = instance_pb2.GetInstanceRequest(instance_id=instance_id)
        reply = await self._transport.call("InstanceService/GetConsole", request, instance_pb2.ConsoleOutput)
        return to_model(models.ConsoleOutput, reply)

    async def _change(
        self,
        verb: str,
        request: instance_pb2.InstanceIdsRequest | instance_pb2.StopInstancesRequest,
        idempotent: bool = True,
    ) -> tuple[models.StateChange, ...]:
        method = f"InstanceService/{verb}"
        reply = await self._transport.call(method, request, instance_pb2.StateChanges, idempotent=idempotent)
        return tuple(to_model(models.StateChange, change) for change in reply.changes)

    async def _wait(self, instance_ids: str | Sequence[str], wait: _Wait) -> tuple[models.Instance, ...]:
        wanted = [instance_ids] if isinstance(instance_ids, str) else list(instance_ids)
        latest: dict[str, models.Instance] = {}
        try:
            async with asyncio.timeout(wait.timeout):
                while wanted:
                    async for instance in self.watch(wanted):
                        wait.see(instance, latest)
                        if len(latest) == len(set(wanted)) and all(map(wait.arrived, latest.values())):
                            return tuple(latest[name] for name in wanted)
        except TimeoutError:
            late = [name for name in wanted if name not in latest or not wait.arrived(latest[name])]
            raise DeadlineExceeded(
                f"not {wait.state} within {wait.timeout:g} s: {', '.join(late[:5])}", field="timeout"
            ) from None
        return ()


@dataclass(frozen=True, slots=True)
class _Wait:
    """What is waited for."""

    state: str
    timeout: float
    arrived: Callable[[models.Instance], bool]
    on_change: Callable[[models.Instance], None] | None

    def see(self, instance: models.Instance, latest: dict[str, models.Instance]) -> None:
        if self.on_change is not None:
            self.on_change(instance)
        _check_hope(instance, latest.get(instance.id), self.state)
        latest[instance.id] = instance


def _is_ready(instance: models.Instance) -> bool:
    return instance.state == "running" and instance.user_data_status not in _USER_DATA_OPEN


def _check_hope(instance: models.Instance, before: models.Instance | None, state: str) -> None:
    """Raises IncorrectState where waiting longer is of no use."""
    fell = state == "running" and instance.state == "stopped" and before is not None and before.state != "stopped"
    if instance.state not in _DEAD_ENDS[state] and not fell:
        return
    reason = instance.state_reason
    why = f": {reason.code}: {reason.message}" if reason and reason.code else ""
    raise IncorrectState(
        f"{instance.id} is {instance.state}, it will not become {state}{why}",
        details={"instance_id": instance.id, "state": instance.state, "reason": reason.code if reason else ""},
    )


def _launch_request(type: str, image: str, options: LaunchOptions) -> instance_pb2.LaunchRequest:
    check_names(options, LaunchOptions)
    low, high = _counts(options)
    template = options.get("template", "")
    if options.get("template_version") and not template:
        raise InvalidParameterCombination("a version needs its template", field="template_version")
    request = instance_pb2.LaunchRequest(
        image_id=image or ("" if template else "base"),
        instance_type=type,
        min_count=low,
        max_count=high,
        client_token=options.get("client_token") or new_token(),
        key_name=options.get("key_name", ""),
        user_data=options.get("user_data", ""),
        tags=options.get("tags", {}),
        termination_protection=options.get("termination_protection", False),
        shutdown_behavior=options.get("shutdown_behavior", ""),
        cpu_credits=options.get("cpu_credits", ""),
        monitoring=options.get("monitoring", False),
        dry_run=options.get("dry_run", False),
        security_groups=options.get("security_groups", ()),
    )
    _fill_messages(request, options)
    return request


def _fill_messages(request: instance_pb2.LaunchRequest, options: LaunchOptions) -> None:
    """Sub-messages are set only when asked for: an unset one leaves the choice to the template."""
    placement = instance_pb2.Placement(
        zone=options.get("zone", ""),
        host_id=options.get("host_id", ""),
        group_name=options.get("group_name", ""),
        partition=options.get("partition", 0),
        strategy=options.get("strategy", ""),
    )
    if placement.ByteSize():
        request.placement.CopyFrom(placement)
    metadata = instance_pb2.MetadataOptions(
        http_tokens=options.get("http_tokens", ""), http_endpoint=options.get("http_endpoint", "")
    )
    if metadata.ByteSize():
        request.metadata_options.CopyFrom(metadata)
    if template := options.get("template", ""):
        field = {"id": template} if template.startswith("lt-") else {"name": template}
        version = options.get("template_version", "")
        request.launch_template.CopyFrom(instance_pb2.LaunchTemplateRef(**field, version=version))


def _counts(options: LaunchOptions) -> tuple[int, int]:
    if "count" in options:
        if "min_count" in options or "max_count" in options:
            raise InvalidParameterCombination("either count, or min_count and max_count", field="count")
        return options["count"], options["count"]
    high = options.get("max_count", max(options.get("min_count", 1), 1))
    return options.get("min_count", high), high


def _modify_request(instance_id: str, options: ModifyOptions) -> instance_pb2.ModifyInstanceRequest:
    if not options:
        raise InvalidParameterCombination("nothing to change was named", field="options")
    check_names(options, ModifyOptions)
    request = instance_pb2.ModifyInstanceRequest(
        instance_id=instance_id,
        instance_type=options.get("type"),
        termination_protection=options.get("termination_protection"),
        user_data=options.get("user_data"),
        shutdown_behavior=options.get("shutdown_behavior"),
        cpu_credits=options.get("cpu_credits"),
        monitoring=options.get("monitoring"),
        security_groups=options.get("security_groups", ()),
    )
    metadata = instance_pb2.MetadataOptions(
        http_tokens=options.get("http_tokens", ""), http_endpoint=options.get("http_endpoint", "")
    )
    if metadata.ByteSize():
        request.metadata_options.CopyFrom(metadata)
    return request


def _filters(filters: Mapping[str, str | Sequence[str]] | None) -> Sequence[common_pb2.Filter]:
    return [
        common_pb2.Filter(name=name, values=[values] if isinstance(values, str) else values)
        for name, values in (filters or {}).items()
    ]
