"""What an instance's actor process does: hold the guest, and tell the host agent how it fares.

Either the actor is the guest's parent: the sandbox asks the kernel to kill the guest when the *thread* that forked it
is gone (PR_SET_PDEATHSIG), so one thread forks, waits and lives as long as the guest: this loop. Or the guest was
started ahead, and its keeper keeps it as long as our connection is open (minicloud.sandbox.keeper); then it runs before
the agent hears of us. Whatever ends the actor process (a command, kill -9, the raylet's death) ends the guest with it.

    actor -> agent   {"op": "hello", "instance_id", "generation", "secret", "gpu_ids", "boot", "guest": pid | 0}
                     {"op": "started", "boot", "pid"} | {"op": "failed", "boot", "error"}
                     {"op": "exited", "boot", "status"}          status: exit code, or -n for signal n
    agent -> actor   {"op": "plan", "boot", "plan": {...}}       spawn the guest, or adopt it; a reboot is another plan
                     {"op": "exit"}                              end the guest if there is one, and this process

One JSON object a line over the agent's unix socket. When the agent is gone the guest is undisturbed: the loop dials
until there is a new agent, and says hello again with what it holds (the exit of a boot is said again after each hello).
Commands are idempotent: a plan of a boot that was spawned already is only reported again.

Standard library only, and no Ray: this is on the launch path, and tests run it as a plain process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from minicloud.sandbox.kept import KeptGuest, keeper_socket

# How an actor waits for an agent: it is there within seconds of a restart, or its raylet is gone and so are we.
DIAL_S_FIRST = 0.01
DIAL_S_MAX = 0.5
# A guest that ended while no agent was there to be told: after this the actor gives its resources back to Ray.
UNHEARD_S_MAX = 60.0
LINE_BYTES_MAX = 1024 * 1024

Spawn = Callable[[dict[str, Any]], int]


class InstanceLoop:
    """Runs in one thread; `run` returns the exit status for the process."""

    def __init__(
        self, instance_id: str, generation: int, agent_socket: str, secret: str, gpu_ids: tuple[str, ...] = ()
    ) -> None:
        self._me = {"instance_id": instance_id, "generation": generation, "secret": secret, "gpu_ids": list(gpu_ids)}
        self._agent_socket = agent_socket
        self._spawn: Spawn | None = None
        self._boot = 0
        self._guest: ChildGuest | KeptGuest | None = None
        self._exit: int | None = None
        self._ended_at = 0.0
        self._sock: socket.socket | None = None
        self._unread = b""
        self._leaving = False

    def run(self) -> int:
        """Serve one agent after the other until told to exit (0), or nobody wants to hear of the end (1)."""
        self._adopt_early()
        while not self._leaving:
            if not self._dial():
                return 1
            if self._spawn is None:
                self._spawn = _load_spawn()  # after the first hello: the agent answers meanwhile
            self._serve()
        return 0

    # ------------------------------------------------------------ the agent

    def _dial(self) -> bool:
        """Connect and say hello. False: the guest is over and no agent came to hear it."""
        pause = DIAL_S_FIRST
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(self._agent_socket)
                self._sock, self._unread = sock, b""
                self._say({"op": "hello", **self._me, "boot": self._boot, "guest": self._pid()})
            except OSError:
                sock.close()
                self._sock = None
                if self._unheard():
                    return False
                self._wait_guest(pause)
                pause = min(pause * 2, DIAL_S_MAX)
                continue
            if self._boot and self._exit is not None:
                self._say({"op": "exited", "boot": self._boot, "status": self._exit})
            return True

    def _unheard(self) -> bool:
        return self._exit is not None and time.monotonic() - self._ended_at > UNHEARD_S_MAX

    def _wait_guest(self, seconds: float) -> None:
        """Let time pass, but see the guest's end at once: its zombie must not outlive it."""
        if self._guest is None:
            time.sleep(seconds)
            return
        ready, _, _ = select.select([self._guest], [], [], seconds)
        if ready:
            self._reap()

    def _serve(self) -> None:
        """Until the agent is gone or we are told to exit."""
        sock = self._sock
        assert sock is not None
        try:
            while not self._leaving:
                poll = select.poll()
                poll.register(sock, select.POLLIN)
                guest = -1 if self._guest is None else self._guest.fileno()
                if guest >= 0:
                    poll.register(guest, select.POLLIN)
                ready = {fd for fd, _ in poll.poll()}
                if guest in ready and self._reap():
                    self._say({"op": "exited", "boot": self._boot, "status": self._exit})
                if sock.fileno() in ready and not self._read(sock):
                    return
        except OSError:
            return
        finally:
            sock.close()
            self._sock = None

    def _read(self, sock: socket.socket) -> bool:
        data = sock.recv(256 * 1024)
        if not data or len(self._unread) > LINE_BYTES_MAX:
            return False
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))
        return True

    def _say(self, message: dict[str, Any]) -> None:
        if self._sock is not None:
            self._sock.sendall(json.dumps(message).encode() + b"\n")

    # ------------------------------------------------------------ the guest

    def _obey(self, order: dict[str, Any]) -> None:
        if order["op"] == "exit":
            self._kill()
            self._leaving = True
        elif order["op"] == "plan":
            self._start(int(order["boot"]), order["plan"])

    def _start(self, boot: int, plan: dict[str, Any]) -> None:
        if boot <= self._boot:
            if self._exit is None:
                self._say({"op": "started", "boot": self._boot, "pid": self._pid()})
            return
        self._kill()  # a plan for the next boot means that this one is over
        try:
            if "adopt" in plan:
                self._guest = KeptGuest(str(plan["adopt"]), str(self._me["secret"]))
            else:
                assert self._spawn is not None
                self._guest = ChildGuest(self._spawn(plan))
        except Exception as error:  # noqa: BLE001 - whatever the sandbox raised is the agent's to report
            self._say({"op": "failed", "boot": boot, "error": f"{type(error).__name__}: {error}"[:2000]})
            return
        self._boot, self._exit = boot, None
        self._say({"op": "started", "boot": boot, "pid": self._pid()})

    def _adopt_early(self) -> None:
        """The guest of the first boot, where it waits for us already; where not, the agent will send a plan."""
        directory, me = os.path.dirname(self._agent_socket), self._me
        path = keeper_socket(directory, str(me["instance_id"]), int(str(me["generation"])))
        with contextlib.suppress(OSError):
            self._guest = KeptGuest(path, str(me["secret"]))
            self._boot = 1

    def _pid(self) -> int:
        return 0 if self._guest is None else self._guest.pid

    def _kill(self) -> None:
        if self._guest is not None:
            self._ended(self._guest.kill())

    def _reap(self) -> bool:
        """True: it has ended."""
        assert self._guest is not None
        status = self._guest.reap()
        if status is not None:
            self._ended(status)
        return status is not None

    def _ended(self, status: int) -> None:
        self._guest, self._exit = None, status
        self._ended_at = time.monotonic()


class ChildGuest:
    """A guest that this process started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    def fileno(self) -> int:
        """Readable once it has ended."""
        return self._pidfd

    def reap(self) -> int:
        """Its exit status, -n for signal n. Waits for its end."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self._pidfd)
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> int:
        """Its status; returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # `spawn` made it the leader of a session
        os.kill(self.pid, signal.SIGKILL)
        return self.reap()


def _load_spawn() -> Spawn:
    from minicloud.sandbox.spawn import spawn

    return spawn
