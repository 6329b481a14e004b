"""Load balancers: made, found, deleted; their names and addresses. Source: elbv2 API, CreateLoadBalancer.

Where we differ: a balancer is active at once; its DNS name ends in `.elb.localhost`, which resolvers take to 127.0.0.1
if they know it at all, so clients use `address`, a loopback address of its own.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network

from minicloud.balancer import attributes, errors, limits
from minicloud.balancer.association import relink
from minicloud.balancer.commands import CreateBalancer, DeleteBalancer
from minicloud.balancer.model import APPLICATION, NETWORK, SERVICE, Balancer
from minicloud.balancer.state import State
from minicloud.balancer.tagging import checked_tags
from minicloud.base.arn import Scope
from minicloud.base.errors import InsufficientCapacity
from minicloud.base.machine import Context, Draft, Outcome

POOL = IPv4Network("127.32.0.0/11")  # ours; guests of a cloud without namespaces have 127.64.0.0/10
SCHEMES = ("internet-facing", "internal")
_NAME = re.compile(r"[A-Za-z0-9-]+\Z")
_TRIES = 100


def check_name(what: str, name: str) -> None:
    """Raises ValidationError in AWS's words."""
    if not name:
        raise errors.invalid(f"{what} name cannot be empty", "name")
    if len(name) > limits.NAME_CHARS_MAX:
        raise errors.invalid(
            f"{what} name '{name[:64]}' cannot be longer than '{limits.NAME_CHARS_MAX}' characters", "name"
        )
    if not _NAME.match(name):
        text = f"{what} name '{name}' can only contain characters that are alphanumeric characters and hyphens(-)"
        raise errors.invalid(text, "name")
    if name.startswith("-") or name.endswith("-"):
        raise errors.invalid(f"{what} name '{name}' cannot begin or end with '-'", "name")


def find(state: State, scope: Scope, arn: str) -> Balancer:
    balancer = state.balancers.get(arn)
    if balancer is None or balancer.scope != scope:
        raise errors.no_balancer()
    return balancer


def create(state: State, command: CreateBalancer, context: Context) -> Outcome:
    """The reply is the Balancer; the same request again gets the one that is there."""
    _check(command)
    taken: Balancer | None = state.named(Balancer.kind, command.scope, command.name)
    if taken is not None:
        given = (taken.type, taken.scheme, taken.zones, taken.tags)
        if given == (command.type, command.scheme, command.zones, dict(command.tags)):
            return Outcome(taken)
        raise errors.name_taken("load balancer", command.name)
    mine = [state.balancers[key].type for key in state.page(Balancer.kind, command.scope)]
    if mine.count(command.type) >= limits.BALANCERS_MAX:
        text = f"The maximum number of {command.type} load balancers, {limits.BALANCERS_MAX}, is reached"
        raise errors.too_many("TooManyLoadBalancers", text, "name")
    draft = Draft(state)
    made = _make(state, command, context)
    draft.put(made)
    return draft.outcome(made)


def _check(command: CreateBalancer) -> None:
    check_name("Load balancer", command.name)
    if command.name.startswith("internal-"):
        raise errors.invalid(f"Load balancer name '{command.name}' cannot begin with 'internal-'", "name")
    if command.type == "gateway":
        raise errors.not_supported("Load balancer type 'gateway'", "type")
    if command.type not in (APPLICATION, NETWORK):
        raise errors.invalid(f"Load balancer type '{command.type[:32]}' must be application or network", "type")
    if command.scheme not in SCHEMES:
        raise errors.bad_scheme(command.scheme)
    if len(set(command.zones)) != len(command.zones):
        raise errors.bad_configuration("A zone is specified more than once", "zones")


def _make(state: State, command: CreateBalancer, context: Context) -> Balancer:
    scope, name = command.scope, command.name
    number = context.hex(16)
    kind = "app" if command.type == APPLICATION else "net"
    prefix = "internal-" if command.scheme == "internal" else ""
    host = f"{prefix}{name}-{int(number[:8], 16):010d}" if kind == "app" else f"{name}-{number}"
    return Balancer(
        arn=scope.arn(SERVICE, f"loadbalancer/{kind}/{name}/{number}"),
        account=scope.account,
        region=scope.region,
        name=name,
        type=command.type,
        scheme=command.scheme,
        address=_free_address(state, context),
        dns_name=f"{host}.{scope.region}.elb.localhost",
        created=context.now,
        zones=command.zones,
        tags=checked_tags(command.tags),
    )


def _free_address(state: State, context: Context) -> str:
    """Drawn by lot: clouds that share a machine do not know of each other."""
    for _ in range(_TRIES):
        address = str(IPv4Address(int(POOL.network_address) + context.rand.randrange(1, POOL.num_addresses - 1)))
        if address not in state.addresses and not address.endswith((".0", ".255")):
            return address
    raise InsufficientCapacity(f"no address of {POOL} is free")


def delete(state: State, command: DeleteBalancer, context: Context) -> Outcome:
    """With its listeners and rules. Deleting what is not there succeeds, as in AWS."""
    draft = Draft(state)
    balancer = state.balancers.get(command.arn)
    if balancer is None or balancer.scope != command.scope:
        return draft.outcome()
    if attributes.value(balancer, attributes.PROTECTED) == attributes.TRUE:
        raise errors.protected(balancer.arn)
    listeners = state.listeners_of(balancer.arn)
    rules = [rule for listener in listeners for rule in state.rules_of(listener.arn)]
    relink(draft, balancer, (rules, []), context.now)
    for entity in (*rules, *listeners, balancer):
        draft.drop(entity)
    return draft.outcome()
