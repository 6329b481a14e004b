"""The README's lines are understood: every command by the command line, every Python block by Python."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from minicloud.cli.main import cli
from minicloud.cli.session import Session

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SHELL = [
    line for kind, block in BLOCKS if kind != "python" for line in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
]
ENDS = {";", "&&", "|"}


def commands(line: str) -> list[list[str]]:
    """The arguments of each `minicloud` in a line of shell."""
    found: list[list[str]] = [[]]
    lexer = shlex.shlex(line.replace("\\\n", " "), posix=True, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, "#"
    for word in lexer:
        if word in ENDS:
            found.append([])
        else:
            found[-1].append(word)
    return [words[1:] for words in found if words[:1] == ["minicloud"]]


def understand(args: list[str]) -> None:
    """As far as a command goes before it does anything. Raises click.UsageError."""
    command: click.Command = cli
    context = cli.make_context("minicloud", list(args), obj=Session())
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        command, context = found, found.make_context(name, rest, parent=context)


@pytest.mark.parametrize("line", SHELL)
def test_every_command_is_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hello").mkdir()
    monkeypatch.chdir(tmp_path)
    for args in commands(line):
        understand(args)


def test_the_lines_are_found_and_a_wrong_one_is_not_understood() -> None:
    found = [args for line in SHELL for args in commands(line)]
    assert len(found) > 60 and ["target-group", "health", "app"] in found
    for wrong in (["instance", "lunch"], ["rule", "put", "up", "--no-such"], ["topic", "publish"]):
        with pytest.raises(click.UsageError):
            understand(wrong)


@pytest.mark.parametrize("block", [block for kind, block in BLOCKS if kind == "python"])
def test_every_python_block_compiles(block: str) -> None:
    indented = "".join(f"    {line}\n" for line in block.splitlines())
    compile(f"async def main():\n{indented}", "README.md", "exec")
