"""How long until an instance runs? From the accepted launch to the first line of the user's code, against bare Ray.

A cloud of its own is brought up; its Ray is the peer. One at a time, alternating, each with prestarted workers there:

    ours   the reply to Launch -> the clock that the instance's user data reads as its first act
    bare   Actor.remote() -> the clock that the actor's constructor reads

and bursts: the time until the last of N instances is `running`, against the time until the last of N bare actors has
answered. Targets (issue 2): median of ours at most 1.5 times bare; burst at least 0.9 times bare Ray's rate.
The clock is the machine's, the same for both. What a client sees (watch, answer) is shown beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicloud import Client
from minicloud.cluster.warm import count_workers

TARGET_RATIO, TARGET_BURST = 1.5, 0.9
TYPE = "t3.nano"
USER_DATA = "#!/bin/sh\ndate +%s.%N > /root/started\n"
QUIET_S = 1.0  # after the worst of the last one's end, before the next is measured
WARM = 2
GCS = "--gcs-address="


@dataclass(frozen=True, slots=True)
class Sample:
    """Milliseconds from the launch to the user's first line, and to the moment that the client knew."""

    running_ms: float
    seen_ms: float


@contextlib.contextmanager
def cloud(folder: Path) -> Iterator[tuple[Client, Raylet]]:
    """A cloud of one host with room for the burst; yields a client and the host's raylet."""
    data = ["--data-dir", str(folder)]
    program = [sys.executable, "-m", "minicloud.cli.main"]
    room = ["--hosts", "1", "--cpus-per-host", "20", "--memory-per-host", "40GiB"]
    up = [*program, "up", *data, *room, "--grpc-port", "0", "--http-port", "0", "--detach"]
    subprocess.run(up, check=True, stdout=subprocess.DEVNULL)
    try:
        state = json.loads((folder / "run" / "state.json").read_text())
        with Client(endpoint=state["endpoints"]["grpc"]) as client:
            yield client, _raylet(folder)
    finally:
        subprocess.run([*program, "down", *data], check=True, stdout=subprocess.DEVNULL)


@dataclass(frozen=True, slots=True)
class Raylet:
    """The host's: its process, and where its Ray is."""

    pid: int
    gcs_address: str


def _raylet(folder: Path) -> Raylet:
    processes = json.loads((folder / "run" / "processes.json").read_text())["processes"]
    pid = next(process["pid"] for process in processes if process["role"] == "raylet:host-a")
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return Raylet(pid, next(word.removeprefix(GCS) for word in words if word.startswith(GCS)))


class BareRay:
    """The peer: actors without anything of ours, in the same Ray."""

    def __init__(self, address: str, token: Path) -> None:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token), RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
        import ray

        self.ray = ray
        ray.init(address=address, namespace="bench", log_to_driver=False, configure_logging=False)

        class Bare:
            def __init__(self) -> None:
                self.began = time.time()

            def started(self) -> float:
                return self.began

        self.kind = ray.remote(num_cpus=0.01)(Bare)

    def one(self) -> Sample:
        asked = time.time()
        actor = self.kind.remote()
        began = self.ray.get(actor.started.remote())
        seen = time.time()
        self.ray.kill(actor)
        return Sample(1000 * (began - asked), 1000 * (seen - asked))

    def burst(self, count: int) -> float:
        """Seconds until the last has answered."""
        asked = time.time()
        actors = [self.kind.remote() for _ in range(count)]
        self.ray.get([actor.started.remote() for actor in actors])
        took = time.time() - asked
        for actor in actors:
            self.ray.kill(actor)
        return took


def ours(client: Client) -> Sample:
    (instance,) = client.instances.launch(TYPE, "base", user_data=USER_DATA)
    accepted = time.time()
    seen = until_running(client, [instance.id])
    started = ""
    while not started.strip():  # the script may still be starting
        started = client.instances.exec(instance.id, ["cat", "/root/started"]).stdout.decode()
    _end(client, [instance.id])
    return Sample(1000 * (float(started) - accepted), 1000 * (seen - accepted))


def our_burst(client: Client, count: int) -> float:
    instances = client.instances.launch(TYPE, "base", count=count)
    accepted = time.time()
    took = until_running(client, [instance.id for instance in instances]) - accepted
    _end(client, [instance.id for instance in instances])
    return took


def until_running(client: Client, ids: Sequence[str]) -> float:
    """When the last of them was seen running. Raises RuntimeError when one will not be."""
    waiting = set(ids)
    for change in client.instances.watch(list(ids)):
        if change.state == "running":
            waiting.discard(change.id)
        elif change.state != "pending":
            raise RuntimeError(f"{change.id} is {change.state}: {change.state_reason}")
        if not waiting:
            break
    return time.time()


def _end(client: Client, ids: Sequence[str]) -> None:
    client.instances.terminate(*ids)
    client.instances.wait_until(ids, "terminated")


def settle(raylet: Raylet) -> None:
    """Until the warm pool is full again and no worker is starting: both sides start from the same place.

    Looked up in /proc, not asked of the host: its count is as of its last look, and knows nothing of bare actors.
    """
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_S:
        idle, starting = count_workers(raylet.pid)
        if starting or idle < WARM:
            quiet_since = time.monotonic()
        time.sleep(0.1)


def measure(client: Client, bare: BareRay, raylet: Raylet, rounds: int, burst: int) -> dict[str, Any]:
    singles: list[tuple[Sample, Sample]] = []
    for number in range(rounds + 1):
        settle(raylet)
        mine = ours(client)
        settle(raylet)
        theirs = bare.one()
        if number:  # the first round pays for what is made once
            singles.append((mine, theirs))
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    for name in ("bare", "ours", "ours", "bare") if burst else ():  # neither has the fresher Ray
        settle(raylet)
        rates[name].append(burst / (bare.burst(burst) if name == "bare" else our_burst(client, burst)))
    return {"singles": singles, "bursts": {name: statistics.mean(found) for name, found in rates.items() if found}}


def report(found: dict[str, Any], as_json: bool) -> int:
    singles, bursts = found["singles"], found["bursts"]
    mine, theirs = ([pair[side].running_ms for pair in singles] for side in (0, 1))
    seen = [statistics.median(pair[side].seen_ms for pair in singles) for side in (0, 1)]
    ratio = statistics.median(mine) / statistics.median(theirs)
    result = {
        "rounds": len(singles),
        "ours_ms": {"median": statistics.median(mine), "min": min(mine), "max": max(mine), "seen": seen[0]},
        "bare_ms": {"median": statistics.median(theirs), "min": min(theirs), "max": max(theirs), "seen": seen[1]},
        "ratio": ratio,
        "ratio_target": TARGET_RATIO,
        "burst_per_s": bursts,
        "burst_ratio": bursts["ours"] / bursts["bare"] if bursts else None,
        "burst_target": TARGET_BURST,
    }
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        for name in ("ours", "bare"):
            row = result[f"{name}_ms"]
            print(
                f"{name}: user code runs after {row['median']:.1f} ms (median of {len(singles)};"
                f" {row['min']:.1f} to {row['max']:.1f}), the client knows after {row['seen']:.1f} ms"
            )
        print(f"ratio {ratio:.2f} (target at most {TARGET_RATIO})")
        if bursts:
            print(
                f"burst: ours {bursts['ours']:.2f}/s, bare {bursts['bare']:.2f}/s,"
                f" ratio {result['burst_ratio']:.2f} (target at least {TARGET_BURST})"
            )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--burst", type=int, default=50, help="0: no burst")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="mcb", dir="/tmp") as folder, cloud(Path(folder)) as (client, raylet):
        bare = BareRay(raylet.gcs_address, Path(folder) / "run" / "s" / "ray" / "token")
        try:
            found = measure(client, bare, raylet, options.rounds, options.burst)
        finally:
            bare.ray.shutdown()
    return report(found, options.json)


if __name__ == "__main__":
    sys.exit(main())
