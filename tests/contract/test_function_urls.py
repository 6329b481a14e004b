"""Function URLs over the AWS face's own HTTP server: events, answers, streams, who may call, CORS."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from minicloud.aws.credentials import open_admit
from minicloud.aws.services import BY_NAME, FUNCTION_URL
from minicloud.client.function_models import FunctionStatement, UrlCors
from minicloud.function.links.web import UrlHandler
from minicloud.function.ports import Invocation, Outcome
from tests.contract.aws_world import aws_world
from tests.contract.function_world import World, failed, function_world, packed

CODE = packed(main="def run(event, context): return event")
PUBLIC = FunctionStatement("public", "*", "lambda:InvokeFunctionUrl", url_auth="NONE")


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Site:
    world: World
    port: int
    host: str = ""

    async def __call__(self, method: str = "GET", path: str = "/", body: bytes | None = None, **headers: str) -> Reply:
        return await asyncio.to_thread(self._ask, method, path, body, headers)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        given = {"Host": self.host} | {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    async def open(self, public: bool = True, **settings: Any) -> None:
        async with self.world.client() as cloud:
            await cloud.functions.create("f", CODE, runtime="python3.11", handler="main.run")
            made = await cloud.triggers.create_url("f", auth="NONE" if public else "AWS_IAM", **settings)
            if public:
                await cloud.triggers.permit("f", PUBLIC)
            self.host = made.url.split("/")[2]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with function_world(tmp_path) as world:
        admit = open_admit()
        handler = UrlHandler(world.service, lambda request: admit(request, BY_NAME["lambda"]), lambda: 1_700_000_000.0)
        async with aws_world(others={FUNCTION_URL: handler}) as aws:
            yield Site(world, int(aws.url.rpartition(":")[2]))


def result(**fields: Any) -> Outcome:
    return Outcome(json.dumps(fields).encode())


async def test_the_event_that_a_function_is_given(site: Site) -> None:
    await site.open()
    reply = await site("POST", "/a%20b?x=1&x=2&y=", b'{"a": 1}', content_type="application/json", cookie="c=1; d=2")
    event = reply.json()
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", "/a%20b", "x=1&x=2&y=")
    assert event["queryStringParameters"] == {"x": "1,2", "y": ""} and event["cookies"] == ["c=1", "d=2"]
    assert (event["body"], event["isBase64Encoded"]) == ('{"a": 1}', False)
    context = event["requestContext"]
    assert context["http"]["method"] == "POST" and context["domainName"] == site.host
    assert (context["accountId"], context["timeEpoch"]) == ("anonymous", 1_700_000_000_000)
    binary = (await site("PUT", "/", b"\xff\x00")).json()
    assert (binary["body"], binary["isBase64Encoded"]) == ("/wA=", True)


async def test_what_a_result_means(site: Site) -> None:
    await site.open()
    runs = site.world.runs
    runs["f"] = lambda _: result(
        statusCode=201, body="aGk=", isBase64Encoded=True, cookies=["c=1"], headers={"Content-Type": "x/y", "X-A": "b"}
    )
    reply = await site()
    assert (reply.status, reply.body, reply.headers["content-type"]) == (201, b"hi", "x/y")
    assert (reply.headers["x-a"], reply.headers["set-cookie"]) == ("b", "c=1")
    runs["f"] = lambda _: Outcome(b'"text"')
    assert ((await site()).body, (await site()).headers["content-type"]) == (b'"text"', "application/json")
    for bad in (failed("Unhandled", "no"), result(statusCode="x"), result(statusCode=200, body="?", isBase64Encoded=1)):
        runs["f"] = lambda _, bad=bad: bad  # type: ignore[misc]
        reply = await site()
        assert (reply.status, reply.body) == (502, b"Internal Server Error")
    split = {"X-Bad": "a\r\nX-Worse: b", "Content-Length": "3", "Transfer-Encoding": "chunked"}
    runs["f"] = lambda _: result(statusCode=200, body="ok", headers=split)
    reply = await site()
    assert reply.body == b"ok" and "x-worse" not in reply.headers and "x-bad" not in reply.headers


async def test_who_may_call(site: Site) -> None:
    await site.open(public=False)
    assert (await site()).status == 200  # authentication is off: everybody is the default account
    scope = "111122223333/20261125/us-east-1/lambda/aws4_request"
    signed = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    reply = await site(authorization=signed)
    assert reply.status == 403 and reply.json()["Message"].startswith("Forbidden.")
    async with site.world.client() as cloud:
        await cloud.triggers.update_url("f", auth="NONE")
        assert (await site()).status == 403  # no permission for everybody yet
        await cloud.triggers.permit("f", PUBLIC)
        assert (await site()).status == 200
        await cloud.triggers.reserve("f", 0)
        assert (await site()).status == 429
    site.host = f"nobody{FUNCTION_URL}us-east-1.localhost"
    assert (await site()).status == 404


async def test_streams_with_and_without_a_prelude(site: Site) -> None:
    async def run(invocation: Invocation) -> Outcome:
        assert invocation.sink is not None
        path = json.loads(invocation.payload)["rawPath"]
        if path == "/head":
            await invocation.sink.open("application/vnd.awslambda.http-integration-response")
            await invocation.sink.write(b'{"statusCode": 418, "headers": {"X-A": "b", "content-type": "text/css"}}\0\0')
            await invocation.sink.write(b"\0\0\0\0\0\0one")
        else:
            await invocation.sink.open("text/html")
            await invocation.sink.write(b"one")
        await invocation.sink.write(b"two")
        return failed("Unhandled", "no") if path == "/broken" else Outcome(b"")

    site.world.runs["f"] = run
    await site.open(invoke_mode="RESPONSE_STREAM")
    reply = await site()
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"onetwo", "text/html")
    reply = await site(path="/head")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (418, b"onetwo", "text/css")
    assert reply.headers["x-a"] == "b"
    with pytest.raises(http.client.IncompleteRead):
        await site(path="/broken")


async def test_browsers_of_other_sites(site: Site) -> None:
    await site.open(
        cors=UrlCors(allow_origins=("https://a.test",), allow_methods=("GET",), max_age_s=60, allow_credentials=True)
    )
    preflight = await site("OPTIONS", origin="https://a.test", access_control_request_method="GET")
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, "https://a.test")
    assert preflight.headers["access-control-allow-methods"] == "GET"
    assert preflight.headers["access-control-max-age"] == "60"
    assert not site.world.environments.calls
    reply = await site(origin="https://a.test")
    assert reply.headers["access-control-allow-credentials"] == "true" and reply.status == 200
    assert "access-control-allow-origin" not in (await site(origin="https://b.test")).headers
