"""How a process of the cloud asks the control plane for something in a user's stead.

    x-minicloud-fleet: <who>:<HMAC>            knows the cluster secret (rpc/fleet_auth.py)
    x-minicloud-scope: <account>/<region>      whose request it is

Such a call is admitted to users' services as a caller of that scope, who is no administrator. The front door takes both
headers off what comes from outside; without the secret they would be worth nothing anyway.
"""

from __future__ import annotations

from collections.abc import Callable

from minicloud.base.arn import ACCOUNT, Caller, Scope, check_region
from minicloud.base.errors import InvalidParameterValue
from minicloud.rpc import fleet_auth
from minicloud.rpc.door import Metadata

SCOPE = "x-minicloud-scope"


def metadata(secret: bytes, who: str, scope: Scope) -> tuple[tuple[str, str], ...]:
    """For a call on behalf of `scope`. who: the process that calls, for logs."""
    return (fleet_auth.METADATA, fleet_auth.token(secret, who)), (SCOPE, f"{scope.account}/{scope.region}")


def or_internal(admit: Callable[[Metadata], Caller], secret: bytes) -> Callable[[Metadata], Caller]:
    """For `Entry.admit` of users' services: `admit`, but for calls that name a scope, which must prove themselves."""
    prove = fleet_auth.fleet_door(secret)

    def either(given: Metadata) -> Caller:
        named = given.get(SCOPE)
        if named is None:
            return admit(given)
        who = prove(given)
        account, _, region = str(named).partition("/")
        if not ACCOUNT.match(account):
            raise InvalidParameterValue(f"'{account[:64]}' is not an account", field=SCOPE)
        return Caller(Scope(account, check_region(region)), service=who)

    return either
