"""A job bound by disk: writes a file in blocks, syncs it, reads it back and compares every block's checksum.

    python3 -m minicloud_workers.disk_job --directory /root --mib 256 --sync-every-mib 8

Blocks are made from a seed and their number, so a lost, torn or misplaced block is found. The file is removed at
the end.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import sys
import time
import zlib

from minicloud_workers.progress import Progress, Stopped, stop_on_signals

MIB = 1024 * 1024
MIB_MAX = 1024 * 1024
FILE = "disk_job.data"


def block_of(seed: int, number: int) -> bytes:
    """One MiB that no other seed or number has."""
    first = hashlib.sha256(f"{seed}:{number}".encode()).digest()
    return b"".join(hashlib.sha512(first + bytes([part])).digest() for part in range(64)) * (MIB // 4096)


def write(fd: int, options: argparse.Namespace, progress: Progress) -> list[int]:
    """Checksums of the blocks. Raises OSError."""
    sums = []
    for number in range(options.mib):
        view = memoryview(block_of(options.seed, number))
        sums.append(zlib.crc32(view))
        while view:
            view = view[os.write(fd, view) :]
        if (number + 1) % options.sync_every_mib == 0:
            os.fdatasync(fd)
        progress.at(number + 1, phase="write")
    os.fsync(fd)
    return sums


def verify(fd: int, sums: list[int], progress: Progress) -> list[int]:
    """Numbers of the blocks that are not what was written. Raises OSError."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # from the disk, not from memory
    os.lseek(fd, 0, os.SEEK_SET)
    wrong = []
    for number, expected in enumerate(sums):
        data = b""
        while len(data) < MIB and (part := os.read(fd, MIB - len(data))):
            data += part
        if len(data) != MIB or zlib.crc32(data) != expected:
            wrong.append(number)
        progress.at(len(sums) + number + 1, phase="read")
    return wrong


def run(options: argparse.Namespace) -> int:
    """Write, sync, read, compare; the exit code."""
    path = os.path.join(options.directory, FILE)
    progress = Progress("disk", 2 * options.mib, path=path)
    stop_on_signals()
    fd = -1
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        started = time.monotonic()
        sums = write(fd, options, progress)
        written = time.monotonic()
        wrong = verify(fd, sums, progress)
        rates = {"write_mib_s": _rate(options.mib, written - started)}
        rates["read_mib_s"] = _rate(options.mib, time.monotonic() - written)
    except OSError as error:
        progress.finished(0, ok=False, reason=f"{error.strerror}: {error.filename or path}")
        return 1
    except Stopped:
        progress.finished(0, ok=False, reason="stopped")
        return 143
    finally:
        if fd >= 0:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(path)
    progress.finished(2 * options.mib, ok=not wrong, wrong_blocks=wrong[:16], **rates)
    return 1 if wrong else 0


def _rate(mib: int, seconds: float) -> float:
    return round(mib / max(seconds, 1e-6), 1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="disk_job", description="Write, sync, read back and compare.")
    parser.add_argument("--directory", default=os.path.expanduser("~"), help="where (default: home)")
    parser.add_argument("--mib", type=int, default=64, help="how much (default 64)")
    parser.add_argument("--sync-every-mib", type=int, default=8, help="between syncs (default 8)")
    parser.add_argument("--seed", type=int, default=1, help="of the content (default 1)")
    options = parser.parse_args()
    if not 1 <= options.mib <= MIB_MAX:
        parser.error(f"--mib must be from 1 to {MIB_MAX}")
    if options.sync_every_mib < 1:
        parser.error("--sync-every-mib must be at least 1")
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
