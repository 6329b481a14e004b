"""Commands that were sent to instances, and parameters. Pure; follows AWS Systems Manager.

    invocation   Pending -> InProgress -> Success | Failed | TimedOut | Cancelled; one for each instance of a command
    command      what its invocations say together
    parameter    its newest version; a SecureString is sealed under the cloud's own secret

Where we differ: one document (AWS-RunShellScript); older versions of a parameter are not kept.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from minicloud.base import limits
from minicloud.base.arn import Scope
from minicloud.base.errors import AlreadyExists, CloudError, Conflict, InvalidParameterValue, LimitExceeded, NotFound
from minicloud.base.machine import Context, Outcome, Record, Tick
from minicloud.base.tags import check_tags

RUNNING = ("Pending", "InProgress")
SECURE = "SecureString"
TYPES = ("String", "StringList", SECURE)
_NAME = re.compile(r"/?[a-zA-Z0-9_.-]+(/[a-zA-Z0-9_.-]+)*")


class Seal(Protocol):
    """Keeps secrets unreadable on disk (identity.ports.Seal's half)."""

    def seal(self, plain: bytes, nonce: bytes, name: str) -> str: ...

    def open(self, sealed: str, name: str) -> bytes:
        """Raises ValueError."""
        ...


@dataclass(frozen=True, slots=True)
class SentCommand:
    """`script`: for /bin/sh. `timeout_s`: of one run. `deliver_s`: what has not begun by then does not begin.
    `targets`: as they were asked for.
    """

    id: str
    account: str
    region: str
    script: str
    requested: float
    expires: float
    instances: list[str]
    timeout_s: int = 3600
    cwd: str = ""
    comment: str = ""
    targets: list[dict[str, Any]] = field(default_factory=list)
    parameters: dict[str, list[str]] = field(default_factory=dict)
    concurrency: str = "50"
    deliver_s: int = 3600

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command on one instance. `code` -1: there is none."""

    command: str
    instance: str
    status: str = "Pending"
    code: int = -1
    out: str = ""
    err: str = ""
    started: float = 0.0
    finished: float = 0.0


@dataclass(frozen=True, slots=True)
class Parameter:
    account: str
    region: str
    name: str
    type: str
    value: str
    version: int
    modified: float
    description: str = ""
    tier: str = "Standard"
    tags: dict[str, str] = field(default_factory=dict)


# --- what can be asked


@dataclass(frozen=True, slots=True)
class Send:
    command: SentCommand


@dataclass(frozen=True, slots=True)
class Report:
    """What became of an invocation. One that has ended stays as it is."""

    invocation: Invocation


@dataclass(frozen=True, slots=True)
class PutParameter:
    scope: Scope
    name: str
    value: str
    type: str = ""
    overwrite: bool = False
    description: str | None = None
    tier: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeleteParameter:
    scope: Scope
    name: str


@dataclass(frozen=True, slots=True)
class TagParameter:
    scope: Scope
    name: str
    tags: dict[str, str]
    remove: tuple[str, ...] = ()


class Ssm:
    """Implements base.machine.Machine."""

    kinds = frozenset({"ssm_command", "ssm_invocation", "ssm_parameter"})

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self.commands: dict[str, SentCommand] = {}
        self.invocations: dict[str, Invocation] = {}
        self.parameters: dict[str, Parameter] = {}
        self._names: dict[Scope, list[str]] = defaultdict(list)
        self._due: list[tuple[float, str]] = []
        self._rules: dict[type[Any], Callable[[Any, Context], Outcome]] = {
            Send: self._send,
            Report: self._report,
            PutParameter: self._put,
            DeleteParameter: self._delete,
            TagParameter: self._tag,
            Tick: self._expire,
        }

    def decide(self, command: Any, context: Context) -> Outcome:
        return self._rules[type(command)](command, context)

    def apply(self, record: Record) -> None:
        body = record.body
        if record.kind == "ssm_command":
            before = self.commands.pop(record.key, None)
            if before is not None:
                del self._due[bisect_left(self._due, (before.expires, before.id))]
            if body is not None:
                self.commands[record.key] = made = SentCommand(**body)
                insort(self._due, (made.expires, made.id))
        elif record.kind == "ssm_invocation":
            self.invocations.pop(record.key, None)
            if body is not None:
                self.invocations[record.key] = Invocation(**body)
        else:
            self._apply_parameter(record.key, body)

    def _apply_parameter(self, key: str, body: dict[str, Any] | None) -> None:
        before = self.parameters.pop(key, None)
        if before is not None:
            names = self._names[Scope(before.account, before.region)]
            del names[bisect_left(names, before.name)]
        if body is not None:
            self.parameters[key] = made = Parameter(**body)
            insort(self._names[Scope(made.account, made.region)], made.name)

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        tables: dict[str, dict[str, Any]] = {
            "ssm_command": self.commands,
            "ssm_invocation": self.invocations,
            "ssm_parameter": self.parameters,
        }
        found = tables[kind].get(key)
        return None if found is None else asdict(found)

    def due(self) -> float | None:
        return self._due[0][0] if self._due else None

    # --- reading

    def command(self, scope: Scope, command_id: str) -> SentCommand:
        """Raises NotFound (InvalidCommandId)."""
        found = self.commands.get(command_id)
        if found is None or found.scope != scope:
            raise NotFound(f"There is no command '{command_id[:64]}'", code="InvalidCommandId")
        return found

    def commands_of(self, scope: Scope) -> list[SentCommand]:
        return [one for one in self.commands.values() if one.scope == scope]

    def of_command(self, command: SentCommand) -> Iterator[Invocation]:
        for instance in command.instances:
            yield self.invocations[_key(command.id, instance)]

    def invocation(self, command: SentCommand, instance: str) -> Invocation:
        found = self.invocations.get(_key(command.id, instance))
        if found is None:
            raise NotFound("", code="InvocationDoesNotExist")
        return found

    def names(self, scope: Scope) -> Sequence[str]:
        """Of parameters, sorted."""
        return self._names.get(scope, ())

    def parameter(self, scope: Scope, name: str) -> Parameter:
        """Raises NotFound (ParameterNotFound)."""
        found = self.parameters.get(scope.key(name))
        if found is None:
            raise NotFound(f"Parameter {name[:128]} not found.", code="ParameterNotFound")
        return found

    def opened(self, parameter: Parameter) -> str:
        """The value in clear. Raises Conflict where the cloud's secret was replaced."""
        if parameter.type != SECURE:
            return parameter.value
        try:
            return self._seal.open(parameter.value, _sealed_as(parameter)).decode()
        except ValueError:
            raise Conflict(
                f"The value of {parameter.name[:128]} was sealed under another secret.key", code="InvalidKeyId"
            ) from None

    # --- deciding

    def _send(self, send: Send, context: Context) -> Outcome:
        command = send.command
        made = [Invocation(command.id, one) for one in command.instances]
        records = [Record("ssm_command", command.id, asdict(command))]
        records += [Record("ssm_invocation", _key(command.id, one.instance), asdict(one)) for one in made]
        if len(self.commands_of(command.scope)) >= limits.SSM_COMMANDS_MAX:
            ended = [one for one in self.commands_of(command.scope) if self.status(one) not in RUNNING]
            if not ended:
                raise LimitExceeded("Too many commands are running.", code="InternalServerError")
            records += self._gone(min(ended, key=lambda one: one.requested))
        return Outcome(command, records)

    def _report(self, report: Report, context: Context) -> Outcome:
        key = _key(report.invocation.command, report.invocation.instance)
        before = self.invocations.get(key)
        if before is None or before.status not in RUNNING:
            return Outcome(before)
        return Outcome(report.invocation, [Record("ssm_invocation", key, asdict(report.invocation))])

    def status(self, command: SentCommand) -> str:
        """Of all its invocations together: what still runs, else the worst."""
        said = {one.status for one in self.of_command(command)}
        order = ("InProgress", "Pending", "Failed", "TimedOut", "Cancelled", "Success")
        if "Pending" in said and said - {"Pending"}:
            return "InProgress"
        return next((one for one in order if one in said), "Success")

    def _expire(self, tick: Tick, context: Context) -> Outcome:
        outcome = Outcome()
        for _, command_id in self._due[: bisect_left(self._due, (context.now, "~"))]:
            outcome.records += self._gone(self.commands[command_id])
        return outcome

    def _gone(self, command: SentCommand) -> list[Record]:
        gone = [Record("ssm_invocation", _key(command.id, one), None) for one in command.instances]
        return [*gone, Record("ssm_command", command.id, None)]

    def _put(self, put: PutParameter, context: Context) -> Outcome:
        key = put.scope.key(put.name)
        before = self.parameters.get(key)
        if before is not None and not put.overwrite:
            raise AlreadyExists(
                "The parameter already exists. To overwrite this value, set the overwrite option in the request to "
                "true.",
                code="ParameterAlreadyExists",
            )
        _check_parameter(put, before)
        if before is None and len(self.names(put.scope)) >= limits.SSM_PARAMETERS_MAX:
            raise LimitExceeded("You have too many parameters.", code="ParameterLimitExceeded")
        made = Parameter(
            put.scope.account,
            put.scope.region,
            put.name,
            put.type or (before.type if before else ""),
            put.value,
            before.version + 1 if before else 1,
            context.now,
            put.description if put.description is not None else (before.description if before else ""),
            put.tier or (before.tier if before else "Standard"),
            before.tags if before else check_tags(put.tags),
        )
        if made.type == SECURE:
            sealed = self._seal.seal(put.value.encode(), context.rand.randbytes(12), _sealed_as(made))
            made = replace(made, value=sealed)
        return Outcome(made, [Record("ssm_parameter", key, asdict(made))])

    def _delete(self, delete: DeleteParameter, context: Context) -> Outcome:
        found = self.parameter(delete.scope, delete.name)
        return Outcome(found, [Record("ssm_parameter", delete.scope.key(delete.name), None)])

    def _tag(self, tag: TagParameter, context: Context) -> Outcome:
        found = self.parameter(tag.scope, tag.name)
        kept = {key: value for key, value in found.tags.items() if key not in tag.remove}
        after = replace(found, tags=check_tags(tag.tags, kept=kept))
        return Outcome(after, [Record("ssm_parameter", tag.scope.key(tag.name), asdict(after))])


def _key(command_id: str, instance: str) -> str:
    return f"{command_id}/{instance}"


def _sealed_as(parameter: Parameter) -> str:
    return f"ssm {parameter.account}/{parameter.region}/{parameter.name}"


def _check_parameter(put: PutParameter, before: Parameter | None) -> None:
    if not _NAME.fullmatch(put.name) or len(put.name) > limits.SSM_NAME_CHARS_MAX:
        raise _bad(f"Parameter name: can't be prefixed with \"ssm\" or have other characters than a-zA-Z0-9_.-/ "
                   f"({put.name[:128]})")  # fmt: skip
    if put.name.strip("/").lower().split("/")[0].startswith(("aws", "ssm")):
        raise _bad('Parameter name: can\'t be prefixed with "aws" or "ssm" (case-insensitive).')
    if put.name.count("/") > limits.SSM_LEVELS_MAX:
        raise _bad(
            f"Hierarchy can't exceed {limits.SSM_LEVELS_MAX} levels.", code="HierarchyLevelLimitExceededException"
        )
    if before is None and not put.type:
        raise _bad("A parameter type is required when you create a parameter.")
    if put.type and put.type not in TYPES:
        raise _bad(f"Parameter type {put.type[:32]} is not supported.", code="UnsupportedParameterType")
    if before is not None and put.type and put.type != before.type and SECURE in (put.type, before.type):
        raise _bad(
            "A parameter's type cannot be changed to or from SecureString.", code="HierarchyTypeMismatchException"
        )
    most = limits.SSM_ADVANCED_BYTES_MAX if put.tier == "Advanced" else limits.SSM_STANDARD_BYTES_MAX
    if not put.value or len(put.value.encode()) > most:
        raise _bad(f"Standard tier parameters support a maximum parameter value of {most} characters.")


def _bad(text: str, code: str = "ValidationException") -> CloudError:
    return InvalidParameterValue(text, code=code)
