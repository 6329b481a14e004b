"""How host agents and shards prove themselves to the control plane: `x-minicloud-fleet: <id>:<HMAC-SHA256>`.

The id of a host agent is its host's.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from minicloud.base.errors import Unauthenticated
from minicloud.rpc.door import Metadata

METADATA = "x-minicloud-fleet"


def token(secret: bytes, host_id: str) -> str:
    mac = hmac.new(secret, f"fleet {host_id}".encode(), hashlib.sha256).hexdigest()
    return f"{host_id}:{mac}"


def fleet_door(secret: bytes) -> Callable[[Metadata], str]:
    """For `Entry.admit`: the host id of the caller. Raises Unauthenticated."""

    def admit(metadata: Metadata) -> str:
        given = str(metadata.get(METADATA, ""))
        host_id = given.partition(":")[0]
        if not hmac.compare_digest(given.encode(), token(secret, host_id).encode()):
            raise Unauthenticated("This service is for the cloud's own processes.")
        return host_id

    return admit
