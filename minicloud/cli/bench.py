"""`minicloud bench`: the benchmarks of the source tree: files with `main(argv)` and their question as first line."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import click

import minicloud
from minicloud.cli.output import write_json, write_table
from minicloud.cli.session import Session, common_options


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@common_options
@click.pass_context
def bench(ctx: click.Context, name: str | None, arguments: tuple[str, ...]) -> int:
    """List benchmarks, or run one."""
    found = benchmarks()
    if name is None:
        listed = [{"name": key, "question": _question(path)} for key, path in found.items()]
        if ctx.ensure_object(Session).json:
            write_json(listed)
        else:
            write_table(["NAME", "QUESTION"], [[item["name"], item["question"]] for item in listed])
        return 0
    if name not in found:
        raise click.UsageError(f"no benchmark {name!r}; there are: {', '.join(found) or 'none'}")
    return run(found[name], list(arguments))


def folder() -> Path:
    """`benchmarks/` beside the package. Raises click.ClickException where there is no source tree."""
    found = Path(minicloud.__file__).resolve().parents[1] / "benchmarks"
    if not found.is_dir():
        raise click.ClickException("the benchmarks are part of the source tree, not of the installed package")
    return found


def benchmarks() -> dict[str, Path]:
    return {
        path.stem: path for path in sorted(folder().glob("*.py")) if not path.stem.startswith("_") and _has_main(path)
    }


def run(path: Path, arguments: list[str]) -> int:
    """The benchmark's exit code."""
    sys.path.insert(0, str(path.parent))  # benchmarks share helpers
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    code = module.main(arguments)
    return code if isinstance(code, int) else 0


def _has_main(path: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in ast.parse(path.read_text()).body)


def _question(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
