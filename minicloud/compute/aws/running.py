"""Commands sent to instances, carried out: one task for each instance, through its host agent, like `instance exec`.

What ran when the control plane ended is marked failed at the next start: whether it finished is not known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from minicloud.base.errors import CloudError, Unavailable
from minicloud.compute.service import ComputeService
from minicloud.compute.ssm import RUNNING, Invocation, Report, Send, SentCommand, Ssm

log = logging.getLogger(__name__)

_LOST = "The control plane ended while this command ran; whether it finished is not known."
AGAIN_S = 5.0  # ours: between two tries to record how a command ended
TIMED_OUT = 137  # what a shell says of a killed command


@dataclass(frozen=True, slots=True)
class Run:
    """What is to run in which guest."""

    address: str
    instance_id: str
    account: str
    script: str
    cwd: str


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


class Runner:
    """`run` raises CloudError; it is cancelled where the time is up. `submit` is the shell's, for ssm's machine."""

    def __init__(
        self,
        service: ComputeService,
        ssm: Ssm,
        submit: Callable[[Any], Awaitable[Any]],
        run: Callable[[Run], Awaitable[Ended]],
        wall: Callable[[], float],
        again_s: float = AGAIN_S,
    ) -> None:
        self._service = service
        self._ssm = ssm
        self._submit = submit
        self._run = run
        self.wall = wall
        self._again_s = again_s
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        lost = [one for one in ssm.invocations.values() if one.status in RUNNING]
        self._recovering = asyncio.ensure_future(self._recover(lost)) if lost else None

    async def _recover(self, lost: Iterable[Invocation]) -> None:
        for one in lost:
            await self._report(replace(one, status="Failed", err=_LOST, finished=self.wall()))

    async def send(self, send: Send) -> None:
        """Durable first, then it runs."""
        await self._submit(send)
        command = send.command
        gate = asyncio.Semaphore(_at_once(command))
        for instance_id in command.instances:
            key = (command.id, instance_id)
            task = asyncio.create_task(self._carry_out(command, instance_id, gate))
            self._tasks[key] = task
            task.add_done_callback(lambda _, key=key: self._tasks.pop(key, None))  # type: ignore[misc]

    async def _carry_out(self, command: SentCommand, instance_id: str, gate: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(max(command.requested + command.deliver_s - self.wall(), 0.0)):
                await asyncio.sleep(0)  # without a wait there would be no time to be up
                await gate.acquire()
        except TimeoutError:
            await self._report(Invocation(command.id, instance_id, "TimedOut", finished=self.wall()))
            return
        try:
            await self._run_one(command, instance_id)
        finally:
            gate.release()

    async def _run_one(self, command: SentCommand, instance_id: str) -> None:
        one = Invocation(command.id, instance_id, "InProgress", started=self.wall())
        await self._report(one)
        try:
            async with asyncio.timeout(command.timeout_s):
                ended = await self._run(self._what(command, instance_id))
        except TimeoutError:
            after = replace(one, status="TimedOut", code=TIMED_OUT)
        except CloudError as error:
            after = replace(one, status="Failed", code=1, err=str(error))
        except Exception as error:
            log.exception("command %s on %s", command.id, instance_id)
            after = replace(one, status="Failed", code=1, err=f"internal error: {type(error).__name__}")
        else:
            status = "Success" if ended.code == 0 else "Failed"
            after = replace(one, status=status, code=ended.code, out=ended.out, err=ended.err)
        await self._report(replace(after, finished=self.wall()))

    def _what(self, command: SentCommand, instance_id: str) -> Run:
        instance = self._service.state.instances.get(instance_id)
        host = self._service.state.hosts.get(instance.host_id) if instance else None
        if instance is None or host is None or host.state != "up":
            raise Unavailable(f"the host of '{instance_id}' is down")
        return Run(host.agent_address, instance_id, command.account, command.script, command.cwd)

    async def cancel(self, command: SentCommand, instance_ids: Iterable[str]) -> None:
        for instance_id in instance_ids:
            task = self._tasks.get((command.id, instance_id))
            if task is None:
                continue
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            before = self._ssm.invocation(command, instance_id)
            if before.status in RUNNING:
                await self._report(replace(before, status="Cancelled", finished=self.wall()))

    async def _report(self, invocation: Invocation) -> None:
        """An end is tried again until it is recorded (a disk that is full has room again): somebody waits for it."""
        while True:
            try:
                await self._submit(Report(invocation))
                return
            except CloudError as error:
                log.warning("what became of command %s is not recorded: %s", invocation.command, error)
            if invocation.status in RUNNING:
                return
            await asyncio.sleep(self._again_s)


def _at_once(command: SentCommand) -> int:
    """MaxConcurrency: a number, or a share of the targets in percent."""
    text = command.concurrency
    if text.endswith("%"):
        return max(len(command.instances) * int(text[:-1]) // 100, 1)
    return max(int(text), 1)
