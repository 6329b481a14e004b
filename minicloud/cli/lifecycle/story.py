"""The supervisor's events as sentences."""

from __future__ import annotations

from typing import Any

from minicloud.cli.output import write_line

_TEXTS = {
    "gcs": "Ray's head is up (pid {pid})",
    "raylet": "host {host} starts (pid {pid})",
    "hosts": "joined the Ray cluster",
    "actor": "{name} runs (pid {pid})",
    "front-door": "front door open: gRPC {grpc}, HTTP {http}",
    "waiting": "waits for: {what}",
    "ready": "ready",
    "died": "{role} died (pid {pid}, status {status})",
    "restarted": "{role} is back",
    "rebooting": "starting all of Ray anew",
    "stopping": "stopping",
    "down": "ended",
}


def describe(event: dict[str, Any]) -> str:
    """One line for people; '' for what only programs need."""
    if event["event"] == "guests-stopped":
        problem = event["problem"]
        return f"instances did not stop in order: {problem}" if problem else "instances stopped"
    text = _TEXTS.get(event["event"], "")
    return text.format_map(event) if text else ""


def show_endpoints(event: dict[str, Any], detached: bool) -> None:
    """What to export, on stdout, so that it can be copied or evaluated."""
    write_line(f"export MINICLOUD_ENDPOINT={event['grpc']}")
    write_line(f"export AWS_ENDPOINT_URL={event['http']}")
    if "ca" in event:
        write_line(f"export MINICLOUD_CA={event['ca']} AWS_CA_BUNDLE={event['ca']}")
    if "admin" in event:
        write_line(f"# the administrator's access key is in {event['admin']}")
    if not detached:
        write_line("# Ctrl-C ends the cloud; its data stays")
