"""`minicloud up`, `down`, `status`.

`up` in the foreground shows what happens until Ctrl-C, which ends the cloud; `--detach` returns when it is ready.
Either way a supervisor process does the work (minicloud.cluster.supervisor). Usage that cannot work is exit code 2.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

import click

from minicloud.base.errors import CloudError, InvalidParameterValue, InvalidRequest
from minicloud.cli.lifecycle.daemon import Daemon, end_cloud, read_state
from minicloud.cli.lifecycle.doctor import doctor
from minicloud.cli.lifecycle.story import describe, show_endpoints
from minicloud.cli.output import cell, memory, write_json, write_line, write_table
from minicloud.cli.progress import Progress
from minicloud.cli.session import Session
from minicloud.cli.trouble import show_error
from minicloud.cluster.teardown import get_health
from minicloud.flags import UpFlags, resolve
from minicloud.settings import GRPC_PORT_DEFAULT, HTTP_PORT_DEFAULT, SHARD_KINDS, CloudSettings, ShardKind
from minicloud.shell.data_dir import data_dir as find_data_dir
from minicloud.shell.data_dir import find_cloud

DATA_DIR = click.option("--data-dir", metavar="DIR", help="Where the cloud is kept (default: ~/.minicloud).")
OUTPUT = click.option("--output", "-o", type=click.Choice(["table", "json"]), help="How to answer (default: table).")
_MEMORY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)\s*(MiB|GiB|M|G)?$", re.IGNORECASE)


def usage_is_2(function: Callable[..., int]) -> Callable[..., int]:
    """What can never work as it was asked for is a usage error."""

    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> int:
        try:
            return function(*args, **kwargs)
        except InvalidRequest as error:
            show_error(error, kwargs.get("output") or "table")
            return 2

    return command


def _memory_mib(_ctx: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    match = _MEMORY.match(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not an amount of memory, such as 512MiB or 4GiB")
    return int(float(match[1]) * (1024 if (match[2] or "M").upper().startswith("G") else 1))


@click.command()
@click.option("--hosts", type=int, help="Hosts on this machine, in zones a, b, c... (default: as before, else 1).")
@DATA_DIR
@click.option("--grpc-port", type=int, default=GRPC_PORT_DEFAULT, show_default=True, help="0: any free one.")
@click.option("--http-port", type=int, default=HTTP_PORT_DEFAULT, show_default=True, help="0: any free one.")
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address; others than loopback need auth and TLS.")
@click.option("--allow-host", "allowed_hosts", multiple=True, metavar="NAME", help="Another name the cloud goes by.")
@click.option("--brokers", type=int, help="Message brokers of a new cloud; queues are dealt to them (default: 1).")
@click.option("--address", metavar="RAY", help="Join this Ray cluster; its nodes are the hosts.")
@click.option("--region", help="Region of a new cloud (default: us-east-1).")
@click.option("--auth/--no-auth", default=None, help="Ask for access keys (default: only beyond loopback).")
@click.option(
    "--tls-cert",
    metavar="PEM",
    help="Certificate chain (`minicloud certs`); guests need minicloud.internal in it.",
)
@click.option("--tls-key", metavar="PEM", help="Its private key.")
@click.option("--tls-ca", metavar="PEM", help="The CA that clients are to trust.")
@click.option("--cpus-per-host", type=float, help="Say that a host has so many cores.")
@click.option(
    "--memory-per-host", "memory_per_host_mib", callback=_memory_mib, metavar="SIZE", help="... so much memory (4GiB)."
)
@click.option(
    "--disk-per-host", "disk_per_host_gib", type=int, metavar="GIB", help="... so much disk; guests' disks are sparse."
)
@click.option("--gpus", type=int, help="GPUs of each host; where the machine has none, declared ones for tests.")
@click.option("--overcommit-cpu", type=float, help="vCPUs sold per core (default: 8).")
@click.option("--overcommit-memory", type=float, help="Memory sold per memory there is (default: 1).")
@click.option("--overcommit-gpu", type=float, help="GPUs sold per GPU (default: 1).")
@click.option("--detach", "-d", is_flag=True, help="Return when the cloud is ready.")
@OUTPUT
@click.pass_context
@usage_is_2
def up(ctx: click.Context, detach: bool, output: str | None, address: str | None, **flags: Any) -> int:
    """Start a cloud."""
    if address and flags["hosts"] is not None:
        raise InvalidParameterValue("the hosts of a joined cluster are its nodes: drop --hosts", field="hosts")
    as_json = (output or ctx.ensure_object(Session).output) == "json"
    settings = resolve(UpFlags(address=address, **flags))
    daemon = Daemon(settings, lifeline=not detach)
    if not detach:
        _end_on_signals(daemon)
    return _follow(daemon, detach, as_json)


def _follow(daemon: Daemon, detach: bool, as_json: bool) -> int:
    """Show events until the cloud is ready (detached) or has ended. Returns the exit code."""
    failure, ready = "", False
    with Progress("starting a cloud") as progress:
        for event in daemon.events():
            kind = event["event"]
            if as_json:
                write_line(json.dumps(event))
            elif text := describe(event):
                progress.step(text)
            if kind == "failed":
                failure = event["error"]
            if kind == "ready":
                if not as_json and not ready:
                    show_endpoints(event, detach)
                ready = True
                progress.now("running; Ctrl-C ends it")
                if detach:
                    return 0
    status = daemon.wait()
    if status == 0:
        return 0
    story = failure or daemon.last_words() or f"the supervisor ended with status {status}"
    raise CloudError(story, code="StartFailed" if not ready else "CloudFailed")


def _end_on_signals(daemon: Daemon) -> None:
    """Ctrl-C (and a closing terminal) ends the cloud in order; the events go on meanwhile."""

    def end(_number: int, _frame: FrameType | None) -> None:
        daemon.ask_to_end()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


@click.command()
@DATA_DIR
@click.option("--purge", is_flag=True, help="Delete the cloud's data too. It does not come back.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
@OUTPUT
@click.pass_context
@usage_is_2
def down(ctx: click.Context, data_dir: str | None, purge: bool, yes: bool, output: str | None) -> int:
    """End a cloud; its data stays."""
    data = find_data_dir(data_dir)
    identity = find_cloud(data)
    as_json = (output or ctx.ensure_object(Session).output) == "json"
    if identity is None:
        raise CloudError(f"there is no cloud in {data}", code="NoCloud")
    if purge and not yes and not _agrees(data):
        return 1
    bare = CloudSettings(cloud_id=identity.cloud_id, data_dir=str(data), region=identity.region)
    with Progress("ending the cloud") as progress:
        progress.now("stopping instances")
        ended = end_cloud(data, read_state(data), bare)
    if purge:
        shutil.rmtree(data)
    if as_json:
        write_json({"cloud_id": identity.cloud_id, "was_up": ended, "purged": purge})
    else:
        write_line(("ended" if ended else "was not up") + ("; data deleted" if purge else f"; data kept in {data}"))
    return 0


def _agrees(data: Path) -> bool:
    if not sys.stdin.isatty():
        raise InvalidParameterValue("--purge deletes everything: say --yes where nobody can be asked", field="yes")
    return click.confirm(f"delete everything in {data}?", default=False)


@click.command()
@DATA_DIR
@OUTPUT
@click.pass_context
@usage_is_2
def status(ctx: click.Context, data_dir: str | None, output: str | None) -> int:
    """What of a cloud is running. Exit code 0: it is up and healthy."""
    data = find_data_dir(data_dir)
    state = read_state(data)
    as_json = (output or ctx.ensure_object(Session).output) == "json"
    if state is None:
        return _show_no_cloud(data, as_json)
    code, body = get_health(state.settings) if state.alive else (0, "")
    healthy = state.alive and code == 200
    report = {
        "cloud_id": state.settings.cloud_id,
        "phase": state.phase,
        "healthy": healthy,
        "health": _parsed(body),
        "data_dir": str(data),
        "endpoints": state.endpoints,
        "hosts": [
            {
                "name": host.name,
                "zone": host.zone,
                "cores": host.cores,
                "memory_mib": host.memory_mib,
                "gpus": host.gpus,
                "ray_node_id": state.nodes.get(host.name, ""),
            }
            for host in state.settings.hosts
        ],
        **{kind.part: _shards(state.settings, kind, _parsed(body)) for kind in SHARD_KINDS},
        "function_hosts": _function_hosts(state.settings) if state.alive else [],
        "restarts": state.restarts,
        "processes": [{"role": record.role, "pid": record.pid} for record in state.processes],
    }
    if as_json:
        write_json(report)
    else:
        _show_status(report)
    return 0 if healthy else 1


def _show_no_cloud(data: Path, as_json: bool) -> int:
    identity = find_cloud(data)
    cloud_id = identity.cloud_id if identity else ""
    if as_json:
        write_json({"cloud_id": cloud_id, "phase": "down", "healthy": False, "data_dir": str(data)})
    else:
        write_line(f"cloud {cloud_id} in {data} is down" if cloud_id else f"there is no cloud in {data}")
    return 1


def _parsed(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _shards(settings: CloudSettings, kind: ShardKind, health: Any) -> list[dict[str, str]]:
    """Where each listens, and how the control plane sees it ('' when nobody answers)."""
    seen = health.get(kind.part, []) if isinstance(health, dict) else []
    host = settings.endpoints["grpc"].rpartition(":")[0]
    return [
        {
            "name": kind.called(number),
            "address": f"{host}:{shard.port}",
            "state": seen[number] if number < len(seen) else "",
        }
        for number, shard in enumerate(settings.shards(kind))
    ]


def _function_hosts(cloud: CloudSettings) -> list[dict[str, Any]]:
    from minicloud.rpc import function_hosts  # gRPC takes a while to import

    try:
        return function_hosts.ask(cloud)
    except CloudError:  # its secret is not for this user
        return []


def _show_status(report: dict[str, Any]) -> None:
    word = report["phase"] if report["healthy"] or report["phase"] != "ready" else "not healthy"
    rows = [
        ["cloud", report["cloud_id"]],
        ["status", word],
        ["data", report["data_dir"]],
        *([name, address] for name, address in report["endpoints"].items()),
        ["restarts", cell(report["restarts"])],
    ]
    if report["phase"] == "broken":
        rows.append(["hint", "its supervisor was killed: `minicloud up` starts it again, `minicloud down` cleans up"])
    write_table([], rows)
    write_line("")
    hosts = [
        [host["name"], host["zone"], cell(host["cores"]), memory(host["memory_mib"]), cell(host["gpus"])]
        for host in report["hosts"]
    ]
    write_table(["HOST", "ZONE", "CORES", "MEMORY", "GPUS"], hosts)
    write_line("")
    shards = [[one["name"], one["address"], one["state"] or "-"] for kind in SHARD_KINDS for one in report[kind.part]]
    write_table(["SERVICE", "ADDRESS", "STATE"], shards)
    write_line("")
    places = [
        [
            one["name"],
            one["state"],
            *(cell(one[f"environments_{what}"]) for what in ("busy", "warm", "starting")),
            f"{memory(one['memory_promised_mib'])} of {memory(one['memory_mib'])}",
        ]
        for one in report["function_hosts"]
    ]
    write_table(["FUNCTION HOST", "STATE", "BUSY", "WARM", "STARTING", "PROMISED"], places)
    write_line("")
    processes = [[item["role"], str(item["pid"])] for item in report["processes"]]
    write_table(["PROCESS", "PID"], processes)


commands: list[click.Command] = [up, down, status, doctor]
