"""Instances as people use them, through the SDK and the command line, on a real cloud."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from minicloud.base.errors import (
    IncorrectState,
    InsufficientCapacity,
    InvalidPageToken,
    InvalidParameterValue,
    MessageTooLarge,
    NotFound,
    UnsupportedOperation,
)
from minicloud.client import Client, models
from minicloud.rpc.errors import from_rpc_error
from minicloud.wire import instance_pb2, instance_pb2_grpc
from tests.real_cloud import BIN, RealCloud, until

pytestmark = pytest.mark.timeout(300)


@contextmanager
def launched(client: Client, kind: str = "t3.micro", **options: object) -> Iterator[models.Instance]:
    (one,) = client.instances.launch(kind, wait=True, **options)  # type: ignore[arg-type]
    try:
        yield one
    finally:
        client.instances.terminate(one.id)


@pytest.fixture(scope="module")
def guest(client: Client) -> Iterator[models.Instance]:
    with launched(client, user_data="#!/bin/sh\necho from user data; echo once >> /root/boots") as one:
        yield one


def sh(client: Client, one: models.Instance, script: str) -> str:
    result = client.instances.exec(one.id, ["sh", "-c", script])
    assert result.exit_code == 0, result
    return result.stdout.decode()


def test_a_guest_has_a_world_of_its_own(client: Client, guest: models.Instance) -> None:
    assert sh(client, guest, "hostname").strip() == guest.id
    assert sh(client, guest, "whoami").strip() == "root"
    assert int(sh(client, guest, "ls /proc | grep -c '^[0-9]'")) < 10
    assert sh(client, guest, "ls /tmp").strip() == ""
    assert guest.user_data_status == "done" and guest.isolation is not None
    assert b"from user data" in b"".join(client.instances.logs(guest.id))


def test_exec_keeps_streams_and_exit_codes_apart(cloud: RealCloud, guest: models.Instance) -> None:
    done = cloud.cli(
        "instance", "exec", guest.id, "--", "sh", "-c", "cat; echo err >&2; exit 7", check=False, input="in"
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "err\n")


def test_connect_is_a_terminal(cloud: RealCloud, guest: models.Instance) -> None:
    master, slave = pty.openpty()
    env = {**os.environ, "MINICLOUD_ENDPOINT": cloud.endpoint, "TERM": "xterm"}
    process = subprocess.Popen(
        [BIN, "instance", "connect", guest.id], stdin=slave, stdout=slave, stderr=slave, env=env, close_fds=True
    )
    os.close(slave)
    seen = b""

    def read_until(text: bytes) -> None:
        nonlocal seen
        deadline = time.monotonic() + 60
        while text not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([master], [], [], 0.2)[0]:
                seen += os.read(master, 4096)

    read_until(b"# ")  # the prompt: from here on the terminal is raw
    os.write(master, b"echo AB$((40+2)); tty\n")
    read_until(b"AB42")
    read_until(b"/dev/pts/")
    os.write(master, b"sleep 100\n")
    until(lambda: runs(cloud, guest, b"sleep\x00100\x00"), 20, "it has the terminal")
    os.write(master, b"\x03")
    seen = b""
    read_until(b"# ")
    os.write(master, b"exit 5\n")
    while process.poll() is None:
        if select.select([master], [], [], 0.2)[0]:
            try:
                os.read(master, 4096)
            except OSError:
                break
    assert process.wait(60) == 5
    os.close(master)


def runs(cloud: RealCloud, guest: models.Instance, command: bytes) -> bool:
    """Whether a process of the guest is this command: a shell gives it the terminal first."""
    for pid in cloud.guest_pids(guest.id):
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes() == command:
                return True
    return False


def test_copies_go_both_ways(cloud: RealCloud, guest: models.Instance, tmp_path: Path) -> None:
    source = tmp_path / "site"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a.bin").write_bytes(os.urandom(300_000))
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    cloud.cli("instance", "cp", str(source), f"{guest.id}:/srv")
    cloud.cli("instance", "cp", f"{guest.id}:/srv/site", str(tmp_path / "back"))
    assert (tmp_path / "back" / "deep" / "a.bin").read_bytes() == (source / "deep" / "a.bin").read_bytes()
    assert (tmp_path / "back" / "run.sh").stat().st_mode & 0o777 == 0o755


def test_http_directly_and_through_a_tunnel(client: Client, guest: models.Instance) -> None:
    command = ["python3", "-m", "minicloud_workers.http_server", "--port", "8080"]
    with client.instances.open_exec(guest.id, command), client.instances.forward(guest.id, 8080) as tunnel:
        url = f"http://127.0.0.1:{tunnel.local_port}/info"

        def answer() -> dict[str, str] | None:
            try:
                with urllib.request.urlopen(url, timeout=20) as reply:
                    found: dict[str, str] = json.load(reply)
                    return found
            except OSError:
                return None

        assert until(answer, 10)["instance_id"] == guest.id
        with urllib.request.urlopen(f"http://{guest.private_ip}:8080/health", timeout=20) as reply:
            assert reply.status == 200


def test_metadata_and_the_cloud_are_reached_from_inside(client: Client, guest: models.Instance) -> None:
    script = (
        "import os, urllib.request as u\n"
        "base = os.environ['AWS_EC2_METADATA_SERVICE_ENDPOINT']\n"
        "ask = u.Request(base + '/latest/api/token', method='PUT', "
        "headers={'X-aws-ec2-metadata-token-ttl-seconds': '60'})\n"
        "token = u.urlopen(ask, timeout=20).read().decode()\n"
        "shown = {'X-aws-ec2-metadata-token': token}\n"
        "get = lambda p: u.urlopen(u.Request(base + p, headers=shown), timeout=20).read()\n"
        "print(get('/latest/meta-data/instance-id').decode(), get('/latest/meta-data/instance-type').decode())\n"
        "print(u.urlopen(os.environ['AWS_ENDPOINT_URL'] + '/_minicloud/health', timeout=20).status)\n"
    )
    result = client.instances.exec(guest.id, ["python3", "-c", script])
    assert result.stdout.decode().split() == [guest.id, "t3.micro", "200"], result


def test_required_tokens_bite_at_once(client: Client, guest: models.Instance) -> None:
    ask = 'curl -s -o /dev/null -w "%{http_code}" $AWS_EC2_METADATA_SERVICE_ENDPOINT/latest/meta-data/ || true'
    if "not found" in client.instances.exec(guest.id, ["sh", "-c", "curl --version"]).stderr.decode():
        pytest.skip("the machine has no curl for its guests")
    assert sh(client, guest, ask) == "200"
    client.instances.modify(guest.id, http_tokens="required")
    until(lambda: sh(client, guest, ask) == "401", 5)
    client.instances.modify(guest.id, http_tokens="optional")


def test_stop_resize_start_keeps_the_disk_and_the_address(client: Client) -> None:
    with launched(client, "t3.nano", user_data="#!/bin/sh\necho boot >> /root/boots") as one:
        assert sh(client, one, "echo kept > /root/note; cat /root/boots") == "boot\n"
        with pytest.raises(IncorrectState):
            client.instances.modify(one.id, type="t3.small")
        client.instances.stop(one.id)
        client.instances.wait_until(one.id, "stopped")
        client.instances.modify(one.id, type="t3.small")
        client.instances.start(one.id)
        (after,) = client.instances.wait_until(one.id, "running")
        assert sh(client, after, "cat /root/note /root/boots") == "kept\nboot\n"
        assert after.private_ip == one.private_ip and after.shape is not None and after.shape.memory_mib == 2048
        grab = "python3 -c 'b = bytearray(700 << 20); print(len(b))'"
        assert int(sh(client, after, grab)) == 700 << 20


def test_memory_is_enforced_and_the_neighbour_goes_on(client: Client) -> None:
    with launched(client, "t3.nano") as hungry, launched(client, "t3.nano") as calm:
        grab = ["python3", "-c", "b = bytearray(900 << 20); import time; time.sleep(60)"]
        with client.instances.open_exec(hungry.id, grab):
            (after,) = client.instances.wait_until(hungry.id, "stopped")
        assert after.state_reason is not None and after.state_reason.code == "OutOfMemory"
        assert sh(client, calm, "echo fine") == "fine\n"
        assert client.instances.get(calm.id).state == "running"


def test_reboot_keeps_disk_and_actor_and_clears_tmp(client: Client, guest: models.Instance) -> None:
    sh(client, guest, "echo gone > /tmp/x; echo kept > /root/y; echo $$ > /dev/null")
    before = sh(client, guest, "stat -c %Y /proc/1; cut -d' ' -f22 /proc/1/stat")
    client.instances.reboot(guest.id)

    def again() -> bool:
        try:
            return sh(client, guest, "stat -c %Y /proc/1; cut -d' ' -f22 /proc/1/stat") != before
        except Exception:  # noqa: BLE001  while it reboots every kind of refusal is right
            return False

    until(again, 15)
    assert sh(client, guest, "ls /tmp; cat /root/y; cat /root/boots") == "kept\nonce\n"
    assert client.instances.get(guest.id).generation == guest.generation


def test_a_guest_may_shut_itself_down(client: Client) -> None:
    with launched(client) as one:
        client.instances.exec(one.id, ["sh", "-c", "shutdown now || poweroff"])
        (after,) = client.instances.wait_until(one.id, "stopped")
        assert after.state_reason is not None and after.state_reason.code == "Client.InstanceInitiatedShutdown"


def test_an_image_of_an_instance_starts_others(client: Client, guest: models.Instance) -> None:
    sh(client, guest, "echo golden > /srv/mark")
    image = client.images.create(guest.id, "golden")
    until(lambda: client.images.get(image.id).state == "available", 30)
    with launched(client, image="golden") as copy:
        assert sh(client, copy, "cat /srv/mark") == "golden\n"
    client.images.deregister(image.id)


def test_an_image_from_a_tar(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("srv/hello")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"hi"))
    image = client.images.register("from-tar", path)
    with launched(client, image=image.id) as one:
        assert sh(client, one, "cat /srv/hello") == "hi"


def test_keys_reach_the_guest_and_templates_preset(client: Client) -> None:
    made = client.key_pairs.create("door-key")
    preset = models.TemplateData(instance_type="t3.nano", key_name="door-key", image_id="base")
    client.templates.create("door-template", preset)
    (one,) = client.instances.launch(template="door-template", wait=True)
    assert one.type == "t3.nano"
    assert sh(client, one, "cat /root/.ssh/authorized_keys").split()[1] == made.key_pair.public_key.split()[1]
    client.instances.terminate(one.id)
    client.templates.delete("door-template")
    client.key_pairs.delete("door-key")


def test_cloud_config_writes_files_and_refuses_packages(client: Client) -> None:
    files = "write_files:\n- path: /srv/x\n  content: yes-it-is\n"
    config = f"#cloud-config\n{files}runcmd:\n- [sh, -c, 'echo ran > /srv/ran']\n"
    with launched(client, user_data=config) as one:
        assert sh(client, one, "cat /srv/x /srv/ran") == "yes-it-isran\n"
    with pytest.raises(UnsupportedOperation, match="packages"):
        client.instances.launch("t3.nano", user_data="#cloud-config\npackages: [nginx]\n")


def test_bad_input_is_typed_and_creates_nothing(client: Client) -> None:
    before = {one.id for one in client.instances.list()}
    for options, error in (
        ({"type": "t9.nothing"}, InvalidParameterValue),
        ({"type": "t3.nano", "image": "ami-00000000000000001"}, NotFound),
        ({"type": "t3.nano", "zone": "us-east-1q"}, InvalidParameterValue),
        ({"type": "t3.nano", "count": 0}, Exception),
        ({"type": "p5.48xlarge"}, InsufficientCapacity),
        ({"type": "t3.nano", "user_data": "x" * 20_000}, InvalidParameterValue),
    ):
        with pytest.raises(error):
            client.instances.launch(**options)  # type: ignore[arg-type]
    with pytest.raises(MessageTooLarge):
        client.instances.launch("t3.nano", user_data="x" * 100_000_000)
    with pytest.raises(NotFound):
        client.instances.get("i-00000000000000000")
    assert {one.id for one in client.instances.list()} == before


def test_the_command_line_says_what_is_wrong(cloud: RealCloud) -> None:
    done = cloud.cli("instance", "launch", "t9.nothing", check=False)
    assert done.returncode == 1 and "instance_type" in done.stderr
    assert cloud.cli("instance", "nonsense", check=False).returncode == 2
    rows = json.loads(cloud.cli("host", "list", "--output", "json").stdout)
    assert [row["name"] for row in rows] == ["host-a", "host-b"]


def test_hosts_are_cordoned_and_drained(client: Client) -> None:
    with launched(client, zone="us-east-1b") as one:
        client.hosts.drain("host-b")
        client.instances.wait_until(one.id, "stopped")
        with pytest.raises(InsufficientCapacity):
            client.instances.launch("t3.nano", zone="us-east-1b")
        assert client.hosts.uncordon("host-b").cordoned is False


def test_a_page_token_that_was_not_issued_is_refused(cloud: RealCloud) -> None:
    """The SDK pages by itself, so the raw stub is asked."""
    with grpc.insecure_channel(cloud.endpoint) as channel:
        stub = instance_pb2_grpc.InstanceServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as caught:
            stub.List(instance_pb2.ListInstancesRequest(page_token="bm90aGluZw"))
    assert isinstance(from_rpc_error(caught.value), InvalidPageToken)
