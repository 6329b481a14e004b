"""`minicloud balancer`: load balancers, listeners, rules, certificates. BALANCER is a name or ARN, LISTENER an ARN or
BALANCER:PORT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from minicloud.base.errors import NotFound
from minicloud.cli import options
from minicloud.cli.output import Columns, cell, say, show_list, show_one, show_tags
from minicloud.cli.session import Noun, Session, verb

if TYPE_CHECKING:
    from minicloud.client.balancer_models import BalancerAction, RuleCondition

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS: Columns = (
    ("NAME", lambda b: b.name),
    ("TYPE", lambda b: b.type),
    ("ADDRESS", lambda b: b.address),
    ("DNS", lambda b: b.dns_name),
)
LISTENERS: Columns = (
    ("PORT", lambda one: one.port),
    ("PROTOCOL", lambda one: one.protocol),
    ("ACTION", lambda one: said(one.action)),
    ("PROBLEM", lambda one: one.problem),
    ("ARN", lambda one: one.arn),
)
RULES: Columns = (
    ("PRIORITY", lambda rule: rule.priority or "default"),
    ("IF", lambda rule: "; ".join(f"{c.header or c.field}: {cell(c.values)}" for c in rule.conditions)),
    ("ACTION", lambda rule: said(rule.action)),
    ("ARN", lambda rule: rule.arn),
)
CERTIFICATES: Columns = (
    ("NAMES", lambda one: one.names),
    ("EXPIRES", lambda one: one.expires_time),
    ("ARN", lambda one: one.arn),
)
BALANCER = click.argument("balancer")
LISTENER = click.argument("listener", metavar="LISTENER")
RULE = click.argument("rule", metavar="RULE_ARN")
_FIELDS = {
    "hosts": "host-header",
    "paths": "path-pattern",
    "methods": "http-request-method",
    "queries": "query-string",
    "sources": "source-ip",
}


def action(function: F) -> F:
    """--to, --redirect, --fixed: the parameter names are to, sticky, redirect, fixed, text."""
    for option in reversed(
        (
            click.option("--to", multiple=True, metavar="GROUP[=WEIGHT]", help="Forward to this target group."),
            click.option("--sticky", type=int, default=0, metavar="SECONDS", help="A client stays with one group."),
            click.option("--redirect", metavar="URL", help="Such as 'https://#{host}:443/#{path}?#{query}'."),
            click.option("--fixed", type=int, metavar="CODE", help="Answer with this status."),
            click.option("--text", default="", help="The body of --fixed."),
        )
    ):
        function = option(function)
    return function


def conditions(function: F) -> F:
    """--host, --path, --method, --query, --source, --header."""
    for option in reversed(
        (
            click.option("--host", "hosts", multiple=True, metavar="NAME", help="* and ? are wildcards."),
            click.option("--path", "paths", multiple=True, metavar="PATTERN", help="Such as '/img/*'."),
            click.option("--method", "methods", multiple=True, help="HTTP method."),
            click.option(
                "--query",
                "queries",
                multiple=True,
                metavar="[KEY]=VALUE",
                help="In the query string; * and ? are wild.",
            ),
            click.option("--source", "sources", multiple=True, metavar="CIDR", help="Where the client is."),
            click.option(
                "--header", "headers", multiple=True, metavar="NAME=VALUE", help="Of the request; * and ? are wild."
            ),
        )
    ):
        function = option(function)
    return function


@click.group(cls=Noun)
def balancer() -> None:
    """Load balancers: listeners, rules, certificates."""


@verb(balancer, "create")
@click.argument("name")
@click.option(
    "--type",
    type=click.Choice(["application", "network"]),
    default="application",
    show_default=True,
    help="For HTTP, or for TCP and TLS.",
)
@click.option("--internal", is_flag=True, help="Its scheme; the address is a loopback address either way.")
@click.option("--zone", "zones", multiple=True, help="Only targets in these zones.")
@options.tags
def create(
    session: Session, name: str, type: str, internal: bool, zones: tuple[str, ...], tags: dict[str, str]
) -> None:
    """Make a balancer; one that is the same already is shown."""
    scheme = "internal" if internal else "internet-facing"
    made = session.client.balancers.create(name, type=type, scheme=scheme, zones=zones, tags=tags)
    show_list(session, [made], COLUMNS)


@verb(balancer, "list")
def list_balancers(session: Session) -> None:
    """Balancers of this account and region."""
    show_list(session, session.client.balancers.list(), COLUMNS)


@verb(balancer, "show")
@BALANCER
def show(session: Session, balancer: str) -> None:
    """Everything about one balancer."""
    show_one(session, session.client.balancers.get(balancer))


@verb(balancer, "set")
@click.argument("arn", metavar="BALANCER | ARN")
@click.argument("attributes", nargs=-1, required=True, metavar="NAME=VALUE...", callback=options.parse_pairs)
def set_attributes(session: Session, arn: str, attributes: dict[str, str]) -> None:
    """Change attributes of a balancer, or of a listener or target group by its ARN."""
    show_tags(session, session.client.balancers.set_attributes(_arn(session, arn), attributes))


@verb(balancer, "tag")
@click.argument("arn", metavar="BALANCER | ARN")
@click.argument("tags", nargs=-1, required=True, metavar="KEY=VALUE...", callback=options.parse_pairs)
def tag(session: Session, arn: str, tags: dict[str, str]) -> None:
    """Add tags or change their values, of anything here that has an ARN."""
    show_tags(session, session.client.balancers.tag(_arn(session, arn), tags))


@verb(balancer, "untag")
@click.argument("arn", metavar="BALANCER | ARN")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def untag(session: Session, arn: str, keys: tuple[str, ...]) -> None:
    """Remove tags."""
    show_tags(session, session.client.balancers.untag(_arn(session, arn), *keys))


@verb(balancer, "delete")
@BALANCER
def delete(session: Session, balancer: str) -> None:
    """Delete a balancer with its listeners and rules."""
    session.client.balancers.delete(balancer)
    say(session, {"deleted": balancer}, f"{balancer} is deleted")


# ---------------------------------------------------------------- listeners


@verb(balancer, "listen")
@BALANCER
@click.argument("port", type=int)
@click.option("--protocol", default="HTTP", show_default=True, help="HTTP, HTTPS; of network balancers TCP, TLS.")
@click.option("--certificate", "certificates", multiple=True, metavar="ARN", help="For HTTPS and TLS.")
@click.option("--ssl-policy", default="", help="An AWS policy's name: protocols and ciphers.")
@action
def listen(session: Session, balancer: str, port: int, protocol: str, **given: Any) -> None:
    """Open a port of a balancer."""
    certificates, policy = given.pop("certificates"), given.pop("ssl_policy")
    made = session.client.balancers.listen(
        balancer, port, to_action(**given), protocol=protocol, certificates=certificates, ssl_policy=policy
    )
    show_list(session, [made], LISTENERS)


@verb(balancer, "listeners")
@BALANCER
def listeners(session: Session, balancer: str) -> None:
    """The ports of a balancer."""
    show_list(session, session.client.balancers.listeners(balancer), LISTENERS)


@verb(balancer, "modify-listener")
@LISTENER
@click.option("--port", type=int, help="Another port.")
@click.option("--protocol", help="Another protocol.")
@click.option("--certificate", metavar="ARN", help="The default one.")
@click.option("--add-certificate", "add_certificates", multiple=True, metavar="ARN", help="Chosen by name (SNI).")
@click.option(
    "--remove-certificate", "remove_certificates", multiple=True, metavar="ARN", help="Takes it off the listener."
)
@click.option("--ssl-policy", help="An AWS policy's name: protocols and ciphers.")
@action
def modify_listener(session: Session, listener: str, to: tuple[str, ...], **given: Any) -> None:
    """Change a listener; what is not given stays."""
    asked = {name: given.pop(name) for name in ("sticky", "redirect", "fixed", "text")}
    wanted = to_action(to, **asked) if to or asked["redirect"] or asked["fixed"] else None
    made = session.client.balancers.modify_listener(_listener(session, listener), action=wanted, **given)
    show_list(session, [made], LISTENERS)


@verb(balancer, "close")
@LISTENER
def close(session: Session, listener: str) -> None:
    """Close a port: delete a listener with its rules."""
    session.client.balancers.delete_listener(_listener(session, listener))
    say(session, {"deleted": listener}, f"{listener} is closed")


# ---------------------------------------------------------------- rules


@verb(balancer, "rule")
@LISTENER
@click.argument("priority", type=int)
@conditions
@action
def rule(session: Session, listener: str, priority: int, to: tuple[str, ...], **given: Any) -> None:
    """Add a rule. All kinds of condition that are given must hold, with any of their values."""
    wanted = to_action(to, *(given.pop(name) for name in ("sticky", "redirect", "fixed", "text")))
    arn = _listener(session, listener)
    show_list(session, [session.client.balancers.create_rule(arn, priority, to_conditions(given), wanted)], RULES)


@verb(balancer, "rules")
@LISTENER
def rules(session: Session, listener: str) -> None:
    """The rules of a listener, in the order in which they are tried."""
    show_list(session, session.client.balancers.rules(_listener(session, listener)), RULES)


@verb(balancer, "modify-rule")
@RULE
@click.option("--priority", type=int, help="The lowest is tried first.")
@conditions
@action
def modify_rule(session: Session, rule: str, priority: int | None, to: tuple[str, ...], **given: Any) -> None:
    """Change a rule; what is not given stays."""
    asked = {name: given.pop(name) for name in ("sticky", "redirect", "fixed", "text")}
    wanted = to_action(to, **asked) if to or asked["redirect"] or asked["fixed"] else None
    client = session.client.balancers
    found = to_conditions(given)
    shown = [client.modify_rule(rule, conditions=found, action=wanted)] if found or wanted else []
    if priority is not None:
        shown = list(client.set_rule_priorities({rule: priority}))
    show_list(session, shown, RULES)


@verb(balancer, "delete-rule")
@RULE
def delete_rule(session: Session, rule: str) -> None:
    """Delete a rule."""
    session.client.balancers.delete_rule(rule)
    say(session, {"deleted": rule}, f"{rule} is deleted")


# ---------------------------------------------------------------- certificates


@verb(balancer, "import-certificate")
@click.argument("certificate", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("key", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--chain",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file of the certificates between it and the CA.",
)
@options.tags
def import_certificate(
    session: Session, certificate: Path, key: Path, chain: Path | None, tags: dict[str, str]
) -> None:
    """Import a certificate and its unencrypted key, PEM files."""
    texts = [path.read_text(errors="replace") if path else "" for path in (certificate, key, chain)]
    show_list(session, [session.client.balancers.import_certificate(*texts, tags=tags)], CERTIFICATES)


@verb(balancer, "certificates")
def certificates(session: Session) -> None:
    """Certificates that listeners can use."""
    show_list(session, session.client.balancers.certificates(), CERTIFICATES)


@verb(balancer, "delete-certificate")
@click.argument("arn")
def delete_certificate(session: Session, arn: str) -> None:
    """Delete a certificate that no listener uses."""
    session.client.balancers.delete_certificate(arn)
    say(session, {"deleted": arn}, f"{arn} is deleted")


# ---------------------------------------------------------------- what was typed


def to_action(
    to: tuple[str, ...] = (), sticky: int = 0, redirect: str | None = None, fixed: int | None = None, text: str = ""
) -> BalancerAction:
    """Raises click.UsageError."""
    from minicloud.client import balancer_models as models

    if sum((bool(to), redirect is not None, fixed is not None)) != 1:
        raise click.UsageError("one of --to, --redirect and --fixed")
    if fixed is not None:
        return models.fixed_response(fixed, text)
    if redirect is not None:
        return models.redirect(**_parts(redirect))
    groups = []
    for one in to:
        group, equals, weight = one.partition("=")
        if equals and not weight.isdigit():
            raise click.UsageError(f"{one!r} is not GROUP or GROUP=WEIGHT")
        groups.append(models.WeightedGroup(group, int(weight) if equals else None))
    return models.forward(*groups, sticky_s=sticky)


def _parts(url: str) -> dict[str, Any]:
    """Of PROTOCOL://HOST:PORT/PATH?QUERY, where #{...} may stand for each."""
    protocol, found, rest = url.partition("://")
    if not found:
        raise click.UsageError(f"{url!r} is not PROTOCOL://HOST:PORT/PATH?QUERY")
    where, slash, rest = rest.partition("/")
    host, colon, port = where.partition(":")
    path, mark, query = rest.partition("?")
    parts: dict[str, Any] = {"protocol": protocol if protocol.startswith("#") else protocol.upper(), "host": host}
    parts |= {"port": port} if colon else {}
    parts |= {"path": f"/{path}"} if slash else {}
    return parts | ({"query": query} if mark else {})


def to_conditions(given: dict[str, Any]) -> list[RuleCondition]:
    """Raises click.UsageError."""
    from minicloud.client.balancer_models import RuleCondition

    found = [RuleCondition(name, tuple(given[key])) for key, name in _FIELDS.items() if given[key]]
    headers: dict[str, list[str]] = {}
    for text in given["headers"]:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"{text!r} is not NAME=VALUE")
        headers.setdefault(name, []).append(value)
    return found + [RuleCondition("http-header", tuple(values), name) for name, values in headers.items()]


def said(one: BalancerAction) -> str:
    """An action in a cell of a table."""
    if one.type == "redirect":
        query = f"?{one.query}" if one.query else ""
        return f"{one.status} {one.protocol.lower()}://{one.host}:{one.port}{one.path}{query}"
    if one.type == "fixed-response":
        return f"answers {one.status}"
    names = [f"{group.target_group.split('/')[-2]}={group.weight}" for group in one.groups]
    return "to " + ", ".join(names)


def _arn(session: Session, reference: str) -> str:
    return reference if reference.startswith("arn:") else session.client.balancers.get(reference).arn


def _listener(session: Session, reference: str) -> str:
    """ARN, or BALANCER:PORT. Raises NotFound."""
    if reference.startswith("arn:"):
        return reference
    name, _, port = reference.rpartition(":")
    for one in session.client.balancers.listeners(name or reference):
        if str(one.port) == port:
            return one.arn
    raise NotFound(f"no listener {reference}: give its ARN, or BALANCER:PORT", field="listener")
