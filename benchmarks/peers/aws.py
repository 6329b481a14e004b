"""Other servers of the AWS protocols, as children of the benchmark: moto_server and MiniStack. Neither is durable."""

from __future__ import annotations

import shutil
from pathlib import Path

from peers.server import Absent, Child, free_ports

HINT = "python -m venv V; V/bin/pip install 'moto[server]' ministack; then --peers-bin V/bin"


class Emulator:
    """`bin`: where its program is, if not on the path."""

    name = ""
    program = ""

    def __init__(self, bin_dir: str = "") -> None:
        self._bin = bin_dir
        self._child: Child | None = None
        self.url = ""

    def start(self, folder: Path) -> None:
        """Blocks until it serves. Raises Absent."""
        found = shutil.which(self.program, path=self._bin or None)
        if found is None:
            raise Absent(HINT)
        (port,) = free_ports(1)
        self._child = Child(self._command(found, port), folder, self._env(port))
        self._child.start()
        self._child.until_open(port)
        self.url = f"http://127.0.0.1:{port}"

    def _command(self, program: str, port: int) -> list[str]:
        return [program]

    def _env(self, port: int) -> dict[str, str]:
        return {}

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()

    def cpu_s(self) -> float:
        assert self._child is not None
        return self._child.cpu_s()


class Moto(Emulator):
    name = "moto_server"
    program = "moto_server"

    def _command(self, program: str, port: int) -> list[str]:
        return [program, "-H", "127.0.0.1", "-p", str(port)]


class MiniStack(Emulator):
    name = "MiniStack"
    program = "ministack"

    def _env(self, port: int) -> dict[str, str]:
        return {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "LOG_LEVEL": "ERROR"}
