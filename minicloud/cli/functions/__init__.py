"""`minicloud function`: deploy, invoke, logs, versions, aliases, URLs, triggers."""

from __future__ import annotations

from minicloud.cli.functions import commands, triggers
from minicloud.cli.functions.commands import function

__all__ = ["commands", "function", "triggers"]
