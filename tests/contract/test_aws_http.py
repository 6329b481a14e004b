"""The AWS face at the level of bytes: what is malformed, too large, too slow or ambiguous; what is passed on."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from minicloud.aws import bodies, http, signature
from minicloud.aws.call import Call, Decided, Door
from minicloud.aws.credentials import open_admit
from minicloud.aws.forward import Forwarder, Place
from minicloud.aws.gateway import Gateway, Way
from minicloud.aws.services import BROKER, CONTROL
from minicloud.aws.wire import Answer, Request
from tests.turns import turn, until

AUTH = (
    "Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=a"
)


class Sqs:
    def __init__(self) -> None:
        self.called: list[dict[str, Any]] = []
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def GetQueueUrl(self, params: dict[str, Any], _call: Call) -> dict[str, Any]:
        self.called.append(params)
        return {"QueueUrl": params["QueueName"]}

    async def ReceiveMessage(self, _params: dict[str, Any], _call: Call) -> dict[str, Any]:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return {}


class World:
    def __init__(self, server: http.HttpServer, sqs: Sqs) -> None:
        self.server, self.port, self.sqs = server, server.port, sqs

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, raw: bytes) -> bytes:
        """Everything that comes back until the connection is closed."""
        reader, writer = await self.connect()
        writer.write(raw)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        try:
            async with asyncio.timeout(60):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


async def test_room_for_bodies_comes_back_whatever_became_of_them() -> None:
    """Chunks that are taken apart and what is unpacked change a body; the room that it took is given back as it was."""

    def admit(request: Request, service: Any) -> Any:
        if "x-amz-chunks" in request.headers:
            request.body = request.body.lstrip(b" ")  # as signature.Verifier
        return open_admit()(request, service)

    class Prompt(Sqs):
        decides: ClassVar = {"GetQueueUrl": lambda params, _call: Decided({"QueueUrl": params["QueueName"]})}

        def after_flush(self, done: Any) -> None:
            asyncio.get_running_loop().call_soon(done, None)

    for sqs in (Sqs(), Prompt()):
        server = await http.serve(Gateway([Door("sqs", sqs)], Way(admit, lambda: "r")), "127.0.0.1", 0)
        one = World(server, sqs)
        packed = gzip.compress(b'{"QueueName": "' + b"a" * 10_000 + b'"}')
        for raw in (sized(b" " * 9_000 + NAME, "X-Amz-Chunks: 1"), sized(packed, "Content-Encoding: gzip")):
            assert status(await one.ask(raw)) == 200
            await turn(20)
            assert server.bodies.bytes == 0 and not server.bodies.of
        await server.stop(0)


@contextlib.asynccontextmanager
async def world(forwarder: Forwarder | None = None) -> AsyncIterator[World]:
    sqs = Sqs()
    gateway = Gateway([Door("sqs", sqs)], Way(open_admit(), lambda: "request-1", forwarder))
    server = await http.serve(gateway, "127.0.0.1", 0)
    try:
        yield World(server, sqs)
    finally:
        await server.stop(0)


def post(body: bytes, *headers: str, close: bool = True) -> bytes:
    lines = ["POST / HTTP/1.1", "Host: x", AUTH, "X-Amz-Target: AmazonSQS.GetQueueUrl", *headers]
    lines += ["Connection: close"] if close else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def sized(body: bytes, *headers: str, close: bool = True) -> bytes:
    return post(body, f"Content-Length: {len(body)}", *headers, close=close)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


NAME = b'{"QueueName": "a"}'


async def test_chunked_bodies_and_keep_alive() -> None:
    async with world() as one:
        reader, writer = await one.connect()
        chunks = b"6\r\n" + NAME[:6] + b"\r\n" + f"{len(NAME) - 6:x}".encode() + b"\r\n" + NAME[6:] + b"\r\n0\r\n\r\n"
        writer.write(post(chunks, "Transfer-Encoding: chunked", close=False))
        writer.write(sized(b'{"QueueName": "b"}', close=False) * 20)  # sent ahead
        found = []
        for _ in range(21):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"200 OK" in head
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            found.append(json.loads(await reader.readexactly(length))["QueueUrl"])
        assert found == ["a"] + ["b"] * 20
        writer.close()


BAD: dict[str, tuple[bytes, int]] = {
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "no length of a length": (post(NAME, "Content-Length: abc"), 400),
    "a negative length": (post(NAME, "Content-Length: -1"), 400),
    "two lengths": (post(NAME, "Content-Length: 18", "Content-Length: 2"), 400),
    "a length and chunks": (post(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"), 400),
    "a chunk of no size": (post(b"zz\r\n", "Transfer-Encoding: chunked"), 400),
    "20,000 headers": (post(b"", *(f"h{index}: 1" for index in range(20_000))), 431),
    "300 headers": (post(b"", *(f"h{index}: 1" for index in range(300))), 431),
    "a long header": (post(b"", "x: " + "a" * 40_000), 431),
    "a long path": (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
    "10 MB announced": (post(b"", "Content-Length: 10485760"), 413),
    "10 MB in chunks": (post(b"100000\r\n" + b"a" * 0x100000 + b"\r\n", "Transfer-Encoding: chunked"), 0),
    "malformed JSON": (sized(b'{"QueueName": '), 400),
    "a list": (sized(b"[]"), 400),
    "a number for a name": (sized(b'{"QueueName": 5}'), 400),
    "nothing": (sized(b""), 400),
    "not UTF-8": (sized(b'{"QueueName": "\xff"}'), 400),
    "deep": (sized(b"[" * 100_000), 400),
    "unknown parameter": (sized(b'{"QueueName": "a", "Colour": "red"}'), 400),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_is_malformed_is_refused_and_nothing_is_done(case: str) -> None:
    raw, wanted = BAD[case]
    if case == "10 MB in chunks":
        head, _, chunk = raw.partition(b"\r\n\r\n")
        raw, wanted = head + b"\r\n\r\n" + chunk * 10, 413
    async with world() as one:
        answer = await one.ask(raw)
        assert status(answer) == wanted, answer
        assert b"request-1" in answer  # in AWS's form, with a request id
        assert not one.sqs.called


@pytest.mark.parametrize(
    ("line", "path"), [("/a/b://c?x=1", "/a/b://c"), ("http://h:1/a/b?x=1", "/a/b"), ("http://h", "/")]
)
async def test_a_whole_url_is_its_path_and_a_path_is_itself(line: str, path: str) -> None:
    async def handle(request: Request) -> Answer:
        return Answer(200, "text/plain", f"{request.path} {request.query}".encode())

    app: Any = SimpleNamespace(body_bytes_max=0, begin=lambda _request, _reply: False, handle=handle)
    server = await http.serve(app, "127.0.0.1", 0)
    try:
        answer = await World(server, Sqs()).ask(f"GET {line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.partition(b"\r\n\r\n")[2].decode().split(" ")[0] == path
    finally:
        await server.stop(0)


async def test_unknown_operations_and_services() -> None:
    async with world() as one:
        raw = sized(NAME).replace(b"GetQueueUrl", b"Fly")
        assert b"UnknownOperationException" in await one.ask(raw)
        raw = sized(NAME).replace(b"GetQueueUrl", b"PurgeQueue")
        assert b"PurgeQueue is not served by minicloud" in await one.ask(raw)
        for old, new in ((b"AmazonSQS", b"DynamoDB_20120810"), (b"AmazonSQS", b"AmazonSSM")):
            answer = await one.ask(sized(NAME).replace(old, new))
            assert status(answer) == 400 and b"not serve" in answer
        assert status(await one.ask(b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == 403


async def test_a_caller_that_goes_away_ends_its_request() -> None:
    async with world() as one:
        _, writer = await one.connect()
        body = b'{"QueueUrl": "x", "WaitTimeSeconds": 20}'
        writer.write(sized(body, close=False).replace(b"GetQueueUrl", b"ReceiveMessage"))
        async with asyncio.timeout(60):
            await one.sqs.entered.wait()
            writer.close()
            await one.sqs.cancelled.wait()


async def test_slow_requests_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_S", "BODY_S", "IDLE_S"):
        monkeypatch.setattr(http, name, 0.2)
    async with world() as one:
        slow = (b"", b"POST / HTTP/1.1\r\nHost:", post(NAME[:3], f"Content-Length: {len(NAME)}"),
                post(b"5\r\n{", "Transfer-Encoding: chunked"))  # fmt: skip
        answers = await asyncio.gather(*(one.ask(raw) for raw in slow))
        assert answers == [b""] * 4


async def test_who_takes_nothing_of_an_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_S", 0.2)
    name = b'{"QueueName": "' + b"a" * 1_000_000 + b'"}'
    server = await http.serve(Gateway([Door("sqs", Sqs())], Way(open_admit(), lambda: "r")), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
    writer.write(sized(name, close=False) * 20)
    await until(lambda: bool(server._connections))
    await until(lambda: not server._connections)
    writer.close()
    await server.stop(0)


async def test_who_takes_an_answer_slowly_has_all_the_time() -> None:
    ended: list[str] = []
    pipe = SimpleNamespace(abort=lambda: ended.append("abort"), close=lambda: ended.append("close"))
    one: Any = http.Connection(http.HttpServer(SimpleNamespace(body_bytes_max=1)))  # type: ignore[arg-type]
    one._transport, one.busy, now = pipe, True, 0.0
    one.look(1e6)
    assert not ended  # it waits for its answer
    one.pause_writing()
    for left in range(1_000, 900, -1):
        pipe.get_write_buffer_size = lambda left=left: left
        now += http.IDLE_S - 1
        one.look(now)
        assert not ended
    one.look(now + http.IDLE_S + 1)
    assert ended == ["abort"]


async def test_half_read_bodies_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODIES_BYTES_MAX", 100_000)
    monkeypatch.setattr(bodies, "LARGE_BODIES_BYTES_MAX", 100_000)
    monkeypatch.setattr(bodies, "TINY_BODY_BYTES", 90_000)
    async with world() as one:
        reader, writer = await one.connect()
        writer.write(post(b"a" * 90_000, "Content-Length: 100000"))
        await writer.drain()
        await until(lambda: one.server.bodies.bytes >= 90_000)
        assert status(await one.ask(sized(b'{"QueueName": "' + b"a" * 20_000 + b'"}'))) == 503
        writer.close()
        assert await reader.read() == b""
        async with asyncio.timeout(60):
            assert status(await one.ask(sized(NAME))) == 200


async def padded_poll(one: World, account: int, first: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """first: so many bytes of it arrive before the rest."""
    poll = b"{" + b" " * 70_000 + b'"QueueUrl": "http://x/000000000000/a"}'
    reader, writer = await one.connect()
    whose = sized(poll, close=False).replace(b"=x/", b"=%012d/" % account)
    raw = whose.replace(b"GetQueueUrl", b"ReceiveMessage")
    before = one.server.bodies.bytes
    writer.write(raw[:first])
    if first:
        await until(lambda: one.server.bodies.bytes > before)
    writer.write(raw[first:])
    await writer.drain()
    await turn(20)
    return reader, writer


async def refused_of(polls: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> int:
    heads = [asyncio.ensure_future(reader.read(12)) for reader, _ in polls]
    await turn(100)
    found = [one.result() for one in heads if one.done()]
    assert {*found} <= {b"HTTP/1.1 503"}
    for one in heads:
        one.cancel()
    return len(found)


async def test_large_bodies_that_wait_leave_room_for_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long polls with padded bodies, by anybody, must not keep everybody else out."""
    monkeypatch.setattr(bodies, "BODIES_BYTES_MAX", 400_000)
    monkeypatch.setattr(bodies, "LARGE_BODIES_BYTES_MAX", 300_000)
    async with world() as one:
        polls = [await padded_poll(one, account) for account in range(5)]
        assert await refused_of(polls) == 2
        assert status(await one.ask(sized(NAME))) == 200
        for _, writer in polls:
            writer.close()


async def test_an_account_leaves_room_for_large_bodies_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODIES_BYTES_MAX", 400_000)
    monkeypatch.setattr(bodies, "LARGE_BODIES_BYTES_MAX", 300_000)
    async with world() as one:
        mine = [await padded_poll(one, 1) for _ in range(5)]
        assert await refused_of(mine) == 3
        theirs = await padded_poll(one, 2)
        assert await refused_of([theirs]) == 0
        assert await refused_of([await padded_poll(one, 1)]) == 1
        assert status(await one.ask(sized(NAME).replace(b"=x/", b"=000000000001/"))) == 200
        for _, writer in [*mine, theirs]:
            writer.close()
        await until(lambda: not one.server.bodies.bytes and not one.server.bodies.of)


async def test_what_is_refused_takes_nothing_from_what_its_account_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODIES_BYTES_MAX", 400_000)
    monkeypatch.setattr(bodies, "LARGE_BODIES_BYTES_MAX", 300_000)
    async with world() as one:
        mine = [await padded_poll(one, 1) for _ in range(2)]
        held = dict(one.server.bodies.of)
        for _ in range(3):  # tiny at first, so nobody's yet
            assert await refused_of([await padded_poll(one, 1, first=10_000)]) == 1
        assert one.server.bodies.of == held
        for _, writer in mine:
            writer.close()
        await until(lambda: not one.server.bodies.bytes and not one.server.bodies.of)


# --- to another process


async def test_what_is_anothers_is_passed_on() -> None:
    """A control plane gets requests for SQS, a broker's brother gets another's account, and nobody plays ball."""
    async with world() as broker:
        way = Forwarder(Place(CONTROL), {CONTROL: (1,), BROKER: (broker.port,)})
        gateway = Gateway([], Way(open_admit(), lambda: "request-2", way))
        control = await http.serve(gateway, "127.0.0.1", 0)
        try:
            one = World(control, broker.sqs)
            answer = await one.ask(sized(NAME))
            assert status(answer) == 200 and b'"QueueUrl":"a"' in answer
            assert answer.lower().count(b"x-amzn-requestid") == 1 and b"request-1" in answer
            answer = await one.ask(sized(b"{}"))
            assert status(answer) == 400 and b"MissingParameter" in answer
            assert status(await one.ask(sized(NAME, "x-minicloud-hops: 2"))) == 503
            unsigned = b"GET /?Action=GetQueueUrl&QueueName=z&Version=2012-11-05 HTTP/1.1\r\nHost: x\r\n"
            assert b"<QueueUrl>z</QueueUrl>" in await one.ask(unsigned + b"Connection: close\r\n\r\n")
        finally:
            await control.stop(0)
            await way.close()


async def test_signed_chunks_that_are_anothers_are_passed_on_as_they_were_signed() -> None:
    now, secret = 1_440_938_160.0, b"secret"
    stamp, day = "20150830T123600Z", "20150830"
    headers = {
        "host": "x",
        "x-amz-date": stamp,
        "x-amz-target": "AmazonSQS.GetQueueUrl",
        "content-encoding": "aws-chunked",
        "x-amz-content-sha256": signature.STREAMING,
        "authorization": f"AWS4-HMAC-SHA256 Credential=AK/{day}/us-east-1/sqs/aws4_request, "
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-target, Signature=",
    }
    empty = Request("POST", "/", "", {**headers, "authorization": headers["authorization"] + "a"}, b"")
    key = signature.signing_key(secret, day, "us-east-1", "sqs")
    seed = signature.signature(empty, signature.read(empty), signature.STREAMING, key)
    headers["authorization"] += seed
    body, before = b"", seed
    nothing = hashlib.sha256(b"").hexdigest()
    for piece in (NAME[:5], NAME[5:], b""):
        scope = f"{day}/us-east-1/sqs/aws4_request"
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{scope}\n{before}\n{nothing}\n{hashlib.sha256(piece).hexdigest()}"
        before = hmac.digest(key, text.encode(), "sha256").hex()
        body += b"%x;chunk-signature=%s\r\n%s\r\n" % (len(piece), before.encode(), piece)

    admit = signature.Verifier(lambda _: signature.Key(secret, "000000000000"), lambda: now)
    sqs = [Sqs(), Sqs()]
    second = await http.serve(Gateway([Door("sqs", sqs[1])], Way(admit, lambda: "r")), "127.0.0.1", 0)
    ways = [Forwarder(Place(BROKER, number), {BROKER: (second.port, second.port)}) for number in (0, 1)]
    try:
        for way in ways:
            gateway = Gateway([Door("sqs", sqs[0])], Way(admit, lambda: "r", way))
            answer = await gateway.handle(Request("POST", "/", "", dict(headers), body))
            assert (answer.status, answer.whole()) == (200, b'{"QueueUrl":"a"}')
        assert [one.called for one in sqs] == [[{"QueueName": "a"}]] * 2  # one of both is who it belongs to
        wrong = Request("POST", "/", "", dict(headers), body.replace(b"Name", b"name"))
        assert (await Gateway([Door("sqs", sqs[0])], Way(admit, lambda: "r")).handle(wrong)).status == 403
    finally:
        await second.stop(0)
        for way in ways:
            await way.close()


async def test_a_process_that_is_away_is_a_503() -> None:
    way = Forwarder(Place(CONTROL), {CONTROL: (1,), BROKER: (1,)})
    gateway = Gateway([], Way(open_admit(), lambda: "request-2", way))
    request = Request("POST", "/", "", {"host": "x", "x-amz-target": "AmazonSQS.ListQueues"}, b"{}")
    answer: Answer = await gateway.handle(request)
    assert answer.status == 503
    await way.close()


async def test_accounts_of_another_broker_go_there() -> None:
    async with world() as second:
        way = Forwarder(Place(BROKER, 0), {BROKER: (1, second.port)})
        sqs = Sqs()
        gateway = Gateway([Door("sqs", sqs)], Way(open_admit(), lambda: "request-2", way))
        for index in range(20):
            headers = {"host": "x", "x-amz-target": "AmazonSQS.GetQueueUrl"}
            headers["authorization"] = AUTH.partition(": ")[2].replace("=x/", f"=0000000000{index:02}/")
            assert (await gateway.handle(Request("POST", "/", "", headers, NAME))).status == 200
        assert len(sqs.called) + len(second.sqs.called) == 20
        assert sqs.called and second.sqs.called
        await way.close()
