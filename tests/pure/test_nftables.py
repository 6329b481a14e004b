"""The text of the packet filter; that it filters is shown by tests/contract/test_guest_network.py."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from minicloud.base.errors import InvalidParameterValue
from minicloud.sandbox import nftables
from minicloud.sandbox.nftables import Filter, Service, bridge_name

FRONT_DOOR = Service(7077, "127.0.0.1", 17077, env="MINICLOUD_ENDPOINT")
METADATA = Service(
    80, "127.0.0.1", 9999, address="169.254.169.254", env="AWS_EC2_METADATA_SERVICE_ENDPOINT", scheme="http"
)


def rules_of(text: str, chain: str) -> list[str]:
    body = text.split(f"chain {chain} {{\n")[1].split("}\n")[0]
    return [line.strip() for line in body.splitlines() if line.strip()]


def test_interface_names_fit_linux_and_tell_accounts_and_hosts_apart() -> None:
    names = {bridge_name(c, h, a) for c in ("c1", "c2") for h in ("h1", "h2") for a in ("000000000000", "111111111111")}
    assert len(names) == 8
    assert all(len(name) == 15 and name.startswith("mcb") for name in names)
    prefix = nftables.account_prefix("c1", "000000000000")
    assert {name for name in names if name.startswith(prefix)} == {
        bridge_name("c1", "h1", "000000000000"),
        bridge_name("c1", "h2", "000000000000"),
    }


def test_host_is_closed_but_for_redirected_services() -> None:
    text = nftables.ruleset(
        Filter("minicloud_1", (FRONT_DOOR, METADATA), {"mcbaaaaaaaa-bbb": IPv4Network("10.64.0.0/22")})
    )
    assert rules_of(text, "to_host") == [
        "ct state established,related accept",
        "icmp type echo-request accept",
        "ct status dnat ip daddr 127.0.0.1 tcp dport 17077 accept",
        "ct status dnat ip daddr 127.0.0.1 tcp dport 9999 accept",
        "drop",
    ]
    assert rules_of(text, "arrive")[1:] == [
        "iifname @guests ip daddr @gateways tcp dport 7077 dnat ip to 127.0.0.1:17077",
        "iifname @guests ip daddr 169.254.169.254 tcp dport 80 dnat ip to 127.0.0.1:9999",
    ]


def test_a_table_is_replaced_in_one_transaction() -> None:
    text = nftables.ruleset(Filter("minicloud_1", (), {"mcbaaaaaaaa-bbb": IPv4Network("10.64.0.0/22")}))
    assert text.startswith("table inet minicloud_1 {}\ndelete table inet minicloud_1\ntable inet minicloud_1 {\n")


def test_without_bridges_the_table_stands_empty() -> None:
    assert nftables.ruleset(Filter("minicloud_1")).endswith("table inet minicloud_1 {}\n")


def test_accounts_are_dropped_after_their_own_bridges_are_accepted() -> None:
    bridges = {bridge_name("c", "h", a): IPv4Network(net) for a, net in (("1", "10.64.0.0/22"), ("2", "10.64.4.0/22"))}
    rules = rules_of(nftables.ruleset(Filter("minicloud_1", (), bridges)), "forward")
    drop = rules.index('iifname @guests oifname "mcb*" drop')
    for name in bridges:
        assert rules.index(f'iifname "{name}" oifname "{name[:-3]}*" accept') < drop
    assert rules[-1] == "oifname @guests drop"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"port": 0}, "port"),
        ({"target_port": 65536}, "target_port"),
        ({"target": "localhost; drop"}, "target"),
        ({"address": "::1"}, "address"),
    ],
)
def test_a_service_that_would_spoil_the_rules_is_refused(fields: dict[str, object], field: str) -> None:
    good: dict[str, object] = {"port": 1, "target": "127.0.0.1", "target_port": 1}
    with pytest.raises(InvalidParameterValue) as caught:
        Service(**{**good, **fields})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_urls() -> None:
    assert FRONT_DOOR.url("10.64.0.1", 7077) == "10.64.0.1:7077"
    assert METADATA.url("169.254.169.254", 80) == "http://169.254.169.254:80"
