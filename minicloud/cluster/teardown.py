"""What is left when nobody is there to clean up: the processes and folders of a cloud whose supervisor was killed.

Used by `minicloud down` and by the next `up` alike, under the data directory's lock. Imports no Ray.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import logging
import os
import shutil
import socket
import ssl
import time
from pathlib import Path

from minicloud.base.errors import CloudError, Conflict
from minicloud.cluster.processes import ProcessRecord, end, end_marked, read_table
from minicloud.sandbox.sweep import sweep_groups, sweep_host
from minicloud.settings import FUNCTIONS, CloudSettings, read_secret

log = logging.getLogger("minicloud.cluster.teardown")

SHUTDOWN_S_MAX = 25.0
SHUTDOWN_LOOK_S = 0.05
ASK_S_MAX = 5.0


class DataDirLock:
    """Held by the one supervisor of a data directory; the kernel lets go of it however its holder ends."""

    def __init__(self, data: Path) -> None:
        """Raises Conflict when another process holds it."""
        self._fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise Conflict(
                f"a cloud is already up on {data} (supervisor {holder or 'just starting'}); "
                "`minicloud status` shows it, `minicloud down` ends it, --data-dir makes another",
                field="data_dir",
            ) from None
        os.truncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.close(self._fd)


def end_processes(settings: CloudSettings) -> list[ProcessRecord]:
    """End every process of the cloud, the caller excepted, and take down what its guests stood in.

    Returns the processes that would not end.
    """
    recorded = [record for record in read_table(settings.run_path / "processes.json") if record.pid != os.getpid()]
    left = end(recorded) + end_marked(settings)
    troubles = [trouble for host in settings.hosts for trouble in sweep_host(settings.cloud_id, host.name)]
    for number in range(len(settings.functions)):
        troubles += sweep_groups(settings.cloud_id, FUNCTIONS.called(number))
    for trouble in troubles:
        log.warning("left behind: %s", trouble)
    return left


def remove_run(settings: CloudSettings) -> None:
    """Remove what is only valid while the cloud runs."""
    shutil.rmtree(settings.run_path, ignore_errors=True)
    if settings.socket_path.parent != settings.run_path:
        shutil.rmtree(settings.socket_path, ignore_errors=True)


def make_run(settings: CloudSettings) -> None:
    """The folders of a running cloud, private to this user. Raises Conflict where /tmp holds somebody else's."""
    for folder in (settings.run_path, settings.log_path, settings.socket_path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(folder)
        if status.st_uid != os.getuid() or (status.st_mode & 0o777) != 0o700:
            if folder.is_symlink() or status.st_uid != os.getuid():
                raise Conflict(f"{folder} belongs to somebody else")
            folder.chmod(0o700)


def ask_shutdown(settings: CloudSettings, seconds: float = SHUTDOWN_S_MAX) -> str:
    """Have the control plane stop all guests and write everything down. Returns '' or what went wrong. Blocks.

    It accepts (202) and its health says `stopped` when it is done: another process's progress has no event.
    """
    from minicloud.rpc.http import HEALTH, SHUTDOWN, TOKEN_HEADER, internal_token

    until, status = time.monotonic() + seconds, ""
    try:
        code, _ = _ask(settings, "POST", SHUTDOWN, {TOKEN_HEADER: internal_token(read_secret(settings))})
        if code != 202:
            return f"HTTP status {code}"
        while time.monotonic() < until:
            status = str(json.loads(_ask(settings, "GET", HEALTH, {})[1]).get("status"))
            if status == "stopped":
                return ""
            time.sleep(SHUTDOWN_LOOK_S)
    except (OSError, http.client.HTTPException, ValueError, CloudError) as error:
        return f"{type(error).__name__}: {error}"
    return f"guests did not stop within {seconds:.0f} s (the control plane says {status!r})"


def _ask(settings: CloudSettings, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """One request straight to the control plane."""
    connection = http.client.HTTPConnection(settings.control_host, settings.control_http_port, timeout=ASK_S_MAX)
    try:
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read(65_536)
    finally:
        connection.close()


def awaited(body: str) -> str:
    """What a cloud that is not ready yet waits for, by the body of its health; '' where that does not say it."""
    try:
        health = json.loads(body)
        parts = [name for name, states in health.items() if isinstance(states, list) and "down" in states]
        hosts = health["hosts_down"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return ", ".join(parts + ([f"{hosts} host{'s' if hosts > 1 else ''}"] if hosts else []))


def get_health(settings: CloudSettings, seconds: float = 2.0) -> tuple[int, str]:
    """GET /_minicloud/health through the front door: (status, body); status 0: nobody answers. Blocks."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bind, settings.bind)
    connection: http.client.HTTPConnection
    if settings.tls:
        # Only asks whether it is up, and sends nothing worth keeping: the certificate may be for another name.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, settings.http_port, timeout=seconds, context=context)
    else:
        connection = http.client.HTTPConnection(host, settings.http_port, timeout=seconds)
    try:
        connection.request("GET", "/_minicloud/health")
        reply = connection.getresponse()
        return reply.status, reply.read(65_536).decode(errors="replace")
    except (OSError, http.client.HTTPException, socket.gaierror):
        return 0, ""
    finally:
        connection.close()
