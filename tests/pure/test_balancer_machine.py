"""Load balancers, listeners, rules, target groups and targets: AWS's states, errors and texts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicloud.balancer import attributes, conditions
from minicloud.balancer import commands as ask
from minicloud.balancer.certificates import key_of
from minicloud.balancer.commands import HealthSpec, TargetSpec, Verdict
from minicloud.balancer.machine import Balancers
from minicloud.balancer.model import Action, Condition, Weighted, target_key
from minicloud.balancer.targets import GUESTS, described
from minicloud.base.errors import CloudError
from minicloud.identity.seal import AesGcmSeal
from minicloud.sandbox import subnets
from tests.pure.balancer_bench import HOME, STRANGER, Bench, forward

PATH = (Condition("path-pattern", ("/api/*",)),)
FIXED = Action("fixed-response", status=404, content_type="text/plain", text="nobody")


def spec(*ids: str) -> tuple[TargetSpec, ...]:
    return tuple(TargetSpec(one) for one in ids)


# --- balancers


def test_a_balancer_has_an_address_and_a_name_of_its_own() -> None:
    bench = Bench()
    one, two = bench.balancer("one"), bench.balancer("two", scheme="internal")
    assert one.arn.startswith("arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer/app/one/")
    assert one.address.startswith("127.") and one.address != two.address
    assert one.dns_name.startswith("one-") and one.dns_name.endswith(".us-east-1.elb.localhost")
    assert two.dns_name.startswith("internal-two-")
    assert bench.balancer("one") == one, "the same request again is the same balancer"
    bench.refused("DuplicateLoadBalancerName", ask.CreateBalancer(HOME, "one", type="network"), "but with different")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "cannot be empty"),
        ("a" * 33, "cannot be longer than '32' characters"),
        ("a_b", "can only contain characters that are alphanumeric characters and hyphens(-)"),
        ("-a", "cannot begin or end with '-'"),
        ("internal-a", "cannot begin with 'internal-'"),
    ],
)
def test_names(name: str, text: str) -> None:
    bench = Bench()
    bench.refused("ValidationError", ask.CreateBalancer(HOME, name), text)


def test_a_protected_balancer_stays_and_the_end_of_one_frees_its_groups() -> None:
    bench = Bench()
    web, app = bench.balancer(), bench.group()
    bench.listener(web, forward(app))
    bench.register(app, "10.0.0.1")
    bench.submit(ask.SetAttributes(HOME, web.arn, {attributes.PROTECTED: "true"}))
    bench.refused("OperationNotPermitted", ask.DeleteBalancer(HOME, web.arn), "deletion protection is enabled")
    bench.submit(ask.SetAttributes(HOME, web.arn, {attributes.PROTECTED: "false"}))
    bench.submit(ask.DeleteBalancer(HOME, web.arn))
    assert bench.health(app) == {"10.0.0.1": ("unused", "Target.NotInUse")}
    assert not bench.state.rules and not bench.state.listeners and not bench.state.addresses
    bench.submit(ask.DeleteBalancer(HOME, web.arn))


def test_strangers_see_nothing() -> None:
    bench = Bench()
    web, app = bench.balancer(), bench.group()
    listener = bench.listener(web, forward(app))
    rule = bench.state.rules_of(listener.arn)[0]
    for code, command in (
        ("LoadBalancerNotFound", ask.CreateListener(STRANGER, web.arn, "HTTP", 81, FIXED)),
        ("ListenerNotFound", ask.DeleteListener(STRANGER, listener.arn)),
        ("RuleNotFound", ask.DeleteRule(STRANGER, rule.arn)),
        ("TargetGroupNotFound", ask.RegisterTargets(STRANGER, app.arn, spec("10.0.0.1"))),
        ("LoadBalancerNotFound", ask.SetAttributes(STRANGER, web.arn, {})),
        ("TargetGroupNotFound", ask.SetTags(STRANGER, app.arn, {"a": "b"})),
    ):
        bench.refused(code, command)
    bench.submit(ask.DeleteGroup(STRANGER, app.arn))
    assert app.arn in bench.state.groups


@pytest.mark.parametrize(
    ("given_", "code", "text"),
    [
        ({"x": "1"}, "ValidationError", "Load balancer attribute key 'x' is not recognized"),
        ({"idle_timeout.timeout_seconds": "0"}, "ValidationError", "is not valid for"),
        ({"idle_timeout.timeout_seconds": "4001"}, "ValidationError", "is not valid for"),
        ({"access_logs.s3.enabled": "true"}, "InvalidConfigurationRequest", "access_logs.s3.bucket"),
        ({"waf.fail_open.enabled": "true"}, "ValidationError", "is not supported here"),
        ({"client_keep_alive.seconds": "60"}, "ValidationError", "attribute key 'client_keep_alive.seconds' is"),
        ({"load_balancing.cross_zone.enabled": "false"}, "ValidationError", "is not valid for"),
        ({"idle_timeout.timeout_seconds": "00000006099999"}, "ValidationError", "is not valid for"),
    ],
)
def test_attributes_of_balancers(given_: dict[str, str], code: str, text: str) -> None:
    bench = Bench()
    bench.refused(code, ask.SetAttributes(HOME, bench.balancer().arn, given_), text)


@pytest.mark.parametrize(
    ("given_", "code", "text"),
    [
        ({"x": "1"}, "ValidationError", "Target group attribute key 'x' is not recognized"),
        ({"slow_start.duration_seconds": "10"}, "ValidationError", "is not valid for"),
        ({"stickiness.enabled": "true", "stickiness.type": "source_ip"}, "ValidationError", "is not valid for"),
        ({"stickiness.enabled": "true", "stickiness.type": "app_cookie"}, "InvalidConfigurationRequest", "cookie name"),
        (
            {"slow_start.duration_seconds": "30", "load_balancing.algorithm.type": "least_outstanding_requests"},
            "InvalidConfigurationRequest",
            "Slow start mode cannot be enabled",
        ),
        ({"load_balancing.algorithm.anomaly_mitigation": "on"}, "ValidationError", "is not supported here"),
    ],
)
def test_attributes_of_target_groups(given_: dict[str, str], code: str, text: str) -> None:
    bench = Bench()
    bench.refused(code, ask.SetAttributes(HOME, bench.group().arn, given_), text)


def test_attributes_say_their_defaults_and_store_what_differs() -> None:
    bench = Bench()
    app = bench.group()
    said = bench.submit(ask.SetAttributes(HOME, app.arn, {attributes.DELAY: "5", attributes.STICKY: "false"}))
    assert said[attributes.DELAY] == "5" and said[attributes.ALGORITHM] == "round_robin"
    assert bench.state.groups[app.arn].attributes == {attributes.DELAY: "5"}
    bench.submit(ask.SetAttributes(HOME, app.arn, {attributes.DELAY: "300"}))
    assert bench.state.groups[app.arn].attributes == {}


# --- listeners and rules


def test_ports_and_protocols_of_listeners() -> None:
    bench = Bench()
    web, net, app = bench.balancer(), bench.balancer("net", type="network"), bench.group()
    raw = bench.group("raw", "TCP")
    bench.listener(web, forward(app))
    bench.refused(
        "DuplicateListener", ask.CreateListener(HOME, web.arn, "HTTP", 80, FIXED), "already exists on this port"
    )
    bench.refused("UnsupportedProtocol", ask.CreateListener(HOME, web.arn, "TCP", 81, FIXED))
    bench.refused("UnsupportedProtocol", ask.CreateListener(HOME, net.arn, "UDP", 81, forward(raw)))
    bench.refused("ValidationError", ask.CreateListener(HOME, web.arn, "HTTP", 70000, FIXED), "between 1 and 65535")
    bench.refused("IncompatibleProtocols", ask.CreateListener(HOME, web.arn, "HTTP", 81, forward(raw)))
    bench.refused("InvalidLoadBalancerAction", ask.CreateListener(HOME, net.arn, "TCP", 81, FIXED))
    bench.refused(
        "TargetGroupAssociationLimit", ask.CreateListener(HOME, bench.balancer("b").arn, "HTTP", 1, forward(app))
    )
    bench.listener(net, forward(raw), protocol="TCP", port=81)
    grpc = bench.group("grpc", version="GRPC")
    bench.refused("InvalidConfigurationRequest", ask.CreateListener(HOME, web.arn, "HTTP", 82, forward(grpc)), "GRPC")


def test_certificates_must_match_their_keys() -> None:
    bench = Bench()
    bench.now = 1_790_000_000.0
    ca = trustme.CA()
    one, two = ca.issue_cert("a.example"), ca.issue_cert("b.example")
    pem = [str(cert.cert_chain_pems[0].bytes(), "ascii") for cert in (one, two)]
    keys = [str(cert.private_key_pem.bytes(), "ascii") for cert in (one, two)]
    bench.refused("ValidationError", ask.ImportCertificate(HOME, pem[0], keys[1]), "does not match the certificate")
    bench.refused("ValidationError", ask.ImportCertificate(HOME, "x", keys[1]), "not in a valid PEM format")
    bench.refused("ValidationError", ask.ImportCertificate(HOME, pem[0], "x"), "not a valid, unencrypted PEM key")
    made, other = (bench.submit(ask.ImportCertificate(HOME, *pair)) for pair in zip(pem, keys, strict=True))
    assert "a.example" in made.names
    web = bench.balancer()
    secure = ask.CreateListener(HOME, web.arn, "HTTPS", 443, FIXED)
    bench.refused("ValidationError", secure, "A certificate must be specified for HTTPS listeners")
    bench.refused("CertificateNotFound", replace(secure, certificates=("arn:aws:acm:us-east-1:0:certificate/x",)))
    bench.refused("SSLPolicyNotFound", replace(secure, certificates=(made.arn,), ssl_policy="x"))
    listener, _ = bench.submit(replace(secure, certificates=(made.arn,)))
    bench.submit(ask.ModifyListener(HOME, listener.arn, add=(other.arn,)))
    bench.refused("ResourceInUse", ask.DeleteCertificate(HOME, other.arn))
    bench.refused("OperationNotPermitted", ask.ModifyListener(HOME, listener.arn, remove=(made.arn,)))
    bench.submit(ask.ModifyListener(HOME, listener.arn, remove=(other.arn,)))
    bench.submit(ask.DeleteCertificate(HOME, other.arn))
    assert list(bench.state.certificates) == [made.arn]


def test_certificates_that_haproxy_would_not_take_are_refused_and_others_are_kept_bare() -> None:
    bench = Bench()
    bench.now = 1_790_000_000.0
    weak = self_signed(rsa.generate_private_key(65537, 1024))
    bench.refused("ValidationError", ask.ImportCertificate(HOME, *weak), "algorithm or size that is not supported")
    odd = self_signed(ec.generate_private_key(ec.SECP256K1()))
    bench.refused("ValidationError", ask.ImportCertificate(HOME, *odd), "algorithm or size that is not supported")
    certificate, key = self_signed(ec.generate_private_key(ec.SECP256R1()))
    bench.refused("ValidationError", ask.ImportCertificate(HOME, certificate, key, weak[0]), "certificate chain")
    made = bench.submit(ask.ImportCertificate(HOME, weak[1] + certificate, key, odd[1] + certificate))
    assert (made.certificate, made.private_key, made.chain) == (certificate, key, certificate)


def test_keys_are_sealed_in_records_and_those_of_before_still_open() -> None:
    seal = AesGcmSeal(b"s" * 32, "keys of certificates")
    bench = Bench(Balancers(seal))
    bench.now = 1_790_000_000.0
    certificate, key = self_signed(ec.generate_private_key(ec.SECP256R1()))
    made = bench.submit(ask.ImportCertificate(HOME, certificate, key))
    assert not any("PRIVATE KEY" in str(record.body) for record in bench.records)
    assert key_of(seal, made) == key
    assert key_of(seal, replace(made, private_key=key)) == key
    with pytest.raises(ValueError):
        key_of(AesGcmSeal(b"o" * 32, "keys of certificates"), made)


def test_addresses_of_the_clouds_own_machine_are_no_targets_where_strangers_share_it() -> None:
    for loopback in (True, False):
        bench = Bench(Balancers(loopback=loopback))
        group = bench.group(target_type="ip")
        ask_it = ask.RegisterTargets(HOME, group.arn, (ask.TargetSpec("127.0.0.1", 9000),))
        if loopback:
            bench.submit(ask_it)
        else:
            bench.refused("InvalidTarget", ask_it, "'127.0.0.1' is the cloud's own machine")
            assert not bench.state.targets_of(group.arn)
        bench.submit(ask.RegisterTargets(HOME, group.arn, (ask.TargetSpec("192.0.2.1", 9000),)))


def certificate_of(name: str) -> tuple[str, str]:
    """A certificate for this name, and its key."""
    return self_signed(ec.generate_private_key(ec.SECP256R1()), name)


def self_signed(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, host: str = "a.example") -> tuple[str, str]:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    plan = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=9999))
    certificate = plan.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    return certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_priorities_are_unique_and_may_change_places() -> None:
    bench = Bench()
    web, app, api = bench.balancer(), bench.group(), bench.group("api")
    listener = bench.listener(web, forward(app))
    one = bench.submit(ask.CreateRule(HOME, listener.arn, 1, PATH, forward(api)))
    two = bench.submit(ask.CreateRule(HOME, listener.arn, 2, PATH, FIXED))
    error = bench.refused("PriorityInUse", ask.CreateRule(HOME, listener.arn, 2, PATH, FIXED))
    assert error.message == "Priority '2' is currently in use"
    bench.refused("PriorityInUse", ask.SetPriorities(HOME, {one.arn: 2}))
    bench.submit(ask.SetPriorities(HOME, {one.arn: 2, two.arn: 1}))
    assert [rule.arn for rule in bench.state.rules_of(listener.arn)][:2] == [two.arn, one.arn]
    bench.refused("ResourceInUse", ask.DeleteGroup(HOME, api.arn), "is currently in use by a listener or a rule")
    bench.submit(ask.DeleteRule(HOME, one.arn))
    bench.submit(ask.DeleteGroup(HOME, api.arn))
    default = bench.state.rules_of(listener.arn)[-1]
    bench.refused("OperationNotPermitted", ask.DeleteRule(HOME, default.arn), "cannot be deleted")
    for priority in (0, 50_001):
        bench.refused("ValidationError", ask.CreateRule(HOME, listener.arn, priority, PATH, FIXED))


@pytest.mark.parametrize(
    "conditions_",
    [
        (),
        (Condition("colour", ("red",)),),
        (Condition("path-pattern", ()),),
        (Condition("path-pattern", ("/a b",)),),
        (Condition("path-pattern", ("/" + "a" * 128,)),),
        (Condition("path-pattern", ("/a",)), Condition("path-pattern", ("/b",))),
        (Condition("host-header", ("localhost",)),),
        (Condition("host-header", ("a.example}",)),),
        (Condition("http-header", ("x",), header="Host"),),
        (Condition("http-header", ("x",), header="a b"),),
        (Condition("http-header", ("x",)),),
        (Condition("http-request-method", ("get",)),),
        (Condition("query-string", ("a",)),),
        (Condition("query-string", ("a=b&c=d",)),),
        (Condition("source-ip", ("10.0.0.1",)),),
        (Condition("source-ip", ("10.0.0.0/33",)),),
        (Condition("source-ip", ("10.0.0.0/0.0.0.255",)),),
        (Condition("source-ip", ("fe80::%x/64",)),),
        (Condition("http-header", ("1", "2", "3", "4", "5", "6"), header="x"),),
        (Condition("path-pattern", ("*******",)),),
    ],
)
def test_conditions_that_are_none(conditions_: tuple[Condition, ...]) -> None:
    bench = Bench()
    listener = bench.listener(bench.balancer(), FIXED)
    bench.refused("ValidationError", ask.CreateRule(HOME, listener.arn, 1, conditions_, FIXED))


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (Action("authenticate-oidc"), "ValidationError"),
        (Action("dance"), "ValidationError"),
        (Action("forward"), "ValidationError"),
        (Action("forward", (Weighted("arn:aws:x"),)), "TargetGroupNotFound"),
        (Action("redirect", status=301), "InvalidLoadBalancerAction"),
        (Action("redirect", status=303, port="443"), "ValidationError"),
        (Action("redirect", status=301, port="0"), "ValidationError"),
        (Action("redirect", status=301, path="x"), "ValidationError"),
        (Action("redirect", status=301, path="/#{query}"), "ValidationError"),
        (Action("redirect", status=301, host="%[env(HOME)]"), "ValidationError"),
        (Action("redirect", status=301, host="a#b"), "ValidationError"),
        (Action("fixed-response", status=301), "ValidationError"),
        (Action("fixed-response", status=200, content_type="image/png"), "ValidationError"),
        (Action("fixed-response", status=200, text="a" * 1025), "ValidationError"),
        (Action("fixed-response", status=200, text="\0"), "ValidationError"),
        (Action("fixed-response", status=200, text="\x7f"), "ValidationError"),
        (Action("redirect", status=301, port="000000080" + "1" * 5000), "ValidationError"),
    ],
)
def test_actions_that_are_none(action: Action, code: str) -> None:
    bench = Bench()
    bench.refused(code, ask.CreateListener(HOME, bench.balancer().arn, "HTTP", 80, action))


# --- target groups and targets


@pytest.mark.parametrize(
    ("health", "code"),
    [
        (HealthSpec(interval_s=4), "ValidationError"),
        (HealthSpec(interval_s=5, timeout_s=5), "ValidationError"),
        (HealthSpec(healthy=1), "ValidationError"),
        (HealthSpec(unhealthy=11), "ValidationError"),
        (HealthSpec(path="x"), "ValidationError"),
        (HealthSpec(path="/a\nb"), "ValidationError"),
        (HealthSpec(codes="500"), "ValidationError"),
        (HealthSpec(codes="2xx"), "ValidationError"),
        (HealthSpec(codes="300-200"), "ValidationError"),
        (HealthSpec(port="x"), "ValidationError"),
        (HealthSpec(port="00000008099999"), "ValidationError"),
        (HealthSpec(protocol="TCP"), "InvalidConfigurationRequest"),
    ],
)
def test_health_checks_that_are_none(health: HealthSpec, code: str) -> None:
    Bench().refused(code, ask.CreateGroup(HOME, "app", "HTTP", 80, health=health))


def test_defaults_of_health_checks_are_awss() -> None:
    bench = Bench()
    http, tcp, grpc = bench.group(), bench.group("tcp", "TCP"), bench.group("grpc", version="GRPC")
    assert (http.health.path, http.health.codes, http.health.interval_s, http.health.timeout_s) == ("/", "200", 30, 5)
    assert (tcp.health.protocol, tcp.health.timeout_s, tcp.version) == ("TCP", 10, "")
    assert (grpc.health.path, grpc.health.codes) == ("/AWS.ALB/healthcheck", "12")
    assert (http.health.healthy, http.health.unhealthy) == (5, 2)
    bench.refused("ValidationError", ask.CreateGroup(HOME, "f", "HTTP", 80, target_type="alb"), "not supported")
    bench.refused("ValidationError", ask.CreateGroup(HOME, "f", "HTTP", 80, target_type="x"), "instance, ip, lambda")
    zero = ask.CreateGroup(HOME, "zero", "HTTP", 80, "GRPC", health=HealthSpec(codes="0,12"))
    assert bench.submit(zero).health.codes == "0,12"
    bench.refused("DuplicateTargetGroupName", ask.CreateGroup(HOME, "app", "HTTP", 81, target_type="ip"))


def test_the_life_of_a_target() -> None:
    bench = Bench()
    web, app = bench.balancer(), bench.group()
    (target,) = bench.register(app, "10.0.0.1")
    assert bench.health(app) == {"10.0.0.1": ("unused", "Target.NotInUse")}
    bench.listener(web, forward(app))
    assert bench.health(app) == {"10.0.0.1": ("initial", "Elb.RegistrationInProgress")}
    bench.submit(ask.ObserveHealth(known=(target.key,)))
    assert bench.health(app) == {"10.0.0.1": ("initial", "Elb.InitialHealthChecking")}
    bench.submit(ask.ObserveHealth((Verdict(target.key, True),)))
    assert bench.health(app) == {"10.0.0.1": ("healthy", "")}
    bench.submit(ask.ObserveHealth((Verdict(target.key, False, "Target.ResponseCodeMismatch", "502"),)))
    assert bench.state.targets[target.key].description == "Health checks failed with these codes: [502]"
    bench.submit(ask.ObserveHealth((Verdict(target.key, False, "Target.Timeout"),)))
    assert bench.state.targets[target.key].description == "Request timed out"
    bench.submit(ask.DeregisterTargets(HOME, app.arn, spec("10.0.0.1")))
    assert bench.health(app) == {"10.0.0.1": ("draining", "Target.DeregistrationInProgress")}
    bench.submit(ask.ObserveHealth((Verdict(target.key, True),)))
    assert bench.health(app)["10.0.0.1"][0] == "draining"
    assert bench.machine.due() == bench.now + 300
    bench.tick(299)
    assert bench.health(app)
    bench.tick(1)
    assert bench.health(app) == {} and bench.machine.due() is None
    (absent,) = described(bench.state, app, spec("10.0.0.1"))
    assert (absent.state, absent.reason) == ("unused", "Target.NotRegistered")


def test_a_drain_ends_early_when_nothing_is_in_flight_and_a_new_registration_ends_it_too() -> None:
    bench = Bench()
    app = bench.group()
    bench.listener(bench.balancer(), forward(app))
    one, _ = bench.register(app, "10.0.0.1", "10.0.0.2")
    bench.submit(ask.DeregisterTargets(HOME, app.arn, spec("10.0.0.1", "10.0.0.2")))
    bench.submit(ask.TargetIdle(one.key))
    bench.register(app, "10.0.0.2")
    assert bench.health(app) == {"10.0.0.2": ("initial", "Elb.RegistrationInProgress")}
    bench.submit(ask.TargetIdle(one.key))
    bench.refused("InvalidTarget", ask.DeregisterTargets(HOME, app.arn, spec("10.0.0.9")))
    bench.submit(ask.SetAttributes(HOME, app.arn, {attributes.DELAY: "0"}))
    bench.submit(ask.DeregisterTargets(HOME, app.arn, spec("10.0.0.2")))
    assert bench.health(app) == {}


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "127.32.1.1", "127.64.0.9", "10.64.0.9"]
)
def test_addresses_that_are_no_targets(address: str) -> None:
    """Nobody's, a balancer's own (requests would go round for ever), or perhaps another tenant's instance."""
    bench = Bench()
    app = bench.group()
    bench.refused("InvalidTarget", ask.RegisterTargets(HOME, app.arn, spec(address)), address)
    assert GUESTS == (subnets.GUEST_POOL, subnets.LOOPBACK_POOL)


def test_instances_that_stop_are_unused_until_they_run_again() -> None:
    bench = Bench()
    app = bench.group(target_type="instance")
    bench.listener(bench.balancer(), forward(app))
    one = "i-0123456789abcdef0"
    bench.refused("InvalidTarget", ask.RegisterTargets(HOME, app.arn, spec(one)), "are not in a running state")
    bench.refused("ValidationError", ask.RegisterTargets(HOME, app.arn, spec("10.0.0.1")), "Instance ID")
    (target,) = bench.submit(ask.RegisterTargets(HOME, app.arn, (TargetSpec(one, 0, "127.64.0.9", "us-east-1a"),)))
    bench.submit(ask.ObserveHealth((Verdict(target.key, True),)))
    bench.submit(ask.InstanceSeen(one, ""))
    assert bench.health(app) == {one: ("unused", "Target.InvalidState")}
    bench.submit(ask.InstanceSeen(one, "127.64.0.10"))
    assert bench.health(app) == {one: ("initial", "Elb.RegistrationInProgress")}
    assert bench.state.targets[target.key].address == "127.64.0.10"
    bench.submit(ask.ObserveHealth((Verdict(target.key, True),)))
    bench.submit(ask.InstanceSeen(one, "127.64.0.11"))
    assert bench.health(app) == {one: ("initial", "Elb.RegistrationInProgress")}, "another address is another server"


def test_tags_on_everything() -> None:
    bench = Bench()
    web = bench.balancer()
    listener = bench.listener(web, FIXED)
    rule = bench.state.rules_of(listener.arn)[0]
    for arn in (web.arn, listener.arn, rule.arn, bench.group().arn):
        assert bench.submit(ask.SetTags(HOME, arn, {"a": "1", "b": "2"})) == {"a": "1", "b": "2"}
        assert bench.submit(ask.SetTags(HOME, arn, {}, ("a",))) == {"b": "2"}
    bench.refused("TooManyTags", ask.SetTags(HOME, web.arn, {str(n): "" for n in range(51)}))
    bench.refused("ValidationError", ask.SetTags(HOME, "arn:aws:x", {}))


def test_wildcards() -> None:
    import re

    for value, fits, differs in (
        ("/img/*", ("/img/", "/img/a/b"), ("/img", "/imgs/")),
        ("/a?c", ("/abc", "/a.c"), ("/ac", "/abbc")),
        (r"/a\*b", ("/a*b",), ("/axb",)),
        ("a.example", ("a.example",), ("abexample",)),
    ):
        form = re.compile(conditions.pattern(value))
        assert all(form.fullmatch(one) for one in fits) and not any(form.fullmatch(one) for one in differs)


FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:f"
STEPS = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 3), st.integers(0, 3)), max_size=40)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(STEPS)
def test_no_history_breaks_the_laws(steps: list[tuple[int, int, int]]) -> None:
    """The bench checks them after each step; what is refused changes nothing."""
    bench = Bench()
    webs = [bench.balancer(f"web-{n}") for n in range(2)]
    groups = [bench.group(f"app-{n}") for n in range(3)]
    groups.append(bench.group("function", "", port=0, target_type="lambda"))
    for what, a, b in steps:
        web, app, other = webs[a % 2], groups[a], groups[b]
        listeners = sorted(bench.state.listeners)
        listener = listeners[a % len(listeners)] if listeners else "none"
        address = f"{FUNCTION}:{b}" if app.has_function else f"10.0.0.{b}"
        key = target_key(app.arn, address, app.port)
        command = {
            0: ask.CreateListener(HOME, web.arn, "HTTP", 80 + b, forward(app)),
            1: ask.DeleteListener(HOME, listener),
            2: ask.CreateRule(HOME, listener, 1 + b, PATH, forward(*{app.arn: app, other.arn: other}.values())),
            3: ask.ModifyListener(HOME, listener, action=forward(other)),
            4: ask.RegisterTargets(HOME, app.arn, spec(address)),
            5: ask.DeregisterTargets(HOME, app.arn, spec(address)),
            6: ask.ObserveHealth((Verdict(key, bool(a % 2), "Target.Timeout"),), (key,)),
            7: ask.TargetIdle(key),
            8: ask.SetPriorities(HOME, dict.fromkeys(list(bench.state.rules)[: 1 + a], 1 + b)),
            9: ask.DeleteGroup(HOME, app.arn),
            10: ask.ModifyGroup(HOME, app.arn, HealthSpec(enabled=bool(b % 2))),
        }[what]
        try:
            bench.submit(command)
        except CloudError:
            bench.check_laws()
        bench.tick(40.0)
