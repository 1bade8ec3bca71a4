"""What the formats of spans share: pieces of work with a beginning, an end and a place in a tree, as the
events of one run.

Chat formats tell one thing after another (`isotrace.formats.chat`). Here work overlaps, so the events are
brought into the order of their times, and a step's lineage is its place in the source's tree: a span
that is no step itself still numbers what stands inside it.

The grade of such a run says what a replay would miss. Each reason has one wording.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from isotrace.canonical import MAX_DEPTH, value_bytes
from isotrace.contracts import ImportedRun
from isotrace.events import lineage_text
from isotrace.formats.chat import SUCCESS, ChatRun, Identity, Outcome, usage_facts
from isotrace.formats.node import Node
from isotrace.formats.source import Bounds
from isotrace.jsondiff import MISSING
from isotrace.minted import MintedIds
from isotrace.models import META_MODEL, META_REPLAYABILITY, Lineage

NO_PROGRAM: Final = "program: the source does not say which program ran, so a replay has to be given it"
AS_SHOWN: Final = "values: they are as the source shows them, not as the code passed them"
UNFINISHED: Final = "unfinished: the end of some steps is not in the source"
NO_PARAMS: Final = "params: what some steps were called with is not in the source"
NO_OUTCOME: Final = "outcome: what some steps gave back is not in the source"

MAX_PLACES: Final = MAX_DEPTH // 2
"""How deep a tree of spans may be."""


class Talk:
    """The messages of one conversation, each encoded once however many steps were sent it.

    A step that was sent the first n messages has the n-th prefix of what was encoded.
    """

    def __init__(self, messages: Iterable[dict[str, Any]] = ()) -> None:
        self.messages = list(messages)
        self._data = bytearray()
        self._ends = [0]
        self._raw_ids: list[dict[str, str]] = []

    def params(self, sent: int, settings: dict[str, Any], minted: MintedIds) -> tuple[bytes, dict[str, str]]:
        """The params of a step that was sent the first `sent` messages, and the raw ids in them."""
        while len(self._ends) <= sent:
            plain, raw_ids = minted.replace(self.messages[len(self._ends) - 1])
            self._data += (b"," if self._data else b"") + value_bytes(plain)
            self._ends.append(len(self._data))
            self._raw_ids.append(raw_ids)
        head = value_bytes({key: value for key, value in settings.items() if key != "messages"})[:-1]
        begin = b'"messages":[' if head == b"{" else b',"messages":['
        found = {reference: raw for one in self._raw_ids[:sent] for reference, raw in one.items()}
        return head + begin + bytes(self._data[: self._ends[sent]]) + b"]}", found


@dataclass(slots=True)
class Work:
    """One step: where it stands, what it was, when it began and ended (None: never).

    Times are microseconds since 1970. `params` are None where the source has none; of a step in a
    `talk` they are its settings, and it was sent the first `sent` messages. `outcome` is `MISSING` where the
    source has none; one that is no object is kept as `{"value": outcome}`, as it is of a recorded step.
    `attempts` are those that failed: when, the facts, the error.
    """

    lineage: Lineage
    kind: str
    skill: str
    params: dict[str, Any] | None
    started_us: int
    ended_us: int | None
    outcome: Any = MISSING
    ended: Outcome = SUCCESS
    error: str | None = None
    effect: str = "write"
    cost_cents: float = 0.0
    retries: int = 0
    attempts: list[tuple[int, dict[str, Any], str | None]] = field(default_factory=list)
    marks: tuple[str, ...] = ()
    talk: Talk | None = None
    sent: int = 0


class TreeRun(ChatRun):
    """Builds the events of one run from its steps; its beginning and end are those of a `ChatRun`."""

    def __init__(
        self,
        root: Node,
        identity: Identity,
        bounds: Bounds,
        reasons: Iterable[str] = (NO_PROGRAM, AS_SHOWN),
    ) -> None:
        super().__init__(root, identity, {}, bounds)
        self._reasons = dict.fromkeys(reasons)

    def note(self, reason: str) -> None:
        """Adds a reason why this run may not replay. The same reason counts once."""
        self._reasons.setdefault(reason)

    def add(self, steps: Iterable[Work]) -> None:
        """All steps of the run, in any order: their events go into that of their times.

        Where times are equal, a step ends before the next one of the tree's order begins, unless
        that one stands inside of it.
        """
        ordered = sorted(steps, key=lambda step: (step.started_us, _numbers(step.lineage)))
        due: list[tuple[int, int, int, Work]] = []
        for number, step in enumerate(ordered):
            while due and due[0][0] <= step.started_us and not _inside(step, due[0][3]):
                self._go_on(*heapq.heappop(due))
            self._begin(step)
            ended_us = None if step.ended_us is None else max(step.ended_us, step.started_us)
            for index, (time_us, _, _) in enumerate(step.attempts):
                heapq.heappush(
                    due, (time_us if ended_us is None else min(time_us, ended_us), number, index, step)
                )
            if ended_us is not None:
                heapq.heappush(due, (ended_us, number, len(step.attempts), step))
        while due:
            self._go_on(*heapq.heappop(due))

    def _go_on(self, time_us: int, _number: int, index: int, step: Work) -> None:
        """An attempt of a step that failed, or its end."""
        self.now_us = max(self.now_us, time_us)
        if index == len(step.attempts):
            self._end(step, time_us)
            return
        _, facts, error = step.attempts[index]
        values = {} if error is None else {"error": value_bytes(error)}
        self._add("step_attempt", {"lineage": list(step.lineage), **facts}, values)

    def _begin(self, step: Work) -> None:
        self._steps += 1
        self.now_us = max(self.now_us, step.started_us)
        if step.params is None:
            self.note(NO_PARAMS)
        if step.ended_us is None:
            self.note(UNFINISHED)
        elif step.outcome is MISSING and step.ended.status == "success":
            self.note(NO_OUTCOME)
        if step.talk is None:
            plain, raw_ids = self._minted.replace(step.params or {})
            values = {"params": value_bytes(plain)}
        else:
            params, raw_ids = step.talk.params(step.sent, step.params or {}, self._minted)
            values = {"params": params}
        if raw_ids:
            values["raw_ids"] = value_bytes(raw_ids)
        facts = {
            "lineage": list(step.lineage),
            "kind": step.kind,
            "skill_name": step.skill,
            "effect": "read" if step.kind == "llm" else step.effect,
        }
        self._add("step_started", facts, values)

    def _end(self, step: Work, ended_us: int) -> None:
        wrapped = step.outcome is not MISSING and not isinstance(step.outcome, dict)
        values = {}
        if step.outcome is not MISSING:
            outcome = {"value": step.outcome} if wrapped else step.outcome
            values["outcome_data"] = value_bytes(outcome)
        if step.error is not None:
            values["error"] = value_bytes(step.error)
        facts: dict[str, Any] = {
            "lineage": list(step.lineage),
            "status": step.ended.status,
            "outcome_category": step.ended.category,
            "outcome_code": step.ended.code,
            "cost_cents": step.cost_cents,
            "duration_ms": (ended_us - step.started_us) / 1000,
            "retry_count": step.retries,
        }
        if wrapped:
            facts["wrapped"] = True
        if step.marks:
            facts["marks"] = list(step.marks)
        elif step.kind == "llm":
            # One with a mark is not the model's own answer, or was counted before.
            facts |= usage_facts(step.outcome, (step.params or {}).get(META_MODEL))
        self._add("step_finished", facts, values)
        if step.kind == "llm":
            self._minted.learn(lineage_text(step.lineage), step.outcome)

    def finish(
        self,
        status: str,
        *,
        result: Any = None,
        error: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        time_us: int | None = None,
    ) -> ImportedRun:
        """As `ChatRun.finish`; the metadata carry the run's grade, and its end is not before its steps'."""
        return super().finish(
            status,
            result=result,
            error=error,
            metadata={**(metadata or {}), META_REPLAYABILITY: list(self._reasons)},
            time_us=self.now_us if time_us is None else max(self.now_us, time_us),
        )


def _inside(step: Work, other: Work) -> bool:
    size = len(other.lineage)
    return len(step.lineage) > size and step.lineage[:size] == other.lineage


@dataclass(slots=True)
class Span:
    """A node of the source's tree: its id, the id that it names as its parent, when it began."""

    id: str
    parent: str | None
    started_us: int
    node: Node
    inner: list[Span] = field(default_factory=list)
    lineage: Lineage = ()


def grown(spans: list[Span]) -> list[Span]:
    """The spans by place: each with its children in `inner` and its lineage, parents first.

    Siblings are numbered by the time when they began, those of one time as they stand in the
    source. A span whose parent is not there stands at the root. Raises `ImportFormatError` for an id
    that two spans have, parents that go in a circle, and a tree that is too deep.
    """
    by_id: dict[str, Span] = {}
    for span in spans:
        if span.id in by_id:
            raise span.node.fail("two spans have one id", expected="an id of its own")
        by_id[span.id] = span
    roots: list[Span] = []
    for span in sorted(spans, key=lambda one: one.started_us):
        parent = None if span.parent is None else by_id.get(span.parent)
        (roots if parent is None else parent.inner).append(span)
    placed: list[Span] = []
    waiting: list[tuple[Lineage, list[Span]]] = [((), roots)]
    while waiting:
        place, siblings = waiting.pop()
        for number, span in enumerate(siblings):
            span.lineage = (*place, number)
            placed.append(span)
            if len(span.lineage) > MAX_PLACES:
                raise span.node.fail("the spans are nested too deeply", hint=f"at most {MAX_PLACES} deep")
            if span.inner:
                waiting.append((span.lineage, span.inner))
    if len(placed) < len(spans):
        lost = next(span for span in spans if not span.lineage)
        raise lost.node.fail("the parents of a span go in a circle")
    return sorted(placed, key=lambda span: _numbers(span.lineage))


def last_end(spans: Iterable[Span], key: str) -> int | None:
    """When the last of the spans ended that say so under `key`; None if none does."""
    moments = (span.node[key].moment_or_none() for span in spans)
    return max((moment.us for moment in moments if moment is not None), default=None)


def _numbers(lineage: Lineage) -> tuple[int, ...]:
    return tuple(part for part in lineage if isinstance(part, int))
