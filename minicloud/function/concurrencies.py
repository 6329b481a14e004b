"""Settings of concurrency and of asynchronous invocation. Source: lambda API, PutFunctionConcurrency,
PutProvisionedConcurrencyConfig, PutFunctionEventInvokeConfig.
"""

from __future__ import annotations

from dataclasses import replace

from minicloud.base.machine import Context, Draft, Outcome
from minicloud.function import checks, errors, limits, names
from minicloud.function.commands import DeleteEventInvoke, SetEventInvoke, SetProvisioned, SetReserved
from minicloud.function.model import LATEST, EventInvoke, Provisioned
from minicloud.function.state import State


def set_reserved(state: State, command: SetReserved, _context: Context) -> Outcome:
    """The reply is the count, None where there is none now."""
    function = names.find(state, command.scope, command.function)
    count = command.count
    if count is not None:
        errors.check_range("reservedConcurrentExecutions", count, (0, 1 << 31))
    others = state.reserved(command.scope) - (function.reserved or 0)
    if count is not None and others + count > limits.ACCOUNT_CONCURRENCY - limits.UNRESERVED_MIN:
        raise errors.invalid(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
            f"below its minimum value of [{limits.UNRESERVED_MIN}].",
            "reservedConcurrentExecutions",
        )
    kept = sum(one.count for one in state.of(Provisioned.kind, function.arn))
    if count is not None and count < kept:
        raise errors.invalid(
            f"ReservedConcurrentExecutions {count} should not be lower than function's total provisioned "
            f"concurrency [{kept}].",
            "reservedConcurrentExecutions",
        )
    draft = Draft(state)
    draft.put(replace(function, reserved=count))
    return draft.outcome(count)


def set_provisioned(state: State, command: SetProvisioned, context: Context) -> Outcome:
    """The reply is the Provisioned, None where there is none now."""
    target = names.resolve(state, command.scope, command.function, command.qualifier)
    if target.arn == target.function.arn or target.version.version == LATEST:
        text = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
        raise errors.invalid(text, "qualifier")
    draft = Draft(state)
    if command.count is None:
        draft.drop(find_provisioned(state, target.arn))
        return draft.outcome()
    if command.count < 1:
        errors.check_range("provisionedConcurrentExecutions", command.count, (1, limits.ACCOUNT_CONCURRENCY))
    function = target.function
    others = [one for one in state.of(Provisioned.kind, function.arn) if one.arn != target.arn]
    if any(_shares(state, one, target.version.version) for one in others):
        text = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
        raise errors.Busy(text, field="qualifier")
    most = function.reserved if function.reserved is not None else limits.ACCOUNT_CONCURRENCY - limits.UNRESERVED_MIN
    if sum(one.count for one in others) + command.count > most:
        raise errors.invalid(
            "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for "
            f"function [{most}].",
            "provisionedConcurrentExecutions",
        )
    made = Provisioned(target.arn, function.arn, function.account, function.region, command.count, context.now)
    draft.put(made)
    return draft.outcome(made)


def _shares(state: State, one: Provisioned, version: str) -> bool:
    alias = state.aliases.get(one.arn)
    return version == (alias.version if alias is not None else one.arn.rpartition(":")[2])


def find_provisioned(state: State, arn: str) -> Provisioned:
    found = state.provisioned.get(arn)
    if found is None:
        text = "No Provisioned Concurrency Config found for this function"
        raise errors.NoSuchThing(text, code="ProvisionedConcurrencyConfigNotFoundException", field="qualifier")
    return found


def set_event_invoke(state: State, command: SetEventInvoke, context: Context) -> Outcome:
    """The reply is the EventInvoke."""
    target = names.resolve(state, command.scope, command.function, command.qualifier)
    function = target.function
    arn = event_invoke_arn(target)
    before = state.event_invokes.get(arn)
    if before is None and not command.whole:
        raise no_event_invoke(arn)
    if before is None or command.whole:
        before = EventInvoke(arn, function.arn, function.account, function.region, context.now)
    given = {name: getattr(command, name) for name in ("retries", "age_s", "on_success", "on_failure")}
    after = replace(before, modified=context.now, **{name: value for name, value in given.items() if value is not None})
    if after.retries is not None:
        errors.check_range("maximumRetryAttempts", after.retries, limits.RETRIES)
    if after.age_s is not None:
        errors.check_range("maximumEventAgeInSeconds", after.age_s, limits.EVENT_AGE_S)
    for name in ("on_success", "on_failure"):
        _check_destination(state, command, getattr(after, name), name)
    draft = Draft(state)
    draft.put(after)
    return draft.outcome(after)


def _check_destination(state: State, command: SetEventInvoke, arn: str, name: str) -> None:
    """A queue, a topic, or another function."""
    if arn.startswith("arn:aws:lambda:"):
        names.resolve(state, command.scope, arn)
    elif arn:
        checks.check_target(command.scope, arn, f"destinationConfig.{name}")


def delete_event_invoke(state: State, command: DeleteEventInvoke, _context: Context) -> Outcome:
    target = names.resolve(state, command.scope, command.function, command.qualifier)
    draft = Draft(state)
    draft.drop(find_event_invoke(state, target))
    return draft.outcome()


def find_event_invoke(state: State, target: names.Target) -> EventInvoke:
    found = state.event_invokes.get(event_invoke_arn(target))
    if found is None:
        raise no_event_invoke(event_invoke_arn(target))
    return found


def event_invoke_arn(target: names.Target) -> str:
    """Without a qualifier it is $LATEST's."""
    return f"{target.function.arn}:{LATEST}" if target.arn == target.function.arn else target.arn


def no_event_invoke(arn: str) -> errors.NoSuchThing:
    return errors.NoSuchThing(f"The function {arn} doesn't have an EventInvokeConfig", field="function")
