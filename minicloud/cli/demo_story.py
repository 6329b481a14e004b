"""What `minicloud demo` tells while it happens, and the table at its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from minicloud.cli.output import write_line


@dataclass(slots=True)
class Story:
    """What is told while it happens, and the table at the end."""

    began: float = field(default_factory=time.monotonic)
    rows: list[tuple[str, str]] = field(default_factory=list)

    def say(self, text: str) -> None:
        write_line(f"[{time.monotonic() - self.began:6.1f} s] {text}")

    def done(self, step: str, result: str) -> None:
        self.rows.append((step, result))
        self.say(f"{step}: {result}")
