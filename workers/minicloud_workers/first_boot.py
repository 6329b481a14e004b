"""User data: run once for each instance id that a disk sees, at most once whatever happens.

    no marker -> the marker says `running`, on disk -> files are written, the script starts -> marker `done` | `failed`

A boot that finds `running` was cut off in the middle: the work is not repeated, and counts as failed. The forms of user
data are those of boot.json (see `init`): the host has parsed and checked them, here they are only carried out.
"""

from __future__ import annotations

import binascii
import os

from minicloud_workers import quickjson
from minicloud_workers.init import Init, read_file, under
from minicloud_workers.loop import log
from minicloud_workers.processes import Start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE_DIRECTORY = "/var/lib/minicloud"
MARKER = "user-data.json"
SCRIPT = "user-data"
FAILED = 1


class FirstBoot:
    def __init__(self, init: Init, instance_id: str, data: dict[str, Any]) -> None:
        self._init = init
        self._instance_id = instance_id
        self._data = data
        self._directory = under(init.root, STATE_DIRECTORY)

    def begin(self) -> None:
        """Start it, or tell how it ended before."""
        earlier = self._earlier()
        if earlier is not None:
            self._tell(*earlier)
        elif self._data.get("kind") == "refused":
            log(f"user data was not run: {self._data.get('reason')}")
            self._tell("failed", FAILED)
        else:
            self._start()

    def _earlier(self) -> tuple[str, int] | None:
        """State and exit code of an earlier boot of this instance; None: there was none."""
        try:
            marker = quickjson.loads(read_file(os.path.join(self._directory, MARKER)))
            if marker["instance_id"] != self._instance_id:
                return None
            state, code = str(marker["state"]), int(marker["exit"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log(f"user data is not run: its marker cannot be read: {error}")
            return "failed", FAILED
        if state == "running":
            log("user data was cut off at an earlier boot, and is not run again")
            return "failed", FAILED
        return state, code

    def _start(self) -> None:
        init = self._init
        start = Start([], init.env, init.home, run=self._carry_out)
        try:
            init.children.start(start, self._ended, lambda _error: None)
        except OSError as error:
            log(f"user data was not run: no new process: {error.strerror}")
            self._tell("failed", FAILED)
            return
        self._tell("running", 0)

    def _ended(self, code: int) -> None:
        state = "failed" if code else "done"
        log(f"user data {state}, exit code {code}")
        try:
            self._mark(state, code)
        except OSError as error:
            log(f"the marker of user data: {error}")
        self._tell(state, code)

    def _tell(self, state: str, code: int) -> None:
        self._init.user_data = {"state": state, "exit": code}
        self._init.changed()

    def _mark(self, state: str, code: int) -> None:
        self._write_marker(state, code, durable=False)
        self._name_marker()

    def _write_marker(self, state: str, code: int, durable: bool) -> None:
        """Under another name: it says nothing yet."""
        os.makedirs(self._directory, 0o755, exist_ok=True)
        text = quickjson.dumps({"instance_id": self._instance_id, "state": state, "exit": code})
        write_file(os.path.join(self._directory, f"{MARKER}.new"), text.encode(), 0o644, durable=durable)

    def _name_marker(self) -> None:
        path = os.path.join(self._directory, MARKER)
        os.rename(f"{path}.new", path)

    # --- in the child

    def _carry_out(self) -> int:
        """Raises OSError."""
        return self._run(self._lay_out())

    def _lay_out(self) -> str:
        """All that changes nothing for the user. The path of the script, "" where there is none."""
        self._write_marker("running", 0, durable=True)
        text = self._data.get("text") or self._data.get("script") or ""
        if not text:
            return ""
        path = os.path.join(self._directory, SCRIPT)
        write_file(path, text.encode(), 0o700)
        return path

    def _run(self, script: str) -> int:
        """Ends as the script, where there is one. Raises OSError."""
        self._name_marker()
        for entry in self._data.get("write_files") or []:
            self._write(entry)
        if not script:
            return 0
        return os.execve(script, [script], self._init.env)

    def _write(self, entry: dict[str, Any]) -> None:
        path = under(self._init.root, entry["path"])
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        write_file(path, binascii.a2b_base64(entry["content"]), entry["mode"], append=bool(entry.get("append")))
        log(f"wrote {path}")


def write_file(path: str, content: bytes, mode: int, append: bool = False, durable: bool = False) -> None:
    """Replace or extend a file; its mode is `mode` afterwards, whoever made it. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC), mode)
    try:
        os.fchmod(fd, mode)
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
