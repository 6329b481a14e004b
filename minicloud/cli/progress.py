"""Progress of long work, on stderr: one line that changes on a terminal, one line per step elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status


class Progress:
    """`with Progress("launching") as progress: progress.step("i-1 pending")`."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._status: Status | None = None
        self._started = time.monotonic()

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True, highlight=False).status(self._title)
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def step(self, text: str) -> None:
        """A step that is done and worth keeping."""
        line = f"[{time.monotonic() - self._started:5.1f} s] {text}"
        if self._status is not None:
            from rich.text import Text

            self._status.console.print(Text(line))
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def now(self, text: str) -> None:
        """What is being waited for; on a terminal only."""
        if self._status is not None:
            from rich.markup import escape

            self._status.update(escape(text))
