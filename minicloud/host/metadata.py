"""What the instance metadata service knows of one guest: a tree of texts, made from its GuestSpec. Pure.

Source: EC2 User Guide, "Instance metadata categories" and "Instance identity documents". A directory lists its
entries, directories with a slash behind them; a path may end in a slash or not. Where minicloud has no such thing,
the path does not exist: iam/ (without a role), spot/, signatures of the identity document (nobody would trust
our key), placement/group-name (a host is not told), block-device-mapping/. The mac is made from the instance id
unless the network driver says otherwise. Tags are listed where AWS allows them in metadata: no spaces, slashes, '.',
'..' or '_index'.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from minicloud.wire.fleet_pb2 import GuestSpec

VERSIONS = (
    *("1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01"),
    *("2009-04-04", "2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19"),
    *("2016-06-30", "2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03"),
    *("2021-03-23", "2021-07-15", "2022-09-24", "2024-04-11", "latest"),
)
TEXT, BYTES = "text/plain", "application/octet-stream"
_TAG_KEY = re.compile(r"(?!\.{1,2}$|_index$)[A-Za-z0-9+\-=._:,@]+")

Tree = Mapping[str, Any]  # leaves are str, or make one
Credentials = Callable[[GuestSpec], str]


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """One guest as the metadata service shows it. `private_ip`: its real one; `mac` '': made up from its id."""

    spec: GuestSpec
    private_ip: str
    mac: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What a path shows."""

    text: str
    content_type: str = TEXT


def page(facts: GuestFacts, path: str, credentials: Credentials | None = None) -> Page | None:
    """What `path` (without query) shows; None: nothing there. `credentials`: makes the text of a role's."""
    parts = [part for part in path.split("/") if part]
    if not parts:
        return Page("\n".join(VERSIONS))
    if parts[0] not in VERSIONS:
        return None
    node: Any = tree(facts, credentials)
    for part in parts[1:]:
        node = node.get(part) if isinstance(node, Mapping) else None
    if node is None:
        return None
    if callable(node):
        node = node()
    if isinstance(node, str):
        return Page(node, _content_type(parts[1:]))
    if parts[1:] == ["meta-data", "public-keys"]:
        return Page(f"0={facts.spec.key_name}")
    return Page("\n".join(name + ("/" if isinstance(node[name], Mapping) else "") for name in sorted(node)))


def _content_type(parts: list[str]) -> str:
    if parts == ["user-data"]:
        return BYTES
    return TEXT


def tree(facts: GuestFacts, credentials: Credentials | None = None) -> Tree:
    """Everything under a version. Leaves are texts, or make one when they are asked for."""
    whole: dict[str, Any] = {
        "dynamic": {"instance-identity": {"document": identity_document(facts)}},
        "meta-data": _meta_data(facts),
    }
    if facts.spec.HasField("role") and credentials is not None:
        whole["meta-data"]["iam"] = _iam(facts.spec, credentials)
    if facts.spec.user_data:
        whole["user-data"] = facts.spec.user_data
    return whole


def _iam(spec: GuestSpec, credentials: Credentials) -> Tree:
    role = spec.role
    launched = datetime.fromtimestamp(int(spec.launch_time), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    info = {
        "Code": "Success",
        "LastUpdated": launched,
        "InstanceProfileArn": role.profile_arn,
        "InstanceProfileId": role.profile_id,
    }
    return {
        "info": json.dumps(info, indent=2),
        "security-credentials": {role.name: lambda: credentials(spec)},
    }


def _meta_data(facts: GuestFacts) -> dict[str, Any]:
    spec = facts.spec
    name, mac = private_dns_name(facts), facts.mac or made_up_mac(spec.instance_id)
    placement = {"availability-zone": spec.zone, "region": spec.region, "host-id": spec.host_id}
    data: dict[str, Any] = {
        "ami-id": spec.image_id,
        "ami-launch-index": str(spec.launch_index),
        "ami-manifest-path": "(unknown)",
        "events": {"maintenance": {"history": "[]", "scheduled": "[]"}},
        "hostname": name,
        "instance-action": "none",
        "instance-id": spec.instance_id,
        "instance-life-cycle": "on-demand",
        "instance-type": spec.type,
        "local-hostname": name,
        "local-ipv4": facts.private_ip,
        "mac": mac,
        "network": {"interfaces": {"macs": {mac: _interface(facts, name, mac)}}},
        "placement": {key: value for key, value in placement.items() if value},
        "reservation-id": spec.reservation_id,
        "security-groups": _security_groups(spec),
        "services": {"domain": "amazonaws.com", "partition": "aws"},
    }
    if spec.public_key:
        data["public-keys"] = {"0": {"openssh-key": spec.public_key.strip() + "\n"}}
    tags = {key: value for key, value in spec.tags.items() if _TAG_KEY.fullmatch(key)}
    if tags:
        data["tags"] = {"instance": tags}
    return data


def _interface(facts: GuestFacts, name: str, mac: str) -> Tree:
    return {
        "device-number": "0",
        "local-hostname": name,
        "local-ipv4s": facts.private_ip,
        "mac": mac,
        "owner-id": facts.spec.account,
        "security-groups": _security_groups(facts.spec),
    }


def _security_groups(spec: GuestSpec) -> str:
    return "\n".join(spec.security_groups) or "default"


def identity_document(facts: GuestFacts) -> str:
    spec = facts.spec
    launched = datetime.fromtimestamp(int(spec.launch_time), UTC)
    return json.dumps(
        {
            "accountId": spec.account,
            "architecture": spec.architecture,
            "availabilityZone": spec.zone,
            "billingProducts": None,
            "devpayProductCodes": None,
            "marketplaceProductCodes": None,
            "imageId": spec.image_id,
            "instanceId": spec.instance_id,
            "instanceType": spec.type,
            "kernelId": None,
            "pendingTime": launched.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "privateIp": facts.private_ip,
            "ramdiskId": None,
            "region": spec.region,
            "version": "2017-09-30",
        },
        indent=2,
    )


def private_dns_name(facts: GuestFacts) -> str:
    """By the resource, as EC2 calls it, not by the address; the same as in the API's answers."""
    return f"{facts.spec.instance_id}.{facts.spec.region}.compute.internal"


def made_up_mac(instance_id: str) -> str:
    """A locally administered unicast address that stays the same for an instance."""
    digest = hashlib.sha256(instance_id.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))
