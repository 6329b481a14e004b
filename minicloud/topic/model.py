"""Topics and subscriptions as they are stored: one JSON body each, an upsert of the whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from minicloud.base.arn import Scope
from minicloud.topic import ids, limits
from minicloud.topic.filter import ATTRIBUTES, Filter, compile_filter

TOPIC, SUBSCRIPTION = "topic", "subscription"  # the kinds of records
# A subscription is pending -> confirmed -> left (unsubscribed by its endpoint, which may take it back for two days).
PENDING, CONFIRMED, LEFT = "pending", "confirmed", "left"


class _Body:
    """A record's body to and from a dataclass. Equal bodies are equal records."""

    def body(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> Self:
        names = {one.name for one in fields(cls) if one.init}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in body.items() if name in names})


@dataclass(frozen=True, slots=True)
class Topic(_Body):
    """`attributes`: as given, defaults left out. `deleted`: how many confirmed subscriptions ended."""

    account: str
    region: str
    name: str
    attributes: dict[str, str]
    tags: dict[str, str]
    created_ms: int
    deleted: int = 0

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)

    @property
    def arn(self) -> str:
        return f"arn:aws:sns:{self.region}:{self.account}:{self.name}"

    @property
    def fifo(self) -> bool:
        return self.attributes.get("FifoTopic") == "true"

    @property
    def content_dedup(self) -> bool:
        return self.attributes.get("ContentBasedDeduplication") == "true"

    @property
    def bytes_max(self) -> int:
        return int(self.attributes.get("MaximumMessageSize", limits.MESSAGE_BYTES_DEFAULT))

    @property
    def signature_version(self) -> int:
        return int(self.attributes.get("SignatureVersion", "1"))

    @property
    def ledger(self) -> str:
        """The key of the hidden queue that numbers and deduplicates the messages of a FIFO topic."""
        return f"topic/{self.arn}"


@dataclass(frozen=True, slots=True)
class Subscription(_Body):
    """`id`: a UUID, the last part of the ARN. `changed_ms`: when its state became what it is.

    `authenticated`: who confirmed it was known; `locked`: only a known caller may unsubscribe it.
    """

    id: str
    topic_arn: str
    protocol: str
    endpoint: str
    account: str
    attributes: dict[str, str]
    state: str
    changed_ms: int
    authenticated: bool = False
    locked: bool = False
    ref: bytes = field(init=False, repr=False, compare=False)
    filter: Filter | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ref", ids.from_text(self.id))
        object.__setattr__(self, "filter", self._filter())

    def _filter(self) -> Filter | None:
        policy = self.attributes.get("FilterPolicy", "")
        return compile_filter(policy, self.scope_of_filter) if policy else None

    def body(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self) if one.init}

    @property
    def arn(self) -> str:
        return f"{self.topic_arn}:{self.id}"

    @property
    def scope_of_filter(self) -> str:
        return self.attributes.get("FilterPolicyScope", ATTRIBUTES)

    @property
    def raw(self) -> bool:
        return self.attributes.get("RawMessageDelivery") == "true"

    @property
    def http(self) -> bool:
        return self.protocol != "sqs"

    @property
    def outbox(self) -> str:
        """The key of the hidden queue from which an endpoint gets its messages."""
        return f"subscription/{self.id}"
