"""The gRPC door: one wrapper around every handler, so that a slice's rpc.py only translates.

    bytes -> request id -> admit (who asks?) -> parse -> servicer.Method(request, caller) -> bytes
                          any CloudError on the way -> its status and rich details
                          anything else             -> INTERNAL with the request id; the story goes to the log

A servicer is a plain object with one method for each rpc of its service, by the shape of the rpc:

    unary -> unary     async def Get(self, request, caller) -> Response
    unary -> stream    async def Watch(self, request, caller) -> AsyncIterator[Response]      (async generator)
    stream -> unary    async def Store(self, requests, caller) -> Response                    (async iterator in)
    stream -> stream   async def Sync(self, requests, caller) -> AsyncIterator[Response]      (async generator)

What `caller` is, `Entry.admit` decides from the call's metadata: a `Caller` at the users' door, a host or a ticket at
others. gRPC is handed bytes both ways: parsing and serialising happen here, where a malformed or too deep message
becomes InvalidRequest (grpc.aio itself answers UNKNOWN with the exception's text). A handler is cancelled when its
caller's deadline passes or the caller goes away; work that must not stop half-way is shielded by whoever does it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from minicloud.base.errors import CloudError, Internal, InvalidRequest, MessageTooLarge, Unavailable
from minicloud.base.limits import GRPC_MESSAGE_BYTES_MAX
from minicloud.rpc.errors import REQUEST_ID, abort

log = logging.getLogger("minicloud.rpc")

Metadata = Mapping[str, Any]  # keys in lower case; values are str, or bytes where the key ends in -bin
P = TypeVar("P")
Context = grpc.aio.ServicerContext[Any, Any]
FAILURES = (Exception, asyncio.CancelledError)
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


@dataclass(frozen=True, slots=True)
class Entry(Generic[P]):
    """How calls come in: who may (`admit` raises Unauthenticated or InvalidRequest), and what a call is named."""

    admit: Callable[[Metadata], P]
    new_request_id: Callable[[], str]
    message_bytes_max: int = GRPC_MESSAGE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Service:
    """One service, ready for `rpc.server`: its full name, and a handler for each path ('/package.Service/Method')."""

    name: str
    handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]


def door(servicer: object, descriptor: ServiceDescriptor, entry: Entry[Any]) -> Service:
    """Bind a servicer to its service. Raises AttributeError where it lacks a method of the service."""
    handlers = {}
    for method in descriptor.methods:
        path = f"/{descriptor.full_name}/{method.name}"
        handlers[path] = _handler(getattr(servicer, method.name), method, _Gate(entry, path))
    return Service(descriptor.full_name, handlers)


class _Gate:
    """What every call passes on its way in, and on its way out when it failed."""

    __slots__ = ("_admit", "_new_id", "_path", "bytes_max")

    def __init__(self, entry: Entry[Any], path: str) -> None:
        self._admit = entry.admit
        self._new_id = entry.new_request_id
        self._path = path
        self.bytes_max = entry.message_bytes_max

    def enter(self, context: Context) -> tuple[str, Metadata]:
        """The request id, which the trailers carry from now on, and the metadata."""
        metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
        request_id = metadata.get(REQUEST_ID)
        if request_id is None or not _SANE_ID.fullmatch(request_id):
            request_id = self._new_id()
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        return request_id, metadata

    def admit(self, metadata: Metadata) -> Any:
        return self._admit(metadata)

    async def fail(self, context: Context, error: BaseException, request_id: str) -> NoReturn:
        """The one way out for every failure."""
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise error  # the caller went away, or its deadline passed
            error = Unavailable("The cloud gave this request up; retry.")  # gRPC would leave the caller without a word
        if not isinstance(error, CloudError):
            log.error("request %s: %s failed", request_id, self._path, exc_info=error)
            error = Internal(f"internal error; the log has the story under request {request_id}")
        elif isinstance(error, Internal):
            log.error("request %s: %s: %s", request_id, self._path, error, exc_info=error)
        await abort(context, error, request_id)


def _handler(serve: Callable[..., Any], method: MethodDescriptor, gate: _Gate) -> grpc.RpcMethodHandler[Any, Any]:
    parse = _parser(GetMessageClass(method.input_type))
    if method.client_streaming and method.server_streaming:
        return grpc.stream_stream_rpc_method_handler(_stream_stream(serve, parse, gate))
    if method.client_streaming:
        return grpc.stream_unary_rpc_method_handler(_stream_unary(serve, parse, gate))
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(_unary_stream(serve, parse, gate))
    return grpc.unary_unary_rpc_method_handler(_unary_unary(serve, parse, gate))


Parse = Callable[[bytes], Message]
Serve = Callable[..., Any]


def _unary_unary(serve: Serve, parse: Parse, gate: _Gate) -> Any:
    async def call(raw: bytes, context: Context) -> bytes:
        request_id, metadata = gate.enter(context)
        try:
            caller = gate.admit(metadata)
            return _written(await serve(parse(raw), caller), gate.bytes_max)
        except FAILURES as error:
            await gate.fail(context, error, request_id)

    return call


def _stream_unary(serve: Serve, parse: Parse, gate: _Gate) -> Any:
    async def call(raws: AsyncIterator[bytes], context: Context) -> bytes:
        request_id, metadata = gate.enter(context)
        try:
            caller = gate.admit(metadata)
            return _written(await serve(_parsed(raws, parse), caller), gate.bytes_max)
        except FAILURES as error:
            await gate.fail(context, error, request_id)

    return call


def _unary_stream(serve: Serve, parse: Parse, gate: _Gate) -> Any:
    async def call(raw: bytes, context: Context) -> None:
        request_id, metadata = gate.enter(context)
        try:
            caller = gate.admit(metadata)
            await _write_all(serve(parse(raw), caller), context, gate.bytes_max)
        except FAILURES as error:
            await gate.fail(context, error, request_id)

    return call


def _stream_stream(serve: Serve, parse: Parse, gate: _Gate) -> Any:
    async def call(raws: AsyncIterator[bytes], context: Context) -> None:
        request_id, metadata = gate.enter(context)
        try:
            caller = gate.admit(metadata)
            await _write_all(serve(_parsed(raws, parse), caller), context, gate.bytes_max)
        except FAILURES as error:
            await gate.fail(context, error, request_id)

    return call


async def _write_all(answers: AsyncGenerator[Message], context: Context, bytes_max: int) -> None:
    async with aclosing(answers):  # a caller that goes away ends the generator now, not when it is collected
        async for answer in answers:
            await context.write(_written(answer, bytes_max))


async def _parsed(raws: AsyncIterator[bytes], parse: Parse) -> AsyncIterator[Message]:
    async for raw in raws:
        yield parse(raw)


def _parser(message: type[Message]) -> Parse:
    read = message.FromString
    name = message.DESCRIPTOR.name

    def parse(raw: bytes) -> Message:
        try:
            return read(raw)
        except (DecodeError, ValueError, RecursionError):
            raise InvalidRequest(f"the request is not a well-formed {name}", code="MalformedRequest") from None

    return parse


def _written(answer: Message, bytes_max: int) -> bytes:
    raw = answer.SerializeToString()
    if len(raw) > bytes_max:
        raise MessageTooLarge(f"the answer would be {len(raw)} bytes, more than {bytes_max}: ask for smaller pages")
    return raw
