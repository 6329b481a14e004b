"""`shutdown` and `poweroff` inside a guest: asks init to end the guest, as the guest's own wish."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from minicloud_workers import protocol

NOW = ("now", "+0")


def main() -> int:
    parser = argparse.ArgumentParser(prog="shutdown", description="End this instance.", add_help=False)
    parser.add_argument("--help", action="help", help="show this and exit")
    parser.add_argument("-h", "-P", "--poweroff", action="store_true", help="what it does anyway")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds between SIGTERM and SIGKILL (default 10)")
    parser.add_argument("time", nargs="?", default="now", help="'now' or '+0'; other times are not supported")
    options = parser.parse_args()
    if options.time not in NOW:
        parser.error(f"'{options.time}': only 'now' is supported")
    return ask(options.grace)


def ask(grace_s: float) -> int:
    path = os.path.join(os.environ.get("MINICLOUD_CONTROL_DIR", "/run/minicloud"), protocol.SOCKET_NAME)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        try:
            sock.connect(path)
            request = {"kind": "shutdown", "grace_s": grace_s, "reason": "asked from inside"}
            sock.sendall(protocol.control(protocol.OPEN, request))
            answer = sock.recv(4096)
        except OSError as error:
            print(f"shutdown: init does not answer: {error}", file=sys.stderr)
            return 1
    if answer[:1] == protocol.OPENED:
        return 0
    print(f"shutdown: {answer[protocol.HEADER_BYTES :].decode(errors='replace')}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
