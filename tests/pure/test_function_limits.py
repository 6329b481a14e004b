"""Limits of functions are those of lambda's API model, as botocore has it."""

from __future__ import annotations

import json
from typing import Any

import botocore.loaders  # type: ignore[import-untyped]

from minicloud.base.arn import Scope
from minicloud.function import errors, limits
from minicloud.function.ports import EnvironmentSpec, LogSettings, NoLogs, Package


def model() -> Any:
    return botocore.loaders.Loader().load_service_model("lambda", "service-2")


def test_limits_are_those_of_the_model() -> None:
    shapes = model()["shapes"]
    memory, timeout = shapes["MemorySize"], shapes["Timeout"]
    assert (memory["min"], memory["max"]) == limits.MEMORY_MIB
    assert (timeout["min"], timeout["max"]) == limits.TIMEOUT_S
    assert shapes["Description"]["max"] == limits.DESCRIPTION_CHARS_MAX
    assert shapes["BatchSize"]["max"] == limits.BATCH_MAX
    window = shapes["MaximumBatchingWindowInSeconds"]
    assert (window["min"], window["max"]) == limits.WINDOW_S
    age, retries = shapes["MaximumEventAgeInSeconds"], shapes["MaximumRetryAttempts"]
    assert (age["min"], age["max"]) == limits.EVENT_AGE_S
    assert (retries["min"], retries["max"]) == limits.RETRIES
    assert shapes["Pattern"]["max"] == limits.FILTER_CHARS_MAX


def test_errors_carry_codes_of_the_model() -> None:
    shapes = model()["shapes"]
    raised = [
        errors.invalid("x", "y"),
        errors.no_function("arn"),
        errors.throttled("ConcurrentInvocationLimitExceeded"),
        errors.no_room("memory"),
        errors.no_runtime("cobol"),
        errors.broken_package("torn"),
        errors.too_large(1, 2),
        errors.storage_exceeded(),
        errors.Taken(),
        errors.Busy(),
    ]
    for error in raised:
        assert "error" in shapes[error.code] or shapes[error.code]["exception"], error.code
    reasons = shapes["ThrottleReason"]["enum"]
    assert errors.throttled(reasons[0]).details["Reason"] in reasons
    assert json.dumps(errors.no_room("x").details)


def test_equal_specs_are_one_spec() -> None:
    spec = EnvironmentSpec(
        "arn:aws:lambda:us-east-1:000000000000:function:f",
        "f",
        "$LATEST",
        "r1",
        Scope(),
        Package("00", "/blobs/00"),
        "python3.11",
        "a.b",
        128,
        3,
        512,
        LogSettings("/aws/lambda/f"),
    )
    assert hash(spec) == hash(EnvironmentSpec(*(getattr(spec, name) for name in EnvironmentSpec.__slots__)))
    NoLogs().write(Scope(), "g", "s", [(0.0, "line")])
