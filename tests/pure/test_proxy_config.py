"""Configuration text: what it says, and that no value can say more than it should."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicloud.base.errors import CloudError, InvalidParameterCombination, InvalidParameterValue
from minicloud.proxy.checked import endpoint, quote
from minicloud.proxy.config import (
    Acl,
    Backend,
    Bind,
    DelHeader,
    Deny,
    Frontend,
    Global,
    HealthCheck,
    ProxyConfig,
    Server,
    SetHeader,
    Timeouts,
    UseBackend,
    When,
)
from minicloud.proxy.process import find_haproxy

GLOBAL = Global("/run/s")
WEB = Server("web-1", "10.0.0.7", 8080)


def config(*rules: object, backend: Backend | None = None, **frontend: object) -> ProxyConfig:
    made = Frontend("door", (Bind("127.0.0.1", 8080),), rules=tuple(rules), default_backend="app", **frontend)  # type: ignore[arg-type]
    return ProxyConfig(GLOBAL, (made,), (backend or Backend("app", (WEB,)),))


def lines(made: ProxyConfig) -> list[str]:
    return [line.strip() for line in made.render().splitlines()]


def accepted(made: ProxyConfig, tmp_path: Path) -> str:
    """HAProxy's own opinion: '' is agreement."""
    path = tmp_path / "haproxy.cfg"
    path.write_text(made.render())
    done = subprocess.run([find_haproxy(), "-c", "-f", path], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr


def test_haproxy_takes_everything_the_model_can_say(tmp_path: Path) -> None:
    backend = Backend(
        "app",
        (WEB, replace(WEB, name="web-2", weight=0, maxconn=10, backup=True), replace(WEB, name="web-3", h2=True)),
        rules=(SetHeader("X-From", value='it\'s 100 % "ours" \\ ${HOME}'),),
        balance="leastconn",
        retries=1,
        timeouts=Timeouts(server=5, queue=6, tunnel=7, check=8),
        health=HealthCheck("/ping?a=b c", expect="200-299,301", port=81),
        tcp_keepalive=True,
    )
    rules = (
        Acl("old", "req.hdr(user-agent)", "beg", ("curl/7", "don't")),
        Acl("big", "req.hdr_val(content-length)", "int", ("1000:",)),
        Acl("body", "req.hdr(content-length)", "found"),
        Deny(418, When(("old", "!big")), "it's a teapot"),
        Deny(403, When(("body",))),
        SetHeader("X-Src", fetch="src"),
        DelHeader("X-Old", When(("old",))),
        UseBackend("app", When(("old",))),
    )
    made = config(*rules, backend=backend, per_source_max=10, forwarded_for=True, tcp_keepalive=True)
    streams = Frontend("streams", (Bind("::1", 8443),), default_backend="app", h2_within_ms=5000)
    quick = Frontend("quick", (Bind("::1", 8444, h2=True),), default_backend="app")
    raw = Frontend("raw", (Bind("*", 9000),), default_backend="raw", tcp=True)
    whole = replace(
        made,
        frontends=(*made.frontends, streams, quick, raw),
        backends=(*made.backends, Backend("raw", (Server("r", "::1", 9001),), tcp=True)),
    )
    assert accepted(whole, tmp_path) == ""


def test_rules_keep_their_order() -> None:
    text = lines(config(Deny(403, When()), Acl("a", "src", "ip", ("10.0.0.0/8",)), UseBackend("app", When(("a",)))))
    assert [line.split()[0] for line in text if line.startswith(("http-request", "acl", "use_backend"))] == [
        "http-request",
        "acl",
        "use_backend",
    ]


@pytest.mark.parametrize(
    "bad",
    [
        lambda: config(Acl("a b", "src", "ip", ("10.0.0.1",))),
        lambda: config(Acl("a", "src) -m ip 0/0 #", "ip", ("10.0.0.1",))),
        lambda: config(Acl("a", "src", "lua", ("x",))),
        lambda: config(Acl("a", "src", "ip")),
        lambda: config(Acl("a", "path", "str", ("x\nacl b",))),
        lambda: config(Deny(99, When())),
        lambda: config(Deny(403, When(("a } or { true",)))),
        lambda: config(SetHeader("X: y", value="z")),
        lambda: config(SetHeader("X", value="a\r\nSet-Cookie: b")),
        lambda: config(UseBackend("nowhere", When())),
        lambda: config(maxconn=0),
        lambda: ProxyConfig(GLOBAL, (Frontend("f", ()),)),
        lambda: ProxyConfig(GLOBAL, backends=(Backend("a"), Backend("a"))),
        lambda: config(backend=Backend("app", (WEB, WEB))),
        lambda: config(backend=Backend("app", (replace(WEB, name="a/b"),))),
        lambda: config(backend=Backend("app", (replace(WEB, address="10.0.0.1 backup"),))),
        lambda: config(backend=Backend("app", (replace(WEB, port=0),))),
        lambda: config(backend=Backend("app", (replace(WEB, weight=257),))),
        lambda: config(backend=Backend("app", balance="roundrobin\n")),
        lambda: config(backend=Backend("app", health=HealthCheck("/\n"))),
        lambda: config(backend=Backend("app", health=HealthCheck("/", expect="200 or so"))),
        lambda: config(backend=Backend("app", timeouts=Timeouts(server=0))),
        lambda: ProxyConfig(Global("/run/s\n")),
    ],
)
def test_refused(bad) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidParameterValue):
        bad().render()


def test_h2_is_said_once() -> None:
    with pytest.raises(InvalidParameterCombination):
        ProxyConfig(GLOBAL, (Frontend("f", (Bind("*", 1, h2=True),), h2_within_ms=1),)).render()


def test_rules_need_requests() -> None:
    raw = Frontend("raw", (Bind("*", 1),), rules=(Deny(403, When()),), tcp=True)
    with pytest.raises(InvalidParameterCombination):
        ProxyConfig(GLOBAL, (raw,)).render()


@given(st.text(max_size=200))
def test_quoted_text_is_one_word_of_a_shell_like_language(text: str) -> None:
    import shlex

    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        with pytest.raises(CloudError):
            quote(text)
        return
    assert shlex.split(f"a {quote(text)} b") == ["a", text, "b"]


@given(st.text(max_size=60), st.integers(-5, 70_000))
def test_endpoints_are_one_word(address: str, port: int) -> None:
    try:
        made = endpoint(address, port)
    except CloudError:
        return
    assert made.endswith(f":{port}") and not set(made) & set(" \t\n#'\"\\;,@/")
