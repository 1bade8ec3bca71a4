"""An HTTP exchange in plain values: what is asked, what came back, and the body of it again.

What is the same in every run is kept, what only says how this one call went is not: of the headers, those
that a program reads to decide something. Credentials in an address or a header never come into a record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from isotrace.canonical import parse_json
from isotrace.errors import IsotraceError
from isotrace.record.capture.providers import provider_call
from isotrace.record.capture.urls import without_secrets
from isotrace.record.outcomes import status_outcome
from isotrace.record.spec import Effect

_KEPT_HEADERS: Final = frozenset(
    {
        "content-type",
        "content-disposition",
        "etag",
        "last-modified",
        "link",
        "location",
        "mcp-session-id",
        "request-id",
        "retry-after",
        "www-authenticate",
        "x-request-id",
    }
)
_READ: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_TEXT = re.compile(
    r"^(text/|application/(xml|javascript|x-www-form-urlencoded|graphql|yaml|x-yaml|toml))|\+xml|charset="
)
_JSON = re.compile(r"^application/(json|[\w.+-]+\+json)\b")
EVENT_STREAM: Final = "text/event-stream"


class Asked(NamedTuple):
    """A request as a step: its name, kind and effect, its params, and whether the answer is a stream."""

    name: str
    kind: str
    effect: Effect
    params: dict[str, Any]
    streams: bool


def asked(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Asked:
    """What a request asks. `headers` have lower-case names."""
    parts = urlsplit(url)
    content = read_body(body, headers.get("content-type", ""))
    call = provider_call(method, url, content)
    if call is not None:
        streams = call.params.get("stream") is True or "stream" in parts.path
        return Asked(call.operation, "llm", "read", call.params, streams)
    params: dict[str, Any] = {"method": method, "url": without_secrets(url)}
    if body:
        params["body"] = content
    streams = headers.get("accept", "").startswith(EVENT_STREAM)
    name = f"{method} {parts.hostname or parts.path}"
    return Asked(name, "http", "read" if method in _READ else "write", params, streams)


def transport(status: int, headers: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """How an answer came: its status, and those headers that a program may decide by."""
    kept = [[name.lower(), value] for name, value in headers if name.lower() in _KEPT_HEADERS]
    return {"status": status, "headers": kept}


def failure(status: int) -> tuple[str, str] | None:
    """Category and code of an answer that says that the call failed."""
    return status_outcome(status) if status >= 400 else None


# --- bodies -------------------------------------------------------------------------------


def read_body(data: bytes, content_type: str) -> Any:
    """A body as a value: JSON, text, or bytes; what says to be JSON and is none is text."""
    if not data:
        return None
    if _JSON.match(content_type) or (not content_type and data[:1] in b"{["):
        try:
            return parse_json(data)
        except IsotraceError:
            pass
    if _JSON.match(content_type) or _TEXT.search(content_type):
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    return data


def write_body(value: Any) -> bytes:
    """The bytes of a body that `read_body` gave this value for: the same value when they are read."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else _json(value)


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# --- server-sent events -------------------------------------------------------------------

_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class EventSplitter:
    """Cuts a stream of bytes into server-sent events (HTML Living Standard, section 9.2), each with
    the very bytes that it came in."""

    def __init__(self) -> None:
        self._blank = b""
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """The events that these bytes complete."""
        self._rest += data
        while (end := _EVENT_END.search(self._rest)) is not None:
            raw, self._rest = self._rest[: end.end()], self._rest[end.end() :]
            if raw.strip():
                yield _event(raw[: end.start()]), self._blank + raw
                self._blank = b""
            else:
                self._blank += raw

    def end(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """What was left without a blank line after it."""
        rest, self._rest = self._rest, b""
        if rest.strip():
            yield _event(rest), self._blank + rest


def _event(block: bytes) -> dict[str, Any]:
    event: dict[str, Any] = {}
    data: list[str] = []
    for line in block.decode(errors="replace").splitlines():
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name:
            event[name] = value
    if data:
        text = "\n".join(data)
        event["data"] = _json_or_text(text)
    elif not event:
        event["comment"] = block.decode(errors="replace")
    return event


def _json_or_text(text: str) -> Any:
    if text[:1] in "{[":
        try:
            return parse_json(text)
        except IsotraceError:
            pass
    return text


def write_event(event: Mapping[str, Any]) -> bytes:
    """An event as it goes over the wire again."""
    if "comment" in event:
        return str(event["comment"]).encode() + b"\n\n"
    lines = [f"{name}: {value}" for name, value in event.items() if name != "data"]
    if "data" in event:
        data = event["data"]
        text = data if isinstance(data, str) else _json(data).decode()
        lines += [f"data: {line}" for line in text.split("\n")]
    return ("\n".join(lines) + "\n\n").encode()
