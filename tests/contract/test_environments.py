"""Execution environments with real processes: what a function gets, what comes of it, and how environments live."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from minicloud.base.errors import InvalidRequest
from minicloud.environment.code_store import CodeStore
from minicloud.function.errors import TooManyRequests
from minicloud.function.ports import LogSettings
from tests.contract.function_bench import Bench, invocation, opened

PYTHON = os.path.realpath(sys.executable)  # as environments see it
ECHO = "def handler(event, context):\n    return event\n"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path) as made:
        yield made


async def test_an_event_goes_in_and_the_result_comes_out(bench: Bench) -> None:
    event = {"text": "ä\u2028", "numbers": [1, 2.5, None, True], "big": "x" * 300_000}
    assert await bench.result(bench.spec(ECHO), event) == event


async def test_an_environment_is_used_again_and_one_invocation_at_a_time(bench: Bench) -> None:
    spec = bench.spec(
        "import os\ncount = 0\ndef handler(e, c):\n  global count\n  count += 1\n  return [os.getpid(), count]\n"
    )
    first, second = await bench.result(spec), await bench.result(spec)
    assert (first[1], second[1]) == (1, 2)
    await bench.until(lambda: bench.host.counts(spec.arn).idle == 1)


async def test_invocations_at_once_are_in_environments_of_their_own(bench: Bench) -> None:
    spec = bench.held()
    calls = asyncio.gather(*(bench.result(spec, "wait") for _ in range(5)))
    await bench.begun(5)
    bench.let_go(spec)
    assert len({name for name, _ in await calls}) == 5
    await bench.until(lambda: bench.host.counts(spec.arn) == (0, 5, 0))


async def test_short_invocations_wait_for_a_warm_environment_rather_than_for_a_new_one(bench: Bench) -> None:
    spec = bench.spec(ECHO)
    for _ in range(30):
        await bench.result(spec)
    (fleet,) = bench.host._fleets.values()
    fleet._cold_s = 60.0  # as if a new one took that long: the machine may be as busy as it likes
    await asyncio.gather(*(bench.result(spec) for _ in range(8)))
    await bench.until(lambda: bench.host.counts(spec.arn) == (0, 1, 0))


async def test_the_environment_is_lambdas(bench: Bench) -> None:
    code = (
        "import os, sys\ndef handler(e, c):\n  return {'env': dict(os.environ), 'path': sys.path, 'cwd': os.getcwd()}\n"
    )
    spec = bench.spec(code, env=(("MINE", "1"), ("AWS_REGION", "mars-1")), layers=(bench.package({"python/x.py": ""}),))
    said = await bench.result(spec)
    env = said["env"]
    assert env["MINE"] == "1"
    assert env["AWS_REGION"] == env["AWS_DEFAULT_REGION"] == "us-east-1"  # reserved: the user's own does not count
    assert env["_HANDLER"] == "app.handler"
    assert env["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.11"
    assert env["AWS_LAMBDA_FUNCTION_NAME"] == "f"
    assert env["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
    assert env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert env["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/f"
    assert env["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert env["TZ"] == ":UTC"
    assert said["cwd"] == env["LAMBDA_TASK_ROOT"]
    assert said["path"][0] == env["LAMBDA_TASK_ROOT"]
    assert "/opt/python" in said["path"][2]


async def test_the_context_tells_what_is_known_of_the_invocation(bench: Bench) -> None:
    code = """
def handler(event, c):
    left = c.get_remaining_time_in_millis()
    return [c.aws_request_id, c.invoked_function_arn, c.function_name, c.function_version, c.memory_limit_in_mb,
            c.log_stream_name, left, c.client_context.custom, c.client_context.client.app_title,
            c.identity.cognito_identity_id]
"""
    spec = bench.spec(code, timeout_s=7)
    client = json.dumps({"custom": {"a": "bä😀"}, "client": {"app_title": "T"}}, ensure_ascii=False)
    asked = invocation(spec, arn=f"{spec.arn}:live", client_context=client)
    outcome = await bench.host.invoke(spec, asked)
    said = json.loads(outcome.payload)
    assert said[:5] == [asked.request_id, f"{spec.arn}:live", "f", "$LATEST", "256"]
    assert "/[$LATEST]" in said[5]
    assert 6_000 < said[6] <= 7_000
    assert said[7:] == [{"a": "bä😀"}, "T", None]


async def test_log_lines_and_the_tail(bench: Bench) -> None:
    code = """
import logging, sys
logging.getLogger().warning("while it comes up")
def handler(event, context):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    logging.getLogger(__name__).error("an error\\nof two lines")
    logging.getLogger().info("not at this level")
    print("without an end", end="")
"""
    spec = bench.spec(code)
    asked = invocation(spec)
    outcome = await bench.host.invoke(spec, asked)
    tail = outcome.tail.decode().splitlines()
    assert tail[0] == f"START RequestId: {asked.request_id} Version: $LATEST"
    assert tail[1:3] == ["to stdout", "to stderr"]
    assert tail[3].startswith("[ERROR]\t")
    assert f"Z\t{asked.request_id}\tan error" in tail[3]
    assert "without an end" in tail
    assert f"END RequestId: {asked.request_id}" in tail
    report = tail[-1]
    assert report.startswith(f"REPORT RequestId: {asked.request_id}\tDuration: ")
    assert "\tMemory Size: 256 MB\tMax Memory Used: " in report
    assert "\tInit Duration: " in report
    (stream,) = bench.lines.streams
    assert stream.startswith("000000000000/aws/lambda/f/")
    assert "while it comes up" in bench.lines.all()[0]
    assert "an error\nof two lines" in bench.lines.all()[4]
    again = await bench.invoke(spec)
    assert b"Init Duration" not in again.tail
    assert again.init_ms is None


async def test_json_logs(bench: Bench) -> None:
    code = "import logging\ndef handler(e, c):\n  logging.getLogger().info('hello', extra={'n': 1})\n"
    spec = bench.spec(code, log=LogSettings("/x", "JSON", "INFO", "INFO"))
    outcome = await bench.invoke(spec)
    start, hello, report = (json.loads(line) for line in outcome.tail.decode().splitlines())
    assert start["type"] == "platform.start"
    assert (hello["level"], hello["message"], hello["n"]) == ("INFO", "hello", 1)
    assert report["type"] == "platform.report"
    assert report["record"]["metrics"]["memorySizeMB"] == 256


async def test_the_tail_is_four_kibibytes(bench: Bench) -> None:
    spec = bench.spec("def handler(e, c):\n  for i in range(20_000): print('line', i)\n")
    outcome = await bench.invoke(spec)
    assert len(outcome.tail) == 4_096
    assert outcome.tail.decode().splitlines()[-1].startswith("REPORT")
    assert "line 19999" in bench.lines.all()
    assert len(bench.lines.all()) == 20_003


FAILURES = {
    "raises": ("def handler(e, c):\n  raise ValueError('no')", "ValueError", "no"),
    "not_json": (
        "def handler(e, c):\n  return {1}",
        "Runtime.MarshalError",
        "Unable to marshal response: Object of type set is not JSON serializable",
    ),
    "exits": (
        "import sys\ndef handler(e, c):\n  sys.exit(3)",
        "Runtime.ExitError",
        "RequestId: ID Error: Runtime exited with error: exit status 3",
    ),
    "exits_well": (
        "import os\ndef handler(e, c):\n  os._exit(0)",
        "Runtime.ExitError",
        "RequestId: ID Error: Runtime exited without providing a reason",
    ),
    "killed": (
        "import os\ndef handler(e, c):\n  os.kill(os.getpid(), 9)",
        "Runtime.ExitError",
        "RequestId: ID Error: Runtime exited with error: signal: killed",
    ),
    "crashes": (
        "import ctypes\ndef handler(e, c):\n  ctypes.string_at(0)",
        "Runtime.ExitError",
        "RequestId: ID Error: Runtime exited with error: signal: segmentation fault",
    ),
    "slow": (
        "import time\ndef handler(e, c):\n  time.sleep(60)",
        "Sandbox.Timedout",
        "RequestId: ID Error: Task timed out after 1.00 seconds",
    ),
    "deaf": (
        "import time, signal\ndef handler(e, c):\n  signal.signal(15, signal.SIG_IGN)\n  while True: pass",
        "Sandbox.Timedout",
        "RequestId: ID Error: Task timed out after 1.00 seconds",
    ),
    "no_module": (
        "import nowhere\n",
        "Runtime.ImportModuleError",
        "Unable to import module 'app': No module named 'nowhere'",
    ),
    "no_handler": ("x = 1\n", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
    "no_python": (
        "def handler(e, c)\n  pass",
        "Runtime.UserCodeSyntaxError",
        "Syntax error in module 'app': expected ':' (app.py, line 1)",
    ),
    "exits_at_once": (
        "import sys; sys.exit(7)",
        "Runtime.ExitError",
        "RequestId: ID Error: Runtime exited with error: exit status 7",
    ),
    "raises_at_once": ("1 / 0\n", "ZeroDivisionError", "division by zero"),
    "too_large": (
        "def handler(e, c):\n  return 'x' * 6_300_000",
        "Function.ResponseSizeTooLarge",
        "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    ),
    "far_too_large": (
        "def handler(e, c):\n  return 'x' * 100_000_000",
        "Function.ResponseSizeTooLarge",
        "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    ),
    "closes_its_socket": (
        "import os\ndef handler(e, c):\n  os.closerange(3, 64)",
        "Runtime.ExitError",
        "RequestId: ID Error: Runtime exited with error: exit status 1",
    ),
    "closes_and_stays": (
        "import os, time\ndef handler(e, c):\n  os.closerange(3, 64)\n  time.sleep(60)",
        "Runtime.ExitError",
        "RequestId: ID Error: Runtime exited with error: signal: killed",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failures_have_awss_types_and_words_and_cost_nobody_else(bench: Bench, name: str) -> None:
    code, kind, message = FAILURES[name]
    neighbour = bench.spec(ECHO)
    await bench.result(neighbour, 1)
    spec = bench.spec(code, timeout_s=1 if kind == "Sandbox.Timedout" else 30, memory_mib=1024)
    asked = invocation(spec)
    outcome = await bench.host.invoke(spec, asked)
    said = json.loads(outcome.payload)
    assert outcome.function_error == "Unhandled"
    assert (said["errorType"], said["errorMessage"]) == (kind, message.replace("ID", asked.request_id))
    assert outcome.tail.decode().splitlines()[-1].startswith(f"REPORT RequestId: {asked.request_id}\t")
    assert await bench.result(neighbour, 2) == 2
    await bench.until(lambda: bench.host.counts(neighbour.arn).idle == 1)


async def test_stack_traces_begin_in_the_functions_code(bench: Bench) -> None:
    outcome = await bench.invoke(bench.spec("def f():\n  raise KeyError('k')\ndef handler(e, c):\n  f()\n"))
    said = json.loads(outcome.payload)
    assert [line.split(",")[1].strip() for line in said["stackTrace"]] == ["line 4", "line 2"]
    assert said["requestId"]


async def test_after_a_failure_of_the_process_the_next_invocation_has_a_new_one(bench: Bench) -> None:
    code = """
import os
def handler(event, context):
    if event == 'die':
        os._exit(1)
    return os.path.exists('/tmp/mark') or open('/tmp/mark', 'w').write('x')
"""
    spec = bench.spec(code)
    assert await bench.result(spec) == 1
    assert await bench.result(spec) is True
    await bench.error(spec, "die")
    assert await bench.result(spec) == 1  # another /tmp


async def test_custom_runtimes_and_what_their_packages_lack(bench: Bench) -> None:
    bootstrap = f"#!{PYTHON}\n" + (Path(__file__).parent / "data" / "bootstrap.py").read_text()
    spec = bench.spec({"bootstrap": bootstrap}, runtime="provided.al2023", handler="anything")
    assert await bench.result(spec, [1]) == {"handler": "anything", "event": [1]}
    kind, text = await bench.error(bench.spec({"other": ""}, runtime="provided"))
    assert kind == "Runtime.InvalidEntrypoint"
    assert text.endswith("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
    from_layer = bench.package({"bootstrap": bootstrap})
    assert await bench.result(bench.spec({"x": ""}, runtime="provided", layers=(from_layer,)), 2)


async def test_layers_lie_over_one_another(bench: Bench) -> None:
    low = bench.package({"python/shared.py": "which = 'low'", "python/only_low.py": "here = True"})
    high = bench.package({"python/shared.py": "which = 'high'"})
    spec = bench.spec(
        "import shared, only_low\ndef handler(e, c):\n  return [shared.which, only_low.here]\n", layers=(low, high)
    )
    assert await bench.result(spec) == ["high", True]


async def test_a_functions_own_module_wins_over_one_that_the_zygote_has_loaded(bench: Bench) -> None:
    files = {"app.py": "import queue\ndef handler(e, c):\n  return queue.mine\n", "queue.py": "mine = 'yes'"}
    assert await bench.result(bench.spec(files)) == "yes"


async def test_node(bench: Bench) -> None:
    runtimes = [name for name in bench.host.runtimes() if name.startswith("nodejs")]
    if not runtimes:
        pytest.skip("node is not installed")
    code = """exports.handler = async (e, c) => {
        console.log('hi');
        if (e.fail) throw new TypeError('no');
        return {e, id: c.awsRequestId};
    };"""
    spec = bench.spec({"index.js": code}, runtime=runtimes[0], handler="index.handler")
    outcome = await bench.invoke(spec, {"a": 1})
    assert json.loads(outcome.payload)["e"] == {"a": 1}
    assert b"\tINFO\thi\n" in outcome.tail
    assert await bench.error(spec, {"fail": True}) == ("TypeError", "no")
    module = "export const handler = (e, c, done) => done(null, e + 1);"
    assert await bench.result(bench.spec({"m.mjs": module}, runtime=runtimes[0], handler="m.handler"), 1) == 2
    assert (await bench.error(bench.spec({"m.js": ""}, runtime=runtimes[0], handler="m.handler")))[
        0
    ] == "Runtime.HandlerNotFound"


async def test_a_streamed_response_is_passed_on_while_it_is_made(bench: Bench) -> None:
    runtimes = [name for name in bench.host.runtimes() if name.startswith("nodejs")]
    if not runtimes:
        pytest.skip("node is not installed")
    code = """exports.handler = awslambda.streamifyResponse(async (e, s) => {
        s.setContentType('text/plain');
        s.write('one ');
        s.write('two');
        s.end();
    });"""
    spec = bench.spec({"index.js": code}, runtime=runtimes[0], handler="index.handler")
    sink = Collected()
    outcome = await bench.invoke(spec, sink=sink)
    assert (outcome.payload, outcome.function_error) == (b"", "")
    assert (sink.kind, b"".join(sink.chunks)) == ("text/plain", b"one two")
    whole = Collected()
    await bench.invoke(bench.spec(ECHO), 5, sink=whole)
    assert whole.chunks == [b"5"]


class Collected:
    def __init__(self) -> None:
        self.kind = ""
        self.chunks: list[bytes] = []

    async def open(self, content_type: str) -> None:
        self.kind = content_type

    async def write(self, chunk: bytes) -> None:
        self.chunks.append(chunk)


async def test_the_published_runtime_client_runs_unmodified(bench: Bench) -> None:
    """awslambdaric, as it comes from PyPI, in a custom runtime."""
    awslambdaric = pytest.importorskip("awslambdaric")
    site = Path(awslambdaric.__file__).parents[1]
    bootstrap = f"""#!{PYTHON}
import sys
sys.path.insert(0, '/var/task')
from awslambdaric.__main__ import main
main(['', 'app.handler'])
"""
    code = """
def handler(event, context):
    print('logged')
    if event == 'fail':
        raise ValueError('no')
    return [event, context.aws_request_id]
"""
    files: dict[str, str | bytes] = {"bootstrap": bootstrap, "app.py": code}
    for pattern in ("awslambdaric/**/*", "simplejson/**/*", "snapshot_restore_py/**/*", "runtime_client*.so"):
        for path in site.glob(pattern):
            if path.is_file() and "__pycache__" not in path.parts:
                files[str(path.relative_to(site))] = path.read_bytes()
    spec = bench.spec(files, runtime="provided.al2023", memory_mib=512)
    asked = invocation(spec, "x")
    outcome = await bench.host.invoke(spec, asked)
    assert json.loads(outcome.payload) == ["x", asked.request_id], outcome
    assert b"logged" in outcome.tail
    assert await bench.error(spec, "fail") == ("ValueError", "no")
    assert (await bench.result(spec, "again"))[0] == "again"
    await bench.until(lambda: bench.host.counts(spec.arn).idle == 1)


async def test_prepared_environments_are_there_and_come_back(bench: Bench) -> None:
    spec = bench.spec(
        "import os\ndef handler(e, c):\n  if e: os._exit(1)\n  return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\n"
    )
    assert await bench.host.prepare(spec, 3) == 3
    assert bench.host.counts(spec.arn) == (0, 3, 0)
    assert await bench.result(spec) == "provisioned-concurrency"
    await bench.error(spec, "die")
    assert await bench.host.prepare(spec, 3) == 3
    assert await bench.host.prepare(spec, 0) == 3  # they end when they have been idle


async def test_prepare_tells_when_it_cannot(bench: Bench) -> None:
    assert await bench.host.prepare(bench.spec("1/0\n"), 2) == 0


async def test_retired_environments_end_and_busy_ones_afterwards(bench: Bench) -> None:
    spec = bench.held()
    busy = asyncio.ensure_future(bench.result(spec, "wait"))
    await bench.begun(1)
    (idle, _) = await bench.result(spec)
    await bench.until(lambda: bench.host.counts(spec.arn) == (1, 1, 0))
    await bench.host.retire(spec.arn, "$LATEST", "2")
    new = replace(spec, revision="2", code=bench.package({"app.py": "def handler(e, c):\n  return 'new'\n"}))
    assert await bench.result(new) == "new"
    await bench.until(lambda: bench.host.counts(spec.arn) == (1, 1, 0))
    bench.let_go(spec)
    assert (await busy)[0] != idle
    await bench.until(lambda: bench.host.counts(spec.arn) == (0, 1, 0))


async def test_idle_environments_end(tmp_path: Path) -> None:
    async with opened(tmp_path, idle_s=0.2) as bench:
        spec = bench.spec(ECHO)
        await bench.result(spec)
        await bench.until(lambda: bench.host.counts() == (0, 0, 0))
        assert await bench.result(spec, 1) == 1


async def test_who_goes_away_takes_the_environment_along(bench: Bench) -> None:
    spec = bench.spec("import time\ndef handler(e, c):\n  time.sleep(e)\n  return e\n")
    await bench.result(spec, 0)
    await bench.until(lambda: bench.host.counts(spec.arn).idle == 1)
    call = asyncio.ensure_future(bench.invoke(spec, 30))
    await bench.until(lambda: len(bench.lines.all()) == 4)  # it has the event
    call.cancel()
    await bench.until(lambda: bench.host.counts(spec.arn) == (0, 0, 0))


async def test_idle_environments_give_way_and_where_nothing_is_left_the_caller_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path, memory_mib=256) as bench:  # four times that may be promised
        specs = [bench.spec(ECHO) for _ in range(6)]
        for spec in specs:
            await bench.result(spec)
        assert bench.host.counts().idle <= 4
        slow = bench.spec("import time\ndef handler(e, c):\n  time.sleep(1)\n", memory_mib=1024)
        calls = [asyncio.ensure_future(bench.invoke(slow)) for _ in range(2)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in done if isinstance(one, Exception)] == [TooManyRequests]


async def test_what_cannot_run_here_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidRequest, match="not installed") as refused:
        await bench.invoke(bench.spec(ECHO, runtime="python2.7"))
    assert refused.value.code == "InvalidRuntimeException"
    spec = bench.spec(ECHO)
    broken = bench.directory / "broken"
    broken.write_bytes(b"no zip")
    with pytest.raises(InvalidRequest, match="unzip"):
        await bench.invoke(replace(spec, code=spec.code._replace(sha256="0" * 64, path=str(broken))))


async def test_without_walls_it_is_a_plain_process(tmp_path: Path) -> None:
    async with opened(tmp_path, isolated=False) as bench:
        spec = bench.spec(
            "import os\ndef handler(e, c):\n  return [e, os.getcwd() == os.environ['LAMBDA_TASK_ROOT']]\n"
        )
        assert await bench.result(spec, 1) == [1, True]
        assert any("plain processes" in warning for warning in bench.host.warnings)
        dead = bench.spec("import time\ndef handler(e, c):\n  time.sleep(60)\n", timeout_s=1)
        assert (await bench.error(dead))[0] == "Sandbox.Timedout"
        await bench.until(lambda: bench.host.counts(dead.arn) == (0, 0, 0))


async def test_code_that_nobody_needs_is_removed_and_unpacked_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    store = CodeStore(tmp_path / "store")
    one, other = bench.package({"app.py": "1"}), bench.package({"app.py": "2"})
    layers = (bench.package({"a": ""}), bench.package({"b": ""}))
    name, _ = await store.get(one, ())
    _, laid = await store.get(other, layers)
    assert store.ready(one, ()) == (name, "")
    await store.sweep(CodeStore.names(other, layers))
    assert (store.directory / name).exists()  # it was asked for a moment ago
    await store.sweep(CodeStore.names(other, layers), kept_s=-1.0)
    assert not (store.directory / name).exists()
    assert sorted(path.name for path in (store.directory / laid).iterdir()) == ["a", "b"]
    assert store.ready(one, ()) is None
    assert await store.get(one, ()) == (name, "")
    assert (store.directory / name / "app.py").read_text() == "1"
