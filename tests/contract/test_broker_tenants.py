"""The wall between tenants, rpc by rpc: for another account, and for another region, what is not theirs is not there.

A tenant fills a broker: queues with dead letters and a move, a topic with subscriptions, a page token, a task handle, a
receipt handle, a confirmation token. Strangers then call every rpc with each of these, and must hear word by word what
they hear of things that never were; the tenant's things stay as they are. An rpc that is not in the tables fails here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from minicloud.rpc.errors import from_rpc_error
from minicloud.wire import queue_pb2 as q
from minicloud.wire import topic_pb2 as t
from tests.contract.broker_world import World
from tests.contract.topic_world import offline

OWNER = "000000000000"
STRANGERS = [("111122223333", "us-east-1"), (OWNER, "eu-west-1")]
ALL = ["All"]


@dataclass(frozen=True, slots=True)
class Names:
    """What a caller may know of another's things. `void`: the same shapes, of things that never were."""

    queue: str
    dead: str
    topic: str
    subscription: str
    url: str
    hidden: str


def name_of(arn: str) -> str:
    return arn.rpartition(":")[2]


# rpc -> its requests about these things
REQUESTS: dict[str, Callable[[Names], list[Any]]] = {
    "GetQueue": lambda n: [q.GetQueueRequest(queue=one, attribute_names=ALL) for one in (n.queue, n.url, n.hidden)],
    "DeleteQueue": lambda n: [q.DeleteQueueRequest(queue=one) for one in (n.queue, n.url, n.hidden)],
    "SetQueueAttributes": lambda n: [q.SetQueueAttributesRequest(queue=n.queue, attributes={"DelaySeconds": "9"})],
    "TagQueue": lambda n: [q.TagQueueRequest(queue=n.queue, tags={"mine": "now"}, remove=["team"])],
    "PurgeQueue": lambda n: [q.PurgeQueueRequest(queue=n.queue)],
    "ListDeadLetterSources": lambda n: [q.ListDeadLetterSourcesRequest(queue=n.dead)],
    "SendMessages": lambda n: [
        q.SendMessagesRequest(queue=one, entries=[q.SendEntry(body=b"spam")]) for one in (n.queue, n.url, n.hidden)
    ],
    "SendBulk": lambda n: [q.SendBulkRequest(queue=n.queue, bodies=[b"spam"])],
    "ReceiveMessages": lambda n: [q.ReceiveMessagesRequest(queue=one) for one in (n.queue, n.url, n.hidden)],
    "DeleteMessages": lambda n: [q.DeleteMessagesRequest(queue=n.queue, receipt_handles=bytes(28))],
    "ChangeVisibility": lambda n: [q.ChangeVisibilityRequest(queue=n.queue, receipt_handles=bytes(28), timeouts_s=[0])],
    "StartMove": lambda n: [
        q.StartMoveRequest(source_arn=n.dead),
        q.StartMoveRequest(source_arn=n.dead, destination_arn=n.queue),
    ],
    "ListMoves": lambda n: [q.ListMovesRequest(source_arn=n.dead)],
    "GetTopic": lambda n: [t.GetTopicRequest(topic=n.topic)],
    "DeleteTopic": lambda n: [t.DeleteTopicRequest(topic=n.topic)],
    "SetTopicAttributes": lambda n: [t.SetTopicAttributesRequest(topic=n.topic, attributes={"DisplayName": "mine"})],
    "TagTopic": lambda n: [t.TagTopicRequest(topic=n.topic, tags={"mine": "now"})],
    "PublishMessages": lambda n: [t.PublishMessagesRequest(topic=n.topic, entries=[t.PublishEntry(message=b"spam")])],
    "PublishBulk": lambda n: [t.PublishBulkRequest(topic=n.topic, messages=[b"spam"])],
    "Subscribe": lambda n: [t.SubscribeRequest(topic=n.topic, protocol="http", endpoint="http://ear.test/")],
    "GetSubscription": lambda n: [t.GetSubscriptionRequest(subscription_arn=n.subscription)],
    "ListSubscriptions": lambda n: [t.ListSubscriptionsRequest(topic=n.topic)],
    "SetSubscriptionAttributes": lambda n: [
        t.SetSubscriptionAttributesRequest(subscription_arn=n.subscription, attributes={"RawMessageDelivery": "true"})
    ],
    "Unsubscribe": lambda n: [t.UnsubscribeRequest(subscription_arn=n.subscription)],
    "GetTopicMetrics": lambda n: [t.GetTopicMetricsRequest(topic=n.topic)],
    # those that say nothing of a thing but its name, or show a token: see the tests below
    "CreateQueue": lambda _: [],
    "ListQueues": lambda _: [],
    "CancelMove": lambda _: [],
    "CreateTopic": lambda _: [],
    "ListTopics": lambda _: [],
    "ConfirmSubscription": lambda _: [],
}


@dataclass(slots=True)
class Tenancy:
    world: World
    names: Names
    handle: bytes
    task: str
    confirmation: str
    tokens: dict[str, str]

    @property
    def void(self) -> Names:
        names = self.names
        swap = {"jobs": "none", "dead": "void", "news": "null"}

        def other(text: str) -> str:
            for old, new in swap.items():
                text = text.replace(old, new)
            return text

        missing = "00000000-0000-8000-8000-000000000000"
        gone = other(names.subscription).rpartition(":")[0]
        hidden = names.hidden[:-1] + ("0" if names.hidden[-1] != "0" else "1")
        return Names(
            other(names.queue), other(names.dead), other(names.topic), f"{gone}:{missing}", other(names.url), hidden
        )

    def stubs(self, account: str, region: str) -> Iterator[Any]:
        yield self.world.stub(account, region)
        yield self.world.topic_stub(account, region)

    async def state(self) -> list[Any]:
        """All that the tenant sees, without what a look itself changes."""
        world, names = self.world, self.names
        shown = [q.GetQueueRequest(queue=queue, attribute_names=ALL) for queue in (names.queue, names.dead)]
        found: list[Any] = [await world.queues.GetQueue(request) for request in shown]
        found.append(await world.queues.ListMoves(q.ListMovesRequest(source_arn=names.dead)))
        found.append(await world.topics.GetTopic(t.GetTopicRequest(topic=names.topic)))
        found.append(await world.topics.GetTopicMetrics(t.GetTopicMetricsRequest(topic=names.topic)))
        found.append(await world.topics.ListSubscriptions(t.ListSubscriptionsRequest()))
        request = t.GetSubscriptionRequest(subscription_arn=names.subscription)
        found.append(await world.topics.GetSubscription(request))
        return [*found, len(world.broker.core.book.queues)]


@pytest.fixture
async def tenancy() -> AsyncIterator[Tenancy]:
    async with offline() as (world, poster, _):
        yield await moved_in(world, poster)


async def moved_in(world: World, poster: Any) -> Tenancy:
    create, send = world.queues.CreateQueue, world.queues.SendBulk
    dead = await create(q.CreateQueueRequest(name="dead"))
    policy = f'{{"deadLetterTargetArn":"{dead.arn}"}}'
    jobs = await create(q.CreateQueueRequest(name="jobs", attributes={"RedrivePolicy": policy}, tags={"team": "blue"}))
    await create(q.CreateQueueRequest(name="more", attributes={"RedrivePolicy": policy}))
    for name in ("jobs", "dead"):
        await send(q.SendBulkRequest(queue=name, bodies=[b"secret"] * 5))
    got = await world.queues.ReceiveMessages(q.ReceiveMessagesRequest(queue="jobs"))
    task = await world.queues.StartMove(
        q.StartMoveRequest(source_arn=dead.arn, destination_arn=jobs.arn, max_per_second=1)
    )
    topic = await world.topics.CreateTopic(t.CreateTopicRequest(name="news"))
    await world.topics.CreateTopic(t.CreateTopicRequest(name="olds"))
    one = await world.topics.Subscribe(t.SubscribeRequest(topic="news", protocol="sqs", endpoint="more"))
    await world.topics.Subscribe(t.SubscribeRequest(topic="news", protocol="http", endpoint="http://x.test/"))
    greeting = (await poster.got(1))[0].document
    hidden = next(iter(world.broker.core.book.hidden))
    names = Names(jobs.arn, dead.arn, topic.arn, one.arn, jobs.url, hidden)
    sources = q.ListDeadLetterSourcesRequest(queue="dead", page_size=1)
    of_topic = t.ListSubscriptionsRequest(topic=topic.arn, page_size=1)
    tokens = {
        "ListQueues": (await world.queues.ListQueues(q.ListQueuesRequest(page_size=1))).next_page_token,
        "ListDeadLetterSources": (await world.queues.ListDeadLetterSources(sources)).next_page_token,
        "ListTopics": (await world.topics.ListTopics(t.ListTopicsRequest(page_size=1))).next_page_token,
        "ListSubscriptions": (await world.topics.ListSubscriptions(of_topic)).next_page_token,
    }
    assert all(tokens.values())
    return Tenancy(world, names, bytes(got.receipt_handles), task.task_handle, greeting["Token"], tokens)


async def heard(stubs: Iterator[Any], rpc: str, request: Any) -> Any:
    """The answer, or the error with its code and text."""
    call = next(getattr(stub, rpc) for stub in stubs if hasattr(stub, rpc))
    try:
        return await call(request)
    except grpc.RpcError as error:
        failure = from_rpc_error(error)
        return type(failure), failure.code, failure.message, failure.field


def test_every_rpc_is_here() -> None:
    services = [q.DESCRIPTOR.services_by_name["QueueService"], t.DESCRIPTOR.services_by_name["TopicService"]]
    assert REQUESTS.keys() == {method.name for service in services for method in service.methods}


@pytest.mark.parametrize(("account", "region"), STRANGERS)
async def test_what_is_anothers_is_not_there(tenancy: Tenancy, account: str, region: str) -> None:
    before = await tenancy.state()
    named = 0
    for rpc, requests in REQUESTS.items():
        for theirs, void in zip(requests(tenancy.names), requests(tenancy.void), strict=True):
            found = await heard(tenancy.stubs(account, region), rpc, theirs)
            never = await heard(tenancy.stubs(account, region), rpc, void)
            assert found == never, f"{rpc} of what is another's"
            named += isinstance(found, tuple)
    assert named >= 30, "they are refused, but for the two that succeed on what is gone"
    assert await tenancy.state() == before


@pytest.mark.parametrize(("account", "region"), STRANGERS)
async def test_short_names_are_ones_own(tenancy: Tenancy, account: str, region: str) -> None:
    """The stranger has things of the same names: with them nothing of the tenant can be touched."""
    before = await tenancy.state()
    queues, topics = tenancy.stubs(account, region)
    for name in ("jobs", "dead"):
        made = await queues.CreateQueue(q.CreateQueueRequest(name=name))
        assert f":{region}:{account}:{name}" in made.arn and "RedrivePolicy" not in made.attributes and not made.tags
    assert (await topics.CreateTopic(t.CreateTopicRequest(name="news"))).arn != tenancy.names.topic
    assert [one.name for one in (await queues.ListQueues(q.ListQueuesRequest())).queues] == ["dead", "jobs"]
    assert [one.name for one in (await topics.ListTopics(t.ListTopicsRequest())).topics] == ["news"]
    for request in (t.ListSubscriptionsRequest(), t.ListSubscriptionsRequest(topic="news")):
        assert not (await topics.ListSubscriptions(request)).subscriptions
    assert not (await queues.ReceiveMessages(q.ReceiveMessagesRequest(queue="jobs"))).bodies
    assert (await queues.PurgeQueue(q.PurgeQueueRequest(queue="jobs"))).purged == 0
    await topics.PublishBulk(t.PublishBulkRequest(topic="news", messages=[b"hello"]))
    crossed = q.CreateQueueRequest(
        name="crossed", attributes={"RedrivePolicy": f'{{"deadLetterTargetArn":"{tenancy.names.dead}"}}'}
    )
    with pytest.raises(grpc.RpcError):
        await queues.CreateQueue(crossed)
    for endpoint in (tenancy.names.queue, tenancy.names.dead):
        with pytest.raises(grpc.RpcError):
            await topics.Subscribe(t.SubscribeRequest(topic="news", protocol="sqs", endpoint=endpoint))
    for name in ("jobs", "dead"):
        await queues.DeleteQueue(q.DeleteQueueRequest(queue=name))
    await topics.DeleteTopic(t.DeleteTopicRequest(topic="news"))
    assert await tenancy.state() == before


@pytest.mark.parametrize(("account", "region"), STRANGERS)
async def test_handles_and_tokens_open_nothing_for_another(tenancy: Tenancy, account: str, region: str) -> None:
    before = await tenancy.state()
    queues, topics = tenancy.stubs(account, region)
    await queues.CreateQueue(q.CreateQueueRequest(name="jobs"))
    await queues.CreateQueue(q.CreateQueueRequest(name="dead"))
    news = await topics.CreateTopic(t.CreateTopicRequest(name="news"))
    delete = q.DeleteMessagesRequest(queue="jobs", receipt_handles=tenancy.handle)
    change = q.ChangeVisibilityRequest(queue="jobs", receipt_handles=tenancy.handle, timeouts_s=[0])
    for call, request in ((queues.DeleteMessages, delete), (queues.ChangeVisibility, change)):
        assert [one.code for one in (await call(request)).failed] == ["ReceiptHandleIsInvalid"]
    refused = {
        "CancelMove": q.CancelMoveRequest(task_handle=tenancy.task),
        "ConfirmSubscription": t.ConfirmSubscriptionRequest(topic=news.arn, token=tenancy.confirmation),
        "ListQueues": q.ListQueuesRequest(page_token=tenancy.tokens["ListQueues"]),
        "ListDeadLetterSources": q.ListDeadLetterSourcesRequest(
            queue="dead", page_token=tenancy.tokens["ListDeadLetterSources"]
        ),
        "ListTopics": t.ListTopicsRequest(page_token=tenancy.tokens["ListTopics"]),
        "ListSubscriptions": t.ListSubscriptionsRequest(topic="news", page_token=tenancy.tokens["ListSubscriptions"]),
    }
    for rpc, request in refused.items():
        answer = await heard(tenancy.stubs(account, region), rpc, request)
        assert isinstance(answer, tuple), f"{rpc} took another's token"
    for name in ("jobs", "dead"):
        await queues.DeleteQueue(q.DeleteQueueRequest(queue=name))
    await topics.DeleteTopic(t.DeleteTopicRequest(topic="news"))
    assert await tenancy.state() == before
