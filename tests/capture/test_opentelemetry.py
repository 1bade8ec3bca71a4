"""Captures beside the instrumentation of OpenTelemetry: put on and taken off in any order."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.record import instrument

pytest.importorskip(
    "opentelemetry.instrumentation.httpx", reason="OpenTelemetry's instrumentation is not installed"
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.server import Server
    from tests.record.lab import Lab


def httpx_agent(url: str) -> Any:
    import httpx

    with httpx.Client() as client:
        return client.get(url).text


async def httpx_async_agent(url: str) -> Any:
    import httpx

    async with httpx.AsyncClient() as client:
        return (await client.get(url)).text


def requests_agent(url: str) -> Any:
    import requests

    return requests.get(url).text


def urllib3_agent(url: str) -> Any:
    import urllib3

    with urllib3.PoolManager() as pool:
        return pool.request("GET", url).data.decode()


async def aiohttp_agent(url: str) -> Any:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


AGENTS = {
    "httpx.HTTPXClientInstrumentor": httpx_agent,
    "httpx.HTTPXClientInstrumentor ": httpx_async_agent,
    "requests.RequestsInstrumentor": requests_agent,
    "urllib3.URLLib3Instrumentor": urllib3_agent,
    "aiohttp_client.AioHttpClientInstrumentor": aiohttp_agent,
}
# What either of the two changes.
CHANGED = (
    ("httpx", "Client._send_single_request"),
    ("httpx", "AsyncClient._send_single_request"),
    ("httpx", "HTTPTransport.handle_request"),
    ("requests", "Session.send"),
    ("urllib3.connectionpool", "HTTPConnectionPool._make_request"),
    ("urllib3.connectionpool", "HTTPConnectionPool.urlopen"),
    ("urllib3.connectionpool", "HTTPSConnectionPool._prepare_proxy"),
    ("aiohttp", "ClientSession.__init__"),
    ("aiohttp.connector", "BaseConnector.connect"),
    ("aiohttp.client_reqrep", "ClientRequest.send"),
    ("aiohttp.client_reqrep", "ClientResponse.start"),
)


def as_it_is() -> list[Any]:
    found = []
    for module, path in CHANGED:
        holder, _, name = path.partition(".")
        found.append(getattr(import_module(module), holder).__dict__.get(name))
    return found


@pytest.mark.parametrize("taken_off_first", ["ours", "theirs"])
@pytest.mark.parametrize("put_on_first", ["ours", "theirs"])
@pytest.mark.parametrize("name", AGENTS)
def test_spans_are_made_and_steps_recorded_once_in_any_order(
    lab: Lab, server: Server, name: str, put_on_first: str, taken_off_first: str
) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    module, _, class_name = name.strip().rpartition(".")
    instrumentor = getattr(import_module(f"opentelemetry.instrumentation.{module}"), class_name)()
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    undo: dict[str, Callable[[], Any]] = {}

    def put_on(whose: str) -> None:
        if whose == "ours":
            undo["ours"] = instrument()
        else:
            instrumentor.instrument(tracer_provider=provider)
            undo["theirs"] = instrumentor.uninstrument

    def agent() -> Any:
        return AGENTS[name](f"{server.url}/page")

    async def async_agent() -> Any:
        return await AGENTS[name](f"{server.url}/page")

    run = async_agent if inspect.iscoroutinefunction(AGENTS[name]) else agent
    before = as_it_is()
    both = ("ours", "theirs")
    for whose in sorted(both, reverse=put_on_first == "theirs"):
        put_on(whose)
    taken = lab.record(run)
    assert (taken.error, taken.value) == (None, "grüß dich")
    assert [step.skill_name for step in taken.record.steps] == ["GET 127.0.0.1"]
    assert [span.name for span in spans.get_finished_spans()] == ["GET"]
    asked = len(server.asked)
    result = lab.replay(taken, run)
    assert (str(result.verdict), result.value, result.receipt.blocked) == ("MATCH", taken.value, 0)
    assert len(server.asked) == asked
    for whose in sorted(both, reverse=taken_off_first == "theirs"):
        undo[whose]()
    assert as_it_is() == before, "everything is as it was"
