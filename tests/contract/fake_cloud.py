"""A gRPC server that answers as a test tells it to. It knows no rules of our cloud: it tests the client's manners.

    cloud.on("InstanceService/Get", lambda request, call: instance_pb2.Instance(id=request.instance_id))

A handler may be sync or async, return a message or yield messages, and raise a CloudError. Streams from the client come
as an async iterator. It runs on a loop of its own thread, so that sync and async clients can be tested with it.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from minicloud.base.errors import CloudError, NotFound
from minicloud.rpc.errors import abort
from minicloud.wire import (
    balancer_pb2,
    catalog_pb2,
    guest_pb2,
    host_pb2,
    identity_pb2,
    instance_pb2,
    queue_pb2,
    topic_pb2,
)

FILES = (balancer_pb2, catalog_pb2, guest_pb2, host_pb2, identity_pb2, instance_pb2, queue_pb2, topic_pb2)
METHODS = {
    f"{service.name}/{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
Handler = Callable[[Any, "Call"], Any]


@dataclass
class Call:
    """One call as the server saw it."""

    method: str
    metadata: dict[str, Any]
    context: Any = field(repr=False)
    request: Any = None


class FakeCloud(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.calls: list[Call] = []
        self.address = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: Any = None

    def on(self, method: str, handler: Handler) -> None:
        assert method in METHODS, method
        self.handlers[method] = handler

    def seen(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    def start(self, port: int = 0) -> None:
        if not self._thread.is_alive():
            self._thread.start()
        self._run(self._start(port))

    def stop(self) -> None:
        """Calls in flight are cut; the port is free afterwards."""
        if self._server is not None:
            self._run(self._server.stop(None))
            self._server = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def serve_guests(self) -> None:
        """GetEndpoint leads to this server itself."""
        self.on(
            "InstanceService/GetEndpoint",
            lambda request, call: instance_pb2.Endpoint(address=self.address, ticket="ticket-1", expires=4e9),
        )

    def serve_broker(self) -> None:
        """Locate leads to this server itself."""
        self.on(
            "MessagingService/Locate",
            lambda request, call: queue_pb2.BrokerEndpoint(
                address=self.address, ticket="ticket-1", expires_ms=4 * 10**12
            ),
        )

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self, port: int) -> None:
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))
        bound = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{bound}"
        await self._server.start()

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method.removeprefix("/minicloud.v1.")
        descriptor = METHODS.get(method)
        if descriptor is None:
            return None
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[descriptor.client_streaming, descriptor.server_streaming]
        serve: Any = self._stream(method) if descriptor.server_streaming else self._unary(method)
        return make(
            serve,
            request_deserializer=GetMessageClass(descriptor.input_type).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _unary(self, method: str) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            try:
                reply = self._ask(method, request, context)
                return await reply if inspect.isawaitable(reply) else reply
            except CloudError as error:
                await abort(context, error, "request-1")

        return answer

    def _stream(self, method: str) -> Any:
        async def answer(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                async for message in self._ask(method, request, context):
                    yield message
            except CloudError as error:
                await abort(context, error, "request-1")

        return answer

    def _ask(self, method: str, request: Any, context: Any) -> Any:
        call = Call(method, dict(context.invocation_metadata()), context, request)
        self.calls.append(call)
        if method not in self.handlers:
            raise NotFound(f"the test has no answer for {method}")
        return self.handlers[method](request, call)
