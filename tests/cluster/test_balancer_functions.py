"""Functions as targets, from a client's connection through a real HAProxy to an invocation and back."""

from __future__ import annotations

import asyncio
import http.client
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from minicloud.balancer import attributes
from minicloud.balancer import commands as ask
from minicloud.balancer.access import Entries
from minicloud.balancer.commands import HealthSpec, TargetSpec
from minicloud.balancer.model import Balancer, Group
from minicloud.balancer.ports import NoFunctions, Way
from minicloud.base.arn import Scope
from minicloud.base.errors import AccessDenied, CloudError, NotFound
from minicloud.client.function_models import FunctionStatement
from minicloud.cloud_target_functions import FunctionTargets
from minicloud.function.links.balanced import PRINCIPAL, TargetHandler
from minicloud.function.ports import Invocation, Outcome
from minicloud.rpc import function_target
from minicloud.rpc.function_target import HEADER, FunctionTarget
from tests.cluster.balancer_world import HOME, World, forward, until
from tests.contract.aws_world import aws_world
from tests.contract.function_world import KeptReports, failed, function_world, packed
from tests.contract.function_world import World as FunctionWorld

pytestmark = pytest.mark.timeout(300)
SECRET = b"s" * 32
CODE = packed(main="def run(event, context): return event")
F = "arn:aws:lambda:us-east-1:000000000000:function:f"
G = F[:-1] + "g"


class Ways(NoFunctions):
    """Implements balancer.ports.Functions: everything goes to one port."""

    port = 0

    async def admit(self, scope: Scope, group: str, function: str) -> None:
        if function.endswith(":nobody"):
            raise NotFound(f"Function not found: {function}", code="InvalidTarget")

    def way(self, scope: Scope, names: tuple[str, str, str], multi: bool) -> Way:
        return Way("127.0.0.1", self.port, HEADER, function_target.word(SECRET, FunctionTarget(*names, multi=multi)))


@dataclass
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Site:
    balancing: World
    functions: FunctionWorld
    balancer: Balancer
    group: Group
    reports: KeptReports

    async def __call__(self, method: str = "GET", path: str = "/", body: bytes | None = None, **headers: str) -> Reply:
        return await asyncio.to_thread(self._ask, (self.balancer.address, 8080), (method, path, body), headers)

    def _ask(self, where: tuple[str, int], what: tuple[str, str, bytes | None], headers: dict[str, str]) -> Reply:
        method, path, body = what
        connection = http.client.HTTPConnection(*where, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", "app.example")
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            for name, value in headers.items():
                for one in value.split("|"):
                    connection.putheader(name.replace("_", "-"), one)
            connection.endheaders(body)
            answer = connection.getresponse()
            return Reply(answer.status, [(name.lower(), value) for name, value in answer.getheaders()], answer.read())
        finally:
            connection.close()

    async def permit(self, function: str = "f") -> None:
        async with self.functions.client() as cloud:
            await cloud.triggers.permit(function, FunctionStatement("elb", PRINCIPAL, source_arn=self.group.arn))

    async def register(self, function: str = F) -> None:
        await self.balancing.service.served(ask.RegisterTargets(HOME, self.group.arn, (TargetSpec(function),)))

    def metrics(self) -> Counter[str]:
        """Of the target group, all that was ever reported."""
        self.reports.report(self.functions.service.meter.report(0.0))
        found = Counter[str]()
        whole = ("LoadBalancer", self.balancer.arn.split(":loadbalancer/")[1])
        for report in self.reports.kept:
            if report.namespace == "AWS/ApplicationELB" and report.dimensions[0] == whole:
                found.update({one.name: int(sum(one.values)) for one in report.readings})
        return found


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(prefix="mcf-") as folder:
        Path(folder, "f").mkdir()
        reports = KeptReports()
        async with function_world(Path(folder, "f"), reports) as functions:
            handler = TargetHandler(functions.service, lambda text: function_target.read(SECRET, text))
            async with aws_world(others={HEADER.lower(): handler}) as aws:
                ways = Ways()
                ways.port = int(aws.url.rpartition(":")[2])
                balancing = await World(Path(folder), functions=ways).start()
                async with functions.client() as cloud:
                    for name in ("f", "g"):
                        await cloud.functions.create(name, CODE, runtime="python3.11", handler="main.run")
                web = await balancing.balancer()
                made = await balancing.service.submit(ask.CreateGroup(HOME, "f", "", 0, target_type="lambda"))
                await balancing.listener(web, forward(made))
                yield Site(balancing, functions, web, made, reports)
                await balancing.close()


def says(**result: Any) -> Outcome:
    return Outcome(json.dumps({"statusCode": 200, **result}).encode())


def echo(invocation: Invocation) -> Outcome:
    return says(body=invocation.payload.decode(), headers={"content-type": "application/json", "X-From": "f"})


async def test_a_request_becomes_an_event_and_its_result_the_answer(site: Site) -> None:
    site.functions.runs["f"] = echo
    assert (await site()).status == 503, "a group without a target"
    await site.permit()
    await site.register()
    assert site.balancing.health(site.group) == ["unavailable Target.HealthCheckDisabled"]
    reply = await site("POST", "/a%20b?x=1&x=%202", b'{"a": 1}', content_type="application/json", x_a="1|2")
    event = reply.json()
    assert (reply.status, dict(reply.headers)["x-from"]) == (200, "f")
    assert event["requestContext"] == {"elb": {"targetGroupArn": site.group.arn}}
    assert (event["httpMethod"], event["path"], event["body"]) == ("POST", "/a%20b", '{"a": 1}')
    assert event["queryStringParameters"] == {"x": "%202"} and event["headers"]["x-a"] == "2"
    assert event["headers"]["host"] == "app.example" and event["headers"]["x-forwarded-port"] == "8080"
    assert event["headers"]["x-forwarded-for"].startswith("127.") and "x-amzn-trace-id" in event["headers"]
    assert HEADER.lower() not in event["headers"]
    assert (await site("PUT", "/", b"\xff\x00")).json()["body"] == "/wA="
    assert site.metrics()["LambdaTargetProcessedBytes"] > 0


async def test_each_value_is_told_where_the_group_says_so(site: Site) -> None:
    cookies = {"Set-Cookie": ["a=1", "b=2"]}
    site.functions.runs["f"] = lambda one: says(body=one.payload.decode(), multiValueHeaders=cookies)
    await site.permit()
    await site.register()
    await site.balancing.attributes(site.group.arn, **{attributes.MULTI_VALUE.replace(".", "__"): "true"})
    reply = await site(path="/?x=1&x=2", x_a="1|2")
    assert reply.json()["multiValueHeaders"]["x-a"] == ["1", "2"]
    assert reply.json()["multiValueQueryStringParameters"] == {"x": ["1", "2"]}
    assert [value for name, value in reply.headers if name == "set-cookie"] == ["a=1", "b=2"]


async def test_what_a_function_does_wrong_is_a_502_and_is_counted(site: Site) -> None:
    await site.register()
    assert (await site()).status == 502, "nobody let the group invoke it"
    await site.permit()
    wrongs: list[Outcome] = [failed("Unhandled", "no"), failed("Handled", "no"), Outcome(b'"x"'), Outcome(b"{")]
    wrongs.append(says(body="x" * 1024 * 1024))
    for outcome in wrongs:
        site.functions.runs["f"] = lambda _, outcome=outcome: outcome
        reply = await site()
        assert (reply.status, b"502 Bad Gateway" in reply.body) == (502, True)
    async with site.functions.client() as cloud:
        await cloud.triggers.reserve("f", 0)
        assert (await site()).status == 502, "throttled"
        await cloud.functions.delete("f")
        assert (await site()).status == 502, "gone"
    assert (await site("POST", "/", b"\xff", content_type="text/plain")).status == 502
    assert site.metrics() == {"LambdaUserError": 9}


async def test_what_a_client_may_not_send(site: Site) -> None:
    site.functions.runs["f"] = echo
    await site.permit()
    await site.register()
    assert (await site("POST", "/", b"x" * (1024 * 1024 + 1))).status == 413
    assert (await site("POST", "/", b"x" * 1024 * 1024)).status == 502, "the answer is too large, the request is not"
    assert (await site(Connection="Upgrade", Upgrade="websocket")).status == 400
    calls = len(site.functions.environments.calls)
    said = (await site(X_Minicloud_Target=f"single b {site.group.arn} {F}2 seal")).json()
    assert said["requestContext"]["elb"]["targetGroupArn"] == site.group.arn, "a client's own word is not heard"
    assert len(site.functions.environments.calls) == calls + 1


async def test_nobody_speaks_for_a_balancer_without_the_secret(site: Site) -> None:
    site.functions.runs["f"] = echo
    await site.permit()
    way = site.balancing.service._work.functions.way(HOME, (site.balancer.arn, site.group.arn, F), False)
    ask_directly = lambda proof: site._ask(("127.0.0.1", way.port), ("GET", "/", None), {HEADER: proof})  # noqa: E731
    assert (await asyncio.to_thread(ask_directly, way.proof)).status == 200
    other, multi = way.proof.replace(F, F + "2"), way.proof.replace("single", "multi")
    for wrong in (way.proof + "x", multi, way.proof[:-9], "ü", other):
        assert (await asyncio.to_thread(ask_directly, wrong)).status == 403


async def test_another_function_takes_over_and_one_that_is_none_is_refused(site: Site) -> None:
    site.functions.runs["f"] = lambda _: says(body="one")
    site.functions.runs["g"] = lambda _: says(body="two")
    await site.permit()
    await site.permit("g")
    await site.register()
    assert (await site()).body == b"one"
    with pytest.raises(CloudError, match="TooManyTargets"):
        await site.register(G)
    with pytest.raises(CloudError, match="InvalidTarget"):
        await site.register(F + ":nobody")
    held, release = asyncio.Event(), asyncio.Event()

    async def slow(_: Invocation) -> Outcome:
        held.set()
        await release.wait()
        return says(body="late")

    site.functions.runs["f"] = slow
    last = asyncio.create_task(site())
    await held.wait()
    await site.balancing.service.served(ask.DeregisterTargets(HOME, site.group.arn, (TargetSpec(F),)))
    assert (await site()).status == 503
    await site.register(G)
    assert (await site()).body == b"two"
    release.set()
    assert (await last).body == b"late", "what was in flight is answered"


async def test_a_function_is_checked_where_the_group_says_so(site: Site) -> None:
    healthy = [200]

    def run(invocation: Invocation) -> Outcome:
        event = json.loads(invocation.payload)
        is_check = event["headers"].get("user-agent") == "ELB-HealthChecker/2.0" and event["path"] == "/up"
        return says(statusCode=healthy[0] if is_check else 200, body="up")

    site.functions.runs["f"] = run
    await site.permit()
    await site.register()
    spec = HealthSpec(enabled=True, path="/up", interval_s=5, timeout_s=2, healthy=2, unhealthy=2)
    await site.balancing.service.served(ask.ModifyGroup(HOME, site.group.arn, spec))
    await until(lambda: site.balancing.health(site.group) == ["healthy"])
    healthy[0] = 404
    await until(lambda: site.balancing.health(site.group) == ["unhealthy Target.ResponseCodeMismatch"])
    assert (await site()).body == b"up", "open when there is no other"
    await site.balancing.service.served(ask.ModifyGroup(HOME, site.group.arn, HealthSpec(enabled=False)))
    assert site.balancing.health(site.group) == ["unavailable Target.HealthCheckDisabled"]
    assert (await site()).status == 200


async def test_an_access_log_says_that_a_function_is_at_no_address(site: Site) -> None:
    site.functions.runs["f"] = echo
    await site.permit()
    await site.register()
    told: Entries = {}
    site.balancing.service.on_access = told.update
    await site.balancing.attributes(site.balancer.arn, access_logs__s3__enabled="true", access_logs__s3__bucket="logs")
    assert (await site(path="/said")).status == 200
    await until(lambda: bool(told))
    ((_, ((_, line),)),) = told.items()
    words = line.split(" ")
    assert (words[4], words[8], words[9]) == ("-", "200", "200") and site.group.arn in words
    way = site.balancing.service._work.functions.way(HOME, ("", "", ""), False)
    assert f":{way.port}" not in line


@pytest.mark.parametrize(
    ("error", "code"), [(NotFound("no"), "InvalidTarget"), (AccessDenied("no"), "AccessDenied"), (None, "")]
)
async def test_registering_asks_the_function(error: CloudError | None, code: str) -> None:
    asked = []

    class Stub:
        async def shard(self, _of: Any, _scope: Scope, method: str, request: Any, reply: Any) -> Any:
            asked.append((method, request.function, request.type, request.principal, request.source_arn))
            if error:
                raise error
            return reply()

    targets = FunctionTargets(None, SECRET, Stub())  # type: ignore[arg-type]
    if error is None:
        await targets.admit(HOME, "tg", F)
    else:
        with pytest.raises(CloudError, match=F) as caught:
            await targets.admit(HOME, "tg", F)
        assert caught.value.code == code
    assert asked == [("FunctionService/Invoke", F, "DryRun", PRINCIPAL, "tg")]
