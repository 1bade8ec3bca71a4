"""What recording costs the agent's own thread, against opentelemetry-sdk.

Both record the same calls of the same functions. OpenTelemetry's span carries params and outcome as
JSON text and goes through a BatchSpanProcessor to an exporter that drops it. isotrace writes the step's
start and its end into the journal, each before the agent goes on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import isotrace
from benchmarks.measuring import Figure, in_turns, typical_ratio
from benchmarks.workload import PARAMS, search, search_async, search_waiting

STEPS = 1000
"""In one round; OpenTelemetry's queue takes 2,048 spans before it drops any."""
BRANCHES = 10
ROUNDS = 21


Call = Callable[..., Coroutine[Any, Any, Any]]


class _Dropped(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


_provider = TracerProvider()
_provider.add_span_processor(BatchSpanProcessor(_Dropped()))
_tracer = _provider.get_tracer("benchmarks")


def _spanned(**params: Any) -> dict[str, Any]:
    with _tracer.start_as_current_span("search") as span:
        span.set_attribute("params", json.dumps(params))
        outcome = search(**params)
        span.set_attribute("outcome", json.dumps(outcome))
        return outcome


def _spanned_async(search: Call) -> Call:
    async def spanned(**params: Any) -> dict[str, Any]:
        with _tracer.start_as_current_span("search") as span:
            span.set_attribute("params", json.dumps(params))
            outcome: dict[str, Any] = await search(**params)
            span.set_attribute("outcome", json.dumps(outcome))
            return outcome

    return spanned


_skill = isotrace.skill(effect="read")(search)

# --- three ways to make the calls ---------------------------------------------------------


def _loop(call: Callable[..., Any]) -> float:
    """CPU seconds of a thousand calls, one after the other."""
    begin = time.thread_time()
    for _ in range(STEPS):
        call(**PARAMS)
    return time.thread_time() - begin


async def _branches(call: Call) -> float:
    """The same in ten tasks under one gather, each a hundred calls one after the other."""

    async def branch() -> None:
        for _ in range(STEPS // BRANCHES):
            await call(**PARAMS)

    begin = time.thread_time()
    await asyncio.gather(*(branch() for _ in range(BRANCHES)))
    return time.thread_time() - begin


async def _tasks(call: Call) -> float:
    """The same as ten calls under each gather, every call a task of its own."""
    begin = time.thread_time()
    for _ in range(STEPS // BRANCHES):
        await asyncio.gather(*(call(**PARAMS) for _ in range(BRANCHES)))
    return time.thread_time() - begin


# --- the contenders -----------------------------------------------------------------------


def _exported(call: Callable[[], float]) -> float:
    taken = call()
    _provider.force_flush()
    return taken


def _recorded(call: Callable[[], float], store: str) -> float:
    with isotrace.run(agent_id="benchmark", store=store):
        taken = call()
    isotrace.flush()
    return taken


def _run(shape: Callable[[Call], Coroutine[Any, Any, float]], call: Call) -> float:
    return asyncio.run(shape(call))


def _recorded_async(shape: Callable[[Call], Awaitable[float]], call: Call, store: str) -> float:
    async def recorded() -> float:
        async with isotrace.run(agent_id="benchmark", store=store):
            return await shape(call)

    taken = asyncio.run(recorded())
    isotrace.flush()
    return taken


def measure(folder: Path) -> list[Figure]:
    """Ratios of CPU time per step."""
    store = f"sqlite:///{folder / 'hot-path.db'}"
    figures = [
        _figure(
            "hot path, sync",
            "recording a step / an OpenTelemetry span",
            0.30,
            lambda: _exported(lambda: _loop(_spanned)),
            lambda: _recorded(lambda: _loop(_skill), store),
            lambda: _loop(search),
        )
    ]
    for name, shape, call in (
        ("10 tasks", _branches, search_async),
        ("a task per step", _tasks, search_async),
        ("10 tasks, each step waits", _branches, search_waiting),
    ):
        figures.append(
            _figure(
                f"hot path, gather, {name}",
                "recording an awaited step / an OpenTelemetry span",
                0.45,
                partial(_exported, partial(_run, shape, _spanned_async(call))),
                partial(_recorded_async, shape, isotrace.skill(effect="read")(call), store),
                partial(_run, shape, call),
            )
        )
    with suppress(RuntimeError):
        _provider.shutdown()
    return figures


def _figure(
    name: str,
    what: str,
    target: float,
    spanned: Callable[[], float],
    recorded: Callable[[], float],
    bare: Callable[[], float],
) -> Figure:
    taken = in_turns({"spanned": spanned, "recorded": recorded, "bare": bare}, ROUNDS)
    per_step = {name: median(times) / STEPS * 1e6 for name, times in taken.items()}
    return Figure(
        name,
        what,
        typical_ratio(taken["recorded"], taken["spanned"]),
        target,
        beside={
            "isotrace µs": per_step["recorded"],
            "OpenTelemetry µs": per_step["spanned"],
            "bare call µs": per_step["bare"],
        },
    )
