"""What a new process is told of its servers: HAProxy's server-state file (manual, section 3.1, `server-state-file`).

Without it each server of a process that starts counts as up until a check says otherwise, so a reload would send
requests to servers that are known to be down, and a fresh one would take traffic before its first check.
"""

from __future__ import annotations

from dataclasses import dataclass

from minicloud.proxy.config import Server
from minicloud.proxy.health import HealthCheck

_HEAD = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port\n"
)
_PASSED, _FAILED = "15 3", "8 2"  # a check's status and result: HAProxy's own numbers for L7OK and L4CON
_LONG_AGO_S = 86_400  # slow start of a server that has been up is over


@dataclass(frozen=True, slots=True)
class Known:
    """`up`: it takes traffic. `nearly`: one check that passes is enough."""

    up: bool
    nearly: bool = False


def line(backend: str, server: Server, check: HealthCheck, known: Known) -> str:
    health = check.rise + check.fall - 1 if known.up else check.rise - 1 if known.nearly else 0
    state, last = (2, _PASSED) if known.up else (0, _FAILED)
    weight = f"{server.weight} {server.weight}"
    return (
        f"0 {backend} 0 {server.name} {server.address} {state} 0 {weight} {_LONG_AGO_S} {last} {health} 6 0 0 0 - "
        f"{server.port} - {int(server.tls)} 0 - - 0\n"
    )


def document(lines: list[str]) -> str:
    return _HEAD + "".join(lines)
