"""The supervisor as the command line sees it: started with settings on stdin, heard in JSON lines, ended by SIGTERM.

Never imports Ray: the supervisor does not either, and its driver takes a second to.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicloud.base.errors import CloudError, Conflict
from minicloud.cluster.child import log_tail
from minicloud.cluster.processes import ProcessRecord, end, is_alive, marks, read_table
from minicloud.cluster.teardown import DataDirLock, ask_shutdown, end_processes, remove_run
from minicloud.settings import CloudSettings, child_env

DOWN_S_MAX = 60.0
LOCK_LOOK_S = 0.05


class Daemon:
    """A supervisor that this process started."""

    def __init__(self, settings: CloudSettings, lifeline: bool) -> None:
        """`lifeline`: the cloud ends when this process does. Raises OSError."""
        self.log = settings.log_path / "supervisor.err"
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [sys.executable, "-m", "minicloud.cluster.supervisor", *(["--lifeline"] if lifeline else [])]
        with open(self.log, "wb") as errors:
            self._process = subprocess.Popen(
                command,
                env=child_env() | marks(settings) | {"PYTHONPATH": _python_path()},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(json.loads(settings.to_json())).encode() + b"\n")
        self._process.stdin.flush()

    def events(self) -> Iterator[dict[str, Any]]:
        """What it says, until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield json.loads(line)

    def ask_to_end(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        return self._process.wait()

    def last_words(self) -> str:
        """What it wrote to stderr: nothing, unless it broke."""
        return log_tail(self.log)


@dataclass(frozen=True, slots=True)
class CloudState:
    """What <data>/run/state.json says, checked against the process that wrote it."""

    phase: str
    supervisor: int
    alive: bool
    settings: CloudSettings
    endpoints: dict[str, str]
    nodes: dict[str, str]
    restarts: dict[str, int]
    processes: tuple[ProcessRecord, ...]


def read_state(data: Path) -> CloudState | None:
    """None where no cloud is up, and none was left behind."""
    try:
        raw = json.loads((data / "run" / "state.json").read_text())
        settings = CloudSettings.from_json(json.dumps(raw["settings"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, CloudError) as error:
        raise CloudError(f"{data / 'run' / 'state.json'} cannot be understood: {error}") from None
    processes = tuple(read_table(data / "run" / "processes.json"))
    alive = any(record.pid == raw["supervisor"] and is_alive(record) for record in processes)
    return CloudState(
        phase=raw["phase"] if alive else "broken",
        supervisor=raw["supervisor"],
        alive=alive,
        settings=settings,
        endpoints=raw["endpoints"],
        nodes=raw["nodes"],
        restarts=raw["restarts"],
        processes=processes,
    )


def end_cloud(data: Path, state: CloudState | None, bare: CloudSettings) -> bool:
    """End the cloud of a data directory: by its supervisor where that lives, by hand where not. Blocks.

    Returns whether there was anything to end. Raises CloudError where processes do not end.
    """
    settings = state.settings if state else bare
    if state and state.alive:
        supervisor = next(record for record in state.processes if record.pid == state.supervisor)
        end([supervisor], grace_s=DOWN_S_MAX)
    lock = _take_lock(data)
    try:
        orphans = bool(read_table(data / "run" / "processes.json"))
        if orphans:  # the supervisor was killed: the control plane may still be able to stop its guests in order
            ask_shutdown(settings)
        if left := end_processes(settings):
            raise CloudError(f"processes that do not end: {[record.pid for record in left]}")
        remove_run(settings)
    finally:
        lock.release()
    return state is not None or orphans


def _take_lock(data: Path) -> DataDirLock:
    """The supervisor lets go of the lock a moment before it is gone, and one that starts holds it before it says so."""
    until = time.monotonic() + DOWN_S_MAX
    while True:
        try:
            return DataDirLock(data)
        except Conflict:
            if time.monotonic() > until:
                raise
            _end_holder(data)
            time.sleep(LOCK_LOOK_S)


def _end_holder(data: Path) -> None:
    """A supervisor that has no state yet is asked by the pid in its lock."""
    state = read_state(data)
    if state and state.alive:
        os.kill(state.supervisor, signal.SIGTERM)


def _python_path() -> str:
    """The supervisor finds the same minicloud as this process."""
    root = str(Path(__file__).resolve().parents[3])
    return ":".join(dict.fromkeys(filter(None, [root, *child_env().get("PYTHONPATH", "").split(":")])))
