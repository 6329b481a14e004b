"""What all rings need of the process that they run in.

A test run that a script started in the background ignores Ctrl-C, and so would every process that it starts. How long
an example of a property takes says nothing on a machine that does other things as well. And whether somebody has made
machine code changes no test: MINICLOUD_COMPILED=1 tests that.
"""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)

os.environ.setdefault("MINICLOUD_COMPILED", "0")
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
