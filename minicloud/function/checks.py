"""Configuration of functions, checked: what a request gives, over what is there. Source: lambda's model and guide.

Where we differ: `role` may be any ARN of a role and gives nothing, there are no users' policies here; x86_64 and
arm64 are the machine's own architecture; a version has no state but Active, because nothing has to be provisioned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from minicloud.base.arn import Scope
from minicloud.function import errors, limits, tracing
from minicloud.function.commands import Given
from minicloud.function.model import JSON, TEXT, LayerVersion, Settings
from minicloud.function.state import State

_ROLE = re.compile(r"arn:aws:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+\Z")
_ENV_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]+\Z")
_RUNTIME = re.compile(r"(python3\.\d{1,2}|nodejs\d{2}\.x|provided(\.al2|\.al2023)?)\Z")
_LOG_GROUP = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}\Z")
_TARGET = re.compile(r"arn:aws:(sqs|sns):[a-z0-9-]+:\d{12}:[A-Za-z0-9_.-]+\Z")
# Guide, "Defined runtime environment variables": those that cannot be set.
RESERVED = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    }
)
_MANDATORY = "Runtime and Handler are mandatory parameters for functions created with deployment packages."
_NO_ENV = (
    "Lambda was unable to configure your environment variables because the environment variables you have provided"
)
LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
SYSTEM_LEVELS = ("DEBUG", "INFO", "WARN")
DEFAULT_ROLE = "arn:aws:iam::{account}:role/minicloud-function"
DEFAULTS = Given(
    description="",
    memory_mib=limits.MEMORY_MIB_DEFAULT,
    timeout_s=limits.TIMEOUT_S_DEFAULT,
    ephemeral_mib=limits.EPHEMERAL_MIB[0],
)


def settings(state: State, scope: Scope, given: Given, before: Settings | None) -> Settings:
    """`before` None: of a new function. Raises InvalidParameterValueException, ValidationException, ..."""
    old = before or Settings("", "", DEFAULT_ROLE.format(account=scope.account))
    changes = {name: getattr(given, name) for name in Given.__slots__ if getattr(given, name) is not None}
    if given.env is not None:
        changes["env"] = dict(given.env)
    new = replace(old, **changes)
    _check_program(new)
    _check_sizes(new)
    check_env(new.env)
    if not _ROLE.match(new.role):
        raise errors.out_of_model("role", new.role, "Member must be the ARN of a role")
    if new.dead_letter:
        check_target(scope, new.dead_letter, "deadLetterConfig.targetArn")
    if new.tracing not in ("PassThrough", tracing.ACTIVE):
        raise errors.out_of_model(
            "tracingConfig.mode", new.tracing, "Member must satisfy enum value set: [Active, PassThrough]"
        )
    check_layers(state, scope, new.layers)
    return _logging(new, given)


def _check_program(new: Settings) -> None:
    if not new.runtime:
        raise errors.invalid(_MANDATORY, "runtime")
    if not _RUNTIME.match(new.runtime):
        raise errors.not_supported(f"The runtime {new.runtime[:64]}", "runtime")
    if not new.handler and not new.runtime.startswith("provided"):
        raise errors.invalid(_MANDATORY, "handler")
    if len(new.handler) > limits.HANDLER_CHARS_MAX or any(char.isspace() for char in new.handler):
        raise errors.out_of_model(
            "handler",
            new.handler,
            r"Member must satisfy regular expression pattern: [^\s]+ with at most 128 characters",
        )
    if len(new.description) > limits.DESCRIPTION_CHARS_MAX:
        raise errors.out_of_model("description", new.description, "Member must have length less than or equal to 256")


def _check_sizes(new: Settings) -> None:
    errors.check_range("memorySize", new.memory_mib, limits.MEMORY_MIB)
    errors.check_range("timeout", new.timeout_s, limits.TIMEOUT_S)
    errors.check_range("ephemeralStorage.size", new.ephemeral_mib, limits.EPHEMERAL_MIB)


def check_env(env: Mapping[str, str]) -> None:
    taken = sorted(RESERVED & env.keys())
    if taken:
        text = (
            f"{_NO_ENV} contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(taken)}"
        )
        raise errors.invalid(text, "environment")
    for name, value in env.items():
        if not _ENV_NAME.match(name):
            raise errors.out_of_model(
                "environment.variables",
                name,
                "Map keys must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+",
            )
        if "\0" in value:
            raise errors.invalid(f"The value of the environment variable {name} has a NUL character", "environment")
    size = sum(len(name.encode()) + len(value.encode()) for name, value in env.items())
    if size > limits.ENVIRONMENT_BYTES_MAX:
        raise errors.invalid(f"{_NO_ENV} exceeded the 4KB limit.", "environment")


def check_target(scope: Scope, arn: str, field: str) -> None:
    """A queue or topic of this account and region, where what failed goes."""
    parts = arn.split(":")
    if not _TARGET.match(arn):
        raise errors.invalid(f"The target ARN {arn[:256]} is neither a queue nor a topic", field)
    if (parts[4], parts[3]) != (scope.account, scope.region):
        raise errors.invalid(f"The target {arn[:256]} must be of the function's account and region", field)


def check_layers(state: State, scope: Scope, layers: tuple[str, ...]) -> None:
    if len(layers) > limits.LAYERS_MAX:
        raise errors.invalid(f"Cannot reference more than {limits.LAYERS_MAX} layers.", "layers")
    if len({arn.rpartition(":")[0] for arn in layers}) != len(layers):
        raise errors.invalid(
            "Two different versions of the same layer are not allowed to be referenced in the same function.", "layers"
        )
    for arn in layers:
        found = state.layer_versions.get(arn)
        if found is None or not may_use(state, scope, found):
            raise errors.invalid(f"Layer version {arn[:256]} does not exist.", "layers")


def may_use(state: State, scope: Scope, layer: LayerVersion) -> bool:
    """Whether a layer version is the scope's own, or shared with its account in its region."""
    if layer.scope == scope or layer.region != scope.region:
        return layer.scope == scope
    policy = state.policies.get(layer.arn)
    shared = policy.statements.values() if policy is not None else ()
    return any(one.principal in ("*", scope.account) for one in shared)


def check_unzipped(state: State, layers: tuple[str, ...], unzipped: int) -> None:
    """A package with all its layers."""
    total = unzipped + sum(state.layer_versions[arn].code.unzipped for arn in layers)
    if total > limits.UNZIPPED_BYTES_MAX:
        text = (
            "Function code combined with layers exceeds the maximum allowed size of "
            f"{limits.UNZIPPED_BYTES_MAX} bytes. The actual size is {total} bytes."
        )
        raise errors.invalid(text, "layers")


def _logging(new: Settings, given: Given) -> Settings:
    """Levels are JSON's alone, and INFO there where nothing was said."""
    if new.log_format not in (TEXT, JSON):
        raise errors.out_of_model(
            "loggingConfig.logFormat", new.log_format, "Member must satisfy enum value set: [JSON, Text]"
        )
    if new.log_group and not _LOG_GROUP.match(new.log_group):
        raise errors.out_of_model(
            "loggingConfig.logGroup",
            new.log_group,
            r"Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+",
        )
    if new.log_format == TEXT:
        if given.log_application or given.log_system:
            raise errors.invalid("Log levels need LogFormat JSON.", "loggingConfig")
        return replace(new, log_application="", log_system="")
    new = replace(new, log_application=new.log_application or "INFO", log_system=new.log_system or "INFO")
    if new.log_application not in LEVELS or new.log_system not in SYSTEM_LEVELS:
        raise errors.out_of_model(
            "loggingConfig", new.log_application, f"Member must satisfy enum value set: [{', '.join(LEVELS)}]"
        )
    return new
