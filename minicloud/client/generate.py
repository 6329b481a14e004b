"""Makes the sync classes in `sync/` from the async ones: the same names, arguments and docstrings.

    python minicloud/client/generate.py          write them
    sources()                                    what they should be (a test compares)

One rule per form of method:

    async def f(...) -> T                 def f(...) -> T, run on the client's own loop thread
    async generator -> AsyncIterator[T]   def f(...) -> Iterator[T]
    an answer AsyncX of this package      wrapped as X
    property                              passed through
    __aenter__, __aexit__                 __enter__, __exit__
    __anext__                             __iter__, __next__
    a base that is not async              kept: it is plain data, and shared
    "Async only." in the docstring        left out
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
GROUPS = (
    "forward",
    "guest",
    "instances",
    "hosts",
    "instance_types",
    "images",
    "templates",
    "key_pairs",
    "placement_groups",
    "security_groups",
    "identity",
    "tags",
    "consumer",
    "queue_handle",
    "queues",
    "topics",
    "balancers",
    "target_groups",
    "functions",
    "function_triggers",
    "rules",
    "metrics",
    "alarms",
    "logs",
    "groups",
    "policies",
)
_MODELS = """
if TYPE_CHECKING:
    from minicloud.client import {name}
else:
    {name} = lazy("minicloud.client.{name}")
"""
_CLIENT_BODY = '''
class Client:
    """{doc}"""

    def __init__(self, endpoint: str | None = None, **options: Unpack[ClientOptions]) -> None:
        self._bind(AsyncClient(endpoint, **options), LOOP)

    def _bind(self, inner: AsyncClient, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop
{groups}

    @property
    def config(self) -> ClientConfig:
        """What this client was configured with."""
        return self._inner.config

    def with_options(self, *, timeout: float | None = None, retry: float | None = None) -> Client:
        """{with_options}"""
        other = Client.__new__(Client)
        other._bind(self._inner.with_options(timeout=timeout, retry=retry), self._loop)
        return other

    def close(self) -> None:
        """{close}"""
        self._loop.run(self._inner.close())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
'''


def sources() -> dict[str, str]:
    """File name in `sync/` -> text, formatted by ruff (a development dependency)."""
    wrapped = {cls.name[5:]: name for name in GROUPS for cls in _classes(_tree(name))}
    texts = {f"{name}.py": _module(name, wrapped) for name in GROUPS}
    texts["client.py"] = _client(wrapped)
    return {name: _formatted(text, name) for name, text in texts.items()}


def _tree(name: str) -> ast.Module:
    return ast.parse((HERE / f"{name}.py").read_text())


def _classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.startswith("Async")]


def _module(name: str, wrapped: dict[str, str]) -> str:
    tree = _tree(name)
    bodies = [_class(node, wrapped) for node in _classes(tree)]
    own = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    head = [
        f'"""Made from `minicloud/client/{name}.py` by `python minicloud/client/generate.py`; not edited by hand."""',
        "from __future__ import annotations",
        "from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence",
        "from datetime import datetime",
        "from pathlib import Path",
        "from minicloud.client.consumer_options import ConsumerOptions",
        "from minicloud.client.messages import Message, SendResult",
        "from minicloud.client.queue_handle import SendOptions",
        "from minicloud.client.groups import GroupOptions",
        "from minicloud.client.target_groups import HealthOptions",
        "from minicloud.client.functions import FunctionOptions",
        "from typing import TYPE_CHECKING, Any, Unpack",
        f"from minicloud.client.{name} import {', '.join(own)}",
        "from minicloud.client.loop import LoopThread",
        "from minicloud.base.errors import CloudError",
        "from minicloud.client.lazy import lazy",
        *[f"from minicloud.client.sync.{module} import {cls}" for cls, module in wrapped.items() if module != name],
    ]
    models_of = (
        "models",
        "balancer_models",
        "metric_models",
        "log_models",
        "group_models",
        "security_models",
        "function_models",
        "rule_models",
    )
    for models in models_of:
        if re.search(rf"\b{models}\.", "".join(bodies)):
            bodies.insert(0, _MODELS.format(name=models))
    return "\n\n".join(["\n".join(_used(head, "\n".join(bodies))), *bodies])


def _used(head: list[str], body: str) -> list[str]:
    """Only the imports that the body needs: names are spelled out, so that no linter has to be silenced."""
    words = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    kept = []
    for line in head:
        start, found, names = line.partition(" import ")
        if not found or line.startswith(('"""', "from __future__")):
            kept.append(line)
            continue
        if chosen := [name for name in names.split(", ") if name in words]:
            kept.append(f"{start} import {', '.join(chosen)}")
    return kept


def _class(node: ast.ClassDef, wrapped: dict[str, str]) -> str:
    name = node.name[5:]
    bases = [base.removeprefix("Async") for base in map(ast.unparse, node.bases)]
    lines = [f"class {name}({', '.join(bases)}):" if bases else f"class {name}:"]
    lines += [f'    """{ast.get_docstring(node, clean=False)}"""']
    lines += [f"    _inner: {node.name}"]
    lines += [f"    def __init__(self, inner: {node.name}, loop: LoopThread) -> None:"]
    lines += ["        self._inner = inner", "        self._loop = loop"]
    if any(not ast.unparse(base).startswith("Async") for base in node.bases):
        lines += ["        self._share(inner)"]
    for method in node.body:
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and _is_public(method):
            lines += [_method(method, name, wrapped)]
    return "\n".join(lines)


def _is_public(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    if method.name in ("__aenter__", "__aexit__", "__anext__"):
        return True
    doc = ast.get_docstring(method) or ""
    return not method.name.startswith("_") and not doc.startswith(("Internal", "Async only."))


def _method(method: ast.FunctionDef | ast.AsyncFunctionDef, cls: str, wrapped: dict[str, str]) -> str:
    if method.name == "__aenter__":
        return f"    def __enter__(self) -> {cls}:\n        return self"
    if method.name == "__anext__":
        return _iteration(method, cls)
    if method.name == "__aexit__" and len(method.args.args) > 1:
        passed = f"        self._loop.run(self._inner.__aexit__({_passed(method.args)}))"
        return f"    def __exit__({ast.unparse(method.args)}) -> None:\n{passed}"
    if method.name == "__aexit__":
        return "    def __exit__(self, *exc: object) -> None:\n        self.close()"
    returns = ast.unparse(method.returns) if method.returns else "None"
    decorated = ["    @property"] if method.decorator_list else []
    inner = f"self._inner.{method.name}" + ("" if decorated else f"({_passed(method.args)})")
    if returns.startswith("AsyncIterator["):
        returns, answer = returns[5:], f"return self._loop.iterate({inner})"
    elif isinstance(method, ast.FunctionDef) and returns.startswith("Async"):
        returns, answer = returns[5:], f"return {returns[5:]}({inner}, self._loop)"
    elif isinstance(method, ast.FunctionDef):
        answer = f"return {inner}"
    elif returns[5:] in wrapped and returns.startswith("Async"):
        returns, answer = returns[5:], f"return {returns[5:]}(self._loop.run({inner}), self._loop)"
    else:
        answer = f"self._loop.run({inner})" if returns == "None" else f"return self._loop.run({inner})"
    doc = ast.get_docstring(method, clean=False)
    lines = [*decorated, f"    def {method.name}({ast.unparse(method.args)}) -> {returns}:"]
    return "\n".join([*lines, *([f'        """{doc}"""'] if doc else []), f"        {answer}"])


def _iteration(method: ast.FunctionDef | ast.AsyncFunctionDef, cls: str) -> str:
    item = ast.unparse(method.returns)[5:] if method.returns else ""
    lines = [f"    def __iter__(self) -> {cls}:", "        return self", f"    def __next__(self) -> {item}:"]
    lines += ["        try:", f"            return {item}(self._loop.run(self._inner.__anext__()), self._loop)"]
    return "\n".join([*lines, "        except StopAsyncIteration:", "            raise StopIteration from None"])


def _passed(args: ast.arguments) -> str:
    passed = [arg.arg for arg in args.args if arg.arg != "self"]
    passed += [f"*{args.vararg.arg}"] if args.vararg else []
    passed += [f"{arg.arg}={arg.arg}" for arg in args.kwonlyargs]
    passed += [f"**{args.kwarg.arg}"] if args.kwarg else []
    return ", ".join(passed)


def _client(wrapped: dict[str, str]) -> str:
    cls = _classes(_tree("aio"))[0]
    methods = {node.name: node for node in cls.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    found = [
        (node.targets[0].attr, node.value.func.id[5:])
        for node in ast.walk(methods["_bind"])
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Attribute)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
    ]
    head = [
        '"""Made from `minicloud/client/aio.py` by `python minicloud/client/generate.py`; not edited by hand."""',
        "from __future__ import annotations",
        "from typing import Unpack",
        "from minicloud.client.aio import AsyncClient",
        "from minicloud.client.config import ClientConfig, ClientOptions",
        "from minicloud.client.loop import LOOP, LoopThread",
        *[f"from minicloud.client.sync.{wrapped[name]} import {name}" for _, name in found],
    ]
    body = _CLIENT_BODY.format(
        doc=ast.get_docstring(cls, clean=False),
        groups="\n".join(f"        self.{group} = {name}(inner.{group}, loop)" for group, name in found),
        with_options=ast.get_docstring(methods["with_options"]),
        close=ast.get_docstring(methods["close"]),
    )
    return "\n".join(head) + "\n" + body


def _formatted(text: str, name: str) -> str:
    ruff = str(Path(sys.executable).with_name("ruff"))
    for command in (("check", "--fix", "--select", "I", "--quiet"), ("format",)):
        args = [ruff, *command, "--stdin-filename", str(HERE / "sync" / name), "-"]
        text = subprocess.run(args, input=text, capture_output=True, text=True, check=True).stdout
    return text


def main() -> None:
    folder = HERE / "sync"
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").write_text('"""The sync classes; made by `python minicloud/client/generate.py`."""\n')
    for name, text in sources().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
