"""Event source mappings: queues that feed functions. Source: lambda API, CreateEventSourceMapping; guide, "Using Lambda
with Amazon SQS". Queues are of the function's account and region; other event sources are refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Draft, Outcome
from minicloud.function import errors, limits, names
from minicloud.function.commands import CreateMapping, DeleteMapping, MappingSpec, UpdateMapping
from minicloud.function.functions import checked_tags, new_uuid
from minicloud.function.model import Mapping
from minicloud.function.state import State
from minicloud.shell.operators import PolicyError
from minicloud.shell.patterns import Check, Whole, compile_object, tests_of, weight

_QUEUE = re.compile(r"arn:aws:sqs:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+(\.fifo)?\Z")


def create(state: State, command: CreateMapping, context: Context) -> Outcome:
    """The reply is the Mapping."""
    scope = command.scope
    if not _QUEUE.match(command.source):
        text = f"Unrecognized event source: {command.source[:256]}. Queues are supported."
        raise errors.invalid(text, "eventSourceArn")
    if command.source.split(":")[3:5] != [scope.region, scope.account]:
        raise errors.invalid("The event source must be of the function's account and region", "eventSourceArn")
    target = names.resolve(state, scope, command.function)
    for one in state.mappings_of(command.source):
        if one.target == target.arn:
            text = (
                f'The event source arn (" {command.source} ") and function (" {target.function.name} ") provided '
                f"mapping already exists. Please update or delete the existing mapping with UUID {one.uuid}"
            )
            raise errors.Taken(text, field="eventSourceArn")
    plain = Mapping(
        new_uuid(context),
        scope.account,
        scope.region,
        command.source,
        target.arn,
        target.function.arn,
        context.now,
        tags=checked_tags(command.tags),
    )
    draft = Draft(state)
    made = _changed(plain, command.spec)
    draft.put(made)
    return draft.outcome(made)


def update(state: State, command: UpdateMapping, context: Context) -> Outcome:
    """The reply is the Mapping."""
    before = find(state, command.scope, command.uuid)
    after = replace(_changed(before, command.spec), modified=context.now)
    if command.function:
        target = names.resolve(state, command.scope, command.function)
        after = replace(after, target=target.arn, function=target.function.arn)
    draft = Draft(state)
    draft.put(after)
    return draft.outcome(after)


def delete(state: State, command: DeleteMapping, _context: Context) -> Outcome:
    """The reply is the Mapping that was there."""
    before = find(state, command.scope, command.uuid)
    draft = Draft(state)
    draft.drop(before)
    return draft.outcome(before)


def find(state: State, scope: Scope, uuid: str) -> Mapping:
    mapping = state.mappings.get(uuid)
    if mapping is None or mapping.scope != scope:
        raise errors.NoSuchThing("The resource you requested does not exist.", field="UUID")
    return mapping


def _changed(before: Mapping, spec: MappingSpec) -> Mapping:
    given = {name: getattr(spec, name) for name in MappingSpec.__slots__ if getattr(spec, name) is not None}
    after = replace(before, **given)
    after = replace(after, concurrency=after.concurrency or None)
    fifo = after.source.endswith(".fifo")
    errors.check_range("batchSize", after.batch, (1, limits.BATCH_MAX))
    errors.check_range("maximumBatchingWindowInSeconds", after.window_s, limits.WINDOW_S)
    if fifo and after.window_s:
        raise errors.invalid("Batching window is not supported for FIFO queues.", "maximumBatchingWindowInSeconds")
    if fifo and after.batch > limits.BATCH_FIFO_MAX:
        raise errors.invalid(f"BatchSize must be at most {limits.BATCH_FIFO_MAX} for FIFO queues.", "batchSize")
    if after.batch > limits.BATCH_FIFO_MAX and not after.window_s:
        text = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
        raise errors.invalid(text, "maximumBatchingWindowInSeconds")
    if after.concurrency is not None:
        errors.check_range("scalingConfig.maximumConcurrency", after.concurrency, limits.MAPPING_CONCURRENCY)
    if len(after.filters) > limits.FILTERS_MAX:
        raise errors.invalid(f"At most {limits.FILTERS_MAX} filters are allowed.", "filterCriteria")
    for pattern in after.filters:
        compile_pattern(pattern)
    return after


class Pattern(NamedTuple):
    """Compiled. `weight`: how many conditions it has."""

    check: Check
    weight: int

    def takes(self, whole: Whole, size: int) -> bool:
        """A message of so many bytes, within what it may cost. Raises TooMuch."""
        whole.spend(tests_of(self.weight, size))
        return self.check(whole.body, whole)


@lru_cache(maxsize=4096)
def compile_pattern(text: str) -> Pattern:
    """Raises InvalidParameterValueException."""
    errors.check_length("filterCriteria.filters.pattern", text, limits.FILTER_CHARS_MAX)
    try:
        pattern = json.loads(text)
        if not isinstance(pattern, dict):
            raise PolicyError("Filter is not an object")
        _check_lists(pattern)
        check = compile_object(pattern)
    except (PolicyError, ValueError, RecursionError, TypeError) as error:
        raise errors.invalid(f"Invalid filter pattern definition. {error}", "filterCriteria") from None
    return Pattern(check, weight(pattern))


def _check_lists(pattern: dict[str, Any]) -> None:
    for key, value in pattern.items():
        if isinstance(value, dict):
            _check_lists(value)
        elif not isinstance(value, list) or not value:
            raise PolicyError(f'"{key}" must be an object or an array')
