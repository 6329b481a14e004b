"""The tree of instance metadata."""

from __future__ import annotations

import json

import pytest

from minicloud.host.metadata import BYTES, TEXT, GuestFacts, made_up_mac, page, tree
from minicloud.wire.fleet_pb2 import GuestSpec
from minicloud.wire.instance_pb2 import MetadataOptions

SPEC = GuestSpec(
    instance_id="i-0123456789abcdef0",
    account="123456789012",
    region="us-east-1",
    zone="us-east-1b",
    host_id="h-0123456789abcdef0",
    type="t3.micro",
    image_id="ami-0123456789abcdef0",
    user_data="#!/bin/sh\n",
    public_key="ssh-ed25519 AAAA me",
    key_name="my-key",
    metadata_options=MetadataOptions(http_tokens="optional", http_endpoint="enabled"),
    tags={"Name": "web", "with space": "x", "a/b": "y", "..": "z", "empty": ""},
    hostname="i-0123456789abcdef0",
    reservation_id="r-0123456789abcdef0",
    launch_index=2,
    launch_time=1_700_000_000.7,
    architecture="x86_64",
)
FACTS = GuestFacts(SPEC, "10.0.3.4")
MAC = made_up_mac(SPEC.instance_id)


def shown(path: str, facts: GuestFacts = FACTS) -> str | None:
    found = page(facts, path)
    return found.text if found is not None else None


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ami-id", "ami-0123456789abcdef0"),
        ("ami-launch-index", "2"),
        ("hostname", "i-0123456789abcdef0.us-east-1.compute.internal"),
        ("local-hostname", "i-0123456789abcdef0.us-east-1.compute.internal"),
        ("instance-id", "i-0123456789abcdef0"),
        ("instance-type", "t3.micro"),
        ("instance-life-cycle", "on-demand"),
        ("local-ipv4", "10.0.3.4"),
        ("mac", MAC),
        ("placement/availability-zone", "us-east-1b"),
        ("placement/availability-zone/", "us-east-1b"),
        ("placement/region", "us-east-1"),
        ("placement/host-id", "h-0123456789abcdef0"),
        ("placement", "availability-zone\nhost-id\nregion"),
        ("public-keys/", "0=my-key"),
        ("public-keys/0", "openssh-key"),
        ("public-keys/0/openssh-key", "ssh-ed25519 AAAA me\n"),
        ("reservation-id", "r-0123456789abcdef0"),
        ("security-groups", "default"),
        ("services/domain", "amazonaws.com"),
        ("services/partition", "aws"),
        ("tags/instance", "Name\nempty"),
        ("tags/instance/Name", "web"),
        ("tags/instance/empty", ""),
        ("events/maintenance/scheduled", "[]"),
        (f"network/interfaces/macs/{MAC}/local-ipv4s", "10.0.3.4"),
        ("network/interfaces/macs/", f"{MAC}/"),
        ("iam/", None),
        ("iam/security-credentials/", None),
        ("spot/instance-action", None),
        ("instance-id/more", None),
        ("tags/instance/a/b", None),
        ("nothing", None),
    ],
)
def test_meta_data(path: str, text: str | None) -> None:
    for version in ("latest", "2021-07-15", "1.0"):
        assert shown(f"/{version}/meta-data/{path}") == text


def test_listings_mark_directories() -> None:
    listing = (shown("/latest/meta-data/") or "").split("\n")
    assert listing == sorted(listing)
    assert {"ami-id", "placement/", "public-keys/", "tags/", "events/"} <= set(listing)
    assert shown("/latest") == "dynamic/\nmeta-data/\nuser-data"
    assert "latest" in (shown("/") or "").split("\n")


def test_versions_that_never_were_do_not_exist() -> None:
    assert shown("/2099-01-01/meta-data/") is None and shown("/newest/") is None


def test_user_data_is_bytes_and_absent_where_there_is_none() -> None:
    found = page(FACTS, "/latest/user-data")
    assert found is not None and (found.text, found.content_type) == ("#!/bin/sh\n", BYTES)
    assert page(GuestFacts(GuestSpec(instance_id="i-1"), "10.0.0.1"), "/latest/user-data") is None


def test_what_a_guest_has_not_is_not_listed() -> None:
    data = tree(GuestFacts(GuestSpec(instance_id="i-1"), "10.0.0.1"))["meta-data"]
    assert not {"tags", "public-keys", "iam", "spot"} & set(data)


def test_the_identity_document() -> None:
    found = page(FACTS, "/latest/dynamic/instance-identity/document")
    assert found is not None and found.content_type == TEXT
    document = json.loads(found.text)
    assert document["pendingTime"] == "2023-11-14T22:13:20Z"
    assert (document["accountId"], document["privateIp"]) == ("123456789012", "10.0.3.4")
    assert shown("/latest/dynamic/instance-identity/signature") is None


def test_the_mac_is_local_unicast_and_stays() -> None:
    assert MAC == made_up_mac(SPEC.instance_id) != made_up_mac("i-2")
    assert int(MAC[:2], 16) & 3 == 2
    assert page(GuestFacts(SPEC, "10.0.0.1", "02:00:00:00:00:01"), "/latest/meta-data/mac").text == "02:00:00:00:00:01"  # type: ignore[union-attr]
