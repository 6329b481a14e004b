"""A cloud of our own for a benchmark: brought up in a folder, taken down; and the process that is its broker."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from peers.server import cpu_s, tree

PROGRAM = [sys.executable, "-m", "minicloud.cli.main"]
BROKER = "ray::MessageBroker"


class OurCloud:
    """One host, one message broker, ports of its own, data in the folder."""

    def __init__(self, *flags: str) -> None:
        """`flags`: more of `minicloud up`'s."""
        self._flags = flags

    def start(self, folder: Path) -> None:
        self.folder: Path | None = folder
        atexit.register(self.stop)  # whatever happens until then
        up = ["up", "--data-dir", str(folder), "--hosts", "1", "--grpc-port", "0", "--http-port", "0", "--detach"]
        _run(*up, *self._flags)
        state = json.loads((folder / "run" / "state.json").read_text())
        self.endpoint: str = state["endpoints"]["grpc"]

    def stop(self) -> None:
        if self.folder is None or not self.folder.exists():
            return
        _run("down", "--data-dir", str(self.folder))
        self.folder = None

    def broker_pid(self) -> int:
        """Of the process that holds the queues now. Raises RuntimeError when there is none."""
        for pid in self._pids():
            try:
                if Path(f"/proc/{pid}/cmdline").read_text().startswith(BROKER):
                    return pid
            except OSError:
                continue
        raise RuntimeError("no message broker runs")

    def broker_http_port(self) -> int:
        """Where the broker serves SQS and SNS behind the front door."""
        assert self.folder is not None
        state = json.loads((self.folder / "run" / "state.json").read_text())
        return int(state["settings"]["brokers"][0]["http_port"])

    def _pids(self) -> Iterator[int]:
        assert self.folder is not None
        processes = json.loads((self.folder / "run" / "processes.json").read_text())["processes"]
        for process in processes:
            yield from tree(process["pid"])

    def cpu_s(self) -> float:
        return cpu_s(self.broker_pid())

    def private_bytes(self) -> int:
        """Memory of the broker that is its own: not the libraries, nor files that it maps."""
        for line in Path(f"/proc/{self.broker_pid()}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1_024
        raise RuntimeError("the kernel does not say RssAnon")


def _run(*words: str) -> None:
    """An interrupt is for the benchmark, which waits for the command and then ends its cloud."""
    subprocess.run([*PROGRAM, *words], check=True, stdout=subprocess.DEVNULL, start_new_session=True)
