"""What the metadata service gives guests that have a role: temporary credentials of it, as EC2's instance profiles."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

from minicloud.identity import session
from minicloud.identity.session import Credentials, Session
from minicloud.wire.fleet_pb2 import GuestSpec

LIFE_S = 6 * 3600.0  # IAM User Guide, "Using instance profiles": new ones come before these end; about six hours
RENEWED_S = 3600.0  # so much before their end


class RoleCredentials:
    """Made on the host itself, which knows the cloud's secret. The same ones until an hour before their end."""

    def __init__(self, cluster_secret: bytes, wall: Callable[[], float]) -> None:
        self._secret = cluster_secret
        self._wall = wall
        self._rand = random.SystemRandom()
        self._made: dict[tuple[str, str], tuple[float, Credentials]] = {}

    def __call__(self, spec: GuestSpec) -> str:
        """The document at iam/security-credentials/<role>."""
        key, now = (spec.instance_id, spec.role.name), self._wall()
        known = self._made.get(key)
        if known is None or known[1].expires - now < RENEWED_S:
            self._made = {other: one for other, one in self._made.items() if one[1].expires > now}
            known = self._made[key] = (now, self._issue(spec, now))
        made, given = known
        document = {
            "Code": "Success",
            "LastUpdated": _stamp(made),
            "Type": "AWS-HMAC",
            "AccessKeyId": given.key_id,
            "SecretAccessKey": given.secret,
            "Token": given.token,
            "Expiration": _stamp(given.expires),
        }
        return json.dumps(document, indent=2)

    def _issue(self, spec: GuestSpec, now: float) -> Credentials:
        arn = f"arn:aws:sts::{spec.account}:assumed-role/{spec.role.name}/{spec.instance_id}"
        claims = Session(session.new_key_id(self._rand), spec.account, arn, False, now + LIFE_S)
        return session.issue(self._secret, claims)


def _stamp(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
