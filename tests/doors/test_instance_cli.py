"""The verbs of the command line on a real cloud, as one person would use them one after the other; and the demo."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real_cloud import BIN, RealCloud, until

pytestmark = pytest.mark.timeout(300)
SERVE = """#!/bin/sh
echo booting
python3 -m minicloud_workers.http_server --port 8080 &
mkfifo /root/say
(while :; do cat /root/say; done) &
"""


def ask(cloud: RealCloud, *args: str, **how: Any) -> Any:
    """The answer of a command as data."""
    return json.loads(cloud.cli(*args, "--output", "json", **how).stdout)


@pytest.fixture(scope="module")
def web(cloud: RealCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    script = tmp_path_factory.mktemp("boot") / "boot.sh"
    script.write_text(SERVE)
    launch = ("instance", "launch", "t3.micro", "--name", "cli-web", "--user-data-file", str(script), "--wait")
    done = cloud.cli(*launch, "-o", "json")
    (one,) = json.loads(done.stdout)
    assert (one["state"], one["user_data_status"], one["tags"]) == ("running", "done", {"Name": "cli-web"})
    assert re.search(rf"{one['id']} running on host-[ab], \S+ user data done", done.stderr)
    yield one["id"]
    cloud.cli("instance", "terminate", one["id"], "--wait")


def test_it_is_listed_shown_and_filtered(cloud: RealCloud, web: str) -> None:
    assert [one["id"] for one in ask(cloud, "instance", "list", "-f", "tag:Name=cli-*", "--state", "running")] == [web]
    assert ask(cloud, "instance", "list", "-f", "tag:Name=nothing") == []
    shown = cloud.cli("instance", "show", web).stdout
    assert re.search(r"^isolation\.driver\s+\w+$", shown, re.M) and re.search(r"^shape\.vcpus\s+2$", shown, re.M)


def test_logs_and_console_have_the_boot(cloud: RealCloud, web: str) -> None:
    assert "booting" in cloud.cli("instance", "logs", web).stdout
    assert "booting" in cloud.cli("instance", "console", web).stdout
    follow = subprocess.Popen(
        [BIN, "instance", "logs", "-f", web],
        env={**os.environ, "MINICLOUD_ENDPOINT": cloud.endpoint},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert follow.stdout is not None
    try:
        cloud.cli("instance", "exec", web, "--", "sh", "-c", "echo from-exec >/root/say")
        assert any("from-exec" in line for line in follow.stdout)
    finally:
        follow.send_signal(signal.SIGINT)
        assert follow.wait(60) == 130
        follow.stdout.close()


def test_port_forward_serves_a_browser(cloud: RealCloud, web: str) -> None:
    forward = subprocess.Popen(
        [BIN, "instance", "port-forward", web, "0:8080", "-o", "json"],
        env={**os.environ, "MINICLOUD_ENDPOINT": cloud.endpoint},
        stdout=subprocess.PIPE,
    )
    assert forward.stdout is not None
    try:
        port = json.loads(forward.stdout.readline())["local_port"]
        for _ in range(20):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/info", timeout=10) as reply:
                assert json.load(reply)["instance_id"] == web
    finally:
        forward.send_signal(signal.SIGINT)
        assert forward.wait(60) == 130
        forward.stdout.close()


def test_exec_carries_much_both_ways(cloud: RealCloud, web: str) -> None:
    data = os.urandom(8_000_000).hex()
    done = cloud.cli("instance", "exec", web, "--", "cat", input=data)
    assert done.stdout == data
    assert cloud.cli("instance", "exec", web, "--", "/no/such", check=False).returncode == 127
    # A command that does not wait for its input: its exit code is told all the same.
    assert cloud.cli("instance", "exec", web, "--", "sh", "-c", "exit 9", check=False, input=data).returncode == 9


def test_an_interrupted_exec_ends_the_command(cloud: RealCloud, web: str) -> None:
    ran = subprocess.Popen(
        [BIN, "instance", "exec", web, "--", "sh", "-c", "echo here; exec sleep 4321"],
        env={**os.environ, "MINICLOUD_ENDPOINT": cloud.endpoint},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert ran.stdout is not None
    assert ran.stdout.readline() == b"here\n"
    look = (
        "instance",
        "exec",
        web,
        "--",
        "sh",
        "-c",
        "cd /proc; for p in [0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done",
    )
    until(lambda: "\nsleep 4321" in cloud.cli(*look).stdout, 10, "the command to run")
    ran.send_signal(signal.SIGINT)
    assert ran.wait(60) == 130
    ran.stdout.close()
    until(lambda: "\nsleep 4321" not in cloud.cli(*look, check=False).stdout, 10, "the command to end")


def test_stop_modify_start_tag(cloud: RealCloud) -> None:
    (one,) = ask(cloud, "instance", "launch", "t3.nano", "--wait")
    name = one["id"]
    assert cloud.cli("instance", "modify", name, "--type", "t3.micro", check=False).returncode == 1
    (stopped,) = ask(cloud, "instance", "stop", name, "--wait")
    assert stopped["state"] == "stopped"
    (changed,) = ask(cloud, "instance", "modify", name, "--type", "t3.micro", "--termination-protection")
    assert (changed["type"], changed["termination_protection"]) == ("t3.micro", True)
    (started,) = ask(cloud, "instance", "start", name, "--wait")
    assert started["shape"]["memory_mib"] == 1024
    refused = cloud.cli("instance", "terminate", name, check=False)
    assert refused.returncode == 1 and "--no-termination-protection" in refused.stderr
    cloud.cli("instance", "modify", name, "--no-termination-protection")
    assert ask(cloud, "instance", "tag", name, "a=b", "c=d") == {"a": "b", "c": "d"}
    assert ask(cloud, "instance", "untag", name, "a") == {"c": "d"}
    assert ask(cloud, "instance", "terminate", name, "--wait")[0]["state"] == "terminated"


def test_a_failed_user_data_is_a_failed_launch(cloud: RealCloud) -> None:
    done = cloud.cli(
        "instance", "launch", "t3.nano", "--user-data", "#!/bin/sh\nexit 6", "--wait", "-o", "json", check=False
    )
    (one,) = json.loads(done.stdout)
    cloud.cli("instance", "terminate", one["id"])
    assert done.returncode == 1 and "user data failed, exit 6" in done.stderr


def test_images_templates_keys_groups(cloud: RealCloud, web: str, tmp_path: Path) -> None:
    pem = tmp_path / "me.pem"
    cloud.cli("key", "create", "cli-key", "--save", str(pem))
    assert "PRIVATE KEY" in pem.read_text()
    image = ask(cloud, "image", "create", web, "cli-image", "--wait")
    assert image["state"] == "available"
    cloud.cli("template", "create", "cli-template", "--type", "t3.nano", "--image", image["id"], "--key", "cli-key")
    cloud.cli("placement-group", "create", "cli-group", "--strategy", "spread")
    (one,) = ask(cloud, "instance", "launch", "--template", "cli-template", "--group", "cli-group", "--wait")
    assert (one["type"], one["image_id"], one["key_name"]) == ("t3.nano", image["id"], "cli-key")
    assert one["placement"]["group_name"] == "cli-group"
    cloud.cli("instance", "terminate", one["id"], "--wait")
    cloud.cli("placement-group", "delete", "cli-group")
    cloud.cli("template", "delete", "cli-template")
    cloud.cli("image", "deregister", image["id"])
    cloud.cli("key", "delete", "cli-key")
    assert ask(cloud, "template", "list") == [] and ask(cloud, "key", "list") == []


def test_who_am_i_and_quotas(cloud: RealCloud) -> None:
    assert ask(cloud, "account", "whoami")["account"] == "000000000000"
    before = {quota["name"]: quota["limit"] for quota in ask(cloud, "quota", "list")}
    cloud.cli("quota", "set", "instances", "0")
    refused = cloud.cli("instance", "launch", "t3.nano", check=False)
    cloud.cli("quota", "set", "instances", str(before["instances"]))
    assert refused.returncode == 1 and "quota list" in refused.stderr


@pytest.mark.parametrize("number", [None, signal.SIGINT])
def test_the_demo_ends_with_nothing_left(number: int | None, tmp_path: Path) -> None:
    """To its end, and interrupted on its way."""
    data = tmp_path / "demo"
    run = subprocess.Popen(
        [BIN, "demo", "--data-dir", str(data)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    if number is not None:
        assert any(" runs after " in line for line in run.stdout)
        run.send_signal(number)
    out, err = run.communicate(timeout=280)
    assert run.returncode == (0 if number is None else 130), err
    assert not RealCloud(data).left_over()
    if number is None:
        steps = {line.split("  ")[0] for line in out.partition("STEP")[2].splitlines()}
        assert {"up", "launch", "http", "exec", "resize", "lose a host", "down"} <= steps
        assert {"scale out", "heal", "scale in", "traffic"} <= steps
