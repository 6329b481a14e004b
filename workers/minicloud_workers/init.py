"""The first process of a guest: opens the door for its host, boots, reaps, and shuts down.

    main -> listen on <control>/init.sock (by rename, so that a name means an open ear) -> boot -> loop until shutdown
                                                         or, started ahead (MINICLOUD_GATE) -> loop; the gate boots it

It runs as PID 1 of a sandbox, or, where the host has no namespaces, as an ordinary process that adopts the orphans of
its tree (child subreaper). Nothing that a client or a program of the guest does may end it: errors go to the console.

Start it as `python -I -S -c "import sys; sys.path.insert(0, LIBRARY); from minicloud_workers.init import main; main()"`
with MINICLOUD_CONTROL_DIR set; LIBRARY is the directory that holds `minicloud_workers`. Its stdout and stderr are the
console log. It imports no `json`, `socket`, `signal` or `re`: together they would double its start of 20 ms.

<control>/boot.json, written by the host before the boot (`minicloud.host.boot` makes it):

    instance_id  text; user data runs once for each instance id that this disk sees
    hostname     text; set when `isolated`
    isolated     bool: own namespaces, so the hostname is the guest's own; false: the root directory may be elsewhere
    root         the guest's root directory, '/' in a sandbox; else prefix of every path named here and by cp
    addresses    where forwarded connections go, first to last
    env          {name: text} for every process, over init's own environment
    public_key   one line for ~/.ssh/authorized_keys, or ''
    user_data    null, or {kind: "script", text}, or {kind: "cloud-config", hostname, write_files: [{path, content
                 (base64), mode, append}], script}, or {kind: "refused", reason}, or {kind: "plain"}

Every boot: (1) authorized_keys; (2) /etc/rc.local and /etc/minicloud/boot.d/*, those that are executable, in order of
name, none waiting for another: a service that must survive stop and start belongs there; (3) at the first boot, user
data. Its marker on the guest's disk is written before it starts, so that it runs at most once, whatever happens.
Shutdown: SIGTERM to every process, hang-up to terminals (shells heed nothing else), SIGKILL to who is left after the
grace, exit 0 (the host reads: it wanted to end).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
import sys
import time

from minicloud_workers import processes, protocol
from minicloud_workers.connection import Connection
from minicloud_workers.loop import READ, Loop, log, log_error, restart_clock
from minicloud_workers.processes import Children, Start
from minicloud_workers.sessions import open_session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minicloud_workers.first_boot import FirstBoot

SESSIONS_MAX = 64
CONNECTIONS_MAX = 256
ACCEPT_PAUSE_S = 0.2
GIVE_UP_S = 5.0  # after SIGKILL; what does not die by then is stuck in the kernel
TERM_GRACE_S = 10.0
PACKAGE = os.path.dirname(os.path.abspath(__file__))
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Init:
    def __init__(self, control: str) -> None:
        self.loop = Loop()
        self.children = Children(self.loop)
        self.watchers: list[Connection] = []
        self.user_data: dict[str, object] = {"state": "none", "exit": 0}
        self.stopping = False
        self.env: dict[str, str] = {}
        self.home = "/"
        self.root = "/"
        self.addresses: list[str] = []
        self._control = control
        self._connections: set[Connection] = set()
        self._sessions: dict[object, Callable[[], None]] = {}
        self._started = time.monotonic()
        self._document: dict[str, Any] = {}
        self._first_boot: FirstBoot | None = None
        self._catch_signals()  # before anybody can know that it is there
        self._listener = self._listen()

    # --- the door

    def _listen(self) -> _socket.socket:
        """Bind under another name and rename: whoever sees the name can connect. Raises OSError."""
        path = os.path.join(self._control, protocol.SOCKET_NAME)
        fresh = f"{path}.new"
        if os.path.lexists(fresh):
            os.unlink(fresh)
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
        sock.bind(fresh)
        os.chmod(fresh, 0o600)
        sock.listen(128)
        os.rename(fresh, path)
        self.loop.watch(sock.fileno(), READ, lambda _mask: self._accept())
        return sock

    def _accept(self) -> None:
        for _ in range(16):
            try:
                fd, _address = self._listener._accept()  # type: ignore[attr-defined]
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # no descriptor or memory left: let those who are here finish
                log_error("accept", error)
                self.loop.forget(self._listener.fileno())
                self.loop.after(ACCEPT_PAUSE_S, self._accept_again)
                return
            sock = _socket.socket(fileno=fd)
            sock.setblocking(False)
            self._admit(Connection(self.loop, sock))

    def _accept_again(self) -> None:
        self.loop.watch(self._listener.fileno(), READ, lambda _mask: self._accept())

    def _admit(self, connection: Connection) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            connection.fail("LimitExceeded", f"the guest has {CONNECTIONS_MAX} connections already")
            return
        self._connections.add(connection)
        connection.on_closed = lambda: self._connections.discard(connection)
        deadline = self.loop.after(protocol.OPEN_TIMEOUT_S, connection.close)

        def opened(kind: bytes, payload: bytes) -> None:
            deadline.cancel()
            open_session(self, connection, kind, payload)

        connection.on_frame = opened

    def claim_session(self, session: object, hang_up: Callable[[], None]) -> None:
        """`hang_up` is called at a shutdown, beside SIGTERM. Raises Refused when there are too many."""
        if len(self._sessions) >= SESSIONS_MAX:
            raise protocol.Refused("LimitExceeded", f"the guest has {SESSIONS_MAX} sessions already")
        self._sessions[session] = hang_up

    def release_session(self, session: object) -> None:
        self._sessions.pop(session, None)

    # --- what clients hear

    def status(self) -> dict[str, Any]:
        return {
            "uptime_s": round(time.monotonic() - self._started, 3),
            "load": list(os.getloadavg()),
            "processes": processes.count(),
            "sessions": len(self._sessions),
            "user_data": dict(self.user_data),
            "stopping": self.stopping,
        }

    def changed(self) -> None:
        for connection in list(self.watchers):
            connection.send_control(protocol.STATUS, self.status())

    def place(self, path: str) -> str:
        """A path of the guest as init sees it. Raises Refused."""
        if not path.startswith("/"):
            raise protocol.Refused("InvalidParameterValue", "path must be absolute", "path")
        return under(self.root, path)

    # --- boot

    def boot(self) -> None:
        """Everything after the door is open."""
        restart_clock()
        self._started = time.monotonic()
        self._begin()
        self._try(self._run_boot_scripts)
        if self._first_boot is not None:
            self._try(self._first_boot.begin)

    def _begin(self) -> None:
        self._document = document = self._read_document()
        self.root = str(document.get("root") or "/")
        self.addresses = [str(address) for address in document.get("addresses") or ["127.0.0.1"]]
        self.env = environment(self.root, self._control, document.get("env") or {})
        self.home = self.env["HOME"]
        for step in (self._make_home, self._set_hostname, self._write_key, self._load_user_data):
            self._try(step)

    def _try(self, step: Callable[[], None]) -> None:
        """What fails is said on the console and costs only itself."""
        try:
            step()
        except Exception as error:
            log_error(step.__name__, error)

    def _read_document(self) -> dict[str, Any]:
        path = os.path.join(self._control, protocol.BOOT_NAME)
        try:
            return protocol.parse_control(read_file(path).encode())
        except (OSError, ValueError) as error:
            log(f"no boot document, nothing to boot: {error}")
            return {}

    def _make_home(self) -> None:
        os.makedirs(self.home, 0o700, exist_ok=True)

    def _set_hostname(self) -> None:
        name = str(self._document.get("hostname") or "")
        if not name or not self._document.get("isolated") or os.uname().nodename == name:
            return
        try:
            _socket.sethostname(name)
        except OSError as error:
            log(f"the hostname stays {os.uname().nodename}: {error.strerror}")

    def _write_key(self) -> None:
        line = str(self._document.get("public_key") or "").strip()
        if not line:
            return
        directory = os.path.join(self.home, ".ssh")
        path = os.path.join(directory, "authorized_keys")
        os.makedirs(directory, 0o700, exist_ok=True)
        known = read_file(path).splitlines() if os.path.exists(path) else []
        if line in known:
            return
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, f"{line}\n".encode())
        finally:
            os.close(fd)

    def _run_boot_scripts(self) -> None:
        for path in boot_scripts(self.root):
            log(f"boot script {path}")
            self._run(path, Start([path], self.env, self.home))

    def _run(self, name: str, start: Start) -> None:
        def executed(error: str) -> None:
            if error:
                log(f"{name}: {error[4:]}")

        try:
            self.children.start(start, lambda code: log(f"{name} ended with code {code}"), executed)
        except OSError as error:
            log(f"{name}: no new process: {error.strerror}")

    def _load_user_data(self) -> None:
        data = self._document.get("user_data")
        if not data or data.get("kind") == "plain":
            return
        from minicloud_workers.first_boot import FirstBoot

        self._first_boot = FirstBoot(self, str(self._document.get("instance_id") or ""), data)

    # --- signals and the end

    def _catch_signals(self) -> None:
        """Signals become bytes; a handler that does nothing keeps the default action away."""
        ours, pythons = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        for end in (ours, pythons):
            end.setblocking(False)
        self._signals = (ours, pythons)
        _signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
        for number in (processes.SIGCHLD, processes.SIGTERM, processes.SIGHUP, _signal.SIGINT):
            _signal.signal(number, lambda _number, _frame: None)
        self.loop.watch(ours.fileno(), READ, lambda _mask: self._signalled())

    def _signalled(self) -> None:
        try:
            numbers = set(self._signals[0].recv(4096))
        except (BlockingIOError, InterruptedError):
            return
        if processes.SIGTERM in numbers:
            self.begin_shutdown(TERM_GRACE_S, "SIGTERM")
        self.children.reap()

    def begin_shutdown(self, grace_s: float, reason: str) -> None:
        """Ask every process to end, make them after `grace_s`, exit. Asked again, the shorter grace holds."""
        log(f"shutting down, grace {grace_s:g} s: {reason}")
        if not self.stopping:
            self.stopping = True
            self.children.on_empty = lambda: self.loop.stop(0)
            self.changed()
            processes.signal_others(processes.SIGTERM)
            for hang_up in list(self._sessions.values()):
                hang_up()
            processes.signal_others(processes.SIGCONT)
        self.loop.after(grace_s, self._kill)
        self.children.reap()

    def _kill(self) -> None:
        """Again and again: a process that forks faster than a list is read leaves children behind."""
        if processes.signal_others(processes.SIGKILL):
            self.loop.after(0.05, self._kill)
        self.loop.after(GIVE_UP_S, lambda: self.loop.stop(0))
        self.children.reap()

    def run(self) -> int:
        code = self.loop.run()
        log("halted")
        return code


def under(root: str, path: str) -> str:
    """`path` inside `root`, unless it is there already."""
    path = os.path.normpath(path)
    root = os.path.normpath(root)
    if root == "/" or path == root or path.startswith(f"{root}/"):
        return path
    return os.path.normpath(root + "/" + path.lstrip("/"))


def environment(root: str, control: str, wanted: dict[str, str]) -> dict[str, str]:
    """What every process of the guest starts with."""
    library = os.path.dirname(PACKAGE)
    env = {
        "HOME": under(root, "/root"),
        "USER": "root",
        "LOGNAME": "root",
        "LANG": "C.UTF-8",
        "PATH": USUAL_PATH,
        **os.environ,
        "SHELL": "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh",
        "PYTHONPATH": library,
        **{name: value for name, value in wanted.items() if isinstance(name, str) and isinstance(value, str)},
        "MINICLOUD_CONTROL_DIR": control,
        "MINICLOUD_PYTHON": sys.executable,
    }
    env["PATH"] = f"{PACKAGE}/bin:{env['PATH']}"
    return env


def boot_scripts(root: str) -> list[str]:
    """The executable ones, /etc/rc.local first, then /etc/minicloud/boot.d in order of name."""
    directory = under(root, "/etc/minicloud/boot.d")
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    paths = [under(root, "/etc/rc.local"), *(os.path.join(directory, name) for name in names)]
    return [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]


def read_file(path: str) -> str:
    """Raises OSError, UnicodeDecodeError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode()


def main() -> None:
    """Never returns; exit code 0: shut down on request."""
    control = os.environ.get("MINICLOUD_CONTROL_DIR", "/run/minicloud")
    init = Init(control)
    if os.getpid() != 1:
        try:
            processes.become_subreaper()
        except (OSError, ImportError, AttributeError) as error:
            log_error("orphans of the guest will escape it", error)
    gate = os.environ.pop("MINICLOUD_GATE", "")
    if gate:
        from minicloud_workers.gate import Gate

        Gate(init, int(gate))
    else:
        init.boot()
    code = init.run()
    sys.stdout.flush()
    os._exit(code)
