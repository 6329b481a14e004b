"""Hot modules as machine code, where somebody has built that (`make compiled`): the same source through mypyc.

Never needed, and never stale. The build notes the SHA-256 of each source it depends on, and for which Python it is;
whoever imports the first of these modules compares, once in a process. Anything else than all the same, and everything
is plain Python: compiled modules know the insides of each other, so it is all of them or none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = Path(__file__).parent / "_compiled"
MANIFEST = "manifest.json"
SWITCH = "MINICLOUD_COMPILED"  # "0": plain Python, whatever was built
SUFFIX = EXTENSION_SUFFIXES[0]


def digest(path: Path) -> str:
    """'' where nothing can be read."""
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


class Compiled(MetaPathFinder):
    """Finds modules in a folder, as long as its manifest is true."""

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        """Raises OSError, ValueError, KeyError where there is no manifest that can be read."""
        self._folder = folder
        self._root = root
        manifest: Mapping[str, Any] = json.loads((folder / MANIFEST).read_text())
        self._suffix: str = manifest["suffix"]
        self._modules = frozenset(manifest["modules"])
        self._sources: Mapping[str, str] = manifest["sources"]
        self._fresh: bool | None = None

    def is_fresh(self) -> bool:
        """All of it is there, built for this Python from the sources that are here. Looked at once."""
        if self._fresh is None:
            there = self._suffix == SUFFIX and all(self._file(name).is_file() for name in self._modules)
            self._fresh = there and all(digest(self._root / name) == known for name, known in self._sources.items())
        return self._fresh

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}{self._suffix}"

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._modules or not self.is_fresh():
            return None
        return spec_from_file_location(name, self._file(name))


def offer(folder: Path = FOLDER) -> None:
    """Once in a process, before any of these modules is imported."""
    if os.environ.get(SWITCH) == "0" or not (folder / MANIFEST).is_file():
        return
    try:
        sys.meta_path.insert(0, Compiled(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return


def in_use() -> bool:
    """Whether this process runs compiled modules, or will."""
    return any(isinstance(one, Compiled) and one.is_fresh() for one in sys.meta_path)
