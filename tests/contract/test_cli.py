"""The command line against a server that does what each test says: output, exit codes, errors, streams, terminals."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import pytest

from minicloud.base import errors
from minicloud.cli import main as cli_main
from minicloud.cli.main import NOUNS, cli, run
from minicloud.cli.output import show_one
from minicloud.cli.session import Session
from minicloud.cli.terminal import Escape, Left
from minicloud.cli.trouble import hint
from minicloud.wire import catalog_pb2, common_pb2, guest_pb2, host_pb2, identity_pb2, instance_pb2
from tests.contract.fake_cloud import Call, FakeCloud
from tests.contract.test_client_streams import Disk, cat, echo_port

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def endpoint(fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cloud.serve_guests()
    monkeypatch.setenv("MINICLOUD_ENDPOINT", fake_cloud.address)


def start(*args: str, **how: Any) -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    return subprocess.Popen([sys.executable, "-m", "minicloud.cli.main", *args], **pipes)


def instance(**fields: Any) -> instance_pb2.Instance:
    return instance_pb2.Instance(**{"id": "i-1", "type": "t3.micro", "state": "running", **fields})


def listing(*items: instance_pb2.Instance) -> Any:
    return lambda request, call: instance_pb2.ListInstancesResponse(instances=items)


# ---------------------------------------------------------------- output and exit codes


def test_json_is_an_array_with_the_names_of_the_models(fake_cloud: FakeCloud, capsys: Capture) -> None:
    fake_cloud.on("InstanceService/List", listing(instance(tags={"Name": "web"}), instance(id="i-2")))
    assert run(["instance", "list", "--output", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [item["id"] for item in data] == ["i-1", "i-2"]
    assert data[0]["tags"] == {"Name": "web"} and data[0]["launch_time"] is None


@pytest.mark.parametrize("args", [["-o", "json", "host", "list"], ["host", "list", "-o", "json"]])
def test_output_is_understood_before_the_noun_and_after_the_verb(
    fake_cloud: FakeCloud, capsys: Capture, args: list[str]
) -> None:
    fake_cloud.on("HostService/List", lambda request, call: host_pb2.ListHostsResponse())
    assert run(args) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_later_endpoint_and_region_win(fake_cloud: FakeCloud, capsys: Capture) -> None:
    fake_cloud.on("IdentityService/WhoAmI", lambda request, call: identity_pb2.WhoAmIResponse(account="0" * 12))
    args = ["--endpoint", "127.0.0.1:1", "account", "whoami", "--endpoint", fake_cloud.address, "--region", "eu-west-1"]
    assert run(args) == 0
    assert fake_cloud.calls[0].metadata["x-minicloud-region"] == "eu-west-1"
    assert "000000000000" in capsys.readouterr().out


def test_a_table_cuts_nothing_when_it_is_not_on_a_terminal(fake_cloud: FakeCloud, capsys: Capture) -> None:
    long = "x" * 300
    fake_cloud.on("InstanceService/List", listing(instance(tags={"Name": long}, state="terminated"), instance()))
    assert run(["instance", "list", "--all"]) == 0
    out = capsys.readouterr().out
    assert long in out and out.splitlines()[0].split()[:2] == ["ID", "NAME"]
    assert run(["instance", "list"]) == 0
    assert long not in capsys.readouterr().out  # terminated ones only when asked for


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["instance", "show", "i-9"], 1),
        (["instance", "show"], 2),
        (["instance", "launch"], 2),
        (["instance", "launch", "t3.micro", "--user-data", "x", "--user-data-file", "y"], 2),
        (["instance", "launch", "t3.micro", "--tag", "novalue"], 2),
        (["instance", "cp", "a", "b"], 2),
        (["instance", "port-forward", "i-1", "http"], 2),
        (["instance", "connect", "i-1"], 2),
        (["--endpoint", "ftp://x", "host", "list"], 1),
        (["nonsense"], 2),
        (["--help"], 0),
    ],
)
def test_exit_codes(args: list[str], code: int, capsys: Capture) -> None:
    assert run(args) == code
    captured = capsys.readouterr()
    assert (captured.err != "") == (code != 0)


def test_an_error_says_code_message_field_and_what_to_do(fake_cloud: FakeCloud, capsys: Capture) -> None:
    def refuse(request: Any, call: Call) -> None:
        raise errors.InvalidParameterValue("no type t9", field="instance_type")

    fake_cloud.on("InstanceService/Launch", refuse)
    assert run(["instance", "launch", "t9"]) == 1
    err = capsys.readouterr().err
    assert "error: InvalidParameterValue: no type t9" in err and "field: instance_type" in err and "type list" in err
    assert run(["instance", "launch", "t9", "-o", "json"]) == 1
    story = json.loads(capsys.readouterr().err)["error"]
    assert (story["code"], story["field"], story["request_id"]) == (
        "InvalidParameterValue",
        "instance_type",
        "request-1",
    )


def test_unavailable_asks_whether_the_cloud_is_up(capsys: Capture) -> None:
    assert "minicloud up" in hint(errors.Unavailable())
    assert hint(errors.CloudError()) == ""


def test_launch_waits_and_a_failed_user_data_is_a_failure(
    fake_cloud: FakeCloud, capsys: Capture, tmp_path: Path
) -> None:
    script = tmp_path / "boot.sh"
    script.write_text("#!/bin/sh\nexit 4\n")

    async def watch(request: Any, call: Call) -> AsyncIterator[instance_pb2.Instance]:
        for fields in ({"state": "pending"}, {"user_data_status": "running"}):
            yield instance(**fields)
        yield instance(user_data_status="failed", user_data_exit=4, private_ip="10.0.0.5", host_name="host-a")

    fake_cloud.on("InstanceService/Launch", lambda r, c: instance_pb2.LaunchResponse(instances=[instance()]))
    fake_cloud.on("InstanceService/Watch", watch)
    args = ["instance", "launch", "t3.micro", "--name", "web", "--tag", "a=b=c", "--user-data-file", str(script)]
    assert run([*args, "--wait"]) == 1
    captured = capsys.readouterr()
    assert "pending" in captured.err and "on host-a, 10.0.0.5 user data failed, exit 4" in captured.err
    request = fake_cloud.seen("InstanceService/Launch")[0].request
    assert dict(request.tags) == {"Name": "web", "a": "b=c"} and request.user_data == "#!/bin/sh\nexit 4\n"


def test_every_noun_says_in_help_what_its_command_says() -> None:
    for noun, (where, line) in NOUNS.items():
        if noun in ("up", "down", "status", "doctor"):
            continue  # `test_lifecycle_commands_are_found` looks at these
        command = cli.get_command(click.Context(cli), noun)
        assert command is not None, where
        assert (command.help or "").partition("\n")[0] == line


def test_the_lines_of_verbs_are_whole(capsys: Capture) -> None:
    assert run(["queue", "--help"]) == 0
    assert "or those whose name begins with PREFIX." in " ".join(capsys.readouterr().out.split())
    assert run(["policy", "put", "--help"]) == 0
    assert "(without --metric and --customized: the average CPU)." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("typed", "meant"), [("instances", "instance"), ("loadbalancer", "balancer"), ("xyz", "")])
def test_a_noun_that_is_nearly_one_is_pointed_at(capsys: Capture, typed: str, meant: str) -> None:
    assert run([typed, "list"]) == 2
    err = capsys.readouterr().err
    assert f"No such command '{typed}'" in err and (f"Did you mean '{meant}'?" in err) == bool(meant)


def test_maps_are_shown_in_order_and_objects_by_what_is_set(capsys: Capture) -> None:
    show_one(Session(), {"attributes": {"b": "2", "a": "1"}, "targets": [{"id": "x", "arn": ""}, {"id": "y"}]})
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["attributes.a", "1"],
        ["attributes.b", "2"],
        ["targets", "id=x"],
        ["id=y"],
    ]


def test_lifecycle_commands_are_found() -> None:
    pytest.importorskip("minicloud.cli.lifecycle.commands")
    for noun in ("up", "down", "status", "doctor"):
        assert isinstance(cli.get_command(click.Context(cli), noun), click.Command)


def test_every_verb_takes_the_common_options() -> None:
    def leaves(group: click.Group) -> list[click.Command]:
        found = [group.commands[name] for name in group.commands]
        return [leaf for item in found for leaf in (leaves(item) if isinstance(item, click.Group) else [item])]

    for noun in NOUNS:
        if noun in ("up", "down", "status", "doctor", "demo"):
            continue
        command = cli.get_command(click.Context(cli), noun)
        for leaf in leaves(command) if isinstance(command, click.Group) else [command]:
            assert leaf is not None and {"output", "endpoint", "region"} <= {param.name for param in leaf.params}


def test_every_option_says_what_it_is() -> None:
    def silent(command: click.Command, path: str) -> list[str]:
        if isinstance(command, click.Group):
            context = click.Context(command)
            verbs = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
            return [text for name, one in verbs if one for text in silent(one, f"{path} {name}")]
        own = [one for one in command.params if isinstance(one, click.Option) and not one.help]
        return [f"{path} {one.opts[0]}" for one in own] + ([] if command.help else [path])

    assert silent(cli, "minicloud") == []


def test_help_is_quick_and_imports_little() -> None:
    code = (
        "import sys, time\nfrom minicloud.cli.main import run\nrun(['--help'])\n"
        "heavy = [name for name in ('ray', 'grpc', 'rich', 'asyncio') if name in sys.modules]\n"
        "sys.stderr.write(repr((time.process_time(), heavy)))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr for _ in range(3)]
    found = [eval(text) for text in runs]
    assert all(heavy == [] for _, heavy in found)
    assert min(spent for spent, _ in found) < 0.250


def test_a_missing_server_half_is_explained(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(cli_main.NOUNS, "up", ("no_such_module:up", "Start a cloud."))
    assert run(["up"]) == 1
    assert "minicloud[server]" in capsys.readouterr().err


# ---------------------------------------------------------------- nouns


def test_nouns_send_what_was_asked(fake_cloud: FakeCloud, capsys: Capture, tmp_path: Path) -> None:
    replies: dict[str, Any] = {
        "TypeService/List": catalog_pb2.ListTypesResponse(types=[catalog_pb2.InstanceType(name="t3.micro")]),
        "HostService/Drain": host_pb2.Host(id="h-1", cordoned=True, capacity=common_pb2.Shape(vcpus=2)),
        "LaunchTemplateService/Create": catalog_pb2.LaunchTemplateVersion(version=1),
        "KeyPairService/Create": catalog_pb2.KeyPairMaterial(
            key_pair=catalog_pb2.KeyPair(name="me"), private_key="SECRET\n"
        ),
        "IdentityService/SetQuota": identity_pb2.Quota(name="vcpus", limit=8),
        "InstanceService/Tag": instance_pb2.TagResponse(tags={"a": "b"}),
    }
    for method, reply in replies.items():
        fake_cloud.on(method, lambda request, call, reply=reply: reply)
    assert run(["type", "list", "t3.*", "--max-vcpus", "2", "--fits", "--not-burstable"]) == 0
    assert run(["host", "drain", "host-a"]) == 0
    assert run(["template", "create", "web", "--type", "t3.micro", "--instance-tag", "a=b"]) == 0
    assert run(["key", "create", "me", "--save", str(tmp_path / "me.pem")]) == 0
    assert run(["quota", "set", "vcpus", "8", "--account", "1" * 12]) == 0
    assert run(["instance", "tag", "i-1", "a=b"]) == 0
    types, _, template, _, quota, tag = (call.request for call in fake_cloud.calls)
    assert (types.name, types.max_vcpus, types.fits_now, types.burstable) == ("t3.*", 2, True, False)
    assert types.HasField("burstable") and not types.HasField("current_generation")
    assert template.data.instance_type == "t3.micro" and dict(template.data.tags) == {"a": "b"}
    assert not template.data.HasField("termination_protection")
    assert (quota.account, quota.limit) == ("1" * 12, 8) and dict(tag.tags) == {"a": "b"}
    assert (tmp_path / "me.pem").read_text() == "SECRET\n"
    assert (tmp_path / "me.pem").stat().st_mode & 0o777 == 0o600
    assert "SECRET" not in capsys.readouterr().out
    assert run(["key", "create", "me", "--save", str(tmp_path / "me.pem")]) == 2  # nothing is overwritten
    assert len(fake_cloud.seen("KeyPairService/Create")) == 1


# ---------------------------------------------------------------- streams


def test_exec_keeps_the_streams_apart_and_passes_the_exit_code_on(fake_cloud: FakeCloud) -> None:
    fake_cloud.on("GuestService/Exec", cat)
    data = os.urandom(500_000)
    ran = start("instance", "exec", "i-1", "--env", "A=b", "--", "cat", "-n", "--", "x", stdin=subprocess.PIPE)
    out, err = ran.communicate(data, timeout=60)
    assert (ran.returncode, out, err) == (3, data, b"cat -n -- x")
    assert dict(fake_cloud.seen("GuestService/Exec")[0].request.env) == {"A": "b"}


def test_exec_in_json_is_an_object(fake_cloud: FakeCloud) -> None:
    fake_cloud.on("GuestService/Exec", cat)
    ran = start("instance", "exec", "-o", "json", "i-1", "--", "cat", stdin=subprocess.PIPE)
    out, _ = ran.communicate(b"hello", timeout=60)
    assert json.loads(out) == {"stdout": "hello", "stderr": "cat", "exit_code": 3, "error": ""}
    assert ran.returncode == 3


def test_exec_of_what_cannot_be_started_says_so(fake_cloud: FakeCloud) -> None:
    async def absent(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.ExecOutput]:
        yield guest_pb2.ExecOutput(exit=guest_pb2.ExecExit(code=127, error="no such file: nope"))

    fake_cloud.on("GuestService/Exec", absent)
    _, err = (ran := start("instance", "exec", "i-1", "--", "nope")).communicate(timeout=60)
    assert ran.returncode == 127 and b"no such file: nope" in err


def test_exec_whose_reader_leaves_ends_quietly(fake_cloud: FakeCloud) -> None:
    async def yes(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.ExecOutput]:
        while True:
            yield guest_pb2.ExecOutput(stdout=b"y\n" * 10_000)

    fake_cloud.on("GuestService/Exec", yes)
    ran = start("instance", "exec", "i-1", "--", "yes")
    assert ran.stdout is not None and ran.stderr is not None
    assert ran.stdout.read(2) == b"y\n"
    ran.stdout.close()
    assert ran.wait(30) in (0, 1)
    assert b"Traceback" not in ran.stderr.read()
    ran.stderr.close()


def test_cp_both_ways(fake_cloud: FakeCloud, capsys: Capture, tmp_path: Path) -> None:
    Disk(fake_cloud, {"/srv"})
    (tmp_path / "a.txt").write_text("hello")
    assert run(["instance", "cp", str(tmp_path / "a.txt"), "i-1:/srv"]) == 0
    assert run(["instance", "cp", "i-1:/srv/a.txt", str(tmp_path / "b.txt")]) == 0
    assert capsys.readouterr().out == "1 file, 5 B\n" * 2
    assert (tmp_path / "b.txt").read_text() == "hello"
    assert run(["instance", "cp", str(tmp_path / "none"), "i-1:/srv"]) == 1


def test_logs_follow_until_interrupted(fake_cloud: FakeCloud) -> None:
    async def logs(request: Any, call: Call) -> AsyncIterator[guest_pb2.LogChunk]:
        yield guest_pb2.LogChunk(data=b"booted\n")
        await asyncio.Event().wait()

    fake_cloud.on("GuestService/Logs", logs)
    ran = start("instance", "logs", "-f", "i-1")
    assert ran.stdout is not None
    assert ran.stdout.readline() == b"booted\n"
    ran.send_signal(signal.SIGINT)
    _, err = ran.communicate(timeout=30)
    assert (ran.returncode, err.strip()) == (130, b"")


def test_who_stops_waiting_is_told_that_the_instances_go_on(fake_cloud: FakeCloud) -> None:
    async def watch(request: Any, call: Call) -> AsyncIterator[instance_pb2.Instance]:
        yield instance(state="pending")
        await asyncio.Event().wait()

    fake_cloud.on("InstanceService/Launch", lambda r, c: instance_pb2.LaunchResponse(instances=[instance()]))
    fake_cloud.on("InstanceService/Watch", watch)
    ran = start("instance", "launch", "t3.micro", "--wait")
    assert ran.stderr is not None and b"pending" in ran.stderr.readline()
    ran.send_signal(signal.SIGINT)
    _, err = ran.communicate(timeout=30)
    assert ran.returncode == 130
    assert err.decode().strip() == (
        "i-1 launched all the same; look with `minicloud instance show i-1`, "
        "end with `minicloud instance terminate i-1`"
    )


def test_a_second_interrupt_is_as_quiet_as_the_first(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "close", interrupted)
    monkeypatch.setattr(cli, "main", interrupted)
    assert (run(["host", "list"]), capsys.readouterr()) == (130, ("", ""))


def test_port_forward_carries_connections_and_tells_failures(fake_cloud: FakeCloud) -> None:
    async def refused(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.DataChunk]:
        if len(fake_cloud.seen("GuestService/Forward")) == 2:
            raise errors.Conflict("port 80 of the guest: Connection refused")
        async for chunk in echo_port(inputs, call):
            yield chunk

    fake_cloud.on("GuestService/Forward", refused)
    ran = start("instance", "port-forward", "i-1", "0:80")
    assert ran.stdout is not None and ran.stderr is not None
    match = re.fullmatch(rb"127\.0\.0\.1:(\d+) -> i-1:80\n", ran.stdout.readline())
    assert match is not None
    for expected in (b"port 80\nbye", b""):
        with socket.create_connection(("127.0.0.1", int(match[1])), timeout=10) as connection:
            connection.shutdown(socket.SHUT_WR)
            got = b""
            while data := connection.recv(1000):
                got += data
            assert got == expected
    assert b"Connection refused" in ran.stderr.readline()
    ran.send_signal(signal.SIGINT)
    _, err = ran.communicate(timeout=30)
    assert ran.returncode == 130 and b"Traceback" not in err


# ---------------------------------------------------------------- terminals


async def shell(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.ExecOutput]:
    """Prompts, then echoes."""
    yield guest_pb2.ExecOutput(stdout=b"guest$ ")
    async for output in cat(inputs, call):
        yield output


class Terminal:
    """A command on a pseudo terminal, as a user would see it."""

    def __init__(self, *args: str) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 100))
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.process = start(*args, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        self.screen = b""

    def expect(self, text: bytes, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while text not in self.screen:
            ready, _, _ = select.select([self.master], [], [], max(end - time.monotonic(), 0))
            assert ready, f"no {text!r} in {self.screen!r}"
            self.screen += os.read(self.master, 10_000)

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def finish(self) -> int:
        code = self.process.wait(30)
        after = termios.tcgetattr(self.slave)
        os.close(self.master)
        os.close(self.slave)
        assert after == self.before, "the terminal is as it was"
        return code


def test_connect_is_a_raw_terminal_and_puts_it_back(fake_cloud: FakeCloud) -> None:
    fake_cloud.on("GuestService/Exec", shell)
    terminal = Terminal("instance", "connect", "i-1")
    terminal.expect(b"guest$ ")
    terminal.type(b"\x03\x1a\x04")  # Ctrl-C, Ctrl-Z, Ctrl-D: the guest's, not ours
    terminal.expect(b"\x03\x1a\x04")
    termios.tcsetwinsize(terminal.slave, (24, 80))
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.expect(b"[24x80]")
    request = fake_cloud.seen("GuestService/Exec")[0].request
    assert request.tty and (request.window.rows, request.window.columns) == (40, 100) and request.env["TERM"]
    terminal.type(b"\r~.")
    assert terminal.finish() == 255


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_killed_connect_puts_the_terminal_back(fake_cloud: FakeCloud, number: int, code: int) -> None:
    fake_cloud.on("GuestService/Exec", shell)
    terminal = Terminal("instance", "connect", "i-1")
    terminal.expect(b"guest$ ")
    terminal.process.send_signal(number)
    assert terminal.finish() == code


def test_connect_ends_with_the_shells_exit_code(fake_cloud: FakeCloud) -> None:
    async def ending(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.ExecOutput]:
        yield guest_pb2.ExecOutput(stdout=b"bye\r\n")
        yield guest_pb2.ExecOutput(exit=guest_pb2.ExecExit(code=7))

    fake_cloud.on("GuestService/Exec", ending)
    assert Terminal("instance", "connect", "i-1").finish() == 7


def test_a_broken_connection_puts_the_terminal_back_and_says_why(fake_cloud: FakeCloud) -> None:
    async def broken(inputs: Any, call: Call) -> AsyncIterator[guest_pb2.ExecOutput]:
        yield guest_pb2.ExecOutput(stdout=b"$ ")
        raise errors.Unavailable("the host is gone")

    fake_cloud.on("GuestService/Exec", broken)
    terminal = Terminal("instance", "connect", "i-1")
    terminal.expect(b"the host is gone")
    assert terminal.finish() == 1


@pytest.mark.parametrize(
    ("typed", "passed"),
    [([b"ls\r", b"a~b"], b"ls\ra~b"), ([b"~~x"], b"~x"), ([b"\r", b"~", b"x"], b"\r~x"), ([b"a\r~\r"], b"a\r~\r")],
)
def test_tildes_are_typed_as_in_ssh(typed: list[bytes], passed: bytes) -> None:
    escape = Escape()
    assert b"".join(escape.feed(data) for data in typed) == passed
    with pytest.raises(Left):
        escape.feed(b"\r~.")
