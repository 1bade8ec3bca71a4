"""Writes what happens in one live run into its journal.

The hot path only snapshots and appends. Everything that can wait (digests, salts, commitments, the
path) waits for sealing. Nothing here raises because of what it was given: a journal that fails ends the
recording of this run, not the agent.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from threading import get_ident
from typing import TYPE_CHECKING, Any

import orjson

from isotrace.clock import Clock
from isotrace.contracts import Breach
from isotrace.errors import IsotraceError, PolicyViolation, RestoreError
from isotrace.events import Event
from isotrace.hashing import SCHEME
from isotrace.models import META_REPLAYABILITY, Lineage
from isotrace.record.context import (
    BodyWatch,
    Branch,
    Ending,
    RunEnding,
    RunInfo,
    Step,
    body_watch,
    lineage_json,
)
from isotrace.record.memory_journal import AnyJournal
from isotrace.record.outcomes import classify, error_value
from isotrace.record.policies import RunGuard, stopped
from isotrace.record.redacting import RedactedJournal
from isotrace.record.restore import can_restore, restore
from isotrace.record.shapes import (
    PLAIN,
    STARTED,
    SUCCEEDED,
    VALUE_NAMES,
    WRAPPED,
    named_facts,
    succeeded_facts,
)
from isotrace.record.snapshot import JSON, Snapshot, json_form, snapshot
from isotrace.record.sources import controlled, files
from isotrace.record.sources.noted import MAX_IN_GAP, MOVED, Notes, encoded
from isotrace.record.sources.surroundings import EARLY_GAP, GAP, surroundings
from isotrace.record.spec import SkillSpec
from isotrace.record.warned import warn

if TYPE_CHECKING:
    pass

REPLAYABLE = "replayable"
"""The grade of a run that nothing speaks against; otherwise the grade is the list of reasons."""

MAX_REASONS = 100
"""How many reasons a grade lists."""

_RESTORE_CHECKS = 8
"""How many values of one type and skill are tried for restoring; later ones rarely differ."""

_THREAD = "thread"

_NONE: Mapping[str, bytes] = {}
UNDELIVERED: Mapping[str, Any] = {"delivered": False}
SKIPPED: Mapping[str, Any] = {"status": "skipped", "outcome_category": "POLICY"}
AT_ONCE_FACT: Mapping[str, Any] = {"at_once": True}
TIMER = "timer"


class RunWriter:
    """The journal of one live run, and the grade of how well the run can be replayed. Thread-safe."""

    def __init__(self, info: RunInfo, journal: AnyJournal, clock: Clock) -> None:
        self.info = info
        self.journal = journal
        self._out: AnyJournal | RedactedJournal = journal
        if info.redaction is not None:
            self._out = RedactedJournal(journal, info.redaction, self.note)
        self.clock = clock
        self._now_us = clock.now_us
        self.failure: BaseException | None = None
        self._reasons: dict[str, None] = {}
        self._checks: dict[tuple[str, type], int] = {}
        self._notes: list[Notes] = []
        # Again from inside: the collector may call code that reads the clock.
        self._notes_lock = threading.RLock()
        self._surroundings = 0
        self._steps = 0
        self._open = True
        self.guard: RunGuard | None = None
        info.started_us = self._run_started()
        if not info.provisional:
            for source, values in surroundings.take_early().items():
                self._value_noted((), EARLY_GAP, source, orjson.dumps(encoded(source, values)))

    # --- the run ----------------------------------------------------------------------

    def _run_started(self) -> int:
        info = self.info
        facts: dict[str, Any] = {
            "scheme": SCHEME,
            "run_id": info.run_id,
            "origin_run_id": info.origin_run_id,
            "correlation_id": info.correlation_id,
            "tenant_id": info.tenant_id,
            "agent_id": info.agent_id,
            "seed": info.seed,
            "frozen_timestamp": info.frozen_timestamp,
            "entry_point": info.entry_point,
            "parent": info.parent,
        }
        if sources := controlled():
            facts["sources"] = sources
        if info.redaction is not None:
            facts["redactors"] = info.redaction.facts()
        values = {"environment": safe_snapshot(info.environment).data}
        for name, value in (
            ("plan", info.plan or None),
            ("input", info.input),
            ("metadata", info.metadata or None),
        ):
            if value is not None:
                values[name] = self._kept(f"{name} of the run", value, around=1)
        written = _facts(facts)
        now = self.append("run_started", written, values)
        if info.policies:
            self.guard = RunGuard(info.policies, _event("run_started", now, written, values))
        return now

    def run_finished(self, ending: RunEnding) -> None:
        """The last event; what comes after it is not of this run any more."""
        self._write_notes()
        if (reason := files.reason()) is not None:
            self.note(reason)
        values: dict[str, bytes] = {}
        if ending.failed:
            values["error"] = self._error(ending.error)
        if ending.has_result:
            values["result"] = self._kept("result of the run", ending.result, around=1)
        grade = list(self._reasons) or REPLAYABLE
        values["metadata"] = safe_snapshot({**ending.metadata, META_REPLAYABILITY: grade}).data
        status = b"failed" if ending.failed else b"completed"
        self.append("run_finished", b'"status":"%b","step_count":%d' % (status, self._steps), values)
        self._open = False

    def note(self, reason: str) -> None:
        """Adds a reason why this run may not replay. The same reason counts once."""
        if len(self._reasons) < MAX_REASONS:
            self._reasons.setdefault(reason)
        elif reason not in self._reasons:
            self._reasons["and others"] = None

    # --- the journal ------------------------------------------------------------------

    def append(self, type_: str, facts: bytes, values: Mapping[str, bytes] = _NONE, slot: str = "") -> int:
        """Writes one event and returns its time. After a failure, or the run's end, it only tells the
        time: a task may outlive its run."""
        now = self._now_us()
        if self._open:
            try:
                self._out.append(type_, now, facts, values, slot)
            except IsotraceError as error:
                self._stop(error)
        return now

    def _stop(self, error: BaseException) -> None:
        self._open = False
        self.failure = error
        warn(f"recording of run {self.info.run_id} stopped, the agent goes on: {error}")

    # --- steps ------------------------------------------------------------------------

    def begin(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
        """The step's intent: on disk before its effect can happen."""
        if self._notes or surroundings.count != self._surroundings:
            self._write_notes()
        branch = branch.here()
        step = Step(spec, branch, (*branch.path, branch.next_step()))
        self._steps += 1
        control = branch.control
        if control.thread != get_ident() or not control.ordered:
            step.marks = (_THREAD,)
            self.note(f"thread: {spec.name} was called from a thread that isotrace does not order")
        try:
            params = spec.bind(*args, **kwargs)
        except TypeError:
            params = spec.params(args, kwargs)
        if self.guard is not None and spec.kind != TIMER:
            self._begin_guarded(self.guard, step, params)
            return step
        branch.last_us = now = self._now_us()
        facts = (step.lineage, spec.facts)
        if self._open:
            try:
                if json_form(params) and self._out.append_json(STARTED, now, facts, params, spec.name):
                    return step
            except IsotraceError as error:
                self._stop(error)
            self._begin_by_snapshot(step, params)
        return step

    def _begin_by_snapshot(self, step: Step, params: dict[str, Any]) -> None:
        spec = step.spec
        snap = safe_snapshot(params)
        self._note_losses(spec, "params", snap)
        self._started(step, snap)

    def _started(self, step: Step, snap: Snapshot) -> tuple[bytes, Mapping[str, bytes]]:
        spec = step.spec
        facts, values = _facts(named_facts((step.lineage, spec.facts))), {VALUE_NAMES[STARTED]: snap.data}
        step.branch.last_us = self.append(STARTED, facts, values, spec.name)
        return facts, values

    # --- policies ---------------------------------------------------------------------

    def _begin_guarded(self, guard: RunGuard, step: Step, params: dict[str, Any]) -> None:
        """The step's intent, and what policies say of it. Raises `PolicyViolation` where one stops it:
        then it has ended, skipped, and its effect must not happen."""
        snap = safe_snapshot(params)
        self._note_losses(step.spec, "params", snap)
        with guard.lock:
            facts, values = self._started(step, snap)
            stop = self._judge(guard, step, _event(STARTED, step.branch.last_us, facts, values))
            if stop is None:
                return
            error = self.skip(step, stop.policy_id, stop.reason)
        raise error

    def skip(self, step: Step, policy_id: str, reason: str) -> PolicyViolation:
        """Ends a step that a policy stops, before its effect; gives what the agent is to see."""
        # No policy is asked about it again, and nothing is counted.
        step.stopped = True
        error = self._stopped(step, policy_id, reason)
        told = safe_snapshot({"type": type(error).__qualname__, "message": reason}).data
        ending = Ending(step, {**SKIPPED, "outcome_code": policy_id}, {"error": told})
        if step.spec.shape == "acall":
            ending.extra = AT_ONCE_FACT
        self.finish(ending, 0)
        return error

    def _stopped(self, step: Step, policy_id: str, reason: str) -> PolicyViolation:
        run_id, name = self.info.origin_run_id, step.spec.name
        return stopped(reason, policy_id, run_id=run_id, skill_name=name, lineage=step.lineage)

    def _judge(self, guard: RunGuard, step: Step, event: Event) -> Breach | None:
        """Writes down what policies say of this event, and gives the first that stops."""
        breaches = guard.judge(event)
        for breach in breaches:
            self.violation(step.branch, step, breach.policy_id, breach.reason)
        return next((breach for breach in breaches if breach.stop), None)

    def finish_at_once(self, step: Step, value: Any, took_ns: int, bits: int = 0) -> None:
        """The end of a step that returned, and did not have to wait for its turn."""
        if (watch := body_watch()) is not None and watch.moved:
            self._note_moved(step.branch, watch)
        if self.guard is None and not _says_more(step) and json_form(value, 1) == JSON:
            said = bits | PLAIN if step.spec.annotated else bits
            kept = value
            if type(value) is not dict:
                said, kept = said | WRAPPED, {"value": value}
            step.ended = True
            if self._succeed(step, said, took_ns, kept):
                return
        ending = self.succeeded(step, value)
        ending.bits = bits | (ending.bits or 0)
        self.finish(ending, took_ns)

    def _succeed(self, step: Step, bits: int, took_ns: int, value: Any) -> bool:
        """Writes a plain success in one go; False where the value needs a snapshot."""
        step.branch.last_us = now = self._now_us()
        if self._open:
            facts = (step.lineage, bits, step.cost_cents, took_ns)
            try:
                return self._out.append_json(SUCCEEDED, now, facts, value, step.spec.name)
            except IsotraceError as error:
                self._stop(error)
        return True

    def succeeded(self, step: Step, value: Any) -> Ending:
        """The end of a step that returned. The value is snapshotted now, written when delivered."""
        snap = safe_snapshot(value, around=1)
        bits = 0
        if snap.losses:
            self._note_losses(step.spec, "outcome", snap)
        elif not self._comes_back(step.spec, "outcome", value, snap):
            bits = PLAIN
        elif self.info.redaction is not None:
            self._note_redacted(step.spec, snap.data)
        data, wrapped = as_outcome(snap.data, value)
        if wrapped:
            bits |= WRAPPED
        return Ending(step, {}, {VALUE_NAMES[SUCCEEDED]: data}, bits=bits)

    def _comes_back(self, spec: SkillSpec, what: str, value: Any, snap: Snapshot) -> bool:
        """Whether a replay has to go by the annotation to give this value back. What speaks against
        that is noted. False: it is plain JSON, whatever the annotation says, and comes back as that."""
        if not snap.typed:
            return not spec.annotated
        key = (spec.name, type(value))
        checks = self._checks.get(key, 0)
        if checks < _RESTORE_CHECKS:
            self._checks[key] = checks + 1
            if reason := _why_not(value, spec.annotation):
                self.note(f"{what} of {spec.name}: {reason}")
        return True

    def _error(self, error: BaseException | None) -> bytes:
        """An exception as it is kept."""
        redaction = self.info.redaction
        value = error_value(error) if redaction is None else error_value(error, redaction.text)
        return safe_snapshot(value).data

    def _note_redacted(self, spec: SkillSpec, data: bytes) -> None:
        """Notes an outcome that is not of its type any more once it is redacted."""
        assert self.info.redaction is not None
        try:
            kept = self.info.redaction.data(data, "outcome_data", spec.name)
            if kept != data:
                restore(orjson.loads(kept), spec.annotation)
        except RestoreError:
            self.note(f"outcome of {spec.name}: redacted, it does not fit its annotation any more")
        except Exception:  # noqa: BLE001  # what can't be redacted ends the recording when it is written
            pass

    def failed(self, step: Step, error: BaseException, *, delivered: bool = True) -> Ending:
        """The end of a step that raised; `delivered=False` where the agent itself ended it."""
        category, code = classify(error)
        facts = {"status": "failure", "outcome_category": category, "outcome_code": code}
        if not delivered:
            facts |= UNDELIVERED
        return Ending(step, facts, {"error": self._error(error)})

    def finish(self, ending: Ending, took_ns: int) -> None:
        """Writes the end of a step. From here on a crash can't lose it."""
        step = ending.step
        if (watch := body_watch()) is not None and watch.moved:
            self._note_moved(step.branch, watch)
        branch, slot = step.branch, step.spec.name
        step.ended = True
        guard = self.guard if step.spec.kind != TIMER else None
        if guard is None and ending.bits is not None and not ending.extra and not _says_more(step):
            value = orjson.Fragment(ending.values[VALUE_NAMES[SUCCEEDED]])
            if self._succeed(step, ending.bits, took_ns, value):
                return
        values = ending.values
        if step.transport is not None:
            values = {**values, "transport": safe_snapshot(step.transport).data}
        facts = self._end_facts(ending, took_ns)
        if guard is None:
            branch.last_us = self.append("step_finished", facts, values, slot)
            return
        with guard.lock:
            branch.last_us = self.append("step_finished", facts, values, slot)
            if not step.stopped:
                # What it came to has happened: a stop holds for the next step.
                self._judge(guard, step, _event("step_finished", branch.last_us, facts, values))

    def _end_facts(self, ending: Ending, took_ns: int) -> bytes:
        step = ending.step
        usual = succeeded_facts(step.lineage, ending.bits or 0, step.cost_cents, took_ns)
        if step.failure is not None:
            category, code = step.failure
            usual |= {"status": "failure", "outcome_category": category, "outcome_code": code}
        rest = {name: usual.pop(name) for name in ("cost_cents", "duration_ms")}
        facts = {**usual, **ending.facts, **ending.extra, **rest, "retry_count": step.attempts}
        if step.survived and facts.get("delivered") is False:
            facts["survived"] = step.survived
        if step.child_run_id is not None:
            facts["child_run_id"] = step.child_run_id
        if step.marks:
            facts["marks"] = list(step.marks)
            for mark in step.marks:
                if mark != _THREAD:  # noted when the step began
                    self.note(f"{step.spec.name}: {mark}")
        return _facts(facts)

    def attempt_failed(self, step: Step, error: BaseException) -> None:
        """An attempt inside a step failed and will be made again. Raises `PolicyViolation` where a policy
        says that it will not."""
        category, code = classify(error)
        facts = {
            "lineage": list(step.lineage),
            "attempt": step.attempts,
            "outcome_category": category,
            "outcome_code": code,
        }
        step.attempts += 1
        written, values = _facts(facts), {"error": self._error(error)}
        if self.guard is None:
            self.append("step_attempt", written, values)
            return
        with self.guard.lock:
            now = self.append("step_attempt", written, values)
            stop = self._judge(self.guard, step, _event("step_attempt", now, written, values))
        if stop is not None:
            raise self._stopped(step, stop.policy_id, stop.reason) from error

    # --- pieces of streams, and what is no step ------------------------------------------

    def chunk(self, step: Step, index: int, item: Any, sent: Any) -> tuple[bytes, dict[str, bytes]]:
        """Facts and values of one piece of a stream, as it is now. `sent`: what the agent had sent in."""
        # It will stand in the list of chunks, and that in the outcome.
        snap = safe_snapshot(item, around=2)
        facts = b'"lineage":%b,"index":%d' % (lineage_json(step.lineage), index)
        values = {"chunk": snap.data}
        if snap.losses:
            self._note_losses(step.spec, "chunk", snap)
        elif not self._comes_back(step.spec, "chunk", item, snap):
            facts += b',"plain":true'
        if sent is not None:
            values["sent"] = self._kept(f"value sent into {step.spec.name}", sent)
        return facts, values

    def add_chunk(self, step: Step, chunk: tuple[bytes, dict[str, bytes]]) -> None:
        """Writes one piece of a stream."""
        if self.guard is None:
            step.branch.last_us = self.append("step_chunk", *chunk)
            return
        with self.guard.lock:
            step.branch.last_us = now = self.append("step_chunk", *chunk)
            self._judge(self.guard, step, _event("step_chunk", now, *chunk))

    def value_read(self, branch: Branch, source: str, value: Any) -> None:
        """A value from outside that is no step."""
        data = self._kept(f"value read from {source}", value)
        facts = {"lineage": list(branch.path), "index": branch.reads, "source": source}
        branch.reads += 1
        branch.last_us = self.append("value_read", _facts(facts), {"value": data})

    def noted(self, branch: Branch, source: str, value: Any) -> None:
        """A value that the branch has read by itself, to be written before any branch's next step."""
        with self._notes_lock:
            notes = branch.notes
            if notes is None or notes.gap != branch.count:
                notes = branch.notes = Notes(branch.path, branch.count)
            if notes.left:
                notes.left -= 1
                if not notes.values:
                    self._notes.append(notes)
                notes.values.setdefault(source, []).append(value)
                return
        self.note(f"{source}: read more than {MAX_IN_GAP:,} times between two steps")

    def _note_moved(self, branch: Branch, watch: BodyWatch) -> None:
        """The body of a step has drawn from global generators: from here on the agent goes on with these."""
        self.noted(branch, MOVED, watch.states())

    def _write_notes(self) -> None:
        with self._notes_lock:
            written, self._notes = self._notes, []
            taken = [(notes, notes.values) for notes in written]
            for notes in written:
                notes.values = {}
            mark, self._surroundings = self._surroundings, surroundings.count
        for source, read in surroundings.since(mark).items() if mark < self._surroundings else ():
            self._value_noted((), GAP, source, safe_snapshot(read).data)
        for notes, by_source in taken:
            for source, values in by_source.items():
                self._value_noted(notes.path, notes.gap, source, orjson.dumps(encoded(source, values)))

    def _value_noted(self, path: Lineage, gap: int, source: str, value: bytes) -> None:
        facts = b'"lineage":%b,"gap":%d,"source":"%b"' % (lineage_json(path), gap, source.encode())
        self.append("value_read", facts, {"value": value})

    def violation(self, branch: Branch, step: Step | None, policy_id: str, reason: str) -> None:
        """A policy was violated by this step, or by the one that the branch made last."""
        lineage = branch.last_step if step is None else step.lineage
        facts = {"lineage": list(lineage), "policy_id": str(policy_id)}
        self.append("violation", _facts(facts), {"reason": safe_snapshot(str(reason)).data})

    def returned(self, step: Step, result: Any) -> bytes:
        """What a stream returned, beside its pieces."""
        return b'{"return":%b}' % self._kept(f"return value of {step.spec.name}", result, around=1)

    def _kept(self, what: str, value: Any, around: int = 0) -> bytes:
        snap = safe_snapshot(value, around)
        for loss in snap.losses:
            self.note(f"{what}: {loss}")
        return snap.data

    def _note_losses(self, spec: SkillSpec, what: str, snap: Snapshot) -> None:
        for loss in snap.losses:
            self.note(f"{what} of {spec.name}: {loss}")


def _says_more(step: Step) -> bool:
    """Whether the end of this step has more to say than a plain success has."""
    return bool(step.marks or step.attempts or step.child_run_id or step.transport or step.failure)


def as_outcome(data: bytes, value: Any) -> tuple[bytes, bool]:
    """The bytes of this value as those of an outcome, which is an object; and whether one was put around
    it."""
    # A tag is no dictionary of the agent's.
    if data[:1] != b"{" or (data[:7] == b'{"$iso:' and type(value) is not dict):
        return b'{"value":%b}' % data, True
    return data, False


def safe_snapshot(value: Any, around: int = 0) -> Snapshot:
    """`snapshot`, whatever happens: the agent must not suffer from what can't be recorded."""
    try:
        return snapshot(value, around)
    except Exception as error:  # noqa: BLE001  # as said
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        loss = f"object at the top: {name} ({type(error).__name__} while it was read)"
        return Snapshot(orjson.dumps({"$iso:object": ascii(name)}), (loss,), True)


def _why_not(value: Any, annotation: Any) -> str | None:
    """Why this value would not come back as it was, None if it would."""
    try:
        return can_restore(value, annotation)
    except Exception as error:  # noqa: BLE001  # as above
        return f"{type(value).__qualname__} can't be restored: {type(error).__name__}"


def _event(type_: str, now: int, facts: bytes, values: Mapping[str, bytes]) -> Event:
    """What was just written, for policies. Its place among all events is not known yet."""
    return Event(-1, type_, now, orjson.loads(b"{%b}" % facts), dict(values))


def _facts(facts: dict[str, Any]) -> bytes:
    """Facts as JSON without the outer braces. Ids are checked where they come in; paths may be anything."""
    return safe_snapshot(facts).data[1:-1]
