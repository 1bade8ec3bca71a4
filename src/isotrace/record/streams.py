"""Steps that are generators: they start at the first `next`, and end when they are exhausted, closed or
failed. Each piece is written before the agent gets it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from isotrace.record.body import first_leg, rest
from isotrace.record.context import Ending, Step, enter_body, leave_body
from isotrace.record.writer import UNDELIVERED

if TYPE_CHECKING:
    from isotrace.record.recorder import Recorder

_STREAM = {"stream": True}
_CLOSED = {"closed_early": True, **UNDELIVERED}


class LiveStream:
    """One recorded generator under way. `run` and `arun` pass on what is sent and thrown into it."""

    def __init__(self, recorder: Recorder, step: Step, now_ns: Callable[[], int]) -> None:
        self._recorder = recorder
        self._writer = recorder.writer
        self._step = step
        self._now_ns = now_ns
        self._started = now_ns()
        self._index = 0
        self._ended = False

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, Any, Any]:
        source = self._step.spec.function(*args, **kwargs)
        advance: Callable[[], Any] = source.__next__
        sent: Any = None
        while True:
            tokens = enter_body(self._step)
            try:
                item = advance()
            except StopIteration as stop:
                self._end(self._success(stop.value))
                return stop.value
            except BaseException as error:
                self._end(self._failure(error))
                raise
            finally:
                leave_body(tokens)
            self._writer.add_chunk(self._step, self._writer.chunk(self._step, self._index, item, sent))
            self._index += 1
            self._recorder.streams.add(self)
            try:
                sent = yield item
                advance = source.__next__ if sent is None else partial(source.send, sent)
            except GeneratorExit:
                tokens = enter_body(self._step)
                try:
                    source.close()
                finally:
                    leave_body(tokens)
                    self._end(self._closed_early())
                raise
            except BaseException as thrown:  # noqa: BLE001  # thrown into the stream, not caught from it
                advance, sent = partial(source.throw, thrown), None
            finally:
                self._recorder.streams.discard(self)

    async def arun(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncGenerator[Any, Any]:
        source = self._step.spec.function(*args, **kwargs)
        advance: Callable[[], Any] = source.__anext__
        sent: Any = None
        while True:
            item, problem = await self._item(advance)
            if problem is not None:
                await self._deliver_end(problem)
                return
            await self._deliver_chunk(self._writer.chunk(self._step, self._index, item, sent))
            self._index += 1
            self._recorder.streams.add(self)
            try:
                sent = yield item
                advance = source.__anext__ if sent is None else partial(source.asend, sent)
            except GeneratorExit:
                tokens = enter_body(self._step)
                try:
                    await source.aclose()
                finally:
                    leave_body(tokens)
                    self._end(self._closed_early())
                raise
            except BaseException as thrown:  # noqa: BLE001  # thrown into the stream, not caught from it
                advance, sent = partial(source.athrow, thrown), None
            finally:
                self._recorder.streams.discard(self)

    async def _item(self, advance: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        tokens = enter_body(self._step)
        try:
            waits, steps, item = first_leg(advance())
            return await rest(self._step, steps, item) if waits else item, None
        except BaseException as error:  # noqa: BLE001  # raised again when it has been written down
            return None, error
        finally:
            leave_body(tokens)

    async def _deliver_chunk(self, chunk: tuple[bytes, dict[str, bytes]]) -> None:
        self._step.survives()
        try:
            await self._recorder.turn(
                self._step, self._index, lambda: self._writer.add_chunk(self._step, chunk)
            )
        except BaseException as error:
            self._end(self._failure(error, delivered=False))
            raise

    async def _deliver_end(self, problem: BaseException) -> None:
        self._ended = True
        if isinstance(problem, StopAsyncIteration):
            await self._recorder.deliver(self._success(None), self._took_ns())
        else:
            await self._recorder.deliver_error(self._failure(problem), problem, self._took_ns())
            raise problem

    def abandoned(self) -> None:
        """The run ended while the agent still held the stream."""
        self._end(self._closed_early())

    # --- how it ended -------------------------------------------------------------------

    def _success(self, result: Any) -> Ending:
        values = {} if result is None else {"outcome_data": self._writer.returned(self._step, result)}
        return Ending(self._step, {}, values, extra=_STREAM)

    def _closed_early(self) -> Ending:
        return Ending(self._step, _CLOSED, {}, extra=_STREAM)

    def _failure(self, error: BaseException, *, delivered: bool = True) -> Ending:
        ending = self._writer.failed(self._step, error, delivered=delivered)
        ending.extra = _STREAM
        return ending

    def _end(self, ending: Ending) -> None:
        if not self._ended:
            self._ended = True
            self._writer.finish(ending, self._took_ns())

    def _took_ns(self) -> int:
        return self._now_ns() - self._started
