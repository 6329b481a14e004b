"""Dashboards: documents of an account, kept and handed out as they were put. Source: CloudWatch API, PutDashboard.

An account's dashboards are the same in every region. What is in a document is looked at as far as that it is an object
with a list of widgets; nothing here draws them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Entity, Outcome, Record, ScopedTables
from minicloud.metric import errors, limits

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")
_NO_REGION = ""


@dataclass(frozen=True, slots=True)
class Dashboard(Entity):
    kind: ClassVar[str] = "dashboard"

    account: str
    name: str
    text: str
    changed: float
    region: str = _NO_REGION

    @property
    def arn(self) -> str:
        return arn_of(self.account, self.name)


@dataclass(frozen=True, slots=True)
class PutDashboard:
    account: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class DeleteDashboards:
    account: str
    names: Sequence[str]


def arn_of(account: str, name: str) -> str:
    return f"arn:aws:cloudwatch::{account}:dashboard/{name}"


class Dashboards(ScopedTables):
    def __init__(self) -> None:
        super().__init__({Dashboard.kind: Dashboard})
        self.found: dict[str, Dashboard] = self.tables[Dashboard.kind]
        self._chars: Counter[str] = Counter()  # of an account's documents

    def keep(self, entity: Any, *, there: bool) -> None:
        super().keep(entity, there=there)
        self._chars[entity.account] += len(entity.text) if there else -len(entity.text)

    def get(self, account: str, name: str) -> Dashboard:
        """Raises NotFound."""
        found = self.found.get(arn_of(account, name))
        if found is None:
            raise errors.no_such_dashboard(name)
        return found

    def named(self, account: str, prefix: str) -> list[str]:
        """The sorted ARNs of those whose names begin so."""
        start = arn_of(account, prefix)
        return [arn for arn in self.page(Dashboard.kind, Scope(account, _NO_REGION)) if arn.startswith(start)]

    def put(self, command: PutDashboard, context: Context) -> Outcome:
        _check(command.name, command.text)
        made = Dashboard(command.account, command.name, command.text, context.now)
        before = self.found.get(made.arn)
        chars = self._chars[made.account] + len(made.text) - (len(before.text) if before else 0)
        if chars > limits.DASHBOARDS_CHARS_MAX:
            raise errors.too_many_dashboards(limits.DASHBOARDS_CHARS_MAX)
        return Outcome(None, [Record(Dashboard.kind, made.key, made.body())])

    def delete(self, command: DeleteDashboards, _context: Context) -> Outcome:
        """All of them or, where one is not there, none."""
        found = [self.get(command.account, name) for name in dict.fromkeys(command.names)]
        return Outcome(None, [Record(Dashboard.kind, one.key, None) for one in found])


def _check(name: str, text: str) -> None:
    """Raises InvalidParameterInput."""
    if not _NAME.match(name):
        raise errors.bad_dashboard("DashboardName must be 1 to 255 of A-Z, a-z, 0-9, '-' and '_'.", "DashboardName")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise errors.bad_dashboard("The field DashboardBody must be a valid JSON object.", "DashboardBody")
    if not isinstance(body.get("widgets"), list):
        raise errors.bad_dashboard("The dashboard body must have a list of widgets.", "DashboardBody")
    if len(body["widgets"]) > limits.DASHBOARD_WIDGETS_MAX:
        most = limits.DASHBOARD_WIDGETS_MAX
        raise errors.bad_dashboard(f"A dashboard has at most {most} widgets.", "DashboardBody")
