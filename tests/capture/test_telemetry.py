"""What a program exports of its own spans is no part of the run, and a replay exports nothing."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.server import Server
    from tests.record.lab import Lab, Taken

pytestmark = pytest.mark.usefixtures("captured")


class Sender(SpanExporter):
    """Sends the names of spans to a server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def export(self, spans: Any) -> SpanExportResult:
        httpx.post(f"{self.url}/traces", json=[span.name for span in spans])
        return SpanExportResult.SUCCESS


@pytest.mark.parametrize("how", [BatchSpanProcessor, SimpleSpanProcessor])
@pytest.mark.parametrize("flush", [True, False])
def test_spans_are_exported_beside_a_recording_and_not_in_a_replay(
    how: Callable[[Any], Any], flush: bool, server: Server, replays_offline: Callable[..., Taken]
) -> None:
    def agent() -> str:
        provider = TracerProvider()
        provider.add_span_processor(how(Sender(server.url)))
        tracer = provider.get_tracer("agent")
        with tracer.start_as_current_span("ask"):
            answer = httpx.get(f"{server.url}/page").text
        if flush:
            provider.force_flush()
        provider.shutdown()
        return answer

    server.answers = [(200, "application/json", b"{}")] * 2
    taken = replays_offline(agent)
    assert [name for _, name, *_ in taken.steps] == ["GET 127.0.0.1"]
    assert server.asked.count("/v1/traces") == 1


def test_what_a_program_keeps_of_its_spans_is_kept_in_a_replay(lab: Lab) -> None:
    def agent() -> list[str]:
        kept = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(kept))
        with provider.get_tracer("agent").start_as_current_span("ask"):
            pass
        return [span.name for span in kept.get_finished_spans()]

    taken, result = lab.again(agent)
    assert (str(result.verdict), taken.value, result.value) == ("MATCH", ["ask"], ["ask"])


def test_threads_of_telemetry_are_no_part_of_a_run(
    server: Server, replays_offline: Callable[..., Taken]
) -> None:
    def send() -> None:
        with suppress(Exception):
            httpx.post(f"{server.url}/traces", json=[])

    send.__module__ = "langsmith._internal._background_thread"

    def agent() -> str:
        sender = threading.Thread(target=send)
        sender.start()
        answer = httpx.get(f"{server.url}/page").text
        sender.join()
        return answer

    server.answers = [(200, "application/json", b"{}")]
    taken = replays_offline(agent)
    assert [name for _, name, *_ in taken.steps] == ["GET 127.0.0.1"]
    assert server.asked.count("/v1/traces") == 1
