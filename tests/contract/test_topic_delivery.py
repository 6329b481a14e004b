"""Deliveries to endpoints: the handshake, headers, retries in virtual time, dead letters, real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from typing import Any

import pytest
import trustme

from minicloud.base.arn import Scope
from minicloud.cloud_topics import TopicParts
from minicloud.rpc.http_guard import serve
from minicloud.shell.webhook import Webhooks
from minicloud.topic import limits
from minicloud.wire import topic_pb2
from tests.contract.broker_world import broker_world
from tests.contract.test_broker_life import Disk
from tests.contract.topic_world import (
    ARN,
    CONFIRMATION,
    KEY,
    NOTIFICATION,
    confirmed,
    fetch,
    metrics,
    offline,
    publish,
    queue,
    refusal,
    subscribe,
    take,
    topic,
    verify,
)
from tests.turns import until

pytestmark = pytest.mark.asyncio


async def test_an_endpoint_confirms_gets_notifications_and_leaves() -> None:
    async with offline() as (world, poster, _):
        await topic(world)
        await subscribe(world, "https://x.test/hook?a=b")
        (greeting,) = await poster.got(1)
        document = greeting.document
        _, certificate = await fetch(world, document["SigningCertURL"])
        verify(document, CONFIRMATION, certificate)
        assert greeting.url == "https://x.test/hook?a=b"
        assert greeting.headers["x-amz-sns-message-type"] == "SubscriptionConfirmation"
        assert greeting.headers["x-amz-sns-topic-arn"] == ARN
        assert "x-amz-sns-subscription-arn" not in greeting.headers
        await publish(world, "too early")
        status, _ = await fetch(world, document["SubscribeURL"], "HEAD")
        assert status == 200
        status, answer = await fetch(world, document["SubscribeURL"])
        assert status == 200 and b"<ConfirmSubscriptionResult><SubscriptionArn>" in answer
        (listed,) = (await world.topics.ListSubscriptions(topic_pb2.ListSubscriptionsRequest())).subscriptions
        await publish(world, "hello")
        note = (await poster.got(2))[1]
        assert note.document["Message"] == "hello"
        verify(note.document, NOTIFICATION, certificate)
        assert note.headers == {
            "x-amz-sns-message-type": "Notification",
            "x-amz-sns-message-id": note.document["MessageId"],
            "x-amz-sns-topic-arn": ARN,
            "x-amz-sns-subscription-arn": listed.arn,
            "user-agent": "Amazon Simple Notification Service Agent",
            "content-type": "text/plain; charset=UTF-8",
        }
        status, answer = await fetch(world, note.document["UnsubscribeURL"])
        assert status == 200 and b"UnsubscribeResponse" in answer
        bye = (await poster.got(3))[2]
        assert bye.headers["x-amz-sns-message-type"] == "UnsubscribeConfirmation"
        verify(bye.document, CONFIRMATION, certificate)
        await publish(world, "nobody")
        assert (await fetch(world, bye.document["SubscribeURL"]))[0] == 200
        await publish(world, "back again")
        assert (await poster.got(4))[3].document["Message"] == "back again"


async def test_a_locked_subscription_is_not_ended_by_its_link() -> None:
    async with offline() as (world, poster, _):
        await topic(world)
        request = topic_pb2.SubscribeRequest(
            topic="news", protocol="http", endpoint="http://x.test/", return_subscription_arn=True
        )
        pending = await world.topics.Subscribe(request)
        assert pending.arn.startswith(f"{ARN}:") and pending.attributes["PendingConfirmation"] == "true"
        token = (await poster.got(1))[0].document["Token"]
        confirm = topic_pb2.ConfirmSubscriptionRequest(topic="news", token=token, authenticate_on_unsubscribe=True)
        assert (await world.topics.ConfirmSubscription(confirm)).arn == pending.arn
        await publish(world, "hello")
        link = (await poster.got(2))[1].document["UnsubscribeURL"]
        status, answer = await fetch(world, link)
        assert status == 403 and b"<Code>AuthorizationError</Code>" in answer
        await publish(world, "still here")
        assert (await poster.got(3))[2].document["Message"] == "still here"
        await world.topics.Unsubscribe(topic_pb2.UnsubscribeRequest(subscription_arn=pending.arn))
        assert not (await world.topics.ListSubscriptions(topic_pb2.ListSubscriptionsRequest())).subscriptions


async def test_an_endpoint_is_greeted_though_its_subscriber_left_before_the_answer() -> None:
    disk = Disk()
    async with offline(disk) as (world, poster, _):
        await topic(world)
        disk.gate.clear()
        gone = asyncio.ensure_future(subscribe(world, "http://x.test/"))
        await until(lambda: disk.waiting == 2)  # the call, and the courier's receive
        gone.cancel()
        await until(lambda: disk.waiting == 1)
        assert not poster.posts, "nothing is posted before it is on disk"
        disk.gate.set()
        (greeting,) = await poster.got(1)
        assert greeting.headers["x-amz-sns-message-type"] == "SubscriptionConfirmation"


async def test_links_that_lead_nowhere() -> None:
    async with offline() as (world, _, _):
        base = "http://x/_minicloud/sns/0"
        for url, status in (
            (f"{base}/?Action=ConfirmSubscription&TopicArn={ARN}&Token=00", 400),
            (f"{base}/?Action=Publish", 400),
            (f"{base}/?Action=Unsubscribe&SubscriptionArn=x", 200),
            (f"{base}/SimpleNotificationService-x.pem", 404),
            ("http://x/", 403),  # SNS itself, without a signature
        ):
            assert (await fetch(world, url))[0] == status, url
        assert (await fetch(world, f"{base}/", "POST"))[0] == 405
        _, answer = await fetch(world, f"{base}/?Action=ConfirmSubscription&TopicArn={ARN}&Token=<b>")
        assert b"<Code>InvalidParameter</Code><Message>Invalid parameter: Token</Message>" in answer


async def test_raw_delivery_over_http() -> None:
    async with offline() as (world, poster, _):
        await topic(world)
        policy = json.dumps({"requestPolicy": {"headerContentType": "application/json"}})
        await confirmed(world, poster, RawMessageDelivery="true", DeliveryPolicy=policy)
        await publish(world, '{"a": 1}')
        (post,) = await poster.got(1)
        assert post.body == b'{"a": 1}'
        assert post.headers["x-amz-sns-rawdelivery"] == "true"
        assert post.headers["content-type"] == "application/json"


async def test_a_function_is_subscribed_at_once_and_given_events() -> None:
    function = "arn:aws:lambda:us-east-1:000000000000:function:f"
    async with offline() as (world, poster, clock):
        await topic(world)
        made = await subscribe(world, function)
        assert made.attributes["PendingConfirmation"] == "false" and "EffectiveDeliveryPolicy" not in made.attributes
        assert (await refusal(subscribe(world, function, RawMessageDelivery="true"))).code == "InvalidParameter"
        await publish(world, "hello")
        (post,) = await poster.got(1)
        (record,) = post.document["Records"]
        assert post.url == function
        assert (record["EventSource"], record["EventSubscriptionArn"]) == ("aws:sns", made.arn)
        assert (record["Sns"]["Message"], record["Sns"]["Subject"]) == ("hello", None)
        assert record["Sns"]["UnsubscribeUrl"] and record["Sns"]["SigningCertUrl"]
        poster.answers = [0, 429, 0, 0]  # three retries at once, the fourth after a second
        await publish(world, "again")
        await poster.got(5)
        await clock.advance(2)
        assert len(await poster.got(6)) == 6
        link = record["Sns"]["UnsubscribeUrl"]
        assert (await fetch(world, link))[0] == 200
        assert not (await world.topics.ListSubscriptions(topic_pb2.ListSubscriptionsRequest())).subscriptions


async def test_failures_are_tried_again_by_the_delivery_policy() -> None:
    async with offline() as (world, poster, clock):
        await topic(world)
        await confirmed(world, poster)
        poster.answers = [500, 0, 429]
        await publish(world, "hello")
        for attempt in range(1, 4):
            await poster.got(attempt)
            await clock.advance(12)  # 18 to 22 s after the attempt, which was up to 5 s ago
            assert len(poster.posts) == attempt
            await clock.advance(11)
        await poster.got(4)
        assert len({post.document["MessageId"] for post in poster.posts}) == 1
        await clock.advance(100)
        found = await metrics(world)
        assert (found["NotificationsFailed"], found["NotificationsDelivered"]) == (3, 1)
        assert len(poster.posts) == 4


@pytest.mark.parametrize("status", [400, 403, 404, 301])
async def test_other_answers_are_final(status: int) -> None:
    async with offline() as (world, poster, clock):
        await topic(world)
        dead = await queue(world, "dead")
        await confirmed(world, poster, RedrivePolicy=json.dumps({"deadLetterTargetArn": dead}))
        poster.answers = [status]
        await publish(world, "hello")
        await poster.got(1)
        await clock.advance(100)
        assert len(poster.posts) == 1
        (body,) = (await take(world, "dead")).bodies
        assert json.loads(body)["Message"] == "hello"
        assert (await metrics(world))["NotificationsRedrivenToDlq"] == 1


async def test_what_is_never_taken_goes_to_the_dead_letter_queue_or_away() -> None:
    async with offline() as (world, poster, clock):
        await topic(world)
        dead = await queue(world, "dead")
        retry = json.dumps({"healthyRetryPolicy": {"numRetries": 2, "numNoDelayRetries": 1, "minDelayTarget": 5}})
        arn = await confirmed(
            world, poster, DeliveryPolicy=retry, RawMessageDelivery="true",
            RedrivePolicy=json.dumps({"deadLetterTargetArn": dead}),
        )  # fmt: skip
        poster.answers = [500] * 6
        await publish(world, "hello")
        await poster.got(2)
        await clock.advance(10)
        await poster.got(3)
        await clock.advance(1)
        assert list((await take(world, "dead")).bodies) == [b"hello"]
        change = topic_pb2.SetSubscriptionAttributesRequest(subscription_arn=arn, attributes={"RedrivePolicy": ""})
        await world.topics.SetSubscriptionAttributes(change)
        await publish(world, "gone")
        await poster.got(5)
        await clock.advance(10)
        await poster.got(6)
        await clock.advance(1)
        assert world.broker.core.find_internal(f"subscription/{arn.rpartition(':')[2]}").rows.live() == 0  # type: ignore[union-attr]
        assert (await metrics(world))["NotificationsFailed"] == 6


async def test_a_confirmation_is_tried_again_and_ends_after_two_days() -> None:
    async with offline() as (world, poster, clock):
        await topic(world)
        poster.answers = [503]
        await subscribe(world, "http://x.test/hook")
        await poster.got(1)
        await clock.advance(25)
        posts = await poster.got(2)
        assert posts[0].document["Token"] == posts[1].document["Token"]
        assert len(world.broker.core.book.hidden) == 1
        await clock.advance(limits.PENDING_S_MAX)
        world.topics = world.topic_stub(Scope().account)  # the old ticket is too old, too
        assert not (await world.topics.ListSubscriptions(topic_pb2.ListSubscriptionsRequest())).subscriptions
        assert not world.broker.core.book.hidden


async def test_a_stalled_endpoint_holds_up_nobody() -> None:
    async with offline() as (world, poster, _):
        await topic(world)
        for url in ("http://slow.test/", "http://quick.test/"):
            await confirmed(world, poster, url)
        poster.stalled.add("http://slow.test/")
        await publish(world, *map(str, range(50)))
        await poster.got(50 + limits.POSTS_OF_SUBSCRIPTION_MAX)
        quick = [post for post in poster.posts if "quick" in post.url]
        assert len(quick) == 50
        assert len(poster.posts) == 50 + limits.POSTS_OF_SUBSCRIPTION_MAX


async def test_an_endpoint_that_fails_gets_one_post_at_a_time() -> None:
    async with offline() as (world, poster, clock):
        await topic(world)
        await confirmed(world, poster)
        poster.answers = [503]
        await publish(world, "first")
        await poster.got(1)
        await clock.settle()
        poster.at_once_max = 0
        poster.stalled.add("http://x.test/hook")
        await publish(world, *map(str, range(5)))
        await poster.got(2)
        await clock.settle()
        assert poster.at_once_max == 1


async def test_deliveries_are_throttled_on_average() -> None:
    async with offline() as (world, poster, clock):
        await topic(world)
        await confirmed(world, poster, DeliveryPolicy='{"throttlePolicy": {"maxReceivesPerSecond": 2}}')
        start = clock.wall()
        await clock.advance(10)
        await publish(world, *map(str, range(30)))
        await poster.got(10)
        await clock.advance(4.5)
        assert len(poster.posts) == 10
        await clock.advance(1)
        await poster.got(20)
        assert clock.wall() - start < 20


async def test_posts_over_real_sockets() -> None:
    """One real server: content, keep-alive, redirects not followed, what does not answer, Basic authentication."""
    seen: list[tuple[dict[str, str], bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        seen.append(({name.decode(): value.decode() for name, value in scope["headers"]}, body))
        status = int(scope["path"].rpartition("/")[2] or 200)
        headers = [(b"location", b"/200"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    server = await serve(app, "127.0.0.1", 0)
    webhooks = Webhooks(frozenset({9}))
    try:
        base = f"http://127.0.0.1:{server.port}"
        for status in (200, 201, 302, 404, 503):
            assert await webhooks.post(f"{base}/{status}", {"X-A": "b", "User-Agent": "SNS"}, b"body") == status
        assert [body for _, body in seen] == [b"body"] * 5
        assert seen[0][0]["x-a"] == "b" and seen[0][0]["user-agent"] == "SNS" and seen[0][0]["content-length"] == "4"
        assert await webhooks.post(f"http://user:pass@127.0.0.1:{server.port}/200", {}, b"x") == 200
        assert seen[-1][0]["authorization"] == "Basic " + base64.b64encode(b"user:pass").decode()
        assert await webhooks.post(f"https://127.0.0.1:{server.port}/", {}, b"x") == 0
        assert await webhooks.post("http://localhost:9/", {}, b"x") == 403
        assert await webhooks.post("http://name.invalid/", {}, b"x") == 0
    finally:
        await webhooks.close()
        await server.stop()
    assert await webhooks.post(f"{base}/200", {}, b"x") == 0
    await webhooks.close()


async def test_https_endpoints_must_prove_who_they_are() -> None:
    authority = trustme.CA()
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(own)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=own)
    port = server.sockets[0].getsockname()[1]
    for given, name, status in ((trust, "localhost", 200), (trust, "127.0.0.1", 0), (None, "localhost", 0)):
        webhooks = Webhooks(trust=given)
        assert await webhooks.post(f"https://{name}:{port}/", {}, b"") == status
        await webhooks.close()
    server.close()
    await server.wait_closed()


async def test_an_endpoint_that_does_not_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minicloud.shell.webhook.TIMEOUT_S", 0.05)
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: held.append(writer), "127.0.0.1", 0)
    webhooks = Webhooks()
    assert await webhooks.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, b"x") == 0
    await webhooks.close()
    for writer in held:
        writer.close()
    server.close()


async def test_the_whole_way_over_real_sockets() -> None:
    """An endpoint on this machine confirms by visiting the link, as programs do, and gets its message."""
    got: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        headers = dict(scope["headers"])
        got.put_nowait((headers[b"x-amz-sns-message-type"].decode(), body))

    endpoint = await serve(app, "127.0.0.1", 0)
    async with broker_world(topics=TopicParts(key=KEY)) as world:
        await topic(world)
        await subscribe(world, f"http://127.0.0.1:{endpoint.port}/hook")
        kind, body = await got.get()
        assert kind == "SubscriptionConfirmation"
        assert (await fetch(world, json.loads(body)["SubscribeURL"]))[0] == 200
        await publish(world, *map(str, range(25)))
        messages = {json.loads((await got.get())[1])["Message"] for _ in range(25)}
        assert messages == set(map(str, range(25)))
    await endpoint.stop()
