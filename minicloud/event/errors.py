"""What AWS says of rules and events, in its codes (events' model) and, where they are known, its words."""

from __future__ import annotations

from typing import ClassVar

from minicloud.base.errors import InvalidRequest, LimitExceeded, NotFound

BUS = "default"


class NoSuchThing(NotFound):
    """The resource does not exist."""

    default_code: ClassVar[str] = "ResourceNotFoundException"


def no_rule(name: str) -> NoSuchThing:
    return NoSuchThing(f"Rule {name[:128]} does not exist on EventBus {BUS}.", field="Name")


def no_bus(name: str) -> NoSuchThing:
    text = f"Event bus {name[:256]} does not exist. minicloud has the bus '{BUS}' of each account and region."
    return NoSuchThing(text, field="EventBusName")


def invalid(text: str, field: str) -> InvalidRequest:
    return InvalidRequest(text, code="ValidationException", field=field)


def not_valid(name: str, reason: str = "", field: str = "") -> InvalidRequest:
    return invalid(f"Parameter {name} is not valid." + (f" Reason: {reason}" if reason else ""), field or name)


def bad_pattern(reason: str) -> InvalidRequest:
    text = f"Event pattern is not valid. Reason: {reason}"
    return InvalidRequest(text, code="InvalidEventPatternException", field="EventPattern")


def too_many(what: str, most: int) -> LimitExceeded:
    text = f"The requested resource exceeds the maximum number allowed: there are at most {most} {what}."
    return LimitExceeded(text, code="LimitExceededException", field=what)


def check_length(name: str, value: str, most: int) -> None:
    """Raises ValidationException."""
    if len(value) > most:
        raise out_of_model(name, value, f"Member must have length less than or equal to {most}")


def check_range(name: str, value: int, limits: tuple[int, int]) -> None:
    """Raises ValidationException."""
    least, most = limits
    if not least <= value <= most:
        bound = f"greater than or equal to {least}" if value < least else f"less than or equal to {most}"
        raise out_of_model(name, value, f"Member must have value {bound}")


def out_of_model(name: str, value: object, text: str) -> InvalidRequest:
    shown = str(value)[:256]
    whole = f"1 validation error detected: Value '{shown}' at '{name}' failed to satisfy constraint: {text}"
    return invalid(whole, name)
