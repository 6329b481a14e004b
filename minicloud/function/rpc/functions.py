"""Functions, versions, aliases, layers, tags."""

from __future__ import annotations

from collections.abc import AsyncIterator

from minicloud.base.arn import Caller
from minicloud.function import commands, layers, names, translate
from minicloud.function.model import LATEST, Code, Function, Layer, Version
from minicloud.function.rpc.part import Part, upload
from minicloud.function.state import State
from minicloud.wire import function_pb2 as wire

CHUNK_BYTES = 256 * 1024
_NO_CODE = Code("", 0, 0)


class FunctionRpc(Part):
    # --- functions and versions

    async def CreateFunction(
        self, requests: AsyncIterator[wire.CreateFunctionRequest], caller: Caller
    ) -> wire.Function:
        first, raw = await upload(requests)
        given = translate.given(first.settings)
        command = commands.CreateFunction(caller.scope, first.name, given, _NO_CODE, first.publish, dict(first.tags))
        return self._function(await self._service.with_package(raw, command))

    async def UpdateFunctionCode(
        self, requests: AsyncIterator[wire.UpdateFunctionCodeRequest], caller: Caller
    ) -> wire.Function:
        first, raw = await upload(requests)
        command = commands.UpdateCode(
            caller.scope, first.function, _NO_CODE, first.publish, first.dry_run, first.revision_id
        )
        return self._function(await self._service.with_package(raw, command))

    async def UpdateFunctionSettings(
        self, request: wire.UpdateFunctionSettingsRequest, caller: Caller
    ) -> wire.Function:
        given = translate.given(request.settings)
        command = commands.UpdateSettings(caller.scope, request.function, given, request.revision_id)
        return self._function(await self._service.submit(command))

    async def GetFunction(self, request: wire.GetFunctionRequest, caller: Caller) -> wire.Function:
        def look(state: State) -> wire.Function:
            found = names.resolve(state, caller.scope, request.function)
            return translate.function(found.version, found.function, found.arn)

        return await self._service.shown(look)

    async def ListFunctions(self, request: wire.ListFunctionsRequest, caller: Caller) -> wire.ListFunctionsReply:
        def look(state: State) -> wire.ListFunctionsReply:
            keys = state.page(Function.kind, caller.scope)
            page, after = self._cut(keys, Function.kind, caller, request)
            found = [translate.function(state.latest(key), state.functions[key]) for key in page]
            return wire.ListFunctionsReply(functions=found, next_page_token=after)

        return await self._service.shown(look)

    async def DeleteFunction(self, request: wire.DeleteFunctionRequest, caller: Caller) -> wire.DeleteFunctionReply:
        await self._service.submit(commands.DeleteFunction(caller.scope, request.function))
        return wire.DeleteFunctionReply()

    async def GetFunctionCode(
        self, request: wire.GetFunctionRequest, caller: Caller
    ) -> AsyncIterator[wire.PackageChunk]:
        look = lambda state: names.resolve(state, caller.scope, request.function).version.code  # noqa: E731
        raw = await self._service.packages.read((await self._service.shown(look)).sha256)
        for start in range(0, len(raw), CHUNK_BYTES):
            yield wire.PackageChunk(data=raw[start : start + CHUNK_BYTES])

    async def PublishFunctionVersion(
        self, request: wire.PublishFunctionVersionRequest, caller: Caller
    ) -> wire.Function:
        command = commands.PublishVersion(
            caller.scope,
            request.function,
            request.description if request.HasField("description") else None,
            request.code_sha256,
            request.revision_id,
        )
        return self._function(await self._service.submit(command))

    async def ListFunctionVersions(
        self, request: wire.ListFunctionVersionsRequest, caller: Caller
    ) -> wire.ListFunctionsReply:
        def look(state: State) -> wire.ListFunctionsReply:
            owner = names.find(state, caller.scope, request.function)
            found = {f"{at:09d}": one for at, one in enumerate(state.versions_of(owner.arn))}
            page, after = self._cut(list(found), f"{Version.kind}/{owner.arn}", caller, request)
            shown = [translate.function(found[key], owner, found[key].arn) for key in page]
            return wire.ListFunctionsReply(functions=shown, next_page_token=after)

        return await self._service.shown(look)

    def _function(self, version: Version) -> wire.Function:
        owner = self._service.state.functions[version.function]
        return translate.function(version, owner, "" if version.version == LATEST else version.arn)

    # --- aliases

    async def CreateFunctionAlias(self, request: wire.CreateFunctionAliasRequest, caller: Caller) -> wire.FunctionAlias:
        command = commands.CreateAlias(
            caller.scope, request.function, request.name, request.version, request.description, dict(request.weights)
        )
        return translate.alias(await self._service.submit(command))

    async def UpdateFunctionAlias(self, request: wire.UpdateFunctionAliasRequest, caller: Caller) -> wire.FunctionAlias:
        command = commands.UpdateAlias(
            caller.scope,
            request.function,
            request.name,
            request.version if request.HasField("version") else None,
            request.description if request.HasField("description") else None,
            dict(request.weights.weights) if request.HasField("weights") else None,
            request.revision_id,
        )
        return translate.alias(await self._service.submit(command))

    async def ListFunctionAliases(
        self, request: wire.ListFunctionAliasesRequest, caller: Caller
    ) -> wire.ListFunctionAliasesReply:
        def look(state: State) -> wire.ListFunctionAliasesReply:
            owner = names.find(state, caller.scope, request.function)
            return wire.ListFunctionAliasesReply(aliases=map(translate.alias, state.aliases_of(owner.arn)))

        return await self._service.shown(look)

    async def DeleteFunctionAlias(
        self, request: wire.DeleteFunctionAliasRequest, caller: Caller
    ) -> wire.DeleteFunctionReply:
        await self._service.submit(commands.DeleteAlias(caller.scope, request.function, request.name))
        return wire.DeleteFunctionReply()

    # --- layers

    async def PublishLayer(
        self, requests: AsyncIterator[wire.PublishLayerRequest], caller: Caller
    ) -> wire.LayerVersion:
        first, raw = await upload(requests)
        command = commands.PublishLayer(
            caller.scope,
            first.name,
            _NO_CODE,
            first.description,
            first.license,
            tuple(first.runtimes),
            tuple(first.architectures),
        )
        return translate.layer(await self._service.with_package(raw, command))

    async def ListLayers(self, _request: wire.ListLayersRequest, caller: Caller) -> wire.ListLayersReply:
        def look(state: State) -> wire.ListLayersReply:
            of_each = [state.layer_versions_of(key) for key in state.page(Layer.kind, caller.scope)]
            return wire.ListLayersReply(layers=[translate.layer(versions[0]) for versions in of_each if versions])

        return await self._service.shown(look)

    async def ListLayerVersions(self, request: wire.ListLayerVersionsRequest, caller: Caller) -> wire.ListLayersReply:
        def look(state: State) -> wire.ListLayersReply:
            versions = state.layer_versions_of(layers.layer_arn(caller.scope, request.name))
            return wire.ListLayersReply(layers=map(translate.layer, versions))

        return await self._service.shown(look)

    async def DeleteLayerVersion(
        self, request: wire.DeleteLayerVersionRequest, caller: Caller
    ) -> wire.DeleteFunctionReply:
        await self._service.submit(commands.DeleteLayer(caller.scope, request.name, request.number))
        return wire.DeleteFunctionReply()

    # --- tags

    async def SetFunctionTags(self, request: wire.SetFunctionTagsRequest, caller: Caller) -> wire.FunctionTagsReply:
        command = commands.SetTags(caller.scope, request.arn, dict(request.tags), tuple(request.remove))
        return wire.FunctionTagsReply(tags=await self._service.submit(command))
