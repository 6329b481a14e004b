"""The laws of the tree (docs/architecture.md, "The rooms"), as tests. They read the code as text, in a second."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "minicloud"
GUEST = ROOT / "workers" / "minicloud_workers"
SLICES = (
    "compute",
    "scaling",
    "balancer",
    "queue",
    "topic",
    "function",
    "event",
    "metric",
    "logs",
    "identity",
    "billing",
)
# In a slice these are glue, everything else is pure.
IMPURE = (
    "service.py",
    "compaction.py",
    "merging.py",
    "rpc.py",
    "targets_rpc.py",
    "rpc/",
    "aws.py",
    "aws/",
    "links.py",
    "links/",
    "keypairs.py",
    "seal.py",
    "catalog.py",
)
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
BANNED_IN_PURE = ("time", "os", "socket", "asyncio", "threading", "subprocess", "grpc", "uuid", "secrets")
# Chance is an argument (base.machine.Context): the module may be named as a type, never called.
WORLD = re.compile(r"\b(datetime\.(now|utcnow|today)|time\.time|date\.today|random\.[a-z]\w*|random\.Random)\(")


@cache
def sources(root: Path) -> tuple[Path, ...]:
    return tuple(path for path in sorted(root.rglob("*.py")) if "_pb2" not in path.name)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, wherever in it."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(module: str) -> str:
    return module.split(".", 1)[0]


def inside(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def is_pure(path: Path) -> bool:
    parts = path.relative_to(PACKAGE).parts
    if parts[0] == "base":
        return True
    rest = "/".join(parts[1:])
    return parts[0] in SLICES and not rest.startswith(IMPURE)


def test_ray_is_imported_in_cluster_alone() -> None:
    offenders = [
        inside(path)
        for path in sources(PACKAGE)
        if not inside(path).startswith("cluster/") and any(top(name) == "ray" for name in imports(path))
    ]
    assert not offenders


def test_a_slice_never_imports_another() -> None:
    offenders = []
    for path in sources(PACKAGE):
        room = path.relative_to(PACKAGE).parts[0]
        if room in SLICES:
            others = tuple(f"minicloud.{one}" for one in SLICES if one != room)
            offenders += [f"{inside(path)}: {name}" for name in imports(path) if name.startswith(others)]
    assert not offenders


def test_base_imports_nothing_of_ours_but_base() -> None:
    offenders = [
        f"{inside(path)}: {name}"
        for path in sources(PACKAGE / "base")
        for name in imports(path)
        if name.startswith("minicloud.") and not name.startswith("minicloud.base")
    ]
    assert not offenders
    assert len(sources(PACKAGE / "base")) <= 11  # ten files and __init__


def test_pure_files_touch_no_world() -> None:
    offenders = []
    for path in filter(is_pure, sources(PACKAGE)):
        offenders += [f"{inside(path)}: {name}" for name in imports(path) if top(name) in BANNED_IN_PURE]
    assert not offenders


def test_pure_files_read_no_clock_and_draw_no_lots() -> None:
    offenders = [inside(path) for path in filter(is_pure, sources(PACKAGE)) if WORLD.search(path.read_text())]
    assert not offenders


def test_guests_import_the_standard_library_alone() -> None:
    import sys

    offenders = [
        f"{path.name}: {name}"
        for path in sources(GUEST)
        for name in imports(path)
        if top(name) not in sys.stdlib_module_names and top(name) != "minicloud_workers"
    ]
    assert not offenders


def test_the_client_half_needs_no_server_package() -> None:
    server_only = {"ray", "apsw", "orjson", "numpy", "uvloop", "uvicorn", "psutil", "pyroute2", "prometheus_client"}
    offenders = [
        f"{inside(path)}: {name}"
        for path in sources(PACKAGE / "client")
        for name in imports(path)
        if top(name) in server_only
    ]
    assert not offenders


@pytest.mark.parametrize("root", [PACKAGE, GUEST, ROOT / "tests", ROOT / "benchmarks"], ids=lambda path: path.name)
def test_files_and_functions_are_small(root: Path) -> None:
    offenders = []
    for path in sources(root):
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > FILE_LINES_MAX:
            offenders.append(f"{path.relative_to(ROOT)} has {lines} lines")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    offenders.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length} lines")
    assert not offenders


def test_every_module_says_what_it_is() -> None:
    offenders = [
        str(path.relative_to(ROOT))
        for root in (PACKAGE, GUEST)
        for path in sources(root)
        if path.name != "__init__.py" and not ast.get_docstring(tree_of(path))
    ]
    assert not offenders


def test_no_module_is_dead() -> None:
    """Every module is imported by another, or is an entry point that something names."""
    named = set()
    text = ""
    for root in (PACKAGE, GUEST, ROOT / "tests", ROOT / "benchmarks"):
        for path in sources(root):
            named.update(imports(path))
            text += path.read_text(encoding="utf-8")
    text += (ROOT / "pyproject.toml").read_text() + (ROOT / "README.md").read_text()
    offenders = []
    for path in sources(PACKAGE):
        module = "minicloud." + inside(path).removesuffix(".py").replace("/", ".")
        started = f'"{path.name}"' in text  # a script that a process is started with
        if path.name != "__init__.py" and module not in named and module not in text and not started:
            offenders.append(module)
    assert not offenders


def test_tests_do_not_sleep_outside_the_rings_that_run_real_processes() -> None:
    """Who waits for others of its process takes turns (tests/turns.py)."""
    offenders = []
    for ring in ("pure", "sim", "tidy", "contract"):
        for path in sources(ROOT / "tests" / ring):
            for node in ast.walk(tree_of(path)):
                text = ast.unparse(node) if isinstance(node, ast.Call) else ""
                if text.startswith(("asyncio.sleep(", "time.sleep(")) and path.name != "test_clock.py":
                    offenders.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not offenders


def test_every_rpc_of_every_service_is_served_and_exercised() -> None:
    """A method of a proto has a servicer method; a service for users has a client group or command that calls it."""
    served = "\n".join(
        path.read_text(encoding="utf-8")
        for path in sources(PACKAGE)
        if "rpc" in path.parts or path.name.endswith("rpc.py")
    )
    called = "\n".join(path.read_text(encoding="utf-8") for path in sources(PACKAGE / "client"))
    missing = []
    for proto in sorted((ROOT / "protos").rglob("*.proto")):
        for method in re.findall(r"^  rpc (\w+)\(", proto.read_text(), re.MULTILINE):
            if f"async def {method}(" not in served:
                missing.append(f"{proto.name}: {method} is not served")
            if proto.name != "fleet.proto" and not re.search(rf"\b{method}\b", called):
                missing.append(f"{proto.name}: {method} is not in the SDK")
    assert not missing


def test_generated_code_is_fresh() -> None:
    """A proto that changed after its code was generated gives another program than the one tested."""
    from minicloud.wire import fleet_pb2, instance_pb2

    text = (ROOT / "protos" / "minicloud" / "wire" / "instance.proto").read_text()
    names = re.findall(r"^message (\w+)", text, re.MULTILINE)
    assert set(names) == set(instance_pb2.DESCRIPTOR.message_types_by_name)
    text = (ROOT / "protos" / "minicloud" / "wire" / "fleet.proto").read_text()
    assert set(re.findall(r"^message (\w+)", text, re.MULTILINE)) == set(fleet_pb2.DESCRIPTOR.message_types_by_name)


def test_the_lifecycle_in_the_docs_is_the_table() -> None:
    from minicloud.compute.lifecycle import LIFECYCLE

    assert LIFECYCLE.mermaid() in (ROOT / "docs" / "architecture.md").read_text()


def test_links_in_the_docs_lead_somewhere() -> None:
    offenders = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        offenders += [f"{page.name}: {target}" for target in targets if not (page.parent / target).exists()]
    assert not offenders
