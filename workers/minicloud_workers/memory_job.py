"""A job bound by memory: fills memory with random numbers, then sorts every sixteenth of them in place and checks.

    python3 -m minicloud_workers.memory_job --mib 256 --hold-s 30

Sorting passes over all of it again, through every page. It takes what it says and some 5 MiB to sort in, so `--mib`
above the instance's memory meets its limit.
"""

from __future__ import annotations

import argparse
import array
import random
import sys
import time

from minicloud_workers.progress import Progress, Stopped, stop_on_signals

MIB = 1024 * 1024
BLOCK_MIB = 8
STRIDE = 16  # 128 bytes: every page and every second cache line
MIB_MAX = 16 * 1024 * 1024


def fill(mib: int, seed: int, progress: Progress) -> list[array.array[int]]:
    """Blocks of random 64-bit numbers, `mib` in all, every page of them touched. Raises MemoryError."""
    rand = random.Random(seed)
    blocks: list[array.array[int]] = []
    for start in range(0, mib, BLOCK_MIB):
        size = min(BLOCK_MIB, mib - start)
        blocks.append(array.array("Q", rand.randbytes(size * MIB)))
        progress.at(start + size, phase="fill")
    return blocks


def sort(blocks: list[array.array[int]], progress: Progress) -> bool:
    """Each block in itself; whether the numbers are in order and none was lost."""
    right = True
    for number, block in enumerate(blocks):
        wanted = sorted(block[::STRIDE])
        block[::STRIDE] = array.array("Q", wanted)
        right = right and block[::STRIDE].tolist() == wanted
        progress.at((number + 1) * BLOCK_MIB, phase="sort")
    return right


def run(mib: int, seed: int, hold_s: float) -> int:
    """Fill, sort, hold; the exit code."""
    progress = Progress("memory", mib, seed=seed)
    stop_on_signals()
    done = 0
    try:
        blocks = fill(mib, seed, progress)
        done = mib
        right = sort(blocks, progress)
        time.sleep(hold_s)
    except MemoryError:
        progress.finished(done, ok=False, reason="no more memory")
        return 1
    except Stopped:
        progress.finished(done, ok=False, reason="stopped")
        return 143
    progress.finished(done, ok=right, blocks=len(blocks))
    return 0 if right else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="memory_job", description="Fill, sort and hold memory.")
    parser.add_argument("--mib", type=int, default=64, help="how much (default 64)")
    parser.add_argument("--seed", type=int, default=1, help="of the numbers (default 1)")
    parser.add_argument("--hold-s", type=float, default=0.0, help="seconds to keep it afterwards (default 0)")
    options = parser.parse_args()
    if not 1 <= options.mib <= MIB_MAX:
        parser.error(f"--mib must be from 1 to {MIB_MAX}")
    if not 0 <= options.hold_s <= 86_400:
        parser.error("--hold-s must be from 0 to 86400")
    return run(options.mib, options.seed, options.hold_s)


if __name__ == "__main__":
    sys.exit(main())
