"""An HTTP exchange in plain values: what is asked, what came back, and the body of it again.

What is the same in every run is kept, what only says how this one call went is not: of the headers, those
that a program reads to decide something. Credentials in an address or a header never come into a record.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

import orjson

from isotrace.canonical import MAX_DEPTH, MAX_NODES, parse_json
from isotrace.errors import IsotraceError
from isotrace.record.capture.multipart import read_multipart
from isotrace.record.capture.providers import provider_call
from isotrace.record.capture.splitters import EVENT_STREAM, json_bytes, splitter_of, write_piece
from isotrace.record.capture.urls import form_without_secrets, without_secrets
from isotrace.record.edge import Edge, Exchange, edge
from isotrace.record.outcomes import status_outcome
from isotrace.record.spec import Effect, Shape
from isotrace.record.withheld import hidden, hidden_value

KEPT_HEADERS: Final = frozenset(
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
ASKED_BY: Final = frozenset({"accept", "content-encoding", "content-type"})
"""The headers of a request that say how to read it."""
_READ: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_TEXT = re.compile(
    r"^(text/|application/(xml|javascript|x-www-form-urlencoded|graphql|yaml|x-yaml|toml))|\+xml|charset="
)
_JSON = re.compile(r"^application/(json|[\w.+-]+\+json)\b")
_FORM: Final = "application/x-www-form-urlencoded"
_INDENT: Final = orjson.OPT_INDENT_2
_MAX_UNPACKED: Final = 64 * 1024 * 1024


class Asked(NamedTuple):
    """A request as a step: its name, kind and effect, its params, whether the answer is a stream, and the
    address as it is sent. `in_parts`: the program reads as it comes what has no events either."""

    name: str
    kind: str
    effect: Effect
    params: dict[str, Any]
    streams: bool
    url: str
    in_parts: bool = False


def asked(
    method: str, url: str, headers: Mapping[str, str], body: bytes, *, as_stream: bool = False
) -> Asked:
    """What a request asks. `headers` have lower-case names; those in `ASKED_BY` count. `as_stream`: the
    program said that it reads the answer as it comes, which counts where no model is called."""
    parts = urlsplit(url)
    content = _asked_body(body, headers)
    call = provider_call(method, url, content)
    if call is not None:
        streams = call.params.get("stream") is True or "stream" in parts.path
        return Asked(call.operation, "llm", "read", call.params, streams, url)
    params: dict[str, Any] = {"method": method, "url": address(url)}
    if body:
        params["body"] = hidden_value(content)
    events = headers.get("accept", "").startswith(EVENT_STREAM)
    name = f"{method} {parts.hostname or parts.path}"
    effect: Effect = "read" if method in _READ else "write"
    return Asked(name, "http", effect, params, events or as_stream, url, as_stream and not events)


_ADDRESSES: Final = ("location", "link")


def address(url: str) -> str:
    """An address as it may stand in a record."""
    return hidden(without_secrets(url))


def _asked_body(body: bytes, headers: Mapping[str, str]) -> Any:
    """What a request sends, without what is made anew each time: a boundary, the time in a gzip header."""
    kind = headers.get("content-type", "")
    if headers.get("content-encoding", "").lower() == "gzip":
        body = _unpacked(body)
    parts = read_multipart(body, kind, read_body)
    if parts is not None:
        return parts
    content = read_body(body, kind)
    return form_without_secrets(content) if isinstance(content, str) and kind.startswith(_FORM) else content


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(data, _MAX_UNPACKED)
    except zlib.error:
        return data
    return unpacked if unpacker.eof and not unpacker.unused_data else data


def edge_of(
    library: str,
    asked: Asked,
    shapes: tuple[Shape, Shape],
    raises: tuple[type[BaseException], ...],
) -> Edge:
    """The edge that a request is made at. `shapes`: that of a whole answer, that of a stream."""
    shape = shapes[1] if asked.streams else shapes[0]
    return edge(library, asked.name, asked.kind, asked.effect, shape, raises)


def sent_otherwise(asked: Asked, exchange: Exchange, url: str, body: bytes) -> tuple[str, bytes] | None:
    """Address and body of a request that is to ask for what the exchange's params say by now; None where
    they are those that it had. Its `content-length` is another one then."""
    if not exchange.changed:
        return None
    params = exchange.params
    if asked.kind != "llm":
        new = str(params.get("url", ""))
        return (new if new != asked.params.get("url") else url), write_body(params.get("body"))
    said = dict(params)
    before, after = asked.params.get("model"), params.get("model")
    original = read_body(body, "application/json")
    if isinstance(original, dict) and "model" not in original:
        # The model's name is in the path.
        said.pop("model", None)
        head, mark, path = url.partition("://")
        url = head + mark + path.replace(quote(str(before), safe=""), quote(str(after), safe=""), 1)
    return url, write_body(said)


def transport(
    status: int,
    headers: Iterable[tuple[str, str]],
    *,
    reason: str | None = None,
    version: str = "HTTP/1.1",
) -> dict[str, Any]:
    """How an answer came: its status, and those headers that a program may decide by; the reason phrase
    and the protocol's version where they are not the usual ones."""
    kept = [
        [name.lower(), address(value) if name.lower() in _ADDRESSES else value]
        for name, value in headers
        if name.lower() in KEPT_HEADERS
    ]
    said: dict[str, Any] = {"status": status, "headers": kept}
    if reason is not None and (status, reason) != (200, "OK"):
        said["reason"] = reason
    if version != "HTTP/1.1":
        said["version"] = version
    return said


def reason_of(transport: Mapping[str, Any]) -> str:
    """The reason phrase of an answer that is served."""
    try:
        usual = HTTPStatus(transport["status"]).phrase
    except ValueError:
        usual = ""
    return str(transport.get("reason", usual))


def failure(status: int) -> tuple[str, str] | None:
    """Category and code of an answer that says that the call failed."""
    return status_outcome(status) if status >= 400 else None


# --- bodies -------------------------------------------------------------------------------


def read_body(data: bytes, content_type: str) -> Any:
    """A body as a value: JSON, text, or bytes; what says to be JSON and is none is text."""
    if not data:
        return None
    if _JSON.match(content_type) or (not content_type and data[:1] in b"{["):
        value = _read_json(data)
        if value is not None:
            return value
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


def _read_json(data: bytes) -> Any:
    """What the strict reader would give, where that is plain to see at a fifth of the time: orjson writes
    the value in these very bytes, so that no key stands there twice and no number was changed, and there
    are too few brackets to be nested too deeply. None where it is not."""
    if len(data) > MAX_NODES or data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        return None
    text = data.strip(b" \t\r\n")
    try:
        value = orjson.loads(text)
        return value if orjson.dumps(value, option=_INDENT if text[1:2] == b"\n" else None) == text else None
    except ValueError:
        return None


def write_body(value: Any) -> bytes:
    """The bytes of a body that `read_body` gave this value for: the same value when they are read."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json_bytes(value)


# --- answers ------------------------------------------------------------------------------

_NO_TRANSPORT: Final[Mapping[str, Any]] = {"status": 200, "headers": []}


def came(exchange: Exchange) -> Mapping[str, Any]:
    """How the answer of an exchange came, a plain 200 where nothing is known of it."""
    return exchange.transport or _NO_TRANSPORT


def kind_of(exchange: Exchange) -> str:
    """The content type of an answer."""
    return next((str(value) for name, value in came(exchange)["headers"] if name == "content-type"), "")


def note(
    exchange: Exchange, status: int, headers: Iterable[tuple[str, str]], *, url: str = "", **said: Any
) -> None:
    """Notes how an answer came, as `transport` takes it, and whether it says that the call failed.

    `url` is kept, without credentials, where the params do not say it: a model has another price
    elsewhere, and an export has to name it.
    """
    exchange.transport = transport(status, headers, **said)
    if url and "url" not in exchange.params:
        exchange.transport["url"] = address(url)
    exchange.failure = failure(status)


def outcome(asked: Asked, exchange: Exchange, data: bytes) -> Any:
    """The body of a whole answer as a value."""
    value = read_body(data, kind_of(exchange))
    if asked.kind != "llm" and not isinstance(value, str | bytes) and write_body(value) != data:
        # Served to the letter: a program may look at the text itself.
        assert exchange.transport is not None
        exchange.transport["text"] = data.decode()
    return value


def served_body(exchange: Exchange, outcome: Any) -> bytes:
    """The bytes of a whole answer that is served."""
    text = came(exchange).get("text")
    return text.encode() if isinstance(text, str) else write_body(outcome)


# --- streams ------------------------------------------------------------------------------


def pieces(parts: Iterable[bytes], kind: str) -> Iterator[tuple[Any, bytes]]:
    """The pieces of a streamed body, each as a value and with the very bytes that it came in; of a body
    that has none, all of it."""
    splitter = splitter_of(kind)
    if splitter is None:
        data = b"".join(parts)
        yield read_body(data, kind), data
        return
    for data in parts:
        yield from splitter.feed(data)
    yield from splitter.end()


async def apieces(parts: AsyncIterable[bytes], kind: str) -> AsyncGenerator[tuple[Any, bytes], None]:
    """The same for an asynchronous stream."""
    splitter = splitter_of(kind)
    if splitter is None:
        data = b"".join([part async for part in parts])
        yield read_body(data, kind), data
        return
    async for data in parts:
        for found in splitter.feed(data):
            yield found
    for found in splitter.end():
        yield found


def comes_in_parts(asked: Asked, exchange: Exchange) -> bool:
    """Whether the pieces of this stream are its parts as they come: it has no events."""
    return asked.in_parts and splitter_of(kind_of(exchange)) is None


class Decoder:
    """Takes the content encoding off the parts of a body, as the library does for the program."""

    def __init__(self, decode: Callable[[bytes], bytes], flush: Callable[[], bytes], kind: str) -> None:
        self._decode = decode
        self._flush = flush
        self._is_text = bool(_JSON.match(kind) or _TEXT.search(kind))

    def part(self, raw: bytes) -> tuple[Any, bytes]:
        """A part as a value (text, or bytes), and the bytes that it came in."""
        return self._value(self._decode(raw)), raw

    def end(self) -> Iterator[tuple[Any, bytes]]:
        """What was left at the end."""
        if rest := self._flush():
            yield self._value(rest), b""

    def _value(self, data: bytes) -> Any:
        if self._is_text:
            try:
                return data.decode()
            except UnicodeDecodeError:  # a character that goes on in the next part, too
                pass
        return data


def writer(exchange: Exchange, raws: deque[bytes], *, live: bool) -> Callable[[Any], bytes]:
    """What makes bytes of a piece: those that it came in, or such as mean the same when it is served."""
    if live:
        return lambda _: raws.popleft()
    if exchange.whole:
        return lambda outcome: served_body(exchange, outcome)
    write = write_piece(kind_of(exchange)) or write_body
    # What could not be cut came in bytes.
    return lambda piece: piece if isinstance(piece, bytes) else write(piece)
