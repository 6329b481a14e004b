"""Environments of one host at the end of a link: the functions process orders (far.py), this machine makes and runs.

What they write goes to the functions process, which knows the way to the cloud's logs; where it does not leave as fast,
lines are dropped and counted. One that never came up is kept for a moment, because whoever waited for it gets its log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, Internal, Unavailable
from minicloud.environment import carried
from minicloud.environment.environment import Environment
from minicloud.environment.maker import HostParts, Maker
from minicloud.environment.member import Owner
from minicloud.environment.outbox import Outbox
from minicloud.environment.outcomes import Failure
from minicloud.function.ports import EnvironmentSpec, Invocation, Outcome
from minicloud.wire import fleet_pb2 as wire

log = logging.getLogger("minicloud.environment")

LINES_BYTES_MAX = 32 * 1024 * 1024  # ours: what may wait on a link before lines are dropped
NEVER_KEPT_MAX = 100  # ours: environments that never came up


class Attached:
    """Fulfils `ports.Logs` for its environments. One link after the other: `begin`, `carry_out` ..., `end`."""

    def __init__(self, parts: Callable[[Attached], HostParts]) -> None:
        """`parts(self)`: with this as their logs."""
        self.dropped = 0
        made = parts(self)
        owner = Owner(self._idle, self._never, self._ended, self, made.doors_at)
        self.maker = Maker(made, owner, self._specs)
        self._outbox: Outbox[wire.EnvironmentNews] = Outbox()
        self._numbers: dict[Environment, int] = {}
        self._environments: dict[int, Environment] = {}
        self._nevers: OrderedDict[int, tuple[Environment, Failure]] = OrderedDict()
        self._doomed: set[int] = set()  # killed before they were made
        self._making: set[int] = set()
        self._sinks: dict[int, _Sink] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._makes: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()

    def begin(self, outbox: Outbox[wire.EnvironmentNews]) -> None:
        self._outbox = outbox

    async def end(self) -> None:
        """Returns when no environment is left. What is being made is made first, or half of one would be left."""
        self._outbox.close()
        for task in self._runs:
            task.cancel()
        await asyncio.gather(*self._runs, *self._makes, return_exceptions=True)
        for environment in list(self._numbers):
            environment.kill()
        while self._numbers:
            self._empty.clear()
            await self._empty.wait()
        if self.dropped:
            log.warning("%d lines of functions were dropped: the line was too slow for them", self.dropped)
            self.dropped = 0
        for known in (self._nevers, self._doomed, self._making, self._sinks):
            known.clear()

    def carry_out(self, order: wire.EnvironmentOrder) -> None:
        kind = order.WhichOneof("order")
        if kind == "run":
            _spawn(self._run(order.run), self._runs)
        elif kind == "make":
            self._making.add(order.make.environment)
            _spawn(self._make(order.make), self._makes)
        elif kind == "kill":
            self._kill(order.kill)
        elif kind == "taken":
            sink = self._sinks.get(order.taken.invocation)
            if sink is not None:
                sink.taken(order.taken.gone)

    # ------------------------------------------------------------ orders

    async def _make(self, order: wire.MakeEnvironment) -> None:
        number = order.environment
        try:
            made = await self.maker.make(carried.spec_in(order.made_of), provisioned=order.provisioned)
        except (CloudError, OSError) as error:
            self._never_made(number, error)
            return
        except Exception as error:
            log.exception("an environment of %s", order.made_of.arn)
            self._never_made(number, error)
            return
        finally:
            self._making.discard(number)
        self._numbers[made], self._environments[number] = number, made
        if number in self._doomed:
            self._doomed.discard(number)
            made.kill()

    def _never_made(self, number: int, error: Exception) -> None:
        if not isinstance(error, CloudError):
            log.error("no environment: %s", error)
            error = Unavailable(f"no environment: {error}")
        self._doomed.discard(number)
        self._say(never=wire.EnvironmentNever(environment=number, error=carried.error_out(error)))

    async def _run(self, order: wire.RunInvocation) -> None:
        number = order.invocation
        sink = _Sink(number, self._say) if order.streamed else None
        if sink is not None:
            self._sinks[number] = sink
        invocation = Invocation(
            order.request_id, order.payload, order.arn, order.client_context, order.trace_id, order.tail, sink
        )
        try:
            outcome = await self._outcome(order.environment, invocation)
        except CloudError as error:
            self._failed(number, error)
        except Exception:  # whoever waits for it at the other end has no other word
            log.exception("an invocation in an environment of %s", order.arn)
            self._failed(number, Internal("internal error"))
        else:
            self._say(outcome=carried.outcome_out(number, outcome))
        finally:
            self._sinks.pop(number, None)

    def _failed(self, number: int, error: CloudError) -> None:
        self._say(outcome=wire.InvocationOutcome(invocation=number, error=carried.error_out(error)))

    async def _outcome(self, number: int, invocation: Invocation) -> Outcome:
        never = self._nevers.pop(number, None)
        if never is not None:
            return await never[0].stillborn(invocation, never[1])
        environment = self._environments.get(number)
        if environment is None:
            raise Unavailable("the environment is gone")
        try:
            return await environment.run(invocation)
        except (Exception, asyncio.CancelledError):
            environment.kill()  # there it is at work, and nothing else would make it free again
            raise

    def _kill(self, number: int) -> None:
        environment = self._environments.get(number)
        if environment is not None:
            environment.kill()
        elif number in self._making:
            self._doomed.add(number)

    # ------------------------------------------------------------ what environments tell

    def _idle(self, environment: Environment) -> None:
        init_ms = environment.init_ms or 0.0
        self._say(idle=wire.EnvironmentIdle(environment=self._numbers[environment], init_ms=init_ms))

    def _never(self, environment: Environment, failed: Failure) -> None:
        number, told = self._numbers[environment], self.maker.told(environment.spec, failed)
        self._nevers[number] = (environment, told)
        while len(self._nevers) > NEVER_KEPT_MAX:
            self._nevers.popitem(last=False)
        self._say(never=wire.EnvironmentNever(environment=number, kind=told.kind, payload=told.payload))

    def _ended(self, environment: Environment) -> None:
        number = self._numbers.pop(environment)
        del self._environments[number]
        self._say(ended=number)
        self._empty.set()

    def write(self, scope: Scope, group: str, stream: str, events: Sequence[tuple[float, str]]) -> None:
        if self._outbox.waiting_bytes > LINES_BYTES_MAX:
            self.dropped += len(events)
        else:
            self._say(lines=carried.lines_out(scope, group, stream, events))

    def _say(self, **news: Any) -> None:
        self._outbox.put(wire.EnvironmentNews(**news))

    def _specs(self) -> Iterator[EnvironmentSpec]:
        return (one.spec for one in self._numbers)


class _Sink:
    """Fulfils `ports.Sink`: a chunk is on its way until whoever reads it there has taken it."""

    def __init__(self, number: int, say: Callable[..., None]) -> None:
        self._number = number
        self._say = say
        self._on_its_way: asyncio.Future[None] | None = None

    async def open(self, content_type: str) -> None:
        await self._pass(wire.InvocationChunk(invocation=self._number, content_type=content_type))

    async def write(self, chunk: bytes) -> None:
        await self._pass(wire.InvocationChunk(invocation=self._number, data=chunk))

    def taken(self, gone: bool) -> None:
        if self._on_its_way is not None and not self._on_its_way.done():
            if gone:
                self._on_its_way.set_exception(Unavailable("nobody reads the response any more"))
            else:
                self._on_its_way.set_result(None)

    async def _pass(self, chunk: wire.InvocationChunk) -> None:
        self._on_its_way = asyncio.get_running_loop().create_future()
        self._say(chunk=chunk)
        await self._on_its_way


def _spawn(work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
    task = asyncio.ensure_future(work)
    among.add(task)
    task.add_done_callback(among.discard)
