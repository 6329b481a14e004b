"""Follows a launch plan: the one part of the sandbox that runs in the instance's actor, or in a guest's keeper.

Measured with 300 MB of memory in use, to /bin/true's end: a Python `preexec_fn` forks the whole address space, 16 ms; a
Python helper that execs, 13 ms; `/bin/sh` as the helper, started by vfork, 2 ms. So the shell it is:

    vfork, exec sh -> sh waits at a gate (its stdin) -> we set its rlimits -> we open the gate
    -> sh joins the control groups, execs the program

A parent that dies before the gate opens leaves no process: the shell reads end-of-file and exits.

The guest is killed when the *thread* that called `spawn` ends: call it in one that lives as long as the guest should.
That thread is in the guest's network namespace for the moment of the fork, and comes back.

Standard library only, and of that only what a Ray worker has loaded anyway.
"""

from __future__ import annotations

import base64
import os
import resource
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

# A program that cannot be started exits with these, as everywhere: 127 not found, 126 not executable; ours:
SETUP_FAILED = 125
_CLONE_NEWNET = 0x40000000
_SHELL = "/bin/sh"
_STARTER = (
    f"read -r _ || exit {SETUP_FAILED}\n"
    "count=$1; shift\n"
    f'while [ "$count" -gt 0 ]; do echo 0 > "$1" || exit {SETUP_FAILED}; shift; count=$((count-1)); done\n'
    'exec "$@" < /dev/null\n'
)


def spawn(plan: dict[str, Any], descriptors: Mapping[str, int] | None = None) -> int:
    """Starts a guest (`LaunchPlan.to_json`), and returns its pid: a child of this process, which must wait for it.

    `descriptors`: open files that the guest gets, {name: number}; "@name" in the plan's argv stands for the number.
    Raises OSError where the console, the network namespace or the shell cannot be had. What fails later (control group,
    program) ends the process with 125 to 127 and a line on the console.
    """
    with ExitStack() as stack:
        console = _open_console(plan["console"])
        stack.callback(os.close, console)
        numbers = {f"@{name}": _memory_file(stack, name, text) for name, text in plan["data"].items()}
        numbers.update({f"@{name}": number for name, number in (descriptors or {}).items()})
        argv = [str(numbers.get(word, word)) for word in plan["argv"]]
        join = plan["join"]
        gate, opener = os.pipe()
        stack.callback(os.close, opener)
        with os.fdopen(gate, "rb", buffering=0) as stdin, _in_network(plan["netns"]), _no_signals_blocked():
            child = subprocess.Popen(
                [_SHELL, "-c", _STARTER, "minicloud", str(len(join)), *join, *argv],
                executable=_SHELL,
                stdin=stdin,
                stdout=console,
                stderr=console,
                env=plan["env"],
                cwd=plan["cwd"],
                pass_fds=tuple(numbers.values()),
                start_new_session=True,
            )
        try:
            _set_rlimits(child.pid, plan["rlimits"])
            os.write(opener, b"\n")
        except BaseException:
            child.kill()
            child.wait()
            raise
        child.returncode = 0  # we hand out the pid: subprocess must not wait for it behind the caller's back
        return child.pid


class Guest:
    """A spawned guest, for callers that do not wait for pids themselves. Close it by waiting for its end."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.pid = spawn(plan)
        self.pidfd = os.pidfd_open(self.pid)
        self.returncode: int | None = None

    def wait(self, timeout_s: float | None = None) -> int:
        """Exit code, or -n for signal n. Raises TimeoutError."""
        if self.returncode is None:
            import select

            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            if not poller.poll(None if timeout_s is None else timeout_s * 1000):
                raise TimeoutError(f"guest {self.pid} runs on after {timeout_s} s")
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.pidfd)
        return self.returncode

    def kill(self) -> None:
        """SIGKILL to the guest and its process group; inside a pid namespace that ends all there is. Idempotent."""
        if self.returncode is None:
            for kill in (os.killpg, os.kill):
                try:
                    kill(self.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def _open_console(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def _memory_file(stack: ExitStack, name: str, text: str) -> int:
    fd = os.memfd_create(name)
    stack.callback(os.close, fd)
    os.write(fd, base64.b64decode(text))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _set_rlimits(pid: int, rlimits: list[tuple[str, int, int]]) -> None:
    for name, soft, hard in rlimits:
        kind = getattr(resource, name)
        resource.prlimit(pid, kind, lowered(kind, soft, hard))


def lowered(kind: int, soft: int, hard: int) -> tuple[int, int]:
    """A limit as far as this process may give it."""
    ceiling = resource.getrlimit(kind)[1]
    if ceiling == resource.RLIM_INFINITY:
        return soft, hard
    return min(soft, ceiling), min(hard, ceiling)


@contextmanager
def _no_signals_blocked() -> Iterator[None]:
    """A child inherits the mask: a guest must not start deaf because a Ray thread is."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _in_network(path: str | None) -> Iterator[None]:
    """This thread is in the network namespace at `path`, and comes back."""
    if path is None:
        yield
        return
    with ExitStack() as stack:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, there)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, home)
        _setns(there)
        stack.callback(_setns, home)
        yield


def _setns(fd: int) -> None:
    if hasattr(os, "setns"):  # Python 3.12
        os.setns(fd, _CLONE_NEWNET)
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
