"""Who follows a log: what was put and waits for him, so much of it and no more. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from minicloud.logs import limits
from minicloud.logs.model import Event, Stream
from minicloud.logs.reading import Place


class Shown(NamedTuple):
    """An event, the name of its stream, and where it stands."""

    stream: str
    place: Place
    event: Event


@dataclass(slots=True, eq=False)
class Follower:
    """Of streams of a group: by name, by prefix, or all. `wake` is called when something waits."""

    group: str
    names: Collection[str]
    prefix: str
    matches: Callable[[str], bool]
    wake: Callable[[], None]
    waiting: deque[Shown] = field(default_factory=deque)
    chars: int = 0
    left_out: int = 0

    def offer(self, stream: Stream, events: Sequence[Event]) -> None:
        if stream.group != self.group or not (self._wants(stream.name)):
            return
        for event in events:
            if self.matches(event.message):
                self.waiting.append(Shown(stream.name, Place(event.time_ms, stream.number, event.number), event))
                self.chars += len(event.message)
        while len(self.waiting) > limits.TAIL_WAITING_MAX or self.chars > limits.TAIL_CHARS_MAX:
            self.chars -= len(self.waiting.popleft().event.message)
            self.left_out += 1
        self.wake()

    def taken(self) -> tuple[list[Shown], int]:
        """What waits, and how many were left out; nothing waits then."""
        shown, left_out = list(self.waiting), self.left_out
        self.waiting.clear()
        self.chars = self.left_out = 0
        return shown, left_out

    def _wants(self, name: str) -> bool:
        return name in self.names if self.names else name.startswith(self.prefix)
