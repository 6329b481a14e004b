"""SSM's Parameter Store, with AWS's public parameters of images in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from minicloud.aws.call import Call, only, refused
from minicloud.aws.lists import tag_list
from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidParameterValue, NotFound
from minicloud.compute.aws.base import to_tags
from minicloud.compute.aws.running import Runner
from minicloud.compute.aws.ssm import CommandDoor
from minicloud.compute.public_images import PARAMETERS
from minicloud.compute.service import ComputeService
from minicloud.compute.ssm import SECURE, DeleteParameter, Parameter, PutParameter, Ssm, TagParameter

Params = dict[str, Any]
Result = dict[str, Any]
_PUBLIC_SINCE = 1732147200.0


class SsmDoor(CommandDoor):
    """For `Door("ssm", ...)`. `submit`: the shell's, for ssm's machine."""

    def __init__(
        self,
        service: ComputeService,
        ssm: Ssm,
        runner: Runner,
        page_secret: bytes,
        submit: Callable[[Any], Awaitable[Any]],
    ) -> None:
        super().__init__(service, ssm, runner, page_secret)
        self._submit = submit

    async def PutParameter(self, params: Params, call: Call) -> Result:
        """SecureString is sealed under the cloud's own key; older versions are not kept."""
        only(params, call, "Name", "Description", "Value", "Type", "KeyId", "Overwrite", "Tags", "Tier", "DataType")
        if params.get("DataType", "text") != "text":
            raise refused("DataType", call, "It is 'text'.")
        if params.get("KeyId", "alias/aws/ssm") != "alias/aws/ssm":
            raise refused("KeyId", call, "Secrets are sealed under the cloud's own key.")
        if params.get("Tags") and params.get("Overwrite"):
            raise InvalidParameterValue(
                "Invalid request: tags and overwrite can't be used together.", code="ValidationException"
            )
        tier = params.get("Tier", "")
        command = PutParameter(
            call.caller.scope,
            params["Name"],
            params["Value"],
            params.get("Type", ""),
            bool(params.get("Overwrite")),
            params.get("Description"),
            "Standard" if tier == "Intelligent-Tiering" else tier,
            to_tags(params.get("Tags", ())),
        )
        made: Parameter = await self._submit(command)
        return {"Version": made.version, "Tier": made.tier}

    async def GetParameter(self, params: Params, call: Call) -> Result:
        """AWS's public parameters of images too."""
        clear = bool(params.get("WithDecryption"))
        return {"Parameter": await self._service.shown(lambda: self._get(params["Name"], clear, call))}

    def _get(self, text: str, clear: bool, call: Call) -> Result:
        """By name, by ARN, or with a version after a colon. Raises NotFound."""
        scope = call.caller.scope
        name, version = text, ""
        if text.startswith("arn:"):
            head, _, name = text.partition(":parameter")
            if head not in (f"arn:aws:ssm:{scope.region}:{scope.account}", f"arn:aws:ssm:{scope.region}:"):
                raise NotFound(f"Parameter {text[:128]} not found.", code="ParameterNotFound")
            name = name if name in PARAMETERS or scope.key(name) in self._ssm.parameters else name.lstrip("/")
        elif ":" in text:
            name, _, version = text.partition(":")
        if name in PARAMETERS:
            return _public(name, scope)
        found = self._ssm.parameter(scope, name)
        if version and version != str(found.version):
            raise NotFound(
                f"Systems Manager could not find version {version[:16]} of {name[:128]}. Older versions are not kept.",
                code="ParameterVersionNotFound",
            )
        return self._parameter(found, clear)

    async def GetParameters(self, params: Params, call: Call) -> Result:
        clear = bool(params.get("WithDecryption"))

        def look() -> Result:
            found, missing = [], []
            for name in params["Names"]:
                try:
                    found.append(self._get(name, clear, call))
                except NotFound:
                    missing.append(name)
            return {"Parameters": found, "InvalidParameters": missing}

        return await self._service.shown(look)

    async def GetParametersByPath(self, params: Params, call: Call) -> Result:
        only(params, call, "Path", "Recursive", "WithDecryption", "MaxResults", "NextToken")
        clear, deep = bool(params.get("WithDecryption")), bool(params.get("Recursive"))
        path = params["Path"].rstrip("/") + "/"
        if not path.startswith("/"):
            raise InvalidParameterValue(
                "The parameter path must begin with a forward slash.", code="ValidationException", field="Path"
            )

        def look() -> Result:
            found = {
                name: name
                for name in self._names(call.caller.scope)
                if name.startswith(path) and (deep or "/" not in name[len(path) :])
            }
            some, end = self._page(call, params, found, 10)
            return {**end, "Parameters": [self._get(name, clear, call) for name in some]}

        return await self._service.shown(look)

    def _names(self, scope: Scope) -> Iterator[str]:
        yield from self._ssm.names(scope)
        yield from PARAMETERS

    async def DescribeParameters(self, params: Params, call: Call) -> Result:
        only(params, call, "ParameterFilters", "MaxResults", "NextToken")
        tests = [_test(one, call) for one in params.get("ParameterFilters", ())]

        def look() -> Result:
            scope = call.caller.scope
            every = (self._ssm.parameter(scope, name) for name in self._ssm.names(scope))
            found = {one.name: one for one in every if all(test(one) for test in tests)}
            some, end = self._page(call, params, found)
            return {**end, "Parameters": [_metadata(one) for one in some]}

        return await self._service.shown(look)

    async def DeleteParameter(self, params: Params, call: Call) -> Result:
        await self._submit(DeleteParameter(call.caller.scope, params["Name"]))
        return {}

    async def DeleteParameters(self, params: Params, call: Call) -> Result:
        gone, missing = [], []
        for name in params["Names"]:
            try:
                await self._submit(DeleteParameter(call.caller.scope, name))
                gone.append(name)
            except NotFound:
                missing.append(name)
        return {"DeletedParameters": gone, "InvalidParameters": missing}

    async def AddTagsToResource(self, params: Params, call: Call) -> Result:
        name = _tagged(params)
        self._check_there(name, call.caller.scope)
        await self._submit(TagParameter(call.caller.scope, name, to_tags(params["Tags"])))
        return {}

    async def RemoveTagsFromResource(self, params: Params, call: Call) -> Result:
        name = _tagged(params)
        self._check_there(name, call.caller.scope)
        await self._submit(TagParameter(call.caller.scope, name, {}, tuple(params["TagKeys"])))
        return {}

    async def ListTagsForResource(self, params: Params, call: Call) -> Result:
        name = _tagged(params)
        found = await self._service.shown(lambda: self._check_there(name, call.caller.scope))
        return {"TagList": tag_list(found.tags)}

    def _check_there(self, name: str, scope: Scope) -> Parameter:
        """Raises InvalidParameterValue (InvalidResourceId)."""
        found = self._ssm.parameters.get(scope.key(name))
        if found is None:
            raise InvalidParameterValue(f"There is no parameter {name[:128]}", code="InvalidResourceId")
        return found

    def _parameter(self, one: Parameter, clear: bool) -> Result:
        return {
            "Name": one.name,
            "Type": one.type,
            "Value": self._ssm.opened(one) if clear or one.type != SECURE else one.value,
            "Version": one.version,
            "LastModifiedDate": one.modified,
            "ARN": _arn(one.name, Scope(one.account, one.region)),
            "DataType": "text",
        }


def _tagged(params: Params) -> str:
    if params["ResourceType"] != "Parameter":
        raise InvalidParameterValue("Parameters alone have tags", code="InvalidResourceType")
    name: str = params["ResourceId"]
    return name


def _arn(name: str, scope: Scope) -> str:
    return scope.arn("ssm", f"parameter/{name.lstrip('/')}")


def _public(name: str, scope: Scope) -> Result:
    return {
        "Name": name,
        "Type": "String",
        "Value": PARAMETERS[name],
        "Version": 1,
        "LastModifiedDate": _PUBLIC_SINCE,
        "ARN": f"arn:aws:ssm:{scope.region}::parameter{name}",
        "DataType": "text",
    }


def _metadata(one: Parameter) -> Result:
    shown: Result = {
        "Name": one.name,
        "ARN": _arn(one.name, Scope(one.account, one.region)),
        "Type": one.type,
        "LastModifiedDate": one.modified,
        "Version": one.version,
        "Tier": one.tier,
        "Policies": [],
        "DataType": "text",
    }
    if one.type == SECURE:
        shown["KeyId"] = "alias/aws/ssm"
    return shown | ({"Description": one.description} if one.description else {})


def _test(given: Result, call: Call) -> Callable[[Parameter], bool]:
    key, option, values = given["Key"], given.get("Option", "Equals"), given.get("Values", [])
    fields: dict[str, Callable[[Parameter], str]] = {"Name": lambda one: one.name, "Type": lambda one: one.type}
    if key.startswith("tag:") and option == "Equals":
        name = key.removeprefix("tag:")
        return lambda one: name in one.tags and (not values or one.tags[name] in values)
    if key not in fields or option not in ("Equals", "BeginsWith", "Contains"):
        raise refused(f"ParameterFilters {key[:64]} {option[:32]}", call)
    field = fields[key]
    tests: dict[str, Callable[[str, str], bool]] = {
        "Equals": lambda text, value: text in (value, value.lstrip("/")),
        "BeginsWith": lambda text, value: text.startswith(value),
        "Contains": lambda text, value: value in text,
    }
    match = tests[option]
    return lambda one: any(match(field(one), value) for value in values)
