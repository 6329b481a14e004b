"""A test run that a script started in the background ignores Ctrl-C, and so would every process that it starts."""

from __future__ import annotations

import signal

for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
