"""Made from `minicloud/client/instances.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from minicloud.client.instances import AsyncInstances, LaunchOptions, ModifyOptions
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread
from minicloud.client.sync.guest import Guests

if TYPE_CHECKING:
    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")


class Instances(Guests):
    """Virtual servers."""

    _inner: AsyncInstances

    def __init__(self, inner: AsyncInstances, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def launch(
        self,
        type: str = "",
        image: str = "",
        *,
        wait: bool = False,
        wait_timeout: float = 300.0,
        **options: Unpack[LaunchOptions],
    ) -> tuple[models.Instance, ...]:
        """Launch instances of a type. image: an id or a name (default "base", or the template's).

        wait: return when all run and their user data has ended (look at `user_data_status`). Safe to repeat: every
        launch carries a client token. Raises InvalidRequest, NotFound, LimitExceeded, InsufficientCapacity;
        with `wait` also IncorrectState (ended instead) and DeadlineExceeded.
        """
        return self._loop.run(self._inner.launch(type, image, wait=wait, wait_timeout=wait_timeout, **options))

    def get(self, instance_id: str) -> models.Instance:
        """Raises NotFound, MalformedId."""
        return self._loop.run(self._inner.get(instance_id))

    def list(
        self,
        instance_ids: Sequence[str] = (),
        *,
        filters: Mapping[str, str | Sequence[str]] | None = None,
        page_size: int = 100,
    ) -> Iterator[models.Instance]:
        """All instances, or those named (each must exist); pages are fetched as they are needed.

        filters: EC2's names (`instance-state-name`, `tag:Name`, ...), one value or several, `*` and `?` are wildcards.
        """
        return self._loop.iterate(self._inner.list(instance_ids, filters=filters, page_size=page_size))

    def watch(self, instance_ids: Sequence[str]) -> Iterator[models.Instance]:
        """The present state of each, then every change, until the caller stops. Outlives a restart of the cloud."""
        return self._loop.iterate(self._inner.watch(instance_ids))

    def wait_until(
        self,
        instance_ids: str | Sequence[str],
        state: str,
        timeout: float = 300.0,
        on_change: Callable[[models.Instance], None] | None = None,
    ) -> tuple[models.Instance, ...]:
        """Wait until all are in a state. on_change hears of every change on the way.

        Raises IncorrectState where the state cannot come any more, DeadlineExceeded.
        """
        return self._loop.run(self._inner.wait_until(instance_ids, state, timeout, on_change))

    def wait_ready(
        self,
        instance_ids: str | Sequence[str],
        timeout: float = 300.0,
        on_change: Callable[[models.Instance], None] | None = None,
    ) -> tuple[models.Instance, ...]:
        """Wait until all run and their user data has ended, well or not (`user_data_status`)."""
        return self._loop.run(self._inner.wait_ready(instance_ids, timeout, on_change))

    def start(self, *instance_ids: str) -> tuple[models.StateChange, ...]:
        """Start stopped instances. Raises NotFound, IncorrectState, InsufficientCapacity."""
        return self._loop.run(self._inner.start(*instance_ids))

    def stop(self, *instance_ids: str, force: bool = False) -> tuple[models.StateChange, ...]:
        """Stop instances; their disks stay. force: no grace, the guest is killed."""
        return self._loop.run(self._inner.stop(*instance_ids, force=force))

    def reboot(self, *instance_ids: str) -> tuple[models.StateChange, ...]:
        """Restart the guests in place. Not retried: each call is a reboot."""
        return self._loop.run(self._inner.reboot(*instance_ids))

    def terminate(self, *instance_ids: str) -> tuple[models.StateChange, ...]:
        """End instances and delete their disks. Idempotent. Raises NotFound, OperationNotPermitted (protected)."""
        return self._loop.run(self._inner.terminate(*instance_ids))

    def modify(self, instance_id: str, **options: Unpack[ModifyOptions]) -> models.Instance:
        """Change attributes. Raises NotFound, IncorrectState (type or user data while not stopped), InvalidRequest."""
        return self._loop.run(self._inner.modify(instance_id, **options))

    def console(self, instance_id: str) -> models.ConsoleOutput:
        """The last 64 KiB of the console log."""
        return self._loop.run(self._inner.console(instance_id))
