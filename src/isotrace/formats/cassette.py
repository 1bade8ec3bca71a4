"""One interaction of a VCR cassette, as the capture of HTTP would have recorded it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final, NamedTuple, NoReturn

from isotrace.errors import RestoreError
from isotrace.formats.chat import SUCCESS, Outcome
from isotrace.formats.http_text import date_us, decoded, host_of, is_event_stream
from isotrace.formats.node import Node
from isotrace.plain import from_plain
from isotrace.record.capture import http
from isotrace.record.capture.splitters import EVENT_STREAM, json_bytes
from isotrace.record.capture.urls import without_secrets
from isotrace.record.edge import Exchange

MAX_PIECES: Final = 200_000
"""How many pieces the streams of one run may have."""

_BYTES: Final = "$iso:bytes"
_FIRST_CREATED: Final = 1_000_000_000
_YEAR_3000: Final = 32_503_680_000
_DAY_MS: Final = 86_400_000


# --- bodies ---------------------------------------------------------------------------


class Body(NamedTuple):
    """What a message carried. `encoding` is the content encoding that it still has, because it can't be
    taken off here."""

    data: bytes
    encoding: str = ""


def _body_of(message: Node, headers: Mapping[str, str], limit: int) -> Body:
    """The body of a message without its content encoding."""
    raw = _raw_body(message)
    if isinstance(raw, str):
        return Body(raw.encode(errors="replace"))
    encoding = headers.get("content-encoding", "")
    plain = decoded(raw, encoding, limit)
    return Body(raw, encoding) if plain is None else Body(plain)


def _raw_body(message: Node) -> str | bytes:
    """The body as it stands in the file; older cassettes have it in other places."""
    parsed = message["parsed_body"]
    if not parsed.absent:
        return _json(parsed)
    body = message["body"] if not message["body"].absent else message["content"]
    if isinstance(body.value, dict) and body.value.keys() != {_BYTES}:
        if not body["base64_string"].absent:
            return _base64(body["base64_string"])
        body = body["string"]
    if isinstance(body.value, dict) and body.value.keys() == {_BYTES}:
        return base64.b64decode(body.value[_BYTES])
    return body.text_or_none() or ""


def _json(node: Node) -> str:
    """A body that is kept as the value that it stands for."""
    try:
        return json_bytes(from_plain(node.value)).decode()
    except (RestoreError, TypeError, ValueError):
        raise node.fail("a body holds what JSON does not have", expected="JSON") from None


def _base64(node: Node) -> bytes:
    try:
        return base64.b64decode("".join(node.text().split()), validate=True)
    except ValueError:
        raise node.fail("a body is not base64", expected="base64") from None


# --- one interaction ------------------------------------------------------------------


class Interaction(NamedTuple):
    """A request and its response. `chunks` are the pieces of a stream, `outcome` is all else."""

    asked: http.Asked
    transport: dict[str, Any]
    outcome: Any
    chunks: list[Any] | None
    ended: Outcome
    ended_us: int | None
    duration_ms: float
    unreadable: bool


def interaction_of(node: Node, limit: int) -> Interaction:
    """An interaction as it is recorded; a body is at most `limit` bytes without its encoding.

    Raises `ImportFormatError` about what is missing or of a wrong type, `LimitError` for a larger body.
    """
    request, response = node["request"], node["response"]
    request.object(), response.object()
    uri = request["uri"]
    if host_of(uri.text()) is None:
        # The URL is not shown: it may hold a secret.
        raise uri.fail("a request names no host", hint="its URL has to be absolute")
    method = request["method"].text().upper()
    sent_headers, headers = _joined(request["headers"]), _joined(response["headers"])
    sent, got = _body_of(request, sent_headers, limit), _body_of(response, headers, limit)
    # What can't be unpacked here can't be unpacked by the capture either.
    asked = http.asked(method, uri.text(), sent_headers, sent.data)
    exchange = _came(asked, node, uri.text(), got)
    outcome, chunks = None, None
    if asked.streams:
        chunks = _chunks(exchange, got, node)
    else:
        outcome = http.outcome(asked, exchange, got.data)
    transport = dict(http.came(exchange))
    return Interaction(
        asked=asked,
        transport=transport,
        outcome=outcome,
        chunks=chunks,
        ended=SUCCESS if exchange.failure is None else Outcome("failure", *exchange.failure),
        ended_us=_ended_us(headers, _answers(outcome, chunks) if asked.kind == "llm" else []),
        duration_ms=_duration_ms(headers),
        unreadable=bool(sent.encoding or got.encoding),
    )


def _came(asked: http.Asked, node: Node, url: str, got: Body) -> Exchange:
    """The exchange, with how its answer came."""
    response = node["response"]
    exchange = Exchange(asked.params, _never)
    reason = response["status"]["message"].value if isinstance(response["status"].value, dict) else None
    version = response["http_version"].value
    pairs = [(name, _kept(name, text)) for name, text in _pairs(response["headers"])]
    if asked.streams and not any(name == "content-type" for name, _ in pairs) and _has_events(got.data):
        pairs.append(("content-type", EVENT_STREAM))
    http.note(
        exchange,
        _status(response),
        pairs,
        url=url,
        reason=reason if isinstance(reason, str) and reason else None,
        version=version if isinstance(version, str) and version else "HTTP/1.1",
    )
    if got.encoding and exchange.transport is not None:
        # The program's own client may know it.
        exchange.transport["headers"].append(["content-encoding", got.encoding])
    return exchange


def _never(_exchange: Exchange) -> NoReturn:
    raise AssertionError("a recorded exchange is described, and never made")


def _has_events(data: bytes) -> bool:
    return is_event_stream(data[:64].decode(errors="replace"))


def _pairs(node: Node) -> list[tuple[str, str]]:
    """Headers with names in lower case."""
    return [
        (name.lower(), _header(part))
        for name in node.object_or_none() or {}
        for part in (node[name].items() if isinstance(node[name].value, list) else (node[name],))
    ]


def _joined(node: Node) -> dict[str, str]:
    """Headers by name, several values of one in one text."""
    found: dict[str, str] = {}
    for name, text in _pairs(node):
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _header(node: Node) -> str:
    if isinstance(node.value, dict) and node.value.keys() == {_BYTES}:
        return base64.b64decode(node.value[_BYTES]).decode("latin-1")
    return node.name_or_none() or ""


def _kept(name: str, text: str) -> str:
    return without_secrets(text) if name == "location" else text


def _status(response: Node) -> int:
    """The HTTP status; older cassettes of httpx have it in `status_code`."""
    node = response["status_code"] if response["status"].absent else response["status"]["code"]
    status = node.whole_or_none()
    if status is None or not 100 <= status <= 999:
        raise node.fail("a response has no status", expected="an HTTP status")
    return status


def _chunks(exchange: Exchange, got: Body, node: Node) -> list[Any]:
    """What a captured stream is made of: that the answer has begun, and its pieces."""
    kind = "" if got.encoding else http.kind_of(exchange)
    pieces = http.pieces(iter([got.data]), kind)
    chunks: list[Any] = [{"status": http.came(exchange)["status"]}]
    chunks += (piece for piece, _ in islice(pieces, MAX_PIECES + 1))
    if len(chunks) > MAX_PIECES:
        raise node.fail("a stream has too many pieces", expected=f"at most {MAX_PIECES}")
    return chunks


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


def _answers(outcome: Any, chunks: list[Any] | None) -> list[Any]:
    """Where a provider's answer may say when it was made."""
    first = chunks[1] if chunks and len(chunks) > 1 else None
    data = first.get("data") if isinstance(first, dict) and "data" in first else first
    return [outcome, data, data.get("response") if isinstance(data, dict) else None]


def _duration_ms(headers: Mapping[str, str]) -> float:
    try:
        duration_ms = float(headers.get("openai-processing-ms", "0")[:32])
    except ValueError:
        return 0.0
    return duration_ms if 0 <= duration_ms <= _DAY_MS else 0.0
