"""The driver of a live run: calls what is really there, and writes down what came of it.

The hot path only snapshots and appends to the journal. Everything that can wait (digests, salts,
commitments, the path) waits for sealing. Nothing here may change what the agent sees, or raise
because of what it was given: a journal that fails ends the recording of this run, not the agent.
"""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import orjson

from isotrace.clock import Clock
from isotrace.errors import IsotraceError, RecordingWarning
from isotrace.hashing import SCHEME
from isotrace.models import META_REPLAYABILITY
from isotrace.record.context import (
    Branch,
    Ending,
    RunEnding,
    RunInfo,
    Step,
    current_branch,
    current_step,
    ended_by_agent,
)
from isotrace.record.journal import AnyJournal
from isotrace.record.outcomes import classify, error_value
from isotrace.record.restore import can_restore
from isotrace.record.scheduler import ArrivalOrder, Scheduler
from isotrace.record.snapshot import Snapshot, snapshot, snapshot_params
from isotrace.record.spec import SkillSpec
from isotrace.record.timers import RecordedTimer, timer_spec

_NONE: dict[str, bytes] = {}
_SUCCESS = b',"status":"success","outcome_category":"SUCCESS","outcome_code":null'
REPLAYABLE = "replayable"
"""The grade of a run that nothing speaks against; otherwise the grade is the list of reasons."""

_RESTORE_CHECKS = 8
"""How many outcomes of one skill are tried for restoring; the types of later ones rarely differ."""


class Recorder:
    """Records one run into one journal. Safe to use from several tasks and threads."""

    def __init__(
        self, info: RunInfo, journal: AnyJournal, clock: Clock, sealed: Callable[[AnyJournal], None]
    ) -> None:
        self.info = info
        self.closed = False
        self.scheduler = Scheduler(ArrivalOrder(), self.note)
        self.reasons: dict[str, None] = {}
        self.steps = 0
        self.failure: BaseException | None = None
        self._journal = journal
        self._clock = clock
        self._seal = sealed
        info.started_us = self._run_started()

    # --- the run ----------------------------------------------------------------------

    def _run_started(self) -> int:
        info = self.info
        facts = {
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
        values = {"environment": snapshot(info.environment).data}
        for name in ("plan", "input", "metadata"):
            value = getattr(info, name)
            if value:
                snap = snapshot(value)
                values[name] = snap.data
                for loss in snap.losses:
                    self.note(f"{name} of the run: {loss}")
        return self.append("run_started", orjson.dumps(facts)[1:-1], values)

    def close(self, ending: RunEnding) -> None:
        """Writes the run's end and hands the journal over to be sealed."""
        self.closed = True
        self.scheduler.close()
        status = "failed" if ending.error is not None else "completed"
        values: dict[str, bytes] = {}
        if ending.error is not None:
            values["error"] = snapshot(error_value(ending.error)).data
        if ending.has_result:
            snap = snapshot(ending.result)
            values["result"] = snap.data
        metadata = {**ending.metadata, META_REPLAYABILITY: list(self.reasons) or REPLAYABLE}
        values["metadata"] = snapshot(metadata).data
        self.append("run_finished", b'"status":"%b","step_count":%d' % (status.encode(), self.steps), values)
        self._seal(self._journal)

    def read(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        value = function()
        snap = snapshot(value)
        for loss in snap.losses:
            self.note(f"value read from {source}: {loss}")
        facts = {"lineage": list(branch.path), "index": branch.reads, "source": source}
        branch.reads += 1
        branch.last_us = self.append("value_read", orjson.dumps(facts)[1:-1], {"value": snap.data})
        return value

    def violation(self, branch: Branch, policy_id: str, reason: str) -> None:
        step = current_step.get()
        lineage = step.lineage if step is not None else (*branch.path, max(branch.count - 1, 0))
        facts = {"lineage": list(lineage), "policy_id": policy_id}
        self.append("violation", orjson.dumps(facts)[1:-1], {"reason": snapshot(reason).data})

    # --- the journal ------------------------------------------------------------------

    def note(self, reason: str) -> None:
        """Adds a reason why this run may not replay. The same reason counts once."""
        self.reasons.setdefault(reason)

    def append(self, type_: str, facts: bytes, values: dict[str, bytes] | None = None, slot: str = "") -> int:
        """Writes one event and returns its time. After a failure it only tells the time."""
        now = self._clock.now_us()
        if self.failure is None:
            try:
                self._journal.append(type_, now, facts, values or _NONE, slot)
            except (IsotraceError, OSError) as error:
                self.failure = error
                warnings.warn(
                    RecordingWarning(
                        f"recording of run {self.info.run_id} stopped, the agent goes on: {error}"
                    ),
                    stacklevel=4,
                )
        return now

    # --- one step ---------------------------------------------------------------------

    def begin(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
        """The step's intent: on disk before its effect can happen."""
        number = branch.next()
        lineage = b"%b%d]" % (branch.prefix_json, number)
        step = Step(spec, branch, (*branch.path, number), lineage)
        params = snapshot_params(spec.bind(args, kwargs))
        if params.losses:
            self._note_losses(spec, "params", params)
        if branch.thread != threading.get_ident():
            self.note(f"thread: {spec.name} was called from a thread that isotrace does not order")
        self.steps += 1
        step.started_us = branch.last_us = self.append(
            "step_started",
            b'"lineage":%b,%b' % (lineage, spec.facts_json),
            {"params": params.data},
            spec.name,
        )
        return step

    def succeeded(self, step: Step, value: Any) -> Ending:
        """The end of a step that returned. The value is snapshotted now, written when delivered."""
        snap = snapshot(value)
        spec = step.spec
        if snap.losses:
            self._note_losses(spec, "outcome", snap)
        elif snap.typed and spec.restore_checks < _RESTORE_CHECKS:
            spec.restore_checks += 1
            if reason := can_restore(value, spec.annotation):
                self.note(f"outcome of {spec.name}: {reason}")
        data = snap.data
        if data[:1] == b"{":
            return Ending(step, _SUCCESS, {"outcome_data": data})
        return Ending(step, _SUCCESS + b',"wrapped":true', {"outcome_data": b'{"value":%b}' % data})

    def failed(self, step: Step, error: BaseException, *, delivered: bool = True) -> Ending:
        """The end of a step that raised; `delivered=False` where the agent itself ended it."""
        category, code = classify(error)
        facts = b',"status":"failure","outcome_category":"%b","outcome_code":%b' % (
            category.encode(),
            orjson.dumps(code),
        )
        if not delivered:
            facts += b',"delivered":false'
        return Ending(step, facts, {"error": snapshot(error_value(error)).data})

    def finish(self, ending: Ending) -> None:
        """Writes the end of a step. From here on a crash can't lose it."""
        step = ending.step
        facts = b'"lineage":%b%b,"cost_cents":%b,"duration_ms":%.3f,"retry_count":%d' % (
            step.lineage_json,
            ending.facts,
            orjson.dumps(step.cost_cents),
            ending.duration_ms,
            step.attempts,
        )
        if step.child_run_id is not None:
            facts += b',"child_run_id":%b' % orjson.dumps(step.child_run_id)
        if step.marks:
            facts += b',"marks":%b' % orjson.dumps(step.marks)
        step.branch.last_us = self.append("step_finished", facts, ending.values, step.spec.name)

    def attempt_failed(self, step: Step, error: BaseException) -> None:
        """An attempt inside a step failed and will be made again."""
        category, code = classify(error)
        facts = {
            "lineage": list(step.lineage),
            "attempt": step.attempts,
            "outcome_category": category,
            "outcome_code": code,
        }
        step.attempts += 1
        self.append("step_attempt", orjson.dumps(facts)[1:-1], {"error": snapshot(error_value(error)).data})

    def _chunk(self, step: Step, index: int, data: bytes) -> None:
        facts = b'"lineage":%b,"index":%d' % (step.lineage_json, index)
        step.branch.last_us = self.append("step_chunk", facts, {"chunk": data})

    def _chunk_data(self, step: Step, item: Any) -> bytes:
        snap = snapshot(item)
        if snap.losses:
            self._note_losses(step.spec, "chunk", snap)
        elif snap.typed and step.spec.restore_checks < _RESTORE_CHECKS:
            step.spec.restore_checks += 1
            if reason := can_restore(item, step.spec.annotation):
                self.note(f"chunk of {step.spec.name}: {reason}")
        return snap.data

    def _note_losses(self, spec: SkillSpec, what: str, snap: Snapshot) -> None:
        for loss in snap.losses:
            self.note(f"{what} of {spec.name}: {loss}")

    # --- plain functions --------------------------------------------------------------

    def call(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        step = self.begin(spec, branch, args, kwargs)
        worker = branch.worker
        if worker is not None:
            worker.pause()
        started = time.perf_counter_ns()
        outside, before = current_branch.set(None), current_step.set(step)
        ending: Ending | None = None
        try:
            value = (
                spec.function(*args, **kwargs) if not spec.retries else self._retry(spec, step, args, kwargs)
            )
            ending = self.succeeded(step, value)
            return value
        except BaseException as error:
            if ending is None:
                ending = self.failed(step, error)
            raise
        finally:
            current_branch.reset(outside)
            current_step.reset(before)
            assert ending is not None
            ending.duration_ms = (time.perf_counter_ns() - started) / 1e6
            if worker is None:
                self.finish(ending)
            else:
                worker.resume((step.lineage, "end"), lambda: self.finish(ending))

    def _retry(self, spec: SkillSpec, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for attempt in range(spec.retries):
            try:
                return spec.function(*args, **kwargs)
            except spec.retry_on as error:
                self.attempt_failed(step, error)
                if spec.backoff_s:
                    time.sleep(spec.backoff_s * 2**attempt)
        return spec.function(*args, **kwargs)

    # --- coroutine functions ------------------------------------------------------------

    async def acall(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        step = self.begin(spec, branch, args, kwargs)
        started = time.perf_counter_ns()
        outside, before = current_branch.set(None), current_step.set(step)
        problem: BaseException | None = None
        value: Any = None
        try:
            if spec.retries:
                value = await self._aretry(spec, step, args, kwargs)
            else:
                value = await spec.function(*args, **kwargs)
        except BaseException as error:
            problem = error
        finally:
            current_branch.reset(outside)
            current_step.reset(before)
        duration_ms = (time.perf_counter_ns() - started) / 1e6
        if problem is None:
            ending = self.succeeded(step, value)
        else:
            by_agent = ended_by_agent(problem)
            ending = self.failed(step, problem, delivered=not by_agent)
        ending.duration_ms = duration_ms
        if problem is not None and not ending.delivered:
            self.finish(ending)
            raise problem
        await self._deliver(ending, "end")
        if problem is not None:
            raise problem
        return value

    async def _aretry(
        self, spec: SkillSpec, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        for attempt in range(spec.retries):
            try:
                return await spec.function(*args, **kwargs)
            except spec.retry_on as error:
                self.attempt_failed(step, error)
                if spec.backoff_s:
                    await asyncio.sleep(spec.backoff_s * 2**attempt)
        return await spec.function(*args, **kwargs)

    async def _deliver(self, ending: Ending, what: str) -> None:
        """Waits for the completion's turn. Cancelled meanwhile, the agent never got the outcome."""
        try:
            await self.scheduler.turn((ending.step.lineage, what), lambda: self.finish(ending))
        except (asyncio.CancelledError, GeneratorExit) as error:
            lost = self.failed(ending.step, error, delivered=False)
            lost.duration_ms = ending.duration_ms
            self.finish(lost)
            raise

    # --- streams ------------------------------------------------------------------------

    def stream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[Any]:
        step = self.begin(spec, branch, args, kwargs)
        source: Generator[Any, Any, Any] = spec.function(*args, **kwargs)
        started = time.perf_counter_ns()
        index = 0
        advance: Callable[[], Any] = source.__next__
        while True:
            outside, before = current_branch.set(None), current_step.set(step)
            try:
                item = advance()
            except StopIteration as stop:
                self._end_stream(step, started, result=stop.value)
                return stop.value
            except BaseException as error:
                self._end_stream(step, started, error=error)
                raise
            finally:
                current_branch.reset(outside)
                current_step.reset(before)
            self._chunk(step, index, self._chunk_data(step, item))
            index += 1
            try:
                sent = yield item
            except GeneratorExit:
                source.close()
                self._end_stream(step, started, closed=True)
                raise
            except BaseException as thrown:
                advance = _thrower(source.throw, thrown)
            else:
                advance = source.__next__ if sent is None else _sender(source.send, sent)

    async def astream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        step = self.begin(spec, branch, args, kwargs)
        source = spec.function(*args, **kwargs)
        started = time.perf_counter_ns()
        index = 0
        advance: Callable[[], Any] = source.__anext__
        while True:
            outside, before = current_branch.set(None), current_step.set(step)
            problem: BaseException | None = None
            item: Any = None
            try:
                item = await advance()
            except BaseException as error:
                problem = error
            finally:
                current_branch.reset(outside)
                current_step.reset(before)
            if problem is not None:
                await self._end_astream(step, started, problem)
                return
            data = self._chunk_data(step, item)
            try:
                await self.scheduler.turn(
                    (step.lineage, index), lambda i=index, d=data: self._chunk(step, i, d)
                )  # type: ignore[misc]  # bound now, called in its turn
            except BaseException as error:
                self._end_stream(step, started, error=error, delivered=False)
                raise
            index += 1
            try:
                sent = yield item
            except GeneratorExit:
                await source.aclose()
                self._end_stream(step, started, closed=True)
                raise
            except BaseException as thrown:
                advance = _thrower(source.athrow, thrown)
            else:
                advance = source.__anext__ if sent is None else _sender(source.asend, sent)

    async def _end_astream(self, step: Step, started: int, problem: BaseException) -> None:
        if isinstance(problem, StopAsyncIteration):
            ending = self._stream_ending(step, started)
        elif ended_by_agent(problem):
            self._end_stream(step, started, error=problem, delivered=False)
            raise problem
        else:
            ending = self._stream_ending(step, started, error=problem)
        await self._deliver(ending, "end")
        if not isinstance(problem, StopAsyncIteration):
            raise problem

    def _end_stream(self, step: Step, started: int, **how: Any) -> None:
        self.finish(self._stream_ending(step, started, **how))

    def _stream_ending(
        self,
        step: Step,
        started: int,
        *,
        error: BaseException | None = None,
        result: Any = None,
        closed: bool = False,
        delivered: bool = True,
    ) -> Ending:
        if error is not None:
            ending = self.failed(step, error, delivered=delivered)
        else:
            ending = Ending(step, _SUCCESS, {})
            if result is not None:
                ending.values["outcome_data"] = b'{"return":%b}' % snapshot(result).data
        ending.facts += b',"stream":true'
        if closed:
            ending.facts += b',"closed_early":true,"delivered":false'
        ending.duration_ms = (time.perf_counter_ns() - started) / 1e6
        return ending

    # --- timers -------------------------------------------------------------------------

    def timer(
        self, name: str, branch: Branch, delay: float | None, when: float, fired: Callable[[], None]
    ) -> RecordedTimer:
        spec = timer_spec(name)
        step = self.begin(spec, branch, () if delay is None else (delay,), {})
        return RecordedTimer(self, step, when, fired)


def _sender(send: Callable[[Any], Any], value: Any) -> Callable[[], Any]:
    return lambda: send(value)


def _thrower(throw: Callable[[BaseException], Any], error: BaseException) -> Callable[[], Any]:
    return lambda: throw(error)
