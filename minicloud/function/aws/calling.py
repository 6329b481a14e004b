"""Invocations by Lambda's wire: who may call, how often, and what becomes of events."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator

from minicloud.aws.call import Call, only, refused
from minicloud.function import commands, concurrencies, errors, invoking, limits, names, policies
from minicloud.function.aws.base import NAME, QUALIFIER, Noun, Params, Result, when
from minicloud.function.invoking import Answer, Request
from minicloud.function.links.pipe import Pipe
from minicloud.function.model import EventInvoke, Provisioned, Statement
from minicloud.function.ports import Sink
from minicloud.function.state import State

_PERMISSION = ("StatementId", "Action", "Principal", "SourceArn", "FunctionUrlAuthType", "SourceAccount", "RevisionId")
UNTYPED = "application/octet-stream"


class CallingDoor(Noun):
    async def Invoke(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "InvocationType", "LogType", "ClientContext", "Payload", QUALIFIER)
        kind = params.get("InvocationType", invoking.SYNC)
        request = _request(params, call)
        if kind == invoking.DRY_RUN:
            self._service.checked(request, limits.SYNC_BYTES_MAX)
            return {"StatusCode": 204}
        if kind == invoking.EVENT:
            await self._service.accept(request)
            return {"StatusCode": 202}
        answer = await self._service.invoke(request)
        outcome = answer.outcome
        shown: Result = {"StatusCode": 200, "ExecutedVersion": answer.version, "Payload": outcome.payload}
        if outcome.function_error:
            shown["FunctionError"] = outcome.function_error
        if request.tail:
            shown["LogResult"] = base64.b64encode(outcome.tail).decode()
        return shown

    async def InvokeAsync(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "InvokeArgs")
        await self._service.accept(Request(call.caller.scope, params[NAME], params["InvokeArgs"], trace_id=call.trace))
        return {"Status": 202}

    async def InvokeWithResponseStream(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "InvocationType", "LogType", "ClientContext", "Payload", QUALIFIER)
        if params.get("InvocationType", invoking.SYNC) != invoking.SYNC:
            raise refused("InvocationType", call)
        pipe = Pipe()
        request = _request(params, call, pipe)
        target = self._service.checked(request, limits.SYNC_BYTES_MAX)
        work = asyncio.create_task(self._service.invoke(request))
        await pipe.opened(work)
        answer: Result = {
            "StatusCode": 200,
            "ResponseStreamContentType": pipe.content_type or UNTYPED,
            "EventStream": _stream(pipe, work, request.tail),
        }
        if target.alias is None:  # which version of an alias runs is known when it has run
            answer["ExecutedVersion"] = target.version.version
        return answer

    # --- who may call

    async def AddPermission(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER, *_PERMISSION)
        statement = Statement(
            params["StatementId"],
            params["Action"],
            params["Principal"],
            params.get("SourceArn", ""),
            params.get("SourceAccount", ""),
            params.get("FunctionUrlAuthType", ""),
        )
        command = commands.AddPermission(
            call.caller.scope, params[NAME], statement, params.get(QUALIFIER, ""), params.get("RevisionId", "")
        )
        return {"Statement": json.dumps(await self._service.submit(command), separators=(",", ":"))}

    async def RemovePermission(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "StatementId", QUALIFIER, "RevisionId")
        command = commands.RemovePermission(
            call.caller.scope,
            params[NAME],
            params["StatementId"],
            params.get(QUALIFIER, ""),
            params.get("RevisionId", ""),
        )
        await self._service.submit(command)
        return {}

    async def GetPolicy(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER)

        def look(state: State) -> Result:
            found = policies.find(state, self._arn(state, params, call))
            text = json.dumps(policies.document(found), separators=(",", ":"))
            return {"Policy": text, "RevisionId": found.revision}

        return await self._shown(look)

    def _arn(self, state: State, params: Params, call: Call) -> str:
        return names.resolve(state, call.caller.scope, params[NAME], params.get(QUALIFIER, "")).arn

    # --- how often

    async def PutFunctionConcurrency(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "ReservedConcurrentExecutions")
        count = params["ReservedConcurrentExecutions"]
        await self._service.submit(commands.SetReserved(call.caller.scope, params[NAME], count))
        return {"ReservedConcurrentExecutions": count}

    async def GetFunctionConcurrency(self, params: Params, call: Call) -> Result:
        only(params, call, NAME)
        owner = await self._shown(lambda state: names.find(state, call.caller.scope, params[NAME]))
        return {} if owner.reserved is None else {"ReservedConcurrentExecutions": owner.reserved}

    async def DeleteFunctionConcurrency(self, params: Params, call: Call) -> Result:
        only(params, call, NAME)
        await self._service.submit(commands.SetReserved(call.caller.scope, params[NAME], None))
        return {}

    async def PutProvisionedConcurrencyConfig(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER, "ProvisionedConcurrentExecutions")
        command = commands.SetProvisioned(
            call.caller.scope, params[NAME], params[QUALIFIER], params["ProvisionedConcurrentExecutions"]
        )
        return self._provisioned(await self._service.submit(command))

    async def GetProvisionedConcurrencyConfig(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER)
        return await self._shown(
            lambda state: self._provisioned(concurrencies.find_provisioned(state, self._arn(state, params, call)))
        )

    async def ListProvisionedConcurrencyConfigs(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "Marker", "MaxItems")

        def look(state: State) -> Result:
            owner = names.find(state, call.caller.scope, params[NAME])
            found: dict[str, Provisioned] = {one.arn: one for one in state.of(Provisioned.kind, owner.arn)}
            some, marker = self._page(params, call, found)
            shown = [{"FunctionArn": one.arn, **self._provisioned(one)} for one in some]
            return {"ProvisionedConcurrencyConfigs": shown, **marker}

        return await self._shown(look)

    async def DeleteProvisionedConcurrencyConfig(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER)
        command = commands.SetProvisioned(call.caller.scope, params[NAME], params[QUALIFIER], None)
        await self._service.submit(command)
        return {}

    def _provisioned(self, one: Provisioned) -> Result:
        warm = self._service.warmth.shown(one)
        shown: Result = {
            "RequestedProvisionedConcurrentExecutions": one.count,
            "AllocatedProvisionedConcurrentExecutions": warm.available,
            "AvailableProvisionedConcurrentExecutions": warm.available,
            "Status": warm.status,
            "LastModified": when(one.modified),
        }
        return shown | ({"StatusReason": warm.reason} if warm.reason else {})

    # --- what becomes of events

    async def PutFunctionEventInvokeConfig(self, params: Params, call: Call) -> Result:
        return await self._set_event_invoke(params, call, whole=True)

    async def UpdateFunctionEventInvokeConfig(self, params: Params, call: Call) -> Result:
        return await self._set_event_invoke(params, call, whole=False)

    async def _set_event_invoke(self, params: Params, call: Call, *, whole: bool) -> Result:
        only(params, call, NAME, QUALIFIER, "MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
        where = params.get("DestinationConfig", {})
        ends = {name: where[name].get("Destination", "") for name in ("OnSuccess", "OnFailure") if name in where}
        command = commands.SetEventInvoke(
            call.caller.scope,
            params[NAME],
            params.get(QUALIFIER, ""),
            params.get("MaximumRetryAttempts"),
            params.get("MaximumEventAgeInSeconds"),
            ends.get("OnSuccess"),
            ends.get("OnFailure"),
            whole,
        )
        return _event_invoke(await self._service.submit(command))

    async def GetFunctionEventInvokeConfig(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER)

        def look(state: State) -> Result:
            target = names.resolve(state, call.caller.scope, params[NAME], params.get(QUALIFIER, ""))
            return _event_invoke(concurrencies.find_event_invoke(state, target))

        return await self._shown(look)

    async def ListFunctionEventInvokeConfigs(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "Marker", "MaxItems")

        def look(state: State) -> Result:
            owner = names.find(state, call.caller.scope, params[NAME])
            found: dict[str, EventInvoke] = {one.arn: one for one in state.of(EventInvoke.kind, owner.arn)}
            some, marker = self._page(params, call, found)
            return {"FunctionEventInvokeConfigs": [_event_invoke(one) for one in some], **marker}

        return await self._shown(look)

    async def DeleteFunctionEventInvokeConfig(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER)
        command = commands.DeleteEventInvoke(call.caller.scope, params[NAME], params.get(QUALIFIER, ""))
        await self._service.submit(command)
        return {}


def _request(params: Params, call: Call, sink: Sink | None = None) -> Request:
    try:
        context = base64.b64decode(params.get("ClientContext", ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise errors.invalid("Client context must be a valid Base64-encoded JSON object.", "clientContext") from None
    return Request(
        call.caller.scope,
        params[NAME],
        params.get("Payload", b""),
        params.get(QUALIFIER, ""),
        context,
        call.trace,
        tail=params.get("LogType") == "Tail",
        sink=sink,
    )


def _event_invoke(one: EventInvoke) -> Result:
    shown: Result = {"LastModified": one.modified, "FunctionArn": one.arn}
    if one.retries is not None:
        shown["MaximumRetryAttempts"] = one.retries
    if one.age_s is not None:
        shown["MaximumEventAgeInSeconds"] = one.age_s
    ends = {"OnSuccess": one.on_success, "OnFailure": one.on_failure}
    shown["DestinationConfig"] = {name: {"Destination": arn} if arn else {} for name, arn in ends.items()}
    return shown


async def _stream(pipe: Pipe, work: asyncio.Task[Answer], tail: bool) -> AsyncIterator[Result]:
    async for chunk in pipe.chunks(work):
        yield {"PayloadChunk": {"Payload": chunk}}
    outcome = (await work).outcome
    done: Result = {}
    if outcome.function_error:
        kind = json.loads(outcome.payload or b"{}").get("errorType", outcome.function_error)
        done = {"ErrorCode": str(kind), "ErrorDetails": outcome.payload.decode()}
    if tail:
        done["LogResult"] = base64.b64encode(outcome.tail).decode()
    yield {"InvokeComplete": done}
