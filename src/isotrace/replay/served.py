"""Streams and timers as a replay serves them: the recorded pieces in their turn, and no waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any

import orjson

from isotrace.compare import findings
from isotrace.events import lineage_text
from isotrace.jsondiff import Change
from isotrace.models import Erased
from isotrace.plain import from_plain
from isotrace.record.context import Branch
from isotrace.record.scheduler import Waiter
from isotrace.record.snapshot import snapshot
from isotrace.record.spec import SkillSpec
from isotrace.record.waits import SLEEP
from isotrace.replay.recorded import RecordedStep

if TYPE_CHECKING:
    from isotrace.replay.player import Player


class ServedStream:
    """One recorded generator, served again. What was sent into it is compared; what was thrown into it
    has the recorded effect."""

    def __init__(self, player: Player, spec: SkillSpec, branch: Branch, step: RecordedStep) -> None:
        self._player = player
        self._spec = spec
        self._branch = branch
        self._step = step
        self._seen = 0
        self._sent: Any = None
        self._thrown: BaseException | None = None

    def run(self) -> Generator[Any, Any, Any]:
        scheduler, lineage = self._player.scheduler, self._step.lineage
        while self._seen < len(self._step.chunks):
            scheduler.served((lineage, self._seen))
            item = self._next_chunk()
            try:
                self._sent = yield item
            except GeneratorExit:
                self._closed()
                raise
            except BaseException as thrown:  # noqa: BLE001  # raised again where it belongs
                self._take(thrown)
            finally:
                self._player.streams.discard(self)
        if self._step.finished is None:
            self._player.stop(findings.indeterminate_step(self._step.index, lineage, self._step.skill_name))
        self._check_end()
        scheduler.served((lineage, "end"))
        self._player.ended(self._branch, self._step)
        return self._end()

    async def arun(self) -> AsyncGenerator[Any, Any]:
        while self._seen < len(self._step.chunks):
            await self._player.turn(self._branch, self._step, self._seen)
            item = self._next_chunk()
            try:
                self._sent = yield item
            except GeneratorExit:
                self._closed()
                raise
            except BaseException as thrown:  # noqa: BLE001  # raised again where it belongs
                self._take(thrown)
            finally:
                self._player.streams.discard(self)
        self._check_end()
        await self._player.turn(self._branch, self._step, "end")
        self._end()

    def _take(self, thrown: BaseException) -> None:
        """What is thrown into the stream had its effect on record, unless the run has ended."""
        if self._player.closed:
            raise thrown
        self._thrown = thrown

    def _next_chunk(self) -> Any:
        step = self._step
        event = step.chunks[self._seen]
        self._compare_sent(event.values.get("sent"))
        self._branch.last_us = event.time_us
        item = self._player.served(self._spec, step, event, "chunk")
        self._seen += 1
        self._sent = self._thrown = None
        self._player.streams.add(self)
        return item

    def _compare_sent(self, recorded: bytes | Erased | None) -> None:
        live = None
        if self._sent is not None:
            record, skill = self._player.record, self._step.skill_name
            live = record.as_recorded(snapshot(self._sent).data, "sent", skill)
        if live == recorded or isinstance(recorded, Erased):
            return
        before, after = (None if data is None else orjson.loads(data) for data in (recorded, live))
        change = Change(f"/sent/{self._seen}", before, after)
        self._differs(f"the code sends something else into {self._step.skill_name}", [change])

    def _check_end(self) -> None:
        """The code wants more of a stream than the record has."""
        finished = self._step.finished
        if finished is not None and finished.facts.get("closed_early"):
            count = len(self._step.chunks)
            name = self._step.skill_name
            self._differs(f"the code reads on after chunk {count} of {name}, where it stopped on record")

    def _differs(self, message: str, changes: list[Change] | None = None) -> None:
        step = self._step
        self._player.stop(
            findings.stream_changed(step.index, step.lineage, message, changes or [], partial=True)
        )

    def _end(self) -> Any:
        finished = self._step.finished
        assert finished is not None
        self._learn()
        if finished.facts["status"] == "failure" and "error" in finished.values:
            raise self._player.error(self._spec, self._step, self._thrown)
        outcome = None if self._step.assembles else finished.value("outcome_data")
        return from_plain(outcome["return"]) if isinstance(outcome, dict) and "return" in outcome else None

    def _learn(self) -> None:
        """Takes in the ids of what the stream gave, as a whole."""
        finished = self._step.finished
        if self._step.kind == "llm" and finished is not None:
            self._player.answers.end(self._step.lineage)
            self._player.minted.learn(lineage_text(self._step.lineage), finished.value("outcome_data"))

    def abandoned(self) -> None:
        """The run ended while the code still held the stream."""
        self._closed()

    def _closed(self) -> None:
        """The code closed the stream; on record it may have read further."""
        player, step = self._player, self._step
        if self not in player.streams:
            return
        player.streams.discard(self)
        self._learn()
        for index in range(self._seen, len(step.chunks)):
            player.scheduler.served((step.lineage, index))
        player.scheduler.served((step.lineage, "end"))
        player.ended(self._branch, step)
        facts = step.finished.facts if step.finished is not None else {}
        if player.record.is_partial:
            return  # how far the program read is not on record
        if self._seen != len(step.chunks) or not facts.get("closed_early"):
            message = (
                f"the code stops {step.skill_name} after {self._seen} of {len(step.chunks)} recorded chunks"
            )
            player.divergences.append(findings.stream_changed(step.index, step.lineage, message))


class ServedWhole:
    """An HTTP answer that was recorded whole, served to code that reads it as a stream: that it has begun,
    and then all of it."""

    def __init__(
        self, player: Player, spec: SkillSpec, branch: Branch, step: RecordedStep, args: tuple[Any, ...]
    ) -> None:
        self._player = player
        self._spec = spec
        self._branch = branch
        self._step = step
        self._args = args

    def run(self) -> Generator[Any, Any, None]:
        self._player.scheduler.served((self._step.lineage, "end"))
        self._player.ended(self._branch, self._step)
        yield from self._pieces()

    async def arun(self) -> AsyncGenerator[Any, Any]:
        player, step = self._player, self._step
        if step.at_once:
            player.scheduler.served((step.lineage, "end"))
            player.ended(self._branch, step)
        else:
            await player.turn(self._branch, step, "end")
        for piece in self._pieces():
            yield piece

    def _pieces(self) -> Generator[Any, Any, None]:
        self._args[0].whole = True
        outcome = self._player.outcome(self._spec, self._step, self._args)
        yield None
        yield outcome


class UnrecordedTimer:
    """A timer of a run whose record has none: what sleeps hardly waits, what times out keeps its time."""

    def __init__(self, name: str, delay: float | None, when: float, fired: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        # Those that wake in an order go on doing so.
        soon = loop.time() + (delay or 0.0) / 1000
        self._handle = loop.call_at(min(when, soon) if name == SLEEP else when, fired)

    def cancel(self) -> None:
        self._handle.cancel()


class ServedTimer:
    """A timer that fires in its recorded turn, without waiting; or never, if it was cancelled."""

    def __init__(
        self,
        player: Player,
        branch: Branch,
        step: RecordedStep,
        fired: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._player = player
        self._branch = branch
        self._step = step
        self._fired = fired
        self._failed = failed
        self._done = False
        self._waiter = Waiter((step.lineage, "end"), self._fire, self._fail, loop=asyncio.get_running_loop())
        if step.skill_name == SLEEP:
            player.waits(self._waiter.key)
        player.scheduler.offer(self._waiter)

    def _fire(self) -> None:
        if not self._done:
            self._end()
            self._fired()

    def _fail(self, error: BaseException) -> None:
        if not self._done:
            self._end()
            self._failed(error)

    def cancel(self) -> None:
        if not self._done:
            self._end()
            self._player.scheduler.withdraw(self._waiter)
            self._player.scheduler.served(self._waiter.key)

    def _end(self) -> None:
        self._done = True
        self._player.waits_no_more(self._waiter.key)
        self._player.ended(self._branch, self._step)
