"""The packet filter of one cloud on one host: pure text, applied in one transaction by the program `nft`.

What guests may reach, and nothing else:

    guest -> host              replies; ping; the cloud's services, at the gateway's address (redirected to where they
                               listen); the metadata service at 169.254.169.254. No other port of the host, on any of
                               its addresses: neither Ray's, nor the control plane's, nor the user's own services
    guest -> same account      free, also on another host's bridge of the same machine
    guest -> other account     nothing
    guest -> outside           free, behind the host's address (masquerade); link-local addresses excepted: there the
                               metadata service of a real cloud would hand out the host's credentials
    outside -> guest           replies only
    host -> guest              free (not filtered here)

Bridges are told apart by name: BRIDGE_PREFIX, a digest of (cloud, account), a dash, a digest of the host. So a rule can
say "any bridge of this account" and "any bridge of any minicloud" without knowing them. Guests cannot rename or add
interfaces: they have no capabilities. IPv6 is off inside, and dropped here.

The whole table is replaced at once (`delete` and definition in one transaction), so there is no moment without a
filter, and connections that stand are not disturbed. Our `accept` does not overrule a `drop` of another table.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from minicloud.base.errors import InvalidParameterValue, Unavailable

BRIDGE_PREFIX = "mcb"
METADATA_ADDRESS = IPv4Address("169.254.169.254")
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """Something of the cloud that guests may reach over TCP.

    address  where guests see it: None for the gateway of their subnet
    port     the port there; target, target_port: where it listens, from the host's point of view
    env      name of the guest's environment variable that gets its URL, "" for none; scheme "": host:port
    name     what its URL calls it instead of its address, where guests have an /etc/hosts of their own
    """

    port: int
    target: str
    target_port: int
    address: str | None = None
    env: str = ""
    scheme: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        for name in ("port", "target_port"):
            if not 0 < getattr(self, name) < 65536:
                raise InvalidParameterValue(f"not a port: {getattr(self, name)}", field=name)
        for name in ("target", "address"):
            value = getattr(self, name)
            if value is not None and not _is_ipv4(value):
                raise InvalidParameterValue(f"not an IPv4 address: {value!r}", field=name)

    def url(self, address: str, port: int) -> str:
        return f"{self.scheme}://{address}:{port}" if self.scheme else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class Filter:
    """What the rules depend on: the bridges of this cloud and host, by name, with their subnets."""

    table: str
    services: tuple[Service, ...] = ()
    bridges: dict[str, IPv4Network] = field(default_factory=dict)


def program() -> str | None:
    """Where `nft` is; users often have no sbin on their PATH."""
    return shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def bridge_name(cloud: str, host: str, account: str) -> str:
    """15 characters, the most that Linux takes."""
    return f"{account_prefix(cloud, account)}{_letters(host, 3)}"


def account_prefix(cloud: str, account: str) -> str:
    """How the names of all bridges of this account begin, on whatever host."""
    return f"{BRIDGE_PREFIX}{_letters(cloud + '/' + account, 8)}-"


def ruleset(state: Filter) -> str:
    """The text for `nft -f`. Without bridges an empty table: it tells other clouds that we are here."""
    if not state.bridges:
        return f"{removal(state.table)}table inet {state.table} {{}}\n"
    names = ", ".join(f'"{name}"' for name in sorted(state.bridges))
    gateways = ", ".join(str(subnet.network_address + 1) for subnet in state.bridges.values())
    subnets = ", ".join(str(subnet) for subnet in state.bridges.values())
    return f"""{removal(state.table)}table inet {state.table} {{
  set guests {{ type ifname; elements = {{ {names} }}; }}
  set gateways {{ type ipv4_addr; elements = {{ {gateways} }}; }}
  set subnets {{ type ipv4_addr; flags interval; elements = {{ {subnets} }}; }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname @guests jump to_host
  }}
  chain to_host {{
    ct state established,related accept
    icmp type echo-request accept
{_indented(_input_rules(state.services))}
    drop
  }}
  chain arrive {{
    type nat hook prerouting priority dstnat; policy accept;
{_indented(_redirect_rules(state.services))}
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
{_indented(_account_rules(state.bridges))}
    iifname @guests oifname "{BRIDGE_PREFIX}*" drop
    iifname @guests ip daddr 169.254.0.0/16 drop
    iifname @guests ip version 4 accept
    iifname @guests drop
    oifname @guests ct state established,related accept
    oifname @guests drop
  }}
  chain leave {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @subnets oifname != "{BRIDGE_PREFIX}*" masquerade
  }}
}}
"""


def removal(table: str) -> str:
    """The text that takes a table away, whether it is there or not."""
    return f"table inet {table} {{}}\ndelete table inet {table}\n"


def apply(text: str, nft: str = "nft") -> None:
    """Loads a ruleset: all of it, or nothing. Raises Unavailable with what nft said."""
    done = _run([nft, "-f", "-"], text)
    if done.returncode != 0:
        raise Unavailable(f"nft refused the rules: {done.stderr.strip()[:500]}")


def tables(nft: str = "nft") -> list[str]:
    """Names of the inet tables there are."""
    return [table["name"] for table in _listed(nft, "tables", "table") if table["family"] == "inet"]


def forwarding_refused(nft: str = "nft") -> list[str]:
    """Tables of others whose forward chains drop what they do not know (Docker's does): no outside for guests then."""
    chains = _listed(nft, "chains", "chain")
    return [f"{c['family']} {c['table']}" for c in chains if c.get("hook") == "forward" and c.get("policy") == "drop"]


def _listed(nft: str, what: str, key: str) -> list[dict[str, str]]:
    done = _run([nft, "-j", "list", what], "")
    if done.returncode != 0:
        raise Unavailable(f"nft cannot list {what}: {done.stderr.strip()[:500]}")
    return [entry[key] for entry in json.loads(done.stdout)["nftables"] if key in entry]


def _run(argv: list[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"nft cannot be run: {error}") from error


def _input_rules(services: tuple[Service, ...]) -> list[str]:
    """Only what came in by our redirection: `ct status dnat`, to exactly where a service listens."""
    targets = dict.fromkeys((service.target, service.target_port) for service in services)
    return [f"ct status dnat ip daddr {target} tcp dport {port} accept" for target, port in targets]


def _redirect_rules(services: tuple[Service, ...]) -> list[str]:
    return [
        f"iifname @guests ip daddr {service.address or '@gateways'} tcp dport {service.port}"
        f" dnat ip to {service.target}:{service.target_port}"
        for service in services
    ]


def _account_rules(bridges: dict[str, IPv4Network]) -> list[str]:
    rules: list[str] = []
    for name in sorted(bridges):
        account = name.rpartition("-")[0] + "-"
        rules.append(f'iifname "{name}" oifname "{account}*" accept')
        rules.append(f'iifname "{account}*" oifname "{name}" accept')
    return rules


def _indented(rules: list[str]) -> str:
    return "\n".join(f"    {rule}" for rule in rules)


def _letters(text: str, count: int) -> str:
    """The first letters of a digest, in lower-case base 32: five bits each."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:count].decode().lower()


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True
