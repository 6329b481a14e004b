"""An execution environment as its fleet sees it, wherever it is: on this machine (environment.py) or another (far.py).

starting --up--> idle --run--> busy --> idle --> ... --kill, or it dies--> ended
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from minicloud.base.errors import CloudError, Unavailable
from minicloud.environment.outcomes import Failure
from minicloud.function.ports import EnvironmentSpec, Invocation, Logs, Outcome

STARTING, IDLE, BUSY, ENDED = "starting", "idle", "busy", "ended"


class HostGone(Unavailable):
    """The function host went away while the invocation ran; it may have run to its end."""


class Member(Protocol):
    """`near`: on the machine of the functions process. `counted`: its memory is, by the host."""

    near: bool
    state: str
    counted: bool
    idle_since: float
    init_ms: float | None

    @property
    def spec(self) -> EnvironmentSpec: ...

    @property
    def ready(self) -> bool:
        """It waits for an event."""
        ...

    @property
    def turning(self) -> bool:
        """It has answered, and will ask for the next event any moment."""
        ...

    @property
    def age_s(self) -> float: ...

    async def run(self, invocation: Invocation) -> Outcome:
        """Raises HostGone; Unavailable where it died before it had the event."""
        ...

    async def stillborn(self, invocation: Invocation, failed: Failure) -> Outcome:
        """What an invocation gets that waited for this one, which never came up. Raises HostGone."""
        ...

    def kill(self, why: Failure | None = None) -> None:
        """Does not wait; the owner hears `ended`. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Owner:
    """Who is told: it waits for an invocation; it never came up (and why); it is gone. `logs`: where its lines go.

    `doors_at`: the host's address at which the cloud's doors are. `failed`: it could not be made on its host after all,
    or its host went away (HostGone) before it was up.
    """

    idle: Callable[[Any], None]
    never: Callable[[Any, Failure], None]
    ended: Callable[[Any], None]
    logs: Logs
    doors_at: str = "127.0.0.1"
    failed: Callable[[Any, CloudError], None] = lambda _environment, _error: None
