"""Rules of application balancers: conditions, a priority, an action. Source: elbv2 API, CreateRule."""

from __future__ import annotations

from dataclasses import replace

from minicloud.balancer import actions, conditions, errors, limits
from minicloud.balancer.association import relink
from minicloud.balancer.commands import CreateRule, DeleteRule, ModifyRule, SetPriorities
from minicloud.balancer.listeners import find as find_listener
from minicloud.balancer.listeners import rule_arn
from minicloud.balancer.model import APPLICATION, Listener, Rule
from minicloud.balancer.state import State
from minicloud.balancer.tagging import checked_tags
from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Draft, Outcome


def find(state: State, scope: Scope, arn: str) -> Rule:
    rule = state.rules.get(arn)
    if rule is None or rule.scope != scope:
        raise errors.no_rule()
    return rule


def create(state: State, command: CreateRule, context: Context) -> Outcome:
    """The reply is the Rule."""
    listener = find_listener(state, command.scope, command.listener)
    balancer = state.balancers[listener.balancer]
    if balancer.type != APPLICATION:
        raise errors.bad_configuration("Rules are not supported by network load balancers", "listener")
    _check_priority(command.priority)
    if any(rule.priority == command.priority for rule in state.rules_of(listener.arn)):
        raise errors.priority_taken(command.priority)
    count = sum(len(state.rules_of(one.arn)) - 1 for one in state.listeners_of(balancer.arn))
    if count >= limits.RULES_MAX:
        raise errors.too_many(
            "TooManyRules", f"The maximum number of rules, {limits.RULES_MAX}, is reached", "listener"
        )
    rule = Rule(
        arn=rule_arn(listener.arn, context),
        account=listener.account,
        region=listener.region,
        listener=listener.arn,
        priority=command.priority,
        action=actions.checked(state, balancer, listener.protocol, command.action),
        conditions=conditions.checked(command.conditions),
        tags=checked_tags(command.tags),
    )
    draft = Draft(state)
    draft.put(rule)
    relink(draft, balancer, ([], [rule]), context.now)
    return draft.outcome(rule)


def modify(state: State, command: ModifyRule, context: Context) -> Outcome:
    """The reply is the Rule."""
    before = find(state, command.scope, command.arn)
    if before.is_default:
        raise errors.default_rule("modified", before.arn)
    listener = state.listeners[before.listener]
    balancer = state.balancers[listener.balancer]
    after = before
    if command.action is not None:
        after = replace(after, action=actions.checked(state, balancer, listener.protocol, command.action))
    if command.conditions is not None:
        after = replace(after, conditions=conditions.checked(command.conditions))
    draft = Draft(state)
    draft.put(after)
    relink(draft, balancer, ([before], [after]), context.now)
    return draft.outcome(after)


def set_priorities(state: State, command: SetPriorities, _context: Context) -> Outcome:
    """The reply is the rules in the order given. Rules may change places; all of one listener."""
    changed = []
    for arn, priority in command.priorities.items():
        rule = find(state, command.scope, arn)
        if rule.is_default:
            raise errors.default_rule("reordered", arn)
        _check_priority(priority)
        changed.append(replace(rule, priority=priority))
    if len({rule.listener for rule in changed}) > 1:
        raise errors.bad_configuration("All rules must belong to the same listener", "priorities")
    if changed:
        _check_free(state, state.listeners[changed[0].listener], changed)
    draft = Draft(state)
    for rule in changed:
        draft.put(rule)
    return draft.outcome(changed)


def _check_free(state: State, listener: Listener, changed: list[Rule]) -> None:
    moved = {rule.arn for rule in changed}
    taken = {rule.priority for rule in state.rules_of(listener.arn) if rule.arn not in moved}
    for rule in changed:
        if rule.priority in taken:
            raise errors.priority_taken(rule.priority)
        taken.add(rule.priority)


def _check_priority(priority: int) -> None:
    if not 1 <= priority <= limits.PRIORITY_MAX:
        raise errors.invalid(f"Rule priority '{priority}' must be between 1 and {limits.PRIORITY_MAX}", "priority")


def delete(state: State, command: DeleteRule, context: Context) -> Outcome:
    rule = find(state, command.scope, command.arn)
    if rule.is_default:
        raise errors.default_rule("deleted", rule.arn)
    balancer = state.balancers[state.listeners[rule.listener].balancer]
    draft = Draft(state)
    relink(draft, balancer, ([rule], []), context.now)
    draft.drop(rule)
    return draft.outcome()
