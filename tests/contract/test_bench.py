"""`minicloud bench`: every benchmark of the source tree can be run by it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from minicloud.cli.bench import benchmarks
from minicloud.cli.main import run

FOUND = benchmarks()


@pytest.mark.parametrize("path", FOUND.values(), ids=lambda path: str(path.stem))
def test_a_benchmark_takes_the_words_behind_its_name(path: Path) -> None:
    """`main(argv)`, and nothing in it reads the words of `minicloud bench` itself."""
    tree = ast.parse(path.read_text())
    (entry,) = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "main"]
    assert len(entry.args.args) == 1 == len(entry.args.defaults), f"{path.name}: main(argv=None)"
    name = entry.args.args[0].arg
    calls = [one for one in ast.walk(entry) if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute)]
    parsed = [one for one in calls if isinstance(one.func, ast.Attribute) and one.func.attr == "parse_args"]
    assert parsed, f"{path.name}: its options"
    for call in parsed:
        assert [ast.unparse(one) for one in call.args] == [name], f"{path.name}: parse_args({name})"


def test_they_are_listed_with_their_questions_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench"]) == 0
    listed = capsys.readouterr().out.splitlines()
    for name in ("launch", "placement", "rpc", "memory", "balancers", "autoscaler", "policies", "reaction"):
        (line,) = [one for one in listed if one.split()[:1] == [name]]
        assert line.count(" ") > 5, "what it asks"
    assert run(["bench", "policies", "--traces", "/nowhere"]) == 0
    assert capsys.readouterr().out == "skipped: the traces (shared/data/traces) are not here\n"
    assert run(["bench", "nothing"]) == 2
