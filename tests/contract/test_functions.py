"""Functions by the SDK, through Locate and with tickets: every rpc, packages on disk, throttling, tenants apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minicloud.base import errors
from minicloud.base.arn import Scope
from minicloud.client.function_models import FunctionStatement, UrlCors
from minicloud.client.functions import FunctionFailed
from minicloud.function.invoking import Origin, Request
from minicloud.function.ports import Invocation, Outcome
from tests.contract.function_world import World, after, failed, function_world, packed
from tests.turns import until

OTHER = "111122223333"
CODE = packed(main="def run(event, context): return event")
MORE = packed(main="def run(event, context): return 2")
QUEUE = "arn:aws:sqs:us-east-1:000000000000:jobs"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with function_world(tmp_path) as made:
        yield made


async def test_a_function_from_its_making_to_its_end(world: World) -> None:
    async with world.client() as cloud:
        made = await cloud.functions.create(
            "f", CODE, runtime="python3.11", handler="main.run", environment={"AB": "1"}, tags={"team": "a"}
        )
        assert (made.version, made.state, made.last_update_status) == ("$LATEST", "Active", "Successful")
        assert made.code_bytes == len(CODE) and made.environment == {"AB": "1"} and made.tags == {"team": "a"}
        assert await cloud.functions.get("f") == await cloud.functions.get(made.arn) == made
        assert await cloud.functions.code("f") == CODE
        changed = await cloud.functions.update("f", memory_mib=256, revision_id=made.revision_id)
        assert (changed.memory_mib, changed.handler) == (256, "main.run")
        after_code = await cloud.functions.update_code("f", MORE, publish=True)
        assert after_code.version == "1" and after_code.arn.endswith(":f:1")
        assert len(world.packages()) == 1
        assert ("1", "") not in [(version, revision) for _, version, revision in world.environments.retired]
        await cloud.functions.create("g", CODE, runtime="provided.al2023")
        assert [one.name async for one in cloud.functions.list(page_size=1)] == ["f", "g"]
        assert [one.version async for one in cloud.functions.versions("f", page_size=1)] == ["$LATEST", "1"]
        await cloud.functions.delete("f")
        await cloud.functions.delete("g")
        assert world.packages() == []
        with pytest.raises(errors.NotFound, match="Function not found"):
            await cloud.functions.get("f")


async def test_packages_that_are_refused_leave_nothing(world: World) -> None:
    async with world.client() as cloud:
        for raw, error in (
            (b"no zip", errors.InvalidRequest),
            (b"", errors.InvalidRequest),
            (bytes(50 * 1024 * 1024 + 1), errors.MessageTooLarge),
        ):
            with pytest.raises(error):
                await cloud.functions.create("f", raw, runtime="python3.11", handler="main.run")
        with pytest.raises(errors.InvalidRequest, match=r"nodejs22\.x is not installed"):
            await cloud.functions.create("f", CODE, runtime="nodejs22.x", handler="main.run")
        with pytest.raises(errors.InvalidRequest, match="'memorySize'"):
            await cloud.functions.create("f", CODE, runtime="python3.11", handler="main.run", memory_mib=1)
        assert world.packages() == []


async def test_the_same_package_is_kept_once(world: World) -> None:
    async with world.client() as cloud:
        names = [f"f{number}" for number in range(4)]
        await asyncio.gather(
            *(cloud.functions.create(name, CODE, runtime="python3.11", handler="main.run") for name in names)
        )
        assert len(world.packages()) == 1
        await asyncio.gather(*(cloud.functions.delete(name) for name in names[1:]))
        assert len(world.packages()) == 1


async def test_an_invocation_and_its_answer(world: World) -> None:
    async with world.client() as cloud:
        await cloud.functions.create("f", CODE, runtime="python3.11", handler="main.run", publish=True)
        done = await cloud.functions.invoke("f", {"a": 1}, tail=True, client_context={"client": {}})
        assert (done.json(), done.function_error, done.status, done.version) == ({"a": 1}, "", 200, "$LATEST")
        assert done.tail == b"tail" and done.init_ms is None and len(done.request_id) == 36
        spec, invocation = world.environments.calls[-1]
        assert (spec.handler, spec.timeout_s, spec.memory_mib) == ("main.run", 3, 128)
        assert Path(spec.code.path).read_bytes() == CODE
        assert invocation.arn.endswith(":function:f") and invocation.client_context == '{"client": {}}'
        assert (await cloud.functions.invoke("f:1")).version == "1"
        assert world.environments.calls[-1][1].arn.endswith(":function:f:1")
        dry = await cloud.functions.invoke("f", dry_run=True)
        assert dry.status == 204 and len(world.environments.calls) == 2
        world.runs["f"] = lambda _: failed("Handled", "no")
        bad = await cloud.functions.invoke("f")
        assert bad.function_error == "Handled" and bad.json()["errorMessage"] == "no"


async def test_payloads_have_their_bounds(world: World) -> None:
    async with world.client() as cloud:
        await cloud.functions.create("f", CODE, runtime="python3.11", handler="main.run")
        big = b'"' + b"x" * (6 * 1024 * 1024 - 2) + b'"'
        assert (await cloud.functions.invoke("f", big)).payload == big
        with pytest.raises(errors.MessageTooLarge) as caught:
            await cloud.functions.invoke("f", big + b" ")
        assert caught.value.code == "RequestTooLargeException"
        with pytest.raises(errors.InvalidRequest) as refused:
            await cloud.functions.invoke("f", b"{")
        assert refused.value.code == "InvalidRequestContentException"
        world.runs["f"] = lambda _: Outcome(b'"' + b"x" * (6 * 1024 * 1024) + b'"')
        assert (await cloud.functions.invoke("f")).json()["errorType"] == "Function.ResponseSizeTooLarge"


async def test_concurrency_is_kept_to_and_a_caller_that_leaves_frees_nothing(world: World) -> None:
    gate = asyncio.Event()
    world.runs["f"] = lambda _: after(gate, Outcome(b"1"))
    async with world.client() as cloud:
        await cloud.functions.create("f", CODE, runtime="python3.11", handler="main.run")
        assert (await cloud.triggers.reserve("f", 1)).reserved == 1
        first = asyncio.create_task(cloud.functions.invoke("f"))
        await asyncio.wait_for(world.environments.called.wait(), 60)
        first.cancel()
        impatient = cloud.with_options(retry=0.01)
        with pytest.raises(errors.Throttled) as caught:
            await impatient.functions.invoke("f")
        assert caught.value.code == "TooManyRequestsException"
        assert caught.value.details["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        assert (await cloud.triggers.concurrency("f")).running == 1
        gate.set()
        assert (await cloud.functions.invoke("f")).payload == b"1"
        assert (await cloud.triggers.concurrency("f")).running == 0


async def test_a_response_comes_while_it_is_made(world: World) -> None:
    gate = asyncio.Event()

    async def run(invocation: Invocation) -> Outcome:
        assert invocation.sink is not None
        await invocation.sink.open("text/plain")
        await invocation.sink.write(b"one")
        await gate.wait()
        await invocation.sink.write(b"two" * 200_000)
        return failed("Unhandled", "broke") if invocation.payload else Outcome(b"")

    world.runs["f"] = run
    async with world.client() as cloud:
        await cloud.functions.create("f", CODE, runtime="python3.11", handler="main.run")
        stream = cloud.functions.invoke_stream("f")
        assert await anext(stream) == b"one"
        gate.set()
        assert b"".join([chunk async for chunk in stream]) == b"two" * 200_000
        with pytest.raises(FunctionFailed, match="broke"):
            async for _ in cloud.functions.invoke_stream("f", 1):
                pass


async def test_versions_aliases_and_their_shares(world: World) -> None:
    async with world.client() as cloud:
        await cloud.functions.create("f", CODE, runtime="python3.11", handler="main.run", publish=True)
        await cloud.functions.update_code("f", MORE)
        second = await cloud.functions.publish("f", description="two")
        assert (second.version, second.description) == ("2", "two")
        made = await cloud.functions.create_alias("f", "prod", "1", weights={"2": 1.0})
        assert (await cloud.functions.invoke("f:prod")).version == "2"
        changed = await cloud.functions.update_alias("f", "prod", weights={}, revision_id=made.revision_id)
        assert (changed.weights, changed.version) == ({}, "1")
        assert (await cloud.functions.invoke("f:prod")).version == "1"
        assert await cloud.functions.aliases("f") == (changed,)
        kept = await cloud.triggers.provision("f:prod", 2)
        while kept.provisioned[0].status == "IN_PROGRESS":
            kept = await cloud.triggers.concurrency("f")
        assert (kept.provisioned[0].requested, kept.provisioned[0].available) == (2, 2)
        assert world.environments.prepared[f"{made.arn.removesuffix('prod')}1"] == 2
        await cloud.functions.update_alias("f", "prod", version="2")  # what is kept warm moves along
        prepared = world.environments.prepared
        await until(lambda: (prepared[f"{made.arn.removesuffix('prod')}1"], prepared.get(second.arn)) == (0, 2))
        assert (await cloud.triggers.provision("f:prod", None)).provisioned == ()
        await until(lambda: prepared[second.arn] == 0)
        await cloud.functions.delete_alias("f", "prod")
        assert await cloud.functions.aliases("f") == ()


async def test_permissions_urls_and_event_settings(world: World) -> None:
    async with world.client() as cloud:
        await cloud.functions.create("f", CODE, runtime="python3.11", handler="main.run")
        assert (await cloud.triggers.policy("f")).statements == ()
        statement = FunctionStatement("s", "sns.amazonaws.com", source_arn="arn:aws:sns:us-east-1:000000000000:t")
        policy = await cloud.triggers.permit("f", statement)
        assert policy.statements == (statement,) and '"Sid":"s"' in policy.document
        assert (await cloud.triggers.forbid("f", "s")).statements == ()
        url = await cloud.triggers.create_url("f", auth="NONE", cors=UrlCors(allow_origins=("*",)))
        assert url.url.endswith(".lambda-url.test/") and url.invoke_mode == "BUFFERED"
        changed = await cloud.triggers.update_url("f", invoke_mode="RESPONSE_STREAM")
        assert changed.invoke_mode == "RESPONSE_STREAM" and changed.cors == url.cors
        assert await cloud.triggers.urls("f") == (changed,)
        await cloud.triggers.delete_url("f")
        config = await cloud.triggers.set_event_invoke("f", retries=1, on_failure=QUEUE)
        assert (config.retries, config.age_s, config.on_failure) == (1, None, QUEUE)
        assert await cloud.triggers.event_invokes("f") == (config,)
        await cloud.triggers.delete_event_invoke("f")


async def test_mappings_schedules_layers_and_tags(world: World) -> None:
    async with world.client() as cloud:
        made = await cloud.functions.create("f", CODE, runtime="python3.11", handler="main.run")
        mapping = await cloud.triggers.map("f", QUEUE, batch_size=5, filters=['{"body": ["a"]}'], enabled=False)
        assert (mapping.batch_size, mapping.state, mapping.concurrency) == (5, "Disabled", 0)
        changed = await cloud.triggers.update_mapping(mapping.uuid, concurrency=2, report_failures=True)
        assert (changed.concurrency, changed.report_failures, changed.batch_size) == (2, True, 5)
        assert await cloud.triggers.mappings("f") == await cloud.triggers.mappings(queue_arn=QUEUE) == (changed,)
        assert await cloud.functions.tag(mapping.arn, {"a": "b"}) == {"a": "b"}
        await cloud.triggers.unmap(mapping.uuid)
        schedule = await cloud.triggers.schedule("s", "rate(1 hour)", "f", input='{"a": 1}', disabled=True)
        assert await cloud.triggers.schedules("f") == (schedule,) and schedule.next_time is not None
        await cloud.triggers.unschedule("s")
        layer = await cloud.functions.publish_layer("libs", MORE, runtimes=["python3.11"])
        assert await cloud.functions.layers() == await cloud.functions.layer_versions("libs") == (layer,)
        assert (await cloud.functions.update("f", layers=[layer.arn])).layers == (layer.arn,)
        await cloud.functions.invoke("f")
        assert world.environments.calls[-1][0].layers[0].path.startswith(str(world.folder))
        await cloud.functions.update("f", layers=[])
        await cloud.functions.delete_layer("libs", 1)
        assert await cloud.functions.tag(made.arn, {"a": "b"}) == {"a": "b"}
        assert await cloud.functions.untag(made.arn, "a") == {}


async def test_what_is_on_disk_is_there_again(tmp_path: Path) -> None:
    async with function_world(tmp_path) as world, world.client() as cloud:
        made = await cloud.functions.create("f", CODE, runtime="python3.11", handler="main.run")
        (tmp_path / "packages" / ("0" * 64)).write_bytes(b"left by a crash")
    async with function_world(tmp_path) as world, world.client() as cloud:
        assert await cloud.functions.get("f") == made
        assert await cloud.functions.code("f") == CODE
        assert len(world.packages()) == 1


async def test_another_account_sees_and_reaches_nothing(world: World) -> None:
    async with world.client() as mine, world.client(OTHER) as theirs:
        made = await mine.functions.create("f", CODE, runtime="python3.11", handler="main.run")
        await mine.triggers.map("f", QUEUE, enabled=False)
        await mine.triggers.schedule("s", "rate(1 hour)", "f", disabled=True)
        layer = await mine.functions.publish_layer("libs", MORE)
        assert [one async for one in theirs.functions.list()] == []
        assert await theirs.triggers.mappings() == () and await theirs.triggers.schedules() == ()
        assert await theirs.functions.layers() == ()
        for name in ("f", made.arn):
            for call in (
                theirs.functions.get(name),
                theirs.functions.code(name),
                theirs.functions.invoke(name),
                theirs.functions.update(name, memory_mib=256),
                theirs.functions.delete(name),
                theirs.triggers.policy(name),
                theirs.triggers.create_url(name),
                theirs.functions.tag(made.arn, {"a": "b"}),
            ):
                with pytest.raises(errors.NotFound):
                    await call
        with pytest.raises(errors.InvalidRequest, match="does not exist"):
            await theirs.functions.create("g", CODE, runtime="python3.11", handler="main.run", layers=[layer.arn])
        assert (await mine.functions.get("f")) == made


async def test_a_service_needs_a_permission(world: World) -> None:
    topic = "arn:aws:sns:us-east-1:000000000000:news"
    asked = Request(Scope(), "f", b"{}", origin=Origin("sns.amazonaws.com", topic))
    async with world.client() as cloud:
        await cloud.functions.create("f", CODE, runtime="python3.11", handler="main.run")
        for call in (world.service.invoke, world.service.accept):
            with pytest.raises(errors.AccessDenied) as caught:
                await call(asked)
            assert caught.value.code == "AccessDeniedException"
        await cloud.triggers.permit("f", FunctionStatement("s", "sns.amazonaws.com", source_arn=topic + "2"))
        with pytest.raises(errors.AccessDenied):
            await world.service.invoke(asked)
        await cloud.triggers.permit("f", FunctionStatement("t", "sns.amazonaws.com", source_arn=topic))
        assert (await world.service.invoke(asked)).version == "$LATEST"
