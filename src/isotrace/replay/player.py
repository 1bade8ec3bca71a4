"""The driver of a strict replay: the agent's own code runs, its steps are served from the record.

Nothing is executed and nothing is guessed. The first step that is not the recorded one stops the
replay, with a divergence that says how it differs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from isotrace.compare import findings
from isotrace.compare.divergence import Divergence
from isotrace.events import lineage_text
from isotrace.models import Erased
from isotrace.plain import from_plain
from isotrace.record.context import (
    Branch,
    Driver,
    RunEnding,
    RunInfo,
    Step,
)
from isotrace.record.edge import Edge
from isotrace.record.scheduler import Scheduler, Waiter
from isotrace.record.spec import SkillSpec
from isotrace.record.timers import timer_args, timer_spec
from isotrace.replay.driving import Driving, tell_transport
from isotrace.replay.ending import ending_divergences
from isotrace.replay.recorded import DeliveryKey, RecordedRun, RecordedStep, over_http
from isotrace.replay.served import ServedStream, ServedTimer, ServedWhole, UnrecordedTimer
from isotrace.replay.stop import ReplayStop
from isotrace.replay.turns import RecordedOrder


class Player(Driving):
    """Serves one recorded run to the first run that opens."""

    def __init__(self, record: RecordedRun, *, stall_after_s: float = 2.0) -> None:
        super().__init__(record, looks_ahead=True)
        self.closed = False
        self.run: Any = None
        self.step: Step | None = None
        self.driver = self
        self.streams: set[ServedStream] = set()
        self._order = RecordedOrder(record.deliveries)
        self.scheduler = Scheduler(self._order, self.marks.append, self._stalled, self._stuck, stall_after_s)

    def _opened(self, live: RunInfo) -> Driver:
        return self

    # --- the run --------------------------------------------------------------------------

    def close(self, ending: RunEnding) -> None:
        """The run has ended: what was not asked for, or ended otherwise, shows now."""
        if self.closed:
            return
        for stream in list(self.streams):
            stream.abandoned()
        self.closed = True
        self.scheduler.close(ReplayStop("the recorded run has ended"))
        if self._stop is None:
            self.raised = ending.error
            known = ending.has_result or not self.implied
            self.divergences += ending_divergences(self.record, self.matcher.matched, ending, result=known)

    def read(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        index, branch.reads = branch.reads, branch.reads + 1
        event = self.record.reads.get((branch.path, index))
        if event is None or event.facts.get("source") != source:
            known = event.facts.get("source") if event is not None else None
            message = f"the code reads {source!r}, the record has {known!r} there"
            self.stop(findings.uncontrolled_source(None, branch.path, message))
        branch.last_us = event.time_us
        value = event.value("value")
        if isinstance(value, Erased):
            self.stop(findings.record_gap(None, branch.path, f"the value read from {source!r} was erased"))
        return from_plain(value)

    def noted(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        return self.noted_reads.next(branch, source, function)

    def note(self, reason: str) -> None:
        """What the record says of itself stands in its grade."""

    def violation(self, branch: Branch, policy_id: str, reason: str) -> None:
        """A replay is observational: nothing is written."""

    # --- stopping -------------------------------------------------------------------------

    def _stalled(self, waiting: list[Waiter]) -> None:
        """Nothing can run any more, and the completion whose turn it is was not asked for."""
        if not self._cancel_from_outside(waiting):
            try:
                self.stop(self._stall(waiting))
            except ReplayStop:
                pass  # the waiters have been failed with it

    def _stall(self, waiting: list[Waiter]) -> Divergence:
        head = self._order.head()
        steps = [self.record.steps[waiter.key[0]] for waiter in waiting]
        unfinished = [step for step in steps if step.finished is None]
        if head is None and unfinished:
            return self._indeterminate(min(unfinished, key=lambda step: step.index))
        step = self.record.steps[head[0]] if head is not None else steps[0]
        names = [lineage_text(one.lineage) for one in steps]
        return findings.replay_stalled(step.index, step.lineage, step.skill_name, names)

    def _indeterminate(self, step: RecordedStep) -> Divergence:
        return findings.indeterminate_step(step.index, step.lineage, step.skill_name)

    # --- plain functions and coroutines ------------------------------------------------------

    def match(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RecordedStep:
        """The recorded step that this call is. Anything else stops the replay."""
        if self._stop is not None:
            raise self._stop
        self.answers.learn()
        step = self.matcher.match(spec, branch, args, kwargs)
        for passed in self.matcher.passed_over:
            self._cross_out(passed)
        if step.stopped_by is not None:
            self.scheduler.served((step.lineage, "end"))
            self.ended(branch, step)
            raise self.violated(step, *step.stopped_by)
        if (
            over_http(spec)
            and step.streams is not None
            and spec.streams != step.streams
            and not (spec.streams and args[0].or_whole)
        ):
            asked, came = ("as a stream", "whole") if spec.streams else ("whole", "as a stream")
            message = f"the code asks for the answer of {spec.name} {asked}, on record it came {came}"
            self.stop(findings.stream_changed(step.index, step.lineage, message, partial=True))
        if step.chunks and not spec.streams:
            for index in range(len(step.chunks)):
                self.scheduler.served((step.lineage, index))
        return step

    def _cross_out(self, step: RecordedStep) -> None:
        """Nothing waits for this one: it was not asked for in its place, and the replay is about to end."""
        for index in range(len(step.chunks)):
            self.scheduler.served((step.lineage, index))
        self.scheduler.served((step.lineage, "end"))

    def call(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.is_the_run(spec):
            with self.outside():
                return spec.function(*args, **kwargs)
        if not self.record.has(spec):
            return spec.function(*args, **kwargs)
        branch = branch.here()
        step = self.match(spec, branch, args, kwargs)
        worker = branch.control.worker
        key: DeliveryKey = (step.lineage, "end")
        if step.finished is None and (worker is None or self.record.finished is None):
            self.stop(self._indeterminate(step))
        if worker is None:
            self.scheduler.served(key)
        else:
            worker.pause()
            worker.resume(key, _nothing)
        self.ended(branch, step)
        return self.outcome(spec, step, args)

    async def acall(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self.is_the_run(spec):
            with self.outside():
                return await spec.function(*args, **kwargs)
        if not self.record.has(spec):
            return await spec.function(*args, **kwargs)
        branch = branch.here()
        step = self.match(spec, branch, args, kwargs)
        if step.at_once:
            self.scheduler.served((step.lineage, "end"))
            self.ended(branch, step)
        else:
            await self.turn(branch, step, "end")
        return self.outcome(spec, step, args)

    async def turn(self, branch: Branch, step: RecordedStep, what: int | str) -> None:
        """Waits for a completion's turn. One that was not delivered on record never comes."""
        if step.finished is None and self.record.finished is None and self._nothing_left():
            self.stop(self._indeterminate(step))
        try:
            await self.in_turn(step, what, _nothing)
        finally:
            if what == "end":
                self.ended(branch, step)

    def _nothing_left(self) -> bool:
        """Whether nothing on record can come any more."""
        return self.matcher.exhausted and self._order.head() is None

    def ended(self, branch: Branch, step: RecordedStep) -> None:
        """The branch's time is that of the step's end."""
        if step.finished is not None:
            branch.last_us = step.finished.time_us
        self.noted_reads.restore_generators(branch.path, branch.count)

    # --- streams and timers ---------------------------------------------------------------

    def stream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Any, Any, Any]:
        if not self.record.has(spec):
            generator: Generator[Any, Any, Any] = spec.function(*args, **kwargs)
            return generator
        return self._stream(spec, branch, args, kwargs).run()

    def astream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        if not self.record.has(spec):
            generator: AsyncGenerator[Any, Any] = spec.function(*args, **kwargs)
            return generator
        return self._stream(spec, branch, args, kwargs).arun()

    def _stream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ServedStream | ServedWhole:
        branch = branch.here()
        step = self.match(spec, branch, args, kwargs)
        if over_http(spec) and step.streams is False:
            return ServedWhole(self, spec, branch, step, args)
        if isinstance(spec, Edge) and step.finished is not None:
            tell_transport(args, step.finished)
        return ServedStream(self, spec, branch, step)

    def timer(
        self,
        name: str,
        branch: Branch,
        delay: float | None,
        when: float,
        fired: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> ServedTimer | UnrecordedTimer:
        if not self.record.has(timer_spec(name)):
            return UnrecordedTimer(name, delay, when, fired)
        step = self.match(timer_spec(name), branch, timer_args(delay), {})
        return ServedTimer(self, branch, step, fired, failed)


def _nothing() -> None:
    """A served completion writes nothing."""
