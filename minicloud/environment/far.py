"""Environments on another host, as the functions process has them: what it orders, and what it hears (attached.py).

    make  ->  MakeEnvironment              <-  idle, never, ended
    run   ->  RunInvocation                <-  chunks (each is taken before the next), outcome
    kill  ->  kill                         <-  ended

Orders and news stay in order, so a state here is the state there some time ago. When the link ends everything on it is
over: the host ends its environments, whoever waited hears HostGone.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence

from minicloud.base.arn import Scope
from minicloud.base.errors import Unavailable
from minicloud.environment import carried
from minicloud.environment.member import BUSY, ENDED, IDLE, STARTING, HostGone, Owner
from minicloud.environment.outcomes import Failure
from minicloud.function.ports import EnvironmentSpec, Invocation, Outcome, Sink
from minicloud.wire import fleet_pb2 as wire

Send = Callable[[wire.EnvironmentOrder], None]


class FarHost:
    """One link. Fulfils `sites.Makes`. `send` never blocks."""

    def __init__(self, hello: wire.FunctionHostHello, owner: Owner, send: Send) -> None:
        self.name = hello.name
        self.runtimes: Sequence[str] = tuple(hello.runtimes)
        self.owner = owner
        self.over = False
        self._send = send
        self._free_mib = hello.beat.memory_free_mib
        self._numbers = itertools.count(1)
        self._environments: dict[int, FarEnvironment] = {}
        self._runs: dict[int, _Run] = {}

    def free_mib(self) -> int:
        return self._free_mib

    async def make(self, spec: EnvironmentSpec, *, provisioned: bool) -> FarEnvironment:
        """Raises HostGone."""
        if self.over:
            raise self.gone()
        number = next(self._numbers)
        environment = self._environments[number] = FarEnvironment(number, spec, self)
        order = wire.MakeEnvironment(environment=number, made_of=carried.spec_out(spec), provisioned=provisioned)
        self._send(wire.EnvironmentOrder(make=order))
        return environment

    async def run(self, environment: int, invocation: Invocation) -> Outcome:
        """Raises HostGone, and what the host answers."""
        if self.over:
            raise self.gone()
        number = next(self._numbers)
        run = self._runs[number] = _Run(number, invocation.sink, self._send)
        self._send(wire.EnvironmentOrder(run=carried.run_out(number, environment, invocation)))
        try:
            return await run.result
        finally:
            del self._runs[number]
            run.close()

    def kill(self, environment: int) -> None:
        if not self.over:
            self._send(wire.EnvironmentOrder(kill=environment))

    def gone(self) -> HostGone:
        return HostGone(f"The function host {self.name} went away; the invocation may have run.")

    def lost(self) -> None:
        """The link has ended. Idempotent."""
        self.over = True
        for run in list(self._runs.values()):
            run.fail(self.gone())
        environments, self._environments = list(self._environments.values()), {}
        for environment in environments:
            environment.lost()

    # ------------------------------------------------------------ news

    def heard(self, news: wire.EnvironmentNews) -> None:
        kind = news.WhichOneof("news")
        if kind == "outcome":
            self._outcome(news.outcome)
        elif kind == "idle":
            self._environments[news.idle.environment].told_idle(news.idle.init_ms)
        elif kind == "lines":
            said = news.lines
            lines = carried.lines_in(said)
            self.owner.logs.write(Scope(said.account, said.region), said.group, said.stream, lines)
        elif kind == "chunk":
            run = self._runs.get(news.chunk.invocation)
            if run is not None:
                run.chunk(news.chunk)
        elif kind == "never":
            self._never(news.never)
        elif kind == "ended":
            self._environments.pop(news.ended).told_ended()
        elif kind == "beat":
            self._free_mib = news.beat.memory_free_mib

    def _outcome(self, said: wire.InvocationOutcome) -> None:
        run = self._runs.get(said.invocation)
        if run is None:
            return  # its caller went away
        if said.error:
            run.fail(carried.error_in(said.error))
        else:
            run.succeed(carried.outcome_in(said))

    def _never(self, said: wire.EnvironmentNever) -> None:
        if said.error:
            environment = self._environments.pop(said.environment)
            environment.state = ENDED
            self.owner.failed(environment, carried.error_in(said.error))
            self.owner.ended(environment)
        else:
            environment = self._environments[said.environment]
            environment.state = ENDED
            self.owner.never(environment, Failure(said.kind, said.payload))


class FarEnvironment:
    """Fulfils `member.Member`."""

    near = False

    def __init__(self, number: int, spec: EnvironmentSpec, host: FarHost) -> None:
        self.spec = spec
        self.state = STARTING
        self.counted = True
        self.init_ms: float | None = None
        self.idle_since = 0.0
        self._number = number
        self._host = host
        self._born = time.perf_counter()
        self._answered = False

    @property
    def ready(self) -> bool:
        return self.state == IDLE

    @property
    def turning(self) -> bool:
        return self.state == BUSY and self._answered

    @property
    def age_s(self) -> float:
        return time.perf_counter() - self._born

    async def run(self, invocation: Invocation) -> Outcome:
        if self.state != IDLE:
            raise Unavailable("the environment is gone")
        self.state, self._answered = BUSY, False
        try:
            outcome = await self._host.run(self._number, invocation)
        except asyncio.CancelledError:
            self.kill()
            raise
        self._answered = True
        return outcome

    async def stillborn(self, invocation: Invocation, failed: Failure) -> Outcome:
        """The host has it, and its log, for a while."""
        return await self._host.run(self._number, invocation)

    def kill(self, why: Failure | None = None) -> None:
        self._host.kill(self._number)

    def told_idle(self, init_ms: float) -> None:
        if self.state == STARTING:
            self.init_ms = init_ms
        self.state, self.idle_since = IDLE, asyncio.get_running_loop().time()
        self._host.owner.idle(self)

    def told_ended(self) -> None:
        self.state = ENDED
        self._host.owner.ended(self)

    def lost(self) -> None:
        was, self.state = self.state, ENDED
        if was == STARTING:
            self._host.owner.failed(self, self._host.gone())
        self._host.owner.ended(self)


class _Run:
    """One invocation there, and who takes its response while it is made."""

    def __init__(self, number: int, sink: Sink | None, send: Send) -> None:
        self.result: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._number = number
        self._sink = sink
        self._send = send
        self._taking: asyncio.Task[None] | None = None

    def succeed(self, outcome: Outcome) -> None:
        if not self.result.done():
            self.result.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)

    def chunk(self, chunk: wire.InvocationChunk) -> None:
        self._taking = asyncio.ensure_future(self._take(chunk))

    def close(self) -> None:
        if self._taking is not None:
            self._taking.cancel()

    async def _take(self, chunk: wire.InvocationChunk) -> None:
        gone = self._sink is None
        try:
            if self._sink is not None and chunk.content_type:
                await self._sink.open(chunk.content_type)
            elif self._sink is not None:
                await self._sink.write(chunk.data)
        except Exception:  # noqa: BLE001 - whatever it was, nobody reads on
            gone = True
        self._send(wire.EnvironmentOrder(taken=wire.ChunkTaken(invocation=self._number, gone=gone)))
