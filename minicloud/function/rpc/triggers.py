"""What calls functions: URLs, queues, schedules."""

from __future__ import annotations

from minicloud.base.arn import Caller
from minicloud.function import commands, errors, names, translate
from minicloud.function.model import Mapping, Schedule, Url
from minicloud.function.rpc.part import Part
from minicloud.function.state import State
from minicloud.wire import function_pb2 as wire


class TriggerRpc(Part):
    # --- URLs

    async def CreateFunctionUrl(self, request: wire.CreateFunctionUrlRequest, caller: Caller) -> wire.FunctionUrl:
        command = commands.CreateUrl(
            caller.scope,
            request.function,
            request.auth,
            streams=_streams(request.invoke_mode),
            cors=translate.to_cors(request.cors) if request.HasField("cors") else None,
        )
        return self._url(await self._service.submit(command))

    async def UpdateFunctionUrl(self, request: wire.UpdateFunctionUrlRequest, caller: Caller) -> wire.FunctionUrl:
        command = commands.UpdateUrl(
            caller.scope,
            request.function,
            auth=request.auth if request.HasField("auth") else None,
            streams=_streams(request.invoke_mode) if request.HasField("invoke_mode") else None,
            cors=translate.to_cors(request.cors) if request.HasField("cors") else None,
        )
        return self._url(await self._service.submit(command))

    async def ListFunctionUrls(
        self, request: wire.ListFunctionUrlsRequest, caller: Caller
    ) -> wire.ListFunctionUrlsReply:
        def look(state: State) -> wire.ListFunctionUrlsReply:
            function = names.find(state, caller.scope, request.function)
            return wire.ListFunctionUrlsReply(urls=map(self._url, state.of(Url.kind, function.arn)))

        return await self._service.shown(look)

    async def DeleteFunctionUrl(
        self, request: wire.DeleteFunctionUrlRequest, caller: Caller
    ) -> wire.DeleteFunctionReply:
        await self._service.submit(commands.DeleteUrl(caller.scope, request.function))
        return wire.DeleteFunctionReply()

    def _url(self, one: Url) -> wire.FunctionUrl:
        return translate.url(one, self._url_of(one.id))

    # --- event source mappings

    async def CreateMapping(self, request: wire.CreateMappingRequest, caller: Caller) -> wire.FunctionMapping:
        spec = translate.to_mapping(request.settings)
        command = commands.CreateMapping(caller.scope, request.function, request.source_arn, spec, dict(request.tags))
        return self._mapping(await self._service.submit(command))

    async def UpdateMapping(self, request: wire.UpdateMappingRequest, caller: Caller) -> wire.FunctionMapping:
        spec = translate.to_mapping(request.settings)
        command = commands.UpdateMapping(caller.scope, request.uuid, spec, request.function)
        return self._mapping(await self._service.submit(command))

    async def ListMappings(self, request: wire.ListMappingsRequest, caller: Caller) -> wire.ListMappingsReply:
        def look(state: State) -> wire.ListMappingsReply:
            wanted = names.resolve(state, caller.scope, request.function).arn if request.function else ""
            mappings = [state.mappings[key] for key in state.page(Mapping.kind, caller.scope)]
            found = [
                self._mapping(one)
                for one in mappings
                if request.source_arn in ("", one.source) and wanted in ("", one.target, one.function)
            ]
            return wire.ListMappingsReply(mappings=found)

        return await self._service.shown(look)

    async def DeleteMapping(self, request: wire.DeleteMappingRequest, caller: Caller) -> wire.FunctionMapping:
        return self._mapping(await self._service.submit(commands.DeleteMapping(caller.scope, request.uuid)))

    def _mapping(self, one: Mapping) -> wire.FunctionMapping:
        return translate.mapping(one, self._service.polling.last_result(one))

    # --- schedules

    async def PutFunctionSchedule(
        self, request: wire.PutFunctionScheduleRequest, caller: Caller
    ) -> wire.FunctionSchedule:
        command = commands.PutSchedule(
            caller.scope,
            request.name,
            request.expression,
            request.function,
            request.zone,
            request.input,
            not request.disabled,
        )
        return translate.schedule(await self._service.submit(command))

    async def ListFunctionSchedules(
        self, request: wire.ListFunctionSchedulesRequest, caller: Caller
    ) -> wire.ListFunctionSchedulesReply:
        def look(state: State) -> wire.ListFunctionSchedulesReply:
            wanted = names.resolve(state, caller.scope, request.function).arn if request.function else ""
            schedules = [state.schedules[key] for key in state.page(Schedule.kind, caller.scope)]
            found = [translate.schedule(one) for one in schedules if wanted in ("", one.target, one.function)]
            return wire.ListFunctionSchedulesReply(schedules=found)

        return await self._service.shown(look)

    async def DeleteFunctionSchedule(
        self, request: wire.DeleteFunctionScheduleRequest, caller: Caller
    ) -> wire.DeleteFunctionReply:
        await self._service.submit(commands.DeleteSchedule(caller.scope, request.name))
        return wire.DeleteFunctionReply()


def _streams(mode: str) -> bool:
    if mode not in ("", translate.BUFFERED, translate.STREAMED):
        raise errors.not_one_of("invokeMode", mode, (translate.BUFFERED, translate.STREAMED))
    return mode == translate.STREAMED
