"""What a function can reach from inside: nothing of the host's, nothing of another's. Nothing outlives the host."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minicloud.sandbox.cgroup import Cgroup, Cgroups
from minicloud.sandbox.cgroup_v1 import V1Cgroup
from minicloud.sandbox.cgroup_v2 import V2Cgroup
from tests.contract.function_bench import Bench, isolated_or_skip, opened
from tests.machine_time import within
from tests.real_cloud import started
from tests.turns import until

HERE = Path(__file__).parent
# Where the first process is ours, and a function's children may see it.
OTHER_HERE = {"pids_seen"}
RUN = """
import json, subprocess, sys
def handler(event, context):
    done = subprocess.run([sys.executable, "/var/task/escapes.py", event["secret"], str(event["pid"])],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return [done.stdout, done.stderr]
"""


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("MINICLOUD_TEST_SECRET", "x")
    async with opened(tmp_path) as made:
        isolated_or_skip(made)
        yield made


async def test_the_escapes_of_instances_are_closed_to_functions(bench: Bench) -> None:
    secret = bench.directory / "secret"
    secret.write_text("s")
    files = {"app.py": RUN, "escapes.py": (HERE / "sandbox_escapes.py").read_text()}
    out, err = await bench.result(bench.spec(files), {"secret": str(secret), "pid": os.getpid()})
    assert out, err
    results = {name: text for name, text in json.loads(out).items() if name not in OTHER_HERE}
    assert len(results) > 30
    assert not [f"{name}: {text}" for name, text in results.items() if not text.startswith("denied")]


async def test_what_is_there_is_little_and_can_not_be_written_to(bench: Bench) -> None:
    code = """
import os
def tried(path):
    try:
        open(path, "w").close()
        return path
    except OSError:
        return ""
def handler(event, context):
    places = ["/x", "/var/task/x", "/opt/x", "/usr/x", "/etc/x", "/var/runtime/x", "/dev/x", "/mnt/x", "/old/x"]
    return {"written": [path for path in map(tried, places) if path], "top": sorted(os.listdir("/")),
            "inside": {path: os.listdir(path) for path in ("/mnt", "/old", "/root", "/run", "/opt")},
            "pids": [name for name in os.listdir("/proc") if name.isdigit()], "uid": os.getuid(),
            "network": os.listdir("/proc/self/net") and open("/proc/net/dev").read().count(":"),
            "stdout": os.access("/dev/stdout", os.W_OK)}
"""
    said = await bench.result(bench.spec(code))
    assert said["written"] == []
    assert {"usr", "var", "tmp", "proc"} <= set(said["top"])
    assert not {"home", "srv", "sys", "boot"} & set(said["top"])
    assert [path for path in ("/mnt", "/old", "/run", "/opt") if said["inside"][path]] == []
    assert said["pids"] == ["1", "2"]
    assert said["network"] == 1  # loopback, its own
    assert said["uid"] != 0 or os.geteuid() != 0
    assert said["stdout"]


async def test_functions_of_others_are_out_of_reach(bench: Bench) -> None:
    """Their /tmp, their code, their processes, their sockets."""
    keep = """
import os, socket
server = socket.socket(); server.bind(("127.0.0.1", 5555)); server.listen()
hidden = socket.socket(socket.AF_UNIX); hidden.bind("\\0hidden"); hidden.listen()
def handler(event, context):
    open("/tmp/mine", "w").write("secret")
    return os.getuid()
"""
    look = """
import os, socket
def connects(family, address):
    sock = socket.socket(family)
    sock.settimeout(1)
    try:
        sock.connect(address)
        return True
    except OSError:
        return False
def handler(event, context):
    found = [os.path.join(top, name) for top, _, names in os.walk("/") for name in names if name in ("mine", "keep.py")]
    return [found, connects(socket.AF_INET, ("127.0.0.1", 5555)), connects(socket.AF_UNIX, "\\0hidden"), os.getuid()]
"""
    victim = bench.spec({"keep.py": keep}, handler="keep.handler", account="111111111111")
    uid = await bench.result(victim)
    for account in ("222222222222", "111111111111"):
        found, over_tcp, over_unix, other = await bench.result(bench.spec(look, account=account))
        assert (found, over_tcp, over_unix) == ([], False, False)
        assert other != uid or os.geteuid() != 0


async def test_nothing_of_others_is_left_in_the_memory_that_an_environment_is_forked_with(bench: Bench) -> None:
    look = r"""
import re
def handler(event, context):
    found = set()
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for words in (line.split() for line in maps):
            low, high = (int(part, 16) for part in words[0].split("-"))
            try:
                memory.seek(low)
                found.update(re.findall(rb"MARK-[0-9a-f]{32}", memory.read(high - low)))
            except (OSError, ValueError, OverflowError):
                continue
    return sorted(one.decode() for one in found)
"""
    for account in ("111111111111", "222222222222", "333333333333"):
        marks = tuple((f"SECRET{number}", f"MARK-{uuid.uuid4().hex}") for number in range(60))
        await bench.result(bench.spec("def handler(e, c):\n  return e\n", account=account, env=marks))
    own = f"MARK-{uuid.uuid4().hex}"
    assert await bench.result(bench.spec(look, env=(("MINE", own),))) == [own]


async def test_memory_processes_and_tmp_have_ends_that_others_do_not_feel(bench: Bench) -> None:
    neighbour = bench.spec("def handler(e, c):\n  return e\n")
    await bench.result(neighbour)
    leak = bench.spec("def handler(e, c):\n  all = []\n  while True: all.append(bytearray(1 << 20))\n", memory_mib=128)
    kind, text = await bench.error(leak)
    assert (kind, text.rpartition("Error: ")[2]) == ("Runtime.OutOfMemory", "Runtime exited with error: signal: killed")
    bomb = """
import os, time
def handler(event, context):
    count = 0
    try:
        while True:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            count += 1
    except OSError as error:
        return [count, error.errno]
"""
    count, number = await bench.result(bench.spec(bomb, memory_mib=4_096, timeout_s=60))
    assert 900 < count <= 1_024
    assert number == 11
    fill = "def handler(e, c):\n  with open('/tmp/x', 'wb', 0) as f:\n    while True: f.write(bytes(1 << 20))\n"
    kind, text = await bench.error(bench.spec(fill, ephemeral_mib=16))
    assert (kind, text) == ("OSError", "[Errno 28] No space left on device")
    assert await bench.result(neighbour, 5) == 5
    await bench.until(lambda: bench.host.counts(neighbour.arn).idle == 1)


@pytest.mark.parametrize(("memory_mib", "vcpus", "weight"), [(128, 1.0, 7), (1_769, 1.0, 100), (3_538, 2.0, 200)])
async def test_cpu_comes_with_memory(bench: Bench, memory_mib: int, vcpus: float, weight: int) -> None:
    """A cap, and a share of a host that is full; from a group that was made ahead, and from one that was not."""
    spec = bench.spec("import time\ndef handler(e, c):\n  time.sleep(0.2)\n  return e\n", memory_mib=memory_mib)
    await asyncio.gather(*(bench.result(spec) for _ in range(6)))
    groups = [one for one in groups_of(bench) if one.pids()]
    assert len(groups) > 4
    for group in groups:
        cap, share = cpu_of(group)
        assert share == pytest.approx(weight, abs=1)
        assert cap == vcpus or (cap is None and vcpus > 1.0)  # version 1 refuses more than this machine's ancestor has


def cpu_of(group: Cgroup) -> tuple[float | None, float]:
    """vCPUs at the most (None: no cap of its own), and the weight in cgroup v2's unit."""
    if isinstance(group, V2Cgroup):
        quota, period = (group.directory / "cpu.max").read_text().split()
        return int(quota) / int(period), float((group.directory / "cpu.weight").read_text())
    assert isinstance(group, V1Cgroup)
    folder = group.directories["cpu"]
    quota, period, shares = (
        int((folder / name).read_text()) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares")
    )
    return None if quota < 0 else quota / period, shares * 100 / 1024


async def test_a_killed_environment_is_an_error_at_once(bench: Bench) -> None:
    spec = bench.spec("import time\ndef handler(e, c):\n  print('begun')\n  time.sleep(60)\n", timeout_s=60)
    call = asyncio.ensure_future(bench.error(spec))
    await bench.until(lambda: "begun" in bench.lines.all())
    (group,) = [one for one in groups_of(bench) if one.pids()]
    with within(1.0):
        os.kill(max(group.pids(), key=started), signal.SIGKILL)
        kind, text = await call
    assert (kind, text.rpartition("Error: ")[2]) == ("Runtime.ExitError", "Runtime exited with error: signal: killed")


async def test_when_the_zygote_dies_its_environments_end_and_the_next_invocation_has_another(bench: Bench) -> None:
    spec = bench.spec("import time\ndef handler(e, c):\n  print('begun')\n  time.sleep(e)\n  return e\n", timeout_s=60)
    call = asyncio.ensure_future(bench.error(spec, 60))
    await bench.until(lambda: "begun" in bench.lines.all())
    pids = [pid for group in groups_of(bench) for pid in group.pids()]
    assert pids
    (zygote,) = [one for one in bench.host.zygotes() if one.pid]
    os.kill(zygote.pid, signal.SIGKILL)
    assert (await call)[0] == "Runtime.ExitError"
    await until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids))
    assert await bench.result(spec, 0) == 0


HOST = """
import asyncio, sys
from pathlib import Path
from tests.contract.function_bench import Bench, Lines
class Counted(Lines):
    def __init__(self):
        super().__init__()
        self.three = asyncio.Event()
    def write(self, *words):
        super().write(*words)
        if self.all().count("forked") == 3:
            self.three.set()
async def main(directory):
    lines = Counted()
    bench = Bench(directory, group_prefix=sys.argv[2], logs=lines)
    await bench.host.start()
    body = "  if os.fork() == 0: os.setsid()\\n  else: print('forked', flush=True)\\n  time.sleep(60)\\n"
    code = "import os, time\\ndef handler(e, c):\\n" + body
    spec = bench.spec(code, timeout_s=60)
    calls = [asyncio.ensure_future(bench.invoke(spec)) for _ in range(3)]
    await lines.three.wait()
    print("running", flush=True)
    await asyncio.gather(*calls)
asyncio.run(main(Path(sys.argv[1])))
"""


async def test_nothing_outlives_a_killed_host_and_the_next_one_sweeps(tmp_path: Path) -> None:
    groups = Cgroups.detect()
    if not groups.version or os.geteuid() != 0:
        pytest.skip("counts by control groups")
    prefix = f"minicloud-test{os.getpid()}/killed"
    command = [sys.executable, "-c", HOST, str(tmp_path), prefix]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert child.stdout is not None
    assert await asyncio.to_thread(child.stdout.readline) == b"running\n"
    pids = [pid for name in groups.existing(prefix) for pid in groups.open(name).pids()]
    assert len(pids) >= 9  # three environments: init, runtime, and what it forked
    child.kill()
    child.wait()
    child.stdout.close()
    async with asyncio.timeout(60):
        await until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids))
    assert groups.existing(prefix)  # empty ones are left, for the next
    async with opened(tmp_path, group_prefix=prefix) as bench:
        bench.prefix = prefix
        assert await bench.result(bench.spec("def handler(e, c):\n  return e\n"), 1) == 1


def groups_of(bench: Bench) -> list:  # type: ignore[type-arg]
    found = Cgroups.detect()
    return [found.open(name) for name in found.existing(bench.prefix)]
