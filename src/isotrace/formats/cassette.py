"""One interaction of a VCR cassette: what was asked, what came back, and what of it is kept."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from isotrace.errors import CanonicalizationError
from isotrace.formats.chat import SUCCESS, Outcome
from isotrace.formats.http_text import (
    date_us,
    decoded,
    events_of,
    host_of,
    is_event_stream,
)
from isotrace.formats.node import Node, foreign_json
from isotrace.jsondiff import MISSING
from isotrace.record.capture.providers import ProviderCall, provider_call
from isotrace.record.capture.urls import without_secrets
from isotrace.record.outcomes import status_outcome

KEPT_HEADERS: Final = ("content-type", "location", "retry-after")
_BYTES: Final = "$iso:bytes"
_FIRST_CREATED: Final = 1_000_000_000
_YEAR_3000: Final = 32_503_680_000
_DAY_MS: Final = 86_400_000


# --- bodies ---------------------------------------------------------------------------


class Body(NamedTuple):
    """What a message carried: `json` where it is an array or an object, else text or bytes, else neither."""

    json: Any = MISSING
    text: str | None = None
    data: bytes | None = None

    def value(self) -> Any:
        """The body as plain data."""
        if self.json is not MISSING:
            return self.json
        return self.text if self.data is None else {_BYTES: base64.b64encode(self.data).decode()}


def _body_of(message: Node, headers: Mapping[str, str], limit: int) -> Body:
    parsed = message["parsed_body"]
    if not parsed.absent:
        return Body(json=parsed.value)
    raw = _raw_body(message)
    if isinstance(raw, bytes):
        plain = decoded(raw, headers.get("content-encoding", ""), limit)
        raw = raw if plain is None else _text_or_bytes(plain)
    if raw is None or isinstance(raw, bytes):
        return Body(data=raw)
    return Body(json=_json_or_missing(raw), text=raw)


def _raw_body(message: Node) -> str | bytes | None:
    """The body as it stands in the file; older cassettes have it in other places."""
    body = message["body"] if not message["body"].absent else message["content"]
    if isinstance(body.value, dict) and body.value.keys() != {_BYTES}:
        if not body["base64_string"].absent:
            return _base64(body["base64_string"])
        body = body["string"]
    if isinstance(body.value, dict) and body.value.keys() == {_BYTES}:
        return base64.b64decode(body.value[_BYTES])
    return body.text_or_none()


def _base64(node: Node) -> bytes:
    try:
        return base64.b64decode("".join(node.text().split()), validate=True)
    except ValueError:
        raise node.fail("a body is not base64", expected="base64") from None


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _json_or_missing(text: str) -> Any:
    # Only what JSON protocols send: a text such as `12` is a text.
    if not text.lstrip().startswith(("{", "[")):
        return MISSING
    try:
        return foreign_json(text)
    except CanonicalizationError:
        return MISSING


# --- one interaction ------------------------------------------------------------------


class Exchange(NamedTuple):
    """A request and its response. `chunks` are those of a stream, `outcome` is all else."""

    method: str
    url: str
    host: str
    body: Any
    call: ProviderCall | None
    outcome: Any
    chunks: list[Any] | None
    ended: Outcome
    error: str | None
    ended_us: int | None
    duration_ms: float
    unreadable: bool


def exchange_of(node: Node, limit: int) -> Exchange:
    """An interaction as it is recorded; a body is at most `limit` bytes without its encoding.

    Raises `ImportFormatError` about what is missing or of a wrong type, `LimitError` for a larger body.
    """
    request, response = node["request"], node["response"]
    request.object(), response.object()
    uri = request["uri"]
    host = host_of(uri.text())
    if host is None:
        # The URL is not shown: it may hold a secret.
        raise uri.fail("a request names no host", hint="its URL has to be absolute")
    method = request["method"].text().upper()
    headers = _headers(response["headers"])
    sent = _body_of(request, _headers(request["headers"]), limit)
    got = _body_of(response, headers, limit)
    status = _status(response)
    call = provider_call(method, uri.text(), sent.json)
    outcome: Any = {
        "status": status,
        "headers": {name: _kept_header(name, headers[name]) for name in KEPT_HEADERS if name in headers},
        "body": got.value(),
    }
    chunks = None
    if call is not None:
        chunks = _chunks(got, headers) if status < 400 else None
        outcome = None if chunks is not None else outcome if got.json is MISSING else got.json
    return Exchange(
        method=method,
        url=without_secrets(uri.text()),
        host=host,
        body=sent.value(),
        call=call,
        outcome=outcome,
        chunks=chunks,
        ended=SUCCESS if status < 400 else Outcome("failure", *status_outcome(status)),
        error=None if status < 400 else _error(status, response, got),
        ended_us=_ended_us(headers, [] if call is None else _answers(got, chunks)),
        duration_ms=_duration_ms(headers),
        unreadable=sent.data is not None or got.data is not None,
    )


def _headers(node: Node) -> dict[str, str]:
    """Headers by name in lower case, several values of one in one text."""
    found: dict[str, str] = {}
    for name in node.object_or_none() or {}:
        value = node[name]
        parts = value.items() if isinstance(value.value, list) else iter((value,))
        text = ", ".join(_header(part) for part in parts)
        found[name.lower()] = f"{found[name.lower()]}, {text}" if name.lower() in found else text
    return found


def _header(node: Node) -> str:
    if isinstance(node.value, dict) and node.value.keys() == {_BYTES}:
        return base64.b64decode(node.value[_BYTES]).decode("latin-1")
    return node.name_or_none() or ""


def _kept_header(name: str, text: str) -> str:
    return without_secrets(text) if name == "location" else text


def _status(response: Node) -> int:
    """The HTTP status; older cassettes of httpx have it in `status_code`."""
    node = response["status_code"] if response["status"].absent else response["status"]["code"]
    status = node.whole_or_none()
    if status is None or not 100 <= status <= 999:
        raise node.fail("a response has no status", expected="an HTTP status")
    return status


def _chunks(got: Body, headers: Mapping[str, str]) -> list[Any] | None:
    """The pieces of an answer that was streamed, None of one that came whole."""
    if isinstance(got.json, list):
        return got.json
    if got.json is not MISSING or got.text is None:
        return None
    if "text/event-stream" not in headers.get("content-type", "") and not is_event_stream(got.text):
        return None
    return [_chunk(data) for data in events_of(got.text)]


def _chunk(data: str) -> Any:
    value = _json_or_missing(data)
    return data if value is MISSING else value


def _error(status: int, response: Node, got: Body) -> str:
    """What a failed call says of itself: the message in a provider's answer, or the status line."""
    body = got.json if isinstance(got.json, dict) else {}
    inner = body.get("error")
    inner = inner if isinstance(inner, dict) else {"message": inner}
    line = response["status"]["message"].value if isinstance(response["status"].value, dict) else None
    said = [
        text for text in (inner.get("message"), body.get("message"), line) if isinstance(text, str) and text
    ]
    return f"HTTP {status}: {said[0]}" if said else f"HTTP {status}"


def _ended_us(headers: Mapping[str, str], answers: list[Any]) -> int | None:
    """When the response came, to the second; by what the answer says of itself where no header does."""
    from_header = date_us(headers.get("date", ""))
    if from_header is not None:
        return from_header
    for answer in answers:
        for name in ("completed_at", "created_at", "created"):
            seconds = answer.get(name) if isinstance(answer, dict) else None
            if isinstance(seconds, int | float) and _FIRST_CREATED < seconds < _YEAR_3000:
                return round(seconds * 1_000_000)
    return None


def _answers(got: Body, chunks: list[Any] | None) -> list[Any]:
    """Where a provider's answer may say when it was made."""
    first = chunks[0] if chunks else None
    return [got.json, first, first.get("response") if isinstance(first, dict) else None]


def _duration_ms(headers: Mapping[str, str]) -> float:
    try:
        duration_ms = float(headers.get("openai-processing-ms", "0")[:32])
    except ValueError:
        return 0.0
    return duration_ms if 0 <= duration_ms <= _DAY_MS else 0.0
