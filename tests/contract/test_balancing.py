"""Load balancers by the SDK, through Locate and with tickets: every rpc, names and ARNs, the wall between tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trustme

from minicloud.balancer.ports import Place
from minicloud.base import errors
from minicloud.base.arn import Scope
from minicloud.client.balancer_models import RuleCondition, WeightedGroup, fixed_response, forward, redirect
from minicloud.client.broker import BALANCERS, MESSAGES
from minicloud.rpc import shard_ticket
from tests.contract.balancing_world import SECRET, World, balancing_world

OTHER = "111122223333"
INSTANCE = "i-" + "0" * 17


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with balancing_world() as made:
        yield made


async def test_a_balancer_from_its_making_to_its_end(world: World) -> None:
    async with world.client() as cloud:
        made = await cloud.balancers.create("web", tags={"team": "a"})
        assert (made.type, made.scheme, made.zones) == ("application", "internet-facing", ())
        assert made.address.startswith("127.") and made.tags == {"team": "a"} and made.created_time is not None
        assert await cloud.balancers.get("web") == await cloud.balancers.get(made.arn) == made
        assert (await cloud.balancers.set_attributes(made.arn, {"idle_timeout.timeout_seconds": 90}))[
            "idle_timeout.timeout_seconds"
        ] == "90"
        assert await cloud.balancers.tag(made.arn, {"b": "c"}) == {"team": "a", "b": "c"}
        assert await cloud.balancers.untag(made.arn, "team", "nothing") == {"b": "c"}
        await cloud.balancers.create("more", type="network")
        assert [one.name async for one in cloud.balancers.list(page_size=1)] == ["web", "more"]
        await cloud.balancers.delete("web")
        await cloud.balancers.delete("web")
        with pytest.raises(errors.NotFound, match="One or more load balancers not found"):
            await cloud.balancers.get("web")


async def test_listeners_and_their_rules(world: World) -> None:
    async with world.client() as cloud:
        await cloud.balancers.create("web")
        blue = await cloud.target_groups.create("blue", 80)
        green = await cloud.target_groups.create("green", 80)
        shares = forward(WeightedGroup("blue", 0), WeightedGroup(green.arn, 3), sticky_s=60)
        listener = await cloud.balancers.listen("web", 80, shares)
        assert [(one.target_group, one.weight) for one in listener.action.groups] == [(blue.arn, 0), (green.arn, 3)]
        assert listener.action.sticky_s == 60 and listener.problem == ""
        away = redirect(protocol="HTTPS", port="443", query="")
        first = await cloud.balancers.create_rule(listener.arn, 10, [RuleCondition("path-pattern", ("/a*",))], away)
        assert (first.action.host, first.action.path, first.action.query) == ("#{host}", "/#{path}", "")
        header = RuleCondition("http-header", ("a", "b"), "X-A")
        last = await cloud.balancers.create_rule(listener.arn, 20, [header], fixed_response(503, "no"))
        assert last.conditions == (header,) and last.action == fixed_response(503, "no")
        swapped = await cloud.balancers.set_rule_priorities({first.arn: 20, last.arn: 10})
        assert [one.arn for one in swapped] == [last.arn, first.arn]
        changed = await cloud.balancers.modify_rule(last.arn, action=forward("blue"))
        assert changed.conditions == (header,) and changed.action.type == "forward"
        assert [one.priority for one in await cloud.balancers.rules(listener.arn)] == [10, 20, 0]
        moved = await cloud.balancers.modify_listener(listener.arn, port=81)
        assert (moved.port, moved.action) == (81, listener.action)
        world.service.plane.left_out[listener.arn] = "taken"
        assert [(one.port, one.problem) for one in await cloud.balancers.listeners("web")] == [(81, "taken")]
        await cloud.balancers.delete_rule(first.arn)
        await cloud.balancers.delete_listener(listener.arn)
        assert await cloud.balancers.listeners("web") == ()


async def test_target_groups_and_their_targets(world: World) -> None:
    world.instances[INSTANCE] = Place("10.1.2.3", "us-east-1b")
    async with world.client() as cloud:
        made = await cloud.target_groups.create("app", 8080, path="/up", interval_s=10, health_port="81")
        assert (made.target_type, made.health.path, made.health.interval_s, made.health.port) == (
            "instance",
            "/up",
            10,
            "81",
        )
        assert made.health.timeout_s == 5  # what is not said has AWS's default
        changed = await cloud.target_groups.modify("app", codes="200-299")
        assert (changed.health.codes, changed.health.path) == ("200-299", "/up")
        with pytest.raises(errors.InvalidRequest, match="not in a running state"):
            await cloud.target_groups.register("app", "i-" + "1" * 17)
        (target,) = await cloud.target_groups.register("app", INSTANCE)
        assert (target.port, target.address, target.zone) == (8080, "10.1.2.3", "us-east-1b")
        assert (target.state, target.reason) == ("unused", "Target.NotInUse")
        await cloud.target_groups.register(made.arn, (INSTANCE, 81), f"{INSTANCE}:82")
        assert {one.port for one in await cloud.target_groups.health("app")} == {8080, 81, 82}
        (absent,) = await cloud.target_groups.health("app", f"{INSTANCE}:9")
        assert absent.reason == "Target.NotRegistered"
        await cloud.balancers.create("web")
        await cloud.balancers.listen("web", 80, forward("app"))
        assert [one.name async for one in cloud.target_groups.list("web")] == ["app"]
        assert {one.state for one in await cloud.target_groups.deregister("app", INSTANCE)} == {"draining"}
        with pytest.raises(errors.Conflict):
            await cloud.target_groups.delete("app")
        await cloud.balancers.delete("web")
        await cloud.target_groups.delete("app")
        assert [one.name async for one in cloud.target_groups.list()] == []
        with pytest.raises(TypeError, match="healthy"):
            await cloud.target_groups.modify("app", nonsense=1)  # type: ignore[call-arg]


async def test_bad_input_has_awss_error_and_changes_nothing(world: World) -> None:
    (certificate, _), (_, key) = certs_pair(), certs_pair()
    async with world.client() as cloud:
        await cloud.target_groups.create("app", 8080)
        await cloud.balancers.create("web")
        listener = await cloud.balancers.listen("web", 80, forward("app"))
        path = RuleCondition("path-pattern", ("/old/*",))
        await cloud.balancers.create_rule(listener.arn, 10, [path], fixed_response(410))
        before = {kind: dict(table) for kind, table in world.service.machine.state.tables.items()}
        for call, code in (
            (cloud.balancers.create_rule(listener.arn, 10, [path], fixed_response(404)), "PriorityInUse"),
            (cloud.target_groups.delete("app"), "ResourceInUse"),
            (cloud.balancers.import_certificate(certificate, key), "ValidationError"),
            (cloud.balancers.listen("web", 80, forward("app")), "DuplicateListener"),
        ):
            with pytest.raises(errors.CloudError) as caught:
                await call
            assert caught.value.code == code
        assert {kind: dict(table) for kind, table in world.service.machine.state.tables.items()} == before


async def test_certificates_are_never_shown_with_their_key(world: World) -> None:
    pair = certs_pair()
    async with world.client() as cloud:
        made = await cloud.balancers.import_certificate(*pair)
        assert made.names and made.expires_time is not None
        assert [one async for one in cloud.balancers.certificates()] == [made]
        await cloud.balancers.create("web")
        fixed = fixed_response(200)
        listener = await cloud.balancers.listen("web", 443, fixed, protocol="HTTPS", certificates=[made.arn])
        assert listener.certificates == (made.arn,)
        with pytest.raises(errors.Conflict):
            await cloud.balancers.delete_certificate(made.arn)
        await cloud.balancers.delete_listener(listener.arn)
        await cloud.balancers.delete_certificate(made.arn)


async def test_what_is_another_accounts_does_not_exist(world: World) -> None:
    async with world.client() as mine, world.client(OTHER) as theirs:
        made = await mine.balancers.create("web")
        group = await mine.target_groups.create("app", 80)
        listener = await mine.balancers.listen("web", 80, forward("app"))
        condition = RuleCondition("path-pattern", ("/",))
        rule = await mine.balancers.create_rule(listener.arn, 1, [condition], forward("app"))
        for reach in (
            theirs.balancers.get("web"),
            theirs.balancers.get(made.arn),
            theirs.balancers.listen(made.arn, 81, fixed_response(200)),
            theirs.balancers.listeners(made.arn),
            theirs.balancers.modify_listener(listener.arn, port=82),
            theirs.balancers.delete_listener(listener.arn),
            theirs.balancers.rules(listener.arn),
            theirs.balancers.create_rule(listener.arn, 2, [condition], fixed_response(200)),
            theirs.balancers.modify_rule(rule.arn, action=fixed_response(200)),
            theirs.balancers.set_rule_priorities({rule.arn: 7}),
            theirs.balancers.delete_rule(rule.arn),
            theirs.balancers.tag(made.arn, {"a": "b"}),
            theirs.balancers.set_attributes(group.arn, {"slow_start.duration_seconds": "30"}),
            theirs.target_groups.get(group.arn),
            theirs.target_groups.modify(group.arn, path="/x"),
            theirs.target_groups.register(group.arn, "10.0.0.1"),
            theirs.target_groups.deregister(group.arn, "10.0.0.1"),
            theirs.target_groups.health(group.arn),
        ):
            with pytest.raises(errors.NotFound):
                await reach
        await theirs.balancers.create("web")
        with pytest.raises(errors.NotFound):
            await theirs.balancers.listen("web", 80, forward(group.arn))
        await theirs.balancers.delete(made.arn)  # as in AWS no error, and nothing happens
        await theirs.target_groups.delete(group.arn)
        assert [one.arn async for one in mine.balancers.list()] == [made.arn]
        assert (await mine.balancers.rules(listener.arn))[0] == rule


async def test_a_ticket_for_brokers_opens_no_balancers(world: World) -> None:
    async with world.client() as cloud:
        await cloud.balancers.create("web")
        place = cloud._transport.place(BALANCERS)
        assert place.endpoint is not None and cloud._transport.place(MESSAGES).endpoint is None
        wrong = shard_ticket.issue(shard_ticket.BROKERS, SECRET, 0, Scope(), 9e9)
        place.metadata = (("x-minicloud-ticket", wrong),)
        assert (await cloud.balancers.get("web")).name == "web"  # refused, asked for a new one, made again
        assert place.metadata[0][1] != wrong


def certs_pair() -> tuple[str, str]:
    made = trustme.CA().issue_cert("app.example")
    return made.cert_chain_pems[0].bytes().decode(), made.private_key_pem.bytes().decode()
