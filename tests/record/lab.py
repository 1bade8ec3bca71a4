"""Agents at work: functions to record and to replay, with what came of it at hand."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from isotrace.contracts import RunQuery
from isotrace.events import Event
from isotrace.ledger import Ledger
from isotrace.models import TraceRecord
from isotrace.record import flush, run
from isotrace.record.runs import Run
from isotrace.replay import Replay, ReplayResult
from isotrace.stores.memory import MemoryStore


@dataclass
class Taken:
    """One recorded run: its ledger, its record, and what its code returned or raised."""

    ledger: Ledger
    value: Any = None
    error: BaseException | None = None

    @property
    def record(self) -> TraceRecord:
        return self.ledger.record()

    @property
    def events(self) -> list[Event]:
        return self.ledger.events

    @property
    def steps(self) -> list[tuple[Any, ...]]:
        """Lineage, skill, params and outcome of each step, in canonical order."""
        return [
            (step.context.lineage if step.context else (), step.skill_name, step.params, step.outcome_data)
            for step in self.record.steps
        ]

    @property
    def story(self) -> list[tuple[str, tuple[int | str, ...]]]:
        """Type and lineage of each event, in the order of the ledger, without the run's own."""
        return [(event.type, event.lineage) for event in self.events[1:-1]]

    @property
    def grade(self) -> Any:
        return self.record.metadata["replayability"]


class Lab:
    """Records and replays functions. A function opens no run: that is done around it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.runner: Callable[[Any], Any] = asyncio.run

    def record(self, function: Callable[..., Any], **options: Any) -> Taken:
        """Runs a function in a run of its own; what it raises is kept."""
        opened: list[Run] = []
        taken = Taken(Ledger([], ""))
        options.setdefault("store", self.store)
        try:
            taken.value = self.start(function, opened=opened, **options)
        except BaseException as error:
            taken.error = error
        assert flush(60)
        if opened:
            taken.ledger = self.ledger(opened[0].run_id, tenant_id=opened[0].tenant_id)
        return taken

    def start(self, function: Callable[..., Any], *, opened: list[Run] | None = None, **options: Any) -> Any:
        """Calls a function in a run; a coroutine function in an event loop of its own."""
        if inspect.iscoroutinefunction(function):

            async def main() -> Any:
                async with run("lab", **options) as opened_run:
                    if opened is not None:
                        opened.append(opened_run)
                    return await function()

            return self.runner(main())
        with run("lab", **options) as opened_run:
            if opened is not None:
                opened.append(opened_run)
            return function()

    def ledger(self, run_id: str, tenant_id: str = "default") -> Ledger:
        return self.store.ledger(run_id, tenant_id=tenant_id)

    def replay(
        self, taken: Taken | Ledger | TraceRecord, function: Callable[..., Any], **options: Any
    ) -> ReplayResult:
        """Replays a function in the place of the one that was recorded."""
        stall_after_s = options.pop("stall_after_s", 0.3)
        source = taken.ledger if isinstance(taken, Taken) else taken
        before = self.store.count(RunQuery())
        result = Replay(source, stall_after_s=stall_after_s).run(
            lambda: self.start(function, store=self.store, **options)
        )
        assert flush(60)
        assert self.store.count(RunQuery()) == before, "a replay writes nothing"
        return result

    def again(self, function: Callable[..., Any], **options: Any) -> tuple[Taken, ReplayResult]:
        """Records a function and replays it."""
        taken = self.record(function, **options)
        return taken, self.replay(taken, function, **options)

    def assert_replays(self, agent: Callable[..., Any], calls: list[Any]) -> Taken:
        """Records an agent and replays it: a match in everything, and `calls`, which its skills add to,
        are those of the recording alone."""
        calls.clear()
        taken = self.record(agent)
        assert taken.error is None
        assert taken.grade == "replayable", taken.grade
        really_called = len(calls)
        result = self.replay(taken, agent)
        assert (result.verdict, result.divergences, result.error) == ("MATCH", [], None)
        assert result.value == taken.value
        assert len(calls) == really_called, "a replay calls nothing"
        assert result.receipt.served == len(taken.steps)
        return taken
