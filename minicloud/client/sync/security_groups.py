"""Made from `minicloud/client/security_groups.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread
from minicloud.client.security_groups import AsyncSecurityGroups

if TYPE_CHECKING:
    from minicloud.client import security_models
else:
    security_models = lazy("minicloud.client.security_models")


class SecurityGroups:
    """Security groups, named by id or name. A new one lets nothing in and everything out."""

    _inner: AsyncSecurityGroups

    def __init__(self, inner: AsyncSecurityGroups, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def create(
        self, name: str, description: str = "", *, tags: Mapping[str, str] | None = None
    ) -> security_models.SecurityGroup:
        """Raises AlreadyExists, LimitExceeded."""
        return self._loop.run(self._inner.create(name, description, tags=tags))

    def get(self, group: str) -> security_models.SecurityGroup:
        """Raises NotFound."""
        return self._loop.run(self._inner.get(group))

    def list(self, *, page_size: int = 100) -> Iterator[security_models.SecurityGroup]:
        return self._loop.iterate(self._inner.list(page_size=page_size))

    def allow(
        self,
        group: str,
        protocol: str = "-1",
        ports: int | tuple[int, int] = -1,
        *,
        peer: str = "0.0.0.0/0",
        egress: bool = False,
        description: str = "",
    ) -> security_models.SecurityGroup:
        """Let something in (egress: out). protocol: tcp | udp | icmp | "-1" (any). ports: one, or the first and last.

        peer: an IPv4 or IPv6 range, or a group, which stands for the addresses of its members.
        """
        return self._loop.run(
            self._inner.allow(group, protocol, ports, peer=peer, egress=egress, description=description)
        )

    def revoke(self, group: str, rule_ids: Sequence[str]) -> security_models.SecurityGroup:
        """Take rules away. Raises NotFound."""
        return self._loop.run(self._inner.revoke(group, rule_ids))

    def delete(self, group: str) -> security_models.SecurityGroup:
        """Raises NotFound, DependencyViolation (instances or rules of other groups have it)."""
        return self._loop.run(self._inner.delete(group))
