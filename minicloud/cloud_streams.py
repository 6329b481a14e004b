"""Streams between processes of a cloud, opened again whenever they end; and what is asked on one.

A stream that breaks says nothing about what it told of: who hears from it keeps what was said last, and asks for
everything when a new one begins. What its hearer stumbles over keeps nothing else from being heard: the stream goes on,
and is opened anew a while later, so that it is told once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Generic, TypeVar

import grpc.aio

from minicloud.base.errors import CloudError
from minicloud.shell.background import Background

log = logging.getLogger("minicloud.streams")
T = TypeVar("T")
Q = TypeVar("Q")

PAUSE_S = (0.1, 1.0)  # between two streams, doubling
AGAIN_S = 30.0  # ours: after something was stumbled over
ASKED_AT_ONCE_MAX = 1_000


class Line(Generic[Q]):
    """What is asked on one stream. A new stream has a new one: what is left of an old one takes nothing from it.

    `question(names, number)`: names to ask for, and the number of the last question that is in this one or before it
    (0: more of it follows).
    """

    def __init__(self, question: Callable[[list[str], int], Q], first: Iterable[str], number: int = 0) -> None:
        self._question = question
        self._names = dict.fromkeys(first)
        self._number = number
        self._wake = asyncio.Event()

    def ask(self, name: str, number: int = 0) -> None:
        self._names[name] = None
        self._number = number
        self._wake.set()

    async def requests(self) -> AsyncIterator[Q]:
        while True:
            names, number, self._names = list(self._names), self._number, {}
            while names:
                part, names = names[:ASKED_AT_ONCE_MAX], names[ASKED_AT_ONCE_MAX:]
                yield self._question(part, 0 if names else number)
            if not self._names:
                self._wake.clear()
                await self._wake.wait()


class Stream(Background, Generic[T]):
    """`opened()` is a new stream; `heard` is told what comes on it, in order."""

    def __init__(
        self, what: str, opened: Callable[[], AsyncIterator[T]], heard: Callable[[T], Awaitable[None]]
    ) -> None:
        self._what = what
        self._opened = opened
        self._heard = heard

    async def _run(self) -> None:
        pause_s = PAUSE_S[0]
        while True:
            try:
                async with asyncio.timeout(None) as limit:
                    async for one in self._opened():
                        pause_s = PAUSE_S[0]
                        if not await self._took(one) and limit.when() is None:
                            limit.reschedule(asyncio.get_running_loop().time() + AGAIN_S)
            except TimeoutError:
                log.info("the stream of %s is opened again, for what was stumbled over", self._what)
            except grpc.aio.AioRpcError as error:
                log.info("the stream of %s is down: %s", self._what, error.code().name)
            except CloudError as error:
                log.warning("something of the stream of %s was not recorded: %s", self._what, error)
            except Exception:
                log.exception("the stream of %s is opened again", self._what)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_S[1])

    async def _took(self, one: T) -> bool:
        """Raises CloudError: it could not be recorded now, nor could what follows."""
        try:
            await self._heard(one)
        except (CloudError, TimeoutError):
            raise
        except Exception:
            log.exception("something of the stream of %s was not understood", self._what)
            return False
        return True
