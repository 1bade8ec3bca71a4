"""A run's HTTP calls as a VCR cassette, which vcrpy loads and `isotrace import vcr` reads back.

A cassette holds what went over HTTP: steps of kind `http`, and steps of kind `llm` whose params and outcome
are a provider's request and response. Steps of other kinds, and those that no response ended, have no place
in it.

Of a captured or imported step is known how its answer came, and where it was sent. An LLM step of another
source, whose params and outcome are a provider's request and response, goes to the provider's usual
address. Secrets that were replaced by `***` stay so.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from email.utils import format_datetime
from http import HTTPStatus
from itertools import islice
from typing import Any, BinaryIO, Final
from urllib.parse import quote

from isotrace.errors import PluginError, RecordGapError, UsageError
from isotrace.events import datetime_of
from isotrace.ledger import Ledger
from isotrace.minted import restore
from isotrace.models import META_TIME, Erased, TraceRecord, TraceStep
from isotrace.models.steps import stream_chunks
from isotrace.plain import from_plain
from isotrace.record.capture import http
from isotrace.record.capture.multipart import write_multipart
from isotrace.record.capture.providers import provider_call
from isotrace.record.capture.splitters import EVENT_STREAM
from isotrace.record.edge import Exchange

_OPENAI: Final = "https://api.openai.com/v1"
_GOOGLE: Final = "https://generativelanguage.googleapis.com/v1beta/models/"
# By operation, in the order in which a request is held against them.
_USUAL: Final = {
    "chat": (
        "https://api.anthropic.com/v1/messages",
        f"{_OPENAI}/chat/completions",
        f"{_OPENAI}/responses",
        "https://api.mistral.ai/v1/conversations",
    ),
    "text_completion": (f"{_OPENAI}/completions",),
    "embeddings": (f"{_OPENAI}/embeddings", f"{_GOOGLE}{{model}}:embedContent"),
    "generate_content": (f"{_GOOGLE}{{model}}:generateContent",),
}


class VcrExporter:
    """Writes a run as a YAML cassette."""

    name = "vcr"

    def write(self, ledgers: Iterable[Ledger], stream: BinaryIO) -> int:
        """Writes the one run; always 1.

        Raises `UsageError` for several runs, for one without an HTTP call, and for an LLM step that is no
        provider's call; `RecordGapError` where a value was erased; `PluginError` without pyyaml.
        """
        # The extra is optional.
        try:
            import yaml  # noqa: PLC0415  # optional
        except ImportError:
            raise PluginError(
                "YAML can't be written without pyyaml", hint="pip install 'isotrace[vcr]'"
            ) from None
        found = list(islice(ledgers, 2))
        if len(found) != 1:
            raise UsageError("a cassette holds one run", hint="export the others to files of their own")
        record = found[0].record()
        interactions = list(_interactions(record, found[0]))
        if not interactions:
            raise UsageError("the run made no HTTP call, so it has no cassette", got=record.run_id)
        yaml.dump(
            {"interactions": interactions, "version": 1},
            stream,
            Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
            encoding="utf-8",
            allow_unicode=True,
            sort_keys=False,
            default_flow_style=False,
        )
        return 1


def _interactions(record: TraceRecord, ledger: Ledger) -> Iterator[dict[str, Any]]:
    dated = record.metadata.get(META_TIME) != "absent"
    steps = [step for step in record.steps if step.context is not None and step.context.end_seq is not None]
    for step in sorted(steps, key=lambda step: step.context.start_seq or 0 if step.context else 0):
        assert step.context is not None  # only such steps were taken
        status = _status_of(step)
        if step.context.kind not in ("http", "llm") or status is None:
            continue
        end = ledger.events[step.context.end_seq or 0]
        request = _request(step, _params(step, record), record)
        response = _response(step, status, wrapped=end.facts.get("wrapped") is True)
        if dated:
            response["headers"]["date"] = [format_datetime(datetime_of(end.time_us), usegmt=True)]
        yield {"request": request, "response": response}


def _params(step: TraceStep, record: TraceRecord) -> dict[str, Any]:
    """The params as they were sent."""
    values = (step.params, step.outcome_data, step.context.raw_ids if step.context else None)
    if any(isinstance(value, Erased) for value in (*values, *(stream_chunks(step) or ()))):
        raise RecordGapError(
            "a value was erased, so the call can't be written", run_id=record.run_id, step=step.step_index
        )
    plain = restore(step.params, step.context.raw_ids if step.context else {})
    return plain if isinstance(plain, dict) else {}


def _request(step: TraceStep, params: dict[str, Any], record: TraceRecord) -> dict[str, Any]:
    if step.context is not None and step.context.kind == "http":
        headers, body = _sent_body(params.get("body"))
        if stream_chunks(step) is not None:
            # Only by this the capture tells that a stream was asked for.
            headers["accept"] = [EVENT_STREAM]
        return {
            "method": str(params.get("method", "GET")),
            "uri": str(params.get("url", "")),
            "body": body,
            "headers": headers,
        }
    sent = _sent(step.skill_name, params, [*_server(step), *_usual(step, params)])
    if sent is None:
        raise UsageError(
            f"{step.skill_name} is no call that a provider's server takes",
            where=f"run {record.run_id}, step {step.step_index}",
            expected="a provider's request as params",
        )
    return {
        "method": "POST",
        "uri": sent[0],
        "body": _json(sent[1]),
        "headers": {"content-type": ["application/json"]},
    }


def _sent_body(value: Any) -> tuple[dict[str, list[str]], str | bytes | None]:
    """The body of a request, and the headers by which it is read as this value again."""
    if value is None:
        return {}, None
    given = from_plain(value)
    if isinstance(given, bytes):
        return {"content-type": ["application/octet-stream"]}, given
    form = write_multipart(given, http.write_body)
    if form is not None:
        return {"content-type": [form[0]]}, _text_or_bytes(form[1])
    if isinstance(value, str):
        return {"content-type": ["text/plain; charset=utf-8"]}, value
    return {"content-type": ["application/json"]}, _json(value)


def _server(step: TraceStep) -> list[str]:
    """Where an LLM step was sent, if that is known."""
    transport = step.context.transport if step.context else None
    url = transport.get("url") if isinstance(transport, dict) else None
    return [url] if isinstance(url, str) else []


def _usual(step: TraceStep, params: dict[str, Any]) -> list[str]:
    """Where such a request usually goes, the likeliest first."""
    model = quote(str(params.get("model", "")), safe="")
    urls = [url.replace("{model}", model) for url in _USUAL.get(step.skill_name, ())]
    chunks = stream_chunks(step)
    first = chunks[0] if chunks else step.outcome_data
    # Requests to OpenAI and to Anthropic can look alike; their answers don't.
    named = isinstance(first, dict) and str(first.get("type")).startswith(("message", "error"))
    return sorted(urls, key=lambda url: named != url.endswith("/messages"))


def _sent(operation: str, params: dict[str, Any], servers: list[str]) -> tuple[str, dict[str, Any]] | None:
    """Where an LLM step was sent, and its body; None if no server takes such a request."""
    rest = {key: value for key, value in params.items() if key != "model"}
    for url in servers:
        # A model that the path names stands first in the params, and is not in the body.
        for body in (rest, params):
            call = provider_call("POST", url, body)
            if call is not None and call.operation == operation and call.params == params:
                return url, body
    return None


def _response(step: TraceStep, status: int, *, wrapped: bool) -> dict[str, Any]:
    outcome = step.outcome_data if isinstance(step.outcome_data, dict) else {}
    value = outcome.get("value") if wrapped else outcome
    chunks = stream_chunks(step)
    transport = step.context.transport if step.context else None
    if isinstance(transport, dict):
        return _as_it_came(transport, value, chunks)
    kind = EVENT_STREAM if chunks is not None else "application/json"
    return {
        "status": {"code": status, "message": _PHRASES.get(status, "")},
        "headers": {"content-type": [kind]},
        "body": {"string": _json(value) if chunks is None else "".join(map(_event, chunks))},
    }


def _as_it_came(transport: dict[str, Any], value: Any, chunks: list[Any] | None) -> dict[str, Any]:
    """The answer of which is known how it came."""
    exchange = Exchange({}, lambda _: None)
    exchange.transport = transport
    if chunks is None:
        data = http.served_body(exchange, from_plain(value))
    else:
        write = http.writer(exchange, deque(), live=False)
        data = b"".join(write(from_plain(chunk)) for chunk in chunks[1:])  # the first says that it has begun
    headers: dict[str, list[str]] = {}
    for name, text in transport["headers"]:
        headers.setdefault(name, []).append(text)
    response: dict[str, Any] = {
        "status": {"code": transport["status"], "message": http.reason_of(transport)},
        "headers": headers,
        "body": {"string": _text_or_bytes(data)},
    }
    if "version" in transport:
        response["http_version"] = transport["version"]
    return response


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    return text if "\0" not in text else data


_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


def _status_of(step: TraceStep) -> int | None:
    """The HTTP status that ended a step; None if none did."""
    transport = step.context.transport if step.context else None
    if isinstance(transport, dict):
        return transport["status"] if step.context and step.context.error is None else None
    if step.status.value == "success":
        return 200
    code = step.outcome_code or ""
    return int(code) if step.status.value == "failure" and _STATUS.fullmatch(code) else None


_STATUS: Final = re.compile("[1-9][0-9]{2}")


def _event(chunk: Any) -> str:
    """A server-sent event. Providers that name their events give them the name of the data's `type`."""
    kind = chunk.get("type") if isinstance(chunk, dict) else None
    name = f"event: {kind}\n" if isinstance(kind, str) and kind.isprintable() else ""
    lines = (chunk if isinstance(chunk, str) else _json(chunk)).split("\n")
    return name + "".join(f"data: {line}\n" for line in lines) + "\n"


def _json(value: Any) -> str:
    try:
        return json.dumps(from_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError("a body holds what JSON does not have", got=str(error)) from None
