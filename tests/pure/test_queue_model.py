"""Random histories of queues against a deliberately simple model, with virtual time, restarts and compaction.

The model keeps a list of dicts and looks at all of them every time. After every history, and at random moments in it,
the broker is built again from its log alone and must be the same.
"""

from __future__ import annotations

import json

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from minicloud.queue.core import SendEntry
from tests.pure.queue_world import SCOPE, World

RETENTION_S = 120
VISIBILITY_S = 30
MAX_RECEIVES = 3
NEW = {"count": 0, "queue": "main", "handle": b""}
SPEED = settings(max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Common(RuleBasedStateMachine):
    suffix = ""

    @initialize()
    def begin(self):
        self.world = World()
        self.messages = {}  # body -> dict(state, until, sent, count, group, handles, queue)
        self.handles = {}
        self.serial = 0
        common = {"MessageRetentionPeriod": str(RETENTION_S), "VisibilityTimeout": str(VISIBILITY_S)}
        self.dlq = self.world.queue("dead" + self.suffix, **common)
        policy = json.dumps({"deadLetterTargetArn": self.dlq.arn, "maxReceiveCount": MAX_RECEIVES})
        self.queue = self.world.queue("main" + self.suffix, RedrivePolicy=policy, **common)

    def fresh_body(self):
        self.serial += 1
        return b"%06d" % self.serial

    def settle(self):
        now = round(self.world.now, 3)
        for body, item in list(self.messages.items()):
            if item["sent"] + RETENTION_S <= now:
                del self.messages[body]
            elif item["state"] in ("flying", "delayed") and item["until"] <= now:
                item["state"] = "visible"

    def names(self, queue, state):
        return {body for body, item in self.messages.items() if item["queue"] == queue and item["state"] == state}

    @rule(seconds=st.sampled_from([0.001, 1, 5, 29, 31, 60, 125]))
    def time_passes(self, seconds):
        self.world.pass_time(seconds)
        self.settle()

    @rule(data=st.data(), many=st.integers(1, 4))
    def delete(self, data, many):
        known = sorted(self.handles)
        if not known:
            return
        chosen = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=many, unique=True))
        failed = self.world.broker.delete_many(self.queue, chosen, self.world.now)
        for index, handle in enumerate(chosen):
            assert (index in failed) == self.deleting_fails(handle), (handle, failed)
        for handle in chosen:
            item = self.messages.get(self.handles[handle])
            if item and item["queue"] == "main" and item["handle"] == handle and not self.deleting_fails(handle):
                del self.messages[self.handles[handle]]

    def deleting_fails(self, handle):
        return False

    @rule(data=st.data(), timeout=st.sampled_from([0, 3, 50]))
    def change_visibility(self, data, timeout):
        known = sorted(self.handles)
        if not known:
            return
        handle = data.draw(st.sampled_from(known))
        failed = self.world.broker.change_visibility(self.queue, [handle], [timeout], self.world.now)
        item = self.messages.get(self.handles[handle])
        flies = item and item["queue"] == "main" and item["state"] == "flying" and item["handle"] == handle
        assert bool(failed) != bool(flies)
        if flies:
            item["until"] = round(self.world.now, 3) + timeout
            self.settle()

    @rule()
    def restart(self):
        self.world.check_replay()
        self.world.restart()
        self.queue = self.world.broker.find(SCOPE, "main" + self.suffix)
        self.dlq = self.world.broker.find(SCOPE, "dead" + self.suffix)

    @rule(times=st.integers(1, 3))
    def compact(self, times):
        for _ in range(times):
            self.world.compact()

    @rule()
    def purge(self):
        if self.queue.purged_ms and self.world.now * 1000 < self.queue.purged_ms + 60_000:
            return
        self.world.broker.purge(self.queue, self.world.now)
        self.messages = {body: item for body, item in self.messages.items() if item["queue"] != "main"}

    def note_received(self, received):
        bodies = [self.world.body(address) for address in received.addresses]
        assert len(set(bodies)) == len(bodies)
        for body, delivery in zip(bodies, received.deliveries(), strict=True):
            item = self.messages[body]
            assert item["state"] == "visible" and item["queue"] == "main"
            item["count"] += 1
            assert delivery.count == item["count"]
            item.update(state="flying", until=round(self.world.now, 3) + VISIBILITY_S, handle=delivery.handle)
            self.handles[delivery.handle] = body
        return bodies

    @invariant()
    def counts_are_exact(self):
        if not hasattr(self, "world"):
            return
        self.world.broker.tick(self.world.now)
        for name, queue in (("main", self.queue), ("dead", self.dlq)):
            counts = [len(self.names(name, state)) for state in ("visible", "flying", "delayed")]
            assert list(queue.rows.counts[1:]) == counts
            bodies = {self.world.body(chunk.address[row]) for chunk, row, _ in queue.rows.walk()}
            assert bodies == {body for body, item in self.messages.items() if item["queue"] == name}

    def teardown(self):
        if hasattr(self, "world"):
            self.world.check_replay()


class Standard(Common):
    @rule(count=st.integers(1, 5), delay=st.sampled_from([0, 0, 0, 2, 40]))
    def send_many(self, count, delay):
        bodies = [self.fresh_body() for _ in range(count)]
        self.world.broker.send_many(self.queue, bodies, self.world.now, delay_s=delay)
        for body in bodies:
            self.add(body, "", delay)

    @rule(group=st.sampled_from(["red", "blue", ""]), delay=st.sampled_from([0, 0, 2]))
    def send(self, group, delay):
        body = self.fresh_body()
        self.world.broker.send(self.queue, SendEntry(body, group_id=group, delay_s=delay), self.world.now)
        self.add(body, group, delay)

    def add(self, body, group, delay):
        now = round(self.world.now, 3)
        state = "delayed" if delay else "visible"
        self.messages[body] = {
            **NEW,
            "state": state,
            "until": now + delay,
            "sent": now,
            "group": group,
        }

    @rule(want=st.integers(1, 6))
    def receive(self, want):
        due = self.names("main", "visible")
        fine = {body for body in due if self.messages[body]["count"] < MAX_RECEIVES}
        received = self.world.broker.receive(self.queue, want, self.world.now)
        bodies = self.note_received(received)
        assert set(bodies) <= fine
        assert len(bodies) == min(want, len(fine))
        dead = {self.world.body(chunk.address[row]) for chunk, row, _ in self.dlq.rows.walk()}
        for body in due - fine:
            if body in dead:
                self.messages[body]["queue"] = "dead"
        assert len(fine) >= want or not any(self.messages[body]["queue"] == "main" for body in due - fine)

    @rule()
    def redrive(self):
        if self.names("dead", "visible") and not self.world.broker.list_moves(self.dlq.arn)[:1]:
            self.finish_redrive()

    def finish_redrive(self):
        self.world.broker.start_move(self.dlq.arn, self.world.now)
        sent = round(self.world.now, 3)
        self.world.broker.tick(self.world.now)
        for body in self.names("dead", "visible"):
            self.messages[body].update(queue="main", sent=sent, count=0, handle=b"")


class Fifo(Common):
    suffix = ".fifo"

    @rule(group=st.sampled_from(["red", "blue", "green"]), again=st.booleans())
    def send(self, group, again):
        now = round(self.world.now, 3)
        seen = getattr(self, "seen", {})
        self.seen = {body: sent for body, sent in seen.items() if sent + 300 > now}
        old = again and self.seen
        body = sorted(self.seen)[0] if old else self.fresh_body()
        entry = SendEntry(body, group_id=group, deduplication_id=body.decode())
        sent = self.world.broker.send(self.queue, entry, self.world.now)
        assert sent.duplicate == bool(old)
        if not old:
            self.seen[body] = now
            self.messages[body] = {
                **NEW,
                "state": "visible",
                "until": now,
                "sent": now,
                "group": group,
            }

    def deleting_fails(self, handle):
        """A handle of a message that is still there works only while it is the newest and in flight."""
        item = self.messages.get(self.handles[handle])
        return bool(item and item["queue"] == "main" and not (item["state"] == "flying" and item["handle"] == handle))

    @rule(want=st.integers(1, 6))
    def receive(self, want):
        in_order = {}
        for body in sorted(self.messages):
            item = self.messages[body]
            if item["queue"] == "main":
                in_order.setdefault(item["group"], []).append((body, item))
        free = {
            group: [body for body, item in items if item["count"] < MAX_RECEIVES]
            for group, items in in_order.items()
            if not any(item["state"] == "flying" for _, item in items)
        }
        received = self.world.broker.receive(self.queue, want, self.world.now)
        bodies = self.note_received(received)
        assert len(bodies) == min(want, sum(map(len, free.values())))
        for group in {self.messages[body]["group"] for body in bodies}:
            mine = [body for body in bodies if self.messages[body]["group"] == group]
            assert mine == free[group][: len(mine)]
        dead = {self.world.body(chunk.address[row]) for chunk, row, _ in self.dlq.rows.walk()}
        for body, item in self.messages.items():
            if item["queue"] == "main" and body in dead:
                assert item["count"] >= MAX_RECEIVES
                item.update(queue="dead", sent=round(self.world.now, 3))


TestStandard = Standard.TestCase
TestStandard.settings = SPEED
TestFifo = Fifo.TestCase
TestFifo.settings = SPEED
