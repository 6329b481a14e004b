"""Functions: code, versions, aliases, layers, invocations. `function` is a name or ARN, maybe with `:qualifier`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from minicloud.client.broker import Broker
from minicloud.client.convert import check_names, to_model
from minicloud.client.invocations import PAYLOAD_BYTES_MAX, Invocations
from minicloud.client.invoke_request import DRY_RUN, EVENT, SYNC, invoke_request
from minicloud.client.lazy import lazy

if TYPE_CHECKING:
    from minicloud.client import function_models
    from minicloud.wire import function_pb2
else:
    function_models = lazy("minicloud.client.function_models")
    function_pb2 = lazy("minicloud.wire.function_pb2")

_CHUNK_BYTES = 1024 * 1024
_STORY_MAX = 2_000
_TEXTS = (
    "runtime", "handler", "role", "description", "dead_letter_arn", "tracing",
    "log_format", "application_log_level", "system_log_level", "log_group",
)  # fmt: skip
_NUMBERS = ("memory_mib", "timeout_s", "ephemeral_mib")


class FunctionOptions(TypedDict, total=False):
    """What a function is configured with; what is not given is AWS's default, or stays as it is.

    runtime: python3.11 ..., nodejs20.x ..., provided.al2023. memory_mib: CPU comes in proportion. layers: ARNs of
    layer versions. dead_letter_arn: a queue's or topic's.
    """

    runtime: str
    handler: str
    role: str
    description: str
    memory_mib: int
    timeout_s: int
    ephemeral_mib: int
    environment: Mapping[str, str]
    layers: Sequence[str]
    dead_letter_arn: str
    tracing: str
    log_format: str
    application_log_level: str
    system_log_level: str
    log_group: str


class AsyncFunctions:
    """Functions of the caller's account and region."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._invocations = Invocations(broker)

    async def create(
        self,
        name: str,
        package: bytes,
        *,
        publish: bool = False,
        tags: Mapping[str, str] | None = None,
        **options: Unpack[FunctionOptions],
    ) -> function_models.Function:
        """Make a function from a zip of up to 50 MiB. Raises AlreadyExists, InvalidRequest, MessageTooLarge."""
        check_names(options, FunctionOptions)
        first = function_pb2.CreateFunctionRequest(
            name=name, settings=_settings(options), publish=publish, tags=tags or {}
        )
        parts = _parts(first, function_pb2.CreateFunctionRequest, package)
        reply = await self._broker.upload("FunctionService/CreateFunction", parts, function_pb2.Function)
        return to_model(function_models.Function, reply)

    async def update_code(
        self, function: str, package: bytes, *, publish: bool = False, dry_run: bool = False, revision_id: str = ""
    ) -> function_models.Function:
        """Another package for $LATEST; with publish, as a new version too. Raises NotFound, Conflict, ..."""
        first = function_pb2.UpdateFunctionCodeRequest(
            function=function, publish=publish, dry_run=dry_run, revision_id=revision_id
        )
        parts = _parts(first, function_pb2.UpdateFunctionCodeRequest, package)
        reply = await self._broker.upload("FunctionService/UpdateFunctionCode", parts, function_pb2.Function)
        return to_model(function_models.Function, reply)

    async def update(
        self, function: str, *, revision_id: str = "", **options: Unpack[FunctionOptions]
    ) -> function_models.Function:
        """Change the configuration of $LATEST. Raises NotFound, Conflict (revision_id), InvalidRequest."""
        check_names(options, FunctionOptions)
        request = function_pb2.UpdateFunctionSettingsRequest(
            function=function, settings=_settings(options), revision_id=revision_id
        )
        reply = await self._broker.call("FunctionService/UpdateFunctionSettings", request, function_pb2.Function)
        return to_model(function_models.Function, reply)

    async def get(self, function: str) -> function_models.Function:
        """With a qualifier: that version, or the one of that alias. Raises NotFound."""
        request = function_pb2.GetFunctionRequest(function=function)
        reply = await self._broker.call("FunctionService/GetFunction", request, function_pb2.Function)
        return to_model(function_models.Function, reply)

    async def list(self, *, page_size: int = 100) -> AsyncIterator[function_models.Function]:
        """All functions as $LATEST is. Pages are fetched as they are needed."""
        request = function_pb2.ListFunctionsRequest(page_size=page_size)
        while True:
            reply = await self._broker.call("FunctionService/ListFunctions", request, function_pb2.ListFunctionsReply)
            for item in reply.functions:
                yield to_model(function_models.Function, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete(self, function: str) -> None:
        """A function with all that hangs on it; with a qualifier, that version. Raises NotFound, Conflict."""
        request = function_pb2.DeleteFunctionRequest(function=function)
        await self._broker.call("FunctionService/DeleteFunction", request, function_pb2.DeleteFunctionReply)

    async def code(self, function: str) -> bytes:
        """The package of a version: a zip. Raises NotFound."""
        request = function_pb2.GetFunctionRequest(function=function)
        chunks = self._broker.stream("FunctionService/GetFunctionCode", request, function_pb2.PackageChunk)
        return b"".join([chunk.data async for chunk in chunks])

    # ------------------------------------------------------------ versions and aliases

    async def publish(
        self, function: str, *, description: str | None = None, code_sha256: str = "", revision_id: str = ""
    ) -> function_models.Function:
        """$LATEST as a numbered version, which never changes; the newest one where nothing has changed since."""
        request = function_pb2.PublishFunctionVersionRequest(
            function=function, description=description, code_sha256=code_sha256, revision_id=revision_id
        )
        reply = await self._broker.call("FunctionService/PublishFunctionVersion", request, function_pb2.Function)
        return to_model(function_models.Function, reply)

    async def versions(self, function: str, *, page_size: int = 100) -> AsyncIterator[function_models.Function]:
        """$LATEST first, then by number."""
        request = function_pb2.ListFunctionVersionsRequest(function=function, page_size=page_size)
        while True:
            reply = await self._broker.call(
                "FunctionService/ListFunctionVersions", request, function_pb2.ListFunctionsReply
            )
            for item in reply.functions:
                yield to_model(function_models.Function, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def create_alias(
        self,
        function: str,
        name: str,
        version: str,
        *,
        description: str = "",
        weights: Mapping[str, float] | None = None,
    ) -> function_models.FunctionAlias:
        """A name for a version. weights: of another version, the share of invocations that it gets."""
        request = function_pb2.CreateFunctionAliasRequest(
            function=function, name=name, version=version, description=description, weights=weights or {}
        )
        reply = await self._broker.call("FunctionService/CreateFunctionAlias", request, function_pb2.FunctionAlias)
        return to_model(function_models.FunctionAlias, reply)

    async def update_alias(
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
        request = function_pb2.UpdateFunctionAliasRequest(
            function=function,
            name=name,
            version=version,
            description=description,
            weights=None if weights is None else function_pb2.AliasWeights(weights=weights),
            revision_id=revision_id,
        )
        reply = await self._broker.call("FunctionService/UpdateFunctionAlias", request, function_pb2.FunctionAlias)
        return to_model(function_models.FunctionAlias, reply)

    async def aliases(self, function: str) -> tuple[function_models.FunctionAlias, ...]:
        """By name."""
        request = function_pb2.ListFunctionAliasesRequest(function=function)
        method = "FunctionService/ListFunctionAliases"
        reply = await self._broker.call(method, request, function_pb2.ListFunctionAliasesReply)
        return tuple(to_model(function_models.FunctionAlias, item) for item in reply.aliases)

    async def delete_alias(self, function: str, name: str) -> None:
        """One that is not there is not an error."""
        request = function_pb2.DeleteFunctionAliasRequest(function=function, name=name)
        await self._broker.call("FunctionService/DeleteFunctionAlias", request, function_pb2.DeleteFunctionReply)

    # ------------------------------------------------------------ invocations

    async def invoke(
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
        kind = DRY_RUN if dry_run else SYNC
        request = invoke_request(function, payload, client_context, type=kind, tail=tail)
        if not request.type and len(request.payload) <= PAYLOAD_BYTES_MAX:
            return to_model(function_models.Invoked, await self._invocations.call(request, wait_s))
        method = "FunctionService/Invoke"
        reply = await self._broker.call(method, request, function_pb2.InvokeReply, wait_s=wait_s, repeat=False)
        return to_model(function_models.Invoked, reply)

    async def invoke_async(
        self, function: str, payload: object = None, *, client_context: Mapping[str, object] | None = None
    ) -> str:
        """Have it run later: the event (at most 1 MiB) is on disk when its request id is returned.

        It is retried and its result delivered as `triggers.set_event_invoke` says. Raises as `invoke` does.
        """
        request = invoke_request(function, payload, client_context, type=EVENT)
        method = "FunctionService/Invoke"
        return (await self._broker.call(method, request, function_pb2.InvokeReply, repeat=False)).request_id

    async def invoke_stream(
        self, function: str, payload: object = None, *, client_context: Mapping[str, object] | None = None
    ) -> AsyncIterator[bytes]:
        """What the function answers, while it runs. Raises what `invoke` raises, and FunctionFailed at the end."""
        request = invoke_request(function, payload, client_context)
        async for part in self._broker.stream("FunctionService/InvokeStream", request, function_pb2.InvokePart):
            if part.WhichOneof("part") == "chunk":
                yield part.chunk
            elif part.WhichOneof("part") == "reply" and part.reply.function_error:
                raise FunctionFailed(part.reply.function_error, part.reply.payload)

    # ------------------------------------------------------------ layers

    async def publish_layer(
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
        first = function_pb2.PublishLayerRequest(
            name=name, description=description, license=license, runtimes=runtimes, architectures=architectures
        )
        parts = _parts(first, function_pb2.PublishLayerRequest, package)
        reply = await self._broker.upload("FunctionService/PublishLayer", parts, function_pb2.LayerVersion)
        return to_model(function_models.LayerVersion, reply)

    async def layers(self) -> tuple[function_models.LayerVersion, ...]:
        """The newest version of each."""
        request = function_pb2.ListLayersRequest()
        reply = await self._broker.call("FunctionService/ListLayers", request, function_pb2.ListLayersReply)
        return tuple(to_model(function_models.LayerVersion, item) for item in reply.layers)

    async def layer_versions(self, name: str) -> tuple[function_models.LayerVersion, ...]:
        """The newest first."""
        request = function_pb2.ListLayerVersionsRequest(name=name)
        reply = await self._broker.call("FunctionService/ListLayerVersions", request, function_pb2.ListLayersReply)
        return tuple(to_model(function_models.LayerVersion, item) for item in reply.layers)

    async def delete_layer(self, name: str, number: int) -> None:
        """Raises Conflict where a function uses it."""
        request = function_pb2.DeleteLayerVersionRequest(name=name, number=number)
        await self._broker.call("FunctionService/DeleteLayerVersion", request, function_pb2.DeleteFunctionReply)

    # ------------------------------------------------------------ tags

    async def tag(self, arn: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Of a function or event source mapping; answers with all that it has then."""
        return await self._tags(function_pb2.SetFunctionTagsRequest(arn=arn, tags=tags))

    async def untag(self, arn: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        return await self._tags(function_pb2.SetFunctionTagsRequest(arn=arn, remove=keys))

    async def _tags(self, request: function_pb2.SetFunctionTagsRequest) -> dict[str, str]:
        reply = await self._broker.call("FunctionService/SetFunctionTags", request, function_pb2.FunctionTagsReply)
        return dict(reply.tags)


class FunctionFailed(Exception):
    """The function did not succeed. `kind`: Handled or Unhandled. `payload`: JSON with errorMessage and errorType."""

    def __init__(self, kind: str, payload: bytes) -> None:
        self.kind = kind
        self.payload = payload
        super().__init__(f"{kind}: {_story(payload)}")


def _story(payload: bytes) -> str:
    """What went wrong as the function's runtime says it, else the payload's beginning."""
    text = payload[:_STORY_MAX].decode(errors="replace")
    try:
        found = json.loads(payload)
        kind, message = found["errorType"], found["errorMessage"]
    except (ValueError, KeyError, TypeError):
        return text
    lines = [line.rstrip("\n") for line in found.get("stackTrace") or found.get("trace") or [] if isinstance(line, str)]
    return "\n".join([f"{kind}: {message}", *lines])[:_STORY_MAX]


def _settings(options: Any) -> function_pb2.FunctionSettings:
    found = function_pb2.FunctionSettings()
    for name in (*_TEXTS, *_NUMBERS):
        if name in options:
            setattr(found, name, options[name])
    if "environment" in options:
        found.environment.SetInParent()
        found.environment.variables.update(options["environment"])
    if "layers" in options:
        found.layers.SetInParent()
        found.layers.arns.extend(options["layers"])
    return found


def _parts(first: Any, more: Any, package: bytes) -> Sequence[Any]:
    """The first message has the first chunk."""
    first.package = package[:_CHUNK_BYTES]
    return [first, *_rest(more, package)]


def _rest(more: Any, package: bytes) -> Iterator[Any]:
    for start in range(_CHUNK_BYTES, len(package), _CHUNK_BYTES):
        yield more(package=package[start : start + _CHUNK_BYTES])
