"""The machine of rules: requests in, records and effects out. The rules of it are in rules.py.

Never: two rules of one name in a scope; one without pattern and expression; a target that is not of its rule's scope.
"""

from __future__ import annotations

from minicloud.base.machine import Outcome, RuleMachine, Tick
from minicloud.event import commands, rules
from minicloud.event.state import State


class Rules(RuleMachine[State]):
    """Never due by itself: what fires by time is the service's (rules.py says why)."""

    def __init__(self) -> None:
        super().__init__(
            State(),
            {
                commands.PutRule: rules.put,
                commands.SetRuleState: rules.set_state,
                commands.DeleteRule: rules.delete,
                commands.PutTargets: rules.put_targets,
                commands.RemoveTargets: rules.remove_targets,
                commands.SetRuleTags: rules.set_tags,
                commands.RuleFired: rules.fired,
                Tick: lambda _state, _command, _context: Outcome(),
            },
        )
