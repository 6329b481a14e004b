"""EventBridge Scheduler's wire on the schedules of functions."""

from __future__ import annotations

from minicloud.aws.call import Call, harmless, only, refused
from minicloud.aws.lists import NEXT_TOKEN
from minicloud.base.errors import CloudError, InvalidRequest
from minicloud.function import commands, errors, schedules
from minicloud.function.aws.base import Params, Result
from minicloud.function.model import Schedule
from minicloud.function.service import FunctionService
from minicloud.function.state import State

GROUP = "default"
PAGE_MAX = 100  # model, MaxResults
ENABLED, DISABLED, DELETE = "ENABLED", "DISABLED", "DELETE"
UTC = "UTC"
_NAMES = ("Name", "GroupName")
_PARTS = (
    "ScheduleExpression",
    "ScheduleExpressionTimezone",
    "StartDate",
    "EndDate",
    "Description",
    "State",
    "Target",
    "FlexibleTimeWindow",
    "ActionAfterCompletion",
    "ClientToken",
)


class Scheduler:
    """Schedules that invoke functions (asynchronously, so retries and dead letters are the function's own). Targets of
    other services, flexible time windows, retry policies and schedule groups besides `default` are refused.
    """

    def __init__(self, service: FunctionService, page_secret: bytes) -> None:
        self._service = service
        self._secret = page_secret

    async def CreateSchedule(self, params: Params, call: Call) -> Result:
        return await self._put(params, call, commands.CREATE)

    async def UpdateSchedule(self, params: Params, call: Call) -> Result:
        """Changes it as a whole, as in AWS: what is not given goes back to its default."""
        return await self._put(params, call, commands.UPDATE)

    async def _put(self, params: Params, call: Call, only_if: str) -> Result:
        only(params, call, *_NAMES, *_PARTS)
        _group(params, call)
        harmless(params, call, {"FlexibleTimeWindow": {"Mode": "OFF"}})
        target = params["Target"]
        for name in target:
            if name not in ("Arn", "RoleArn", "Input"):
                raise refused(f"Target.{name}", call)
        if not target["Arn"].startswith("arn:aws:lambda:"):
            raise refused("Target.Arn", call, "Schedules invoke functions.")
        command = commands.PutSchedule(
            call.caller.scope,
            params["Name"],
            params["ScheduleExpression"],
            target["Arn"],
            params.get("ScheduleExpressionTimezone", ""),
            target.get("Input", ""),
            params.get("State", ENABLED) == ENABLED,
            params.get("Description", ""),
            target["RoleArn"],
            params.get("StartDate"),
            params.get("EndDate"),
            params.get("ActionAfterCompletion") == DELETE,
            params.get("ClientToken", ""),
            only_if,
        )
        try:
            made = await self._service.submit(command)
        except InvalidRequest as error:
            raise _said(error) from None
        return {"ScheduleArn": made.arn}

    async def GetSchedule(self, params: Params, call: Call) -> Result:
        only(params, call, *_NAMES)
        _group(params, call)
        return await self._service.shown(
            lambda state: _schedule(schedules.find(state, call.caller.scope, params["Name"]))
        )

    async def ListSchedules(self, params: Params, call: Call) -> Result:
        only(params, call, "GroupName", "NamePrefix", "State", "NextToken", "MaxResults")
        _group(params, call)
        prefix, wanted = params.get("NamePrefix", ""), params.get("State")

        def look(state: State) -> Result:
            every = (state.schedules[key] for key in state.page(Schedule.kind, call.caller.scope))
            found = {
                one.arn: one for one in every if one.name.startswith(prefix) and wanted in (None, _schedule_state(one))
            }
            some, token = NEXT_TOKEN.page(self._secret, call, params, found, params.get("MaxResults", PAGE_MAX))
            return {"Schedules": [_summary(one) for one in some], **token}

        return await self._service.shown(look)

    async def DeleteSchedule(self, params: Params, call: Call) -> Result:
        only(params, call, *_NAMES, "ClientToken")
        _group(params, call)
        await self._service.submit(commands.DeleteSchedule(call.caller.scope, params["Name"]))
        return {}

    # --- groups

    async def GetScheduleGroup(self, params: Params, call: Call) -> Result:
        """There is the group `default`."""
        only(params, call, "Name")
        if params["Name"] != GROUP:
            raise _no_group(params["Name"])
        return _default(call)

    async def ListScheduleGroups(self, params: Params, call: Call) -> Result:
        """There is the group `default`."""
        only(params, call, "NamePrefix", "NextToken", "MaxResults")
        if "NextToken" in params:
            raise refused("NextToken", call)
        shown = [_default(call)] if GROUP.startswith(params.get("NamePrefix", "")) else []
        return {"ScheduleGroups": shown[: params.get("MaxResults", PAGE_MAX)]}


def _group(params: Params, call: Call) -> None:
    """Raises ResourceNotFoundException for another group than there is."""
    if params.get("GroupName", GROUP) != GROUP:
        raise _no_group(params["GroupName"])


def _no_group(name: str) -> CloudError:
    return errors.NoSuchThing(f"Schedule group {name} does not exist.", field="GroupName")


def _said(error: InvalidRequest) -> InvalidRequest:
    """This service knows one code for whatever is not of its form."""
    return InvalidRequest(error.message, code="ValidationException", field=error.field)


def _default(call: Call) -> Result:
    arn = call.caller.scope.arn("scheduler", f"schedule-group/{GROUP}")
    return {"Arn": arn, "Name": GROUP, "State": "ACTIVE"}


def _schedule_state(one: Schedule) -> str:
    return ENABLED if one.enabled else DISABLED


def _summary(one: Schedule) -> Result:
    return {
        "Arn": one.arn,
        "Name": one.name,
        "GroupName": GROUP,
        "State": _schedule_state(one),
        "CreationDate": one.created,
        "LastModificationDate": one.modified or one.created,
        "Target": {"Arn": one.target},
    }


def _schedule(one: Schedule) -> Result:
    target: Result = {"Arn": one.target, "RoleArn": one.role}
    if one.input:
        target["Input"] = one.input
    shown = _summary(one) | {
        "ScheduleExpression": one.expression,
        "ScheduleExpressionTimezone": one.zone or UTC,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": DELETE if one.ends else "NONE",
        "Target": target,
    }
    if one.description:
        shown["Description"] = one.description
    if one.start is not None:
        shown["StartDate"] = one.start
    if one.end is not None:
        shown["EndDate"] = one.end
    return shown
