"""What the tests of execution environments share: packages made on the spot, specs, and a host to run them on."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import json
import os
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.environment.host import FunctionHost, HostParts
from minicloud.function.ports import EnvironmentSpec, Invocation, LogSettings, Outcome, Package
from minicloud.sandbox.cgroup import Cgroups

REGION = "us-east-1"
# Says that it has begun, then waits until `Bench.let_go`; with a false event it does not wait.
HELD = """
import os, time, uuid
me = str(uuid.uuid4())
def handler(event, context):
    print("begun")
    while event and not os.path.exists("go"):
        time.sleep(0.01)
    return [me, os.environ.get("WHERE")]
"""
numbers = itertools.count(1)


@dataclass
class Lines:
    """`ports.Logs` in memory: {stream: lines}. `changed`: there are more."""

    streams: dict[str, list[str]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, scope: Scope, group: str, stream: str, events: Sequence[tuple[float, str]]) -> None:
        self.streams.setdefault(f"{scope.account}{group}/{stream}", []).extend(line for _, line in events)
        self.changed.set()

    def all(self) -> list[str]:
        return [line for lines in self.streams.values() for line in lines]


class Bench:
    """One function host over a directory, and packages beside it."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.directory = directory
        self.lines = Lines()
        self.prefix = f"minicloud-test{os.getpid()}/fn{next(numbers)}"
        parts = HostParts(directory / "host", self.prefix, 64_000, logs=self.lines)
        self.parts = replace(parts, **changes)
        self.host = FunctionHost(self.parts)
        owner = self.host.owner
        told = {name: self._telling(getattr(owner, name)) for name in ("idle", "never", "ended")}
        self.host.owner = self.host._maker._owner = replace(owner, **told)

    def _telling(self, call: Callable[..., None]) -> Callable[..., None]:
        def both(*args: Any) -> None:
            call(*args)
            self.lines.changed.set()

        return both

    def held(self, **changes: Any) -> EnvironmentSpec:
        return self.spec(HELD, timeout_s=60, **changes)

    async def begun(self, count: int) -> None:
        """So many of HELD have, since the bench was made."""
        await self.until(lambda: self.lines.all().count("begun") == count)

    def let_go(self, spec: EnvironmentSpec) -> None:
        """On every host below this directory: their code sees what is beside it."""
        for code in self.directory.rglob(f"code/{spec.code.sha256}"):
            (code / "go").touch()

    async def until(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        """Waits for environments, and what they write. Raises TimeoutError where it does not come to that."""
        async with asyncio.timeout(seconds):
            while not holds():
                self.lines.changed.clear()
                await self.lines.changed.wait()

    def package(self, files: Mapping[str, str | bytes]) -> Package:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in files.items():
                info = zipfile.ZipInfo(name)
                info.external_attr = 0o100755 << 16
                archive.writestr(info, content)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        path = self.directory / digest
        path.write_bytes(buffer.getvalue())
        return Package(digest, str(path))

    def spec(
        self, files: Mapping[str, str | bytes] | str, account: str = "000000000000", **changes: Any
    ) -> EnvironmentSpec:
        """`files`: or the text of app.py."""
        package = self.package({"app.py": files} if isinstance(files, str) else files)
        spec = EnvironmentSpec(
            arn=f"arn:aws:lambda:{REGION}:{account}:function:f{next(numbers)}",
            name="f",
            version="$LATEST",
            revision="1",
            scope=Scope(account, REGION),
            code=package,
            runtime="python3.11",
            handler="app.handler",
            memory_mib=256,
            timeout_s=10,
            ephemeral_mib=512,
            log=LogSettings("/aws/lambda/f"),
        )
        return replace(spec, **changes)

    async def invoke(self, spec: EnvironmentSpec, event: object = None, **changes: Any) -> Outcome:
        return await self.host.invoke(spec, invocation(spec, event, **changes))

    async def result(self, spec: EnvironmentSpec, event: object = None) -> Any:
        """What the function returned; it must have succeeded."""
        outcome = await self.invoke(spec, event)
        assert not outcome.function_error, outcome
        return json.loads(outcome.payload)

    async def error(self, spec: EnvironmentSpec, event: object = None) -> tuple[str, str]:
        """errorType and errorMessage; it must have failed."""
        outcome = await self.invoke(spec, event)
        assert outcome.function_error, outcome
        said = json.loads(outcome.payload)
        return said["errorType"], said["errorMessage"]


def invocation(spec: EnvironmentSpec, event: object = None, **changes: Any) -> Invocation:
    made = Invocation(f"00000000-0000-4000-8000-{next(numbers):012}", json.dumps(event).encode(), spec.arn, tail=True)
    return replace(made, **changes)


@asynccontextmanager
async def opened(directory: Path, **changes: Any) -> AsyncIterator[Bench]:
    """A bench whose host runs; afterwards nothing of it is left."""
    bench = Bench(directory, **changes)
    await bench.host.start()
    try:
        yield bench
    finally:
        await bench.host.close()
    assert not Cgroups.detect().existing(bench.prefix)


def isolated_or_skip(bench: Bench) -> None:
    if bench.host.warnings:
        pytest.skip("; ".join(bench.host.warnings))
