"""Whom the front door lets in, as configuration; that HAProxy does it is tests/cluster/test_proxy.py."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from minicloud.base.errors import InvalidParameterValue
from minicloud.proxy.front_door import DoorPaths, front_door, known_names
from minicloud.settings import CloudSettings, ShardSettings, TlsFiles

SETTINGS = CloudSettings(cloud_id="0" * 8, data_dir="/d", control_port=20_001, control_http_port=20_002)
PATHS = DoorPaths(Path("/d/run/s/door"))


def text(settings: CloudSettings = SETTINGS, paths: DoorPaths = PATHS) -> str:
    return front_door(settings, paths).render()


def known_origin(settings: CloudSettings = SETTINGS) -> re.Pattern[str]:
    match = re.search(r"acl known_origin req.hdr\(origin\) -m reg -i -- '(.*)'$", text(settings), re.MULTILINE)
    assert match is not None
    return re.compile(match[1], re.IGNORECASE)


def test_both_doors_listen_where_they_should() -> None:
    assert "bind 127.0.0.1:7077\n" in text()
    assert "bind 127.0.0.1:4566\n" in text()
    assert "bind [::1]:4566\n" in text(replace(SETTINGS, bind="::1"))


def test_each_goes_to_its_own_port() -> None:
    assert "server control 127.0.0.1:20001 weight 100 proto h2" in text()
    assert "server control 127.0.0.1:20002 weight 100\n" in text()


def test_each_broker_has_its_part_of_the_path() -> None:
    made = text(replace(SETTINGS, brokers=(ShardSettings(1, 20_003), ShardSettings(2, 20_004))))
    for number in (0, 1):
        assert f"server broker 127.0.0.1:{20_003 + number} weight 100\n" in made
    assert re.search(
        r"acl of_broker_1 path -m beg -- '?/_minicloud/sns/1/'?\n\s*use_backend broker_1 if of_broker_1\n", made
    )


def test_aws_requests_go_to_who_owns_the_service() -> None:
    shards = {"brokers": (ShardSettings(1, 20_003),), "functions": (ShardSettings(2, 20_005),)}
    made = text(replace(SETTINGS, **shards))
    for service in ("sqs", "sns"):
        assert re.search(rf"acl for_broker req.fhdr\(authorization\),field\(4,/\) -m str -- '?{service}'?\n", made)
    assert re.search(r"acl for_broker req.hdr\(x-amz-target\) -m beg -- '?AmazonSQS\.", made)
    assert re.search(r"acl for_functions req.hdr\(host\),host_only,lower -m sub -- '?\.lambda-url\.", made)
    assert "use_backend broker_0 if for_broker\n" in made and "use_backend functions if for_functions\n" in made
    assert "for_balancer" not in made  # nobody is there


def test_the_control_plane_learns_by_which_name_it_was_reached() -> None:
    assert re.search(r"set-header X-Minicloud-Reached-As .*req.hdr\(host\)", text())


def test_tls_closes_clear_text() -> None:
    made = text(paths=replace(PATHS, cert="/d/run/x.pem"))
    binds = [line for line in made.splitlines() if line.strip().startswith("bind ")]
    assert len(binds) == 2 and all("ssl crt '/d/run/x.pem'" in line for line in binds)
    assert "set-header X-Forwarded-Proto 'https'" in made


def test_names() -> None:
    assert known_names(SETTINGS) == ("localhost", "127.0.0.1", "[::1]")
    assert "minicloud.internal" in known_names(replace(SETTINGS, tls=TlsFiles("c", "k")))
    assert known_names(replace(SETTINGS, bind="::1", allowed_hosts=("cloud.example",)))[-1] == "cloud.example"


@pytest.mark.parametrize(
    "origin", ["http://localhost", "https://127.0.0.1:4566", "http://[::1]:1", "http://a.localhost:2"]
)
def test_origins_of_this_machine(origin: str) -> None:
    assert known_origin().search(origin)


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "http://localhost.evil.example", "http://evil-localhost", "http://127.0.0.1.evil",
     "http://127x0.0.1", "ftp://localhost", "http://localhost:4566.evil", "http://localhost@evil", "", "http://cloud.example"],
)  # fmt: skip
def test_other_origins(origin: str) -> None:
    assert not known_origin().search(origin)


def test_configured_names_are_origins_too() -> None:
    assert known_origin(replace(SETTINGS, allowed_hosts=("cloud.example",))).search("https://cloud.example")
    assert not known_origin(replace(SETTINGS, allowed_hosts=("cloud.example",))).search("https://cloudxexample")


def test_a_name_cannot_become_a_directive() -> None:
    with pytest.raises(InvalidParameterValue):
        text(replace(SETTINGS, allowed_hosts=("a'\nacl known_host always_true",)))


def test_loopback_clients_share_one_address_and_are_not_counted() -> None:
    assert "sc0_conn_cur" not in text()
    assert text(replace(SETTINGS, bind="192.0.2.1")).count("sc0_conn_cur gt 1000") == 2
