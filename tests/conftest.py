"""What all rings need of the process that they run in.

A test run that a script started in the background ignores Ctrl-C, and so would every process that it starts. And how
long an example of a property takes says nothing on a machine that does other things as well.
"""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
