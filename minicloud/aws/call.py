"""What a service's AWS door is, and what it is told of each call.

A door is a plain object with one method for each operation that it serves, named as AWS names the operation:

    async def RunInstances(self, params: dict[str, Any], call: Call) -> dict[str, Any]

`params` and the result have exactly the names and types of botocore's model: blob bytes, timestamp float (Unix
seconds), integer and long int, map and structure dict, list list; an optional member that was not given is absent.
Where the model's output holds an event stream, that member is an async iterator of one-member dicts. `params` has been
validated against the model. The method raises CloudError, whose `code` goes on the wire. It translates and decides
nothing; what it does not support it refuses by name (`only`), and an operation without a method is refused for it.

A door whose operations are small and many may be `Prompt`: such a call costs no task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from minicloud.base.arn import Caller
from minicloud.base.errors import CloudError, UnsupportedOperation


class Call(NamedTuple):
    """`service`: as botocore calls its client ("ec2", "elbv2"). `base_url`: how the caller reached us, no slash.

    `trace`: the header X-Amzn-Trace-Id.
    """

    caller: Caller
    request_id: str
    service: str
    operation: str
    base_url: str
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Door:
    """A service to be served: its name, and the object that has its operations as methods."""

    service: str
    api: object


class Decided(NamedTuple):
    """A call that was decided, and is not on disk yet. `undo`: for when its caller has gone away before the answer."""

    result: dict[str, Any]
    undo: Callable[[], None] | None = None


Decide = Callable[[dict[str, Any], Call], Decided | None]


@runtime_checkable
class Prompt(Protocol):
    """`decides`, by operation: the same as its method, but in one turn; None: the method has to wait, call that."""

    decides: Mapping[str, Decide]

    def after_flush(self, done: Callable[[CloudError | None], None]) -> None:
        """Calls `done` once everything decided so far is on disk (None), or with why it never will be; never at once.

        Only then anybody may hear of it.
        """
        ...


# The code with which a service refuses what it cannot do, where it is not the general one.
REFUSALS = {
    "ec2": "UnsupportedOperation",
    "sqs": "UnsupportedOperation",
    "sns": "InvalidParameter",
    "lambda": "InvalidParameterValueException",
    "logs": "InvalidParameterException",
    "cloudwatch": "InvalidParameterValue",
    "events": "ValidationException",
    "scheduler": "ValidationException",
    "ssm": "ValidationException",
}
_REFUSAL = "ValidationError"


def refused(name: str, call: Call, why: str = "") -> UnsupportedOperation:
    """The error that says that minicloud does not have what this parameter asks for."""
    text = f"The parameter {name} of {call.operation} is not supported by minicloud." + (f" {why}" if why else "")
    return UnsupportedOperation(text, code=REFUSALS.get(call.service, _REFUSAL), field=name)


def harmless(params: Mapping[str, Any], call: Call, values: Mapping[str, Any]) -> None:
    """Parameters whose one value says what is so anyway are taken, and empty ones; others are refused by name."""
    for name, value in values.items():
        if name in params and params[name] not in ("", [], {}, value):
            raise refused(name, call)


def only(params: Mapping[str, Any], call: Call, *names: str) -> None:
    """Every parameter that is given is one of `names`; an empty one asks for nothing. Raises UnsupportedOperation, with
    the service's code."""
    for name in params:
        if name not in names and params[name] not in ("", [], {}):
            raise refused(name, call)
