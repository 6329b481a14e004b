"""State to configuration: nothing that the machine accepts can say more than it should, and HAProxy takes it all."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicloud.balancer import attributes, conditions
from minicloud.balancer import commands as ask
from minicloud.balancer.backends import served
from minicloud.balancer.commands import HealthSpec, TargetSpec
from minicloud.balancer.layout import Places, layout, skeleton
from minicloud.balancer.model import Action, Condition
from minicloud.balancer.verdicts import Watched, judge
from minicloud.base.errors import CloudError
from minicloud.proxy.directives import Fetch, Header, Redirect, Respond, SetVar, UseNamed, quote_body
from minicloud.proxy.process import find_haproxy
from minicloud.proxy.runtime import ServerStats
from tests.pure.balancer_bench import HOME, Bench, forward

PLACES = Places("/run/s", "/run/states", "/run/certificates")
HEADS = {
    *("global", "defaults", "frontend", "backend", "log", "maxconn", "stats", "hard-stop-after", "noreuseport"),
    *(
        "tune.memory.hot-size",
        "tune.http.logurilen",
        "tune.bufsize",
        "tune.maxrewrite",
        "server-state-file",
        "mode",
        "option",
        "load-server-state-from-file",
    ),
    *("timeout", "bind", "acl", "http-request", "http-response", "use_backend", "default_backend", "balance"),
    *("retries", "cookie", "http-check", "server", "no", "log-format"),
}


def rendered(bench: Bench) -> str:
    return layout(bench.state, PLACES).render()


def agreed(text: str, tmp_path: Path) -> str:
    """HAProxy's own opinion: '' is agreement."""
    path = tmp_path / "haproxy.cfg"
    path.write_text(text)
    done = subprocess.run([find_haproxy(), "-c", "-f", path], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr


def test_haproxy_takes_everything_that_balancers_can_be(tmp_path: Path) -> None:
    bench = Bench()
    web, net = bench.balancer(), bench.balancer("net", type="network")
    app, raw = bench.group(), bench.group("raw", "TCP")
    h2 = bench.group("h2", version="HTTP2", health=HealthSpec(codes="200-299,301", port="81", protocol="HTTPS"))
    tls = bench.group("tls", "HTTPS", health=HealthSpec(protocol="HTTP"))
    for group in (app, raw, h2, tls):
        bench.register(group, "10.0.0.1", "10.0.0.2")
    listener = bench.listener(web, forward(app))
    bench.listener(net, forward(raw), protocol="TCP")
    given_ = [
        Condition("host-header", ("*.a.example", "b.example")),
        Condition("http-header", ("*'x y'%[src]*",), header="X-A"),
        Condition("query-string", ("a?=*b", "=#".replace("#", "c"))),
    ]
    actions = [
        forward(h2, tls, sticky_s=60),
        Action("redirect", status=301, port="443", host="a.#{host}", path="/%(env)%20/#{path}", query="#{query}&a=b"),
        Action(
            "fixed-response", status=503, content_type="text/html", text='it\'s\n\t100 % "${HOME}" #\\\r\n' + "ü" * 900
        ),
    ]
    for number, (one, action) in enumerate(zip(given_, actions, strict=True), 1):
        bench.submit(ask.CreateRule(HOME, listener.arn, number, (one,), action))
    bench.submit(ask.SetAttributes(HOME, web.arn, {attributes.XFF_PORT: "true", attributes.TLS_HEADERS: "true"}))
    bench.submit(ask.SetAttributes(HOME, web.arn, {attributes.LOGS: "true", attributes.LOGS_BUCKET: "b"}))
    bench.submit(ask.SetAttributes(HOME, net.arn, {attributes.LOGS: "true", attributes.LOGS_BUCKET: "b"}))
    bench.submit(ask.SetAttributes(HOME, app.arn, {attributes.STICKY: "true", attributes.SLOW_START: "30"}))
    bench.submit(
        ask.SetAttributes(HOME, h2.arn, {attributes.ALGORITHM: "weighted_random", attributes.HEALTHY_MIN: "2"})
    )
    bench.submit(ask.SetAttributes(HOME, tls.arn, {attributes.ALGORITHM: "least_outstanding_requests"}))
    bench.submit(ask.SetAttributes(HOME, raw.arn, {attributes.STICKY: "true", attributes.PROXY_V2: "true"}))
    headers = dict.fromkeys(attributes.RESPONSE_HEADERS, "max-age=1; 'x' %[src]")
    bench.submit(ask.SetAttributes(HOME, listener.arn, {**headers, attributes.SERVER_HEADER: "false"}))
    assert agreed(rendered(bench), tmp_path) == ""


TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=300), max_size=40)
CONDITIONS = st.sampled_from(conditions.FIELDS).flatmap(
    lambda field: st.builds(Condition, st.just(field), st.tuples(TEXT), TEXT if field == "http-header" else st.just(""))
)
ACTIONS = st.one_of(
    st.builds(
        Action, st.just("redirect"), status=st.just(302), host=TEXT, path=TEXT.map(lambda t: "/" + t), query=TEXT
    ),
    st.builds(Action, st.just("fixed-response"), status=st.just(200), text=TEXT),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(CONDITIONS, ACTIONS)
def test_no_value_becomes_a_directive(condition: Condition, action: Action) -> None:
    """Whatever the machine accepts stays inside its word: the lines are those of a harmless rule."""
    bench = Bench()
    listener = bench.listener(bench.balancer(), forward(bench.group()))
    try:
        bench.submit(ask.CreateRule(HOME, listener.arn, 1, (condition,), action))
    except CloudError:
        return
    for line in rendered(bench).splitlines():
        assert line.split()[0] in HEADS
        outside = line.replace("'\\''", "").split("'")[::2]  # what stands in no strong quotes
        assert not any(mark in text for text in outside for mark in '"$#')


@pytest.mark.parametrize(
    "bad",
    [
        Header("X: y", ("a",)),
        Header("X", ("a\r\nB: c",)),
        Header("X", (Fetch("src) # "),)),
        SetVar("proc.x", text="a"),
        SetVar("txn.x", text="a) b"),
        SetVar("txn.x", fetch="src if TRUE"),
        Respond(99),
        Respond(200, content_type="text/plain\n", text="x"),
        Redirect(200, ("x",)),
        UseNamed("txn.x", "a b"),
    ],
)
def test_directives_that_are_refused(bad: Header | SetVar | Respond | Redirect | UseNamed) -> None:
    with pytest.raises(CloudError):
        bad.render()


def test_bodies_keep_their_lines() -> None:
    assert quote_body("a\nb") == "'a'\\n'b'" and quote_body("") == "''"
    with pytest.raises(CloudError):
        quote_body("\0")


def test_every_cookie_name_and_any_number_of_codes_is_taken(tmp_path: Path) -> None:
    bench = Bench()
    web, app = bench.balancer(), bench.group()
    bench.listener(web, forward(app))
    sticky = {attributes.STICKY: "true", attributes.STICKY_TYPE: "app_cookie", attributes.STICKY_NAME: "a#!$&'*|~b"}
    bench.submit(ask.SetAttributes(HOME, app.arn, sticky))
    assert agreed(rendered(bench), tmp_path) == ""
    calls = bench.group("calls", version="GRPC", health=HealthSpec(codes=",".join(["1-99"] * 200)))
    made = served(bench.state, calls).check
    assert made is not None and len("".join(made.backend_lines())) < 2_000


def test_only_what_is_no_server_changes_the_skeleton() -> None:
    bench = Bench()
    app = bench.group()
    listener = bench.listener(bench.balancer(), forward(app))

    def now() -> str:
        return skeleton(bench.state, layout(bench.state, PLACES), 1000)

    before = now()
    bench.register(app, "10.0.0.1", "10.0.0.2")
    assert now() == before
    bench.submit(ask.SetTags(HOME, app.arn, {"a": "b"}))
    assert now() == before
    for key, value in ((attributes.SLOW_START, "30"), (attributes.STICKY, "true"), (attributes.HEALTHY_MIN, "2")):
        bench.submit(ask.SetAttributes(HOME, app.arn, {key: value}))
        assert now() != before, key
        before = now()
    bench.submit(ask.ModifyGroup(HOME, app.arn, HealthSpec(interval_s=10)))
    assert now() != before
    before = now()
    bench.submit(ask.ModifyListener(HOME, listener.arn, port=81))
    assert now() != before


def test_weights_of_zones() -> None:
    bench = Bench()
    app = bench.group()
    bench.listener(bench.balancer(), forward(app))
    specs = tuple(TargetSpec(f"10.0.0.{n}", zone=zone) for n, zone in enumerate("abbbb"))
    bench.submit(ask.RegisterTargets(HOME, app.arn, specs))
    assert {server.weight for server in served(bench.state, app).servers.values()} == {100}
    bench.submit(ask.SetAttributes(HOME, app.arn, {attributes.CROSS_ZONE: "false"}))
    after = served(bench.state, bench.state.groups[app.arn])
    assert sorted(server.weight for server in after.servers.values()) == [64, 64, 64, 64, 256]


@pytest.mark.parametrize(
    ("state", "since", "status", "check", "code", "wanted"),
    [
        ("initial", 0, "DOWN", "INI", "", None),
        ("initial", 0, "DOWN", "", "", None),
        ("initial", 0, "DOWN", "L4CON", "", None),  # it has time left
        ("initial", 9, "DOWN", "L4CON", "", (False, "Target.FailedHealthChecks", "")),
        ("initial", 0, "DOWN 1/2", "L7OK", "200", (True, "", "")),
        ("initial", 0, "UP", "L7OK", "200", (True, "", "")),
        ("healthy", 0, "UP", "L7OK", "200", None),
        ("healthy", 0, "UP 1/2", "L7TOUT", "", None),
        ("healthy", 0, "DOWN", "L7TOUT", "", (False, "Target.Timeout", "")),
        ("healthy", 0, "DOWN", "* L7STS", "503", (False, "Target.ResponseCodeMismatch", "503")),
        ("unhealthy", 0, "DOWN", "L7TOUT", "", None),  # as it was
        ("unhealthy", 0, "DOWN 1/2", "L7OK", "200", None),
        ("unhealthy", 0, "UP", "L7OK", "200", (True, "", "")),
        ("healthy", 0, "MAINT", "L7STS", "500", None),
    ],
)
def test_verdicts(
    state: str, since: int, status: str, check: str, code: str, wanted: tuple[bool, str, str] | None
) -> None:
    bench = Bench()
    (target,) = bench.register(bench.group(), "10.0.0.1")
    reason = "Target.Timeout" if state == "unhealthy" else ""
    text = "Request timed out" if state == "unhealthy" else ""
    target = replace(target, state=state, reason=reason, description=text, since=100.0)
    row = ServerStats("tg", "s", status, 0, 0, 0, check, code)
    found = judge([row], {("tg", "s"): Watched(target, 5.0)}, 100.0 + since)
    assert [(one.passed, one.reason, one.code) for one in found.verdicts] == ([wanted] if wanted else [])
    assert bool(found.promote) == (status.startswith("DOWN") and check == "L7OK" and state == "initial")
