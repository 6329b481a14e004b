"""The document that a guest boots with."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from minicloud.host.boot import BootPlace, boot_document, hostname, init_argv, write_boot_document
from minicloud.wire.fleet_pb2 import GuestSpec

SPEC = GuestSpec(instance_id="i-1", hostname="i-1", public_key="ssh-ed25519 AAAA me", user_data="#!/bin/sh\ntrue\n")


def test_a_guest_in_a_sandbox() -> None:
    assert boot_document(SPEC, {"A": "b"}, BootPlace("10.0.0.5")) == {
        "instance_id": "i-1",
        "hostname": "i-1",
        "isolated": True,
        "root": "/",
        "addresses": ["127.0.0.1", "10.0.0.5"],
        "env": {"A": "b"},
        "public_key": "ssh-ed25519 AAAA me",
        "user_data": {"kind": "script", "text": "#!/bin/sh\ntrue\n"},
    }


def test_on_the_loopback_network_the_hosts_own_loopback_is_out_of_reach() -> None:
    document = boot_document(SPEC, {}, BootPlace("127.3.2.1", "/data/root", isolated=False))
    assert document["addresses"] == ["127.3.2.1"]
    assert (document["root"], document["isolated"]) == ("/data/root", False)


@pytest.mark.parametrize(
    ("text", "name"), [("", "i-1"), ("#cloud-config\nhostname: web", "web"), ("#cloud-config\npackages: []", "i-1")]
)
def test_the_hostname_is_the_cloud_configs_or_the_clouds(text: str, name: str) -> None:
    spec = GuestSpec(hostname="i-1", user_data=text)
    assert hostname(spec) == name == boot_document(spec, {}, BootPlace(""))["hostname"]


def test_user_data_that_cannot_run_still_boots() -> None:
    spec = GuestSpec(user_data="#cloud-config\npackages: [a]")
    assert boot_document(spec, {}, BootPlace(""))["user_data"]["kind"] == "refused"


def test_the_document_is_private_and_never_overwrites(tmp_path: Path) -> None:
    write_boot_document(tmp_path, {"a": 1})
    path = tmp_path / "boot.json"
    assert json.loads(path.read_text()) == {"a": 1}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_boot_document(tmp_path, {})


def test_the_start_imports_no_site() -> None:
    argv = init_argv("/usr/bin/python3", "/opt/mini'cloud")
    assert argv[:4] == ("/usr/bin/python3", "-I", "-S", "-c")
    compile(argv[4], "argv", "exec")
