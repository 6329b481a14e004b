"""Delivery policies of HTTP/S endpoints: when a failed delivery is tried again, how fast, and with which content type.

Source: SNS guide, "Message delivery retries" and "Creating an HTTP/S delivery policy". Four phases, one after another:

    immediate (numNoDelayRetries, 0 s) -> pre-backoff (numMinDelayRetries, minDelayTarget)
        -> backoff (what is left of numRetries, from minDelayTarget to maxDelayTarget by the backoffFunction)
        -> post-backoff (numMaxDelayRetries, maxDelayTarget)

The guide draws the four functions without naming them; ours, for retry i of n (from 0): linear i/(n-1), arithmetic
i(i+1)/n(n-1), exponential (2^i-1)/(2^(n-1)-1), as shares of the way from the least delay to the greatest, and geometric
min * (max/min)^(i/(n-1)). Retries end when their delays together pass 3,600 s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from minicloud.topic import errors, limits

CONTENT_TYPE_DEFAULT = "text/plain; charset=UTF-8"
RETRY_DEFAULT: dict[str, Any] = {
    "minDelayTarget": 20,
    "maxDelayTarget": 20,
    "numRetries": 3,
    "numMaxDelayRetries": 0,
    "numNoDelayRetries": 0,
    "numMinDelayRetries": 0,
    "backoffFunction": "linear",
}
# Guide, "Creating an HTTP/S delivery policy": the first three always, the others with raw delivery; all taken here.
CONTENT_TYPES = frozenset(
    (
        "text/plain", "application/json", "application/xml", "application/atom+xml", "application/octet-stream",
        "application/soap+xml", "application/x-www-form-urlencoded", "application/xhtml+xml", "text/css", "text/csv",
        "text/html", "text/xml",
    )
)  # fmt: skip
_CHARSET = re.compile(r"^[ ]*charset=[A-Za-z0-9_-]{1,40}[ ]*\Z", re.I)
_SHARES: dict[str, Callable[[int, int], float]] = {
    "linear": lambda i, n: i / (n - 1),
    "arithmetic": lambda i, n: i * (i + 1) / (n * (n - 1)),
    "exponential": lambda i, n: (2**i - 1) / (2 ** (n - 1) - 1),
}


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """What the deliverer reads. `delays_s[k]`: how long after failed attempt k+1 the next one comes."""

    delays_s: tuple[float, ...]
    receives_per_s: int | None
    content_type: str

    def delay_after(self, attempt: int) -> float | None:
        """`attempt` failed (from 1): seconds until the next, or None when there is none."""
        return self.delays_s[attempt - 1] if attempt <= len(self.delays_s) else None


def function_delay(attempt: int) -> float | None:
    """The same for functions (guide, "Message delivery retries"): 3 retries at once, 2 after a second, 10 that back off
    from 1 to 20 s, 100,000 every 20 s.
    """
    if attempt <= 3:
        return 0.0
    if attempt <= 5:
        return 1.0
    if attempt <= 15:
        return float(min(20.0, 20.0 ** ((attempt - 5) / 10)))
    return 20.0 if attempt <= 100_015 else None


def check_topic_policy(text: str, prefix: str = "") -> str:
    """The topic's DeliveryPolicy as it is stored and shown. Raises InvalidParameter."""
    policy = _object(text, prefix)
    _only(policy, {"http"}, prefix)
    http = policy.get("http")
    if not isinstance(http, dict):
        raise _bad("it must hold an object http", prefix)
    names = {
        "defaultHealthyRetryPolicy",
        "disableSubscriptionOverrides",
        "defaultThrottlePolicy",
        "defaultRequestPolicy",
    }
    _only(http, names | {"defaultSicklyRetryPolicy"}, prefix)
    http = {name: value for name, value in http.items() if value is not None}
    http.setdefault("disableSubscriptionOverrides", False)
    if not isinstance(http["disableSubscriptionOverrides"], bool):
        raise _bad("disableSubscriptionOverrides must be true or false", prefix)
    _check_parts(_of_topic(http), prefix)
    return json.dumps({"http": http}, separators=(",", ":"))


def check_subscription_policy(text: str, prefix: str = "") -> str:
    """The subscription's DeliveryPolicy as it is stored and shown. Raises InvalidParameter."""
    policy = _object(text, prefix)
    _only(policy, {"healthyRetryPolicy", "throttlePolicy", "requestPolicy", "sicklyRetryPolicy", "guaranteed"}, prefix)
    if policy.get("guaranteed"):
        raise _bad("guaranteed is not supported", prefix)
    _check_parts(policy, prefix)
    return json.dumps(policy, separators=(",", ":"))


def effective_of_topic(topic: str) -> str:
    """EffectiveDeliveryPolicy of a topic. `topic`: its DeliveryPolicy, or ''."""
    http = json.loads(topic)["http"] if topic else {}
    shown = {
        "defaultHealthyRetryPolicy": {**RETRY_DEFAULT, **http.get("defaultHealthyRetryPolicy", {})},
        "disableSubscriptionOverrides": http.get("disableSubscriptionOverrides", False),
        "defaultRequestPolicy": http.get("defaultRequestPolicy", {"headerContentType": CONTENT_TYPE_DEFAULT}),
    }
    if "defaultThrottlePolicy" in http:
        shown["defaultThrottlePolicy"] = http["defaultThrottlePolicy"]
    return json.dumps({"http": shown}, separators=(",", ":"))


def effective_of_subscription(topic: str, subscription: str) -> str:
    """EffectiveDeliveryPolicy of a subscription, from its topic's DeliveryPolicy and its own ('' for none)."""
    return json.dumps(_merged(topic, subscription), separators=(",", ":"))


@lru_cache(maxsize=1024)
def delivery_policy(topic: str, subscription: str) -> DeliveryPolicy:
    """What is in force for a subscription, from both texts ('' for none)."""
    merged = _merged(topic, subscription)
    throttle = merged["throttlePolicy"]
    return DeliveryPolicy(
        tuple(_delays(merged["healthyRetryPolicy"])),
        throttle["maxReceivesPerSecond"] if throttle else None,
        merged["requestPolicy"]["headerContentType"],
    )


def _delays(retry: Mapping[str, Any]) -> Iterator[float]:
    """The delays of all retries, up to the hard limit of their sum."""
    least, most = retry["minDelayTarget"], retry["maxDelayTarget"]
    first, before, after = (retry[f"num{name}DelayRetries"] for name in ("No", "Min", "Max"))
    middle = retry["numRetries"] - first - before - after
    whole = [0.0] * first + [float(least)] * before
    whole += [_backoff(retry["backoffFunction"], i, middle, (least, most)) for i in range(middle)]
    whole += [float(most)] * after
    total = 0.0
    for delay in whole:
        total += delay
        if total > limits.DELIVERY_S_MAX:
            return
        yield delay


def _backoff(function: str, i: int, n: int, span: tuple[int, int]) -> float:
    least, most = span
    if n == 1:
        return float(least)
    if function == "geometric":
        return float(least * (most / least) ** (i / (n - 1)))
    return least + (most - least) * _SHARES[function](i, n)


def _merged(topic: str, subscription: str) -> dict[str, Any]:
    http = json.loads(topic)["http"] if topic else {}
    own = json.loads(subscription) if subscription and not http.get("disableSubscriptionOverrides") else {}
    base = _of_topic(http)
    return {
        "healthyRetryPolicy": {
            **RETRY_DEFAULT,
            **(own.get("healthyRetryPolicy") or base.get("healthyRetryPolicy") or {}),
        },
        "sicklyRetryPolicy": None,
        "throttlePolicy": own.get("throttlePolicy") or base.get("throttlePolicy"),
        "requestPolicy": own.get("requestPolicy")
        or base.get("requestPolicy")
        or {"headerContentType": CONTENT_TYPE_DEFAULT},
        "guaranteed": False,
    }


def _of_topic(http: Mapping[str, Any]) -> dict[str, Any]:
    """The topic's parts under a subscription's names."""
    names = ("HealthyRetryPolicy", "ThrottlePolicy", "RequestPolicy", "SicklyRetryPolicy")
    return {name[0].lower() + name[1:]: http[f"default{name}"] for name in names if f"default{name}" in http}


# --- checks


def _bad(reason: str, prefix: str) -> Exception:
    return errors.invalid(f"{prefix}DeliveryPolicy: {reason}", "DeliveryPolicy")


def _object(text: str, prefix: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise _bad("failed to parse JSON.", prefix) from None
    if not isinstance(value, dict) or len(text) > limits.POLICY_BYTES_MAX:
        raise _bad("it must be a JSON object", prefix)
    return value


def _only(given: Mapping[str, Any], names: set[str], prefix: str) -> None:
    for name in given:
        if name not in names:
            raise _bad(f"unknown key {name[:100]}", prefix)


def _check_parts(policy: Mapping[str, Any], prefix: str) -> None:
    if policy.get("sicklyRetryPolicy") is not None:
        raise _bad("a sicklyRetryPolicy is not supported", prefix)
    retry, throttle, request = (policy.get(name) for name in ("healthyRetryPolicy", "throttlePolicy", "requestPolicy"))
    if retry is not None:
        _check_retry(retry, prefix)
    if throttle is not None:
        _check_throttle(throttle, prefix)
    if request is not None:
        _check_request(request, prefix)


def _check_retry(retry: Any, prefix: str) -> None:
    if not isinstance(retry, dict):
        raise _bad("a retry policy must be an object", prefix)
    _only(retry, set(RETRY_DEFAULT), prefix)
    whole = {**RETRY_DEFAULT, **retry}
    if whole["backoffFunction"] not in (*_SHARES, "geometric"):
        raise _bad("backoffFunction must be arithmetic, exponential, geometric or linear", prefix)
    if "maxDelayTarget" not in retry and _is_count(whole["minDelayTarget"]):
        whole["maxDelayTarget"] = max(whole["maxDelayTarget"], whole["minDelayTarget"])
    for name in RETRY_DEFAULT:
        if name != "backoffFunction" and not _is_count(whole[name]):
            raise _bad(f"{name} must be an integer, zero or greater", prefix)
    if not 1 <= whole["minDelayTarget"] <= whole["maxDelayTarget"] <= limits.DELAY_S_MAX:
        text = f"1 <= minDelayTarget <= maxDelayTarget <= {limits.DELAY_S_MAX} does not hold"
        raise _bad(text, prefix)
    if whole["numRetries"] > limits.RETRIES_MAX:
        raise _bad(f"numRetries must be at most {limits.RETRIES_MAX}", prefix)
    if sum(whole[f"num{name}DelayRetries"] for name in ("No", "Min", "Max")) > whole["numRetries"]:
        text = "numNoDelayRetries, numMinDelayRetries and numMaxDelayRetries together are more than numRetries"
        raise _bad(text, prefix)
    retry.setdefault("maxDelayTarget", whole["maxDelayTarget"])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_throttle(throttle: Any, prefix: str) -> None:
    if not isinstance(throttle, dict) or set(throttle) != {"maxReceivesPerSecond"}:
        raise _bad("a throttle policy holds maxReceivesPerSecond", prefix)
    rate = throttle["maxReceivesPerSecond"]
    if not _is_count(rate) or not limits.RECEIVES_PER_S_MIN <= rate <= 1_000_000:
        raise _bad(f"maxReceivesPerSecond must be an integer, {limits.RECEIVES_PER_S_MIN} or greater", prefix)


def _check_request(request: Any, prefix: str) -> None:
    if not isinstance(request, dict) or set(request) != {"headerContentType"}:
        raise _bad("a request policy holds headerContentType", prefix)
    kind, semicolon, charset = str(request["headerContentType"]).partition(";")
    if kind.strip().lower() not in CONTENT_TYPES or (semicolon and not _CHARSET.match(charset)):
        raise _bad(f"headerContentType {str(request['headerContentType'])[:100]} is not supported", prefix)
