"""Random histories of fan-outs over visible, hidden, dead-letter and FIFO queues, against a deliberately simple model.

A copy is known by (body, ref), wherever it is moved: what a consumer sees of it must be what was published, before and
after compaction and restarts. The shelf goes along.
"""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from minicloud.queue.fanout import Note, Run, Target
from minicloud.queue.rows import DELAYED, IN_FLIGHT, VISIBLE
from tests.pure.queue_world import SCOPE, World

RETENTION_S, VISIBILITY_S, DELAY_S, MAX_RECEIVES, DEDUP_S = 120, 30, 2, 2, 300
STATES = {VISIBLE: "visible", IN_FLIGHT: "flying", DELAYED: "delayed"}
# ref -> the queue that it sends to; two subscriptions of one queue are two copies
REFS = {b"%016d" % index: name for index, name in enumerate(("a", "a", "b", "side", "dead", "f.fifo", "ledger"))}
LEDGER = next(ref for ref, name in REFS.items() if name == "ledger")
PLAIN = [ref for ref, name in REFS.items() if name not in ("f.fifo", "ledger")]


class Fan(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.world = world = World()
        self.copies = {}  # (body, ref) -> dict(queue, state, until, sent, count, handle, id, raw, origin)
        self.known = {"f.fifo": {}, "ledger": {}}
        self.shelf = {}
        self.serial = self.numbers = 0
        common = {"MessageRetentionPeriod": str(RETENTION_S), "VisibilityTimeout": str(VISIBILITY_S)}
        dead = world.queue("dead", **common)
        policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": MAX_RECEIVES})
        world.queue("a", RedrivePolicy=policy, **common)
        world.queue("b", DelaySeconds=str(DELAY_S), **common)
        world.queue("f.fifo", **common)
        world.broker.create_internal(SCOPE, "side", world.now, world.rand, common)
        world.broker.create_internal(SCOPE, "ledger", world.now, world.rand, {"FifoQueue": "true", **common})

    def queue(self, name):
        return self.world.broker.find_internal(name) or self.world.broker.find(SCOPE, name)

    def now(self):
        return round(self.world.now, 3)

    def settle(self):
        for key, item in list(self.copies.items()):
            if item["sent"] + RETENTION_S <= self.now():
                del self.copies[key]
            elif item["state"] in ("flying", "delayed") and item["until"] <= self.now():
                item["state"] = "visible"
        for known in self.known.values():
            for dedup in [dedup for dedup, sent in known.items() if sent + DEDUP_S <= self.now()]:
                del known[dedup]

    def at(self, name, state):
        return {key for key, item in self.copies.items() if (item["queue"], item["state"]) == (name, state)}

    # --- publishing

    @rule(
        refs=st.lists(st.sampled_from(PLAIN), min_size=1, max_size=5, unique=True),
        count=st.integers(1, 4),
        raw=st.booleans(),
        size=st.sampled_from([10, 10, 1200]),
        columns=st.booleans(),
    )
    def publish(self, refs, count, raw, size, columns):
        bodies = [self.fresh(size) for _ in range(count)]
        targets = [Target(self.queue(REFS[ref]), ref, raw) for ref in refs]
        origins = [b"of" + body for body in bodies]
        notes = Run(bodies, origins) if columns else list(map(Note, bodies, origins))
        result = self.world.broker.fan_out(targets, notes, self.world.now)
        assert not result.failed and not result.duplicates and not result.skipped
        for body in bodies:
            self.add(body, refs, raw)

    @rule(
        refs=st.lists(st.sampled_from([ref for ref in REFS if ref != LEDGER]), min_size=1, max_size=6, unique=True),
        ledger=st.booleans(),
        dedups=st.lists(st.sampled_from("xyz"), min_size=1, max_size=3),
    )
    def publish_grouped(self, refs, ledger, dedups):
        targets = [Target(self.queue(REFS[ref]), ref) for ref in refs]
        if ledger:
            targets.append(Target(self.queue("ledger"), LEDGER, ledger=True))
        notes = [Note(self.fresh(10), group_id="g" + dedup, deduplication_id=dedup) for dedup in dedups]
        result = self.world.broker.fan_out(targets, notes, self.world.now)
        assert not result.failed
        for index, (note, dedup) in enumerate(zip(notes, dedups, strict=True)):
            doubled = ledger and dedup in self.known["ledger"]
            assert (index in result.duplicates) == doubled
            if doubled:
                continue
            if ledger:
                self.numbers += 1
                self.known["ledger"][dedup] = self.now()
                assert result.serials[index] == self.numbers
            kept = [ref for ref in refs if REFS[ref] != "f.fifo" or dedup not in self.known["f.fifo"]]
            assert {at for note_, at in result.skipped if note_ == index} == {
                at for at, ref in enumerate(refs) if ref not in kept
            }
            if "f.fifo" in {REFS[ref] for ref in kept}:
                self.known["f.fifo"][dedup] = self.now()
            self.add(note.body, kept, True, origin=b"", group="g" + dedup)

    def fresh(self, size):
        self.serial += 1
        return b"%0*d" % (size, self.serial)

    def add(self, body, refs, raw, origin=None, group=""):
        for ref in refs:
            delayed = REFS[ref] == "b"
            self.copies[body, ref] = {
                "queue": REFS[ref], "state": "delayed" if delayed else "visible", "until": self.now() + DELAY_S,
                "sent": self.now(), "count": 0, "handle": b"", "id": None, "raw": raw, "group": group,
                "origin": b"of" + body if origin is None else origin,
            }  # fmt: skip

    # --- consuming

    @rule(name=st.sampled_from(["a", "a", "a", "b", "side", "dead", "f.fifo"]), want=st.integers(1, 6))
    def receive(self, name, want):
        queue = self.queue(name)
        due = self.at(name, "visible")
        spent = {key for key in due if name == "a" and self.copies[key]["count"] >= MAX_RECEIVES}
        blocked = {self.copies[key]["group"] for key in self.at(name, "flying")} if name == "f.fifo" else set()
        free = {key for key in due - spent if not blocked or self.copies[key]["group"] not in blocked}
        seen = [self.check(queue, delivery) for delivery in self.take(queue, want)]
        assert set(seen) <= free
        assert len(seen) == len(set(seen)) == min(want, len(free))
        dead = {key for state in STATES.values() for key in self.in_rows("dead")[state]}
        for key in spent & dead:
            self.copies[key]["queue"] = "dead"

    def take(self, queue, want):
        return self.world.broker.receive(queue, want, self.world.now).deliveries()

    def check(self, queue, delivery):
        stored = self.world.stored(delivery)
        item = self.copies[stored.body, stored.ref]
        assert (item["queue"], item["state"]) == (queue.name, "visible")
        item["count"] += 1
        identity = self.world.broker.message_id(queue, delivery, stored.head)
        assert item["id"] in (None, identity)
        assert (stored.origin, stored.raw, delivery.count) == (item["origin"], item["raw"], item["count"])
        item.update(state="flying", until=self.now() + VISIBILITY_S, handle=delivery.handle, id=identity)
        return stored.body, stored.ref

    @rule(data=st.data(), name=st.sampled_from(["a", "b", "side", "dead", "f.fifo"]))
    def delete(self, data, name):
        flying = sorted(self.at(name, "flying"))
        if flying:
            gone = data.draw(st.lists(st.sampled_from(flying), min_size=1, unique=True))
            handles = [self.copies.pop(key)["handle"] for key in gone]
            assert self.world.broker.delete_many(self.queue(name), handles, self.world.now) == {}

    @rule(data=st.data())
    def forward(self, data):
        flying = sorted(self.at("side", "flying"))
        if flying:
            gone = data.draw(st.lists(st.sampled_from(flying), min_size=1, unique=True))
            handles = [self.copies[key]["handle"] for key in gone]
            assert self.world.broker.forward(self.queue("side"), handles, self.queue("dead"), self.world.now) == {}
            self.renew(gone, "dead")

    @rule()
    def redrive(self):
        visible = self.at("dead", "visible")
        if visible:
            self.world.broker.start_move(self.queue("dead").arn, self.world.now, destination_arn=self.queue("a").arn)
            self.world.broker.tick(self.world.now)
            self.renew(visible, "a")

    def renew(self, keys, name):
        for key in keys:
            self.copies[key].update(queue=name, state="visible", sent=self.now(), count=0, handle=b"", id=None)

    @rule(name=st.sampled_from(["a", "b", "dead"]))
    def purge(self, name):
        queue = self.queue(name)
        if not queue.purged_ms or self.world.now * 1000 >= queue.purged_ms + 60_000:
            self.world.broker.purge(queue, self.world.now)
            self.copies = {key: item for key, item in self.copies.items() if item["queue"] != name}

    @rule(data=st.data())
    def expel(self, data):
        if self.copies:
            key = data.draw(st.sampled_from(sorted(self.copies)))
            queue = self.queue(self.copies.pop(key)["queue"])
            (seq,) = [seq for chunk, row, seq in queue.rows.walk() if self.key(chunk, row) == key]
            assert self.world.broker.expel(queue, seq, self.world.now)

    # --- the shelf

    @rule(puts=st.lists(st.sampled_from("pqr"), max_size=2), gone=st.lists(st.sampled_from("pqr"), max_size=2))
    def change_shelf(self, puts, gone):
        self.serial += 1
        bodies = [{"n": self.serial} if key == "p" else b"%d" % self.serial for key in puts]
        changes = [("k", key, body) for key, body in zip(puts, bodies, strict=True)]
        self.world.broker.shelf.change(changes, [("k", key) for key in gone])
        self.shelf = {key: body for key, body in self.shelf.items() if key not in gone}
        self.shelf.update(zip(puts, bodies, strict=True))

    # --- the log and time

    @rule(seconds=st.sampled_from([0.001, 1, 5, 29, 31, 60, 125, 301]))
    def time_passes(self, seconds):
        self.world.pass_time(seconds)
        self.settle()

    @rule()
    def restart(self):
        self.world.check_replay()
        self.world.restart()

    @rule(times=st.integers(1, 4))
    def compact(self, times):
        for _ in range(times):
            self.world.compact()

    @invariant()
    def everything_is_where_the_model_says(self):
        if not hasattr(self, "world"):
            return
        self.world.broker.tick(self.world.now)
        for name in ("a", "b", "side", "dead", "f.fifo", "ledger"):
            assert self.in_rows(name) == {state: self.at(name, state) for state in STATES.values()}
        assert dict(self.world.broker.shelf.items("k")) == self.shelf

    def in_rows(self, name):
        out = {state: set() for state in STATES.values()}
        for chunk, row, _ in self.queue(name).rows.walk():
            out[STATES[chunk.state[row]]].add(self.key(chunk, row))
        return out

    def key(self, chunk, row):
        stored = self.world.opened(chunk.address[row])
        return stored.body, stored.ref

    def teardown(self):
        if hasattr(self, "world"):
            self.world.check_replay()
            assert all(one < two for one, two in pairwise(self.world.log.frames))


TestFan = Fan.TestCase
TestFan.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
