"""From files and Python callables to functions: packages that are the same for the same files, and `function`.

    @minicloud.function(memory_mib=256)
    def add(a, b):
        return a + b

    add(1, 2)            runs here
    add.remote(1, 2)     deploys it where that is needed, and runs it in the cloud
    add.deploy()         only that

What is sent is source: the module of the callable, or, where that is part of a package, all Python files of the
package. Arguments and results are JSON. Nothing is pickled, on either side.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import re
import stat
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, overload

from minicloud.base.errors import InvalidParameterValue, NotFound
from minicloud.client.functions import FunctionFailed, FunctionOptions

if TYPE_CHECKING:
    from minicloud.client import Client
    from minicloud.client.function_models import Function

P = ParamSpec("P")
R = TypeVar("R")

_NO_TIME = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = frozenset({"__pycache__", ".git", ".venv", "node_modules/.cache", ".mypy_cache", ".pytest_cache"})
_ENTRY = "_minicloud_entry"
_AT_IMPORT = (
    "remote() was called while its module is imported, which the cloud does too: "
    "put such calls under `if __name__ == '__main__':`, or into a function"
)
# The callable's module imports minicloud, which an environment need not have: then this stands in for it.
_ENTRY_SOURCE = '''"""Calls one function of a module; made by minicloud."""

import importlib
import sys
import types

loading = True  # the module below is being imported: what it calls now would call itself, for ever

try:
    import minicloud
except ImportError:
    def _remote(*_args, **_kwargs):
        raise RuntimeError(
            {at_import!r} if loading else "minicloud's SDK is not installed in this execution environment"
        )

    def _function(given=None, **_options):
        if given is None:
            return _function
        given.remote = given.deploy = _remote
        return given

    class _Absent:
        def __init__(self, *args, **kwargs):
            raise RuntimeError("minicloud's SDK is not installed in this execution environment")

    _stub = types.ModuleType("minicloud")
    _stub.function = _function
    _stub.__getattr__ = lambda name: _Absent
    sys.modules["minicloud"] = _stub

_called = getattr(importlib.import_module({module!r}), {name!r})
loading = False


def handler(event, context):
    return _called(*event["args"], **event["kwargs"])
'''


def pack(files: Mapping[str, tuple[bytes, bool]]) -> bytes:
    """A zip of name -> (content, is executable); equal files give equal bytes."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            content, executable = files[name]
            info = zipfile.ZipInfo(name, _NO_TIME)
            info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return raw.getvalue()


def pack_path(path: Path) -> bytes:
    """A folder's files as a zip, or a zip as it is. Raises InvalidParameterValue, OSError."""
    if path.is_file():
        if path.suffix == ".zip":
            return path.read_bytes()
        return pack({path.name: (path.read_bytes(), bool(path.stat().st_mode & 0o100))})
    if not path.is_dir():
        raise InvalidParameterValue(f"{path} is neither a folder nor a zip", field="path")
    files = {one.relative_to(path).as_posix(): one for one in _files(path)}
    return pack({name: (one.read_bytes(), bool(one.stat().st_mode & 0o100)) for name, one in files.items()})


def _files(folder: Path) -> Iterator[Path]:
    for one in sorted(folder.iterdir()):
        if one.name in _LEFT_OUT:
            continue
        if one.is_dir():
            yield from _files(one)
        elif one.is_file():
            yield one


def guess(path: Path) -> tuple[str, str]:
    """Runtime and handler of a folder, by its files; '' where nothing says it."""
    names = _names(path)
    if "bootstrap" in names:
        return "provided.al2023", "bootstrap"
    for name in ("index.js", "index.mjs"):
        if name in names:
            return "nodejs20.x", "index.handler"
    if "lambda_function.py" in names:
        return _python(), "lambda_function.lambda_handler"
    for name in ("main", "app", "handler", path.stem):
        if f"{name}.py" in names:
            return _python(), f"{name}.handler"
    return "", ""


def _names(path: Path) -> set[str]:
    if path.is_dir():
        return {one.name for one in path.iterdir()}
    if path.suffix != ".zip":
        return {path.name}
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def _python() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def deploy(client: Client, name: str, package: bytes, **options: Unpack[FunctionOptions]) -> Function:
    """Make the function, or change of it what differs. Raises what `functions.create` and `update` raise."""
    functions = client.functions
    try:
        there = functions.get(name)
    except NotFound:
        return functions.create(name, package, **options)
    if there.code_sha256 != base64.b64encode(hashlib.sha256(package).digest()).decode():
        there = functions.update_code(name, package)
    if any(_differs(there, option, value) for option, value in options.items()):
        there = functions.update(name, **options)
    return there


def _differs(there: Function, option: str, value: object) -> bool:
    known = getattr(there, option)
    return bool((tuple(value) if isinstance(value, list) else value) != known)


class RemoteFunction(Generic[P, R]):
    """A callable that can also run in the cloud. `name`: of the function there."""

    def __init__(self, called: Callable[P, R], name: str, options: FunctionOptions, client: Client | None) -> None:
        functools.update_wrapper(self, called)
        self._called = called
        self.name = name
        self._options = options
        self._client = client
        self._deployed = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._called(*args, **kwargs)

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it in the cloud; arguments and result go as JSON.

        Raises FunctionFailed (with what the function raised), InvalidParameterValue (not JSON), CloudError.
        """
        if getattr(sys.modules.get(_ENTRY), "loading", False):
            raise RuntimeError(_AT_IMPORT)
        if not self._deployed:
            self.deploy()
        done = self._cloud().functions.invoke(self.name, {"args": args, "kwargs": kwargs})
        if done.function_error:
            raise FunctionFailed(done.function_error, done.payload)
        result: R = done.json()
        return result

    def deploy(self) -> Function:
        """Bring its source to the cloud, where that differs. `remote` does it at its first call."""
        package = pack_callable(self._called)
        options: FunctionOptions = {"runtime": _python(), "handler": f"{_ENTRY}.handler", **self._options}
        found = deploy(self._cloud(), self.name, package, **options)
        self._deployed = True
        return found

    def _cloud(self) -> Client:
        if self._client is None:
            from minicloud.client import Client

            self._client = Client()
        return self._client


@overload
def function(called: Callable[P, R], /) -> RemoteFunction[P, R]: ...


@overload
def function(
    *, name: str = "", client: Client | None = None, **options: Unpack[FunctionOptions]
) -> Callable[[Callable[P, R]], RemoteFunction[P, R]]: ...


def function(
    called: Callable[..., Any] | None = None,
    *,
    name: str = "",
    client: Client | None = None,
    **options: Any,
) -> Any:
    """Make a Python function one that can also run in the cloud: `.remote(...)`.

    name: in the cloud, else its own. client: else one by the environment. options: as of `functions.create`.
    """

    def wrap(wrapped: Callable[..., Any]) -> RemoteFunction[..., Any]:
        known: FunctionOptions = options  # type: ignore[assignment]
        return RemoteFunction(wrapped, name or re.sub(r"[^a-zA-Z0-9_-]+", "-", wrapped.__name__), known, client)

    return wrap if called is None else wrap(called)


def pack_callable(called: Callable[..., Any]) -> bytes:
    """Its source, and what calls it. Raises InvalidParameterValue where it has no file, or is not at its top."""
    if "." in called.__qualname__:
        text = f"{called.__qualname__} must be at the top of its module"
        raise InvalidParameterValue(text, field="function")
    path = getattr(sys.modules.get(called.__module__), "__file__", None)
    if not path or not Path(path).is_file():
        raise InvalidParameterValue(f"the source of {called.__module__} is in no file", field="function")
    module, files = _sources(called.__module__, Path(path))
    entry = _ENTRY_SOURCE
    for what, value in (("module", module), ("name", called.__name__), ("at_import", _AT_IMPORT)):
        entry = entry.replace(f"{{{what}!r}}", repr(value))
    return pack({**files, f"{_ENTRY}.py": (entry.encode(), False)})


def _sources(module: str, path: Path) -> tuple[str, dict[str, tuple[bytes, bool]]]:
    """The name that it is imported by there, and the files."""
    if module == "__main__":
        return path.stem, {f"{path.stem}.py": (path.read_bytes(), False)}
    parts = module.split(".")
    if len(parts) == 1 and path.name != "__init__.py":
        return module, {f"{module}.py": (path.read_bytes(), False)}
    depth = len(parts) - (1 if path.name != "__init__.py" else 0)
    root = path.parents[depth]
    found = [one for one in _files(root / parts[0]) if one.suffix == ".py"]
    return module, {one.relative_to(root).as_posix(): (one.read_bytes(), False) for one in found}


def parse_failure(payload: bytes) -> tuple[str, str]:
    """errorType and errorMessage of a payload that says what went wrong."""
    try:
        found = json.loads(payload)
        return str(found.get("errorType", "")), str(found.get("errorMessage", ""))
    except (ValueError, AttributeError):
        return "", payload[:500].decode(errors="replace")
