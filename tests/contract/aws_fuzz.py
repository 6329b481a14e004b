"""Strangers' requests by the ten thousand: whatever comes, the AWS face answers 2xx or 4xx, and soon.

    python -m tests.contract.aws_fuzz 200000 [seed]       a long run; prints what it saw

Each input is a well-formed request of a random operation (as an SDK makes it) with some of its bytes, headers, path or
query spoilt, or nothing but noise. Doors answer everything with an empty result, so a 5xx is the fault of the face.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import cbor2

from minicloud.aws import model
from minicloud.aws.call import Call, Door
from minicloud.aws.credentials import open_admit
from minicloud.aws.gateway import Gateway, Way
from minicloud.aws.services import KNOWN, Known
from minicloud.aws.signature import Key, Verifier
from minicloud.aws.wire import Request

SLOW_S = 0.25  # of one input; this machine is shared
_WORDS = ("", "0", "-1", "true", "null", "é", "\x00", "a" * 300, "9" * 40, "NaN", "1e400", "2026-13-45T99:99:99Z", "..",
          "%", "%zz", "{}", "[]", '"', "<a>", "&", "arn:aws:sqs:::", "\ud800")  # fmt: skip


async def _nothing(_self: Any, _params: dict[str, Any], _call: Call) -> dict[str, Any]:
    return {}


def doors() -> list[Door]:
    """Every operation of every service."""
    made = []
    for known in KNOWN:
        methods = dict.fromkeys(model.known_operations(known.name), _nothing)
        made.append(Door(known.name, type(f"All_{known.name}", (), methods)()))
    return made


class Fuzzer:
    def __init__(self, seed: int) -> None:
        self.rand = random.Random(seed)
        gateways = [Way(open_admit(), lambda: "request"), Way(Verifier(_find, time.time), lambda: "request")]
        all_doors = doors()
        self._open, self._locked = (Gateway(all_doors, way) for way in gateways)
        self._services = [(known, sorted(model.known_operations(known.name))) for known in KNOWN]
        self._shapes = {known.name: model.load(known.name) for known in KNOWN}

    async def one(self) -> tuple[int, float, Request]:
        """Status, seconds, and what was asked."""
        request = self.request()
        gateway = self._locked if self.rand.random() < 0.1 else self._open
        began = time.perf_counter()
        answer = await gateway.handle(request)
        return answer.status, time.perf_counter() - began, request

    # --- inputs

    def request(self) -> Request:
        rand = self.rand
        if rand.random() < 0.05:
            return self._noise()
        known, operations = rand.choice(self._services)
        request = self._plain(known, rand.choice(operations))
        for _ in range(rand.randrange(4)):
            rand.choice(self._spoilers)(self, request)
        return request

    def _plain(self, known: Known, operation: str) -> Request:
        service = self._shapes[known.name]
        protocol = self.rand.choice(service.protocols)
        scope = f"000000000000/20260101/us-east-1/{known.signing}/aws4_request"
        authorization = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature={'a' * 64}"
        headers = {"host": "x", "x-amz-date": "20260101T000000Z", "authorization": authorization}
        value = self._value(service.operations[operation].input, 0)
        if protocol in ("query", "ec2"):
            headers["content-type"] = "application/x-www-form-urlencoded"
            pairs = [("Action", operation), ("Version", service.version), *_flat("", value)]
            body = "&".join(f"{quote(name)}={quote(str(one), errors='replace')}" for name, one in pairs)
            return Request("POST", "/", "", headers, body.encode())
        if protocol == "json":
            headers["x-amz-target"] = f"{service.target_prefix}.{operation}"
            return Request("POST", "/", "", headers, _json(value))
        if protocol == "rest-json":
            one = service.operations[operation]
            return Request(one.method, one.uri.replace("{", "").replace("}", ""), "", headers, _json(value))
        headers["smithy-protocol"] = "rpc-v2-cbor"
        path = f"/service/{service.target_prefix}/operation/{operation}"
        return Request("POST", path, "", headers, _cbor(value))

    def _value(self, shape: Any, depth: int) -> Any:
        """Of the shape, or not."""
        rand = self.rand
        if shape is None or depth > 5 or rand.random() < 0.05:
            return rand.choice((*_WORDS, 5, -1, 1e300, None, True, [], {}, {"a": 1}, [[[]]]))
        if shape.kind == "structure":
            names = [name for name in shape.members if rand.random() < 0.3 or name in shape.required]
            return {name: self._value(shape.members[name].shape, depth + 1) for name in names}
        if shape.kind == "list":
            return [self._value(shape.member.shape, depth + 1) for _ in range(rand.randrange(3))]
        if shape.kind == "map":
            return {
                rand.choice(_WORDS[:5]): self._value(shape.value.shape, depth + 1) for _ in range(rand.randrange(3))
            }
        return rand.choice((rand.choice(_WORDS), rand.randrange(-5, 100), "abc", "true", 1.5))

    def _noise(self) -> Request:
        rand = self.rand
        method = rand.choice(("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "X"))
        path = "/" + "".join(rand.choice("/.%aZ0~ é\\") for _ in range(rand.randrange(20)))
        query = "".join(rand.choice("&=%+aActionVersion2012-11-05.1") for _ in range(rand.randrange(40)))
        headers = {rand.choice(("authorization", "x-amz-target", "content-type", "host", "x")): rand.choice(_WORDS)}
        return Request(method, path, query, headers, rand.randbytes(rand.randrange(60)))

    # --- what is spoilt

    def _bytes(self, request: Request) -> None:
        body = bytearray(request.body)
        for _ in range(1 + self.rand.randrange(4)):
            if body:
                body[self.rand.randrange(len(body))] = self.rand.randrange(256)
        request.body = bytes(body)

    def _cut(self, request: Request) -> None:
        request.body = request.body[: self.rand.randrange(len(request.body) + 1)]

    def _doubled(self, request: Request) -> None:
        request.body += self.rand.choice((request.body, b"&" + request.body, b"\x00", b"}"))

    def _deep(self, request: Request) -> None:
        depth = self.rand.choice((10, 100, 5000))
        request.body = self.rand.choice(
            (b"[" * depth, b'{"a":' * depth, b"\x81" * depth, b"\xa1\x61a" * depth, b"a." * depth + b"=1")
        )

    def _header(self, request: Request) -> None:
        name = self.rand.choice((*request.headers, "x-amz-security-token", "x-amz-content-sha256", "content-type"))
        if self.rand.random() < 0.3:
            request.headers.pop(name, None)
        else:
            request.headers[name] = self.rand.choice((*_WORDS, "application/x-amz-json-1.0", "application/cbor"))

    def _path(self, request: Request) -> None:
        request.path += self.rand.choice(("/", "//", "/..", "/%2e%2e/%2f", "/%ff", "/a" * 50, "/{x}", "/\\"))

    def _query(self, request: Request) -> None:
        word = quote(self.rand.choice(_WORDS), errors="replace")
        request.query += self.rand.choice(
            ("&", "Action=", f"Action={word}", f"&X-Amz-Credential={word}", f"&X-Amz-Signature={word}", "%",
             f"&X-Amz-Expires={word}", f"Filter.1.Value.1={word}&Filter.1=", "Version=2012-11-05", "a.b=1&a=2", "%ff=1")
        )  # fmt: skip

    def _method(self, request: Request) -> None:
        request.method = self.rand.choice(("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"))

    _spoilers: tuple[Callable[[Fuzzer, Request], None], ...] = (
        _bytes, _bytes, _cut, _doubled, _deep, _header, _path, _query, _method
    )  # fmt: skip


def _find(key_id: str) -> Key | None:
    return Key(b"secret", key_id) if key_id.isdigit() else None


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for name, one in value.items() for pair in _flat(f"{prefix}.{name}" if prefix else name, one)]
    if isinstance(value, list):
        return [pair for index, one in enumerate(value, 1) for pair in _flat(f"{prefix}.member.{index}", one)]
    return [(prefix, value)]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "replace")


def _cbor(value: Any) -> bytes:
    try:
        return cbor2.dumps(value)
    except Exception:  # noqa: BLE001  # half a character cannot be written
        return b"\xa0"


async def fuzz(count: int, seed: int) -> Counter[int]:
    """How many answers had each status. Raises AssertionError on a 5xx, and on an input that took long."""
    fuzzer = Fuzzer(seed)
    seen: Counter[int] = Counter()
    for number in range(count):
        status, seconds, request = await fuzzer.one()
        assert 200 <= status < 500, f"input {number} of seed {seed}: {status} for {request}"
        assert seconds < SLOW_S, f"input {number} of seed {seed}: {seconds:.3f} s for {request}"
        seen[status] += 1
    return seen


if __name__ == "__main__":
    number, start = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    took = time.monotonic()
    print(dict(sorted(asyncio.run(fuzz(number, start)).items())), f"{time.monotonic() - took:.1f} s, seed {start}")
