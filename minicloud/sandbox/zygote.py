"""A zygote: the small process that execution environments are forked from, one per interpreter and function host.

    functions process  --make-->  zygote  --fork-->  init of an environment (pid 1 in it)  --fork-->  runtime
                       <--up, failed-- (the child, before it is a stranger)
                       <--exited-- zygote

It has imported what handlers usually import and has the runtime loop of `minicloud_workers` loaded, so that an
environment of its own interpreter starts without starting Python; other runtimes are executed by the forked child,
which costs no Python start either. It holds no secret and opens nothing: code comes from the store, what an environment
talks by comes as descriptors. What it has read, every later child could find in its memory: so an order, which has
credentials and the user's variables in it, comes in a file of its own, and the child alone reads it.

What cannot happen: an environment outlives the functions process. The zygote is the first process of a pid namespace
whose end ends everything in it; it asks for SIGKILL when its parent dies (which asks for the same), and it ends when
the line is closed. Without namespaces each process asks for SIGKILL at its parent's death.

    host -> zygote   config (first), then {"op": "make", id, fds: [names]}, one of them "order", {"op": "kill", id}
    zygote -> host   {"op": "ready", "isolated", "why"}, {"op": "up", id} with the descriptors of its listeners,
                     {"op": "failed", id, error}, {"op": "exited", id, status}: exit code, 128 + n for signal n;
                     `exited` comes once for each `make`, whatever else is said

One JSON object a packet. Standard library only: it runs as `python -I -S`.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any

from minicloud.sandbox import chamber

PACKET_BYTES_MAX = 128 * 1024
ORDER_BYTES_MAX = 1024 * 1024
FDS_MAX = 64
SETUP_FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
CONTROL_FD = 3  # what an environment's runtime talks by, after everything else was closed


def main(library: str) -> None:
    """`library`: where `minicloud_workers` is. The line is stdin; the first of sys.path led to this module."""
    chamber.prctl(chamber.PR_SET_PDEATHSIG, signal.SIGKILL)
    line = socket.socket(fileno=os.dup(0))
    config = json.loads(line.recv(PACKET_BYTES_MAX))
    config["seccomp_program"] = base64.b64decode(config["seccomp"])
    why = _isolate(config) if config["isolated"] else "not asked for"
    sys.path[:] = [*sys.path[1:], chamber.RUNTIME if config["isolated"] else library]  # without our own package
    zygote = Zygote(line, config)
    zygote.preload()
    zygote.say({"op": "ready", "isolated": config["isolated"], "why": why})
    zygote.run()


def _isolate(config: dict[str, Any]) -> str:
    """Why it could not be done, "" if it was. In the process that goes on: pid 1 of a namespace, "/" the base."""
    try:
        chamber.begin(config["is_root"])
    except OSError as error:
        config["isolated"] = False
        return str(error)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 255)
    chamber.prctl(chamber.PR_SET_PDEATHSIG, signal.SIGKILL)
    config["pidns"] = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    chamber.found(config)
    return ""


class Zygote:
    def __init__(self, line: socket.socket, config: dict[str, Any]) -> None:
        self._line = line
        self._config = config
        self._poll = select.epoll()
        self._poll.register(line.fileno(), select.EPOLLIN)
        self._children: dict[int, tuple[str, int]] = {}  # pidfd: (id, pid)
        self._pids: dict[str, int] = {}
        self._runtime: Any = None

    def preload(self) -> None:
        for name in self._config["preload"]:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        self._runtime = importlib.import_module("minicloud_workers.function_python")
        self._runtime.preloaded(list(sys.modules))
        gc.collect()
        gc.freeze()

    def say(self, words: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        with contextlib.suppress(OSError):  # nobody is there any more: the line's end is read
            socket.send_fds(self._line, [json.dumps(words).encode()], list(fds))

    def run(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._line.fileno():
                    self._reap(fd)
                elif not self._hear():
                    os._exit(0)

    def _hear(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._line, PACKET_BYTES_MAX, FDS_MAX)
        if not data:
            return False
        order = json.loads(data)
        if order["op"] == "kill":
            self._kill(order["id"])
        else:
            self._make(order["id"], dict(zip(order["fds"], fds, strict=False)), len(order["fds"]))
        for fd in fds:
            os.close(fd)
        return True

    def _make(self, name: str, fds: dict[str, int], count: int) -> None:
        try:
            if len(fds) < count:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            pid = self._fork()
            if pid == 0:
                self._child(name, fds)
            pidfd = _pidfd(pid)
        except OSError as error:
            self.say({"op": "failed", "id": name, "error": f"no new process: {error.strerror}"})
            self.say({"op": "exited", "id": name, "status": SETUP_FAILED})
            return
        self._children[pidfd] = (name, pid)
        self._pids[name] = pid
        self._poll.register(pidfd, select.EPOLLIN)

    def _fork(self) -> int:
        if not self._config["isolated"]:
            return os.fork()
        chamber.unshare(chamber.CLONE_NEWPID)
        try:
            pid = os.fork()
        except OSError:
            self._come_back()
            raise
        if pid:
            self._come_back()
        return pid

    def _come_back(self) -> None:
        """The next child must not be in the namespace of this one: rather no zygote than that."""
        try:
            chamber.setns(self._config["pidns"], chamber.CLONE_NEWPID)
        except OSError as error:
            raise SystemExit(f"a zygote cannot leave the namespace of its child: {error}") from None

    def _kill(self, name: str) -> None:
        pid = self._pids.get(name, 0)
        if pid:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(pid, signal.SIGKILL)

    def _reap(self, pidfd: int) -> None:
        name, pid = self._children.pop(pidfd)
        self._pids.pop(name, None)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self.say({"op": "exited", "id": name, "status": _shell_status(status)})

    # ------------------------------------------------------------ in the child

    def _child(self, name: str, fds: dict[str, int]) -> None:
        """Never returns."""
        status = SETUP_FAILED
        try:
            try:
                for pidfd in self._children:  # they count for the limit that the guest gets
                    os.close(pidfd)
                order = json.loads(os.pread(fds["order"], ORDER_BYTES_MAX, 0))
                listeners = chamber.furnish(order, self._config, fds)
            except BaseException as error:  # noqa: BLE001 - whatever it was, the host reports it
                self.say({"op": "failed", "id": name, "error": f"{type(error).__name__}: {error}"[:500]})
                return
            self.say({"op": "up", "id": name}, tuple(listener.detach() for listener in listeners))
            _keep_only(fds["api"])
            status = self._init(order)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - the last frame of this process
            traceback.print_exc()
            status = 1
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
            os._exit(status)

    def _init(self, order: dict[str, Any]) -> int:
        """The first process of the environment waits for the runtime, and reaps what loses its parent."""
        runtime = os.fork()
        if runtime == 0:
            return self._become(order)
        os.closerange(0, CONTROL_FD + 1)
        chamber.prctl(chamber.PR_SET_DUMPABLE, 0)
        while True:
            try:
                pid, status = os.wait()
            except InterruptedError:
                continue
            if pid == runtime:
                return _shell_status(status)

    def _become(self, order: dict[str, Any]) -> int:
        os.environ.clear()
        os.environ.update(order["env"])
        if order["kind"] == "python":
            self._runtime.main(CONTROL_FD, order)
            return 0
        os.close(CONTROL_FD)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            os.execve(order["argv"][0], order["argv"], order["env"])
        except OSError as error:
            text = f"fork/exec {order['argv'][0]}: {str(error.strerror).lower()}\n"
            os.write(2, text.encode())
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE


def _pidfd(pid: int) -> int:
    """Of a new child, which ends if there is none."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _keep_only(api: int) -> None:
    """Other environments' descriptors and our own line are nothing for strangers."""
    if api != CONTROL_FD:
        os.dup2(api, CONTROL_FD, inheritable=False)
    os.closerange(CONTROL_FD + 1, 1 << 20)


def _shell_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
