"""SSM: commands that run in instances, what instances can take them, parameters."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any

from minicloud.aws.call import Call, only, refused
from minicloud.aws.lists import NEXT_TOKEN
from minicloud.base import limits
from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, InvalidParameterValue, NotFound, UnsupportedOperation
from minicloud.compute.aws.filters import TAGS, Fields, checked
from minicloud.compute.aws.running import Runner
from minicloud.compute.model import Instance
from minicloud.compute.service import ComputeService
from minicloud.compute.ssm import Invocation, Send, SentCommand, Ssm

Params = dict[str, Any]
Result = dict[str, Any]
DOCUMENT = "AWS-RunShellScript"
PLUGIN = "aws:runShellScript"
OUT_CHARS_MAX, ERR_CHARS_MAX = 24_000, 8_000  # SSM API, GetCommandInvocation
SUMMARY_CHARS_MAX = 2_500  # SSM API, ListCommandInvocations: CommandPlugin.Output
_DETAILS = {"InProgress": "In Progress", "TimedOut": "Execution Timed Out"}


class CommandDoor:
    """Run Command. Parameters are beside, in parameters.py."""

    def __init__(self, service: ComputeService, ssm: Ssm, runner: Runner, page_secret: bytes) -> None:
        self._service = service
        self._state = service.state
        self._ssm = ssm
        self._runner = runner
        self._page_secret = page_secret

    def _page(self, call: Call, params: Params, items: dict[str, Any], most: int = 50) -> tuple[list[Any], Result]:
        return NEXT_TOKEN.page(self._page_secret, call, params, items, params.get("MaxResults", most))

    # --- instances

    async def DescribeInstanceInformation(self, params: Params, call: Call) -> Result:
        """Every running instance takes commands, without an agent of its own."""
        only(params, call, "InstanceInformationFilterList", "Filters", "MaxResults", "NextToken")
        old = [
            {"Name": one["key"], "Values": one["valueSet"]} for one in params.get("InstanceInformationFilterList", ())
        ]
        new = [{"Name": one["Key"], "Values": one["Values"]} for one in params.get("Filters", ())]
        return await self._service.shown(lambda: self._information(params, call, [*old, *new]))

    def _information(self, params: Params, call: Call, filters: list[Result]) -> Result:
        try:
            test = checked(filters, self._fields())
        except InvalidParameterValue as error:
            raise InvalidParameterValue(error.message, code="InvalidFilterKey") from None
        found = {one.id: one for one in self._online(call.caller.scope) if test(one)}
        some, end = self._page(call, params, found)
        return {**end, "InstanceInformationList": [self._informed(one) for one in some]}

    def _fields(self) -> Fields[Instance]:
        return {
            TAGS: lambda one: one.tags,
            "InstanceIds": lambda one: one.id,
            "PingStatus": lambda one: "Online",
            "PlatformTypes": lambda one: "Linux",
            "ResourceType": lambda one: "EC2Instance",
            "IamRole": lambda one: one.profile,
            "AgentVersion": lambda one: _AGENT,
        }

    def _online(self, scope: Scope) -> Iterable[Instance]:
        for key in self._state.page(Instance.kind, scope):
            one = self._state.instances[key]
            if self._is_online(one):
                yield one

    def _is_online(self, one: Instance) -> bool:
        return one.state == "running" and self._service.links.get(one.host_id) is not None

    def _informed(self, one: Instance) -> Result:
        link = self._service.links.get(one.host_id)
        return {
            "InstanceId": one.id,
            "PingStatus": "Online",
            "LastPingDateTime": link.vitals.seen if link else one.launched,
            "AgentVersion": _AGENT,
            "IsLatestVersion": True,
            "PlatformType": "Linux",
            "PlatformName": "minicloud",
            "ResourceType": "EC2Instance",
            "RegistrationDate": one.created,
            "IPAddress": one.private_ip,
            "ComputerName": one.id,
            "SourceId": one.id,
            "SourceType": "AWS::EC2::Instance",
        }

    # --- commands

    async def SendCommand(self, params: Params, call: Call) -> Result:
        """AWS-RunShellScript alone; output to S3 and notifications are refused."""
        only(
            params, call, "InstanceIds", "Targets", "DocumentName", "DocumentVersion", "TimeoutSeconds", "Comment",
            "Parameters", "MaxConcurrency",
        )  # fmt: skip
        name = params["DocumentName"].rpartition("/")[2]
        if name != DOCUMENT or params.get("DocumentVersion", "$DEFAULT") not in ("$DEFAULT", "$LATEST", "1"):
            raise NotFound(f"minicloud has the document {DOCUMENT} alone", code="InvalidDocument")
        given = params.get("Parameters", {})
        script, cwd, seconds = _script(given)
        scope, now = call.caller.scope, self._runner.wall()
        found = await self._service.shown(lambda: self._targets(params, scope))
        command = SentCommand(
            id=str(uuid.uuid4()),
            account=scope.account,
            region=scope.region,
            script=script,
            requested=now,
            expires=now + limits.SSM_COMMANDS_KEPT_S,
            instances=found,
            timeout_s=seconds,
            cwd=cwd,
            comment=params.get("Comment", ""),
            targets=params.get("Targets", []),
            parameters=given,
            concurrency=params.get("MaxConcurrency", "50"),
            deliver_s=params.get("TimeoutSeconds", 3600),
        )
        await self._runner.send(Send(command))
        return {"Command": self._command(command)}

    def _targets(self, params: Params, scope: Scope) -> list[str]:
        """Instances that are named must be able to take commands; of those that a tag selects, who can does."""
        if params.get("Targets"):
            filters = [{"Name": one.get("Key", ""), "Values": one.get("Values", [])} for one in params["Targets"]]
            fields: Fields[Instance] = {TAGS: lambda one: one.tags, "InstanceIds": lambda one: one.id}
            try:
                test = checked(filters, fields)
            except InvalidParameterValue as error:
                raise InvalidParameterValue(error.message, code="InvalidParameters", field="Targets") from None
            return [one.id for one in self._online(scope) if test(one)]
        wanted = list(dict.fromkeys(params.get("InstanceIds", ())))
        online = {one.id for one in self._online(scope)}
        if not wanted:
            raise InvalidParameterValue("InstanceIds or Targets are needed", code="InvalidInstanceId")
        if missing := [one for one in wanted if one not in online]:
            raise InvalidParameterValue(
                f"Instances [{missing}] not in a valid state for account {scope.account}", code="InvalidInstanceId"
            )
        return wanted

    async def GetCommandInvocation(self, params: Params, call: Call) -> Result:
        if params.get("PluginName", PLUGIN) != PLUGIN:
            raise NotFound("", code="InvalidPluginName")

        def look() -> Result:
            command = self._ssm.command(call.caller.scope, params["CommandId"])
            return self._invoked(command, self._ssm.invocation(command, params["InstanceId"]))

        return await self._service.shown(look)

    def _invoked(self, command: SentCommand, one: Invocation) -> Result:
        shown: Result = {
            "CommandId": command.id,
            "InstanceId": one.instance,
            "Comment": command.comment,
            "DocumentName": DOCUMENT,
            "DocumentVersion": "$DEFAULT",
            "PluginName": PLUGIN,
            "ResponseCode": one.code,
            "Status": one.status,
            "StatusDetails": _details(one),
            "StandardOutputContent": one.out[:OUT_CHARS_MAX],
            "StandardOutputUrl": "",
            "StandardErrorContent": one.err[:ERR_CHARS_MAX],
            "StandardErrorUrl": "",
            "ExecutionStartDateTime": _stamp(one.started),
            "ExecutionEndDateTime": _stamp(one.finished),
            "ExecutionElapsedTime": f"PT{max(one.finished - one.started, 0.0):.3f}S" if one.finished else "",
        }
        return shown

    async def ListCommandInvocations(self, params: Params, call: Call) -> Result:
        only(params, call, "CommandId", "InstanceId", "MaxResults", "NextToken", "Details", "Filters")
        return await self._service.shown(lambda: self._invocations(params, call))

    def _invocations(self, params: Params, call: Call) -> Result:
        found = {
            f"{command.requested:020.6f} {command.id} {one.instance}": (command, one)
            for command in self._chosen(params, call)
            for one in self._ssm.of_command(command)
            if params.get("InstanceId") in (None, one.instance)
        }
        some, end = self._page(call, params, found)
        details = bool(params.get("Details"))
        return {**end, "CommandInvocations": [self._listed(command, one, details) for command, one in some]}

    def _chosen(self, params: Params, call: Call) -> list[SentCommand]:
        if params.get("CommandId"):
            chosen = [self._ssm.command(call.caller.scope, params["CommandId"])]
        else:
            chosen = self._ssm.commands_of(call.caller.scope)
        for one in params.get("Filters", ()):
            key, value = one["key"], one["value"]
            if key == "Status":
                chosen = [command for command in chosen if self._ssm.status(command) == value]
            elif key == "DocumentName":
                chosen = [command for command in chosen if value == DOCUMENT]
            else:
                raise refused(f"Filters.{key}", call)
        return chosen

    def _listed(self, command: SentCommand, one: Invocation, details: bool) -> Result:
        instance = self._state.instances.get(one.instance)
        shown: Result = {
            "CommandId": command.id,
            "InstanceId": one.instance,
            "InstanceName": instance.tags.get("Name", "") if instance else "",
            "Comment": command.comment,
            "DocumentName": DOCUMENT,
            "DocumentVersion": "$DEFAULT",
            "RequestedDateTime": command.requested,
            "Status": one.status,
            "StatusDetails": _details(one),
            "StandardOutputUrl": "",
            "StandardErrorUrl": "",
            "CommandPlugins": [],
        }
        if details:
            text = one.out + (f"\n----------ERROR-------\n{one.err}" if one.err else "")
            plugin: Result = {
                "Name": PLUGIN,
                "Status": one.status,
                "StatusDetails": shown["StatusDetails"],
                "ResponseCode": one.code,
                "Output": text[:SUMMARY_CHARS_MAX],
                "StandardOutputUrl": "",
                "StandardErrorUrl": "",
            }
            if one.started:
                plugin["ResponseStartDateTime"] = one.started
            if one.finished:
                plugin["ResponseFinishDateTime"] = one.finished
            shown["CommandPlugins"] = [plugin]
        return shown

    async def ListCommands(self, params: Params, call: Call) -> Result:
        only(params, call, "CommandId", "InstanceId", "MaxResults", "NextToken", "Filters")

        def look() -> Result:
            found = {
                f"{one.requested:020.6f} {one.id}": one
                for one in self._chosen(params, call)
                if not params.get("InstanceId") or params["InstanceId"] in one.instances
            }
            some, end = self._page(call, params, found)
            return {**end, "Commands": [self._command(one) for one in some]}

        return await self._service.shown(look)

    def _command(self, command: SentCommand) -> Result:
        said = [one.status for one in self._ssm.of_command(command)]
        status = self._ssm.status(command)
        return {
            "CommandId": command.id,
            "DocumentName": DOCUMENT,
            "DocumentVersion": "$DEFAULT",
            "Comment": command.comment,
            "ExpiresAfter": command.requested + command.deliver_s,
            "Parameters": command.parameters,
            "InstanceIds": command.instances,
            "Targets": command.targets,
            "RequestedDateTime": command.requested,
            "Status": status,
            "StatusDetails": _DETAILS.get(status, status),
            "MaxConcurrency": command.concurrency,
            "MaxErrors": "0",
            "TargetCount": len(said),
            "CompletedCount": sum(1 for one in said if one not in ("Pending", "InProgress")),
            "ErrorCount": sum(1 for one in said if one in ("Failed", "TimedOut")),
            "DeliveryTimedOutCount": sum(1 for one in self._ssm.of_command(command) if _undelivered(one)),
            "TimeoutSeconds": command.deliver_s,
        }

    async def CancelCommand(self, params: Params, call: Call) -> Result:
        command = await self._service.shown(lambda: self._ssm.command(call.caller.scope, params["CommandId"]))
        wanted = params.get("InstanceIds") or command.instances
        if strange := set(wanted) - set(command.instances):
            raise InvalidParameterValue(f"{min(strange)[:64]} is not of this command", code="InvalidInstanceId")
        await self._runner.cancel(command, wanted)
        return {}

    async def StartSession(self, params: Params, call: Call) -> Result:
        """Always refused, with the way there is: `minicloud instance connect`."""
        raise UnsupportedOperation(
            f"Sessions are not served over this protocol; use `minicloud instance connect {params['Target'][:64]}`.",
            code="ValidationException",
        )

    async def DescribeSessions(self, params: Params, call: Call) -> Result:
        """There are none."""
        only(params, call, "State", "Filters", "MaxResults", "NextToken")
        sessions: dict[str, list[Result]] = {"Active": [], "History": []}
        return {"Sessions": sessions[params["State"]]}

    async def TerminateSession(self, params: Params, call: Call) -> Result:
        """There are none."""
        raise NotFound(f"Session {params['SessionId'][:96]} does not exist.", code="DoesNotExistException")


_AGENT = "3.3.0.0"  # tools refuse agents that look old


def _undelivered(one: Invocation) -> bool:
    return one.status == "TimedOut" and not one.started


def _details(one: Invocation) -> str:
    return "Delivery Timed Out" if _undelivered(one) else _DETAILS.get(one.status, one.status)


def _stamp(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(when)) if when else ""


def _script(given: dict[str, list[str]]) -> tuple[str, str, int]:
    """Script, directory and time limit of AWS-RunShellScript. Raises InvalidParameterValue (InvalidParameters)."""
    for name in given:
        if name not in ("commands", "workingDirectory", "executionTimeout"):
            raise _bad(f"{DOCUMENT} has no parameter {name[:64]}")
    lines = given.get("commands", [])
    script = "\n".join(lines)
    if not lines or len(script.encode()) > limits.SSM_SCRIPT_BYTES_MAX:
        raise _bad(f"commands must have 1 to {limits.SSM_SCRIPT_BYTES_MAX} bytes")
    text = (given.get("executionTimeout") or ["3600"])[0]
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= limits.SSM_RUN_S_MAX:
        raise _bad(f"executionTimeout must be 1 to {limits.SSM_RUN_S_MAX} seconds")
    return script, (given.get("workingDirectory") or [""])[0], int(text)


def _bad(text: str) -> CloudError:
    return InvalidParameterValue(text, code="InvalidParameters", field="Parameters")
