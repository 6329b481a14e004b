"""The exec session: a command of the guest, on three pipes or on a terminal of its own.

It ends when the command has ended and what it wrote is sent; what it left in the background goes on, as after `ssh host
'server &'`, but its output has nowhere to go. If the client goes first, the command's process group is hung up, on a
terminal also the group in its foreground, and killed HANGUP_GRACE_S later; who called setsid stays.
"""

from __future__ import annotations

import os

from minicloud_workers import processes, protocol
from minicloud_workers.connection import Connection, Sink, Source
from minicloud_workers.loop import close_all
from minicloud_workers.processes import Start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicloud_workers.init import Init

TERMINAL_SIDE_MAX = 0xFFFF
END_OF_INPUT = b"\x04"  # what a terminal takes for it
_SHELLS = ("/bin/bash", "/bin/sh")


class Exec:
    def __init__(self, init: Init, connection: Connection, fields: dict[str, Any]) -> None:
        self._init = init
        self._connection = connection
        self._tty = fields.get("tty") is True
        self._window = [protocol.number_of(fields, side, TERMINAL_SIDE_MAX) for side in ("rows", "columns")]
        self._pid = 0
        self._code: int | None = None
        self._error = ""
        self._sources: list[Source] = []
        self._sink: Sink | None = None
        start = self._command(fields)
        init.claim_session(self, self._hang_up)
        try:
            if self._tty:
                self._start_on_terminal(start)
            else:
                self._start_on_pipes(start)
        except OSError as error:
            self._end(processes.CANNOT_RUN, f"no new process: {error.strerror}")
            return
        connection.on_frame = self._frame
        connection.on_gone = self._gone
        connection.on_drained = self._drained

    def _command(self, fields: dict[str, Any]) -> Start:
        argv, env = fields.get("argv", []), fields.get("env", {})
        if not isinstance(argv, list) or not all(isinstance(part, str) and "\0" not in part for part in argv):
            raise protocol.Refused("InvalidParameterValue", "argv must be a list of texts without NUL", "argv")
        if not isinstance(env, dict) or not all(_is_variable(name, value) for name, value in env.items()):
            raise protocol.Refused("InvalidParameterValue", "env must map names without '=' to text without NUL", "env")
        if not argv and not self._tty:
            raise protocol.Refused("MissingParameter", "argv is required where there is no terminal", "argv")
        whole = {**self._init.env, **({"TERM": "xterm-256color"} if self._tty else {}), **env}
        start = Start(argv, whole, protocol.text_of(fields, "cwd") or self._init.home)
        if not argv:
            start.program = _shell(whole)
            start.argv = [f"-{start.program.rpartition('/')[2]}"]  # the dash makes it a login shell
        return start

    def _start_on_terminal(self, start: Start) -> None:
        fds: list[int] = []
        try:
            fds += os.openpty()
            fds.append(os.dup(fds[0]))
            rows, columns = self._window
            processes.set_window(fds[0], rows or 24, columns or 80)
            start.tty = fds[1]
            self._pid = self._init.children.start(start, self._exited, self._executed)
        except OSError:
            close_all(fds)
            raise
        os.close(fds[1])
        self._wire(fds[2], [(fds[0], protocol.DATA)])

    def _start_on_pipes(self, start: Start) -> None:
        fds: list[int] = []
        try:
            for _ in range(3):
                fds += os.pipe()
            start.stdin, start.stdout, start.stderr = fds[0], fds[3], fds[5]
            self._pid = self._init.children.start(start, self._exited, self._executed)
        except OSError:
            close_all(fds)
            raise
        close_all([fds[0], fds[3], fds[5]])
        self._wire(fds[1], [(fds[2], protocol.DATA), (fds[4], protocol.STDERR)])

    def _wire(self, stdin: int, outputs: list[tuple[int, bytes]]) -> None:
        loop, connection = self._init.loop, self._connection
        self._sink = Sink(loop, connection, stdin)
        if self._tty:
            self._sink.on_ended = self._end_terminal_input
        self._sources = [Source(loop, connection, fd, kind, self._check_end) for fd, kind in outputs]

    def _end_terminal_input(self) -> None:
        """A terminal has no end of file of its own: the character says it."""
        sink = self._sink
        if sink is not None and sink.fd >= 0:
            try:
                os.write(sink.fd, END_OF_INPUT)
            except OSError:
                sink.close()

    def _executed(self, error: str) -> None:
        if error:
            code, _, self._error = error.partition(" ")
            self._code = int(code)
        else:
            self._connection.send_control(protocol.OPENED, {"pid": self._pid})

    def _exited(self, code: int) -> None:
        if self._code is None:
            self._code = code
        for source in self._sources:
            source.drain()
        self._check_end()

    def _check_end(self) -> None:
        if self._code is not None and all(source.fd < 0 for source in self._sources):
            self._end(self._code, self._error)

    def _end(self, code: int, error: str) -> None:
        self._connection.on_gone = lambda: None
        self._connection.send_control(protocol.EXIT, {"code": code, "error": error})
        self._connection.finish()
        self._release()

    def _release(self) -> None:
        if self._sink is not None:
            self._sink.close()
        for source in self._sources:
            source.close()
        self._init.release_session(self)

    def _drained(self) -> None:
        for source in self._sources:
            source.resume()

    def _frame(self, kind: bytes, payload: bytes) -> None:
        if self._sink is None:
            return
        if kind == protocol.DATA:
            self._sink.write(payload)
        elif kind == protocol.EOF:
            self._sink.end()
        elif kind == protocol.WINDOW and self._tty:
            fields = protocol.parse_control(payload)
            rows, columns = (protocol.number_of(fields, side, TERMINAL_SIDE_MAX) for side in ("rows", "columns"))
            if self._terminal() >= 0:
                processes.set_window(self._terminal(), rows, columns)
        elif kind == protocol.SIGNAL:
            self._signal(protocol.number_of(protocol.parse_control(payload), "signal", processes.SIGNAL_MAX))
        else:
            raise protocol.BadFrame(f"frame {kind!r} has no place in this session")

    def _signal(self, number: int) -> None:
        if self._code is None:
            processes.kill_group(self._foreground() or self._pid, number)

    def _terminal(self) -> int:
        return self._sources[0].fd if self._tty and self._sources else -1

    def _foreground(self) -> int:
        """The process group that the terminal belongs to at the moment; 0: none."""
        try:
            return max(os.tcgetpgrp(self._terminal()), 0) if self._terminal() >= 0 else 0
        except OSError:
            return 0

    def _groups(self) -> set[int]:
        return {self._pid, self._foreground() or self._pid}

    def _hang_up(self) -> None:
        if self._tty and self._pid and self._code is None:
            _hang_up_all(self._groups())

    def _gone(self) -> None:
        """Hang up; who is still there after a moment is killed."""
        groups = self._groups()
        self._release()
        if self._code is not None:
            return
        _hang_up_all(groups)
        self._init.loop.after(protocol.HANGUP_GRACE_S, lambda: _kill_all(groups))


def _hang_up_all(groups: set[int]) -> None:
    for group in groups:
        processes.kill_group(group, processes.SIGHUP)
        processes.kill_group(group, processes.SIGCONT)


def _kill_all(groups: set[int]) -> None:
    for group in groups:
        processes.kill_group(group, processes.SIGKILL)


def _is_variable(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return bool(name) and not set("=\0") & set(name) and "\0" not in value


def _shell(env: dict[str, str]) -> str:
    for path in (env.get("SHELL", ""), *_SHELLS):
        if path and os.access(path, os.X_OK):
            return path
    raise protocol.Refused("NotFound", "the guest has no shell", "argv")
