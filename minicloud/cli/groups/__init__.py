"""`minicloud group`: each module adds its verbs to the noun."""

from minicloud.cli.groups import hooks, members, refreshes, watch

__all__ = ["hooks", "members", "refreshes", "watch"]
