"""The health of a target, as a table. Source: ALB user guide, "Target health status" and "Reason codes".

    unused     in no balancer's service (NotInUse), an instance that does not run (InvalidState), or not there at all
    initial    registered; one check that passes makes it healthy, and it gets no traffic before
    healthy, unhealthy    as the thresholds of the group's health check say
    unavailable    in service, and its group makes no health checks (functions): it gets traffic
    draining   deregistered: requests in flight finish, new ones go elsewhere; gone after the delay

Never: from draining back to anything (registering again ends the drain first and starts anew); traffic for `unused`.
A function does not drain: what it answers does not hang on its being registered.
"""

from __future__ import annotations

from typing import Literal

from minicloud.base.table import Table

State = Literal["initial", "healthy", "unhealthy", "unavailable", "draining", "unused"]
Event = Literal["attach", "attach_unchecked", "detach", "pass", "fail", "deregister", "register"]

HEALTH: Table[State, Event] = Table(
    "target",
    {
        ("unused", "attach"): "initial",
        ("unused", "attach_unchecked"): "unavailable",
        ("unused", "detach"): "unused",
        ("unused", "register"): "unused",
        ("initial", "attach"): "initial",
        ("initial", "attach_unchecked"): "unavailable",
        ("initial", "detach"): "unused",
        ("initial", "pass"): "healthy",
        ("initial", "fail"): "unhealthy",
        ("initial", "deregister"): "draining",
        ("initial", "register"): "initial",
        ("healthy", "attach"): "healthy",
        ("healthy", "attach_unchecked"): "unavailable",
        ("healthy", "detach"): "unused",
        ("healthy", "pass"): "healthy",
        ("healthy", "fail"): "unhealthy",
        ("healthy", "deregister"): "draining",
        ("healthy", "register"): "healthy",
        ("unhealthy", "attach"): "unhealthy",
        ("unhealthy", "attach_unchecked"): "unavailable",
        ("unhealthy", "detach"): "unused",
        ("unhealthy", "pass"): "healthy",
        ("unhealthy", "fail"): "unhealthy",
        ("unhealthy", "deregister"): "draining",
        ("unhealthy", "register"): "unhealthy",
        ("unavailable", "attach"): "initial",
        ("unavailable", "attach_unchecked"): "unavailable",
        ("unavailable", "detach"): "unused",
        ("unavailable", "register"): "unavailable",
        ("draining", "register"): "initial",
        ("draining", "deregister"): "draining",
        ("draining", "detach"): "draining",
    },
)

REGISTERING = "Elb.RegistrationInProgress"
CHECKING = "Elb.InitialHealthChecking"
MISMATCH = "Target.ResponseCodeMismatch"
TIMEOUT = "Target.Timeout"
FAILED = "Target.FailedHealthChecks"
NOT_REGISTERED = "Target.NotRegistered"
NOT_IN_USE = "Target.NotInUse"
INVALID_STATE = "Target.InvalidState"
DRAINING = "Target.DeregistrationInProgress"
UNCHECKED = "Target.HealthCheckDisabled"

DESCRIPTIONS = {
    "": "",
    REGISTERING: "Target registration is in progress",
    CHECKING: "Initial health checks in progress",
    TIMEOUT: "Request timed out",
    FAILED: "Health checks failed",
    NOT_REGISTERED: "Target is not registered to the target group",
    NOT_IN_USE: "Target group is not configured to receive traffic from the load balancer",
    INVALID_STATE: "Target is in the stopped state",
    DRAINING: "Target deregistration is in progress",
    UNCHECKED: "Health checks are not enabled for this target",
}
SERVED: frozenset[str] = frozenset({"initial", "healthy", "unhealthy", "unavailable"})  # HAProxy knows the target
CHECKED = SERVED - {"unavailable"}


def describe(reason: str, code: str = "") -> str:
    """AWS's sentence for a reason. `code`: the answer that did not match."""
    if reason == MISMATCH:
        return f"Health checks failed with these codes: [{code}]" if code else DESCRIPTIONS[FAILED]
    return DESCRIPTIONS[reason]
