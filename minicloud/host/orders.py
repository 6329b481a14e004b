"""Which orders of the control plane are carried out. Pure.

Two rules. An order's stream belongs to a lease epoch of the control plane, told by its welcome: a stream whose epoch is
lower than the highest ever seen comes from a control plane that lost its lease, and nothing it says is done. And an
order has an id: one that is being carried out is not started again, one that was carried out is answered with what came
of it then. The book keeps the last `kept` answers; an order older than that is carried out again, which every order
survives (they name generations and wanted states, not steps).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

KEPT_ANSWERS = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an order. `code` and `message` say why it was not done."""

    order_id: str
    ok: bool = True
    code: str = ""
    message: str = ""
    size_bytes: int = 0


class OrderBook:
    """`epoch` is the highest that was ever seen by this host, over all restarts of its agent."""

    def __init__(self, epoch: int = 0, kept: int = KEPT_ANSWERS) -> None:
        self.epoch = epoch
        self._kept = kept
        self._open: set[str] = set()
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def welcome(self, epoch: int) -> bool:
        """A stream introduces itself. False: its control plane is fenced; hang up."""
        if epoch < self.epoch:
            return False
        self.epoch = epoch
        return True

    def admit(self, order_id: str, *, repeatable: bool = False) -> Answer | Literal["new", "open"]:
        """An order has come: carry it out (and say `done`), wait for what is under way, or repeat the answer.

        `repeatable`: once answered, carry it out again when it comes again. A refusal is never repeated from memory:
        what was in the way may be gone.
        """
        known = self._answers.get(order_id)
        if known is not None and known.ok and not repeatable:
            return known
        if order_id in self._open:
            return "open"
        self._open.add(order_id)
        return "new"

    def done(self, answer: Answer) -> None:
        self._open.discard(answer.order_id)
        self._answers[answer.order_id] = answer
        while len(self._answers) > self._kept:
            self._answers.popitem(last=False)

    def dropped(self, order_id: str) -> None:
        """It was not carried out to the end; when it comes again, it is new."""
        self._open.discard(order_id)
