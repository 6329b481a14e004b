"""The SDK's manners against a server that does what each test says: deadlines, retries, errors, paging, waiting."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from minicloud import AsyncClient, Client
from minicloud.base import errors
from minicloud.client import aio, balancer_models, config, convert, generate, models
from minicloud.client.sync import client as sync_client
from minicloud.wire import (
    balancer_pb2,
    catalog_pb2,
    common_pb2,
    host_pb2,
    identity_pb2,
    instance_pb2,
    queue_pb2,
    topic_pb2,
)
from tests.contract.fake_cloud import Call, FakeCloud


@pytest.fixture
def client(fake_cloud: FakeCloud) -> Iterator[Client]:
    with Client(fake_cloud.address) as made:
        yield made


def instance(**fields: Any) -> instance_pb2.Instance:
    return instance_pb2.Instance(**{"id": "i-1", "state": "running", **fields})


# ---------------------------------------------------------------- errors, retries, deadlines


def test_an_error_comes_back_as_the_class_that_was_raised(fake_cloud: FakeCloud, client: Client) -> None:
    def refuse(request: Any, call: Call) -> None:
        raise errors.InvalidParameterValue("no such type", code="InvalidInstanceType", field="instance_type")

    fake_cloud.on("InstanceService/Launch", refuse)
    with pytest.raises(errors.InvalidParameterValue) as caught:
        client.instances.launch("t9.micro")
    assert (caught.value.code, caught.value.field) == ("InvalidInstanceType", "instance_type")
    assert caught.value.details["request_id"] == "request-1"
    assert len(fake_cloud.seen("InstanceService/Launch")) == 1


def test_unavailable_is_retried_and_the_launch_keeps_its_token(fake_cloud: FakeCloud, client: Client) -> None:
    def third_time(request: Any, call: Call) -> instance_pb2.LaunchResponse:
        if len(fake_cloud.calls) < 3:
            raise errors.Unavailable("restarting")
        return instance_pb2.LaunchResponse(instances=[instance(state="pending")])

    fake_cloud.on("InstanceService/Launch", third_time)
    assert [item.state for item in client.instances.launch("t3.micro")] == ["pending"]
    tokens = {call.request.client_token for call in fake_cloud.calls}
    assert len(fake_cloud.calls) == 3 and len(tokens) == 1 and len(tokens.pop()) == 32


def test_what_is_not_safe_to_repeat_is_not_repeated(fake_cloud: FakeCloud, client: Client) -> None:
    def away(request: Any, call: Call) -> None:
        raise errors.Unavailable("restarting")

    for method in ("InstanceService/Reboot", "ImageService/Create", "IdentityService/CreateAccessKey"):
        fake_cloud.on(method, away)
    for work in (
        lambda: client.instances.reboot("i-1"),
        lambda: client.images.create("i-1", "mine"),
        client.identity.create_access_key,
    ):
        with pytest.raises(errors.Unavailable):
            work()
    assert len(fake_cloud.calls) == 3


def test_retries_end_with_their_time(fake_cloud: FakeCloud) -> None:
    def away(request: Any, call: Call) -> None:
        raise errors.Unavailable("restarting")

    fake_cloud.on("HostService/Get", away)
    with Client(fake_cloud.address, retry=0.3) as client, pytest.raises(errors.Unavailable, match="restarting"):
        client.hosts.get("host-a")
    assert 2 <= len(fake_cloud.calls) < 50


def test_an_endpoint_where_nobody_listens_fails_soon(fake_cloud: FakeCloud) -> None:
    address = fake_cloud.address
    fake_cloud.stop()
    with Client(address, retry=0.5) as client, pytest.raises(errors.Unavailable):
        client.identity.whoami()


def test_a_client_outlives_a_restart_of_the_server(fake_cloud: FakeCloud, client: Client) -> None:
    fake_cloud.on("HostService/Get", lambda request, call: host_pb2.Host(id="h-1", name=request.host_id))
    assert client.hosts.get("host-a").name == "host-a"
    port = int(fake_cloud.address.rpartition(":")[2])
    fake_cloud.stop()
    fake_cloud.start(port)
    assert client.hosts.get("host-b").name == "host-b"


def test_a_call_has_one_deadline_with_all_its_retries(fake_cloud: FakeCloud, client: Client) -> None:
    async def never(request: Any, call: Call) -> None:
        await asyncio.Event().wait()

    fake_cloud.on("HostService/Get", never)
    with pytest.raises(errors.DeadlineExceeded):
        client.with_options(timeout=0.2).hosts.get("host-a")
    assert fake_cloud.calls[0].context.time_remaining() <= 0.2
    assert client.config.timeout_s == 30


def test_a_deadline_of_the_server_reaches_it(fake_cloud: FakeCloud, client: Client) -> None:
    seen: list[float] = []

    def remaining(request: Any, call: Call) -> host_pb2.Host:
        seen.append(call.context.time_remaining())
        return host_pb2.Host()

    fake_cloud.on("HostService/Get", remaining)
    client.hosts.get("host-a")
    assert 25 < seen[0] < 30.5  # the wire rounds it up


def test_credentials_and_region_travel_with_every_call(fake_cloud: FakeCloud) -> None:
    fake_cloud.on("IdentityService/WhoAmI", lambda request, call: identity_pb2.WhoAmIResponse(account="1" * 12))
    with Client(fake_cloud.address, access_key_id="AKIA1", secret_access_key="s3cret", region="eu-west-1") as client:
        assert client.identity.whoami().account == "1" * 12
        assert "s3cret" not in repr(client.config)
    metadata = fake_cloud.calls[0].metadata
    assert metadata["authorization"] == "Bearer AKIA1:s3cret"
    assert metadata["x-minicloud-region"] == "eu-west-1"


def test_a_foreign_refusal_is_typed_too(fake_cloud: FakeCloud, client: Client) -> None:
    async def plain(request: Any, call: Call) -> None:
        await call.context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)")

    fake_cloud.on("HostService/Get", plain)
    with pytest.raises(errors.MessageTooLarge):
        client.hosts.get("host-a")


# ---------------------------------------------------------------- paging, launching, waiting


def _pages(total: int) -> Any:
    def page(request: Any, call: Call) -> instance_pb2.ListInstancesResponse:
        start = int(request.page_token or 0)
        end = min(start + request.page_size, total)
        items = [instance(id=f"i-{number}") for number in range(start, end)]
        return instance_pb2.ListInstancesResponse(instances=items, next_page_token=str(end) if end < total else "")

    return page


def test_lists_fetch_their_pages_as_they_are_needed(fake_cloud: FakeCloud, client: Client) -> None:
    fake_cloud.on("InstanceService/List", _pages(25))
    listed = client.instances.list(page_size=10)
    assert next(listed).id == "i-0"
    assert len(fake_cloud.calls) == 1
    assert [item.id for item in listed] == [f"i-{number}" for number in range(1, 25)]
    assert len(fake_cloud.calls) == 3


def test_filters_take_one_value_or_several(fake_cloud: FakeCloud, client: Client) -> None:
    fake_cloud.on("InstanceService/List", _pages(0))
    filters = {"instance-state-name": ["running", "pending"], "tag:Name": "web*"}
    assert list(client.instances.list(filters=filters)) == []
    sent = {item.name: list(item.values) for item in fake_cloud.calls[0].request.filters}
    assert sent == {"instance-state-name": ["running", "pending"], "tag:Name": ["web*"]}


def test_launch_sends_what_was_asked_and_leaves_the_rest_to_the_template(fake_cloud: FakeCloud, client: Client) -> None:
    fake_cloud.on("InstanceService/Launch", lambda request, call: instance_pb2.LaunchResponse())
    client.instances.launch("t3.micro", count=3, tags={"a": "b"}, zone="us-east-1b", http_tokens="required")
    client.instances.launch(template="web", template_version="$Latest")
    client.instances.launch("t3.micro", "ami-1", template="lt-0123456789abcdef0", min_count=2, max_count=5)
    first, second, third = (call.request for call in fake_cloud.calls)
    assert (first.image_id, first.min_count, first.max_count, first.placement.zone) == ("base", 3, 3, "us-east-1b")
    assert first.metadata_options.http_tokens == "required" and dict(first.tags) == {"a": "b"}
    assert (second.image_id, second.launch_template.name, second.launch_template.version) == ("", "web", "$Latest")
    assert not second.HasField("placement") and not second.HasField("metadata_options")
    assert (third.image_id, third.launch_template.id) == ("ami-1", "lt-0123456789abcdef0")
    assert (third.min_count, third.max_count) == (2, 5)


@pytest.mark.parametrize(
    ("options", "field"),
    [({"count": 2, "max_count": 3}, "count"), ({"template_version": "1"}, "template_version")],
)
def test_contradictions_are_refused_before_the_wire(client: Client, options: Any, field: str) -> None:
    with pytest.raises(errors.InvalidParameterCombination) as caught:
        client.instances.launch("t3.micro", **options)
    assert caught.value.field == field


def _story(*states: dict[str, Any]) -> Any:
    async def watch(request: Any, call: Call) -> AsyncIterator[instance_pb2.Instance]:
        for fields in states:
            yield instance(id=request.instance_ids[0], **fields)
        await asyncio.Event().wait()

    return watch


def test_launch_waits_for_user_data(fake_cloud: FakeCloud, client: Client) -> None:
    fake_cloud.on("InstanceService/Launch", lambda r, c: instance_pb2.LaunchResponse(instances=[instance()]))
    story = [{"state": "pending"}, {"user_data_status": "running"}, {"user_data_status": "failed", "user_data_exit": 3}]
    fake_cloud.on("InstanceService/Watch", _story(*story))
    (ready,) = client.instances.launch("t3.micro", user_data="#!/bin/sh\nexit 3", wait=True)
    assert (ready.state, ready.user_data_status, ready.user_data_exit) == ("running", "failed", 3)


def test_waiting_ends_where_the_state_cannot_come(fake_cloud: FakeCloud, client: Client) -> None:
    reason = common_pb2.Reason(code="Server.HostFailure", message="the host is gone")
    fake_cloud.on("InstanceService/Watch", _story({"state": "pending"}, {"state": "stopped", "state_reason": reason}))
    seen: list[str] = []
    with pytest.raises(errors.IncorrectState, match=r"Server\.HostFailure") as caught:
        client.instances.wait_until("i-1", "running", on_change=lambda item: seen.append(item.state))
    assert caught.value.details == {"instance_id": "i-1", "state": "stopped", "reason": "Server.HostFailure"}
    assert seen == ["pending", "stopped"]


def test_waiting_ends_with_its_time(fake_cloud: FakeCloud, client: Client) -> None:
    fake_cloud.on("InstanceService/Watch", _story({"state": "pending"}))
    with pytest.raises(errors.DeadlineExceeded, match="i-1"):
        client.instances.wait_until("i-1", "running", timeout=0.2)
    with pytest.raises(errors.InvalidParameterValue):
        client.instances.wait_until("i-1", "asleep")


def test_a_watch_goes_on_after_the_server_was_away_and_repeats_nothing(fake_cloud: FakeCloud, client: Client) -> None:
    async def broken(request: Any, call: Call) -> AsyncIterator[instance_pb2.Instance]:
        yield instance(state="pending")
        if len(fake_cloud.calls) == 1:
            raise errors.Unavailable("restarting")
        yield instance(state="running")
        await asyncio.Event().wait()

    fake_cloud.on("InstanceService/Watch", broken)
    watch = client.instances.watch(["i-1"])
    assert [next(watch).state, next(watch).state] == ["pending", "running"]
    assert len(fake_cloud.calls) == 2
    watch.close()  # type: ignore[attr-defined]


def test_leaving_a_watch_ends_the_stream_at_the_server(fake_cloud: FakeCloud, client: Client) -> None:
    import threading

    ended = threading.Event()

    async def watch(request: Any, call: Call) -> AsyncIterator[instance_pb2.Instance]:
        try:
            yield instance()
            await asyncio.Event().wait()
        finally:
            ended.set()

    fake_cloud.on("InstanceService/Watch", watch)
    for item in client.instances.watch(["i-1"]):
        assert item.id == "i-1"
        break
    assert ended.wait(10)


def test_an_interrupt_while_waiting_ends_the_stream_in_order(fake_cloud: FakeCloud) -> None:
    fake_cloud.on("InstanceService/Watch", _story({"state": "pending"}))
    code = (
        "import signal, sys\nfrom minicloud import Client\n"
        "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
        f"for _ in range(20):\n    with Client('{fake_cloud.address}') as client:\n"
        "        try:\n            for item in client.instances.watch(['i-1']):\n"
        "                signal.setitimer(signal.ITIMER_REAL, 0.005)\n"
        "        except KeyboardInterrupt:\n            sys.stdout.write('interrupted ')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.stdout.split(), ran.stderr) == (["interrupted"] * 20, "")


async def test_the_async_client_does_the_same(fake_cloud: FakeCloud) -> None:
    fake_cloud.on("InstanceService/List", _pages(3))
    async with AsyncClient(fake_cloud.address) as client:
        found = [item.id async for item in client.instances.list(page_size=2)]
        with pytest.raises(errors.NotFound):
            await client.instances.get("i-9")
    assert found == ["i-0", "i-1", "i-2"]


def test_modify_sends_only_what_changes(fake_cloud: FakeCloud, client: Client) -> None:
    fake_cloud.on("InstanceService/Modify", lambda request, call: instance())
    client.instances.modify("i-1", termination_protection=False)
    sent = fake_cloud.calls[0].request
    assert sent.HasField("termination_protection") and not sent.termination_protection
    assert not sent.HasField("instance_type") and not sent.HasField("metadata_options")
    with pytest.raises(errors.InvalidParameterCombination):
        client.instances.modify("i-1")


def test_an_image_is_registered_as_a_stream_of_its_file(fake_cloud: FakeCloud, client: Client, tmp_path: Any) -> None:
    content = bytes(range(256)) * 4096  # 1 MiB: four chunks
    (tmp_path / "files.tar").write_bytes(content)

    async def register(parts: Any, call: Call) -> catalog_pb2.Image:
        got = [part async for part in parts]
        assert got[0].header.name == "mine"
        assert b"".join(part.chunk for part in got[1:]) == content
        return catalog_pb2.Image(id="ami-1", size_bytes=len(content))

    fake_cloud.on("ImageService/Register", register)
    assert client.images.register("mine", tmp_path / "files.tar").size_bytes == len(content)


def test_waiting_for_an_image_tells_why_it_failed(fake_cloud: FakeCloud, client: Client) -> None:
    states = ["pending", "failed"]

    async def watch(request: catalog_pb2.GetImageRequest, call: Call) -> AsyncIterator[catalog_pb2.Image]:
        for state in states:
            yield catalog_pb2.Image(id=request.image_id, state=state, state_reason="no room")
        await asyncio.Event().wait()

    fake_cloud.on("ImageService/Watch", watch)
    with pytest.raises(errors.IncorrectState, match="no room"):
        client.images.wait_available("ami-1")
    states = ["pending", "available"]
    assert client.images.wait_available("ami-2").id == "ami-2"
    states = ["pending"]
    with pytest.raises(errors.DeadlineExceeded, match="ami-3"):
        client.images.wait_available("ami-3", timeout=0.2)


# ---------------------------------------------------------------- settings


def test_settings_argument_before_environment_before_default() -> None:
    env = {"MINICLOUD_ENDPOINT": "cloud.example:99", "MINICLOUD_CA": "", "AWS_REGION": "eu-west-1"}
    assert config.resolve(env={}).address == "127.0.0.1:7077"
    assert config.resolve(env=env).address == "cloud.example:99"
    assert config.resolve("localhost", env=env).address == "localhost:7077"
    assert config.resolve(env=env).region == "eu-west-1"
    assert config.resolve(env={**env, "MINICLOUD_REGION": "us-west-2"}).region == "us-west-2"
    assert config.resolve("https://cloud.example", env={}) == config.ClientConfig("cloud.example:7077", tls=True)
    assert config.resolve("[::1]:70", env={}).address == "[::1]:70"


@pytest.mark.parametrize(
    ("endpoint", "options", "env", "field"),
    [
        ("ftp://x", {}, {}, "endpoint"),
        ("host:99999", {}, {}, "endpoint"),
        ("host:1/path", {}, {}, "endpoint"),
        ("a b", {}, {}, "endpoint"),
        ("127.0.0.1", {"access_key_id": "AKIA"}, {"MINICLOUD_SECRET_ACCESS_KEY": "x"}, "secret_access_key"),
        ("127.0.0.1", {"region": "eu\nwest"}, {}, "region"),
        ("127.0.0.1", {"ca": "/does/not/exist"}, {}, "ca"),
        ("127.0.0.1", {"timeout": 0.0}, {}, "timeout"),
        ("127.0.0.1", {"retry": -1.0}, {}, "retry"),
        ("cloud.example", {"access_key_id": "a", "secret_access_key": "b"}, {}, "endpoint"),
    ],
)
def test_bad_settings_name_their_field(endpoint: str, options: Any, env: Any, field: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        config.resolve(endpoint, options, env)
    assert caught.value.field == field


# ---------------------------------------------------------------- the shape of the SDK


MESSAGES = {
    models.Reason: common_pb2.Reason,
    models.Shape: common_pb2.Shape,
    models.CallerIdentity: identity_pb2.WhoAmIResponse,
    **{
        getattr(models, name): getattr(file, name)
        for file in (instance_pb2, host_pb2, catalog_pb2, identity_pb2, queue_pb2, topic_pb2)
        for name in file.DESCRIPTOR.message_types_by_name
        if hasattr(models, name)
    },
}
MESSAGES |= {
    getattr(balancer_models, name): getattr(balancer_pb2, name)
    for name in balancer_pb2.DESCRIPTOR.message_types_by_name
    if hasattr(balancer_models, name)
}
OURS_ALONE = {models.ExecResult, models.ExecChunk, models.CopyResult}


def test_every_model_has_exactly_the_fields_of_its_message() -> None:
    found = [*vars(models).values(), *vars(balancer_models).values()]
    classes = {item for item in found if dataclasses.is_dataclass(item)}
    assert classes - OURS_ALONE == set(MESSAGES)
    for model, message in MESSAGES.items():
        assert [field.name for field in dataclasses.fields(model)] == [
            field.name for field in message.DESCRIPTOR.fields
        ]


def test_a_message_becomes_a_model_and_json() -> None:
    message = instance(
        launch_time=1_700_000_000.5, tags={"Name": "web"}, exit_code=0, isolation={"driver": "bwrap", "warnings": ["w"]}
    )
    made = convert.to_model(models.Instance, message)
    assert made.launch_time == datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC)
    assert made.created_time is None and made.exit_code == 0 and made.state_reason is None
    assert made.name == "web" and made.isolation is not None and made.isolation.warnings == ("w",)
    data = json.loads(json.dumps(convert.to_data(made)))
    assert data["launch_time"] == "2023-11-14T22:13:20.500000Z" and data["isolation"]["warnings"] == ["w"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.state = "stopped"  # type: ignore[misc]


def test_the_sync_classes_are_what_the_generator_makes() -> None:
    for name, text in generate.sources().items():
        assert (generate.HERE / "sync" / name).read_text() == text, f"run {generate.HERE}/generate.py"


def test_sync_and_async_have_the_same_methods_and_arguments() -> None:
    groups = {name: group for name, group in vars(AsyncClient("127.0.0.1")).items() if not name.startswith("_")}
    sync = Client("127.0.0.1")
    assert set(groups) == {name for name in vars(sync) if not name.startswith("_")}
    pairs = [(aio.AsyncClient, sync_client.Client)]
    pairs += [(type(group), type(getattr(sync, name))) for name, group in groups.items()]
    for async_class, sync_class in pairs:
        assert _surface(async_class) == _surface(sync_class)


def _surface(cls: type) -> dict[str, list[str]]:
    found = {}
    for name, member in inspect.getmembers(cls):
        if not name.startswith("_"):
            function = member.fget if isinstance(member, property) else member
            found[name] = [str(parameter) for parameter in inspect.signature(function).parameters.values()]
    return found


def test_importing_the_sdk_is_quick_and_imports_neither_ray_nor_grpc() -> None:
    code = (
        "import time; start = time.process_time()\n"
        "from minicloud import AsyncClient, Client\n"
        "spent = time.process_time() - start\n"
        "import json, sys; Client('127.0.0.1')\n"
        "print(json.dumps([spent, [name for name in ('ray', 'grpc', 'google.protobuf') if name in sys.modules]]))\n"
    )
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert all(heavy == [] for _, heavy in runs)
    assert min(spent for spent, _ in runs) < 0.150
