"""From a request to a door's method and back. One gateway in each process that owns services.

whose? -> (another process: pass on) -> who asks? -> which operation? -> read -> check -> the door's method -> write
          any CloudError on the way: refused as the service does in the protocol that was spoken
          anything else: InternalFailure with the request id; the story goes to the log

`handle` is a coroutine, for all of it. `begin` goes the same way in one turn, for doors that are Prompt: the answer is
made at once, and given to who asked when the disk has what it tells of.
"""

from __future__ import annotations

import inspect
import logging
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from minicloud.aws import model, services
from minicloud.aws.call import Call, Decide, Door, Prompt
from minicloud.aws.credentials import key_of
from minicloud.aws.face import Face, faces
from minicloud.aws.faults import plain_refusal, unknown_operation, unknown_service
from minicloud.aws.services import Known
from minicloud.aws.wire import Answer, BadInput, Request
from minicloud.base.arn import Caller
from minicloud.base.errors import (
    CloudError,
    Internal,
    MessageTooLarge,
    NotFound,
    Unauthenticated,
    UnsupportedOperation,
)

log = logging.getLogger("minicloud.aws")

Serve = Callable[[dict[str, Any], Call], Awaitable[dict[str, Any]]]
Reply = Callable[[Answer], bool]  # False: nobody is there any more
AfterFlush = Callable[[Callable[[CloudError | None], None]], None]
REQUEST_ID = "x-amzn-RequestId"
BODY_BYTES_MAX = 2 * 1024 * 1024


class Admit(Protocol):
    def __call__(self, request: Request, service: Known, /) -> Caller:
        """Who asks. Raises Unauthenticated."""
        ...


class PassOn(Protocol):
    async def __call__(self, request: Request, service: Known, caller: Caller | None) -> Answer | None:
        """Another process's answer; None: it is this one's. Raises Unavailable."""
        ...

    def is_own(self, service: Known, caller: Caller) -> bool:
        """Whether it would be None."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """One service of this process. `decides`, `after_flush`: of a door that is Prompt."""

    name: str
    methods: Mapping[str, Serve]
    faces: Mapping[str, Face]
    known: frozenset[str]
    decides: Mapping[str, Decide]
    after_flush: AfterFlush | None


@dataclass(frozen=True, slots=True)
class Way:
    """How requests come in. `pass_on` is asked before a door is. `claimed`: whose one says it is; never raises."""

    admit: Admit
    new_request_id: Callable[[], str]
    pass_on: PassOn | None = None
    claimed: Callable[[Request], str] = key_of


def served(door: Door) -> Served:
    """A door's operations are its public methods whose names AWS has. Raises AttributeError for another's."""
    known = model.known_operations(door.service)
    names = [name for name, _ in inspect.getmembers(type(door.api), inspect.iscoroutinefunction) if name[0].isupper()]
    strange = set(names) - known
    if strange:
        raise AttributeError(f"{type(door.api).__name__}: {door.service} has no {', '.join(sorted(strange))}")
    service = model.load(door.service, names)
    codes = getattr(door.api, "error_codes", {})
    decides: Mapping[str, Decide] = {}
    after_flush: AfterFlush | None = None
    if isinstance(door.api, Prompt):
        decides, after_flush = door.api.decides, door.api.after_flush
    methods = {name: getattr(door.api, name) for name in names}
    return Served(door.service, methods, faces(service, codes), known, decides, after_flush)


class Gateway:
    def __init__(self, doors: Iterable[Door], way: Way) -> None:
        """Compiles every operation of every door."""
        self._served = {one.name: one for one in map(served, doors)}
        self._is_prompt = any(one.decides for one in self._served.values())
        self._way = way
        self.claimed = way.claimed
        # Also of what is only passed on: whoever owns it refuses what is too large for it.
        passed_on = services.KNOWN if way.pass_on is not None else ()
        names = {*self._served, *(one.name for one in passed_on)}
        self.body_bytes_max = max((services.BY_NAME[name].body_bytes_max for name in names), default=BODY_BYTES_MAX)

    async def handle(self, request: Request) -> Answer:
        """Never raises but CancelledError."""
        request_id = self._way.new_request_id()
        known, protocol = services.service_of(request)
        try:
            answer = await self._handle(request, known, protocol, request_id)
        except Exception as error:  # noqa: BLE001  # told and logged
            answer = self._refuse(error, known, protocol, request_id)
        return _named(answer, request_id)

    def begin(self, request: Request, reply: Reply) -> bool:
        """`handle` in this turn, for an operation that is decided in one; the answer goes to `reply` once, maybe within
        this call. False: nothing was done, `handle` it.
        """
        if not self._is_prompt or "content-encoding" in request.headers:
            return False
        known, protocol = services.service_of(request)
        one = self._served.get(known.name) if known is not None else None
        if known is None or one is None or one.after_flush is None or protocol not in one.faces:
            return False
        request_id, body = self._way.new_request_id(), request.body

        def refusal(error: Exception) -> Answer:
            return _named(self._refuse(error, known, protocol, request_id), request_id)

        try:
            decided = self._decide(request, known, one, (protocol, request_id))
        except Exception as error:  # noqa: BLE001  # told and logged
            reply(refusal(error))
            return True
        if decided is None:
            request.body = body  # verifying a signature may have taken chunks apart
            return False
        answer, undo = decided

        def done(error: CloudError | None) -> None:
            if not reply(answer if error is None else refusal(error)) and undo is not None and error is None:
                undo()

        one.after_flush(done)
        return True

    def _decide(
        self, request: Request, known: Known, one: Served, said: tuple[str, str]
    ) -> tuple[Answer, Callable[[], None] | None] | None:
        """The answer, and what takes back what it tells of. None: for `handle`. `said`: protocol and request id."""
        protocol, request_id = said
        face = one.faces[protocol]
        operation, labels = face.find(request)
        decide = one.decides.get(operation)
        if decide is None:
            return None
        caller = self._way.admit(request, known)
        if self._way.pass_on is not None and not self._way.pass_on.is_own(known, caller):
            return None
        codec = face.codecs[operation]
        params = codec.read(request, labels)
        codec.check(params)
        decided = decide(params, Call(caller, request_id, one.name, operation, base_url(request)))
        if decided is None:
            return None
        return _named(codec.write(decided.result, request_id), request_id), decided.undo

    def refuse(self, request: Request, error: CloudError) -> Answer:
        """The answer to a request that could not be read to its end."""
        known, protocol = services.service_of(request)
        request_id = self._way.new_request_id()
        return _named(self._refuse(error, known, protocol, request_id), request_id)

    async def _handle(self, request: Request, known: Known | None, protocol: str, request_id: str) -> Answer:
        if known is None:
            raise _nobody(request)
        one = self._served.get(known.name)
        if one is None:
            answer = await self._way.pass_on(request, known, None) if self._way.pass_on is not None else None
            if answer is None:
                raise unknown_service(known.name, protocol)
            return answer
        face = one.faces.get(protocol) or next(iter(one.faces.values()))
        operation, labels = face.find(request)
        came = request.body
        caller = self._way.admit(request, known)
        if self._way.pass_on is not None:
            body, request.body = request.body, came  # as it was signed: verifying may have taken chunks apart
            answer = await self._way.pass_on(request, known, caller)
            if answer is not None:
                return answer
            request.body = body
        if request.body is not came:
            request.form = None
            operation, labels = face.find(request)
        if "content-encoding" in request.headers and protocol != services.REST:
            request.body, request.form = inflated(request, known.body_bytes_max), None
            operation, labels = face.find(request)
        codec = face.codecs.get(operation)
        if codec is None:
            raise _no_operation(operation, one, face, request)
        params = codec.read(request, labels)
        codec.check(params)
        trace = request.headers.get("x-amzn-trace-id", "")
        call = Call(caller, request_id, one.name, operation, base_url(request), trace)
        return codec.write(await one.methods[operation](params, call), request_id)

    def _refuse(self, error: Exception, known: Known | None, protocol: str, request_id: str) -> Answer:
        if not isinstance(error, CloudError):
            log.error("request %s failed", request_id, exc_info=error)
            error = Internal(f"internal error; the log has the story under request {request_id}")
        elif isinstance(error, Internal):
            log.error("request %s: %s", request_id, error, exc_info=error)
        one = self._served.get(known.name) if known is not None else None
        if one is None:
            return plain_refusal(error, request_id, protocol)
        face = one.faces.get(protocol) or next(iter(one.faces.values()))
        return face.refuse(error, request_id)


def inflated(request: Request, most: int) -> bytes:
    """The body as it was before it was compressed, as SDKs do with large ones. Raises BadInput, MessageTooLarge."""
    kinds = [kind.strip() for kind in request.headers["content-encoding"].lower().split(",")]
    kind = ",".join(kind for kind in kinds if kind != "aws-chunked")  # taken apart where the signature was verified
    if not kind:
        return request.body
    if kind != "gzip":
        raise BadInput(f"The content encoding {kind[:64]} is not supported.")
    reader = zlib.decompressobj(wbits=31)
    try:
        body = reader.decompress(request.body, most + 1)
    except zlib.error:
        raise BadInput("The body of the request is not well-formed gzip.") from None
    if len(body) > most:
        raise MessageTooLarge(f"The body of the request is larger than {most} bytes.", code="RequestEntityTooLarge")
    if not reader.eof:
        raise BadInput("The body of the request is not well-formed gzip.")
    return body


def _named(answer: Answer, request_id: str) -> Answer:
    """With the request id, unless another process gave one."""
    if not (answer.headers and any(name == REQUEST_ID for name, _ in answer.headers)):
        answer.headers.append((REQUEST_ID, request_id))
    return answer


def _no_operation(operation: str, one: Served, face: Face, request: Request) -> CloudError:
    if not operation and face.protocol == "rest-json":
        text = f"There is no operation for {request.method} {request.path[:200]}, or minicloud does not serve it."
        return NotFound(text, code="UnknownOperationException")
    if not operation:
        return UnsupportedOperation("The request names no operation.", code="MissingAction", field="Action")
    return unknown_operation(operation, face.protocol, real=operation in one.known)


def _nobody(request: Request) -> CloudError:
    if "authorization" in request.headers or "X-Amz-Credential" in request.query:
        return UnsupportedOperation(
            "minicloud does not serve the service that this request is for.", code="UnknownOperationException"
        )
    return Unauthenticated("The request is not signed, and names no service.", code="MissingAuthenticationToken")


def base_url(request: Request) -> str:
    """How the caller reached us, without a slash at the end."""
    scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{request.headers.get('host', 'localhost')}"
