"""How much memory does a cloud take, idle and per instance? Against Ray's own daemons, and a bare Ray worker.

PSS (proportional set size, /proc/<pid>/smaps_rollup): shared pages are counted once, so the sums are true. The
processes of the cloud are known by the mark in their environment; the reference is what of them is Ray's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from minicloud import Client

PROGRAM = [sys.executable, "-m", "minicloud.cli.main"]
SETTLE_S = 5.0  # workers that were prestarted for the last launches are up by then


def pss_mib(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def by_kind(cloud_id: str) -> dict[str, float]:
    """MiB by kind of process. Guests are those whose environment names their instance."""
    mark, found = f"MINICLOUD_CLOUD_ID={cloud_id}".encode(), dict.fromkeys(KINDS, 0.0)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            env = (entry / "environ").read_bytes()
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if b"MINICLOUD_INSTANCE_ID=" in env or "minicloud_workers.init" in line:
            found["guests"] += pss_mib(int(entry.name))
        elif mark in env.split(b"\0"):
            found[kind_of(line)] += pss_mib(int(entry.name))
    return found


KINDS = ("Ray daemons", "warm workers", "instance actors", "ours", "guests")


def kind_of(line: str) -> str:
    if "gcs_server" in line or line.split("\0")[0].endswith("raylet"):
        return "Ray daemons"
    if line.startswith("ray::IDLE"):
        return "warm workers"
    return "instance actors" if line.startswith("ray::Instance") else "ours"


def measure(count: int) -> tuple[dict[str, float], dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="mcb-", dir="/tmp") as folder:
        data = ["--data-dir", folder]
        up = [*PROGRAM, "up", *data, "--grpc-port", "0", "--http-port", "0", "--cpus-per-host", "20", "--detach"]
        subprocess.run(up, check=True, stdout=subprocess.DEVNULL)
        try:
            cloud_id = json.loads((Path(folder) / "cloud.json").read_text())["cloud_id"]
            endpoint = json.loads((Path(folder) / "run" / "state.json").read_text())["endpoints"]["grpc"]
            time.sleep(SETTLE_S)
            idle = by_kind(cloud_id)
            with Client(endpoint) as client:
                ids = [one.id for one in client.instances.launch("t3.nano", count=count)]
                client.instances.wait_until(ids, "running", 120)
                time.sleep(SETTLE_S)
                loaded = by_kind(cloud_id)
        finally:
            subprocess.run([*PROGRAM, "down", *data], check=True, stdout=subprocess.DEVNULL)
    return idle, loaded


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="memory", description=__doc__)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    idle, loaded = measure(args.instances)
    each = {kind: (loaded[kind] - idle[kind]) / args.instances for kind in ("instance actors", "guests")}
    if args.json:
        print(json.dumps({"benchmark": "memory", "idle_mib": idle, "per_instance_mib": each}, indent=1))
        return 0
    for kind, amount in idle.items():
        print(f"idle, {kind:16} {amount:8.1f} MiB")
    print(f"idle, {'all':16} {sum(idle.values()):8.1f} MiB (Ray's own part {idle['Ray daemons']:.1f})")
    for kind, amount in each.items():
        print(f"each of {args.instances}, {kind:15} {amount:6.1f} MiB")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
