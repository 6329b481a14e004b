"""What every noun of the lambda door stands on: the service, pages, configurations as AWS shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from minicloud.aws.call import Call, refused
from minicloud.aws.lists import Paging
from minicloud.function import commands, errors
from minicloud.function.functions import shown_sha256
from minicloud.function.model import ACTIVE, SUCCESSFUL, Function, Version
from minicloud.function.service import FunctionService
from minicloud.function.state import State

T = TypeVar("T")
Params = dict[str, Any]
Result = dict[str, Any]
NAME, QUALIFIER = "FunctionName", "Qualifier"
_PAGING = Paging("Marker", "MaxItems", "NextMarker")
PAGE, PAGE_MAX = 50, 10_000  # model, MaxItems; 50 where none is given
MACHINES = {"x86_64": ("x86_64", "amd64"), "arm64": ("aarch64", "arm64")}

# Parameters of functions, and the one value of each that says what is so anyway.
HARMLESS: dict[str, Any] = {
    "PackageType": "Zip",
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
    "SnapStart": {"ApplyOn": "None"},
    "FileSystemConfigs": [],
}
SETTINGS = (
    "Runtime",
    "Role",
    "Handler",
    "Description",
    "Timeout",
    "MemorySize",
    "DeadLetterConfig",
    "Environment",
    "TracingConfig",
    "Layers",
    "EphemeralStorage",
    "LoggingConfig",
)
_PLAIN = {
    "Runtime": "runtime",
    "Role": "role",
    "Handler": "handler",
    "Description": "description",
    "Timeout": "timeout_s",
    "MemorySize": "memory_mib",
}


class Noun:
    """A part of the lambda door. `url_of`: a function URL's address by its id. `machine`: what runs here (uname -m)."""

    def __init__(
        self, service: FunctionService, page_secret: bytes, url_of: Callable[[str], str], machine: str
    ) -> None:
        self._service = service
        self._secret = page_secret
        self._url_of = url_of
        self._architecture = next((name for name, known in MACHINES.items() if machine in known), machine)

    async def _shown(self, look: Callable[[State], T]) -> T:
        return await self._service.shown(look)

    def _page(self, params: Params, call: Call, found: Mapping[str, T]) -> tuple[list[T], Result]:
        """One page of what was found, and the result's NextMarker."""
        size = min(params.get("MaxItems", PAGE), PAGE_MAX)
        return _PAGING.page(self._secret, call, params, found, size)

    def _configuration(self, version: Version, owner: Function, arn: str = "") -> Result:
        """`arn`: as it was asked for, '' for the function's own."""
        settings = version.settings
        logging: Result = {"LogFormat": settings.log_format, "LogGroup": version.log_group}
        if settings.log_application:
            logging["ApplicationLogLevel"] = settings.log_application
        if settings.log_system:
            logging["SystemLogLevel"] = settings.log_system
        shown: Result = {
            "FunctionName": version.name,
            "FunctionArn": arn or owner.arn,
            "Runtime": settings.runtime,
            "Role": settings.role,
            "Handler": settings.handler,
            "CodeSize": version.code.bytes,
            "Description": settings.description,
            "Timeout": settings.timeout_s,
            "MemorySize": settings.memory_mib,
            "LastModified": when(version.modified),
            "CodeSha256": shown_sha256(version.code),
            "Version": version.version,
            "TracingConfig": {"Mode": settings.tracing},
            "RevisionId": version.revision,
            "State": ACTIVE,
            "LastUpdateStatus": SUCCESSFUL,
            "PackageType": "Zip",
            "Architectures": [self._architecture],
            "EphemeralStorage": {"Size": settings.ephemeral_mib},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": logging,
        }
        if settings.env:
            shown["Environment"] = {"Variables": dict(settings.env)}
        if settings.dead_letter:
            shown["DeadLetterConfig"] = {"TargetArn": settings.dead_letter}
        if settings.layers:
            known = self._service.state.layer_versions
            shown["Layers"] = [{"Arn": one, "CodeSize": known[one].code.bytes} for one in settings.layers]
        return shown


def when(seconds: float) -> str:
    """2026-11-25T18:00:00.000+0000"""
    return (
        datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(seconds * 1000) % 1000:03d}+0000"
    )


def given(params: Params) -> commands.Given:
    said = {ours: params[name] for name, ours in _PLAIN.items() if name in params}
    if "DeadLetterConfig" in params:
        said["dead_letter"] = params["DeadLetterConfig"].get("TargetArn", "")
    if "Environment" in params:
        said["env"] = params["Environment"].get("Variables", {})
    if "Layers" in params:
        said["layers"] = tuple(params["Layers"])
    if "TracingConfig" in params:
        said["tracing"] = params["TracingConfig"].get("Mode")
    if "EphemeralStorage" in params:
        said["ephemeral_mib"] = params["EphemeralStorage"]["Size"]
    logging = params.get("LoggingConfig", {})
    names = {
        "LogFormat": "log_format",
        "ApplicationLogLevel": "log_application",
        "SystemLogLevel": "log_system",
        "LogGroup": "log_group",
    }
    said |= {ours: logging[name] for name, ours in names.items() if name in logging}
    return commands.Given(**said)


def zip_of(params: Params, call: Call) -> bytes:
    """The package that came with the request. Raises InvalidParameterValueException for one that lies elsewhere."""
    for name in params:
        if name not in ("ZipFile",):
            raise refused(f"Code.{name}", call, "Packages come with the request, as ZipFile.")
    if "ZipFile" not in params:
        raise errors.invalid("Please provide a source for function code.", "code")
    raw: bytes = params["ZipFile"]
    return raw
