"""Build hook: compiles protos/ into minicloud/wire/ at install (wheel, sdist and editable installs alike).

Pinned to grpcio-tools 1.76: newer generators stamp code that demands a newer protobuf than Ray's users may have.
`python hatch_build.py` does the same by hand (`make proto`).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand, without hatchling
    BuildHookInterface = object  # type: ignore[assignment,misc]

ROOT = Path(__file__).resolve().parent


def compile_protos(root: Path = ROOT) -> list[Path]:
    """Compile every proto; returns the generated files. Raises RuntimeError when protoc refuses."""
    from importlib.resources import files

    from grpc_tools import protoc

    sources = sorted((root / "protos" / "minicloud" / "wire").glob("*.proto"))
    out = root / "minicloud" / "wire"
    google = str(files("grpc_tools") / "_proto")
    args = [
        "protoc",
        f"-I{root / 'protos'}",
        f"-I{google}",
        f"--python_out={root}",
        f"--grpc_python_out={root}",
        f"--mypy_out=quiet:{root}",
        *[str(source) for source in sources],
    ]
    beside = Path(sys.executable).with_name("protoc-gen-mypy")
    plugin = str(beside) if beside.exists() else shutil.which("protoc-gen-mypy")
    if plugin is None:
        raise RuntimeError("protoc-gen-mypy is not installed (package mypy-protobuf)")
    args.insert(1, f"--plugin=protoc-gen-mypy={plugin}")
    if protoc.main(args) != 0:
        raise RuntimeError("protoc failed; see its messages above")
    return sorted(out.glob("*_pb2*.py*"))


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc,valid-type]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compile_protos(Path(self.root))


if __name__ == "__main__":
    sys.stdout.write("\n".join(str(path.relative_to(ROOT)) for path in compile_protos()) + "\n")
