"""Made from `minicloud/client/forward.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from minicloud.client.forward import AsyncForward
from minicloud.client.loop import LoopThread


class Forward:
    """An open port forward. Close it, or use it in a `with` block."""

    _inner: AsyncForward

    def __init__(self, inner: AsyncForward, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def __enter__(self) -> Forward:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def local_port(self) -> int:
        """The port that listens on 127.0.0.1."""
        return self._inner.local_port

    @property
    def connections(self) -> int:
        """How many are open now."""
        return self._inner.connections

    def close(self) -> None:
        """Stop listening and end all connections. Idempotent."""
        self._loop.run(self._inner.close())
