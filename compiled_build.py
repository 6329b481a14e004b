"""`make compiled`: the hot modules of a message broker through mypyc, for minicloud/compiled.py. Needs a C compiler.

Which modules: what every SQS request goes through. Left out are those that mypyc gets wrong (docs/decisions/019), and
those that programs import which must start fast. After a change of one, run the tests of queues, log and AWS face both
ways.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent
GROUP = "minicloud_hot"
HOT = (
    *("minicloud.aws." + name for name in ("documents", "face", "gateway", "heads", "http", "jsons")),
    *("minicloud.aws." + name for name in ("services", "validate", "wire")),
    *("minicloud.queue." + name for name in ("aws", "book", "codec", "columns", "compaction", "core", "lines")),
    *("minicloud.queue." + name for name in ("mailbox", "message", "ranges", "receipt", "references", "rows")),
    *("minicloud.queue." + name for name in ("sending", "service", "timers")),
    *("minicloud.store." + name for name in ("log", "log_fence", "log_format", "log_writer")),
)


def file_of(module: str) -> Path | None:
    """Of a module or package of ours."""
    base = ROOT / Path(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


def sources() -> list[Path]:
    """What the machine code is made from: these modules, and all that they import of ours, for its constants."""
    found: dict[Path, None] = {}
    todo = list(HOT)
    while todo:
        module = todo.pop()
        path = file_of(module) if module.startswith("minicloud.") else None
        if path is not None and path not in found:
            found[path] = None
            todo += imported(path)
    return sorted(found)


def build(folder: Path) -> None:
    """Machine code and manifest into the folder. Raises SystemExit where it cannot be compiled."""
    from mypyc.build import mypycify
    from setuptools.command.build_ext import build_ext
    from setuptools.dist import Distribution

    from minicloud.compiled import MANIFEST, SUFFIX, digest

    known = {str(path.relative_to(ROOT)): digest(path) for path in sources()}
    files = [str(path.relative_to(ROOT)) for path in map(file_of, HOT) if path is not None]
    with tempfile.TemporaryDirectory() as place:
        extensions = mypycify(
            files, opt_level="2", debug_level="0", multi_file=True, group_name=GROUP, target_dir=f"{place}/c"
        )
        command = build_ext(Distribution({"name": GROUP, "ext_modules": extensions}))
        command.build_lib, command.build_temp, command.parallel = f"{place}/lib", f"{place}/o", os.cpu_count()
        command.ensure_finalized()
        command.run()
        folder.mkdir(parents=True)
        for extension in extensions:
            shutil.copy(command.get_ext_fullpath(extension.name), folder / f"{extension.name}{SUFFIX}")
    names = [extension.name for extension in extensions]
    (folder / MANIFEST).write_text(json.dumps({"suffix": SUFFIX, "modules": names, "sources": known}, indent=1))


def main() -> int:
    from minicloud.compiled import FOLDER, Compiled

    os.chdir(ROOT)
    try:
        if Compiled(FOLDER).is_fresh():
            print("compiled modules are fresh")  # noqa: T201
            return 0
    except (OSError, ValueError, KeyError, TypeError):
        pass
    new = FOLDER.with_name("_compiled_new")
    shutil.rmtree(new, ignore_errors=True)
    build(new)
    shutil.rmtree(FOLDER, ignore_errors=True)
    new.rename(FOLDER)
    print(f"{len(HOT)} modules are compiled")  # noqa: T201
    return 0


if __name__ == "__main__":
    os.environ["MINICLOUD_COMPILED"] = "0"
    sys.exit(main())
