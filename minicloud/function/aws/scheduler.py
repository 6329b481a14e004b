"""EventBridge Scheduler's wire on the schedules of functions."""

from __future__ import annotations

from minicloud.aws.call import Call, harmless, only, refused
from minicloud.aws.lists import NEXT_TOKEN
from minicloud.base.errors import InvalidRequest
from minicloud.function import commands, schedule_groups, schedules
from minicloud.function.aws.base import Params, Result
from minicloud.function.model import Schedule, ScheduleGroup
from minicloud.function.service import FunctionService
from minicloud.function.state import State

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
    other services, flexible time windows and retry policies are refused.
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
        harmless(params, call, {"FlexibleTimeWindow": {"Mode": "OFF"}})
        target = params["Target"]
        for name in target:
            if name not in ("Arn", "RoleArn", "Input"):
                raise refused(f"Target.{name}", call)
        if not target["Arn"].startswith("arn:aws:lambda:"):
            raise refused("Target.Arn", call, "Schedules invoke functions.")
        command = commands.PutSchedule(
            call.caller.scope,
            _named(params),
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
        return await self._service.shown(
            lambda state: _schedule(schedules.find(state, call.caller.scope, _named(params)))
        )

    async def ListSchedules(self, params: Params, call: Call) -> Result:
        only(params, call, "GroupName", "NamePrefix", "State", "NextToken", "MaxResults")
        prefix, wanted = params.get("NamePrefix", ""), params.get("State")
        scope = call.caller.scope

        def look(state: State) -> Result:
            keys = state.page(Schedule.kind, scope)
            if "GroupName" in params:
                keys = state.keys_under(Schedule.kind, schedule_groups.find(state, scope, params["GroupName"]).arn)
            every = map(state.schedules.__getitem__, keys)
            found = {
                one.arn: one for one in every if one.name.startswith(prefix) and wanted in (None, _schedule_state(one))
            }
            some, token = NEXT_TOKEN.page(self._secret, call, params, found, params.get("MaxResults", PAGE_MAX))
            return {"Schedules": [_summary(one) for one in some], **token}

        return await self._service.shown(look)

    async def DeleteSchedule(self, params: Params, call: Call) -> Result:
        only(params, call, *_NAMES, "ClientToken")
        await self._service.submit(commands.DeleteSchedule(call.caller.scope, _named(params)))
        return {}

    # --- groups

    async def CreateScheduleGroup(self, params: Params, call: Call) -> Result:
        only(params, call, "Name", "Tags", "ClientToken")
        command = commands.CreateScheduleGroup(
            call.caller.scope, params["Name"], _tags(params), params.get("ClientToken", "")
        )
        try:
            made = await self._service.submit(command)
        except InvalidRequest as error:
            raise _said(error) from None
        return {"ScheduleGroupArn": made.arn}

    async def GetScheduleGroup(self, params: Params, call: Call) -> Result:
        only(params, call, "Name")
        return await self._service.shown(
            lambda state: _shown_group(schedule_groups.find(state, call.caller.scope, params["Name"]))
        )

    async def ListScheduleGroups(self, params: Params, call: Call) -> Result:
        only(params, call, "NamePrefix", "NextToken", "MaxResults")
        prefix = params.get("NamePrefix", "")

        def look(state: State) -> Result:
            every = schedule_groups.every(state, call.caller.scope)
            found = {one.name: one for one in every if one.name.startswith(prefix)}
            some, token = NEXT_TOKEN.page(self._secret, call, params, found, params.get("MaxResults", PAGE_MAX))
            return {"ScheduleGroups": [_shown_group(one) for one in some], **token}

        return await self._service.shown(look)

    async def DeleteScheduleGroup(self, params: Params, call: Call) -> Result:
        """With its schedules, which are gone at once."""
        only(params, call, "Name", "ClientToken")
        await self._service.submit(commands.DeleteScheduleGroup(call.caller.scope, params["Name"]))
        return {}

    async def TagResource(self, params: Params, call: Call) -> Result:
        only(params, call, "ResourceArn", "Tags")
        command = commands.TagScheduleGroup(call.caller.scope, params["ResourceArn"], _tags(params))
        try:
            await self._service.submit(command)
        except InvalidRequest as error:
            raise _said(error) from None
        return {}

    async def UntagResource(self, params: Params, call: Call) -> Result:
        only(params, call, "ResourceArn", "TagKeys")
        remove = tuple(params["TagKeys"])
        await self._service.submit(commands.TagScheduleGroup(call.caller.scope, params["ResourceArn"], remove=remove))
        return {}

    async def ListTagsForResource(self, params: Params, call: Call) -> Result:
        only(params, call, "ResourceArn")

        def look(state: State) -> Result:
            tags = schedule_groups.by_arn(state, call.caller.scope, params["ResourceArn"]).tags
            return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())]}

        return await self._service.shown(look)


def _named(params: Params) -> str:
    return f"{params.get('GroupName', schedule_groups.DEFAULT)}/{params['Name']}"


def _tags(params: Params) -> dict[str, str]:
    return {one["Key"]: one["Value"] for one in params.get("Tags", ())}


def _said(error: InvalidRequest) -> InvalidRequest:
    """This service knows one code for whatever is not of its form."""
    return InvalidRequest(error.message, code="ValidationException", field=error.field)


def _shown_group(one: ScheduleGroup) -> Result:
    shown: Result = {"Arn": one.arn, "Name": one.name, "State": "ACTIVE"}
    if one.created:
        shown |= {"CreationDate": one.created, "LastModificationDate": one.modified}
    return shown


def _schedule_state(one: Schedule) -> str:
    return ENABLED if one.enabled else DISABLED


def _summary(one: Schedule) -> Result:
    return {
        "Arn": one.arn,
        "Name": one.name,
        "GroupName": one.group,
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
