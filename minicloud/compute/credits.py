"""CPU credits of burstable types. Pure: time and use are arguments.

Source: EC2 User Guide, "Key concepts for burstable performance instances" and "Standard mode": one credit is one vCPU
at 100 % for one minute; credits are earned all the time at the baseline rate, up to 24 hours' worth; what is used above
zero comes off the balance. Launch credits (30 per vCPU) are spent first, do not count towards the cap, and are not
earned again at a later start. In `unlimited` mode an empty balance throttles nobody: surplus is counted, and paid back
by what is earned later.

Where we differ: launch credits are given to every burstable type in standard mode, not to T2 alone
(docs/decisions/004). A stopped instance keeps its balance for seven days, as T3 does, whatever its family.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

CREDIT_S = 60.0  # vCPU-seconds in a credit
CAP_HOURS = 24.0
LAUNCH_CREDITS_PER_VCPU = 30.0
KEPT_STOPPED_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Rate:
    """What a type earns. `baseline_pct_per_vcpu`: 20.0 is a fifth of each vCPU."""

    vcpus: float
    baseline_pct_per_vcpu: float
    unlimited: bool = False

    @property
    def baseline_vcpus(self) -> float:
        return self.vcpus * self.baseline_pct_per_vcpu / 100.0

    @property
    def per_second(self) -> float:
        return self.baseline_vcpus / CREDIT_S

    @property
    def cap(self) -> float:
        return self.per_second * 3600.0 * CAP_HOURS


@dataclass(frozen=True, slots=True)
class Account:
    """Earned credits, launch credits, surplus owed (unlimited mode), and when it was last brought up to date."""

    earned: float
    launch: float
    surplus: float
    at: float
    throttled: bool = False

    @property
    def balance(self) -> float:
        """What a user is shown (CPUCreditBalance); never negative."""
        return self.earned + self.launch

    def body(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, body: dict[str, Any]) -> Account:
        """What `body` made. Raises ValueError for anything else."""
        names = ("earned", "launch", "surplus", "at", "throttled")
        numbers = [body.get(name) for name in names[:-1]]
        if set(body) != {*names} or not all(isinstance(one, int | float) and math.isfinite(one) for one in numbers):
            raise ValueError(f"credits: {str(body)[:64]} is not an account of credits")
        return cls(**body)


# An account that ran dry is let go once it holds this much again, so the cap does not flap every second.
RELEASE_S = 5.0


def open_account(rate: Rate, kept: Account | None, now: float) -> Account:
    """At a start: launch credits for the first one; the balance that was kept, for seven days after the stop."""
    if kept is None:
        return Account(0.0, LAUNCH_CREDITS_PER_VCPU * rate.vcpus if not rate.unlimited else 0.0, 0.0, now)
    if now - kept.at > KEPT_STOPPED_S:
        return Account(0.0, 0.0, 0.0, now)
    return replace(kept, earned=min(kept.earned, rate.cap), at=now, throttled=False)


def step(rate: Rate, account: Account, used_vcpu_s: float, now: float) -> Account:
    """Earn since the last step, spend what was used. Time that runs backwards earns nothing."""
    passed = max(now - account.at, 0.0)
    spent = max(used_vcpu_s, 0.0) / CREDIT_S
    from_launch = min(account.launch, spent)
    earned = account.earned + passed * rate.per_second - (spent - from_launch) - account.surplus
    surplus = max(-earned, 0.0) if rate.unlimited else 0.0
    earned = min(max(earned, 0.0), rate.cap)
    launch = account.launch - from_launch
    balance = earned + launch
    held = account.throttled and balance < RELEASE_S * rate.per_second
    return Account(earned, launch, surplus, now, not rate.unlimited and (balance <= 0.0 or held))


def cap_vcpus(rate: Rate, account: Account) -> float | None:
    """The vCPUs that the instance may use now; None: all of its type's."""
    return rate.baseline_vcpus if account.throttled else None
