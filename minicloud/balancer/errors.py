"""The errors of load balancers: classes of the one tree (base/errors.py) with elbv2's codes and texts."""

from __future__ import annotations

from minicloud.base.errors import (
    AccessDenied,
    AlreadyExists,
    Conflict,
    InvalidParameterValue,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    OperationNotPermitted,
    UnsupportedOperation,
)


def invalid(text: str, field: str) -> InvalidParameterValue:
    """elbv2's answer to whatever is not of its form."""
    return InvalidParameterValue(text, code="ValidationError", field=field)


def not_supported(text: str, field: str) -> UnsupportedOperation:
    """What AWS has and we do not: refused by name."""
    return UnsupportedOperation(f"{text} is not supported here", code="ValidationError", field=field)


def unknown_attribute(whose: str, key: str) -> InvalidParameterValue:
    return invalid(f"{whose} attribute key '{key[:256]}' is not recognized", "attributes")


def attribute_not_done(whose: str, key: str, value: str) -> UnsupportedOperation:
    """In the words by which Terraform knows that it has to go on without this key."""
    text = f"{whose} attribute key '{key}' is not supported here with the value '{value[:64]}'"
    return UnsupportedOperation(text, code="ValidationError", field=key)


def no_balancer() -> NotFound:
    return NotFound("One or more load balancers not found", code="LoadBalancerNotFound", field="load_balancer")


def no_listener() -> NotFound:
    return NotFound("One or more listeners not found", code="ListenerNotFound", field="listener")


def no_rule() -> NotFound:
    return NotFound("One or more rules not found", code="RuleNotFound", field="rule")


def no_group() -> NotFound:
    return NotFound("One or more target groups not found", code="TargetGroupNotFound", field="target_group")


def invalid_tags() -> InvalidParameterValue:
    return InvalidParameterValue("A tag key was specified more than once.", code="DuplicateTagKeys", field="tags")


def no_reservations() -> UnsupportedOperation:
    text = "minicloud's load balancers have no capacity reservations"
    return UnsupportedOperation(text, code="InvalidAction", field="Action")


def no_trust_store() -> NotFound:
    return NotFound("One or more trust stores not found", code="TrustStoreNotFound", field="trust_store")


def no_certificate(arn: str) -> NotFound:
    return NotFound(f"Certificate '{arn[:256]}' not found", code="CertificateNotFound", field="certificate")


def name_taken(what: str, name: str) -> AlreadyExists:
    code = "DuplicateLoadBalancerName" if what == "load balancer" else "DuplicateTargetGroupName"
    text = f"A {what} with the same name '{name}' exists, but with different settings"
    return AlreadyExists(text, code=code, field="name")


def port_taken(balancer: str) -> AlreadyExists:
    text = f"A listener already exists on this port for this load balancer '{balancer}'"
    return AlreadyExists(text, code="DuplicateListener", field="port")


def priority_taken(priority: int) -> AlreadyExists:
    return AlreadyExists(f"Priority '{priority}' is currently in use", code="PriorityInUse", field="priority")


def in_use(what: str, arn: str, by: str) -> Conflict:
    return Conflict(f"{what} '{arn}' is currently in use by {by}", code="ResourceInUse", field="arn")


def associated_elsewhere(arn: str) -> LimitExceeded:
    text = f"The following target groups cannot be associated with more than one load balancer: {arn}"
    return LimitExceeded(text, code="TargetGroupAssociationLimit", field="target_group")


def protected(arn: str) -> OperationNotPermitted:
    text = f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled"
    return OperationNotPermitted(text, field="load_balancer")


def default_rule(what: str, arn: str) -> OperationNotPermitted:
    return OperationNotPermitted(f"Default rule '{arn}' cannot be {what}", field="rule")


def too_many(code: str, text: str, field: str) -> LimitExceeded:
    return LimitExceeded(text, code=code, field=field)


def incompatible(text: str, field: str) -> InvalidRequest:
    return InvalidRequest(text, code="IncompatibleProtocols", field=field)


def bad_configuration(text: str, field: str) -> InvalidRequest:
    return InvalidRequest(text, code="InvalidConfigurationRequest", field=field)


def bad_action(text: str, field: str = "action") -> InvalidRequest:
    return InvalidRequest(text, code="InvalidLoadBalancerAction", field=field)


def bad_protocol(text: str, field: str) -> InvalidRequest:
    return InvalidRequest(text, code="UnsupportedProtocol", field=field)


def no_permission(function: str, group: str) -> AccessDenied:
    text = f"elasticloadbalancing principal does not have permission to invoke {function} from target group {group}"
    return AccessDenied(text, code="AccessDenied", field="targets")


def bad_target(text: str) -> InvalidRequest:
    return InvalidRequest(text, code="InvalidTarget", field="targets")


def bad_scheme(scheme: str) -> InvalidRequest:
    text = f"Load balancer scheme '{scheme[:32]}' must be internet-facing or internal"
    return InvalidRequest(text, code="InvalidScheme", field="scheme")


def default_certificate(arn: str) -> OperationNotPermitted:
    return OperationNotPermitted(f"Default certificate '{arn}' cannot be removed", field="certificates")


def bad_policy(policy: str) -> NotFound:
    return NotFound(f"SSL policy '{policy[:128]}' not found", code="SSLPolicyNotFound", field="ssl_policy")
