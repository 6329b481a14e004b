"""Couriers: what brings the messages of HTTP/S subscriptions to their endpoints, and those of functions to them.

Each such subscription has an outbox, a hidden queue that publishing fills like any other. Its courier receives from it,
posts, and then deletes (2xx), hides the message for the delay of the delivery policy (5xx, 429, no answer), or gives it
up (any other status, or no retry left): to the subscription's dead-letter queue, else away. The receive count is the
number of the attempt. So nothing is lost by a crash: a message whose post was under way comes again after its
visibility timeout.

A courier sleeps until its outbox gets something. It has up to ten posts at once, and one while its endpoint does not
answer well; all couriers together have a thousand, each at most 15 s long, so a stalled endpoint holds up nobody else.

Source: SNS guide, "Fanout to HTTPS endpoints" (5xx and 429 are tried again, all else is permanent; 15 s) and
"HTTP/HTTPS headers". Where we differ: Digest authentication is not done (Basic, from the URL, is).
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from minicloud.base.errors import CloudError, NotFound
from minicloud.shell.clock import Clock
from minicloud.topic import limits, retries, tokens
from minicloud.topic.attributes import dead_letter_arn
from minicloud.topic.envelope import Origin, Renderer, unpack
from minicloud.topic.model import CONFIRMED, LEFT, PENDING, Subscription, Topic
from minicloud.topic.ports import Mail, Parcel, Poster, Queues

log = logging.getLogger(__name__)

VISIBILITY_S = 60  # of what is being posted; after a crash it comes again this much later
PATIENCE_S = 30.0  # how long a message may wait for one of the broker's posts before it goes back
RETRY_S = 1.0  # after an error of our own
JITTER = 0.1  # share of a delay, both ways (guide: "Amazon SNS applies jittering to delivery retries")
AGENT = "Amazon Simple Notification Service Agent"
_KIND_OF_STATE = {PENDING: "SubscriptionConfirmation", CONFIRMED: "Notification", LEFT: "UnsubscribeConfirmation"}


class Desk(Protocol):
    """What couriers ask the service."""

    def subscription(self, key: str) -> Subscription | None: ...

    def topic(self, arn: str) -> Topic: ...

    def count(self, subscription: Subscription, metric: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Gear:
    """What couriers work with. `secret`: of the tokens in confirmations."""

    queues: Queues
    mail: Mail
    poster: Poster
    renderer: Renderer
    clock: Clock
    rand: random.Random
    secret: bytes


class Couriers:
    def __init__(self, desk: Desk, gear: Gear) -> None:
        self.desk = desk
        self.gear = gear
        self.slots = asyncio.Semaphore(limits.POSTS_MAX)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, subscription: Subscription) -> None:
        """One that runs goes on."""
        task = self._tasks.get(subscription.id)
        if task is None or task.done():
            self._tasks[subscription.id] = asyncio.create_task(_Courier(self, subscription).run())

    def stop(self, key: str) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.gear.poster.close()


class _Courier:
    """Of one subscription."""

    def __init__(self, couriers: Couriers, subscription: Subscription) -> None:
        self._desk = couriers.desk
        self._gear = couriers.gear
        self._slots = couriers.slots
        self._key = subscription.id
        self._outbox = self._gear.queues.hidden(subscription.outbox)
        self._posts: set[asyncio.Task[None]] = set()
        self._sick = False

    async def run(self) -> None:
        try:
            async with self._gear.mail.watch(self._outbox) as sleeper:
                while True:
                    try:
                        if not await self._round():
                            await sleeper.wait()
                    except NotFound:
                        return
                    except CloudError as error:
                        log.warning("the outbox of %s waits: %s", self._key, error)
                        await self._gear.clock.sleep(RETRY_S)
                    except Exception:
                        log.exception("the courier of %s goes on", self._key)  # it has nobody to tell
                        await self._gear.clock.sleep(RETRY_S)
        finally:
            for post in self._posts:
                post.cancel()

    async def _round(self) -> bool:
        """False: the outbox was empty."""
        free = (1 if self._sick else limits.POSTS_OF_SUBSCRIPTION_MAX) - len(self._posts)
        if free <= 0:
            await asyncio.wait(self._posts, return_when=asyncio.FIRST_COMPLETED)
            return True
        parcels = await self._gear.mail.receive(self._outbox, free, VISIBILITY_S)
        for parcel in parcels:
            post = asyncio.create_task(self._carry(parcel, self._gear.clock.monotonic()))
            self._posts.add(post)
            post.add_done_callback(self._posts.discard)
        if parcels:
            await self._pace(len(parcels))
        return bool(parcels)

    async def _pace(self, sent: int) -> None:
        """maxReceivesPerSecond, on average."""
        subscription = self._desk.subscription(self._key)
        if subscription is not None and (rate := self._policy(subscription).receives_per_s):
            await self._gear.clock.sleep(sent / rate)

    def _policy(self, subscription: Subscription) -> retries.DeliveryPolicy:
        topic = self._desk.topic(subscription.topic_arn)
        own = subscription.attributes.get("DeliveryPolicy", "")
        return retries.delivery_policy(topic.attributes.get("DeliveryPolicy", ""), own)

    # --- one message

    async def _carry(self, parcel: Parcel, since: float) -> None:
        try:
            async with self._slots:
                if self._gear.clock.monotonic() - since > PATIENCE_S:
                    await self._gear.mail.postpone(self._outbox, parcel.handle, 0)
                    return
                await self._deliver(parcel)
        except CloudError as error:
            log.warning("a message of %s comes again: %s", self._key, error)

    async def _deliver(self, parcel: Parcel) -> None:
        subscription, origin = self._desk.subscription(self._key), unpack(parcel.origin)
        if subscription is None:
            return
        if origin.kind != _KIND_OF_STATE[subscription.state]:
            await self._gear.mail.delete(self._outbox, parcel.handle)
            return
        policy = self._policy(subscription)
        body = self._body(subscription, origin, parcel)
        headers = _headers(subscription, origin, parcel.raw) | {"Content-Type": policy.content_type}
        status = await self._gear.poster.post(subscription.endpoint, headers, body)
        self._sick = status == 0 or status >= 500
        await self._settle(subscription, origin, (parcel, policy), status)

    def _body(self, subscription: Subscription, origin: Origin, parcel: Parcel) -> bytes:
        renderer = self._gear.renderer
        if origin.kind != "Notification":
            token = tokens.issue(self._gear.secret, subscription.id, subscription.changed_ms / 1000)
            return renderer.confirmation(origin, token, subscription.arn)
        if parcel.raw:
            return parcel.body
        if subscription.protocol == "lambda":
            named = (subscription.arn, subscription.ref)
            return renderer.function_event(origin, named, parcel.attributes, parcel.body)
        return renderer.notification(origin, subscription.ref, parcel.attributes, parcel.body)

    async def _settle(
        self, subscription: Subscription, origin: Origin, sent: tuple[Parcel, retries.DeliveryPolicy], status: int
    ) -> None:
        parcel, policy = sent
        notes = origin.kind == "Notification"
        if 200 <= status < 300:
            if notes:
                self._desk.count(subscription, "NumberOfNotificationsDelivered")
            await self._gear.mail.delete(self._outbox, parcel.handle)
            return
        if notes:
            self._desk.count(subscription, "NumberOfNotificationsFailed")
        after = retries.function_delay if subscription.protocol == "lambda" else policy.delay_after
        delay = after(parcel.attempt) if is_retryable(status) else None
        if delay is not None:
            await self._gear.mail.postpone(self._outbox, parcel.handle, self._jittered(delay))
            return
        log.warning("%s gives a message up after attempt %d, status %d", subscription.arn, parcel.attempt, status)
        await self._give_up(subscription if notes else None, parcel)

    def _jittered(self, delay: float) -> int:
        return max(0, math.floor(delay * self._gear.rand.uniform(1 - JITTER, 1 + JITTER) + 0.5))

    async def _give_up(self, subscription: Subscription | None, parcel: Parcel) -> None:
        """None: a message about a subscription, which is worth nothing later."""
        arn = dead_letter_arn(subscription) if subscription is not None else ""
        if subscription is not None and arn and await self._bury(arn, parcel):
            self._desk.count(subscription, "NumberOfNotificationsRedrivenToDlq")
            return
        if subscription is not None and arn:
            self._desk.count(subscription, "NumberOfNotificationsFailedToRedriveToDlq")
        await self._gear.mail.delete(self._outbox, parcel.handle)

    async def _bury(self, arn: str, parcel: Parcel) -> bool:
        queue: Any = self._gear.queues.find(arn)
        if queue is None:
            return False
        try:
            await self._gear.mail.forward(self._outbox, parcel.handle, queue)
        except CloudError as error:
            log.warning("the dead-letter queue %s does not take a message: %s", arn, error)
            return False
        return True


def is_retryable(status: int) -> bool:
    """0: no answer."""
    return status == 0 or status == 429 or status >= 500


def _headers(subscription: Subscription, origin: Origin, raw: bool) -> dict[str, str]:
    headers: Mapping[str, str] = {
        "x-amz-sns-message-type": origin.kind,
        "x-amz-sns-message-id": origin.id_text,
        "x-amz-sns-topic-arn": origin.topic_arn,
        **({} if origin.kind == "SubscriptionConfirmation" else {"x-amz-sns-subscription-arn": subscription.arn}),
        **({"x-amz-sns-rawdelivery": "true"} if raw and origin.kind == "Notification" else {}),
        "User-Agent": AGENT,
    }
    return dict(headers)
