"""Rules: what events they take (a pattern), when they fire by themselves (a schedule), and where events go (targets).

Source: EventBridge API, PutRule and the operations around it. A rule is of the default bus. Its deliveries are on disk
before its next time is recorded: a crash in between fires it twice, never not at all. What was due while the cloud was
down fires once when it is up again.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, InvalidRequest
from minicloud.base.machine import Context, Draft, Outcome
from minicloud.base.tags import check_tags
from minicloud.event import errors, inputs, limits
from minicloud.event.commands import (
    DeleteRule,
    PutRule,
    PutTargets,
    RemoveTargets,
    RuleFired,
    SetRuleState,
    SetRuleTags,
)
from minicloud.event.model import Rule, Target
from minicloud.event.patterns import compile_pattern
from minicloud.event.state import State
from minicloud.shell import cron

_NAME = re.compile(r"[.\-_A-Za-z0-9]{1,64}\Z")
_NAME_PATTERN = r"[\.\-_A-Za-z0-9]+"
# What events can go to: functions (with a qualifier or without), queues, topics; of the rule's account and region.
_TARGET = re.compile(
    r"arn:aws:(lambda:(?P<r1>[a-z0-9-]+):(?P<a1>\d{12}):function:[A-Za-z0-9_-]{1,64}(:[A-Za-z0-9_$-]{1,128})?"
    r"|(sqs|sns):(?P<r2>[a-z0-9-]+):(?P<a2>\d{12}):[A-Za-z0-9_-]{1,256}(\.fifo)?)\Z"
)
_QUEUE = re.compile(r"arn:aws:sqs:([a-z0-9-]+):(\d{12}):[A-Za-z0-9_-]{1,80}(\.fifo)?\Z")
FIFO = ".fifo"


def rule_arn(scope: Scope, name: str) -> str:
    return scope.arn("events", f"rule/{name}")


def find(state: State, scope: Scope, name: str) -> Rule:
    """By name or ARN. Raises ResourceNotFoundException."""
    rule = _found(state, scope, name)
    if rule is None:
        raise errors.no_rule(name)
    return rule


def _found(state: State, scope: Scope, name: str) -> Rule | None:
    rule = state.rules.get(name if name.startswith("arn:") else rule_arn(scope, name))
    return rule if rule is not None and rule.scope == scope else None


def listed(state: State, scope: Scope, prefix: str = "", target_arn: str = "") -> dict[str, Rule]:
    """Rules by name, sorted: those whose names begin so, and that have this target ('': any)."""
    if target_arn:
        every = [one for one in state.of_target(target_arn) if one.scope == scope]
    else:
        every = [state.rules[key] for key in state.page(Rule.kind, scope)]
    return {one.name: one for one in sorted(every, key=lambda one: one.name) if one.name.startswith(prefix)}


def put(state: State, command: PutRule, context: Context) -> Outcome:
    """The reply is the Rule."""
    scope = command.scope
    _check_name("name", command.name)
    errors.check_length("description", command.description, limits.DESCRIPTION_CHARS_MAX)
    errors.check_length("scheduleExpression", command.expression, limits.EXPRESSION_CHARS_MAX)
    if not command.pattern and not command.expression:
        text = "Parameter(s) EventPattern or ScheduleExpression must be specified."
        raise errors.invalid(text, "EventPattern")
    if command.pattern:
        compile_pattern(command.pattern)
    arn = rule_arn(scope, command.name)
    before = state.rules.get(arn)
    if before is None and len(state.page(Rule.kind, scope)) >= limits.RULES_MAX:
        raise errors.too_many("rules", limits.RULES_MAX)
    made = Rule(
        arn,
        scope.account,
        scope.region,
        command.name,
        command.pattern,
        command.expression,
        context.now if before is None else before.created,
        command.enabled,
        command.description,
        next_time(command.expression, context.now, context.now),
        () if before is None else before.targets,
        _tagged(command.tags, {}) if before is None else before.tags,
    )
    return _kept(state, made)


def set_state(state: State, command: SetRuleState, context: Context) -> Outcome:
    """The reply is the Rule. A rate counts from when it was enabled."""
    before = find(state, command.scope, command.name)
    if before.enabled == command.enabled:
        return Outcome(before)
    after = replace(before, enabled=command.enabled, next=next_time(before.expression, context.now, context.now))
    return _kept(state, after)


def delete(state: State, command: DeleteRule, _context: Context) -> Outcome:
    """One that is not there is deleted already."""
    rule = _found(state, command.scope, command.name)
    draft = Draft(state)
    if rule is not None and rule.targets:
        raise errors.invalid("Rule can't be deleted since it has targets.", "Name")
    draft.drop(rule)
    return draft.outcome()


def put_targets(state: State, command: PutTargets, _context: Context) -> Outcome:
    """The reply is the Rule."""
    before = find(state, command.scope, command.rule)
    for target in command.targets:
        _check_target(target, command.scope)
    after = {one.id: one for one in before.targets} | {one.id: one for one in command.targets}
    if len(after) > limits.TARGETS_MAX:
        raise errors.too_many("targets", limits.TARGETS_MAX)
    return _kept(state, replace(before, targets=tuple(after.values())))


def remove_targets(state: State, command: RemoveTargets, _context: Context) -> Outcome:
    """The reply is the Rule. A target that is not there is removed already."""
    before = find(state, command.scope, command.rule)
    left = tuple(one for one in before.targets if one.id not in command.ids)
    return _kept(state, replace(before, targets=left))


def set_tags(state: State, command: SetRuleTags, _context: Context) -> Outcome:
    """The reply is the Rule."""
    before = find(state, command.scope, command.rule)
    kept = {name: value for name, value in before.tags.items() if name not in command.gone}
    return _kept(state, replace(before, tags=_tagged(command.tags, kept)))


def fired(state: State, command: RuleFired, context: Context) -> Outcome:
    """The next time is after now: what was missed is not made up for."""
    rule = state.rules.get(command.arn)
    if rule is None or rule.next != command.at:
        return Outcome()
    return _kept(state, replace(rule, next=next_time(rule.expression, context.now, command.at)))


def next_time(expression: str, now: float, last: float) -> float | None:
    """None: never, or there is no expression. Raises ValidationException."""
    if not expression:
        return None
    try:
        return cron.next_time(expression, UTC, now, last)
    except ValueError:
        raise errors.not_valid("ScheduleExpression") from None


def _kept(state: State, rule: Rule) -> Outcome:
    """A rule that is disabled fires at no time."""
    kept = rule if rule.enabled else replace(rule, next=None)
    draft = Draft(state)
    draft.put(kept)
    return draft.outcome(kept)


def _check_name(field: str, name: str) -> None:
    if not _NAME.match(name):
        raise errors.out_of_model(field, name, f"Member must satisfy regular expression pattern: {_NAME_PATTERN}")


def _tagged(tags: object, kept: dict[str, str]) -> dict[str, str]:
    try:
        return check_tags(dict(tags), "Tags", kept=kept)  # type: ignore[call-overload]
    except CloudError as error:
        if isinstance(error, InvalidRequest):
            raise errors.invalid(error.message, error.field or "Tags") from None
        raise errors.too_many("tags", 50) from None


def _check_target(target: Target, scope: Scope) -> None:
    _check_name("id", target.id)
    found = _TARGET.match(target.arn)
    if found is None:
        reason = "Provided Arn is not in correct format."
        if target.arn.startswith("arn:aws:"):
            reason = "minicloud has functions, queues and topics as targets."
        raise errors.not_valid(target.arn[:256], reason, "Arn")
    where = (found["r1"] or found["r2"], found["a1"] or found["a2"])
    if where != (scope.region, scope.account):
        raise errors.not_valid(target.arn, "Targets are of the rule's account and region.", "Arn")
    fifo = target.arn.endswith(FIFO)
    if fifo and target.arn.startswith("arn:aws:sns:"):
        raise errors.not_valid(target.arn, "FIFO topics are no targets of rules.", "Arn")
    if fifo != bool(target.group):
        text = f"Parameter(s) SqsParameters must be specified for target: {target.id}."
        if target.group:
            text = f"Parameter(s) SqsParameters are not valid for target: {target.id}. It is no FIFO queue."
        raise errors.invalid(text, "SqsParameters")
    errors.check_length("messageGroupId", target.group, limits.GROUP_CHARS_MAX)
    if target.retries is not None:
        errors.check_range("maximumRetryAttempts", target.retries, limits.RETRIES)
    if target.age_s is not None:
        errors.check_range("maximumEventAgeInSeconds", target.age_s, limits.AGE_S)
    queue = _QUEUE.match(target.dead_letter)
    if target.dead_letter and (queue is None or queue.groups() != (scope.region, scope.account, None)):
        reason = "It must be the ARN of a standard queue of the rule's account and region."
        raise errors.not_valid("DeadLetterConfig.Arn", reason)
    inputs.check(target)
