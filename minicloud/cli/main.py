"""`minicloud`: noun, then verb. Each noun's module is imported when it is named, so that `--help` stays quick.

exit codes      0 done, 1 failed, 2 not understood; `exec` and `connect` pass on the command's own
stdout          results: a table, or JSON with `--output json` (lists are arrays, streams are one object a line)
stderr          progress, warnings, errors
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import sys
from collections.abc import Sequence

import click

from minicloud import __version__
from minicloud.base.errors import CloudError
from minicloud.cli.session import Noun, Session, common_options
from minicloud.cli.trouble import show_error

# noun: where it is, and its line in `--help` (a test holds these against the commands' own)
NOUNS = {
    "up": ("minicloud.cli.lifecycle.commands:up", "Start a cloud."),
    "down": ("minicloud.cli.lifecycle.commands:down", "End a cloud; its data stays."),
    "status": ("minicloud.cli.lifecycle.commands:status", "What of a cloud is running."),
    "doctor": ("minicloud.cli.lifecycle.commands:doctor", "What this machine allows, and what to do about the rest."),
    "demo": ("minicloud.cli.demo:demo", "Bring up a cloud, use it, break it, show what it reports, end it."),
    "bench": ("minicloud.cli.bench:bench", "List benchmarks, or run one."),
    "certs": ("minicloud.cli.certs:certs", "Make a CA and a certificate for a cloud that others can reach."),
    "instance": ("minicloud.cli.instance:instance", "Virtual servers: launch, use, change, end."),
    "type": ("minicloud.cli.instance_type:type_", "Instance types and their families."),
    "host": ("minicloud.cli.host:host", "Nodes that instances run on."),
    "image": ("minicloud.cli.image:image", "Images: what an instance's disk starts as."),
    "template": ("minicloud.cli.template:template", "Launch templates and their versions."),
    "key": ("minicloud.cli.key:key", "SSH key pairs for instances."),
    "placement-group": ("minicloud.cli.placement_group:placement_group", "Instances near to, or far from, each other."),
    "security-group": (
        "minicloud.cli.security_group:security_group",
        "What may reach instances, and what they may reach.",
    ),
    "queue": ("minicloud.cli.queue:queue", "Queues: send, receive, delete messages; dead letters."),
    "topic": ("minicloud.cli.topic:topic", "Topics: publish messages to all who are subscribed."),
    "function": ("minicloud.cli.functions:function", "Functions: code that runs when it is called."),
    "rule": ("minicloud.cli.rule:rule", "Rules: what is done when an event matches, or at a time."),
    "balancer": ("minicloud.cli.balancer:balancer", "Load balancers: listeners, rules, certificates."),
    "target-group": (
        "minicloud.cli.target_group:target_group",
        "Target groups: what balancers forward to, and its health.",
    ),
    "metric": ("minicloud.cli.metric:metric", "Metrics: what is measured, and what you report yourself."),
    "alarm": ("minicloud.cli.alarm:alarm", "Alarms: what is done when a metric crosses a line."),
    "group": ("minicloud.cli.groups.noun:group", "Auto scaling groups: as many instances as the load needs."),
    "policy": ("minicloud.cli.policy:policy", "Scaling policies and schedules of auto scaling groups, and forecasts."),
    "log": ("minicloud.cli.log:log", "Logs: groups and streams, what is in them, and what comes."),
    "account": ("minicloud.cli.account:account", "Accounts and their access keys."),
    "quota": ("minicloud.cli.account:quota", "How much an account may use."),
}


class Nouns(Noun):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in NOUNS:
            return None
        module, _, attribute = NOUNS[cmd_name][0].partition(":")
        try:
            found: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"'minicloud {cmd_name}' needs the package {error.name!r}: pip install 'minicloud[server]'"
            ) from None
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if near := difflib.get_close_matches(args[0], NOUNS, n=1):
                ctx.fail(f"No such command '{args[0]}'. Did you mean '{near[0]}'?")
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in NOUNS.items()])


@click.group(cls=Nouns, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="minicloud")
@common_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A cloud you can hold in one hand."""
    ctx.ensure_object(Session)


def run(args: Sequence[str] | None = None) -> int:
    """One command line; returns the exit code. Errors are shown on stderr."""
    session = Session()
    try:
        code = cli.main(args, prog_name="minicloud", obj=session, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115  the reader left; nothing may be written at exit either
        return 0
    except CloudError as error:
        show_error(error, session.output)
        return 1
    except OSError as error:
        show_error(CloudError(str(error), code=type(error).__name__), session.output)
        return 1
    finally:
        with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: the connections end with the process
            session.close()
    return code if isinstance(code, int) else 0


def main() -> None:
    sys.exit(run())


if __name__ == "__main__":
    main()
