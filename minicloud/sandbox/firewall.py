"""The packet filter of one guest, inside its own network namespace: pure text, and `enforce`, which applies it.

Guests have no capabilities, so they cannot touch it. It holds for whatever reaches the guest: other guests on the same
bridge, guests elsewhere, the host. It stands on top of what the host's own rules allow (nftables.py).

    in     replies; loopback; what the rules let in
    out    replies; loopback; the metadata service; name lookups; what the rules let out

AWS's security groups neither filter the metadata service nor its name server (VPC User Guide, "Security groups").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, collapse_addresses

from minicloud.sandbox import linux, nftables

TABLE = "minicloud_guest"
_ICMP_ANY = -1


@dataclass(frozen=True, slots=True)
class Rule:
    """`protocol`: tcp, udp, icmp, a number; "" any. Ports (or ICMP type and code) -1: any. `peers`: IPv4 ranges."""

    protocol: str
    from_port: int
    to_port: int
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Firewall:
    ingress: tuple[Rule, ...]
    egress: tuple[Rule, ...]


def ruleset(firewall: Firewall | None) -> str:
    """The text for `nft -f`, in the guest's namespace; replaces what was there at once. None: no filter."""
    if firewall is None:
        return nftables.removal(TABLE)
    inward = "\n".join(_lines(firewall.ingress, "saddr"))
    outward = "\n".join(_lines(firewall.egress, "daddr"))
    return f"""{nftables.removal(TABLE)}table inet {TABLE} {{
  chain input {{
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iif lo accept
{inward}
  }}
  chain output {{
    type filter hook output priority filter; policy drop;
    ct state established,related accept
    oif lo accept
    ip daddr {nftables.METADATA_ADDRESS} accept
    meta l4proto {{ tcp, udp }} th dport 53 accept
{outward}
  }}
}}
"""


def _lines(rules: Iterable[Rule], side: str) -> Iterable[str]:
    for rule in rules:
        if rule.peers:
            yield f"    ip {side} {{ {', '.join(_disjoint(rule.peers))} }}{_matched(rule)} accept"


def _disjoint(peers: Iterable[str]) -> Iterable[str]:
    """Sets of nft take no overlapping ranges."""
    return [str(one) for one in collapse_addresses(IPv4Network(peer) for peer in peers)]


def _matched(rule: Rule) -> str:
    if rule.protocol in ("tcp", "udp"):
        return f" {rule.protocol} dport {rule.from_port}-{rule.to_port}"
    if rule.protocol == "icmp" and rule.from_port != _ICMP_ANY:
        code = f" icmp code {rule.to_port}" if rule.to_port != _ICMP_ANY else ""
        return f" icmp type {rule.from_port}{code}"
    return f" ip protocol {rule.protocol}" if rule.protocol else ""


def enforce(netns_path: str, firewall: Firewall | None, nft: str = "nft") -> None:
    """Blocks for some milliseconds; on a thread of its own. Raises Unavailable, OSError."""
    with linux.inside_netns(netns_path):
        nftables.apply(ruleset(firewall), nft)
