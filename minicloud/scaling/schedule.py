"""Recurring schedules: five-field cron expressions in a time zone (shell/cron.py).

After the API's PutScheduledUpdateGroupAction and crontab(5).
"""

from __future__ import annotations

from datetime import tzinfo

from minicloud.scaling.errors import invalid
from minicloud.shell import cron


def parse(text: str) -> cron.Cron:
    """Raises InvalidParameterValue (ValidationError)."""
    try:
        return cron.Cron.parse(text)
    except ValueError:
        raise invalid(f"Given recurrence string: {text[:255]} is invalid", "recurrence") from None


def time_zone(name: str) -> tzinfo:
    """A zone of the IANA database; "" is UTC. Raises InvalidParameterValue (ValidationError)."""
    try:
        return cron.time_zone(name)
    except ValueError:
        raise invalid(f"TimeZone '{name[:64]}' is not a name of the IANA time zone database", "time_zone") from None
