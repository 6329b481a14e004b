"""Functions, versions, aliases and tags by Lambda's wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minicloud.aws.call import Call, harmless, only, refused
from minicloud.aws.lists import in_order
from minicloud.function import commands, mappings, names
from minicloud.function.aws.base import (
    HARMLESS,
    NAME,
    QUALIFIER,
    SETTINGS,
    Noun,
    Params,
    Result,
    given,
    zip_of,
)
from minicloud.function.limits import ACCOUNT_CONCURRENCY, STORAGE_BYTES_MAX, UNZIPPED_BYTES_MAX, ZIP_BYTES_MAX
from minicloud.function.model import LATEST, Alias, Code, Function, Version
from minicloud.function.state import State

NO_CODE = Code("", 0, 0)
_SOURCES = ("ZipFile", "S3Bucket", "S3Key", "S3ObjectVersion", "S3ObjectStorageMode", "ImageUri", "SourceKMSKeyArn")


class MakingDoor(Noun):
    async def CreateFunction(self, params: Params, call: Call) -> Result:
        """Active at once. Packages come with the request."""
        only(params, call, NAME, "Code", "Publish", "Tags", "Architectures", *SETTINGS, *HARMLESS)
        harmless(params, call, HARMLESS)
        self._check_architectures(params, call)
        name = names.parse(call.caller.scope, params[NAME]).name
        command = commands.CreateFunction(
            call.caller.scope, name, given(params), NO_CODE, params.get("Publish", False), params.get("Tags", {})
        )
        return self._made(await self._service.with_package(zip_of(params["Code"], call), command))

    async def UpdateFunctionCode(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, *_SOURCES, "Publish", "DryRun", "RevisionId", "Architectures")
        self._check_architectures(params, call)
        raw = zip_of({name: params[name] for name in _SOURCES if name in params}, call)
        command = commands.UpdateCode(
            call.caller.scope,
            params[NAME],
            NO_CODE,
            params.get("Publish", False),
            params.get("DryRun", False),
            params.get("RevisionId", ""),
        )
        return self._made(await self._service.with_package(raw, command))

    async def UpdateFunctionConfiguration(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "RevisionId", *SETTINGS, *HARMLESS)
        harmless(params, call, HARMLESS)
        command = commands.UpdateSettings(call.caller.scope, params[NAME], given(params), params.get("RevisionId", ""))
        return self._made(await self._service.submit(command))

    def _check_architectures(self, params: Params, call: Call) -> None:
        if params.get("Architectures", [self._architecture]) != [self._architecture]:
            raise refused("Architectures", call, f"Functions run on {self._architecture} here.")

    def _made(self, version: Version) -> Result:
        owner = self._service.state.functions[version.function]
        return self._configuration(version, owner, "" if version.version == LATEST else version.arn)

    # --- looking

    async def GetFunction(self, params: Params, call: Call) -> Result:
        """Without Code.Location: `minicloud function show` and the SDK hand the package out."""
        only(params, call, NAME, QUALIFIER)

        def look(state: State) -> Result:
            found = self._target(state, params, call)
            shown: Result = {
                "Configuration": self._configuration(found.version, found.function, found.arn),
                "Code": {"RepositoryType": "minicloud"},
                "Tags": dict(found.function.tags),
            }
            if found.function.reserved is not None:
                shown["Concurrency"] = {"ReservedConcurrentExecutions": found.function.reserved}
            return shown

        return await self._shown(look)

    async def GetFunctionConfiguration(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER)

        def look(state: State) -> Result:
            found = self._target(state, params, call)
            return self._configuration(found.version, found.function, found.arn)

        return await self._shown(look)

    def _target(self, state: State, params: Params, call: Call) -> names.Target:
        return names.resolve(state, call.caller.scope, params[NAME], params.get(QUALIFIER, ""))

    async def ListFunctions(self, params: Params, call: Call) -> Result:
        only(params, call, "FunctionVersion", "Marker", "MaxItems", "MasterRegion")
        harmless(params, call, {"MasterRegion": "ALL"})
        every = params.get("FunctionVersion") == "ALL"

        def look(state: State) -> Result:
            found: dict[str, Version] = {}
            for key in state.page(Function.kind, call.caller.scope):
                versions = state.versions_of(key) if every else [state.latest(key)]
                found |= {one.arn: one for one in versions}
            some, marker = self._page(params, call, found)
            shown = [self._configuration(one, state.functions[one.function], one.arn if every else "") for one in some]
            return {"Functions": shown, **marker}

        return await self._shown(look)

    async def DeleteFunction(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, QUALIFIER)
        command = commands.DeleteFunction(call.caller.scope, params[NAME], params.get(QUALIFIER, ""))
        await self._service.submit(command)
        return {"StatusCode": 204}

    # --- versions

    async def PublishVersion(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "CodeSha256", "Description", "RevisionId")
        command = commands.PublishVersion(
            call.caller.scope,
            params[NAME],
            params.get("Description"),
            params.get("CodeSha256", ""),
            params.get("RevisionId", ""),
        )
        return self._made(await self._service.submit(command))

    async def ListVersionsByFunction(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "Marker", "MaxItems")

        def look(state: State) -> Result:
            owner = names.find(state, call.caller.scope, params[NAME])
            some, marker = self._page(params, call, in_order(state.versions_of(owner.arn)))
            return {"Versions": [self._configuration(one, owner, one.arn) for one in some], **marker}

        return await self._shown(look)

    # --- aliases

    async def CreateAlias(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "Name", "FunctionVersion", "Description", "RoutingConfig")
        command = commands.CreateAlias(
            call.caller.scope,
            params[NAME],
            params["Name"],
            params["FunctionVersion"],
            params.get("Description", ""),
            _weights(params) or {},
        )
        return _alias(await self._service.submit(command))

    async def GetAlias(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "Name")
        return await self._shown(lambda state: _alias(self._alias(state, params, call)))

    def _alias(self, state: State, params: Params, call: Call) -> Alias:
        owner = names.find(state, call.caller.scope, params[NAME])
        found = state.aliases.get(f"{owner.arn}:{params['Name']}")
        if found is None:
            raise names.no_alias(f"{owner.arn}:{params['Name']}")
        return found

    async def ListAliases(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "FunctionVersion", "Marker", "MaxItems")

        def look(state: State) -> Result:
            owner = names.find(state, call.caller.scope, params[NAME])
            wanted = params.get("FunctionVersion", "")
            found = {one.arn: one for one in state.aliases_of(owner.arn) if wanted in ("", one.version)}
            some, marker = self._page(params, call, found)
            return {"Aliases": [_alias(one) for one in some], **marker}

        return await self._shown(look)

    async def UpdateAlias(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "Name", "FunctionVersion", "Description", "RoutingConfig", "RevisionId")
        command = commands.UpdateAlias(
            call.caller.scope,
            params[NAME],
            params["Name"],
            params.get("FunctionVersion"),
            params.get("Description"),
            _weights(params),
            params.get("RevisionId", ""),
        )
        return _alias(await self._service.submit(command))

    async def DeleteAlias(self, params: Params, call: Call) -> Result:
        only(params, call, NAME, "Name")
        await self._service.submit(commands.DeleteAlias(call.caller.scope, params[NAME], params["Name"]))
        return {}

    # --- tags, the account

    async def TagResource(self, params: Params, call: Call) -> Result:
        only(params, call, "Resource", "Tags")
        await self._service.submit(commands.SetTags(call.caller.scope, params["Resource"], params["Tags"]))
        return {}

    async def UntagResource(self, params: Params, call: Call) -> Result:
        only(params, call, "Resource", "TagKeys")
        command = commands.SetTags(call.caller.scope, params["Resource"], remove=tuple(params["TagKeys"]))
        await self._service.submit(command)
        return {}

    async def ListTags(self, params: Params, call: Call) -> Result:
        only(params, call, "Resource")
        arn, scope = params["Resource"], call.caller.scope

        def look(state: State) -> Result:
            if ":event-source-mapping:" in arn:
                return {"Tags": dict(mappings.find(state, scope, arn.rpartition(":")[2]).tags)}
            return {"Tags": dict(names.find(state, scope, arn).tags)}

        return await self._shown(look)

    async def GetAccountSettings(self, params: Params, call: Call) -> Result:
        only(params, call)
        scope = call.caller.scope

        def look(state: State) -> Result:
            keys = state.page(Function.kind, scope)
            limit = {
                "TotalCodeSize": STORAGE_BYTES_MAX,
                "CodeSizeUnzipped": UNZIPPED_BYTES_MAX,
                "CodeSizeZipped": ZIP_BYTES_MAX,
                "ConcurrentExecutions": ACCOUNT_CONCURRENCY,
                "UnreservedConcurrentExecutions": ACCOUNT_CONCURRENCY - state.reserved(scope),
            }
            return {
                "AccountLimit": limit,
                "AccountUsage": {"TotalCodeSize": state.code_bytes(scope), "FunctionCount": len(keys)},
            }

        return await self._shown(look)

    async def GetFunctionCodeSigningConfig(self, params: Params, call: Call) -> Result:
        """No code is signed: the function's name alone."""
        only(params, call, NAME)
        owner = await self._shown(lambda state: names.find(state, call.caller.scope, params[NAME]))
        return {"FunctionName": owner.name}

    async def DeleteFunctionCodeSigningConfig(self, params: Params, call: Call) -> Result:
        """No code is signed: there is none that could stay."""
        only(params, call, NAME)
        await self._shown(lambda state: names.find(state, call.caller.scope, params[NAME]))
        return {}

    async def GetFunctionRecursionConfig(self, params: Params, call: Call) -> Result:
        """Allow: nobody looks for loops."""
        only(params, call, NAME)
        await self._shown(lambda state: names.find(state, call.caller.scope, params[NAME]))
        return {"RecursiveLoop": "Allow"}

    async def PutFunctionRecursionConfig(self, params: Params, call: Call) -> Result:
        """Allow alone: nobody looks for loops."""
        only(params, call, NAME, "RecursiveLoop")
        harmless(params, call, {"RecursiveLoop": "Allow"})
        await self._shown(lambda state: names.find(state, call.caller.scope, params[NAME]))
        return {"RecursiveLoop": "Allow"}

    async def GetRuntimeManagementConfig(self, params: Params, call: Call) -> Result:
        """Auto: an environment that starts has the runtime that its host has."""
        only(params, call, NAME, QUALIFIER)
        return await self._runtime(params, call)

    async def PutRuntimeManagementConfig(self, params: Params, call: Call) -> Result:
        """Auto alone: an environment that starts has the runtime that its host has."""
        only(params, call, NAME, QUALIFIER, "UpdateRuntimeOn")
        harmless(params, call, {"UpdateRuntimeOn": "Auto"})
        return await self._runtime(params, call)

    async def _runtime(self, params: Params, call: Call) -> Result:
        scope, name, qualifier = call.caller.scope, params[NAME], params.get(QUALIFIER, "")
        target = await self._shown(lambda state: names.resolve(state, scope, name, qualifier))
        return {"UpdateRuntimeOn": "Auto", "FunctionArn": target.arn}


def _alias(one: Alias) -> Result:
    shown: Result = {
        "AliasArn": one.arn,
        "Name": one.name,
        "FunctionVersion": one.version,
        "Description": one.description,
        "RevisionId": one.revision,
    }
    if one.weights:
        shown["RoutingConfig"] = {"AdditionalVersionWeights": dict(one.weights)}
    return shown


def _weights(params: Params) -> Mapping[str, Any] | None:
    if "RoutingConfig" not in params:
        return None
    found: Mapping[str, Any] = params["RoutingConfig"].get("AdditionalVersionWeights", {})
    return found
