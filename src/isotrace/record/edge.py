"""Calls at the edge of a program, as steps: a library makes the call, a capture describes it.

A capture knows one library. It says in plain values what a call asks and what came of it, and can make
the library's own object again of the second. Between the two stands the run's driver, as for any
skill: while a run is recorded the real call is made, while it is replayed the recorded outcome is served.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from functools import lru_cache
from typing import Any

from isotrace.record.context import current_step
from isotrace.record.spec import Effect, Shape, SkillSpec


class Exchange:
    """One call: `params` are what it asks, `real` makes it and gives its outcome in plain values.

    `transport` is how the answer came (an HTTP status and headers), for making the library's own object
    of it again: recorded beside the outcome, and no part of any digest. `failure` is the category and
    code of an answer that says that the call failed. Both are set by `real`, or by a replay. `changed`:
    the params are others than the library was about to send, and `real` is to send these. `or_whole`: of a
    stream, that a replay may serve what was recorded whole; `whole`: that it does, in one piece.
    """

    __slots__ = ("changed", "failure", "or_whole", "params", "real", "transport", "whole")

    def __init__(self, params: dict[str, Any], real: Callable[[Exchange], Any]) -> None:
        self.params = params
        self.real = real
        self.transport: dict[str, Any] | None = None
        self.failure: tuple[str, str] | None = None
        self.changed = False
        self.or_whole = False
        self.whole = False

    def ask(self, params: dict[str, Any]) -> None:
        """Lets the call ask for something else."""
        self.params = params
        self.changed = True

    def tell(self) -> None:
        """Tells the step under way what the answer says beyond its outcome."""
        step = current_step.get()
        if step is not None:
            step.transport = self.transport
            step.failure = self.failure


def _call(exchange: Exchange) -> Any:
    try:
        return exchange.real(exchange)
    finally:
        exchange.tell()


async def _acall(exchange: Exchange) -> Any:
    try:
        real: Awaitable[Any] = exchange.real(exchange)
        return await real
    finally:
        exchange.tell()


def _stream(exchange: Exchange) -> Generator[Any, None, None]:
    pieces: Iterator[Any] = exchange.real(exchange)
    try:
        for piece in pieces:
            exchange.tell()
            yield piece
    finally:
        exchange.tell()


async def _astream(exchange: Exchange) -> AsyncGenerator[Any, None]:
    pieces: AsyncIterator[Any] = exchange.real(exchange)
    try:
        async for piece in pieces:
            exchange.tell()
            yield piece
    finally:
        exchange.tell()


_FUNCTIONS: dict[Shape, Callable[..., Any]] = {
    "call": _call,
    "acall": _acall,
    "stream": _stream,
    "astream": _astream,
}


class Edge(SkillSpec):
    """A skill whose calls are exchanges made by a library. `raises` are the library's own errors, raised
    again in a replay."""

    def __init__(
        self,
        library: str,
        name: str,
        kind: str,
        effect: Effect,
        shape: Shape,
        raises: tuple[type[BaseException], ...],
    ) -> None:
        super().__init__(_FUNCTIONS[shape], name=name, kind=kind, effect=effect, raises=raises)
        self.bind = _params_of
        self.facts["captured"] = library


def _params_of(exchange: Exchange) -> dict[str, Any]:
    return exchange.params


@lru_cache(maxsize=1024)
def edge(
    library: str,
    name: str,
    kind: str,
    effect: Effect,
    shape: Shape,
    raises: tuple[type[BaseException], ...] = (),
) -> Edge:
    """The edge of this name; its calls are made by `branch.driver`, as those of any skill."""
    return Edge(library, name, kind, effect, shape, raises)
