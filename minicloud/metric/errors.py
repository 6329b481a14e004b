"""The errors of metrics and alarms: classes of the one tree (base/errors.py) with CloudWatch's codes and texts."""

from __future__ import annotations

from minicloud.base.errors import (
    Conflict,
    InvalidParameterCombination,
    InvalidParameterValue,
    InvalidRequest,
    LimitExceeded,
    MissingParameter,
    NotFound,
    UnsupportedOperation,
)


def bad_value(text: str, field: str) -> InvalidParameterValue:
    return InvalidParameterValue(text, code="InvalidParameterValue", field=field)


def bad_mix(text: str, field: str) -> InvalidParameterCombination:
    return InvalidParameterCombination(text, code="InvalidParameterCombination", field=field)


def missing(field: str) -> MissingParameter:
    return MissingParameter(f"The parameter {field} is required.", code="MissingParameter", field=field)


def invalid(text: str, field: str) -> InvalidRequest:
    """What CloudWatch says of alarms and queries as a whole."""
    return InvalidRequest(text, code="ValidationError", field=field)


def bad_expression(text: str, at: int, field: str) -> InvalidRequest:
    """`at`: the character of the expression, from 0, at which it stops making sense."""
    shown = f"Error in expression at position {at}: {text}"
    return InvalidRequest(shown, code="ValidationError", field=field, details={"position": str(at)})


def not_supported(what: str, field: str) -> UnsupportedOperation:
    return UnsupportedOperation(f"{what} is not supported here.", code="UnsupportedOperation", field=field)


def bad_json(field: str) -> InvalidRequest:
    return InvalidRequest(f"{field} must be JSON.", code="InvalidFormat", field=field)


def no_such_alarm(name: str) -> NotFound:
    return NotFound(f"Alarm {name} does not exist", code="ResourceNotFound", field="AlarmName")


def no_such_dashboard(name: str) -> NotFound:
    return NotFound(f"Dashboard {name[:255]} does not exist", code="ResourceNotFound", field="DashboardName")


def bad_dashboard(text: str, field: str) -> InvalidParameterValue:
    return InvalidParameterValue(text, code="InvalidParameterInput", field=field)


def too_many_dashboards(most: int) -> LimitExceeded:
    text = f"The dashboards of an account have at most {most} characters together"
    return LimitExceeded(text, code="LimitExceeded", field="DashboardBody")


def too_many_alarms(most: int) -> LimitExceeded:
    return LimitExceeded(f"The quota of {most} alarms has been reached", code="LimitExceeded", field="AlarmName")


def too_many_metrics(most: int) -> LimitExceeded:
    return LimitExceeded(f"The store holds {most} metrics and takes no new ones", code="LimitExceeded", field="Metric")


def in_use(name: str, parents: str) -> Conflict:
    text = f"Cannot delete {name} as there are composite alarm(s) depending on it: {parents}"
    return Conflict(text, code="ValidationError", field="AlarmNames")
