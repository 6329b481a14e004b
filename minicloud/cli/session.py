"""What all commands share: where the cloud is, how to answer, one client; and `verb`, which makes a command.

`--output`, `--endpoint` and `--region` are understood before the noun and after the verb; the later one wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from minicloud.client import AsyncClient, Client

F = TypeVar("F", bound=Callable[..., Any])
_COMMON = ("output", "endpoint", "region")
_LINE_MAX = 300


@dataclass(slots=True)
class Session:
    """One run of the command line."""

    output: str = "table"
    endpoint: str = ""
    region: str = ""
    _client: Client | None = field(default=None, repr=False)

    @property
    def json(self) -> bool:
        return self.output == "json"

    @property
    def client(self) -> Client:
        """Made when it is first needed. Raises InvalidRequest (settings)."""
        if self._client is None:
            from minicloud.client import Client

            self._client = Client(self.endpoint or None, **self._options())
        return self._client

    def async_client(self) -> AsyncClient:
        """A new one, for commands that run an event loop of their own."""
        from minicloud.client import AsyncClient

        return AsyncClient(self.endpoint or None, **self._options())

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _options(self) -> Any:
        return {"region": self.region} if self.region else {}


class Noun(click.Group):
    """A group of verbs; their lines in `--help` are wrapped, not cut."""

    group_class = type

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            verbs = [(name, self.commands[name]) for name in self.list_commands(ctx)]
            formatter.write_dl([(name, one.get_short_help_str(_LINE_MAX)) for name, one in verbs])


def common_options(function: F) -> F:
    """--output, --endpoint, --region."""
    for option in (
        click.option("--region", expose_value=False, callback=_keep, help="Region of the resources."),
        click.option("--endpoint", expose_value=False, callback=_keep, help="Where the cloud is: HOST:PORT."),
        click.option(
            "--output",
            "-o",
            type=click.Choice(["table", "json"]),
            expose_value=False,
            callback=_keep,
            help="How to answer (default: table).",
        ),
    ):
        function = option(function)
    return function


def _keep(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    if value is not None:
        setattr(ctx.ensure_object(Session), option.name or "", value)


def verb(group: click.Group, name: str) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a function a command of a noun; its first argument is the Session, its answer the exit code (None: 0)."""

    def make(function: Callable[..., int | None]) -> click.Command:
        @wraps(function)
        @click.pass_context
        def with_session(ctx: click.Context, *args: Any, **kwargs: Any) -> int | None:
            return function(ctx.ensure_object(Session), *args, **kwargs)

        command = group.command(name)(common_options(with_session))
        command.params.sort(key=lambda param: param.name in _COMMON)  # stable: in `--help` they come last
        return command

    return make
