"""The command lines, files and environment of our own Ray processes. Pure: what to start, not starting it.

Ray's Python wrapper (`ray start`, `ray._private.node.Node`) is not used, for four reasons, each measured with Ray 2.60:

* It starts helpers that a cloud does not need: dashboard, monitor, log monitor, and a dashboard agent and a runtime
  environment agent on every node, 70-90 MB each. The raylet insists on agent commands and on the ports these agents
  publish (files in the session directory named after the node id), so it gets processes that only wait, and files
  that say "no such service" (-1, as Ray's own minimal agent writes).
* A worker starts in 0.35 s of CPU instead of 0.6 s: Ray's `setup_worker.py` imports all of Ray only to exec the
  interpreter again, `worker_start.py` here execs at once. Runtime environments are not supported in return.
* Every process id is known when it is started, and no failure leaves daemons behind.
* gcs_server, two raylets, a driver and two actors answer after 1.6 s.

With node_ip_address 127.0.0.1 every server of Ray (gcs, raylet, object manager, workers) binds to loopback only.
`RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0` keeps drivers from resolving 127.0.0.1 to an address of the network.
The GCS keeps its tables in its embedded RocksDB, so a killed gcs_server started again on the same port and directory
goes on where it was: actors, names and nodes stay (measured: back in 0.3 s).
"""

from __future__ import annotations

import base64
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from minicloud.cluster.processes import marks
from minicloud.settings import CloudSettings, HostSettings, child_env

LOOPBACK = "127.0.0.1"
SESSION = "session"
OBJECT_STORE_BYTES = 80 * 1024 * 1024  # Ray's minimum is 75 MiB; nothing of ours travels through it
HEAD_RESOURCE = "minicloud_head"
# What a worker loads before it is anybody's: an actor that becomes an instance finds it there. 3 ms, 15 on a busy host.
PRELOADED = "minicloud.cluster.instance,minicloud.sandbox.spawn"
HOST_RESOURCE_PREFIX = "minicloud_host:"
PIN_AMOUNT = 0.001  # of a host's resource (1.0) that pins one actor to it
# Measured: with these a killed raylet is noticed after 1.5 s and a frozen one after 4.5 s; by default 15 s and 65 s.
HEALTH_CHECK = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "500",
}
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_BACKEND_LOG_LEVEL": "warning",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_DEDUP_LOGS": "0",
    # Ray would make uvloop every thread's loop; netlink (pyroute2) needs asyncio's own. Our own loops ask for uvloop.
    "RAY_USE_UVLOOP": "0",
    # Guests are children of workers: they must not be 15 steps nicer than the rest of the machine.
    "RAY_worker_niceness": "0",
}
_MIB = 1024 * 1024
# Waits for its parent's death, which the kernel announces: 1 is PR_SET_PDEATHSIG, 9 is SIGKILL.
_IDLE = "import ctypes,os,signal;ctypes.CDLL(None).prctl(1,9);os.getppid()==1 and exit();signal.pause()"


@dataclass(frozen=True, slots=True)
class RayPlace:
    """Where one Ray cluster of ours lives. `base` must be short: unix socket paths have 107 bytes."""

    base: Path
    logs: Path
    gcs_port: int
    ray_path: Path

    @property
    def gcs_address(self) -> str:
        return f"{LOOPBACK}:{self.gcs_port}"

    @property
    def session(self) -> Path:
        return self.base / SESSION

    @property
    def token(self) -> Path:
        return self.base / "token"

    @property
    def folders(self) -> list[Path]:
        return [self.base, self.session, self.session / "s", self.gcs_storage, self.runtime]

    @property
    def gcs_storage(self) -> Path:
        return self.session / "gcs"

    @property
    def runtime(self) -> Path:
        return self.session / "runtime_resources"


def ray_env(settings: CloudSettings, place: RayPlace) -> dict[str, str]:
    """The whole environment of Ray's processes and of our drivers. Guests never see it: theirs is cleared."""
    env = child_env() | marks(settings) | HEALTH_CHECK | QUIET
    path = [str(_package_root()), *filter(None, [env.get("PYTHONPATH", "")])]
    return env | {
        "PYTHONPATH": ":".join(path),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place.token),
        "RAY_gcs_storage": "rocksdb",
        "RAY_gcs_storage_path": str(place.gcs_storage),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_TMPDIR": str(place.base),
    }


def host_env(host: HostSettings) -> dict[str, str]:
    """A host sees its own GPUs only; Ray deals out what it sees."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, host.gpu_indices))} if host.gpu_indices else {}


def gcs_command(place: RayPlace, node_id: str) -> list[str]:
    return [
        str(place.ray_path / "core/src/ray/gcs/gcs_server"),
        f"--log_dir={place.logs}",
        f"--config_list={base64.b64encode(b'{}').decode()}",
        f"--gcs_server_port={place.gcs_port}",
        "--metrics-agent-port=-1",
        f"--node-ip-address={LOOPBACK}",
        f"--session-name={SESSION}",
        f"--session-dir={place.session}",
        f"--node-id={node_id}",
    ]


def raylet_command(place: RayPlace, host: HostSettings, node: RayletIdentity) -> list[str]:
    store, socket = place.session / f"s/p-{node.node_id[:8]}", place.session / f"s/r-{node.node_id[:8]}"
    idle = subprocess.list2cmdline([sys.executable, "-I", "-S", "-c", _IDLE])
    resources = host_resources(host, node.is_head)
    command = [
        str(place.ray_path / "core/src/ray/raylet/raylet"),
        f"--raylet_socket_name={socket}",
        f"--store_socket_name={store}",
        "--object_manager_port=0",
        "--node_manager_port=0",
        "--min_worker_port=0",
        "--max_worker_port=0",
        f"--node_id={node.node_id}",
        f"--node-name={host.name}",
        f"--node_ip_address={LOOPBACK}",
        f"--cluster-id={node.cluster_id}",
        f"--gcs-address={place.gcs_address}",
        f"--session-name={SESSION}",
        f"--static_resource_list={','.join(f'{name},{amount}' for name, amount in resources.items())}",
        f"--maximum_startup_concurrency={max(2, int(host.cores))}",
        "--num_prestart_python_workers=0",
        f"--python_worker_command={subprocess.list2cmdline(_worker_command(place, node.cluster_id, store, socket))}",
        "--java_worker_command=",
        "--cpp_worker_command=",
        f"--native_library_path={place.ray_path / 'cpp/lib'}",
        f"--temp_dir={place.base}",
        f"--session_dir={place.session}",
        f"--log_dir={place.logs}",
        f"--resource_dir={place.runtime}",
        f"--object_store_memory={OBJECT_STORE_BYTES}",
        "--plasma_directory=/dev/shm",
        f"--fallback_directory={place.session}",
        "--metrics-agent-port=-1",
        "--metrics_export_port=-1",
        "--runtime_env_agent_port=0",
        "--ray-debugger-external=0",
        "--labels={}",
        f"--dashboard_agent_command={idle}",
        f"--runtime_env_agent_command={idle}",
    ]
    return [*command, "--head"] if node.is_head else command


@dataclass(frozen=True, slots=True)
class RayletIdentity:
    """A raylet that was restarted is a new node to Ray: the id is fresh each time."""

    node_id: str
    cluster_id: str
    is_head: bool


def port_files(place: RayPlace, node_id: str) -> dict[Path, str]:
    """What the raylet waits for from its agents: the ports of services that do not exist here."""
    ports = {
        "dashboard_agent_listen_port": "0",
        "metrics_agent_port": "-1",
        "metrics_export_port": "-1",
        "runtime_env_agent_port": "0",
    }
    return {place.session / f"{name}_{node_id}": port for name, port in ports.items()}


def host_resources(host: HostSettings, is_head: bool) -> dict[str, float]:
    """What the raylet is told to have: true cores and memory (bytes), and what our actors are pinned with."""
    resources: dict[str, float] = {
        "CPU": host.cores,
        "memory": host.memory_mib * _MIB,
        "object_store_memory": OBJECT_STORE_BYTES,
        f"node:{LOOPBACK}": 1.0,
        HOST_RESOURCE_PREFIX + host.name: 1.0,
    }
    if host.gpus:
        resources["GPU"] = host.gpus
    if is_head:
        resources |= {"node:__internal_head__": 1.0, HEAD_RESOURCE: 1.0}
    return resources


def _worker_command(place: RayPlace, cluster_id: str, store: Path, socket: Path) -> list[str]:
    return [
        sys.executable,
        "-I",
        "-S",
        str(Path(__file__).with_name("worker_start.py")),
        str(place.ray_path / "_private/workers/default_worker.py"),
        f"--node-ip-address={LOOPBACK}",
        "--node-manager-port=RAY_NODE_MANAGER_PORT_PLACEHOLDER",
        f"--object-store-name={store}",
        f"--raylet-name={socket}",
        "--redis-address=None",
        "--metrics-agent-port=-1",
        "--logging-rotate-bytes=4194304",
        "--logging-rotate-backup-count=1",
        "--runtime-env-agent-port=0",
        f"--gcs-address={place.gcs_address}",
        f"--session-name={SESSION}",
        f"--temp-dir={place.base}",
        "--webui=",
        f"--worker-preload-modules={PRELOADED}",
        f"--cluster-id={cluster_id}",
        "RAY_WORKER_DYNAMIC_OPTION_PLACEHOLDER",
    ]


def _package_root() -> Path:
    return Path(__file__).resolve().parents[2]
