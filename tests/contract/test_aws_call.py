"""What doors share: a parameter that is not supported is refused by its name, never ignored."""

from __future__ import annotations

import pytest

from minicloud.aws.call import Call, only
from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import UnsupportedOperation


@pytest.mark.parametrize(
    ("service", "code"), [("ec2", "UnsupportedOperation"), ("sns", "InvalidParameter"), ("iam", "ValidationError")]
)
def test_a_parameter_that_is_not_supported_is_refused_by_name(service: str, code: str) -> None:
    call = Call(Caller(Scope()), "r", service, "DoIt", "http://x")
    only({"Name": "a"}, call, "Name", "Size")
    only({"Name": "a", "Colour": "", "Shades": [], "Tones": {}}, call, "Name")  # old SDKs say so of what was not asked
    with pytest.raises(UnsupportedOperation):
        only({"Count": 0}, call, "Name")
    with pytest.raises(UnsupportedOperation) as failed:
        only({"Name": "a", "Colour": "red"}, call, "Name", "Size")
    assert (failed.value.code, failed.value.field) == (code, "Colour")
    assert "Colour of DoIt" in failed.value.message
