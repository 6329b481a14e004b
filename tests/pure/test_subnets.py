from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicloud.base.errors import InsufficientCapacity, InvalidParameterValue
from minicloud.sandbox import subnets

SEED = ("cloud", "host", "000000000000")
words = st.text(st.characters(codec="ascii"), min_size=1, max_size=12)


@given(cloud=words, host=words, account=words)
def test_the_same_names_choose_the_same_subnet_of_the_pool(cloud: str, host: str, account: str) -> None:
    first = subnets.choose_subnet((cloud, host, account), [])
    assert first == subnets.choose_subnet((cloud, host, account), [])
    assert first.subnet_of(subnets.GUEST_POOL)
    assert first.prefixlen == subnets.SUBNET_BITS


@given(blocked=st.lists(st.integers(0, 4095), max_size=40))
def test_routes_of_the_host_are_avoided(blocked: list[int]) -> None:
    base = int(subnets.GUEST_POOL.network_address)
    taken = [IPv4Network((base + slot * 1024, 22)) for slot in blocked]
    taken.append(subnets.choose_subnet(SEED, taken))
    chosen = subnets.choose_subnet(SEED, taken)
    assert not any(chosen.overlaps(other) for other in taken)


def test_a_route_wider_than_a_subnet_blocks_all_that_is_in_it() -> None:
    half = IPv4Network("10.64.0.0/11")
    chosen = [subnets.choose_subnet(("c", "h", str(n)), [half]) for n in range(50)]
    assert not any(half.overlaps(subnet) for subnet in chosen)


def test_names_do_not_run_into_each_other() -> None:
    assert subnets.digest("ab", "c") != subnets.digest("a", "bc")


def test_a_full_pool_says_so() -> None:
    with pytest.raises(InsufficientCapacity, match=r"no free /22 in 10\.64\.0\.0/10"):
        subnets.choose_subnet(SEED, [IPv4Network("10.0.0.0/8")])


def test_a_subnet_is_given_out_to_the_last_address_and_no_further() -> None:
    subnet = IPv4Network("10.64.8.0/28")
    used: set[IPv4Address] = set()
    for n in range(11):
        address = subnets.choose_address(subnet, f"i-{n}", used)
        assert address not in used
        used.add(address)
    assert {int(address) - int(subnet.network_address) for address in used} == set(range(4, 15))
    with pytest.raises(InsufficientCapacity, match="no free address: 11 are in use"):
        subnets.choose_address(subnet, "i-one-more", used)


def test_an_instance_prefers_the_address_it_had() -> None:
    subnet = IPv4Network("10.64.8.0/22")
    assert subnets.choose_address(subnet, "i-1", set()) == subnets.choose_address(
        subnet, "i-1", {IPv4Address("10.64.8.4")}
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.64.8.3", "not an address for guests"),
        ("10.64.11.255", "not an address for guests"),
        ("10.64.12.4", "not an address for guests"),
        ("10.64.8.9", "in use"),
        ("ten", "not an IPv4 address"),
    ],
)
def test_an_address_that_cannot_be_had_is_named(text: str, why: str) -> None:
    with pytest.raises(InvalidParameterValue, match=why) as caught:
        subnets.checked_address(IPv4Network("10.64.8.0/22"), text, {IPv4Address("10.64.8.9")})
    assert caught.value.field == "address"


def test_an_address_that_is_free_is_given() -> None:
    assert subnets.checked_address(IPv4Network("10.64.8.0/22"), "10.64.8.4", set()) == IPv4Address("10.64.8.4")
