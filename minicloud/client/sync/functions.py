"""Made from `minicloud/client/functions.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from minicloud.client.functions import AsyncFunctions, FunctionOptions
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread

if TYPE_CHECKING:
    from minicloud.client import function_models
else:
    function_models = lazy("minicloud.client.function_models")


class Functions:
    """Functions of the caller's account and region."""

    _inner: AsyncFunctions

    def __init__(self, inner: AsyncFunctions, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def create(
        self,
        name: str,
        package: bytes,
        *,
        publish: bool = False,
        tags: Mapping[str, str] | None = None,
        **options: Unpack[FunctionOptions],
    ) -> function_models.Function:
        """Make a function from a zip of up to 50 MiB. Raises AlreadyExists, InvalidRequest, MessageTooLarge."""
        return self._loop.run(self._inner.create(name, package, publish=publish, tags=tags, **options))

    def update_code(
        self, function: str, package: bytes, *, publish: bool = False, dry_run: bool = False, revision_id: str = ""
    ) -> function_models.Function:
        """Another package for $LATEST; with publish, as a new version too. Raises NotFound, Conflict, ..."""
        return self._loop.run(
            self._inner.update_code(function, package, publish=publish, dry_run=dry_run, revision_id=revision_id)
        )

    def update(
        self, function: str, *, revision_id: str = "", **options: Unpack[FunctionOptions]
    ) -> function_models.Function:
        """Change the configuration of $LATEST. Raises NotFound, Conflict (revision_id), InvalidRequest."""
        return self._loop.run(self._inner.update(function, revision_id=revision_id, **options))

    def get(self, function: str) -> function_models.Function:
        """With a qualifier: that version, or the one of that alias. Raises NotFound."""
        return self._loop.run(self._inner.get(function))

    def list(self, *, page_size: int = 100) -> Iterator[function_models.Function]:
        """All functions as $LATEST is. Pages are fetched as they are needed."""
        return self._loop.iterate(self._inner.list(page_size=page_size))

    def delete(self, function: str) -> None:
        """A function with all that hangs on it; with a qualifier, that version. Raises NotFound, Conflict."""
        self._loop.run(self._inner.delete(function))

    def code(self, function: str) -> bytes:
        """The package of a version: a zip. Raises NotFound."""
        return self._loop.run(self._inner.code(function))

    def publish(
        self, function: str, *, description: str | None = None, code_sha256: str = "", revision_id: str = ""
    ) -> function_models.Function:
        """$LATEST as a numbered version, which never changes; the newest one where nothing has changed since."""
        return self._loop.run(
            self._inner.publish(function, description=description, code_sha256=code_sha256, revision_id=revision_id)
        )

    def versions(self, function: str, *, page_size: int = 100) -> Iterator[function_models.Function]:
        """$LATEST first, then by number."""
        return self._loop.iterate(self._inner.versions(function, page_size=page_size))

    def create_alias(
        self,
        function: str,
        name: str,
        version: str,
        *,
        description: str = "",
        weights: Mapping[str, float] | None = None,
    ) -> function_models.FunctionAlias:
        """A name for a version. weights: of another version, the share of invocations that it gets."""
        return self._loop.run(
            self._inner.create_alias(function, name, version, description=description, weights=weights)
        )

    def update_alias(
        self,
        function: str,
        name: str,
        *,
        version: str | None = None,
        description: str | None = None,
        weights: Mapping[str, float] | None = None,
        revision_id: str = "",
    ) -> function_models.FunctionAlias:
        """What is None stays. Raises NotFound, Conflict (revision_id), InvalidRequest."""
        return self._loop.run(
            self._inner.update_alias(
                function, name, version=version, description=description, weights=weights, revision_id=revision_id
            )
        )

    def aliases(self, function: str) -> tuple[function_models.FunctionAlias, ...]:
        """By name."""
        return self._loop.run(self._inner.aliases(function))

    def delete_alias(self, function: str, name: str) -> None:
        """One that is not there is not an error."""
        self._loop.run(self._inner.delete_alias(function, name))

    def invoke(
        self,
        function: str,
        payload: object = None,
        *,
        tail: bool = False,
        client_context: Mapping[str, object] | None = None,
        wait_s: float = 900.0,
        dry_run: bool = False,
    ) -> function_models.Invoked:
        """Run it and wait up to wait_s for its answer; look at `function_error` of what comes back.

        payload: bytes as they are, anything else as JSON. It is not called again when its answer was lost; throttled
        calls are, for as long as the client retries. What is beyond Lambda's limits (payloads of 6 MiB, client contexts
        of 3,583 bytes in base64) is not sent. Raises NotFound, InvalidRequest, Throttled, Unavailable.
        """
        return self._loop.run(
            self._inner.invoke(
                function, payload, tail=tail, client_context=client_context, wait_s=wait_s, dry_run=dry_run
            )
        )

    def invoke_async(
        self, function: str, payload: object = None, *, client_context: Mapping[str, object] | None = None
    ) -> str:
        """Have it run later: the event (at most 1 MiB) is on disk when its request id is returned.

        It is retried and its result delivered as `triggers.set_event_invoke` says. Raises as `invoke` does.
        """
        return self._loop.run(self._inner.invoke_async(function, payload, client_context=client_context))

    def invoke_stream(
        self, function: str, payload: object = None, *, client_context: Mapping[str, object] | None = None
    ) -> Iterator[bytes]:
        """What the function answers, while it runs. Raises what `invoke` raises, and FunctionFailed at the end."""
        return self._loop.iterate(self._inner.invoke_stream(function, payload, client_context=client_context))

    def publish_layer(
        self,
        name: str,
        package: bytes,
        *,
        description: str = "",
        license: str = "",
        runtimes: Sequence[str] = (),
        architectures: Sequence[str] = (),
    ) -> function_models.LayerVersion:
        """A zip that is unpacked into /opt of the functions that name this version of the layer."""
        return self._loop.run(
            self._inner.publish_layer(
                name, package, description=description, license=license, runtimes=runtimes, architectures=architectures
            )
        )

    def layers(self) -> tuple[function_models.LayerVersion, ...]:
        """The newest version of each."""
        return self._loop.run(self._inner.layers())

    def layer_versions(self, name: str) -> tuple[function_models.LayerVersion, ...]:
        """The newest first."""
        return self._loop.run(self._inner.layer_versions(name))

    def delete_layer(self, name: str, number: int) -> None:
        """Raises Conflict where a function uses it."""
        self._loop.run(self._inner.delete_layer(name, number))

    def tag(self, arn: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Of a function or event source mapping; answers with all that it has then."""
        return self._loop.run(self._inner.tag(arn, tags))

    def untag(self, arn: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        return self._loop.run(self._inner.untag(arn, *keys))
