"""What the log settings and the tracing of a function change in its log, with real processes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from minicloud.function.ports import LogSettings
from tests.contract.function_bench import Bench, invocation, opened
from tests.contract.test_environments import PYTHON

FINE = "def handler(e, c):\n  return e\n"
DIES = "import os\ndef handler(e, c):\n  os._exit(3)\n"
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled="
SAYS = """
import logging
def handler(event, context):
    print('{"level": "debug", "message": "printed debug"}')
    print('{"level": "WARNING", "message": "printed warning"}')
    print('{"level": 7, "message": "no level"}')
    print("plain")
    logging.getLogger().warning("logged warning")
    logging.getLogger().critical("logged critical")
    print('{"level": "error", "message": "without an end"}', end="")
"""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path) as made:
        yield made


def as_json(system: str, application: str = "INFO") -> LogSettings:
    return LogSettings("/aws/lambda/f", "JSON", application, system)


def said(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.decode().splitlines()]


LEVELS = {
    ("DEBUG", FINE): ["start", "runtimeDone", "report"],
    ("INFO", FINE): ["start", "report"],
    ("WARN", FINE): [],
    ("DEBUG", DIES): ["start", "runtimeDone", "report"],
    ("INFO", DIES): ["start", "runtimeDone", "report"],
    ("WARN", DIES): ["runtimeDone", "report"],
}


@pytest.mark.parametrize(("level", "code"), LEVELS)
async def test_the_platform_says_what_its_level_lets_through(bench: Bench, level: str, code: str) -> None:
    outcome = await bench.invoke(bench.spec(code, log=as_json(level)))
    tail = said(outcome.tail)
    assert [one["type"] for one in tail] == [f"platform.{kind}" for kind in LEVELS[level, code]]
    if code == DIES:
        assert tail[-1]["record"]["status"] == "error"
        assert tail[-1]["record"]["errorType"] == "Runtime.ExitError"
    kept = [json.loads(line) for line in bench.lines.all()]
    assert [one["type"] for one in kept if "init" not in one["type"]] == [one["type"] for one in tail]
    inits = [one["type"] for one in kept if "init" in one["type"]]
    assert inits == (["platform.initStart", "platform.initRuntimeDone", "platform.initReport"] * (level == "DEBUG"))


async def test_provisioned_environments_report_their_init_at_info(bench: Bench) -> None:
    assert await bench.host.prepare(bench.spec(FINE, log=as_json("INFO")), 1) == 1
    (report,) = [json.loads(line) for line in bench.lines.all()]
    assert report["type"] == "platform.initReport"
    assert report["record"]["initializationType"] == "provisioned-concurrency"
    assert report["record"]["metrics"]["durationMs"] > 0


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        ("TRACE", "printed debug|printed warning|no level|plain|logged warning|logged critical|without an end"),
        ("INFO", "printed warning|no level|plain|logged warning|logged critical|without an end"),
        ("WARN", "printed warning|logged warning|logged critical|without an end"),
        ("ERROR", "logged critical|without an end"),
        ("FATAL", "logged critical"),
    ],
)
async def test_lines_of_the_function_below_its_level_are_left_out(bench: Bench, level: str, kept: str) -> None:
    outcome = await bench.invoke(bench.spec(SAYS, log=as_json("WARN", level)))

    def words(lines: list[str]) -> list[str]:
        return [json.loads(line)["message"] if line.startswith("{") else line for line in lines]

    assert words(outcome.tail.decode().splitlines()) == kept.split("|")
    assert words(bench.lines.all()) == kept.split("|")


async def test_custom_runtimes_are_filtered_by_what_they_print(bench: Bench) -> None:
    text = (Path(__file__).parent / "data" / "bootstrap.py").read_text()
    says = "import sys\nfor level in ('DEBUG', 'ERROR'): print('{\"level\": \"%s\"}' % level, flush=True)\n"
    bootstrap = f"#!{PYTHON}\n{says}{text}"
    spec = bench.spec({"bootstrap": bootstrap}, runtime="provided.al2023", log=as_json("WARN"))
    assert await bench.result(spec, 1)
    assert bench.lines.all() == ['{"level": "ERROR"}']


async def test_plain_text_has_no_levels(bench: Bench) -> None:
    outcome = await bench.invoke(bench.spec(SAYS, log=LogSettings("/aws/lambda/f")))
    lines = outcome.tail.decode().splitlines()
    assert '{"level": "debug", "message": "printed debug"}' in lines
    assert lines[0].startswith("START ") and lines[-2].startswith("END ") and lines[-1].startswith("REPORT ")


async def test_node_says_its_errors_at_their_level(bench: Bench) -> None:
    runtimes = [name for name in bench.host.runtimes() if name.startswith("nodejs")]
    if not runtimes:
        pytest.skip("node is not installed")
    code = "exports.handler = async () => { console.debug('d'); console.warn('w'); throw new TypeError('no'); };"
    log = as_json("WARN", "WARN")
    spec = bench.spec({"index.js": code}, runtime=runtimes[0], handler="index.handler", log=log)
    warning, error = said((await bench.invoke(spec)).tail)
    assert (warning["level"], warning["message"]) == ("WARN", "w")
    assert (error["level"], error["message"]["errorType"]) == ("ERROR", "TypeError")


async def test_an_invocation_that_is_traced_is_told_and_reported(bench: Bench) -> None:
    code = "import os\ndef handler(e, c):\n  return os.environ.get('_X_AMZN_TRACE_ID')\n"
    spec = bench.spec(code)

    async def run(trace: str, **changes: Any) -> tuple[object, str]:
        outcome = await bench.host.invoke(spec, invocation(spec, trace_id=trace, **changes))
        return json.loads(outcome.payload), outcome.tail.decode().splitlines()[-1]

    seen, report = await run(TRACE + "1")
    assert seen == TRACE + "1"
    traced = "\tXRAY TraceId: 1-5759e988-bd862e3fe1be46a994272793\tSegmentId: 53995c3f42cd8ad8\tSampled: true\t"
    assert report.endswith(traced)
    seen, report = await run(TRACE + "0")
    assert seen == TRACE + "0" and "XRAY" not in report
    outcome = await bench.host.invoke(
        other := bench.spec(code, log=as_json("INFO")), invocation(other, trace_id=TRACE + "1")
    )
    tracing = said(outcome.tail)[-1]["record"]["tracing"]
    assert tracing == {"spanId": "53995c3f42cd8ad8", "type": "X-Amzn-Trace-Id", "value": TRACE + "1"}


async def test_the_trace_of_one_invocation_is_not_the_next_ones(bench: Bench) -> None:
    spec = bench.spec("import os\ndef handler(e, c):\n  return os.environ.get('_X_AMZN_TRACE_ID')\n")
    first = await bench.host.invoke(spec, invocation(spec, trace_id=TRACE + "1"))
    assert json.loads(first.payload) == TRACE + "1"
    odd = await bench.host.invoke(spec, invocation(spec, trace_id="a\0b\nc"))
    assert json.loads(odd.payload) == "a b c"  # no environment ends by what a caller says
    assert await bench.result(spec) is None
