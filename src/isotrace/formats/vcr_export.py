"""A run's HTTP calls as a VCR cassette, which vcrpy loads and `isotrace import vcr` reads back.

A cassette holds what went over HTTP: steps of kind `http`, and steps of kind `llm` whose params and outcome
are a provider's request and response. Steps of other kinds, and those that no response ended, have no place
in it.

An imported LLM step does not say where it was sent; the run's `servers` do, or else the provider's usual
address. Secrets that were replaced by `***` stay so.
"""

from __future__ import annotations

import json
import re
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
from isotrace.record.capture.providers import provider_call

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
_HTTP_OUTCOME: Final = {"status", "headers", "body"}


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
    servers = _servers(record)
    dated = record.metadata.get(META_TIME) != "absent"
    steps = [step for step in record.steps if step.context is not None and step.context.end_seq is not None]
    for step in sorted(steps, key=lambda step: step.context.start_seq or 0 if step.context else 0):
        assert step.context is not None  # only such steps were taken
        status = _status_of(step)
        if step.context.kind not in ("http", "llm") or status is None:
            continue
        end = ledger.events[step.context.end_seq or 0]
        request = _request(step, _params(step, record), servers, record)
        response = _response(step, status, wrapped=end.facts.get("wrapped") is True)
        if dated:
            response["headers"]["date"] = [format_datetime(datetime_of(end.time_us), usegmt=True)]
        yield {"request": request, "response": response}


def _servers(record: TraceRecord) -> dict[int, list[str]]:
    """The URLs that an LLM step may have been sent to, by the step's index; of an import, the one."""
    known, numbers = record.metadata.get("servers"), record.metadata.get("server_of")
    urls = [url for url in known if isinstance(url, str)] if isinstance(known, list) else []
    asked = [step.step_index for step in record.steps if step.context and step.context.kind == "llm"]
    if not isinstance(numbers, list) or len(numbers) != len(asked):
        return dict.fromkeys(asked, urls)
    return {
        index: [urls[number]] if type(number) is int and 0 <= number < len(urls) else urls
        for index, number in zip(asked, numbers, strict=True)
    }


def _params(step: TraceStep, record: TraceRecord) -> dict[str, Any]:
    """The params as they were sent."""
    values = (step.params, step.outcome_data, step.context.raw_ids if step.context else None)
    if any(isinstance(value, Erased) for value in (*values, *(stream_chunks(step) or ()))):
        raise RecordGapError(
            "a value was erased, so the call can't be written", run_id=record.run_id, step=step.step_index
        )
    plain = restore(step.params, step.context.raw_ids if step.context else {})
    return plain if isinstance(plain, dict) else {}


def _request(
    step: TraceStep, params: dict[str, Any], servers: dict[int, list[str]], record: TraceRecord
) -> dict[str, Any]:
    if step.context is not None and step.context.kind == "http":
        return {
            "method": str(params.get("method", "GET")),
            "uri": str(params.get("url", "")),
            "body": _body(params.get("body")),
            "headers": {},
        }
    sent = _sent(step.skill_name, params, [*servers.get(step.step_index, ()), *_usual(step, params)])
    if sent is None:
        raise UsageError(
            f"{step.skill_name} is no call that a provider's server takes",
            where=f"run {record.run_id}, step {step.step_index}",
            expected="a provider's request as params",
        )
    url, body = sent
    return {
        "method": "POST",
        "uri": url,
        "body": _json(body),
        "headers": {"content-type": ["application/json"]},
    }


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
    chunks = stream_chunks(step)
    headers: dict[str, list[str]] = {}
    if outcome.keys() == _HTTP_OUTCOME:
        kept = outcome["headers"] if isinstance(outcome["headers"], dict) else {}
        headers = {name: [str(value)] for name, value in kept.items()}
        status = outcome["status"] if isinstance(outcome["status"], int) else status
        body = _body(outcome["body"])
    elif chunks is not None:
        headers["content-type"] = ["text/event-stream"]
        body = "".join(map(_event, chunks))
    else:
        headers["content-type"] = ["application/json"]
        body = _json(outcome.get("value") if wrapped else outcome)
    return {
        "status": {"code": status, "message": _PHRASES.get(status, "")},
        "headers": headers,
        "body": {"string": "" if body is None else body},
    }


_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


def _status_of(step: TraceStep) -> int | None:
    """The HTTP status that ended a step; None if none did."""
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


def _body(value: Any) -> str | bytes | None:
    if isinstance(value, dict) and value.keys() == {"$iso:bytes"}:
        data = from_plain(value)
        return data if isinstance(data, bytes) else None
    return value if value is None or isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    try:
        return json.dumps(from_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError("a body holds what JSON does not have", got=str(error)) from None
