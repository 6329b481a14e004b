"""Bounds of execution environments, beside those of function/limits.py. "ours" where AWS publishes none."""

from __future__ import annotations

MIB = 1024 * 1024

RESPONSE_BYTES_MAX = 6_291_556  # AWS, the text of ResponseSizeTooLarge: 6 MiB and a hundred
HEAD_BYTES_MAX = 16 * 1024  # ours
CONNECTIONS_MAX = 64  # ours: of one environment to its Runtime API
REFUSALS_MAX = 1_000  # ours: wrong requests and new connections between two events; a runtime needs none
ERROR_BYTES_MAX = 256 * 1024  # ours: what a runtime says of an error
LINE_BYTES_MAX = 256 * 1024  # CloudWatch Logs: one event
LOG_BYTES_PER_S_MAX = 8 * MIB  # ours: who writes faster waits
LOG_LINE_COST_BYTES = 128  # ours: what a line counts for in that, beside its bytes
PROCESSES_MAX = 1_024  # AWS quotas: processes and threads of an environment
FILES_MAX = 1_024  # AWS quotas: file descriptors
IDLE_S_MAX = 300.0  # ours: how long a warm environment waits for another invocation
ENVIRONMENTS_MAX = 1_000  # ours, of a host
VARIABLES_S = 6 * 3600.0  # ours: an environment that is older ends when it is idle; its credentials are good for longer
SETUP_S_MAX = 10.0  # ours: from the order to a running process
MEMORY_OVERCOMMIT = 4.0  # ours: sum of the environments' limits against the host's memory; most use a tenth
MEMORY_FREE_MIB_MIN = 256  # ours: less than this left on the host, and no further environment starts
CPU_MIN = 1.0  # ours: vCPUs that the smallest function may use while nobody else wants them
BEAT_S = 1.0  # ours: a function host says that it is there, and what memory is free
SILENT_S = 5.0  # ours: one that has said nothing for so long is gone; a connection that closes says so at once
