"""What is another account's costs a stranger as much as what is nobody's: the same calls are made, none more, whoever
measures. (That the words are the same: test_compute_machine, doors/test_accounts.)
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from minicloud.base.errors import CloudError, NotFound
from minicloud.base.machine import Context
from minicloud.compute import commands as ask
from tests.pure.compute_bench import HOME, STRANGER, Bench

ON_INSTANCES: dict[str, Callable[[str], Any]] = {
    "terminate": lambda one: ask.TerminateInstances(STRANGER, (one,)),
    "stop": lambda one: ask.StopInstances(STRANGER, (one,)),
    "start": lambda one: ask.StartInstances(STRANGER, (one,)),
    "reboot": lambda one: ask.RebootInstances(STRANGER, (one,)),
    "modify": lambda one: ask.ModifyInstance(STRANGER, one, instance_type="t3.micro"),
    "image": lambda one: ask.CreateImage(STRANGER, one, "stolen"),
    "tags": lambda one: ask.SetTags(STRANGER, one, {"a": "b"}),
}
ON_IMAGES: dict[str, Callable[[str], Any]] = {
    "deregister": lambda one: ask.DeregisterImage(STRANGER, one),
    "launch": lambda one: ask.Launch(STRANGER, ask.LaunchSpec(image_id=one, instance_type="t3.nano"), 1, 1),
    "tag": lambda one: ask.SetTags(STRANGER, one, {"a": "b"}),
}


def cost(bench: Bench, command: Any) -> Counter[str]:
    """The functions that a refusal calls, and how often."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            calls[frame.f_code.co_qualname if event == "call" else str(argument.__name__)] += 1

    sys.setprofile(note)
    try:
        bench.machine.decide(command, Context(bench.now, random.Random(1)))
    except CloudError as error:
        assert isinstance(error, NotFound)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("what", ON_INSTANCES)
def test_an_instance_of_another_account_costs_what_an_unknown_one_does(what: str) -> None:
    bench = Bench()
    (one,) = bench.running()
    make = ON_INSTANCES[what]
    assert cost(bench, make(one.id)) == cost(bench, make("i-" + "0" * 17))


@pytest.mark.parametrize("what", ON_IMAGES)
def test_an_image_of_another_account_costs_what_an_unknown_one_does(what: str) -> None:
    bench = Bench()
    (one,) = bench.running()
    image = bench.submit(ask.CreateImage(HOME, one.id, "golden"))
    bench.submit(ask.ImageDone(image.id, size_bytes=10))
    make = ON_IMAGES[what]
    assert cost(bench, make(image.id)) == cost(bench, make("ami-" + "0" * 17))
