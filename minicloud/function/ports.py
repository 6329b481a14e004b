"""What functions need from the outside, and what passes between them and the environments that run their code.

    service --EnvironmentSpec, Invocation--> Environments --Outcome--> service

The service decides whether an invocation may run at all (concurrency.py) and which version it runs; `Environments`
finds or makes an execution environment for it, runs one invocation at a time in each, and keeps those that are warm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from minicloud.base.arn import Scope
from minicloud.base.errors import NotFound

T = TypeVar("T")

HANDLED, UNHANDLED = "Handled", "Unhandled"


class Package(NamedTuple):
    """A zip on this machine's disk. `sha256`: hex; the same bytes have the same path. Unpack with store.zips.unpack."""

    sha256: str
    path: str


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`format`: Text or JSON; levels are '' in Text. `group`: the log group, its name as given or /aws/lambda/NAME."""

    group: str
    format: str = "Text"
    application_level: str = ""
    system_level: str = ""


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """Everything that an environment is made from. Two equal specs may share environments, others never do.

    `arn`: the function's, without qualifier. `version`: "$LATEST" or a number. `revision`: another one at each change
    of $LATEST's code or configuration; environments of the one before take nothing new and end when they are idle.
    `layers`: unpacked into /opt in this order, later ones over earlier ones. `env`: as the user gave it.
    """

    arn: str
    name: str
    version: str
    revision: str
    scope: Scope
    code: Package
    runtime: str
    handler: str
    memory_mib: int
    timeout_s: int
    ephemeral_mib: int
    log: LogSettings
    env: tuple[tuple[str, str], ...] = ()
    layers: tuple[Package, ...] = ()

    def __hash__(self) -> int:
        """Of what tells specs apart most often: it is asked for at every invocation."""
        return hash((self.arn, self.version, self.revision))


class Sink(Protocol):
    """Who takes a response while it is made. Slow readers slow the function down."""

    async def open(self, content_type: str) -> None:
        """Before the first bytes, once."""
        ...

    async def write(self, chunk: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event for one environment. `arn`: the one it was invoked by, qualifier included.

    `client_context`: JSON text, '' for none. `tail`: the log's end is wanted. `sink`: the response is streamed to it
    where the function streams; whatever does not stream is written to it in one piece.
    """

    request_id: str
    payload: bytes
    arn: str
    client_context: str = ""
    trace_id: str = ""
    tail: bool = False
    sink: Sink | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an invocation that ran.

    `function_error`: '' it succeeded; "Handled", the handler raised and its runtime reported it; "Unhandled", it timed
    out, ran out of memory, exited, or never came up. Then `payload` is AWS's {"errorMessage", "errorType", ...}. With a
    sink the payload is empty unless there was an error. `tail`: up to the last 4 KiB of log of this invocation.
    `init_ms` None: the environment was warm.
    """

    payload: bytes
    function_error: str = ""
    tail: bytes = b""
    duration_ms: float = 0.0
    billed_ms: int = 0
    init_ms: float | None = None
    memory_max_mib: int = 0


Done = Callable[[Outcome | BaseException], None]  # who hears what became of an invocation


class Counts(NamedTuple):
    """Environments of one function version, or of all: at work, warm and free, being made."""

    busy: int = 0
    idle: int = 0
    starting: int = 0


class Environments(Protocol):
    """Execution environments on every function host."""

    async def invoke(self, spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        """Run it in a warm environment, or in a new one.

        The function's timeout counts from when the environment takes it; coming up has ten seconds of its own. An
        environment that dies meanwhile is an Outcome (Unhandled, Runtime.ExitError). START, END and REPORT lines and
        whatever the guest prints go to `Logs`. Cancelling the call ends the environment.

        Raises TooManyRequests (errors.no_room: memory, processes), Unavailable (the host went away before it was
        given to a guest, so it may be tried again), InvalidRequest (errors.broken_package: the zip cannot be unpacked
        here; errors.no_runtime: this machine has none).
        """
        ...

    def begin(self, spec: EnvironmentSpec, invocation: Invocation, done: Done) -> bool:
        """`invoke`, in an environment that is warm and free here; `done` hears the outcome once, maybe at once.

        False: nothing happened, for there is none, or the invocation streams.
        """
        ...

    async def prepare(self, spec: EnvironmentSpec, count: int) -> int:
        """Keep `count` environments of this spec initialised, busy ones included, until another count is asked for.

        Returns how many there are once all are there, or once one cannot be made. Raises what `invoke` raises.
        """
        ...

    async def retire(self, arn: str, version: str = "", revision: str = "") -> None:
        """End environments of a function, or of one version of it, that are not of `revision`; busy ones afterwards."""
        ...

    def counts(self, arn: str = "", version: str = "") -> Counts: ...

    def runtimes(self) -> Sequence[str]:
        """Names that `runtime` may have here: python3.11, nodejs20.x, provided.al2023 ..."""
        ...


class Logs(Protocol):
    """Where functions write. Never blocks, never raises; may drop where it cannot keep up, and counts it."""

    def write(self, scope: Scope, group: str, stream: str, events: Sequence[tuple[float, str]]) -> None:
        """Lines of one log stream with their times (Unix seconds)."""
        ...


class NoLogs:
    """A cloud without a log service."""

    def write(self, scope: Scope, group: str, stream: str, events: Sequence[tuple[float, str]]) -> None:
        return None


class Message(NamedTuple):
    """From a queue. `attributes`: AWS's names and texts; `given`: the sender's, by name: type and value."""

    id: str
    handle: bytes
    body: str
    attributes: dict[str, str]
    given: dict[str, tuple[str, bytes]]


class Messages(Protocol):
    """Queues and topics of the account and region that a function is of. Each raises what the broker answers."""

    async def send(self, scope: Scope, arn: str, body: bytes, attributes: Mapping[str, tuple[str, bytes]]) -> None:
        """To a queue, or a topic."""
        ...

    async def receive(self, scope: Scope, queue: str, most: int, wait_s: int) -> list[Message]:
        """At most so many, once there are any; waits no longer than so many seconds for the first."""
        ...

    async def delete(self, scope: Scope, queue: str, handles: Sequence[bytes]) -> None: ...

    async def release(self, scope: Scope, queue: str, handles: Sequence[bytes], after_s: int) -> None:
        """Let others see them again after so many seconds."""
        ...


class NoMessages:
    """A cloud without queues and topics."""

    async def send(self, scope: Scope, arn: str, body: bytes, attributes: Mapping[str, tuple[str, bytes]]) -> None:
        raise NotFound(f"{arn} does not exist")

    async def receive(self, scope: Scope, queue: str, most: int, wait_s: int) -> list[Message]:
        raise NotFound(f"{queue} does not exist")

    async def delete(self, scope: Scope, queue: str, handles: Sequence[bytes]) -> None:
        raise NotFound(f"{queue} does not exist")

    async def release(self, scope: Scope, queue: str, handles: Sequence[bytes], after_s: int) -> None:
        raise NotFound(f"{queue} does not exist")


class Shell(Protocol):
    """What makes the machine durable (shell/shell.py)."""

    async def start(self, owner: str = "") -> None: ...

    async def stop(self) -> None: ...

    async def submit(self, command: Any) -> Any: ...

    def read(self, look: Callable[[], T]) -> T: ...

    async def shown(self, look: Callable[[], T]) -> T: ...
