"""Invocations, and who may do them and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from minicloud.base.arn import Caller
from minicloud.function import commands, errors, invoking, limits, names, translate
from minicloud.function.invoking import Origin, Request
from minicloud.function.links.pipe import Pipe
from minicloud.function.model import EventInvoke, Provisioned
from minicloud.function.ports import Sink
from minicloud.function.rpc.part import Part
from minicloud.function.state import State
from minicloud.wire import function_pb2 as wire

CHUNK_BYTES = 256 * 1024


class CallingRpc(Part):
    # --- invocations

    async def Invoke(self, request: wire.InvokeRequest, caller: Caller) -> wire.InvokeReply:
        wanted = asked(request, caller)
        if request.type in ("", invoking.SYNC):
            return translate.invoked(await self._service.invoke(wanted))
        if request.type == invoking.DRY_RUN:
            self._service.checked(wanted, limits.SYNC_BYTES_MAX)
            return wire.InvokeReply(status=204, request_id=self._service.new_request_id())
        if request.type == invoking.EVENT:
            return wire.InvokeReply(status=202, request_id=await self._service.accept(wanted))
        raise errors.not_one_of("invocationType", request.type, invoking.TYPES)

    async def InvokeStream(self, request: wire.InvokeRequest, caller: Caller) -> AsyncIterator[wire.InvokePart]:
        if request.type not in ("", invoking.SYNC, invoking.DRY_RUN):
            raise errors.not_one_of("invocationType", request.type, (invoking.SYNC, invoking.DRY_RUN))
        if request.type == invoking.DRY_RUN:
            self._service.checked(asked(request, caller), limits.SYNC_BYTES_MAX)
            yield wire.InvokePart(reply=wire.InvokeReply(status=204, request_id=self._service.new_request_id()))
            return
        pipe = Pipe()
        work = asyncio.create_task(self._service.invoke(asked(request, caller, pipe)))
        await pipe.opened(work)
        if pipe.content_type:
            yield wire.InvokePart(head=wire.InvokeHead(content_type=pipe.content_type))
        async for chunk in pipe.chunks(work):
            for start in range(0, len(chunk), CHUNK_BYTES):
                yield wire.InvokePart(chunk=chunk[start : start + CHUNK_BYTES])
        yield wire.InvokePart(reply=translate.invoked(await work))

    # --- permissions

    async def AddFunctionPermission(
        self, request: wire.AddFunctionPermissionRequest, caller: Caller
    ) -> wire.FunctionPolicy:
        statement = translate.to_statement(request.statement)
        await self._service.submit(
            commands.AddPermission(caller.scope, request.function, statement, revision=request.revision_id)
        )
        return await self._policy(request.function, caller)

    async def RemoveFunctionPermission(
        self, request: wire.RemoveFunctionPermissionRequest, caller: Caller
    ) -> wire.FunctionPolicy:
        await self._service.submit(
            commands.RemovePermission(caller.scope, request.function, request.sid, revision=request.revision_id)
        )
        return await self._policy(request.function, caller)

    async def GetFunctionPolicy(self, request: wire.GetFunctionPolicyRequest, caller: Caller) -> wire.FunctionPolicy:
        return await self._policy(request.function, caller)

    async def _policy(self, function: str, caller: Caller) -> wire.FunctionPolicy:
        return await self._service.shown(
            lambda state: translate.policy(state.policies.get(names.resolve(state, caller.scope, function).arn))
        )

    # --- concurrency and asynchronous invocation

    async def SetFunctionConcurrency(
        self, request: wire.SetFunctionConcurrencyRequest, caller: Caller
    ) -> wire.FunctionConcurrency:
        count = request.reserved if request.HasField("reserved") else None
        await self._service.submit(commands.SetReserved(caller.scope, request.function, count))
        return await self._concurrency(request.function, caller)

    async def SetProvisionedConcurrency(
        self, request: wire.SetProvisionedConcurrencyRequest, caller: Caller
    ) -> wire.FunctionConcurrency:
        count = request.count if request.HasField("count") else None
        await self._service.submit(commands.SetProvisioned(caller.scope, request.function, "", count))
        return await self._concurrency(request.function, caller)

    async def GetFunctionConcurrency(
        self, request: wire.GetFunctionConcurrencyRequest, caller: Caller
    ) -> wire.FunctionConcurrency:
        return await self._concurrency(request.function, caller)

    async def _concurrency(self, text: str, caller: Caller) -> wire.FunctionConcurrency:
        def look(state: State) -> wire.FunctionConcurrency:
            function = names.resolve(state, caller.scope, text).function
            kept = [self._provisioned(one) for one in state.of(Provisioned.kind, function.arn)]
            running = self._service.ledger.running(function.arn)
            return wire.FunctionConcurrency(reserved=function.reserved, provisioned=kept, running=running)

        return await self._service.shown(look)

    def _provisioned(self, one: Provisioned) -> wire.ProvisionedConcurrency:
        warm = self._service.warmth.shown(one)
        return wire.ProvisionedConcurrency(
            arn=one.arn,
            requested=one.count,
            available=warm.available,
            status=warm.status,
            reason=warm.reason,
            modified_time=one.modified,
        )

    async def SetEventInvokeConfig(
        self, request: wire.SetEventInvokeConfigRequest, caller: Caller
    ) -> wire.EventInvokeConfig:
        command = commands.SetEventInvoke(
            caller.scope,
            request.function,
            retries=request.retries if request.HasField("retries") else None,
            age_s=request.age_s if request.HasField("age_s") else None,
            on_success=request.on_success if request.HasField("on_success") else None,
            on_failure=request.on_failure if request.HasField("on_failure") else None,
            whole=request.whole,
        )
        return translate.event_invoke(await self._service.submit(command))

    async def ListEventInvokeConfigs(
        self, request: wire.ListEventInvokeConfigsRequest, caller: Caller
    ) -> wire.ListEventInvokeConfigsReply:
        def look(state: State) -> wire.ListEventInvokeConfigsReply:
            function = names.find(state, caller.scope, request.function)
            found = map(translate.event_invoke, state.of(EventInvoke.kind, function.arn))
            return wire.ListEventInvokeConfigsReply(configs=found)

        return await self._service.shown(look)

    async def DeleteEventInvokeConfig(
        self, request: wire.DeleteEventInvokeConfigRequest, caller: Caller
    ) -> wire.DeleteFunctionReply:
        await self._service.submit(commands.DeleteEventInvoke(caller.scope, request.function))
        return wire.DeleteFunctionReply()


def asked(request: wire.InvokeRequest, caller: Caller, sink: Sink | None = None) -> Request:
    return Request(
        caller.scope,
        request.function,
        request.payload,
        client_context=request.client_context,
        trace_id=request.trace_id,
        tail=request.tail,
        sink=sink,
        origin=Origin(request.principal, request.source_arn) if request.principal else None,
    )
