"""One execution environment: a sandboxed process tree that answers one invocation at a time.

    starting --next--> idle --run--> busy --answer, next--> idle --> ... --kill, or it dies--> ended

It ends at once, without a word to the guest, when an invocation runs out of time, when it was not up in time, when it
loses the connection it was born with, and when it is not needed any more. What its invocation gets then is decided here
(`outcomes`). After `ended` no process of it is left, and what it stood in is taken down (`Resources.free`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from minicloud.base.errors import Unavailable
from minicloud.environment import outcomes
from minicloud.environment.doors import Doors
from minicloud.environment.limits import RESPONSE_BYTES_MAX
from minicloud.environment.log_pipe import LogPipe
from minicloud.environment.member import BUSY as BUSY
from minicloud.environment.member import ENDED as ENDED
from minicloud.environment.member import IDLE as IDLE
from minicloud.environment.member import STARTING, Owner
from minicloud.environment.outcomes import Failure
from minicloud.environment.runtime_api import RuntimeApi
from minicloud.environment.runtime_http import Connection
from minicloud.environment.system_log import Report, SystemLog, billed, filter_of
from minicloud.environment.zygotes import Zygote
from minicloud.function import tracing
from minicloud.function.limits import INIT_S_MAX
from minicloud.function.ports import UNHANDLED, Done, EnvironmentSpec, Invocation, Outcome

log = logging.getLogger("minicloud.environment")

MEMORY_EVERY_S = 0.1  # how old the memory of a REPORT line may be
Told = Callable[[bytes, Failure | None, float], None]  # payload, failure, milliseconds


class Resources(Protocol):
    """What an environment stands in on its host."""

    def memory_max_mib(self) -> int:
        """The most it has used, 0 where nobody counts."""
        ...

    def out_of_memory(self) -> bool:
        """The kernel has killed in it for memory."""
        ...

    def kill(self) -> None:
        """What the zygote's kill does not reach, where there is no pid namespace. Does not wait."""
        ...

    def free(self) -> None:
        """It has ended. Does not wait."""
        ...


class Environment:
    """Fulfils `runtime_api.Runner` and `member.Member`. Everything on the event loop."""

    near = True

    def __init__(self, spec: EnvironmentSpec, owner: Owner, zygote: Zygote, resources: Resources) -> None:
        now = time.time()
        self.spec = spec
        self.name = uuid.uuid4().hex
        day = time.strftime("%Y/%m/%d", time.gmtime(now))
        self.stream = f"{day}/[{spec.version}]{self.name}"
        self.state = STARTING
        self.counted = True  # its memory, by the host
        self.init_ms: float | None = None  # until an invocation has reported it
        self.resources = resources
        self._owner = owner
        self._zygote = zygote
        self._loop = asyncio.get_running_loop()
        self._api = RuntimeApi(self)
        self._log: LogPipe | None = None
        self._system = SystemLog(spec.log)
        self._asked_for = ""  # on-demand, or provisioned-concurrency
        self._listener: asyncio.Server | None = None
        self._doors: Doors | None = None
        self._born = time.perf_counter()
        self._timer: asyncio.TimerHandle | None = None  # runs on when its invocation has ended: see `_check`
        self._time_over: float | None = None
        self._invocation: Invocation | None = None
        self._told: Told | None = None  # who waits for the answer
        self._began = 0.0
        self._doom: Failure | None = None  # why it was killed
        self._memory = (0.0, 0)
        self.idle_since = self._loop.time()

    @property
    def ready(self) -> bool:
        return self.state == IDLE and self._api.parked

    @property
    def age_s(self) -> float:
        return time.perf_counter() - self._born

    @property
    def turning(self) -> bool:
        """It has answered, and will ask for the next event any moment."""
        return self.state == BUSY and self._told is None and self._doom is None

    # ------------------------------------------------------------ coming up

    async def start(self, order: dict[str, Any], fds: dict[str, int]) -> None:
        """Orders it. It is up when the owner hears `idle`, or `never`. Raises OSError, Unavailable."""
        self._asked_for = order["env"]["AWS_LAMBDA_INITIALIZATION_TYPE"]
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
            undo.callback(self._stillborn)
            reader, log_end = os.pipe2(os.O_CLOEXEC)
            theirs.callback(os.close, log_end)
            self._log = LogPipe(reader, self._write, filter_of(self.spec.log))
            mine, api_end = socket.socketpair()
            theirs.enter_context(api_end)
            await self._connect(mine, order["kind"] == "python")
            self._give(INIT_S_MAX)
            handed = {"api": api_end.fileno(), "log": log_end, **fds}
            self._zygote.make({**order, "id": self.name}, handed, self._news)
            undo.pop_all()

    async def _connect(self, mine: socket.socket, own: bool) -> None:
        """`own`: the runtime talks by it."""
        if not own:
            mine.close()
            return
        mine.setblocking(False)
        await self._loop.create_connection(lambda: Connection(self._api, own=True), sock=mine)

    def _stillborn(self) -> None:
        self.state = ENDED
        self._stop_timer()
        self._close()

    def _news(self, words: dict[str, Any], listeners: list[socket.socket]) -> None:
        """From the zygote."""
        if words["op"] == "up":
            if self.state == ENDED:
                for listener in listeners:
                    listener.close()
            else:
                listeners[0].setblocking(False)
                task = asyncio.ensure_future(self._listen(listeners[0]))
                task.add_done_callback(_log_failure)
                self._doors = Doors(listeners[1:], self._owner.doors_at)
        elif words["op"] == "failed":
            log.error("an environment of %s cannot be made: %s", self.spec.arn, words["error"])
            text = f"the sandbox could not be made: {words['error']}"
            self._doom = outcomes.failure("Sandbox.Failure", text)
        elif words["op"] == "exited":
            self._over(int(words["status"]))

    async def _listen(self, listener: socket.socket) -> None:
        server = await self._loop.create_server(lambda: Connection(self._api), sock=listener, backlog=64)
        if self.state == ENDED:
            server.close()
        else:
            self._listener = server

    # ------------------------------------------------------------ one invocation

    async def run(self, invocation: Invocation) -> Outcome:
        """In an idle environment. The owner hears `idle` or `ended` of it afterwards; cancelling kills it.

        Its time is over when the runtime asks for the next event, be the answer given or not.

        Raises Unavailable where it died before it had the event.
        """
        if not self.ready:
            raise Unavailable("the environment is gone")
        result: asyncio.Future[tuple[bytes, Failure | None, float]] = self._loop.create_future()
        self._set_off(invocation, partial(_settle, result))
        try:
            payload, failed, duration_ms = await result
        except asyncio.CancelledError:
            self.kill(outcomes.failure("Sandbox.Cancelled", "the invocation was cancelled"))
            raise
        outcome = self._reported(invocation, payload, failed, duration_ms)
        if invocation.sink is not None and failed is None and payload:
            await invocation.sink.open("application/json")
            await invocation.sink.write(payload)
            return replace(outcome, payload=b"")
        return outcome

    def begin(self, invocation: Invocation, done: Done) -> None:
        """`run` of one without a sink, in an environment that is ready; `done` hears the outcome at once."""
        self._set_off(invocation, partial(self._done, invocation, done))

    def _done(
        self,
        invocation: Invocation,
        done: Done,
        payload: bytes,
        failed: Failure | None,
        duration_ms: float,
    ) -> None:
        said: Outcome | BaseException
        try:
            said = self._reported(invocation, payload, failed, duration_ms)
        except Exception as error:
            log.exception("an invocation of %s", self.spec.arn)
            self.kill()
            said = error
        done(said)

    def _set_off(self, invocation: Invocation, told: Told) -> None:
        assert self._log is not None
        spec, self.state = self.spec, BUSY
        self._invocation, self._told = invocation, told
        self._log.begin(self._system.start(invocation.request_id, spec.version))
        self._began = time.perf_counter()
        self._give(spec.timeout_s)
        self._api.dispatch(invocation, int((time.time() + spec.timeout_s) * 1000))

    async def stillborn(self, invocation: Invocation, failed: Failure) -> Outcome:
        """What an invocation gets that waited for this environment, which never came up."""
        assert self._log is not None
        self._log.write(self._system.start(invocation.request_id, self.spec.version))
        self.init_ms = (time.perf_counter() - self._born) * 1000
        return self._reported(invocation, b"", failed.of(invocation.request_id), 0.0)

    def _reported(self, invocation: Invocation, payload: bytes, failed: Failure | None, duration_ms: float) -> Outcome:
        """The last lines of its log, and the outcome."""
        assert self._log is not None
        spec = self.spec
        init_ms, self.init_ms = self.init_ms, None
        timed_out = failed is not None and failed.kind == outcomes.TIMED_OUT
        ours = self._doom is not None or self.state == ENDED  # else the runtime said so itself
        report = Report(
            invocation.request_id,
            spec.timeout_s * 1000.0 if timed_out else duration_ms,
            billed(duration_ms, init_ms),
            spec.memory_mib,
            self._memory_max_mib(),
            init_ms,
            "" if failed is None or not ours else "timeout" if timed_out else "error",
            "" if failed is None else failed.kind,
            tracing.read(invocation.trace_id) if invocation.trace_id else None,
        )
        tail = self._log.end(self._system.end(report, spec.timeout_s))
        return Outcome(
            payload=payload if failed is None else failed.payload,
            function_error="" if failed is None else UNHANDLED,
            tail=tail if invocation.tail else b"",
            duration_ms=report.duration_ms,
            billed_ms=report.billed_ms,
            init_ms=init_ms,
            memory_max_mib=report.memory_max_mib,
        )

    def _give(self, seconds: float) -> None:
        """It has this much time from now on."""
        self._time_over = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._time_over:
            self._stop_timer()
            self._timer = self._loop.call_at(self._time_over, self._check)

    def _check(self) -> None:
        """The timer: one for many invocations, which is cheaper than one for each."""
        self._timer = None
        if self._time_over is None:
            return
        if self._loop.time() < self._time_over:
            self._timer = self._loop.call_at(self._time_over, self._check)
        else:
            limit_s = INIT_S_MAX if self.state == STARTING else self.spec.timeout_s
            self.kill(outcomes.timed_out(self._request_id(), limit_s))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _request_id(self) -> str:
        return self._invocation.request_id if self._invocation is not None else ""

    def _memory_max_mib(self) -> int:
        now = self._loop.time()
        if now - self._memory[0] > MEMORY_EVERY_S:
            self._memory = (now, self.resources.memory_max_mib())
        return min(self._memory[1], self.spec.memory_mib)

    # ------------------------------------------------------------ the end

    def kill(self, why: Failure | None = None) -> None:
        """`why`: what its invocation is told, at once. Idempotent."""
        if self.state == ENDED:
            return
        if self._doom is None:
            self._doom = why
        self._zygote.kill(self.name)
        self.resources.kill()
        if why is not None:
            self._conclude(why)

    def _over(self, status: int | None) -> None:
        """No process of it is left."""
        if self.state == ENDED:
            return
        was, self.state = self.state, ENDED
        self._stop_timer()
        if self._log is not None:
            self._log.drain()
        out_of_memory = self._doom is None and status == 137 and self.resources.out_of_memory()
        failed = self._doom or outcomes.exited(self._request_id(), status, out_of_memory=out_of_memory)
        self._conclude(failed)
        if was == STARTING:
            self._owner.never(self, failed)
        self._loop.call_soon(self._close)  # after whoever waited has written its last lines
        self._owner.ended(self)

    def _close(self) -> None:
        self._api.close()
        if self._doors is not None:
            self._doors.close()
        if self._listener is not None:
            self._listener.close()
        if self._log is not None:
            self._loop.call_soon(self._log.close)
        self.resources.free()

    def _conclude(self, failed: Failure) -> None:
        self._tell(b"", failed)

    def _tell(self, payload: bytes, failed: Failure | None) -> None:
        """Once for each invocation."""
        told, self._told = self._told, None
        if told is not None:
            told(payload, failed, (time.perf_counter() - self._began) * 1000)

    # ------------------------------------------------------------ runtime_api.Runner

    def runtime_ready(self) -> None:
        if self.state == STARTING:
            self.init_ms = (time.perf_counter() - self._born) * 1000
            if self._log is not None:
                self._log.drain()  # what it said while it came up is before its first START
                self._log.write(self._system.init(self.name, self._asked_for, self.init_ms))
        elif self.state != BUSY:
            return
        self.state, self.idle_since = IDLE, self._loop.time()
        self._time_over = self._invocation = self._told = None
        self._owner.idle(self)

    def runtime_answered(self, payload: bytes, failed: Failure | None) -> None:
        self._tell(payload, outcomes.too_large() if len(payload) > RESPONSE_BYTES_MAX else failed)

    def runtime_never(self, failed: Failure) -> None:
        self._doom = failed
        self.kill()

    def runtime_closed(self) -> None:
        """It may run on, but there is no way to it."""
        if self.state != ENDED:
            self._loop.call_later(0.05, self.kill)  # most often it is dead, and its status is under way

    def _write(self, lines: list[tuple[float, str]]) -> None:
        self._owner.logs.write(self.spec.scope, self.spec.log.group, self.stream, lines)


def _settle(result: asyncio.Future[tuple[bytes, Failure | None, float]], *told: Any) -> None:
    if not result.done():
        result.set_result(told)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("an environment's Runtime API: %s", task.exception())
