"""Processes of a guest: start one, hear of its end, end them all.

    fork -> child: new session, descriptors, signals, directory, exec     the parent never waits for it: a pipe that
                                                                          exec closes brings the error, if there is one
    SIGCHLD -> reap() -> the callback of whoever started it               orphans are reaped without a word

`Children` reaps everything, because init is PID 1 or, where a guest has no process namespace, a child subreaper: then
"every process of the guest" is every descendant, found by walking /proc, never kill(-1), which would reach the host.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` costs 7 ms; typeshed knows nothing of its C half
import errno
import fcntl
import os
import sys
import termios

from minicloud_workers.loop import READ, Loop, log_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SIGHUP: int = _signal.SIGHUP
SIGKILL: int = _signal.SIGKILL
SIGTERM: int = _signal.SIGTERM
SIGCONT: int = _signal.SIGCONT
SIGCHLD: int = _signal.SIGCHLD
SIGNAL_MAX = 64
CANNOT_RUN, NOT_FOUND = 126, 127  # a shell's exit codes for these
_PR_SET_CHILD_SUBREAPER = 36


class Start:
    """How to start a process. Descriptors stay the caller's; a `tty` becomes its terminal and all three of its files.

    `run` instead of `argv`: a function of init's own, in the child; what it returns is the exit code.
    """

    __slots__ = ("argv", "cwd", "env", "program", "run", "stderr", "stdin", "stdout", "tty")

    def __init__(
        self,
        argv: list[str],
        env: dict[str, str],
        cwd: str = "/",
        run: Callable[[], int] | None = None,
    ) -> None:
        self.argv = argv
        self.program = argv[0] if argv else ""
        self.env = env
        self.cwd = cwd
        self.run = run
        self.stdin = self.stdout = self.stderr = -1  # -1: /dev/null for stdin, init's own for the others
        self.tty = -1


def exit_code(status: int) -> int:
    """A wait status as shells show it: 128+n when ended by signal n."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


class Children:
    """Every process that init started or inherited."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._starting: dict[int, tuple[int, Callable[[str], None]]] = {}  # pid -> its error pipe
        self.on_empty: Callable[[], None] | None = None  # called when the last child is gone

    def start(self, start: Start, on_exit: Callable[[int], None], on_exec: Callable[[str], None]) -> int:
        """The pid. `on_exec` gets '' once the program runs, else why it does not; `on_exit` its exit code.

        Raises OSError when there can be no new process.
        """
        reading, writing = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            raise
        if pid == 0:
            _become(start, writing)
        os.close(writing)
        self._callbacks[pid] = on_exit
        self._starting[pid] = reading, on_exec
        os.set_blocking(reading, False)
        self._loop.watch(reading, READ, lambda _mask: self._exec_result(pid))
        return pid

    def _exec_result(self, pid: int) -> None:
        reading, on_exec = self._starting[pid]
        try:
            text = os.read(reading, 4096).decode("utf-8", "replace")
        except BlockingIOError:
            return
        del self._starting[pid]
        self._loop.forget(reading)
        os.close(reading)
        on_exec(text)

    def reap(self) -> None:
        """Collect whoever has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                if self.on_empty is not None:
                    self.on_empty()
                return
            if pid == 0:
                return
            try:
                self._ended(pid, exit_code(status))
            except Exception as error:
                log_error("exit callback", error)

    def _ended(self, pid: int, code: int) -> None:
        if pid in self._starting:  # so quick that its error pipe was not looked at yet
            self._exec_result(pid)
        callback = self._callbacks.pop(pid, None)
        if callback is not None:
            callback(code)


def _become(start: Start, errors: int) -> None:
    """In the child, after fork. Never returns."""
    try:
        _signal.set_wakeup_fd(-1)
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ, SIGTERM, SIGHUP, _signal.SIGINT, _signal.SIGQUIT, SIGCHLD):
            _signal.signal(number, _signal.SIG_DFL)
        _take_files(start)
        os.umask(0o022)
        os.chdir(start.cwd)
        if start.run is not None:
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # `errors` among them; exec does this for a program
            os.environ.clear()
            os.environ.update(start.env)
            os._exit(start.run())
        _exec(start)
    except OSError as error:
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
        _report(errors, f"{code} {error.strerror}: '{error.filename or start.program}'")
    except BaseException as error:
        _report(errors, f"{CANNOT_RUN} {type(error).__name__}: {error}")
    finally:
        os._exit(CANNOT_RUN)


def _exec(start: Start) -> None:
    """As os.execvpe, which imports `warnings` first. Raises OSError."""
    if "/" in start.program:
        os.execve(start.program, start.argv, start.env)
    problem: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), start.program)
    for directory in start.env.get("PATH", "").split(":"):
        try:
            os.execve(f"{directory or '.'}/{start.program}", start.argv, start.env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            problem = error
    raise problem


def _report(errors: int, text: str) -> None:
    try:
        os.write(errors, text.encode("utf-8", "replace"))
    except OSError:  # of a function of init's own, whose pipe is closed by now
        os.write(2, f"minicloud: {text[4:]}\n".encode("utf-8", "replace"))


def _take_files(start: Start) -> None:
    if start.tty >= 0:
        os.login_tty(start.tty)  # new session, controlling terminal, files 0 to 2
        return
    os.setsid()
    stdin = start.stdin if start.stdin >= 0 else os.open("/dev/null", os.O_RDONLY)
    for source, target in ((stdin, 0), (start.stdout, 1), (start.stderr, 2)):
        if source >= 0:
            os.dup2(source, target)


def set_window(fd: int, rows: int, columns: int) -> None:
    """The size of a terminal; the kernel tells the programs on it."""
    size = b"".join(value.to_bytes(2, sys.byteorder) for value in (rows, columns, 0, 0))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, size)


def kill_group(group: int, number: int) -> bool:
    """False: it is gone."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


def become_subreaper() -> None:
    """Orphans of this process's tree become its children. Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def others() -> list[int]:
    """Every process of the guest but init: of its namespace when init is PID 1, else init's descendants."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    me = os.getpid()
    if me == 1:
        return [pid for pid in pids if pid != 1]
    children: dict[int, list[int]] = {}
    for pid in pids:
        children.setdefault(_parent(pid), []).append(pid)
    found: list[int] = []
    todo = [me]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def count() -> int:
    """Processes of the guest, init among them."""
    return 1 + len(others())


def _parent(pid: int) -> int:
    """0: gone."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(os.read(fd, 1024).rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    finally:
        os.close(fd)


def signal_others(number: int) -> int:
    """Send it to every other process of the guest; how many there were."""
    if os.getpid() == 1:
        try:
            os.kill(-1, number)
        except OSError:
            return 0
    pids = others()
    if os.getpid() != 1:
        for pid in pids:
            try:
                os.kill(pid, number)
            except OSError:
                continue
    return len(pids)
