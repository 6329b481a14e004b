"""Function URLs, event source mappings and layers by Lambda's wire."""

from __future__ import annotations

import json
from collections.abc import Mapping as Named
from typing import Any

from minicloud.aws.call import Call, only, refused
from minicloud.function import commands, layers, mappings, names, policies, urls
from minicloud.function.aws.base import NAME, QUALIFIER, Noun, Params, Result, when
from minicloud.function.aws.making import NO_CODE
from minicloud.function.functions import shown_sha256
from minicloud.function.model import DISABLED, ENABLED, Cors, Layer, LayerVersion, Mapping, Url
from minicloud.function.state import State

STREAMED, BUFFERED = "RESPONSE_STREAM", "BUFFERED"
PARTIAL = "ReportBatchItemFailures"
_LAST = 10**12 - 1  # no version of a layer has a higher number
_CORS = {
    "AllowCredentials": "credentials",
    "AllowHeaders": "headers",
    "AllowMethods": "methods",
    "AllowOrigins": "origins",
    "ExposeHeaders": "expose",
    "MaxAge": "max_age_s",
}
_SPEC = (
    "Enabled",
    "BatchSize",
    "MaximumBatchingWindowInSeconds",
    "FilterCriteria",
    "FunctionResponseTypes",
    "ScalingConfig",
)


class UrlDoor(Noun):
    async def CreateFunctionUrlConfig(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER, "AuthType", "Cors", "InvokeMode")
        command = commands.CreateUrl(
            call.caller.scope,
            params[NAME],
            params["AuthType"],
            params.get(QUALIFIER, ""),
            params.get("InvokeMode", BUFFERED) == STREAMED,
            _cors(params.get("Cors")),
        )
        return self._url(await self._service.submit(command))

    async def GetFunctionUrlConfig(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER)

        def look(state: State) -> Result:
            target = names.resolve(state, call.caller.scope, params[NAME], params.get(QUALIFIER, ""))
            return self._url(urls.find(state, target.arn))

        return await self._shown(look)

    async def UpdateFunctionUrlConfig(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER, "AuthType", "Cors", "InvokeMode")
        command = commands.UpdateUrl(
            call.caller.scope,
            params[NAME],
            params.get(QUALIFIER, ""),
            params.get("AuthType"),
            None if "InvokeMode" not in params else params["InvokeMode"] == STREAMED,
            _cors(params.get("Cors")),
        )
        return self._url(await self._service.submit(command))

    async def ListFunctionUrlConfigs(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "Marker", "MaxItems")

        def look(state: State) -> Result:
            owner = names.find(state, call.caller.scope, params[NAME])
            found: dict[str, Url] = {one.arn: one for one in state.of(Url.kind, owner.arn)}
            some, marker = self._page(params, call, found)
            return {"FunctionUrlConfigs": [self._url(one) for one in some], **marker}

        return await self._shown(look)

    async def DeleteFunctionUrlConfig(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER)
        await self._service.submit(commands.DeleteUrl(call.caller.scope, params[NAME], params.get(QUALIFIER, "")))
        return {}

    def _url(self, one: Url) -> Result:
        shown: Result = {
            "FunctionUrl": self._url_of(one.id),
            "FunctionArn": one.arn,
            "AuthType": one.auth,
            "CreationTime": when(one.created),
            "LastModifiedTime": when(one.modified),
            "InvokeMode": STREAMED if one.streams else BUFFERED,
        }
        if one.cors is not None:
            values = {name: getattr(one.cors, ours) for name, ours in _CORS.items()}
            kept = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value}
            shown["Cors"] = kept
        return shown


class MappingDoor(Noun):
    async def CreateEventSourceMapping(self, params: Params, call: Call) -> Result:
        """From queues."""
        only(params, call, NAME, "EventSourceArn", "Tags", *_SPEC)
        command = commands.CreateMapping(
            call.caller.scope,
            params[NAME],
            params.get("EventSourceArn", ""),
            _spec(params, call),
            params.get("Tags", {}),
        )
        return self._mapping(await self._service.submit(command))

    async def GetEventSourceMapping(self, params: Params, call: Call) -> Result:
        only(params, call, "UUID")
        return await self._shown(lambda state: self._mapping(mappings.find(state, call.caller.scope, params["UUID"])))

    async def ListEventSourceMappings(self, params: Params, call: Call) -> Result:
        only(params, call, "EventSourceArn", NAME, "Marker", "MaxItems")

        def look(state: State) -> Result:
            scope = call.caller.scope
            wanted = names.resolve(state, scope, params[NAME]).arn if NAME in params else ""
            source = params.get("EventSourceArn", "")
            every = [state.mappings[key] for key in state.page(Mapping.kind, scope)]
            found = {
                one.uuid: one
                for one in every
                if source in ("", one.source) and wanted in ("", one.target, one.function)
            }
            some, marker = self._page(params, call, found)
            return {"EventSourceMappings": [self._mapping(one) for one in some], **marker}

        return await self._shown(look)

    async def UpdateEventSourceMapping(self, params: Params, call: Call) -> Result:
        only(params, call, "UUID", NAME, *_SPEC)
        command = commands.UpdateMapping(call.caller.scope, params["UUID"], _spec(params, call), params.get(NAME, ""))
        return self._mapping(await self._service.submit(command))

    async def DeleteEventSourceMapping(self, params: Params, call: Call) -> Result:
        only(params, call, "UUID")
        gone = await self._service.submit(commands.DeleteMapping(call.caller.scope, params["UUID"]))
        return self._mapping(gone) | {"State": "Deleting"}

    def _mapping(self, one: Mapping) -> Result:
        shown: Result = {
            "UUID": one.uuid,
            "EventSourceMappingArn": one.arn,
            "EventSourceArn": one.source,
            "FunctionArn": one.target,
            "BatchSize": one.batch,
            "MaximumBatchingWindowInSeconds": one.window_s,
            "State": ENABLED if one.enabled else DISABLED,
            "StateTransitionReason": "USER_INITIATED",
            "LastModified": one.modified,
            "LastProcessingResult": self._service.polling.last_result(one),
            "FunctionResponseTypes": [PARTIAL] if one.partial else [],
        }
        if one.filters:
            shown["FilterCriteria"] = {"Filters": [{"Pattern": text} for text in one.filters]}
        if one.concurrency is not None:
            shown["ScalingConfig"] = {"MaximumConcurrency": one.concurrency}
        return shown


class LayerDoor(Noun):
    async def PublishLayerVersion(self, params: Params, call: Call) -> Result:
        parts = ("LayerName", "Description", "Content", "CompatibleArchitectures", "CompatibleRuntimes", "LicenseInfo")
        only(params, call, *parts)
        for name in params["Content"]:
            if name != "ZipFile":
                raise refused(f"Content.{name}", call, "Packages come with the request, as ZipFile.")
        command = commands.PublishLayer(
            call.caller.scope,
            params["LayerName"],
            NO_CODE,
            params.get("Description", ""),
            params.get("LicenseInfo", ""),
            tuple(params.get("CompatibleRuntimes", ())),
            tuple(params.get("CompatibleArchitectures", ())),
        )
        return _layer(await self._service.with_package(params["Content"].get("ZipFile", b""), command), whole=True)

    async def GetLayerVersion(self, params: Params, call: Call) -> Result:
        only(params, call, "LayerName", "VersionNumber")
        name, number = params["LayerName"], params["VersionNumber"]
        return await self._shown(
            lambda state: _layer(layers.usable(state, call.caller.scope, name, number), whole=True)
        )

    async def GetLayerVersionByArn(self, params: Params, call: Call) -> Result:
        only(params, call, "Arn")
        name, _, number = params["Arn"].rpartition(":")
        count = int(number) if number.isdigit() else 0
        return await self._shown(lambda state: _layer(layers.usable(state, call.caller.scope, name, count), whole=True))

    async def ListLayers(self, params: Params, call: Call) -> Result:
        only(params, call, "CompatibleRuntime", "CompatibleArchitecture", "Marker", "MaxItems")

        def look(state: State) -> Result:
            found: dict[str, LayerVersion] = {}
            for key in state.page(Layer.kind, call.caller.scope):
                versions = [one for one in state.layer_versions_of(key) if _fits(one, params)]
                if versions:
                    found[key] = versions[0]
            some, marker = self._page(params, call, found)
            shown = [
                {"LayerName": one.name, "LayerArn": one.layer, "LatestMatchingVersion": _layer(one)} for one in some
            ]
            return {"Layers": shown, **marker}

        return await self._shown(look)

    async def ListLayerVersions(self, params: Params, call: Call) -> Result:
        only(params, call, "LayerName", "CompatibleRuntime", "CompatibleArchitecture", "Marker", "MaxItems")

        def look(state: State) -> Result:
            versions = state.layer_versions_of(layers.layer_arn(call.caller.scope, params["LayerName"]))
            newest_first = {f"{_LAST - one.number:012d}": one for one in versions if _fits(one, params)}
            some, marker = self._page(params, call, newest_first)
            return {"LayerVersions": [_layer(one) for one in some], **marker}

        return await self._shown(look)

    async def DeleteLayerVersion(self, params: Params, call: Call) -> Result:
        only(params, call, "LayerName", "VersionNumber")
        command = commands.DeleteLayer(call.caller.scope, params["LayerName"], params["VersionNumber"])
        await self._service.submit(command)
        return {}

    async def AddLayerVersionPermission(self, params: Params, call: Call) -> Result:
        """Accounts or everybody, in the layer's region; no organisations."""
        only(params, call, "LayerName", "VersionNumber", "StatementId", "Action", "Principal", "RevisionId")
        if params["Action"] != layers.GET:
            raise refused("Action", call, f"It is {layers.GET}.")
        sid = params["StatementId"]
        command = commands.ShareLayer(
            call.caller.scope,
            params["LayerName"],
            params["VersionNumber"],
            sid,
            params["Principal"],
            params.get("RevisionId", ""),
        )
        after = await self._service.submit(command)
        statement = policies.statement_document(after.arn, after.statements[sid])
        return {"Statement": json.dumps(statement, separators=(",", ":")), "RevisionId": after.revision}

    async def RemoveLayerVersionPermission(self, params: Params, call: Call) -> Result:
        only(params, call, "LayerName", "VersionNumber", "StatementId", "RevisionId")
        command = commands.UnshareLayer(
            call.caller.scope,
            params["LayerName"],
            params["VersionNumber"],
            params["StatementId"],
            params.get("RevisionId", ""),
        )
        await self._service.submit(command)
        return {}

    async def GetLayerVersionPolicy(self, params: Params, call: Call) -> Result:
        only(params, call, "LayerName", "VersionNumber")

        def look(state: State) -> Result:
            found = layers.policy_of(state, call.caller.scope, params["LayerName"], params["VersionNumber"])
            text = json.dumps(policies.document(found), separators=(",", ":"))
            return {"Policy": text, "RevisionId": found.revision}

        return await self._shown(look)


def _cors(given: Params | None) -> Cors | None:
    if given is None:
        return None
    said: dict[str, Any] = {ours: given[name] for name, ours in _CORS.items() if name in given}
    tidy: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    return Cors(**tidy)


def _spec(params: Params, call: Call) -> commands.MappingSpec:
    filters = None
    if "FilterCriteria" in params:
        filters = tuple(one.get("Pattern", "") for one in params["FilterCriteria"].get("Filters", ()))
    partial = None
    if "FunctionResponseTypes" in params:
        if any(one != PARTIAL for one in params["FunctionResponseTypes"]):
            raise refused("FunctionResponseTypes", call)
        partial = bool(params["FunctionResponseTypes"])
    concurrency = None
    if "ScalingConfig" in params:
        concurrency = params["ScalingConfig"].get("MaximumConcurrency", 0)
    return commands.MappingSpec(
        params.get("Enabled"),
        params.get("BatchSize"),
        params.get("MaximumBatchingWindowInSeconds"),
        filters,
        partial,
        concurrency,
    )


def _fits(one: LayerVersion, params: Named[str, str]) -> bool:
    runtime, machine = params.get("CompatibleRuntime", ""), params.get("CompatibleArchitecture", "")
    return (not runtime or runtime in one.runtimes) and (not machine or machine in one.architectures)


def _layer(one: LayerVersion, *, whole: bool = False) -> Result:
    shown: Result = {
        "LayerVersionArn": one.arn,
        "Version": one.number,
        "Description": one.description,
        "CreatedDate": when(one.created),
        "CompatibleRuntimes": list(one.runtimes),
        "CompatibleArchitectures": list(one.architectures),
        "LicenseInfo": one.license or None,
    }
    if whole:
        content = {"CodeSha256": shown_sha256(one.code), "CodeSize": one.code.bytes}
        shown |= {"LayerArn": one.layer, "Content": content}
    return shown
