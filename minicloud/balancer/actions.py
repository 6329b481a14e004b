"""What a rule does. Source: botocore's text of Action and its configs; ALB guide, "Rule action types"."""

from __future__ import annotations

import re

from minicloud.balancer import limits
from minicloud.balancer.digits import is_number
from minicloud.balancer.errors import (
    associated_elsewhere,
    bad_action,
    bad_configuration,
    incompatible,
    invalid,
    no_group,
    not_supported,
    too_many,
)
from minicloud.balancer.model import APPLICATION, FUNCTION, Action, Balancer, Group
from minicloud.balancer.state import State

FORWARD, REDIRECT, FIXED = "forward", "redirect", "fixed-response"
_NOT_DONE = ("authenticate-oidc", "authenticate-cognito", "jwt-validation")
CONTENT_TYPES = ("text/plain", "text/css", "text/html", "application/javascript", "application/json")
_WORD = re.compile(r"#\{([^}]*)\}")
_WORDS = {
    "host": {"host"},
    "path": {"host", "path", "port"},
    "query": {"host", "path", "port", "protocol", "query"},
}
_PART = re.compile(r"[A-Za-z0-9_.~$/:@!&'()*+,;=%?{}#-]*\Z")
_PAIRS = {("HTTP", "HTTP"), ("HTTP", "HTTPS"), ("HTTPS", "HTTP"), ("HTTPS", "HTTPS"), ("TCP", "TCP"), ("TLS", "TCP")}


def checked(state: State, balancer: Balancer, protocol: str, action: Action) -> Action:
    """The action as a listener of this protocol may have it. Raises AWS's errors."""
    if action.type in _NOT_DONE:
        raise not_supported(f"Action type '{action.type}'", "action")
    if action.type not in (FORWARD, REDIRECT, FIXED):
        raise invalid(f"Action type '{action.type[:64]}' must be one of 'redirect,fixed-response,forward'", "action")
    if balancer.type != APPLICATION and action.type != FORWARD:
        raise bad_action(f"Action type '{action.type}' is not supported by network load balancers")
    if action.type == REDIRECT:
        _check_redirect(protocol, action)
    elif action.type == FIXED:
        _check_fixed(action)
    else:
        _check_forward(state, balancer, protocol, action)
    return action


def _check_forward(state: State, balancer: Balancer, protocol: str, action: Action) -> None:
    arns = [one.group for one in action.groups]
    if not arns:
        raise invalid("A target group must be specified for a forward action", "action.groups")
    if len(arns) > limits.ACTION_GROUPS_MAX:
        text = f"A forward action can have at most {limits.ACTION_GROUPS_MAX} target groups"
        raise too_many("TooManyUniqueTargetGroupsPerLoadBalancer", text, "action.groups")
    if len(set(arns)) != len(arns):
        raise invalid("A target group ARN is specified more than once", "action.groups")
    if len(arns) > 1 and balancer.type != APPLICATION:
        raise bad_action("A network load balancer forwards to one target group")
    for one in action.groups:
        if not 0 <= one.weight <= limits.GROUP_WEIGHT_MAX:
            raise invalid(f"Target group weight must be 0 to {limits.GROUP_WEIGHT_MAX}", "action.groups")
        _check_pair(state, balancer, protocol, one.group)
    if not 0 <= action.sticky_s <= limits.STICKY_S_MAX:
        raise invalid(f"Target group stickiness duration must be 1 to {limits.STICKY_S_MAX}", "action.sticky_s")
    if action.sticky_s and balancer.type != APPLICATION:
        raise bad_action("Target group stickiness is not supported by network load balancers")


def _check_pair(state: State, balancer: Balancer, protocol: str, arn: str) -> Group:
    group = state.groups.get(arn)
    if group is None or group.scope != balancer.scope:
        raise no_group()
    if group.balancer not in ("", balancer.arn):
        raise associated_elsewhere(arn)
    if group.has_function:
        _check_requests(balancer)
    elif (protocol, group.protocol) not in _PAIRS:
        text = f"Target group protocol '{group.protocol}' is not compatible with listener protocol '{protocol}'"
        raise incompatible(text, "action.groups")
    if group.version == "GRPC" and protocol != "HTTPS":
        text = f"Listener protocol '{protocol}' is not supported with a target group with the protocol-version 'GRPC'"
        raise bad_configuration(text, "action.groups")
    return group


def _check_requests(balancer: Balancer) -> None:
    """A function answers requests, and a network load balancer has none."""
    if balancer.type != APPLICATION:
        text = f"Target groups with target type '{FUNCTION}' are not supported by {balancer.type} load balancers"
        raise bad_configuration(text, "action.groups")


def _check_redirect(protocol: str, action: Action) -> None:
    if action.status not in (301, 302):
        raise invalid("Redirect status code must be HTTP_301 or HTTP_302", "action.status")
    if action.protocol not in ("HTTP", "HTTPS", "#{protocol}"):
        raise invalid(f"Redirect protocol '{action.protocol[:32]}' must be HTTP, HTTPS or #{{protocol}}", "action")
    if protocol == "HTTPS" and action.protocol == "HTTP":
        raise bad_action("A redirect from HTTPS to HTTP is not allowed")
    port = action.port
    if port != "#{port}" and not is_number(port, 1, 65535):
        raise invalid(f"Redirect port '{port[:32]}' must be 1 to 65535 or #{{port}}", "action.port")
    for name in ("host", "path", "query"):
        _check_part(name, getattr(action, name))
    if not action.path.startswith("/"):
        raise invalid("Redirect path must begin with '/'", "action.path")
    same = ("#{protocol}", "#{host}", "#{port}", "/#{path}")
    kept = (action.protocol in ("#{protocol}", protocol), action.host == same[1], port == same[2])
    if all(kept) and action.path == same[3]:
        raise bad_action("The redirect would loop: change protocol, host, port or path")


def _check_part(name: str, text: str) -> None:
    if len(text) > limits.REDIRECT_CHARS_MAX or not _PART.match(text):
        raise invalid(f"Redirect {name} '{text[:128]}' is not valid", f"action.{name}")
    for word in _WORD.findall(text):
        if word not in _WORDS[name]:
            raise invalid(f"'#{{{word}}}' cannot be used in the {name} of a redirect", f"action.{name}")
    if any(char in _WORD.sub("", text) for char in "#{}"):
        raise invalid(f"Redirect {name} '{text[:128]}' is not valid", f"action.{name}")


def _check_fixed(action: Action) -> None:
    if action.status // 100 not in (2, 4, 5):
        raise invalid("Fixed response status code must be 2XX, 4XX or 5XX", "action.status")
    if action.content_type not in ("", *CONTENT_TYPES):
        raise invalid(f"Content type must be one of {', '.join(CONTENT_TYPES)}", "action.content_type")
    if len(action.text) > limits.FIXED_BODY_CHARS_MAX:
        raise invalid(f"A message body has at most {limits.FIXED_BODY_CHARS_MAX} characters", "action.text")
    if any((ord(char) < 32 and char not in "\t\r\n") or ord(char) == 127 for char in action.text):
        raise invalid("A message body holds no control characters", "action.text")
