"""InstanceService (protos/minicloud/wire/instance.proto)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from minicloud.base import limits
from minicloud.base.arn import Caller
from minicloud.base.errors import IncorrectState, InvalidParameterValue, MissingParameter, Unavailable
from minicloud.compute import commands, instances, queries, security
from minicloud.compute.model import Instance
from minicloud.compute.ports import Quotas
from minicloud.compute.rpc import translate
from minicloud.compute.service import ComputeService
from minicloud.wire import instance_pb2 as pb

TICKET_S = 300.0  # ours: how long a ticket opens new streams; a stream that is open stays


@dataclass(frozen=True, slots=True)
class DoorPorts:
    """`issue_ticket(instance_id, account, expires)`; `read_console(agent address, instance_id, account)`."""

    quotas: Quotas
    pager: queries.Pager
    issue_ticket: Callable[[str, str, float], str]
    read_console: Callable[[str, str, str], Awaitable[bytes]]
    tls: bool = False


class InstanceServicer:
    def __init__(self, service: ComputeService, ports: DoorPorts) -> None:
        self._service = service
        self._state = service.state
        self._ports = ports

    async def Launch(self, request: pb.LaunchRequest, caller: Caller) -> pb.LaunchResponse:
        quotas, account = self._ports.quotas, caller.scope.account
        command = commands.Launch(
            scope=caller.scope,
            spec=replace(launch_spec(request), security_groups=self._groups(request.security_groups, caller)),
            min_count=request.min_count,
            max_count=request.max_count,
            client_token=request.client_token,
            template=request.launch_template.id or request.launch_template.name,
            template_version=request.launch_template.version,
            dry_run=request.dry_run,
            quota_instances=quotas.limit(account, "instances"),
            quota_vcpus=quotas.limit(account, "vcpus"),
            service=caller.service,
        )
        made = await self._service.submit(command)
        return pb.LaunchResponse(reservation_id=made.id, instances=[self._message(one) for one in made.instances])

    def _groups(self, named: Iterable[str], caller: Caller) -> tuple[str, ...]:
        """Their ids, by id or name."""
        return tuple(dict.fromkeys(security.find_any(self._state, caller.scope, one).id for one in named))

    async def Get(self, request: pb.GetInstanceRequest, caller: Caller) -> pb.Instance:
        return await self._service.shown(
            lambda: self._message(instances.find(self._state, caller.scope, request.instance_id))
        )

    async def List(self, request: pb.ListInstancesRequest, caller: Caller) -> pb.ListInstancesResponse:
        return await self._service.shown(lambda: self._list(request, caller))

    def _list(self, request: pb.ListInstancesRequest, caller: Caller) -> pb.ListInstancesResponse:
        found, token = queries.instances(
            self._state,
            caller.scope,
            tuple(request.instance_ids),
            queries.as_filters(request.filters),
            queries.Page(request.page_size, request.page_token),
            self._ports.pager,
        )
        return pb.ListInstancesResponse(instances=[self._message(one) for one in found], next_page_token=token)

    async def Watch(self, request: pb.WatchInstancesRequest, caller: Caller) -> AsyncIterator[pb.Instance]:
        ids = list(dict.fromkeys(request.instance_ids))
        if len(ids) > limits.PAGE_SIZE_MAX:
            raise InvalidParameterValue(f"at most {limits.PAGE_SIZE_MAX} instances at once", field="instance_ids")
        instances.find_all(self._state, caller.scope, ids)
        last: dict[str, bytes] = {}
        async with self._service.waiters.watch(*[(Instance.kind, one) for one in ids]) as watch:
            while True:
                for message in await self._service.shown(lambda: self._messages(ids)):
                    raw = message.SerializeToString(deterministic=True)
                    if last.get(message.id) != raw:
                        last[message.id] = raw
                        yield message
                await watch.wait()

    def _messages(self, ids: list[str]) -> list[pb.Instance]:
        found = (self._state.instances.get(one) for one in ids)
        return [self._message(instance) for instance in found if instance is not None]

    async def Start(self, request: pb.InstanceIdsRequest, caller: Caller) -> pb.StateChanges:
        quota = self._ports.quotas.limit(caller.scope.account, "vcpus")
        return await self._change(commands.StartInstances(caller.scope, tuple(request.instance_ids), quota))

    async def Stop(self, request: pb.StopInstancesRequest, caller: Caller) -> pb.StateChanges:
        return await self._change(commands.StopInstances(caller.scope, tuple(request.instance_ids), request.force))

    async def Terminate(self, request: pb.InstanceIdsRequest, caller: Caller) -> pb.StateChanges:
        return await self._change(commands.TerminateInstances(caller.scope, tuple(request.instance_ids)))

    async def _change(self, command: object) -> pb.StateChanges:
        changes: list[instances.Change] = await self._service.submit(command)
        return pb.StateChanges(
            changes=[
                pb.StateChange(instance_id=one.id, previous_state=one.before, current_state=one.after)
                for one in changes
            ]
        )

    async def Reboot(self, request: pb.InstanceIdsRequest, caller: Caller) -> pb.StateChanges:
        found = await self._service.reboot(commands.RebootInstances(caller.scope, tuple(request.instance_ids)))
        return pb.StateChanges(
            changes=[
                pb.StateChange(instance_id=one.id, previous_state=one.state, current_state=one.state) for one in found
            ]
        )

    async def Modify(self, request: pb.ModifyInstanceRequest, caller: Caller) -> pb.Instance:
        def given(name: str) -> object:
            return getattr(request, name) if request.HasField(name) else None  # type: ignore[arg-type]

        command = commands.ModifyInstance(
            scope=caller.scope,
            id=request.instance_id,
            instance_type=given("instance_type"),  # type: ignore[arg-type]
            termination_protection=given("termination_protection"),  # type: ignore[arg-type]
            user_data=given("user_data"),  # type: ignore[arg-type]
            shutdown_behavior=given("shutdown_behavior"),  # type: ignore[arg-type]
            cpu_credits=given("cpu_credits"),  # type: ignore[arg-type]
            monitoring=given("monitoring"),  # type: ignore[arg-type]
            http_tokens=request.metadata_options.http_tokens or None,
            http_endpoint=request.metadata_options.http_endpoint or None,
            security_groups=self._groups(request.security_groups, caller) or None,
        )
        after: Instance = await self._service.submit(command)
        self._service.push_options(after)
        return self._message(after)

    async def GetConsole(self, request: pb.GetInstanceRequest, caller: Caller) -> pb.ConsoleOutput:
        instance = instances.find(self._state, caller.scope, request.instance_id)
        address = self._agent_address(instance)
        output = await self._ports.read_console(address, instance.id, instance.account)
        return pb.ConsoleOutput(
            instance_id=instance.id, output=output[-limits.CONSOLE_REPLY_BYTES_MAX :], timestamp=time.time()
        )

    async def GetEndpoint(self, request: pb.GetEndpointRequest, caller: Caller) -> pb.Endpoint:
        instance = instances.find(self._state, caller.scope, request.instance_id)
        if instance.state == "terminated":
            raise IncorrectState(f"The instance '{instance.id}' is 'terminated'", field="instance_id")
        expires = time.time() + TICKET_S
        return pb.Endpoint(
            address=self._agent_address(instance),
            ticket=self._ports.issue_ticket(instance.id, instance.account, expires),
            expires=expires,
            tls=self._ports.tls,
        )

    def _agent_address(self, instance: Instance) -> str:
        host = self._state.hosts.get(instance.host_id)
        if host is None or host.state != "up":
            raise Unavailable(f"the host of '{instance.id}' is down", field="instance_id")
        return host.agent_address

    async def Tag(self, request: pb.TagRequest, caller: Caller) -> pb.TagResponse:
        if not request.tags:
            raise MissingParameter("at least one tag is needed", field="tags")
        return await self._retag(
            commands.SetTags(caller.scope, request.resource_id, dict(request.tags), service=caller.service)
        )

    async def Untag(self, request: pb.UntagRequest, caller: Caller) -> pb.TagResponse:
        if not request.keys:
            raise MissingParameter("at least one key is needed", field="keys")
        return await self._retag(
            commands.SetTags(caller.scope, request.resource_id, remove=tuple(request.keys), service=caller.service)
        )

    async def _retag(self, command: commands.SetTags) -> pb.TagResponse:
        tags: dict[str, str] = await self._service.submit(command)
        with contextlib.suppress(KeyError):
            self._service.push_options(self._state.instances[command.resource_id])
        return pb.TagResponse(tags=tags)

    def _message(self, instance: Instance) -> pb.Instance:
        return translate.instance(self._service, instance)


def launch_spec(request: pb.LaunchRequest) -> commands.LaunchSpec:
    return commands.LaunchSpec(
        image_id=request.image_id,
        instance_type=request.instance_type,
        key_name=request.key_name,
        user_data=request.user_data,
        zone=request.placement.zone,
        host_id=request.placement.host_id,
        group_name=request.placement.group_name,
        partition=request.placement.partition,
        strategy=request.placement.strategy,
        tags=dict(request.tags),
        termination_protection=request.termination_protection or None,
        http_tokens=request.metadata_options.http_tokens,
        http_endpoint=request.metadata_options.http_endpoint,
        shutdown_behavior=request.shutdown_behavior,
        cpu_credits=request.cpu_credits,
        monitoring=request.monitoring or None,
    )
