"""Security groups on the bench: what hosts are told lets through exactly what the rules say, checked on packets."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicloud.base.errors import (
    AlreadyExists,
    CloudError,
    DependencyViolation,
    InvalidParameterValue,
    LimitExceeded,
    NotFound,
    OperationNotPermitted,
    UnsupportedOperation,
)
from minicloud.compute import security, vpc
from minicloud.compute.commands import ModifyInstance, SetTags, TerminateInstances
from minicloud.compute.firewall import Firewalls, firewall
from minicloud.compute.model import Instance, SecurityGroup
from minicloud.compute.state import Touched
from tests.pure.compute_bench import HOME, STRANGER, Bench, host

SSH = {"protocol": "tcp", "from": 22, "to": 22, "cidr": "0.0.0.0/0"}


def group(bench: Bench, name: str = "web", **fields: Any) -> SecurityGroup:
    made: SecurityGroup = bench.submit(security.CreateSecurityGroup(HOME, name, "of a test", **fields))
    return made


def allow(bench: Bench, one: SecurityGroup, *rules: dict[str, Any], direction: str = "ingress") -> Any:
    return bench.submit(security.ChangeRules(HOME, one.id, direction, add=rules))


def test_the_default_group_is_open_until_somebody_changes_it() -> None:
    bench = Bench()
    (one,) = bench.running()
    assert firewall(bench.state, one) is None
    default = security.default_group(HOME)
    assert not bench.state.security_groups
    bench.submit(security.ChangeRules(HOME, default.id, "ingress", remove_ids=(vpc.made_id("sgr", HOME, "in"),)))
    walled = firewall(bench.state, one)
    assert walled is not None and [list(rule.peers) for rule in walled.ingress] == [["10.0.0.9/32"]]
    assert security.find(bench.state, STRANGER, security.default_group(STRANGER).id).ingress[1]["cidr"] == "0.0.0.0/0"


def test_groups_that_are_used_or_named_stay() -> None:
    bench = Bench()
    web, door = group(bench), group(bench, "door")
    (one,) = bench.running(security_groups=(web.id,))
    allow(bench, door, {"protocol": "-1", "group": web.id})
    with pytest.raises(DependencyViolation):
        bench.submit(security.DeleteSecurityGroup(HOME, web.id))
    bench.submit(TerminateInstances(HOME, (one.id,)))
    bench.report(one, "ended")
    with pytest.raises(DependencyViolation):
        bench.submit(security.DeleteSecurityGroup(HOME, web.id))
    bench.submit(security.DeleteSecurityGroup(HOME, door.id))
    bench.submit(security.DeleteSecurityGroup(HOME, web.id))
    with pytest.raises(NotFound):
        bench.launch(security_groups=(web.id,))
    with pytest.raises(OperationNotPermitted):
        bench.submit(security.DeleteSecurityGroup(HOME, vpc.default_group_id(HOME)))


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ({**SSH, "cidr": "10.0.0.0/33"}, InvalidParameterValue),
        ({**SSH, "from": 23, "to": 22}, InvalidParameterValue),
        ({**SSH, "to": 70000}, InvalidParameterValue),
        ({"protocol": "tcp", "cidr": "0.0.0.0/0"}, InvalidParameterValue),
        ({**SSH, "protocol": "quic"}, InvalidParameterValue),
        ({**SSH, "protocol": "icmp", "from": 256, "to": -1}, InvalidParameterValue),
        ({**SSH, "protocol": "1", "from": -1, "to": 4}, InvalidParameterValue),
        ({**SSH, "description": "x" * 256}, InvalidParameterValue),
        ({"protocol": "-1", "group": "sg-0123456789abcdef0"}, NotFound),
        (SSH, AlreadyExists),
        ({**SSH, "protocol": "6"}, AlreadyExists),
        ({**SSH, "cidr": "1.2.3.4/0"}, AlreadyExists),
    ],
)
def test_bad_rules_change_nothing(rule: dict[str, Any], error: type[CloudError]) -> None:
    bench = Bench()
    web = group(bench)
    allow(bench, web, SSH)
    before = bench.state.security_groups[web.id]
    with pytest.raises(error):
        allow(bench, web, {"protocol": "udp", "from": 53, "to": 53, "cidr": "0.0.0.0/0"}, rule)
    assert bench.state.security_groups[web.id] == before


def test_limits_and_names() -> None:
    bench = Bench()
    web = group(bench)
    with pytest.raises(AlreadyExists):
        group(bench)
    for name in ("default", "sg-mine", "", "x" * 256, "ümlaut"):
        with pytest.raises(InvalidParameterValue):
            group(bench, name)
    ports = [{**SSH, "from": port, "to": port} for port in range(60)]
    allow(bench, web, *ports)
    with pytest.raises(LimitExceeded):
        allow(bench, web, {**SSH, "from": 99, "to": 99})
    others = [group(bench, f"g{number}").id for number in range(6)]
    with pytest.raises(LimitExceeded):
        bench.launch(security_groups=tuple(others))
    bench.submit(SetTags(HOME, web.id, {"Name": "w"}))
    assert bench.state.security_groups[web.id].tags == {"Name": "w"}


def test_hosts_without_networks_take_nobody_who_must_be_walled() -> None:
    plain = host("host-a", isolation={"network": "loopback"})
    bench = Bench(plain)
    web = group(bench)
    with pytest.raises(UnsupportedOperation, match="host-a"):
        bench.launch(security_groups=(web.id,))
    everything = {"protocol": "-1", "cidr": "0.0.0.0/0"}
    allow(bench, web, everything)
    (one,) = bench.running(security_groups=(web.id,))
    with pytest.raises(UnsupportedOperation):
        bench.submit(security.ChangeRules(HOME, web.id, "ingress", remove=(everything,)))
    shut = group(bench, "shut")
    with pytest.raises(UnsupportedOperation):
        bench.submit(ModifyInstance(HOME, one.id, security_groups=(shut.id,)))


def test_hosts_are_told_when_it_makes_a_difference() -> None:
    bench = Bench()
    web = group(bench)
    told: list[str] = []
    walls = Firewalls(bench.state, lambda one: (told.append(one.id), walls.of(one))[0])  # type: ignore[func-returns-value]

    def stirred(entity: Instance | SecurityGroup) -> list[str]:
        told.clear()
        walls.touched(Touched(entity.kind, entity.id, entity))
        walls.settle()
        return list(told)

    (free,) = bench.running()
    (one,) = bench.running(security_groups=(web.id,))
    assert stirred(free) == [one.id]  # who is walled is told once it runs; who is open is not
    assert stirred(one) == []
    allow(bench, web, {"protocol": "-1", "group": web.id})
    assert stirred(bench.state.security_groups[web.id]) == [one.id]
    (two,) = bench.running(security_groups=(web.id,))
    bench.report(two, "running", private_ip="10.0.0.10")
    assert stirred(bench.at(two)) == [one.id, two.id] or set(told) == {one.id, two.id}
    walls.again([bench.at(one), bench.at(free)])
    assert told[-2:] == [one.id, free.id]


# --- packets against a dumb twin

PEERS = st.sampled_from(["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "192.0.2.0/24"])
PORTS = st.integers(0, 40)
RULES = st.lists(
    st.builds(
        lambda protocol, ports, peer: (
            {"protocol": protocol, "cidr": peer}
            | ({"from": min(ports), "to": max(ports)} if protocol in ("tcp", "udp") else {})
        ),
        st.sampled_from(["tcp", "udp", "-1", "50"]),
        st.tuples(PORTS, PORTS),
        PEERS,
    ),
    max_size=5,
)
PACKETS = st.tuples(
    st.sampled_from(["tcp", "udp", "50", "47"]),
    PORTS,
    st.sampled_from(["10.1.2.3", "10.9.9.9", "192.0.2.7", "8.8.8.8"]),
)


def passes(rules: list[dict[str, Any]], packet: tuple[str, int, str]) -> bool:
    protocol, port, peer = packet
    return any(
        rule["protocol"] in ("-1", protocol)
        and ("from" not in rule or rule["from"] <= port <= rule["to"])
        and ip_address(peer) in ip_network(rule["cidr"])
        for rule in rules
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(RULES, min_size=1, max_size=3), st.lists(PACKETS, min_size=1, max_size=8))
def test_what_hosts_enforce_is_what_the_rules_allow(per_group: list[list[dict[str, Any]]], packets: list[Any]) -> None:
    bench = Bench()
    ids = []
    for number, rules in enumerate(per_group):
        made = group(bench, f"g{number}")
        unique = list({str(sorted(rule.items())): rule for rule in rules}.values())
        allow(bench, made, *unique)
        ids.append(made.id)
    (one,) = bench.running(security_groups=tuple(ids))
    told = firewall(bench.state, one)
    every = [rule for rules in per_group for rule in rules]
    for packet in packets:
        enforced = told is None or any(
            rule.protocol in ("", packet[0])
            and (rule.from_port == -1 or rule.from_port <= packet[1] <= rule.to_port)
            and any(ip_address(packet[2]) in ip_network(peer) for peer in rule.peers)
            for rule in told.ingress
        )
        assert enforced == passes(every, packet), packet
