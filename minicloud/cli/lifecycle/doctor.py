"""`minicloud doctor`: what this machine allows, found by trying it, and what to do about the rest.

Each check answers with how well it is (ok, warn: it works with a loss, fail: a cloud cannot run), what was found, and
what to do. Exit code 1 when something fails.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minicloud.base.errors import CloudError
from minicloud.cli.lifecycle.daemon import read_state
from minicloud.cli.output import write_json, write_line, write_table
from minicloud.cli.session import Session
from minicloud.cluster.teardown import get_health
from minicloud.flags import probe_machine
from minicloud.settings import child_env
from minicloud.shell.data_dir import data_dir as find_data_dir
from minicloud.shell.data_dir import find_cloud

if TYPE_CHECKING:
    from minicloud.sandbox.probe import Ability

OK, WARN, FAIL = "ok", "warn", "fail"
FSYNCS = 50
FSYNC_SLOW_S = 0.02
MEMORY_MIB_MIN = 2_048
DISK_GIB_MIN = 2
PORTS_MIN = 1_024
INSTALL = "pip install 'minicloud[server]'"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    state: str
    found: str
    advice: str = ""


@click.command()
@click.option("--data-dir", metavar="DIR", help="Where the cloud is, or would be, kept (default: ~/.minicloud).")
@click.option("--output", "-o", type=click.Choice(["table", "json"]), help="How to answer (default: table).")
@click.pass_context
def doctor(ctx: click.Context, data_dir: str | None, output: str | None) -> int:
    """What this machine allows, and what to do about the rest."""
    data = find_data_dir(data_dir)
    findings = list(examine(_nearest(data)))
    if (output or ctx.ensure_object(Session).output) == "json":
        write_json([asdict(finding) for finding in findings])
    else:
        _show(findings)
    return 1 if any(finding.state == FAIL for finding in findings) else 0


def examine(data: Path) -> Iterator[Finding]:
    """Every check; one that breaks is a finding, not the end of the report."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _python),
        ("ray", _ray),
        ("haproxy", _haproxy),
        ("machine", lambda: _machine(data)),
        ("disk", lambda: _disk(data)),
        ("message brokers", lambda: _shards(data, "message brokers", "brokers", "messages/*/*", "message-broker-*")),
        ("balancers", lambda: _shards(data, "balancers", "balancers", "balancers/**/*", "balancer-*")),
        ("autoscaler", lambda: _shards(data, "autoscaler", "autoscalers", "autoscaler/*", "autoscaler-*")),
        ("files", _files),
        ("isolation", _isolation),
    ]
    for name, check in checks:
        try:
            yield from check()
        except (OSError, CloudError, subprocess.SubprocessError, ImportError) as error:
            yield Finding(name, FAIL, f"{type(error).__name__}: {error}", "see the message; the check itself broke")


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", OK, f"{version} at {sys.executable}")


def _ray() -> Iterator[Finding]:
    from minicloud.cluster.boot import find_ray

    try:
        path = find_ray()
        version = importlib.metadata.version("ray")
    except (CloudError, importlib.metadata.PackageNotFoundError):
        yield Finding("ray", FAIL, "not installed", INSTALL)
        return
    tested = version.startswith(("2.60.", "2.61."))
    server = path / "core/src/ray/gcs/gcs_server"
    if not os.access(server, os.X_OK):
        yield Finding("ray", FAIL, f"{server} cannot be run", f"reinstall Ray: {INSTALL}")
    elif not tested:
        yield Finding("ray", WARN, f"{version}, which minicloud was not tested with", "pip install 'ray>=2.60,<2.62'")
    else:
        yield Finding("ray", OK, version)


def _haproxy() -> Iterator[Finding]:
    from minicloud.proxy.process import find_haproxy

    try:
        binary = find_haproxy()
    except CloudError:
        yield Finding("haproxy", FAIL, "not installed", f"{INSTALL}, or your distribution's haproxy 2.8 or later")
        return
    said = subprocess.run(
        [binary, "-v"], capture_output=True, text=True, timeout=10, env=child_env(), check=False
    ).stdout
    words = said.split()
    version = words[2].split("-")[0] if len(words) > 2 else "?"
    numbers = version.split(".")
    old = not all(number.isdigit() for number in numbers[:2]) or tuple(map(int, numbers[:2])) < (2, 8)
    advice = f"{INSTALL} brings 2.8" if old else ""
    yield Finding("haproxy", WARN if old else OK, f"{version} at {binary}", advice)


def _machine(data: Path) -> Iterator[Finding]:
    machine = probe_machine(data)
    small = machine.memory_mib < MEMORY_MIB_MIN
    found = f"{machine.cores:g} cores, {machine.memory_mib} MiB memory, {len(machine.gpu_indices)} GPUs"
    yield Finding("machine", WARN if small else OK, found, "an idle cloud takes about 400 MiB" if small else "")
    shm = shutil.disk_usage("/dev/shm").free // 2**20 if os.path.isdir("/dev/shm") else 0
    if shm < 100:
        yield Finding(
            "shared memory", FAIL, f"/dev/shm has {shm} MiB free", "Ray needs 80 MiB a host (docker: --shm-size)"
        )
    else:
        yield Finding("shared memory", OK, f"{shm} MiB free in /dev/shm")


def _disk(data: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(data).free / 2**30
    advice = "free some space: instances' disks live there" if free < DISK_GIB_MIN else ""
    yield Finding("disk", WARN if advice else OK, f"{free:.1f} GiB free at {data}", advice)
    median = fsync_s(data)
    slow = median > FSYNC_SLOW_S
    advice = "every acknowledged change waits for one: put --data-dir on a faster disk" if slow else ""
    yield Finding("fsync", WARN if slow else OK, f"median {median * 1000:.2f} ms ({FSYNCS} of 4 KiB)", advice)


def fsync_s(folder: Path) -> float:
    """The median time of writing 4 KiB and having it on disk."""
    times = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(FSYNCS):
            began = time.perf_counter()
            file.write(b"\0" * 4096)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def _shards(data: Path, check: str, part: str, files: str, logs: str) -> Iterator[Finding]:
    """Of the cloud in this directory, if there is one. part: where they stand in its health."""
    cloud = find_cloud(data)
    if cloud is None:
        return
    used = sum(path.stat().st_size for path in data.glob(files) if path.is_file()) / 2**20
    state = read_state(data)
    if state is None or not state.alive:
        yield Finding(check, OK, f"down like the cloud; {used:.0f} MiB of disk")
        return
    body = get_health(state.settings)[1]
    seen = json.loads(body).get(part, []) if body.startswith("{") else []
    down = len(seen) - seen.count("up") if seen else len(getattr(state.settings, part))
    found = f"{len(getattr(state.settings, part))}, {down} of them down; {used:.0f} MiB of disk"
    advice = f"see {data}/log/{logs}.log" if down else ""
    yield Finding(check, WARN if down else OK, found, advice)


def _files() -> Iterator[Finding]:
    import resource

    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = soft < 16_384
    yield Finding("open files", WARN if low else OK, str(soft), "ulimit -n 65536" if low else "")


def _isolation() -> Iterator[Finding]:
    from minicloud.sandbox.probe import probe

    isolation = probe()
    abilities: list[tuple[str, Ability, str]] = [
        (
            "sandbox",
            isolation.sandbox,
            "allow user namespaces, or install bubblewrap; guests run as plain processes now",
        ),
        ("seccomp", isolation.seccomp, "guests can make every system call of the kernel"),
        ("control groups", isolation.cgroups, "run as root, or delegate a cgroup (systemd-run --user -p Delegate=yes)"),
        (
            "network namespaces",
            isolation.network_namespaces,
            "run as root for an address per guest; loopback until then",
        ),
        ("nft", isolation.nft, "apt install nftables; guests of different accounts reach each other without it"),
        ("device nodes", isolation.own_devices, ""),
    ]
    for name, ability, advice in abilities:
        yield Finding(name, OK if ability.works else WARN, ability.text, "" if ability.works else advice)
    yield Finding("guests", OK, f"driver {isolation.driver}, network {isolation.network}")
    for warning in isolation.warnings:
        yield Finding("guests", WARN, warning)


def _nearest(data: Path) -> Path:
    """The data directory, or the closest folder above it that exists."""
    while not data.exists():
        data = data.parent
    return data


def _show(findings: list[Finding]) -> None:
    write_table(["CHECK", "", "FOUND"], [[f.check, f.state, f.found] for f in findings])
    advice = [f"{f.check}: {f.advice}" for f in findings if f.advice]
    if advice:
        write_line("\nto do\n  " + "\n  ".join(advice))
