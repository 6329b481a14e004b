"""Checks that launches, changes and templates share: user data, options, vCPU quota."""

from __future__ import annotations

from typing import get_args

from minicloud.base import limits
from minicloud.base.errors import InvalidParameterCombination, InvalidParameterValue, LimitExceeded
from minicloud.compute.catalog import InstanceType
from minicloud.compute.commands import LaunchSpec
from minicloud.compute.placement import Strategy
from minicloud.compute.ports import UserDataCheck

STRATEGIES = frozenset(get_args(Strategy))


def check_token(text: str, chars_max: int) -> str:
    if len(text) > chars_max or not text.isascii():
        raise InvalidParameterValue(f"client_token must be at most {chars_max} ASCII characters", field="client_token")
    return text


def check_user_data_text(text: str, check_user_data: UserDataCheck) -> None:
    size = len(text.encode())
    if size > limits.USER_DATA_BYTES_MAX:
        raise InvalidParameterValue(
            f"user data is limited to {limits.USER_DATA_BYTES_MAX} bytes, not {size}", field="user_data"
        )
    if "\0" in text:
        raise InvalidParameterValue("user data must be text; it has a NUL character", field="user_data")
    check_user_data(text)


def check_options(spec: LaunchSpec, instance_type: InstanceType) -> None:
    _one_of(spec.strategy, STRATEGIES, "placement.strategy")
    _one_of(spec.http_tokens, {"optional", "required"}, "metadata_options.http_tokens")
    _one_of(spec.http_endpoint, {"enabled", "disabled"}, "metadata_options.http_endpoint")
    _one_of(spec.shutdown_behavior, {"stop", "terminate"}, "shutdown_behavior")
    _one_of(spec.cpu_credits, {"standard", "unlimited"}, "cpu_credits")
    if spec.cpu_credits and not instance_type.burstable:
        raise InvalidParameterCombination(
            f"cpu_credits is for burstable types; {instance_type.name} is not one", field="cpu_credits"
        )


def _one_of(value: str, allowed: set[str] | frozenset[str], field: str) -> None:
    if value and value not in allowed:
        raise InvalidParameterValue(f"'{value[:64]}' is not one of {', '.join(sorted(allowed))}", field=field)


def check_vcpus(used: float, more: float, quota: float) -> None:
    if used + more > quota:
        raise LimitExceeded(
            f"the quota 'vcpus' of this account is {quota:g}; {used:g} are in use and {more:g} more were asked for",
            code="VcpuLimitExceeded",
            field="instance_type",
            details={"quota": "vcpus", "limit": f"{quota:g}", "used": f"{used:g}"},
        )
