"""Answers that are asked for again while nothing that they show has changed, as waiters, consoles and people do.

How an answer is written stays with it (xml.Whole), so asked again it costs no more than its bytes. What is kept is
bounded for each account, so that nobody's questions push out another's, and for all together: the answers that were
asked for last stay. One that is still to be written weighs nothing, so an account has one of these at most: whoever
asked for it may have gone away, or made a dry run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from minicloud.aws.xml import Whole


class Room(NamedTuple):
    """What may be kept: so many answers, of so many bytes with their questions."""

    answers: int
    bytes: int


# Ours. A hundred instances take some 330 KiB.
OF_AN_ACCOUNT = Room(8, 8 * 1024 * 1024)
OF_ALL = Room(256, 64 * 1024 * 1024)
QUESTION_CHARS_MAX = 4_096
_NOTHING = Whole({})


class _Key(NamedTuple):
    account: str
    question: str


class Answers:
    def __init__(self, of_an_account: Room = OF_AN_ACCOUNT, of_all: Room = OF_ALL) -> None:
        self._of_an_account, self._of_all = of_an_account, of_all
        self._kept: dict[_Key, tuple[int, Whole]] = {}  # what was asked for last is at the end

    def of(self, account: str, question: str, version: int, make: Callable[[], Mapping[str, Any]]) -> Whole:
        """What `make` gave when this was asked for at this version, or gives now."""
        key = _Key(account, question)
        known, answer = self._kept.pop(key, (-1, _NOTHING))
        fresh = known != version
        if fresh:
            answer = Whole(make())
        if len(question) <= QUESTION_CHARS_MAX and self._weight(key, answer) <= self._of_an_account.bytes:
            self._kept[key] = (version, answer)
            if fresh:
                self._trim(account)
        return answer.let_go()

    def _trim(self, account: str) -> None:
        """After another is kept, which is at the end."""
        mine = [key for key in self._kept if key.account == account]
        for key in mine[:-1]:
            if not self._kept[key][1].data:
                del self._kept[key]
        self._within(self._of_an_account, [key for key in mine if key in self._kept])
        self._within(self._of_all, list(self._kept))

    def _within(self, room: Room, keys: list[_Key]) -> None:
        """Without those that were asked for longest ago and do not fit."""
        left = room.bytes
        for place, key in enumerate(reversed(keys)):
            left -= self._weight(key, self._kept[key][1])
            if place >= room.answers or left < 0:
                del self._kept[key]

    @staticmethod
    def _weight(key: _Key, answer: Whole) -> int:
        return sys.getsizeof(key.question) + sys.getsizeof(answer.data)

    def weight(self, account: str = "") -> int:
        """Bytes kept, of this account or of all."""
        items = self._kept.items()
        return sum(self._weight(key, one) for key, (_, one) in items if account in ("", key.account))
