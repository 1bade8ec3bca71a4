"""A recorded run as a replay needs it: its steps by lineage, and the order of its deliveries."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from isotrace.compare.rules import Level, Rules, changes_between
from isotrace.errors import RecordCorruptError, RecordGapError, SchemaUnsupportedError
from isotrace.events import EVENT_TYPES, Event, lineage_key, lineage_text
from isotrace.hashing import params_digest
from isotrace.jsondiff import Change, diff_values
from isotrace.ledger import Ledger
from isotrace.minted import MintedIds
from isotrace.models import META_REPLAYABILITY, Erased, Lineage, TraceRecord
from isotrace.record.edge import Edge
from isotrace.record.spec import SkillSpec
from isotrace.replay.from_record import events_of

if TYPE_CHECKING:
    from isotrace.redact.redaction import Redaction

DeliveryKey = tuple[Lineage, int | str]
"""`(lineage, "end")` for a step's completion, `(lineage, n)` for the n-th chunk of a stream."""


def over_http(spec: SkillSpec) -> bool:
    """Whether calls of this skill are exchanges that a capture saw go over HTTP."""
    return isinstance(spec, Edge) and spec.kind in ("http", "llm")


class RecordedStep:
    """One step on record. `index` is its step_index; `finished` is None if it never ended."""

    __slots__ = ("_digest", "attempts", "chunks", "finished", "index", "started")

    def __init__(self, started: Event) -> None:
        self.started = started
        self.finished: Event | None = None
        self.chunks: list[Event] = []
        self.attempts: list[Event] = []
        self.index = -1
        self._digest: str | None = None

    @property
    def lineage(self) -> Lineage:
        return self.started.lineage

    @property
    def skill_name(self) -> str:
        return str(self.started.facts["skill_name"])

    @property
    def kind(self) -> str:
        return str(self.started.facts["kind"])

    @property
    def delivered(self) -> bool:
        """Whether its end was handed to the agent; False where the agent's own code ended it."""
        return self.finished is not None and self.finished.facts.get("delivered", True) is not False

    @property
    def assembles(self) -> bool:
        """Whether the pieces of this stream make an answer, in which its ids stand."""
        if self.finished is None:
            return self.kind == "llm" and "captured" in self.started.facts
        return self.finished.facts.get("assembled") is True

    @property
    def streams(self) -> bool | None:
        """Whether its answer came piece by piece, None where nothing came of it."""
        if self.chunks:
            return True
        return False if self.finished is not None and "outcome_data" in self.finished.values else None

    @property
    def at_once(self) -> bool:
        """Whether it was awaited without waiting for anything, so that its end came without a turn."""
        return self.finished is not None and self.finished.facts.get("at_once") is True

    @property
    def survived(self) -> float:
        """How often it was cancelled before the agent's code ended it: any number of times, if it was
        still under way when the run ended."""
        return math.inf if self.finished is None else float(self.finished.facts.get("survived", 0))

    @property
    def stopped_by(self) -> tuple[str, str] | None:
        """The policy that stopped it before its effect, and the reason; None for a step that was made."""
        finished = self.finished
        if finished is None or finished.facts.get("status") != "skipped":
            return None
        if finished.facts.get("outcome_category") != "POLICY":
            return None
        error = finished.value("error")
        told = error.get("message") if isinstance(error, dict) else None
        return str(finished.facts.get("outcome_code")), str(told or "the reason is not on record")

    def delivers(self, what: int | str) -> bool:
        """Whether this part of it was handed to the agent: its end, or the chunk of this number."""
        return self.delivered if what == "end" else True

    @property
    def params_erased(self) -> bool:
        """Whether its params are gone."""
        return isinstance(self.started.values.get("params"), Erased)

    @property
    def params(self) -> Any:
        """The params as they are compared. Raises `RecordGapError` if they were erased."""
        value = self.started.value("params", {})
        if isinstance(value, Erased):
            raise RecordGapError(
                "the params of a recorded step were erased", step=self.index, got=self.skill_name
            )
        return value

    def params_equal(self, data: bytes, minted: MintedIds) -> tuple[bool, Any]:
        """Whether live params (value bytes) are the recorded ones, and their form for comparison.

        Equal bytes need no hashing; else the digests decide, after minted ids were replaced.
        """
        recorded = self.started.values.get("params")
        if recorded == data and not minted:
            return True, None
        live = orjson.loads(data)
        if minted:
            live, _ = minted.replace(live)
        return params_digest(live) == self.digest, live

    def asks(self, params: Any) -> bool:
        """Whether it asked for the same as these params, minted ids replaced. False if its own are gone."""
        return not self.params_erased and params_digest(params) == self.digest

    @property
    def digest(self) -> str:
        """The params digest. Raises `RecordGapError` if the params were erased."""
        if self._digest is None:
            self._digest = params_digest(self.params)
        return self._digest


class Held:
    """How closely a replayed run is held against the record: at which level, by which rules for fields."""

    def __init__(self, level: Level = Level.DECISIONS, rules: Rules | None = None) -> None:
        self._level = level
        self._rules = rules or Rules()

    def asks_the_same(self, skill: str, kind: str, recorded: Any, live: Any) -> bool:
        """Whether params that are not equal count as equal: those of a kind that is not compared do."""
        if self._rules.kinds is not None and kind not in self._rules.kinds:
            return True
        if self._level in (Level.SKELETON, Level.OUTCOME):
            return True
        lens = self._rules.lens(skill)
        return lens is not None and not changes_between(recorded, live, lens)

    def input_changes(self, recorded: Any, live: Any) -> list[Change]:
        """Where the run was given something else."""
        if self._level in (Level.SKELETON, Level.OUTCOME):
            return []
        return self._changes(recorded, live)

    def result_changes(self, recorded: Any, live: Any) -> list[Change]:
        """Where it came to something else."""
        return [] if self._level is Level.SKELETON else self._changes(recorded, live)

    def _changes(self, recorded: Any, live: Any) -> list[Change]:
        lens = self._rules.lens(None)
        return diff_values(recorded, live) if lens is None else changes_between(recorded, live, lens)


class RecordedRun:
    """The events of one run, indexed for replay. `moved`: the folder in which its code is now, and the one
    in which that was. `redaction`: what was not to be recorded of it. `held`: how closely the code is held
    against it."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.steps: dict[Lineage, RecordedStep] = {}
        self.deliveries: list[DeliveryKey] = []
        self.starts: list[Lineage] = []
        self.reads: dict[tuple[Lineage, int], Event] = {}
        self.noted: dict[tuple[Lineage, int, str], list[Event]] = {}
        self.finished: Event | None = None
        self.moved: tuple[str, str] | None = None
        self.redaction: Redaction | None = None
        self.keyless: str | None = None
        self.held = Held()
        started: Event | None = None
        for event in events:
            match event.type:
                case "run_started":
                    started = event
                case "step_started":
                    self._add(event)
                case "step_chunk":
                    step = self._step_of(event)
                    self.deliveries.append((event.lineage, len(step.chunks)))
                    step.chunks.append(event)
                case "step_attempt":
                    self._step_of(event).attempts.append(event)
                case "step_finished":
                    step = self._step_of(event)
                    step.finished = event
                    if step.delivered:
                        self.deliveries.append((event.lineage, "end"))
                case "value_read":
                    self._add_read(event)
                case "run_finished":
                    self.finished = event
                case _ if event.type not in EVENT_TYPES:
                    raise SchemaUnsupportedError(
                        "unknown event type",
                        where=f"event {event.seq}",
                        got=event.type,
                        hint="upgrade isotrace",
                    )
        if started is None:
            raise RecordGapError("a run without run_started can't be replayed")
        self.started = started
        self.ordered = sorted(self.steps.values(), key=lambda step: lineage_key(step.lineage))
        for index, step in enumerate(self.ordered):
            step.index = index

    def as_recorded(self, data: bytes, name: str, skill: str | None = None) -> bytes:
        """JSON that the code has made, as it would be on record: if the code still was where it was, and
        without what was not to be recorded. `name` is that of the value, `skill` whose it is (None: the
        run's).
        """
        if self.moved is not None:
            now, then = (orjson.dumps(folder)[1:-1] for folder in self.moved)
            data = data.replace(now, then)
        return data if self.redaction is None else self.redaction.data(data, name, skill)

    def text_as_recorded(self, text: str) -> str:
        """A text that the code has made, without what was not to be recorded."""
        return text if self.redaction is None else self.redaction.text(text)

    def use_redactors(self) -> None:
        """Finds the redactors that the run names. Raises `RedactorError` where one is not there, or is
        another by now."""
        if (facts := self.facts.get("redactors")) is not None:
            from isotrace.redact.redaction import recorded  # noqa: PLC0415 - start-up time: RE2 for those who redact

            self.redaction, self.keyless = recorded(facts, str(self.facts["run_id"]))

    def _add(self, event: Event) -> None:
        if event.lineage in self.steps:
            raise RecordCorruptError(
                "two steps have one lineage", where=f"event {event.seq}", got=lineage_text(event.lineage)
            )
        self.steps[event.lineage] = RecordedStep(event)
        self.starts.append(event.lineage)

    def _add_read(self, event: Event) -> None:
        """One of `run.read`, by its number in the branch; or what the code read by itself in a gap."""
        facts = event.facts
        if "gap" in facts:
            self.noted.setdefault((event.lineage, facts["gap"], str(facts["source"])), []).append(event)
        else:
            self.reads[event.lineage, facts.get("index", 0)] = event

    def _step_of(self, event: Event) -> RecordedStep:
        step = self.steps.get(event.lineage)
        if step is None or step.finished is not None:
            raise RecordCorruptError(
                f"{event.type} of a step that is not under way",
                where=f"event {event.seq}",
                got=lineage_text(event.lineage),
            )
        return step

    @property
    def grade(self) -> Any:
        """Reasons against a replay that were known when the run was recorded, or "replayable"."""
        metadata = self.finished.value("metadata") if self.finished is not None else None
        return metadata.get(META_REPLAYABILITY) if isinstance(metadata, dict) else None

    @property
    def captured(self) -> bool:
        """Whether calls of libraries are among the steps, so that a replay has to capture them too."""
        return any(
            step.kind == "http"
            or "captured" in step.started.facts
            or (step.finished is not None and "transport" in step.finished.values)
            for step in self.ordered
        )

    @property
    def sources(self) -> list[str]:
        """What was noted of the things that the code read by itself; empty for a run that was recorded
        without."""
        found = self.facts.get("sources")
        return [str(one) for one in found] if isinstance(found, list) else []

    @property
    def is_partial(self) -> bool:
        """Whether the record has only what went over some edges, as a cassette of HTTP calls has: in one
        order, without branches, timers and local tools, and without the run's own input and end."""
        return bool(self.facts.get("edges"))

    def has(self, spec: SkillSpec) -> bool:
        """Whether calls of this skill are such as the record has, where it is partial. Skills that are
        declared count as steps: one that writes must never be executed for want of a record."""
        if not self.is_partial or spec.kind == "agent":
            return True
        return over_http(spec) if isinstance(spec, Edge) else spec.kind != "timer"

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of `run_started`."""
        return self.started.facts

    def index_of(self, lineage: Lineage) -> int:
        """Where a step of this lineage stands, or would stand, among the recorded ones."""
        key = lineage_key(lineage)
        return sum(1 for step in self.ordered if lineage_key(step.lineage) < key)


def recorded_run(source: Ledger | TraceRecord) -> RecordedRun:
    """The replay's view of a ledger or of a record."""
    return RecordedRun(source.events if isinstance(source, Ledger) else events_of(source))
