"""Recording the run that comes about when a recorded one is run again: where a call is served, its recorded
step stands in for what would be called, with its recorded times and errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from isotrace.clock import Clock
from isotrace.compare import findings
from isotrace.errors import PolicyViolation
from isotrace.events import Event, lineage_text
from isotrace.models import Lineage
from isotrace.record.context import (
    Branch,
    Ending,
    RunEnding,
    RunInfo,
    Step,
    enter_body,
    leave_body,
)
from isotrace.record.memory_journal import AnyJournal
from isotrace.record.recorder import Recorder
from isotrace.record.scheduler import Scheduler
from isotrace.record.sources.noted import MOVED
from isotrace.record.sources.surroundings import EARLY_GAP, GAP
from isotrace.record.spec import SkillSpec
from isotrace.record.timers import RecordedTimer, timer_args, timer_spec
from isotrace.record.writer import RunWriter
from isotrace.replay.recorded import RecordedStep
from isotrace.replay.serving import Standin, never
from isotrace.replay.stop import ReplayStop

if TYPE_CHECKING:
    from isotrace.replay.rerun import Part, Rerun


class RerunRecorder(Recorder):
    """Records the new run. Where a call is served, its recorded step stands in for what would be called."""

    def __init__(
        self,
        rerun: Rerun,
        info: RunInfo,
        journal: AnyJournal,
        clock: Clock,
        ended: Callable[[AnyJournal, bool], None],
    ) -> None:
        self.rerun = rerun
        super().__init__(info, journal, _Times(clock), ended)

    def new_writer(self, info: RunInfo, journal: AnyJournal, clock: Clock) -> RunWriter:
        assert isinstance(clock, _Times)
        return _RerunWriter(self.rerun, info, journal, clock)

    def new_scheduler(self) -> Scheduler:
        return self.rerun.scheduler

    def close(self, ending: RunEnding) -> None:
        if not self.closed:
            self.rerun.raised = ending.error
            for mark in self.rerun.marks:
                self.writer.note(mark)
        super().close(ending)

    def read(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        served, value, event = self.rerun.read(branch)
        if not served:
            return super().read(branch, source, function)
        assert event is not None
        if event.facts.get("source") != source:
            message = f"the code reads {source!r}, the record has {event.facts.get('source')!r} there"
            self.rerun.stop(findings.uncontrolled_source(None, branch.path, message))
        with self.writer.times.of(event):
            self.writer.value_read(branch, source, value)
        return value

    def noted(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        if self.rerun.reads_live:
            return super().noted(branch, source, function)
        value = self.rerun.noted_reads.next(branch, source, function)
        self.writer.noted(branch, source, value)
        return value

    writer: _RerunWriter

    def call(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.rerun.is_the_run(spec):
            with self.rerun.outside():
                return spec.function(*args, **kwargs)
        branch = branch.here()
        lineage = (*branch.path, branch.count)
        part = self.rerun.part(spec, branch, args, kwargs)
        try:
            return super().call(part.spec, branch, part.args, part.kwargs)
        except PolicyViolation:
            self.rerun.let_go(lineage)
            raise
        finally:
            self._move_generators(part, branch)
            if branch.control.worker is None:
                self.scheduler.served((lineage, "end"))

    async def acall(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self.rerun.is_the_run(spec):
            with self.rerun.outside():
                return await spec.function(*args, **kwargs)
        branch = branch.here()
        lineage = (*branch.path, branch.count)
        part = self.rerun.part(spec, branch, args, kwargs)
        if part.step is not None and not part.step.at_once:
            try:
                return await self._served_call(part, branch)
            except PolicyViolation:
                self.rerun.let_go(lineage)
                raise
            finally:
                self._move_generators(part, branch)
        try:
            return await super().acall(part.spec, branch, part.args, part.kwargs)
        finally:
            self._move_generators(part, branch)
            self.scheduler.served((lineage, "end"))

    def _move_generators(self, part: Part, branch: Branch) -> None:
        """What a served step's body drew on record is drawn now, for this record as well."""
        if part.step is not None:
            for states in self.rerun.noted_reads.restore_generators(branch.path, branch.count):
                self.writer.noted(branch, MOVED, states)

    async def _served_call(self, part: Part, branch: Branch) -> Any:
        """A served step that had waited: its end has a turn."""
        step = self.writer.begin(part.spec, branch, part.args, part.kwargs)
        tokens = enter_body(step)
        value, problem = None, None
        try:
            value = await part.spec.function(*part.args, **part.kwargs)
        except BaseException as error:  # noqa: BLE001  # raised again in its turn
            problem = error
        finally:
            leave_body(tokens)
        if problem is None:
            await self.deliver(self.writer.succeeded(step, value), 0)
            return value
        await self.deliver(self.writer.failed(step, problem), 0)
        raise problem

    async def deliver_error(self, ending: Ending, problem: BaseException, took_ns: int) -> None:
        if _served(ending.step.spec) is None:
            await super().deliver_error(ending, problem, took_ns)
        else:
            await self.deliver(ending, took_ns)

    async def turn(self, step: Step, what: int | str, complete: Callable[[], None]) -> None:
        served = _served(step.spec)
        if served is None:
            await super().turn(step, what, complete)
        else:
            await self.rerun.in_turn(served, what, complete)

    def stream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Any, Any, Any]:
        branch = branch.here()
        lineage = (*branch.path, branch.count)
        part = self.rerun.part(spec, branch, args, kwargs)
        try:
            return super().stream(part.spec, branch, part.args, part.kwargs)
        except PolicyViolation:
            self.rerun.let_go(lineage)
            raise

    def astream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        branch = branch.here()
        lineage = (*branch.path, branch.count)
        part = self.rerun.part(spec, branch, args, kwargs)
        try:
            return super().astream(part.spec, branch, part.args, part.kwargs)
        except PolicyViolation:
            self.rerun.let_go(lineage)
            raise

    def timer(
        self,
        name: str,
        branch: Branch,
        delay: float | None,
        when: float,
        fired: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> RecordedTimer:
        part = self.rerun.part(timer_spec(name), branch, timer_args(delay), {})
        if part.step is not None:
            loop = asyncio.get_running_loop()
            when = loop.time() if part.step.delivered else never(loop)
        step = self.writer.begin(part.spec, branch, part.args, part.kwargs)
        return RecordedTimer(self, step, when, fired, self._now_ns)


class InnerRecorder(Recorder):
    """Records a run that an executed step opens; `check` is asked before each of its steps."""

    def __init__(
        self,
        check: Callable[[SkillSpec, Lineage], None],
        info: RunInfo,
        journal: AnyJournal,
        clock: Clock,
        ended: Callable[[AnyJournal, bool], None],
    ) -> None:
        self._check = check
        super().__init__(info, journal, clock, ended)

    def call(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._check(spec, (*branch.path, branch.count))
        return super().call(spec, branch, args, kwargs)

    async def acall(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self._check(spec, (*branch.path, branch.count))
        return await super().acall(spec, branch, args, kwargs)

    def stream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Any, Any, Any]:
        self._check(spec, (*branch.path, branch.count))
        return super().stream(spec, branch, args, kwargs)

    def astream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        self._check(spec, (*branch.path, branch.count))
        return super().astream(spec, branch, args, kwargs)


class _Times:
    """A clock that says, where it is told to, the recorded time of an event."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told = threading.local()
        self.monotonic_ns = clock.monotonic_ns
        self.random_bytes = clock.random_bytes
        self.new_id = clock.new_id

    def now_us(self) -> int:
        told: int | None = getattr(self._told, "us", None)
        return self._clock.now_us() if told is None else told

    @contextmanager
    def of(self, event: Event | None) -> Iterator[None]:
        """Inside, the time is this event's; with None it is the clock's."""
        before = getattr(self._told, "us", None)
        self._told.us = None if event is None else event.time_us
        try:
            yield
        finally:
            self._told.us = before


class _RerunWriter(RunWriter):
    """Writes served steps with their recorded times and errors, and counts those under way that are not
    served."""

    def __init__(self, rerun: Rerun, info: RunInfo, journal: AnyJournal, times: _Times) -> None:
        self.rerun = rerun
        self.times = times
        with times.of(rerun.start_event):
            super().__init__(info, journal, times)
        self._keep_surroundings()

    def _keep_surroundings(self) -> None:
        """What the program had read of its process, and before its run began, is what it has now."""
        for (_, gap, _source), events in self.rerun.record.noted.items():
            for event in events if gap in (GAP, EARLY_GAP) else ():
                values = {name: data for name, data in event.values.items() if isinstance(data, bytes)}
                with self.times.of(event):
                    self.append(event.type, orjson.dumps(event.facts)[1:-1], values)

    def begin(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
        served = _served(spec)
        with self.times.of(served.started if served is not None else None):
            step = super().begin(spec, branch, args, kwargs)
            if served is not None and served.stopped_by is not None:
                self.violation(step.branch, step, *served.stopped_by)
                raise self.skip(step, *served.stopped_by)
        if served is None:
            self.rerun.under_way.add(step.lineage)
        else:
            for attempt in served.attempts:
                facts = orjson.dumps({**attempt.facts, "lineage": list(step.lineage)})[1:-1]
                values = {name: data for name, data in attempt.values.items() if isinstance(data, bytes)}
                with self.times.of(attempt):
                    self.append("step_attempt", facts, values)
        return step

    def finish_at_once(self, step: Step, value: Any, took_ns: int, bits: int = 0) -> None:
        if (served := _served(step.spec)) is None:
            self._learn(step, value)
            self.rerun.under_way.discard(step.lineage)
            super().finish_at_once(step, value, took_ns, bits)
            return
        with self.times.of(served.finished):
            super().finish_at_once(step, value, _took_ns(served), bits)

    def finish(self, ending: Ending, took_ns: int) -> None:
        served = _served(ending.step.spec)
        if served is None:
            self.rerun.under_way.discard(ending.step.lineage)
            if ending.step.spec.streams:
                self.rerun.answers.end(ending.step.lineage)
            super().finish(ending, took_ns)
            return
        if served.finished is not None:
            ending.step.survived = int(served.finished.facts.get("survived", 0))
        with self.times.of(served.finished):
            super().finish(ending, _took_ns(served))

    def succeeded(self, step: Step, value: Any) -> Ending:
        if _served(step.spec) is None:
            self._learn(step, value)
        return super().succeeded(step, value)

    def _learn(self, step: Step, value: Any) -> None:
        """Ids that a model minted in a live answer, for recognising them in later requests."""
        if step.spec.kind == "llm":
            self.rerun.minted.learn(lineage_text(step.lineage), value)

    def failed(self, step: Step, error: BaseException, *, delivered: bool = True) -> Ending:
        ending = super().failed(step, error, delivered=delivered)
        served = _served(step.spec)
        finished = served.finished if served is not None else None
        if finished is None or isinstance(error, ReplayStop) or finished.facts["status"] != "failure":
            return ending
        for name in ("outcome_category", "outcome_code"):
            ending.facts[name] = finished.facts.get(name)
        if isinstance(data := finished.values.get("error"), bytes):
            ending.values = {"error": data}
        return ending

    def add_chunk(self, step: Step, chunk: tuple[bytes, dict[str, bytes]]) -> None:
        served = _served(step.spec)
        if served is None and step.spec.kind == "llm":
            self.rerun.answers.feed(step.lineage, orjson.loads(chunk[1]["chunk"]))
        index = int(orjson.loads(b"{%b}" % chunk[0])["index"])
        event = served.chunks[index] if served is not None and index < len(served.chunks) else None
        with self.times.of(event):
            super().add_chunk(step, chunk)


def _served(spec: SkillSpec) -> RecordedStep | None:
    return spec.served if isinstance(spec, Standin) else None


def _took_ns(step: RecordedStep) -> int:
    facts: Mapping[str, Any] = step.finished.facts if step.finished is not None else {}
    return round(float(facts.get("duration_ms") or 0.0) * 1e6)
