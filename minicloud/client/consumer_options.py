"""How a consumer goes about its work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from minicloud.base.errors import InvalidParameterValue
from minicloud.client.convert import check_names

WAIT_S_MAX = 20  # queue.limits.WAIT_S_MAX
_VISIBILITY_S_MAX = 43_200  # queue.limits.VISIBILITY_S_MAX


class ConsumerOptions(TypedDict, total=False):
    """Keyword arguments of `consumer`.

    prefetch: the most messages in the buffer (256). visibility_s: how long a message stays invisible if this program
    dies (30); a heartbeat extends it meanwhile. wait_s: of one long poll, 1 to 20 (20). backoff_s: pause before a
    failed message comes again, first and longest ((1, 300)). grace_s: how long `close` waits for handlers (30).
    """

    prefetch: int
    visibility_s: int
    wait_s: int
    backoff_s: tuple[float, float]
    grace_s: float


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    prefetch: int = 256
    visibility_s: int = 30
    wait_s: int = 20
    backoff_s: tuple[float, float] = (1.0, 300.0)
    grace_s: float = 30.0


def checked(options: ConsumerOptions) -> ConsumerSettings:
    """Raises InvalidParameterValue, TypeError."""
    check_names(options, ConsumerOptions)
    settings = ConsumerSettings(**options)
    bounds = {"visibility_s": (1, _VISIBILITY_S_MAX), "wait_s": (1, WAIT_S_MAX), "grace_s": (0, 86_400)}
    for name, (low, high) in bounds.items():
        if not low <= getattr(settings, name) <= high:
            raise InvalidParameterValue(f"{low} to {high} seconds, not {getattr(settings, name)}", field=name)
    first, longest = settings.backoff_s
    if not 0 <= first <= longest <= _VISIBILITY_S_MAX:
        raise InvalidParameterValue("first and longest pause, 0 to 43200 seconds", field="backoff_s")
    return settings
