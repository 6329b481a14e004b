"""Turns the raylet's worker command into a Ray worker: drops the options of runtime environments, execs.

Stands where Ray's `setup_worker.py` stands, which imports all of Ray to do the same. Standard library only, run with
`python -I -S`, so that it costs 15 ms.
"""

import os
import sys

_OPTIONS_DROPPED = ("--serialized-runtime-env-context", "--language")

if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith(_OPTIONS_DROPPED)]
    os.execv(sys.executable, [sys.executable, *arguments])
