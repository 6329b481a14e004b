"""Launch templates: what is asked again under a client token is made once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minicloud.base.errors import AlreadyExists, IdempotentParameterMismatch, InvalidParameterValue
from minicloud.compute import commands as ask
from tests.pure.compute_bench import HOME, Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_template_is_made_once_under_its_token(bench: Bench) -> None:
    data = {"instance_type": "t3.micro"}
    made = bench.submit(ask.CreateTemplate(HOME, "web", data, client_token="one"))
    assert bench.submit(ask.CreateTemplate(HOME, "web", data, client_token="one")) == made
    for again in (ask.CreateTemplate(HOME, "web", data, client_token="two"), ask.CreateTemplate(HOME, "web", data)):
        with pytest.raises(AlreadyExists):
            bench.submit(again)
    with pytest.raises(IdempotentParameterMismatch):
        bench.submit(ask.CreateTemplate(HOME, "web", {"instance_type": "t3.nano"}, client_token="one"))
    more = ask.CreateTemplateVersion(HOME, "web", {"image_id": "base"}, "$Latest", "d", "three")
    _, version = bench.submit(more)
    assert bench.submit(more)[1] == version and version.version == 2
    assert bench.submit(replace(more, client_token=""))[1].version == 3
    assert bench.submit(replace(more, client_token="four"))[1].version == 4
    with pytest.raises(IdempotentParameterMismatch):
        bench.submit(replace(more, data={"image_id": "other"}))
    with pytest.raises(InvalidParameterValue, match="128"):
        bench.submit(replace(more, client_token="x" * 129))
