"""The one loop of the guest's init: file descriptors through epoll, timers, and signals as bytes on a socket pair.

No threads (init forks) and no asyncio (it costs 60 ms to import). A callback that raises costs only itself: the error
goes to the console, and the loop goes on. What was closed while a batch of events is handled gets none of that batch,
even if its number is taken again at once.
"""

from __future__ import annotations

import _heapq
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLRDHUP | select.EPOLLERR
_started = time.monotonic()


def restart_clock() -> None:
    """The console counts from now."""
    global _started
    _started = time.monotonic()


def log(text: str) -> None:
    """One line on the console. Never fails: a full disk must not end a guest."""
    try:
        os.write(1, f"[{time.monotonic() - _started:9.3f}] minicloud: {text}\n".encode("utf-8", "replace"))
    except OSError:
        return


def log_error(where: str, error: BaseException) -> None:
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    log(f"{where}: {type(error).__name__}: {error} [{' < '.join(reversed(frames))}]")


class Timer:
    """A callback that was asked for and may be taken back."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class _Watch:
    __slots__ = ("callback", "live", "mask")

    def __init__(self, mask: int, callback: Callable[[int], None]) -> None:
        self.mask = mask
        self.callback = callback
        self.live = True


class Loop:
    """Call `watch` and `after`, then `run` until `stop`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watches: dict[int, _Watch] = {}
        self._timers: list[Timer] = []
        self._running = True
        self.exit_code = 0

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` when one of `mask` holds. Watching again changes the mask. Raises OSError."""
        known = self._watches.get(fd)
        if known is None:
            self._epoll.register(fd, mask)
            self._watches[fd] = _Watch(mask, callback)
        elif known.mask != mask:
            self._epoll.modify(fd, mask)
            known.mask = mask

    def forget(self, fd: int) -> None:
        """Idempotent. Before closing: a forked child may hold the same open file, and epoll watches files."""
        known = self._watches.pop(fd, None)
        if known is None:
            return
        known.live = False
        try:
            self._epoll.unregister(fd)
        except OSError as error:
            log_error("forget", error)

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(time.monotonic() + seconds, callback)
        _heapq.heappush(self._timers, timer)
        return timer

    def stop(self, exit_code: int) -> None:
        self._running = False
        self.exit_code = exit_code

    def run(self) -> int:
        """Until `stop`; its exit code."""
        while self._running:
            timeout = self._run_timers()
            if not self._running:
                break
            try:
                events = self._epoll.poll(timeout)
            except OSError as error:  # nothing known leads here; a loop that spins would be worse than one that pauses
                log_error("poll", error)
                time.sleep(0.1)
                continue
            batch = [(self._watches.get(fd), mask) for fd, mask in events]
            for watch, mask in batch:
                if watch is not None and watch.live:
                    self._guard(watch.callback, mask)
        return self.exit_code

    def _run_timers(self) -> float | None:
        """Run what is due; seconds until the next, None: there is none."""
        while self._timers:
            timer = self._timers[0]
            left = timer.when - time.monotonic()
            if timer.callback is not None and left > 0:
                return left
            _heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                self._guard(callback)
        return None

    def _guard(self, callback: Callable[..., None], *arguments: int) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            log_error("callback", error)


def close_all(fds: list[int]) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError as error:
            log_error("close", error)
