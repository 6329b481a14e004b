"""Attributes of balancers, listeners and target groups: which there are, what they may say, what they say by default.

Source: botocore's text of LoadBalancerAttribute, ListenerAttribute, TargetGroupAttribute. A key that AWS knows and we
do not do is refused by name, unless the value given is what happens anyway; any other key "is not recognized".

Where we differ: the first targets of a group start slowly too, all alike; AWS spares them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from minicloud.balancer import errors, limits
from minicloud.balancer.digits import is_number
from minicloud.balancer.model import APPLICATION, WEB_PROTOCOLS, Balancer, Group, Listener

Check = Callable[[str], bool]
TRUE, FALSE = "true", "false"


def _flag(value: str) -> bool:
    return value in (TRUE, FALSE)


def _one_of(*values: str) -> Check:
    return lambda value: value in values


def _seconds(low: int, high: int, *others: str) -> Check:
    return lambda value: value in others or is_number(value, low, high)


def _text(most: int) -> Check:
    return lambda value: len(value) <= most and value.isascii() and (value.isprintable() or not value)


@dataclass(frozen=True, slots=True)
class Attribute:
    default: str
    check: Check


XFF_MODE = "routing.http.xff_header_processing.mode"
XFF_PORT = "routing.http.xff_client_port.enabled"
DROP_ODD_HEADERS = "routing.http.drop_invalid_header_fields.enabled"
TLS_HEADERS = "routing.http.x_amzn_tls_version_and_cipher_suite.enabled"
HTTP2 = "routing.http2.enabled"
IDLE = "idle_timeout.timeout_seconds"
TCP_IDLE = "tcp.idle_timeout.seconds"
PROTECTED = "deletion_protection.enabled"
CROSS_ZONE = "load_balancing.cross_zone.enabled"
LOGS, LOGS_BUCKET, LOGS_PREFIX = "access_logs.s3.enabled", "access_logs.s3.bucket", "access_logs.s3.prefix"
DELAY = "deregistration_delay.timeout_seconds"
CUT = "deregistration_delay.connection_termination.enabled"
STICKY, STICKY_TYPE = "stickiness.enabled", "stickiness.type"
STICKY_S, STICKY_NAME = "stickiness.lb_cookie.duration_seconds", "stickiness.app_cookie.cookie_name"
ALGORITHM = "load_balancing.algorithm.type"
SLOW_START = "slow_start.duration_seconds"
HEALTHY_MIN = "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count"
PROXY_V2 = "proxy_protocol_v2.enabled"
MULTI_VALUE = "lambda.multi_value_headers.enabled"
SERVER_HEADER = "routing.http.response.server.enabled"
USE_BALANCER = "use_load_balancer_configuration"

# A listener sets these headers of responses, where they are given.
_RESPONSE = "routing.http.response."
RESPONSE_HEADERS = {
    f"{_RESPONSE}{name.lower().replace('-', '_')}.header_value": name
    for name in (
        "Strict-Transport-Security",
        "Access-Control-Allow-Origin",
        "Access-Control-Allow-Methods",
        "Access-Control-Allow-Headers",
        "Access-Control-Allow-Credentials",
        "Access-Control-Expose-Headers",
        "Access-Control-Max-Age",
        "Content-Security-Policy",
        "X-Content-Type-Options",
        "X-Frame-Options",
    )
}

_BOTH_BALANCERS = {
    PROTECTED: Attribute(FALSE, _flag),
    LOGS: Attribute(FALSE, _flag),
    LOGS_BUCKET: Attribute("", _text(63)),
    LOGS_PREFIX: Attribute("", _text(512)),
}
APPLICATION_BALANCER = {
    **_BOTH_BALANCERS,
    CROSS_ZONE: Attribute(TRUE, _one_of(TRUE)),
    IDLE: Attribute("60", _seconds(*limits.IDLE_S)),
    HTTP2: Attribute(TRUE, _flag),
    XFF_MODE: Attribute("append", _one_of("append", "preserve", "remove")),
    XFF_PORT: Attribute(FALSE, _flag),
    TLS_HEADERS: Attribute(FALSE, _flag),
    DROP_ODD_HEADERS: Attribute(FALSE, _flag),
}
NETWORK_BALANCER = {**_BOTH_BALANCERS, CROSS_ZONE: Attribute(FALSE, _flag)}
_HEALTHY_MIN = Attribute("1", _seconds(1, limits.TARGETS_MAX))
_BOTH_GROUPS = {
    DELAY: Attribute("300", _seconds(0, limits.DRAIN_S_MAX)),
    STICKY: Attribute(FALSE, _flag),
    CROSS_ZONE: Attribute(USE_BALANCER, _one_of(TRUE, FALSE, USE_BALANCER)),
    HEALTHY_MIN: _HEALTHY_MIN,
}
FUNCTION_GROUP = {MULTI_VALUE: Attribute(FALSE, _flag), HEALTHY_MIN: _HEALTHY_MIN}
WEB_GROUP = {
    **_BOTH_GROUPS,
    STICKY_TYPE: Attribute("lb_cookie", _one_of("lb_cookie", "app_cookie")),
    STICKY_S: Attribute("86400", _seconds(1, limits.STICKY_S_MAX)),
    STICKY_NAME: Attribute("", _text(256)),
    ALGORITHM: Attribute("round_robin", _one_of("round_robin", "least_outstanding_requests", "weighted_random")),
    SLOW_START: Attribute("0", _seconds(*limits.SLOW_START_S, "0")),
}
TCP_GROUP = {
    **_BOTH_GROUPS,
    STICKY_TYPE: Attribute("source_ip", _one_of("source_ip")),
    CUT: Attribute(FALSE, _flag),
    PROXY_V2: Attribute(FALSE, _flag),
}
WEB_LISTENER = {SERVER_HEADER: Attribute(TRUE, _flag), **{key: Attribute("", _text(1024)) for key in RESPONSE_HEADERS}}
TCP_LISTENER = {TCP_IDLE: Attribute("350", _seconds(*limits.TCP_IDLE_S))}

# AWS's keys that we do not do, and the value that is true here all the same.
NOT_DONE = {
    "client_keep_alive.seconds": "",
    "connection_logs.s3.enabled": FALSE,
    "health_check_logs.s3.enabled": FALSE,
    "ipv6.deny_all_igw_traffic": FALSE,
    "zonal_shift.config.enabled": FALSE,
    "routing.http.desync_mitigation_mode": "defensive",  # HAProxy mends what is ambiguous, and answers 400 to the rest
    "routing.http.preserve_host_header.enabled": TRUE,
    "waf.fail_open.enabled": FALSE,
    "dns_record.client_routing_policy": "any_availability_zone",
    "secondary_ips.auto_assigned.per_subnet": "0",
    "load_balancing.algorithm.anomaly_mitigation": "off",
    "stickiness.app_cookie.duration_seconds": "",  # ours lasts as long as the application's own cookie
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "off",
    "target_group_health.dns_failover.minimum_healthy_targets.count": "off",
    "target_group_health.dns_failover.minimum_healthy_targets.percentage": "off",
    "preserve_client_ip.enabled": FALSE,
    "target_health_state.unhealthy.connection_termination.enabled": FALSE,
    "target_health_state.unhealthy.draining_interval_seconds": "0",
}
_RESERVED_COOKIES = ("AWSALB", "AWSALBAPP", "AWSALBTG")


def known(entity: Balancer | Listener | Group) -> Mapping[str, Attribute]:
    """The attributes that this one has."""
    if isinstance(entity, Balancer):
        return APPLICATION_BALANCER if entity.type == APPLICATION else NETWORK_BALANCER
    if isinstance(entity, Group):
        if entity.has_function:
            return FUNCTION_GROUP
        return WEB_GROUP if entity.web else TCP_GROUP
    return WEB_LISTENER if entity.protocol in WEB_PROTOCOLS else TCP_LISTENER


def value(entity: Balancer | Listener | Group, key: str) -> str:
    """What it says, by default or by request."""
    given = entity.attributes.get(key)
    return known(entity)[key].default if given is None else given


def all_of(entity: Balancer | Listener | Group) -> dict[str, str]:
    return {key: value(entity, key) for key in known(entity)}


def merged(entity: Balancer | Listener | Group, given: Mapping[str, str]) -> dict[str, str]:
    """The attributes after a request. Raises ValidationError, and InvalidConfigurationRequest for what cannot be."""
    table = known(entity)
    after = dict(entity.attributes)
    for key, text in given.items():
        if key not in table:
            _refuse(entity, key, text)
            continue
        if not table[key].check(text):
            raise errors.invalid(f"{_whose(entity)} attribute value '{text[:64]}' is not valid for '{key}'", key)
        after.pop(key, None)
        if text != table[key].default:
            after[key] = text
    _check_together({key: after.get(key, one.default) for key, one in table.items()})
    return after


def _whose(entity: Balancer | Listener | Group) -> str:
    names = {Balancer: "Load balancer", Listener: "Listener", Group: "Target group"}
    return names[type(entity)]


def _refuse(entity: Balancer | Listener | Group, key: str, text: str) -> None:
    if key not in NOT_DONE:
        raise errors.unknown_attribute(_whose(entity), key)
    if not text or text != NOT_DONE[key]:
        raise errors.attribute_not_done(_whose(entity), key, text)


def _check_together(values: Mapping[str, str]) -> None:
    if values.get(LOGS) == TRUE and not values[LOGS_BUCKET]:
        raise errors.bad_configuration(f"'{LOGS_BUCKET}' must be specified when access logs are enabled", LOGS_BUCKET)
    if values.get(SLOW_START, "0") != "0" and values[ALGORITHM] != "round_robin":
        text = f"Slow start mode cannot be enabled with the load balancing algorithm '{values[ALGORITHM]}'"
        raise errors.bad_configuration(text, SLOW_START)
    if values.get(STICKY) == TRUE and values[STICKY_TYPE] == "app_cookie":
        name = values[STICKY_NAME]
        if not name or not all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name):
            raise errors.bad_configuration("A cookie name must be specified for app_cookie stickiness", STICKY_NAME)
        if name.startswith(_RESERVED_COOKIES):
            raise errors.bad_configuration(f"Cookie name '{name}' is reserved", STICKY_NAME)
