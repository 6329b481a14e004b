"""Functions as targets: what is refused, how they are found to be, and what HAProxy is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from minicloud.balancer import attributes
from minicloud.balancer import commands as ask
from minicloud.balancer.commands import HealthSpec, TargetSpec
from minicloud.balancer.layout import Places, layout, skeleton
from minicloud.balancer.model import Group
from minicloud.balancer.ports import NoFunctions, Way
from minicloud.base.arn import Scope
from tests.pure.balancer_bench import HOME, Bench, forward
from tests.pure.test_balancer_layout import agreed

F = "arn:aws:lambda:us-east-1:000000000000:function:f"


class Somewhere(NoFunctions):
    def way(self, scope: Scope, names: tuple[str, str, str], multi: bool) -> Way:
        return Way("127.0.0.1", 9000, "X-Proof", f"{'multi' if multi else 'single'} {' '.join(names)} seal")


PLACES = Places("/run/s", "/run/states", "/run/certificates", functions=Somewhere())


def group_of(bench: Bench, name: str = "f", **fields: object) -> Group:
    command = ask.CreateGroup(HOME, name, "", 0, target_type="lambda", **fields)  # type: ignore[arg-type]
    made: Group = bench.submit(command)
    return made


def rendered(bench: Bench) -> str:
    return layout(bench.state, PLACES).render()


def part(text: str, head: str) -> str:
    """One section of a configuration."""
    return text.split(f"{head}\n", 1)[1].split("\nbackend ", 1)[0]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"port": 80}, "Port cannot be specified for target groups with target type 'lambda'"),
        ({"protocol": "HTTP"}, "Protocol cannot be specified"),
        ({"version": "HTTP2"}, "Protocol version cannot be specified"),
        ({"health": HealthSpec(protocol="HTTP")}, "Health check protocol cannot be specified"),
        ({"health": HealthSpec(port="traffic-port")}, "Health check port cannot be specified"),
        ({"health": HealthSpec(path="up")}, "must begin with '/'"),
        ({"health": HealthSpec(codes="500")}, "must be within '200-499'"),
        ({"health": HealthSpec(timeout_s=60)}, "must be smaller than the interval"),
    ],
)
def test_a_group_of_functions_has_no_port_and_no_protocol(fields: dict[str, object], text: str) -> None:
    given = {"protocol": "", "port": 0, **fields}
    command = ask.CreateGroup(HOME, "f", target_type="lambda", **given)  # type: ignore[arg-type]
    Bench().refused("ValidationError", command, text)


def test_its_defaults_are_awss_and_the_same_again_is_the_same() -> None:
    bench = Bench()
    made = group_of(bench)
    checks = made.health
    assert (made.protocol, made.port, made.version, checks.protocol, checks.port) == ("", 0, "", "", "")
    assert (checks.enabled, checks.interval_s, checks.timeout_s) == (False, 35, 30)
    assert (checks.healthy, checks.unhealthy) == (5, 5)
    assert attributes.all_of(made) == {attributes.MULTI_VALUE: "false", attributes.HEALTHY_MIN: "1"}
    assert group_of(bench) == made
    sticky = ask.SetAttributes(HOME, made.arn, {attributes.STICKY: "true"})
    bench.refused("ValidationError", sticky, "not recognized")
    other = bench.group("app")
    bench.refused("ValidationError", ask.SetAttributes(HOME, other.arn, {attributes.MULTI_VALUE: "true"}), "recognized")
    off = ask.ModifyGroup(HOME, other.arn, HealthSpec(enabled=False))
    bench.refused("ValidationError", off, "HealthCheckEnabled must be true")


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (TargetSpec("f"), "ValidationError"),
        (TargetSpec("i-0123456789abcdef0", address="10.64.0.2"), "ValidationError"),
        (TargetSpec("10.0.0.1"), "ValidationError"),
        (TargetSpec(F + ":a b"), "ValidationError"),
        (TargetSpec(F + "\n"), "ValidationError"),
        (TargetSpec(F, 80), "ValidationError"),
        (TargetSpec(F.replace("us-east-1", "us-west-2")), "InvalidTarget"),
        (TargetSpec(F.replace("000000000000", "111111111111")), "InvalidTarget"),
    ],
)
def test_targets_that_are_no_functions_of_here(target: TargetSpec, code: str) -> None:
    bench = Bench()
    bench.refused(code, ask.RegisterTargets(HOME, group_of(bench).arn, (target,)))


def test_one_function_a_group_and_it_is_gone_at_once() -> None:
    bench = Bench()
    group = group_of(bench)
    for one in (F, F + ":7", F + ":$LATEST", F + ":live"):
        bench.register(group, one)
        bench.refused("TooManyTargets", ask.RegisterTargets(HOME, group.arn, (TargetSpec(F + ":other"),)))
        bench.register(group, one)
        assert bench.health(group) == {one: ("unused", "Target.NotInUse")}
        bench.submit(ask.DeregisterTargets(HOME, group.arn, (TargetSpec(one),)))
    bench.listener(bench.balancer(), forward(group))
    bench.register(group, F)
    bench.submit(ask.DeregisterTargets(HOME, group.arn, (TargetSpec(F),)))
    assert bench.health(group) == {}


def test_it_is_in_service_unchecked_and_checked_where_it_is_told_to() -> None:
    bench = Bench()
    group = group_of(bench)
    bench.register(group, F)
    web = bench.balancer()
    listener = bench.listener(web, forward(group))
    assert bench.health(group) == {F: ("unavailable", "Target.HealthCheckDisabled")}
    bench.submit(ask.ModifyGroup(HOME, group.arn, HealthSpec(enabled=True)))
    assert bench.health(group) == {F: ("initial", "Elb.RegistrationInProgress")}
    key = bench.state.targets_of(group.arn)[0].key
    bench.submit(ask.ObserveHealth((ask.Verdict(key, True),)))
    bench.submit(ask.ModifyGroup(HOME, group.arn, HealthSpec(enabled=False)))
    assert bench.health(group) == {F: ("unavailable", "Target.HealthCheckDisabled")}
    bench.submit(ask.ObserveHealth((ask.Verdict(key, False, "Target.Timeout"),), (key,)))
    assert bench.health(group) == {F: ("unavailable", "Target.HealthCheckDisabled")}, "a check that was under way"
    bench.submit(ask.DeleteListener(HOME, listener.arn))
    assert bench.health(group) == {F: ("unused", "Target.NotInUse")}
    checked = group_of(bench, "checked", health=HealthSpec(enabled=True))
    assert checked.health.enabled


def test_application_load_balancers_alone_forward_to_it() -> None:
    bench = Bench()
    net, group = bench.balancer("net", type="network"), group_of(bench)
    command = ask.CreateListener(HOME, net.arn, "TCP", 80, forward(group))
    bench.refused("InvalidConfigurationRequest", command, "not supported by network load balancers")


def test_haproxy_takes_requests_to_the_process_and_says_whose_they_are(tmp_path: Path) -> None:
    bench = Bench()
    web, group = bench.balancer(), group_of(bench)
    bench.listener(web, forward(group))
    head = f"backend tg-{group.arn.rsplit('/', 1)[1]}"
    assert "server function" not in part(rendered(bench), head), "without a function HAProxy answers 503"
    before = skeleton(bench.state, layout(bench.state, PLACES), 1000)
    bench.register(group, F + ":$LATEST")
    assert skeleton(bench.state, layout(bench.state, PLACES), 1000) != before, "a reload"
    text = rendered(bench)
    said = f"http-request set-header X-Proof 'single {web.arn} {group.arn} {F}:$LATEST seal'"
    for name in (head, head + "_open"):
        assert said in part(text, name) and "server function 127.0.0.1:9000 weight 100" in part(text, name)
    assert "check" not in part(text, head)
    bench.submit(ask.SetAttributes(HOME, group.arn, {attributes.MULTI_VALUE: "true"}))
    assert said.replace("single", "multi") in part(rendered(bench), head)
    bench.submit(ask.ModifyGroup(HOME, group.arn, HealthSpec(enabled=True, path="/up")))
    text = rendered(bench)
    assert f"hdr X-Proof 'multi {web.arn} " in part(text, head) and "meth GET uri '/up'" in part(text, head)
    assert agreed(text, tmp_path) == ""
