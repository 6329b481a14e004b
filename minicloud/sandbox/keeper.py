"""Guests that are started ahead, and the tie between such a guest and the one process that it must not outlive.

A guest started by its instance's actor is the actor's child, and the kernel ends it with the actor. One that was
started before there was an actor is the child of a *keeper*: a process of its own outside the sandbox, which does for
the tie what the kernel did: it ends the guest as soon as its holder is gone. There is exactly one holder at any moment,
and holding means to have a connection open, so however the holder ends the keeper knows:

    blank    holder: the agent    --plan-->   the guest's init runs and waits for its boot document
    begun    holder: the agent    --begin-->  it boots, the user's code runs; the keeper listens for the actor
    kept     holder: the actor    --adopt-->  the agent may come and go

What can never happen: a guest goes on when its holder, or its keeper (bubblewrap dies with its parent), is gone. Two
actors that adopt at once: one is answered, the other finds no listener. How a guest ended before its actor came, the
actor is told when it comes.

Keepers are forked by one process per agent, the spawner: a small one, so that they are cheap (copy on write), and no
Ray worker, whose children Ray ends with it. It reaps them, and stays after its agent as long as one of them does.

    agent  -> spawner  a descriptor: the end of a socket pair that a new keeper talks on
    agent  -> keeper   {"op": "plan", "plan": LaunchPlan}, {"op": "begin", "path", "secret"}, {"op": "end"}: at once
    keeper -> agent    {"op": "spawned", "pid"} | {"op": "failed", "error"}, {"op": "ready"}, {"op": "begun"}
    actor  -> keeper   {"op": "adopt", "secret"} over the unix socket at `path`, {"op": "kill"}
    keeper -> actor    {"op": "kept", "pid"}, {"op": "exited", "status"}: exit code, or -n for signal n
    keeper -> init     b (the document is there: boot), over the descriptor @gate
    init   -> keeper   r (it waits)

One JSON object a line. Standard library only: it runs as `python -I -S`, without site-packages.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
from typing import Any

from minicloud.sandbox import spawn
from minicloud.sandbox.kept import Lines

GATE = "gate"  # the name of init's descriptor in a plan: @gate
READY, BOOT = b"r", b"b"
CREDENTIALS = struct.Struct("3i")


def main() -> None:
    """The spawner: forks a keeper for every descriptor that comes in on its stdin."""
    door = socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps keepers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        data, fds, _, _ = socket.recv_fds(door, 1, 1)
        if not data:
            break
        if os.fork() == 0:
            door.close()
            _keep(socket.socket(fileno=fds[0]))
        os.close(fds[0])
    with contextlib.suppress(ChildProcessError):
        os.wait()  # SIGCHLD is ignored: until the last one is gone


def _keep(agent: socket.socket) -> None:
    """In the child. Never returns."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        Keeper(agent).run()
        status = 0
    finally:
        os._exit(status)


class Keeper:
    """One guest, one thread. `run` returns when the guest is gone."""

    def __init__(self, agent: socket.socket) -> None:
        self._agent: Lines | None = Lines(agent)
        self._actor: Lines | None = None
        self._listener: socket.socket | None = None
        self._path = ""
        self._secret = ""
        self._gate: socket.socket | None = None
        self._pid = 0
        self._pidfd = -1
        self._ended: int | None = None  # its status
        self._over = False

    def run(self) -> None:
        try:
            while not self._over:
                self._turn()
        finally:
            self._end()

    def _turn(self) -> None:
        poll = select.poll()
        watched = {
            **({self._agent.sock.fileno(): self._on_agent} if self._agent else {}),
            **({self._actor.sock.fileno(): self._on_actor} if self._actor else {}),
            **({self._listener.fileno(): self._on_caller} if self._listener else {}),
            **({self._gate.fileno(): self._on_init} if self._gate else {}),
            **({self._pidfd: self._on_exit} if self._pidfd >= 0 else {}),
        }
        for fd in watched:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll():
            if not self._over:
                watched[fd]()

    # ------------------------------------------------------------ the agent

    def _on_agent(self) -> None:
        assert self._agent is not None
        orders = self._agent.read()
        if orders is None:
            self._agent.sock.close()
            self._agent = None
            self._over = self._actor is None
            return
        for order in orders:
            if order["op"] == "plan":
                self._spawn(order["plan"])
            elif order["op"] == "begin":
                self._begin(str(order["path"]), str(order["secret"]))
            elif order["op"] == "end":
                self._over = True

    def _spawn(self, plan: dict[str, Any]) -> None:
        assert self._agent is not None
        mine, inits = socket.socketpair()
        try:
            self._pid = spawn.spawn(plan, {GATE: inits.fileno()})
            self._pidfd = os.pidfd_open(self._pid)
        except Exception as error:  # noqa: BLE001 - whatever the sandbox raised is the agent's to report
            self._agent.say({"op": "failed", "error": f"{type(error).__name__}: {error}"[:2000]})
            self._over = True
            return
        finally:
            inits.close()
        self._gate = mine
        self._agent.say({"op": "spawned", "pid": self._pid})

    def _begin(self, path: str, secret: str) -> None:
        assert self._agent is not None
        self._path, self._secret = path, secret
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(4)
        self._tell_init(BOOT)  # not before all that can fail: what follows a failure is another guest on the same disk
        self._agent.say({"op": "begun"})

    # ------------------------------------------------------------ the actor

    def _on_caller(self) -> None:
        """Somebody wants the guest. One who does not prove itself at once gets nothing."""
        assert self._listener is not None
        sock, _ = self._listener.accept()
        caller = Lines(sock)
        sock.settimeout(1.0)
        words = caller.read() if _is_ours(sock) else None
        if not words or words[0].get("op") != "adopt" or words[0].get("secret") != self._secret:
            sock.close()
            return
        sock.settimeout(None)
        caller.say({"op": "kept", "pid": self._pid})
        self._actor = caller
        self._stop_listening()
        if self._ended is not None:
            self._tell_end(self._ended)

    def _on_actor(self) -> None:
        assert self._actor is not None
        words = self._actor.read()
        self._over = words is None
        if words and words[0].get("op") == "kill":
            self._kill()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._listener.close()
            self._listener = None

    # ------------------------------------------------------------ the guest

    def _tell_init(self, word: bytes) -> None:
        if self._gate is not None:
            with contextlib.suppress(OSError):  # init is gone, which its pidfd tells
                self._gate.send(word, socket.MSG_DONTWAIT)

    def _on_init(self) -> None:
        assert self._gate is not None
        try:
            word = self._gate.recv(16)
        except OSError:
            word = b""
        if READY in word and self._agent is not None:
            self._agent.say({"op": "ready"})
        if not word:
            self._gate.close()
            self._gate = None

    def _on_exit(self) -> None:
        _, status = os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        self._pidfd, self._ended = -1, os.waitstatus_to_exitcode(status)
        if self._actor is not None or self._listener is None:
            self._tell_end(self._ended)

    def _tell_end(self, status: int) -> None:
        self._over = True
        if self._actor is not None:
            self._actor.say({"op": "exited", "status": status})

    def _kill(self) -> None:
        if self._pidfd >= 0:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError):
                    kill(self._pid, signal.SIGKILL)

    def _end(self) -> None:
        """The holder is gone: nothing of the guest stays."""
        self._stop_listening()
        if self._pidfd >= 0:
            self._kill()
            self._on_exit()


def _is_ours(sock: socket.socket) -> bool:
    _, uid, _ = CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return uid in (os.getuid(), 0)
