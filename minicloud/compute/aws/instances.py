"""Instances that exist: describe, start, stop, reboot, terminate, status, console."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from minicloud.aws.call import Call, Decide, Decided, only, refused
from minicloud.aws.kept import Answers
from minicloud.base import limits
from minicloud.base.errors import CloudError, InvalidParameterCombination, MissingParameter, Unavailable
from minicloud.compute import commands, instances, vpc
from minicloud.compute.aws import shown
from minicloud.compute.aws.base import Noun, Params, Result, named_in
from minicloud.compute.model import Instance
from minicloud.compute.rpc.translate import statuses

_REACHABLE = {"ok": "passed", "impaired": "failed", "initializing": "initializing"}


_DESCRIBED_BY = ("InstanceIds", "Filters", "NextToken", "MaxResults", "DryRun", "IncludeManagedResources")


class InstanceDoor(Noun):
    @cached_property
    def decides(self) -> Mapping[str, Decide]:
        return {"DescribeInstances": self._describe_now}

    def after_flush(self, done: Callable[[CloudError | None], None]) -> None:
        """What is decided in one turn here is on disk already."""
        asyncio.get_running_loop().call_soon(done, None)

    @cached_property
    def _answers(self) -> Answers:
        return Answers()

    @cached_property
    def _remembered(self) -> shown.Remembered:
        return shown.Remembered()

    async def DescribeInstances(self, params: Params, call: Call) -> Result:
        """PublicIpAddress is the address by which the machine that runs the cloud reaches the guest."""
        only(params, call, *_DESCRIBED_BY)
        return await self._shown(params, lambda: self._describe(params, call))

    def _describe_now(self, params: Params, call: Call) -> Decided | None:
        """The same in one turn: nothing that it shows is still on its way to the disk."""
        if params.get("DryRun") or not self._service.settled():
            return None
        only(params, call, *_DESCRIBED_BY)
        return Decided(self._describe(params, call))

    def _describe(self, params: Params, call: Call) -> Result:
        """Asked again while no record of the scope has changed, the same answer: people and waiters poll."""
        scope = call.caller.scope
        question = f"{scope} {sorted(params.items())}"
        version = self._state.changes.get(scope, 0)
        return self._answers.of(scope.account, question, version, lambda: self._described(params, call))

    def _described(self, params: Params, call: Call) -> Result:
        some, result = self._instances(params, call, shown.fields(self._state, call.caller.scope))
        reservations: dict[str, Result] = {}
        for one in some:
            made = reservations.setdefault(
                one.reservation_id,
                {"ReservationId": one.reservation_id, "OwnerId": one.account, "Groups": [], "Instances": []},
            )
            made["Instances"].append(self._remembered(self._state, one))
        return {**result, "Reservations": list(reservations.values())}

    def _instances(self, params: Params, call: Call, fields: Any) -> tuple[list[Instance], Result]:
        scope = call.caller.scope
        if params.get("InstanceIds") and "MaxResults" in params:
            raise InvalidParameterCombination(
                "The parameter instancesSet cannot be used with the parameter maxResults", field="MaxResults"
            )
        found = named_in(params, "InstanceIds", lambda one: instances.find(self._state, scope, one, "InstanceIds"))
        if found is None:
            found = [self._state.instances[key] for key in self._state.page(Instance.kind, scope)]
        return self._page(call, params, ((one.id, one) for one in found), fields)

    async def StartInstances(self, params: Params, call: Call) -> Result:
        only(params, call, "InstanceIds", "DryRun")
        quota = self._ports.quotas.limit(call.caller.scope.account, "vcpus")
        command = commands.StartInstances(call.caller.scope, tuple(params["InstanceIds"]), quota)
        return {"StartingInstances": await self._change(command, params)}

    async def StopInstances(self, params: Params, call: Call) -> Result:
        """Hibernate is refused; SkipOsShutdown is Force."""
        only(params, call, "InstanceIds", "DryRun", "Force", "Hibernate", "SkipOsShutdown")
        if params.get("Hibernate"):
            raise refused("Hibernate", call)
        force = bool(params.get("Force") or params.get("SkipOsShutdown"))
        command = commands.StopInstances(call.caller.scope, tuple(params["InstanceIds"]), force)
        return {"StoppingInstances": await self._change(command, params)}

    async def TerminateInstances(self, params: Params, call: Call) -> Result:
        only(params, call, "InstanceIds", "DryRun", "Force", "SkipOsShutdown")
        command = commands.TerminateInstances(call.caller.scope, tuple(params["InstanceIds"]))
        return {"TerminatingInstances": await self._change(command, params)}

    async def RebootInstances(self, params: Params, call: Call) -> Result:
        only(params, call, "InstanceIds", "DryRun")
        command = commands.RebootInstances(call.caller.scope, tuple(params["InstanceIds"]))
        if params.get("DryRun"):
            await self._submit(command, params)
        await self._service.reboot(command)
        return {}

    async def _change(self, command: Any, params: Params) -> list[Result]:
        changes: list[instances.Change] = await self._submit(command, params)
        return [
            {
                "InstanceId": one.id,
                "PreviousState": shown.state_of(one.before),
                "CurrentState": shown.state_of(one.after),
            }
            for one in changes
        ]

    async def DescribeInstanceStatus(self, params: Params, call: Call) -> Result:
        only(
            params, call, "InstanceIds", "Filters", "NextToken", "MaxResults", "DryRun", "IncludeAllInstances",
            "IncludeManagedResources",
        )  # fmt: skip
        return await self._shown(params, lambda: self._statuses(params, call))

    def _statuses(self, params: Params, call: Call) -> Result:
        fields = {
            "availability-zone": shown.zone,
            "availability-zone-id": lambda one: vpc.zone_id(shown.zone(one)),
            "instance-state-code": lambda one: str(shown.STATE_CODES[one.state]),
            "instance-state-name": lambda one: one.state,
            "instance-status.status": lambda one: self._status(one)[1],
            "instance-status.reachability": lambda one: _REACHABLE.get(self._status(one)[1], ""),
            "system-status.status": lambda one: self._status(one)[0],
            "system-status.reachability": lambda one: _REACHABLE.get(self._status(one)[0], ""),
            "event.code": lambda one: "",
            "event.description": lambda one: "",
        }
        if not params.get("IncludeAllInstances"):
            fields["running"] = lambda one: one.state == "running"
            running = {"Name": "running", "Values": ["true"]}
            params = {**params, "Filters": [*params.get("Filters", ()), running]}
        some, result = self._instances(params, call, fields)
        return {**result, "InstanceStatuses": [self._status_of(one) for one in some]}

    def _status(self, one: Instance) -> tuple[str, str]:
        return statuses(self._service, one)

    def _status_of(self, one: Instance) -> Result:
        system, guest = self._status(one)
        name = shown.zone(one)
        return {
            "InstanceId": one.id,
            "AvailabilityZone": name,
            "AvailabilityZoneId": vpc.zone_id(name),
            "InstanceState": shown.state_of(one.state),
            "SystemStatus": _summary(system),
            "InstanceStatus": _summary(guest),
        }

    async def GetConsoleOutput(self, params: Params, call: Call) -> Result:
        """The last 64 KiB."""
        only(params, call, "InstanceId", "Latest", "DryRun")
        one = await self._shown(
            params, lambda: instances.find(self._state, call.caller.scope, params["InstanceId"], "InstanceId")
        )
        host = self._state.hosts.get(one.host_id)
        if one.state == "terminated" or host is None:
            return {"InstanceId": one.id}
        if host.state != "up":
            raise Unavailable(f"the host of '{one.id}' is down", field="InstanceId")
        output = await self._ports.read_console(host.agent_address, one.id, one.account)
        text = base64.b64encode(output[-limits.CONSOLE_REPLY_BYTES_MAX :]).decode()
        return {"InstanceId": one.id, "Timestamp": self._ports.wall(), "Output": text}

    async def GetPasswordData(self, params: Params, call: Call) -> Result:
        """Empty, as for every Linux instance."""
        only(params, call, "InstanceId", "DryRun")
        one = await self._shown(
            params, lambda: instances.find(self._state, call.caller.scope, params["InstanceId"], "InstanceId")
        )
        return {"InstanceId": one.id, "Timestamp": self._ports.wall(), "PasswordData": ""}


def _summary(status: str) -> Result:
    reach = _REACHABLE.get(status)
    return {"Status": status, **({"Details": [{"Name": "reachability", "Status": reach}]} if reach else {})}


def instance_of(state: Any, params: Params, call: Call) -> Instance:
    if not params.get("InstanceId"):
        raise MissingParameter("The request must contain the parameter InstanceId", field="InstanceId")
    return instances.find(state, call.caller.scope, params["InstanceId"], "InstanceId")
