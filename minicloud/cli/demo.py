"""`minicloud demo`: a cloud from nothing to nothing, in under two minutes. Every step is real, and checked.

Two hosts come up; three instances of different families run on them and serve HTTP; a command runs inside one; one is
made larger and uses its new size. A queue feeds a function that publishes to a topic, and a message that it fails on
ends in the dead-letter queue (demo_function.py). A group behind a balancer gets three times the load and grows; a host
is killed, the cloud says so and the group heals; the load goes and the group shrinks (demo_group.py). A summary; the
end. Whatever happens, also Ctrl-C, the cloud is taken down and its data directory removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from minicloud.base.errors import CloudError, Internal
from minicloud.cli.demo_function import feed_a_function
from minicloud.cli.demo_group import follow_the_load
from minicloud.cli.demo_story import Story
from minicloud.cli.output import memory, write_line, write_table

if TYPE_CHECKING:
    from minicloud.client import Client, models

SERVE = "#!/bin/sh\nsetsid python3 -m minicloud_workers.http_server --port {port} </dev/null &\n"
LARGEST_MIB = 8192  # of the types that the demo looks at: it runs on laptops
FAMILIES = ("general", "compute", "memory")
NOTICE_S_MAX = 15.0
HTTP_S_MAX = 10.0


@click.command()
@click.option("--data-dir", metavar="DIR", help="Keep the cloud's data here (default: a new directory, removed).")
def demo(data_dir: str | None) -> int:
    """Bring up a cloud, use it, break it, show what it reports, end it."""
    folder = Path(data_dir) if data_dir else Path(tempfile.mkdtemp(prefix="mc-demo-", dir="/tmp"))
    story = Story()
    for number in (signal.SIGTERM, signal.SIGHUP):  # these end it in order too
        signal.signal(number, _end)
    try:
        with _cloud(folder, story) as (endpoint, state):
            _tell(story, endpoint, state)
    finally:
        if data_dir is None:
            shutil.rmtree(folder, ignore_errors=True)
    story.done("down", "nothing is left running")
    write_line("")
    write_table(("STEP", "RESULT"), story.rows)
    return 0


def _end(number: int, _frame: FrameType | None) -> None:
    raise click.exceptions.Exit(128 + number)


@contextlib.contextmanager
def _cloud(folder: Path, story: Story) -> Iterator[tuple[str, Path]]:
    """A cloud of two hosts on free ports; ends with the block."""
    from minicloud.cli.lifecycle.daemon import Daemon
    from minicloud.cli.lifecycle.story import describe
    from minicloud.cluster.processes import is_alive, read_table
    from minicloud.flags import UpFlags, resolve

    settings = resolve(UpFlags(data_dir=str(folder), hosts=2, grpc_port=0, http_port=0))
    daemon = Daemon(settings, lifeline=True)
    endpoint = ""
    try:
        for event in daemon.events():
            if text := describe(event):
                story.say(text)
            if event["event"] == "failed":
                raise Internal(event["error"])
            if event["event"] == "ready":
                endpoint = str(event["grpc"])
                break
        if not endpoint:
            raise Internal(daemon.last_words() or "the cloud did not come up")
        story.done("up", f"two hosts ready after {time.monotonic() - story.began:.1f} s")
        yield endpoint, folder / "run" / "processes.json"
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # an impatient second one must not leave half
            signal.signal(number, signal.SIG_IGN)
        story.say("taking the cloud down")
        records = read_table(folder / "run" / "processes.json")
        daemon.ask_to_end()
        status = daemon.wait()
    if status != 0 or any(map(is_alive, records)):
        raise Internal(f"the cloud did not end in order (status {status}): {daemon.last_words()}")


def _tell(story: Story, endpoint: str, processes: Path) -> None:
    from minicloud.client import Client

    with Client(endpoint) as client:
        for warning in client.hosts.get("host-a").warnings:
            story.say(f"warning: {warning}")
        instances = _launch(story, client)
        _serve(story, client, instances)
        _look_inside(story, client, instances[0])
        _resize(story, client, instances[0])
        feed_a_function(story, client)
        instances = _make_room(client, instances)
        lose = partial(_lose_a_host, story, client, instances, processes)
        follow_the_load(story, client, _port(client), lose)


def _launch(story: Story, client: Client) -> list[models.Instance]:
    """The smallest fitting type of each family, spread over the hosts."""
    made = []
    port = _port(client)
    for family in FAMILIES:
        fitting = list(client.types.list(family=family, max_memory_mib=LARGEST_MIB, fits_now=True))
        kind = min(fitting, key=lambda one: (one.memory_mib, one.vcpus, not one.current_generation, one.name))
        began = time.monotonic()
        (one,) = client.instances.launch(
            kind.name, user_data=SERVE.format(port=port), strategy="spread", tags={"Name": f"demo-{family}"}
        )
        client.instances.wait_until(one.id, "running")
        took = time.monotonic() - began
        made.append(one)
        story.say(f"{kind.name} ({family}, {kind.vcpus} vCPU, {memory(kind.memory_mib)}) runs after {took:.2f} s")
    ready = list(client.instances.wait_ready([one.id for one in made], 60.0))
    failed = [one.id for one in ready if one.user_data_status != "done"]
    if failed:
        raise Internal(f"user data failed in {', '.join(failed)}")
    where = ", ".join(f"{one.type} on {one.host_name}" for one in ready)
    story.done("launch", where)
    if len({one.host_id for one in ready}) < 2:
        raise Internal("the instances should stand on two hosts")
    return ready


def _serve(story: Story, client: Client, instances: list[models.Instance]) -> None:
    """Real HTTP from each guest at its own address, and once more through its host agent."""
    port = _port(client)
    for one in instances:
        info = _until(HTTP_S_MAX, lambda one=one: _get(f"http://{one.private_ip}:{port}/info"))  # type: ignore[misc]
        if info["instance_id"] != one.id:
            raise Internal(f"{one.private_ip} answered as {info['instance_id']}, not as {one.id}")
    with client.instances.forward(instances[0].id, port) as tunnel:
        tunneled = _get(f"http://127.0.0.1:{tunnel.local_port}/info")
    if tunneled["instance_id"] != instances[0].id:
        raise Internal("the tunnel led to another instance")
    story.done("http", f"{len(instances)} instances answered at their own addresses, one through a tunnel")


def _port(client: Client) -> int:
    """80 where guests have a network of their own; on the machine's network that takes more rights than we may have."""
    return 80 if all("bridge" in host.isolation for host in client.hosts.list()) else 8080


def _get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=HTTP_S_MAX) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer


def _until(seconds: float, attempt: Callable[[], Any]) -> Any:
    """The attempt's result; a server that starts may need a moment. Raises what the last attempt raised."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _look_inside(story: Story, client: Client, one: models.Instance) -> None:
    result = client.instances.exec(
        one.id, ["sh", "-c", "echo $(whoami)@$(uname -n), $(ls /proc | grep -c '^[0-9]') processes"]
    )
    if result.exit_code != 0:
        raise Internal(f"exec failed: {result.stderr!r}")
    story.done("exec", result.stdout.decode().strip())


def _resize(story: Story, client: Client, one: models.Instance) -> None:
    """Stop, change the type, start: the new size is in force, the disk is the same."""
    client.instances.exec(one.id, ["sh", "-c", "echo kept > $HOME/note"])
    client.instances.stop(one.id)
    client.instances.wait_until(one.id, "stopped", 30.0)
    here = client.types.get(one.type)
    larger = [
        kind
        for kind in client.types.list(
            family=here.family, min_memory_mib=here.memory_mib + 1, max_memory_mib=LARGEST_MIB
        )
        if kind.architecture == here.architecture and kind.memory_mib <= 2 * here.memory_mib and not kind.gpus
    ]
    kind = max(larger, key=lambda item: (item.memory_mib, item.name))
    client.instances.modify(one.id, type=kind.name)
    client.instances.start(one.id)
    (after,) = client.instances.wait_until(one.id, "running", 30.0)
    note = client.instances.exec(one.id, ["sh", "-c", "cat $HOME/note"]).stdout.decode().strip()
    if note != "kept" or after.shape is None or after.shape.memory_mib != kind.memory_mib:
        raise Internal(f"the note says {note!r}, the shape is {after.shape}, wanted {kind.name}")
    outcome = _outgrow(client, one.id, here.memory_mib)
    story.done("resize", f"{one.type} -> {kind.name} ({memory(kind.memory_mib)}), disk kept; {outcome}")


def _outgrow(client: Client, instance_id: str, old_mib: int) -> str:
    """Use more memory than the old type had: the new limit is what holds."""
    code = f"b = bytearray({old_mib + old_mib // 4} * 1024 * 1024); print(len(b) >> 20)"
    result = client.instances.exec(instance_id, ["python3", "-c", code])
    if result.exit_code != 0:
        raise Internal(f"the guest could not use its new memory: {result.stderr!r}")
    return f"a process inside now holds {result.stdout.decode().strip()} MiB"


def _make_room(client: Client, instances: list[models.Instance]) -> list[models.Instance]:
    """End all but one on each host: the group must fit on what is left when one of two hosts is lost."""
    kept = list({one.host_id: one for one in reversed(instances)}.values())
    gone = [one.id for one in instances if one not in kept]
    client.instances.terminate(*gone)
    client.instances.wait_until(gone, "terminated", 30.0)
    return kept


def _lose_a_host(story: Story, client: Client, instances: list[models.Instance], processes: Path) -> None:
    """SIGKILL the raylet of a host that is not the head, and wait until the cloud says what is true."""
    victim = next(host for host in client.hosts.list() if host.name == "host-b")
    on_it = [one for one in instances if one.host_id == victim.id]
    os.kill(_raylet(processes, victim.name), signal.SIGKILL)
    began = time.monotonic()
    story.say(f"killed the raylet of {victim.name}")
    for one in on_it:
        client.instances.wait_until(one.id, "stopped", NOTICE_S_MAX)
    down = _down(client, victim.id, began + NOTICE_S_MAX)
    took = time.monotonic() - began
    reasons = {client.instances.get(one.id).state_reason for one in on_it}
    codes = ", ".join(sorted(reason.code for reason in reasons if reason is not None))
    others = [client.instances.get(one.id) for one in instances if one not in on_it]
    if down.state != "down" or any(one.state != "running" for one in others):
        raise Internal(f"{victim.name} is {down.state}; the others: {[one.state for one in others]}")
    story.done(
        "lose a host",
        f"{victim.name} down after {took:.1f} s, {len(on_it)} instance(s) stopped ({codes}), {len(others)} untouched",
    )


def _down(client: Client, host_id: str, deadline: float) -> models.Host:
    """The host once it is known to be down: its actors may be missed a moment earlier."""
    while (host := client.hosts.get(host_id)).state != "down" and time.monotonic() < deadline:
        time.sleep(0.1)
    return host


def _raylet(processes: Path, host_name: str) -> int:
    """The pid, from what the supervisor recorded."""
    records = json.loads(processes.read_text())
    rows = records["processes"] if isinstance(records, dict) else records
    for row in rows:
        if row["role"] == f"raylet:{host_name}":
            return int(row["pid"])
    raise Internal(f"no raylet of {host_name} is recorded in {processes}")


if __name__ == "__main__":
    try:
        sys.exit(demo(standalone_mode=False))
    except CloudError as error:
        sys.exit(str(error))
