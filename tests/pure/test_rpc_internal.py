"""Calls of the cloud's own processes in a user's stead: with proof they are of that scope, without it nothing."""

from __future__ import annotations

import pytest

from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import InvalidParameterValue, Unauthenticated
from minicloud.rpc import fleet_auth, internal
from minicloud.rpc.auth import open_door

SECRET, SCOPE = b"s" * 32, Scope("123456789012", "eu-west-3")
admit = internal.or_internal(open_door(), SECRET)


def test_a_process_that_proves_itself_asks_for_the_scope_that_it_names() -> None:
    caller = admit(dict(internal.metadata(SECRET, "autoscaler-0", SCOPE)))
    assert caller == Caller(SCOPE, service="autoscaler-0")
    assert not caller.admin


def test_whoever_names_no_scope_comes_by_the_users_door() -> None:
    assert admit({}) == open_door()({})
    assert admit({fleet_auth.METADATA: "nonsense"}) == open_door()({})


@pytest.mark.parametrize("token", ["", "autoscaler-0:00", fleet_auth.token(b"t" * 32, "autoscaler-0")])
def test_a_scope_without_proof_is_refused_even_where_authentication_is_off(token: str) -> None:
    with pytest.raises(Unauthenticated):
        admit({internal.SCOPE: "123456789012/eu-west-3", fleet_auth.METADATA: token})


@pytest.mark.parametrize("named", ["", "123456789012", "12/eu-west-3", "123456789012/Mars"])
def test_a_scope_that_is_none_is_refused(named: str) -> None:
    proof = {fleet_auth.METADATA: fleet_auth.token(SECRET, "autoscaler-0")}
    with pytest.raises(InvalidParameterValue):
        admit({internal.SCOPE: named, **proof})
