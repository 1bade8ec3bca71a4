"""A recorded step in the place of a skill's real call: for runs of which one part is served and another
executed, and which are recorded in turn."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any

from isotrace.compare import findings
from isotrace.events import lineage_text
from isotrace.plain import from_plain
from isotrace.record.context import current_step
from isotrace.record.edge import Edge
from isotrace.record.spec import SkillSpec
from isotrace.replay.driving import Driving, answered
from isotrace.replay.recorded import RecordedStep


class Standin(SkillSpec):
    """A skill whose next call is this recorded step: same name and params, but nothing is called."""

    def __init__(self, spec: SkillSpec, step: RecordedStep, driving: Driving) -> None:
        _ = spec.annotated  # by the real function, which is about to be replaced
        self.__dict__.update(spec.__dict__)
        self.retries = 0
        self.served = step
        self.function = getattr(_Served(spec, step, driving), self.shape)


class _Served:
    """What is called instead of the skill's function, for each shape of it."""

    def __init__(self, spec: SkillSpec, step: RecordedStep, driving: Driving) -> None:
        self._spec = spec
        self._step = step
        self._driving = driving
        self._thrown: BaseException | None = None

    def call(self, *args: Any, **kwargs: Any) -> Any:
        self._as_recorded()
        try:
            return self._driving.outcome(self._spec, self._step, args)
        finally:
            self._tell(args)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def stream(self, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        self._as_recorded()
        served = self._driving.scheduler.served
        lineage, done = self._step.lineage, 0
        try:
            for item in self._items(args):
                served((lineage, done))
                done += 1
                try:
                    yield item
                except GeneratorExit:
                    raise
                except BaseException as thrown:  # noqa: BLE001  # has its effect on record
                    self._thrown = thrown
        finally:
            self._learn()
            self._move_generators()
            for index in range(done, len(self._step.chunks)):
                served((lineage, index))
            served((lineage, "end"))
        return self._end()

    async def astream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        self._as_recorded()
        for item in self._items(args):
            try:
                yield item
            except GeneratorExit:
                raise
            except BaseException as thrown:  # noqa: BLE001  # has its effect on record
                self._thrown = thrown
        self._move_generators()
        self._end()

    def _items(self, args: tuple[Any, ...]) -> Iterator[Any]:
        for event in self._step.chunks:
            item = self._driving.served(self._spec, self._step, event, "chunk")
            self._tell(args)
            yield item
        finished = self._step.finished
        if finished is not None and finished.facts.get("closed_early"):
            count, name = len(self._step.chunks), self._step.skill_name
            message = f"the code reads on after chunk {count} of {name}, where it stopped on record"
            self._driving.stop(
                findings.stream_changed(self._step.index, self._step.lineage, message, partial=True)
            )

    def _end(self) -> Any:
        finished = self._step.finished
        assert finished is not None
        self._learn()
        if finished.facts["status"] == "failure" and "error" in finished.values:
            raise self._driving.error(self._spec, self._step, self._thrown)
        outcome = None if self._step.assembles else finished.value("outcome_data")
        return from_plain(outcome["return"]) if isinstance(outcome, dict) and "return" in outcome else None

    def _learn(self) -> None:
        """Takes in the ids of what the stream gave, as a whole."""
        finished = self._step.finished
        if self._step.kind == "llm" and finished is not None:
            self._driving.answers.end(self._step.lineage)
            self._driving.minted.learn(lineage_text(self._step.lineage), finished.value("outcome_data"))

    def _move_generators(self) -> None:
        """What the stream drew from global generators by its end."""
        *path, number = self._step.lineage
        self._driving.noted_reads.restore_generators(tuple(path), int(number) + 1)

    def _as_recorded(self) -> None:
        """What the record says of the step beside its outcome."""
        step, finished = current_step.get(), self._step.finished
        if step is None or finished is None:
            return
        step.cost_cents = float(finished.facts.get("cost_cents") or 0.0)
        step.child_run_id = finished.facts.get("child_run_id")
        step.attempts = int(finished.facts.get("retry_count") or 0)

    def _tell(self, args: tuple[Any, ...]) -> None:
        """How the answer came, for the library's own object of it."""
        finished = self._step.finished
        if not isinstance(self._spec, Edge) or finished is None:
            return
        exchange, facts = args[0], finished.facts
        exchange.transport = finished.value("transport")
        if facts["status"] == "failure" and answered(finished):
            exchange.failure = (facts["outcome_category"], facts["outcome_code"])
        exchange.tell()


def never(loop: asyncio.AbstractEventLoop) -> float:
    """A moment on the loop's clock that does not come."""
    return math.floor(loop.time()) + 1e7
