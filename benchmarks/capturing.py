"""What the capture of a call adds to it, against VCR recording and OpenTelemetry's instrumentations.

One call of a model, to a server on loopback in a process of its own: by httpx, and by the openai SDK. Each
contender makes the same twenty calls over one connection: plainly, inside a run of isotrace, while vcrpy
records a cassette, and with spans by a BatchSpanProcessor to an exporter that drops them.

What counts is what is added to the plain call on the agent's own thread, run and cassette opened and closed
among it: vcrpy keeps the calls until then and writes them into a file; isotrace has written each of them
before the agent went on, and seals the run on a thread of its own. Beside it stands what is added while
the calls are made, and by the work of all threads. Before each measured cassette or run there is one like it
that is not measured: after a library was patched, the interpreter runs its code more slowly for a while.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import openai
import vcr
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import isotrace
from benchmarks.answering import answering
from benchmarks.measuring import Figure, in_turns

CALLS = 20
"""In one cassette and one run. vcrpy looks through what it has for each call: more of them cost more each."""
ROUNDS = 25

_MESSAGES: list[Any] = [
    {"role": "system", "content": "You answer questions about orders. " * 12},
    {"role": "user", "content": "Where is order 4711, and who took it? It was sent on Monday. " * 6},
]
_BODY = {"model": "gpt-x", "messages": _MESSAGES, "temperature": 0.2}

Call = Callable[[], object]
Around = Callable[[], AbstractContextManager[object]]


class _Dropped(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


_provider = TracerProvider()
_provider.add_span_processor(BatchSpanProcessor(_Dropped()))

# --- what may stand around the calls -------------------------------------------------------


@contextmanager
def _captured() -> Iterator[None]:
    restore = isotrace.instrument()
    try:
        yield
    finally:
        restore()


@contextmanager
def _recorded_by_vcr(folder: Path, numbers: Iterator[int]) -> Iterator[None]:
    with vcr.use_cassette(str(folder / f"cassette-{next(numbers)}.yaml")):
        yield


def _spans_of_httpx() -> Any:
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

    return HTTPXClientInstrumentor()


def _spans_of_openai() -> Any:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    return OpenAIInstrumentor()


@contextmanager
def _with_spans(instrumentor: Any) -> Iterator[None]:
    instrumentor.instrument(tracer_provider=_provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()


# --- measuring --------------------------------------------------------------------------------


class _Timed:
    """One contender: CPU seconds of this thread, all in all; and of the calls alone, and of all threads.
    `installed` is put around its rounds, `around` around the calls of one."""

    def __init__(self, call: Call, installed: Around, around: Around = nullcontext) -> None:
        self.call = call
        self.installed = installed
        self.around = around
        self.calls: list[float] = []
        self.threads: list[float] = []

    def __call__(self) -> float:
        with self.installed():
            self._round()
            taken, calls, threads = self._round()
        self.calls.append(calls)
        self.threads.append(threads)
        return taken

    def _round(self) -> tuple[float, float, float]:
        process, begin = time.process_time(), time.thread_time()
        with self.around():
            started = time.thread_time()
            for _ in range(CALLS):
                self.call()
            calls = time.thread_time() - started
        taken = time.thread_time() - begin
        isotrace.flush()
        _provider.force_flush()
        return taken, calls, time.process_time() - process


def measure(folder: Path) -> list[Figure]:
    """What isotrace adds, as a share of what vcrpy adds."""
    with answering() as url, httpx.Client() as client, openai.OpenAI(base_url=url, api_key="sk-1") as sdk:
        by_httpx = partial(_by_httpx, client, f"{url}/chat/completions")
        by_openai = partial(_by_openai, sdk)
        figures = [
            _figure("httpx", by_httpx, folder, "OpenTelemetry", _spans_of_httpx, "vcrpy", 0.5),
            _figure("openai", by_openai, folder, "OpenInference", _spans_of_openai, "OpenInference", 1.0),
        ]
    with suppress(RuntimeError):
        _provider.shutdown()
    return figures


def _by_httpx(client: httpx.Client, url: str) -> None:
    client.post(url, json=_BODY).json()


def _by_openai(sdk: openai.OpenAI) -> None:
    sdk.chat.completions.create(model="gpt-x", messages=_MESSAGES, temperature=0.2)


def _figure(
    library: str,
    call: Call,
    folder: Path,
    spanned: str,
    instrumentor: Callable[[], Any],
    against: str,
    target: float,
) -> Figure:
    store = f"sqlite:///{folder / f'{library}.db'}"
    contenders = {
        "plain": _Timed(call, nullcontext),
        "isotrace": _Timed(call, _captured, partial(isotrace.run, agent_id="benchmark", store=store)),
        "vcrpy": _Timed(call, nullcontext, partial(_recorded_by_vcr, folder, count())),
    }
    try:
        contenders[spanned] = _Timed(call, partial(_with_spans, instrumentor()))
    except ImportError as missing:
        print(f"{spanned}'s instrumentation of {library} is left out: {missing}", file=sys.stderr)
    taken = in_turns(contenders, ROUNDS)
    added = {name: _added(times, taken["plain"]) for name, times in taken.items() if name != "plain"}
    beside = {f"{name} adds µs": micros for name, micros in added.items()}
    for name in ("isotrace", "vcrpy"):
        timed, plain = contenders[name], contenders["plain"]
        beside[f"{name} during the calls µs"] = _added(timed.calls, plain.calls)
        beside[f"{name} on all threads µs"] = _added(timed.threads, plain.threads)
    beside["plain call µs"] = median(taken["plain"]) / CALLS * 1e6
    return Figure(
        f"capture of a call, {library}",
        f"what isotrace adds to a call by {library} / what {against} adds",
        added["isotrace"] / added[against] if against in added else None,
        target,
        beside=beside,
        missing=None if against in added else f"{against}'s instrumentation is not installed",
    )


def _added(times: list[float], plain: list[float]) -> float:
    """The median of what one call took longer, in µs; the round at the start is left out."""
    pairs = zip(times[-ROUNDS:], plain[-ROUNDS:], strict=True)
    return median(one - other for one, other in pairs) / CALLS * 1e6
