"""Code and layers, unpacked once per host: `code/<sha256>`, and for several layers together `layers/<digest>`.

A directory appears under its name by a rename, whole, so a name that is there is good; what a crash left half done has
another name and is swept at the start. What no environment has needed for KEPT_S goes; it is unpacked again if need be.
Layers are laid over one another by hard links: later ones win, and no byte is copied. Nobody writes into these
directories afterwards: environments see them read-only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from minicloud.base.errors import InvalidRequest
from minicloud.function.errors import broken_package
from minicloud.function.limits import ENTRIES_MAX, UNZIPPED_BYTES_MAX
from minicloud.function.ports import Package
from minicloud.store.zips import Caps, unpack

CAPS = Caps(UNZIPPED_BYTES_MAX, ENTRIES_MAX)
KEPT_S = 24 * 3600.0  # ours
_HALF = ".half-"
Fetch = Callable[[Package, Path], Awaitable[None]]  # writes it there; raises CloudError, OSError


class CodeStore:
    """Below one directory, which every environment's zygote can see. One unpacking of the same thing at a time.

    `fetch`: where packages are on another machine; each is brought once, and lives on as what was in it.
    """

    def __init__(self, directory: Path, fetch: Fetch | None = None) -> None:
        self.directory = directory
        self._fetch = fetch
        self._known: set[str] = set()
        self._used: dict[str, float] = {}  # when, monotonic; what a process before this one left counts from now
        self._under_way: dict[str, asyncio.Task[None]] = {}
        for name in ("code", "layers"):
            (directory / name).mkdir(mode=0o755, parents=True, exist_ok=True)
            for half in (directory / name).glob(f"{_HALF}*"):
                half.unlink() if half.is_file() else shutil.rmtree(half, ignore_errors=True)

    def ready(self, code: Package, layers: Sequence[Package]) -> tuple[str, str] | None:
        """Names below the directory, layers "" where there are none; None: something must be unpacked first."""
        names = _code(code), _layers(layers)
        self._used[names[0]] = self._used[names[1]] = time.monotonic()
        return names if all(name in self._known for name in names if name) else None

    async def get(self, code: Package, layers: Sequence[Package]) -> tuple[str, str]:
        """Raises InvalidRequest (errors.broken_package), OSError."""
        code_name, layers_name = _code(code), _layers(layers)
        for package in (code, *layers):
            await self._once(_code(package), partial(self._bring, package))
        if len(layers) > 1:
            parts = [self.directory / _code(layer) for layer in layers]
            await self._once(layers_name, lambda path: asyncio.to_thread(_whole, path, partial(_lay_over, parts)))
        return code_name, layers_name

    async def _bring(self, package: Package, path: Path) -> None:
        if self._fetch is None or await asyncio.to_thread(path.is_dir):
            await asyncio.to_thread(_whole, path, partial(_unpack, package))
            return
        zip_path = path.with_name(f"{_HALF}{uuid.uuid4().hex}")
        try:
            await self._fetch(package, zip_path)
            here = package._replace(path=str(zip_path))
            await asyncio.to_thread(_whole, path, partial(_unpack, here))
        finally:
            zip_path.unlink(missing_ok=True)

    async def sweep(self, keep: set[str], kept_s: float = KEPT_S) -> None:
        """Removes what was not asked for in `kept_s` and no environment stands on (`keep`: names)."""
        line = time.monotonic() - kept_s
        found = [f"{kind}/{path.name}" for kind in ("code", "layers") for path in (self.directory / kind).iterdir()]
        for name in found:
            if name in keep or name in self._under_way or self._used.setdefault(name, time.monotonic()) > line:
                continue
            self._known.discard(name)
            path = self.directory / name
            doomed = path.with_name(f"{_HALF}{uuid.uuid4().hex}")  # gone under its name at once
            path.rename(doomed)
            await asyncio.to_thread(shutil.rmtree, doomed, True)

    @staticmethod
    def names(code: Package, layers: Sequence[Package]) -> set[str]:
        """Of everything that an environment of these stands on."""
        return {_code(code), _layers(layers)} - {""}

    async def _once(self, name: str, make: Callable[[Path], Awaitable[None]]) -> None:
        if name in self._known:
            return
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.ensure_future(make(self.directory / name))
            self._under_way[name] = task
            task.add_done_callback(lambda _: self._under_way.pop(name, None))
        await asyncio.shield(task)
        self._known.add(name)


def _code(package: Package) -> str:
    return f"code/{package.sha256}"


def _layers(layers: Sequence[Package]) -> str:
    if len(layers) < 2:
        return _code(layers[0]) if layers else ""
    return "layers/" + hashlib.sha256("/".join(layer.sha256 for layer in layers).encode()).hexdigest()


def _whole(path: Path, make: Callable[[Path], None]) -> None:
    if path.is_dir():
        return
    half = path.with_name(f"{_HALF}{uuid.uuid4().hex}")
    half.mkdir(mode=0o755)
    try:
        make(half)
        with contextlib.suppress(FileExistsError):
            half.rename(path)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _unpack(package: Package, into: Path) -> None:
    into.chmod(0o755)
    try:
        with open(package.path, "rb") as file:
            unpack(file, into, CAPS)
    except InvalidRequest as error:
        raise broken_package(str(error)) from None
    except FileNotFoundError:
        raise broken_package("the package is not there any more") from None


def _lay_over(layers: Sequence[Path], into: Path) -> None:
    into.chmod(0o755)
    for layer in layers:
        for folder, folders, files in os.walk(layer):
            there = into / Path(folder).relative_to(layer)
            for name in folders:
                if (there / name).is_file():
                    (there / name).unlink()
                (there / name).mkdir(mode=0o755, exist_ok=True)
                (there / name).chmod(0o755)
            for name in files:
                if (there / name).is_dir():
                    shutil.rmtree(there / name)
                (there / name).unlink(missing_ok=True)
                os.link(Path(folder) / name, there / name)
