"""httpx, and httpx2: every request that a client sends, one exchange for each, redirects included.

What is wrapped is where a client gives one request to its transport; retries, redirects and hooks are
above it, and run in a replay as they did. An answer is read to its end before the program gets it, unless
the request or the program (`client.stream`, `client.send(…, stream=True)`) asked for a stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final

from isotrace.record.capture import http
from isotrace.record.capture.about import About
from isotrace.record.context import Branch, current_branch, no_longer
from isotrace.record.edge import Edge, Exchange
from isotrace.record.patches import patch_all
from isotrace.record.spec import Shape

ABOUT = About(
    libraries="httpx and httpx2, and with them the SDKs of OpenAI, Anthropic, Mistral and Google",
    versions="httpx 0.27 and newer, httpx2 2.0 and newer",
    steps=(
        ("a request to a model's API, told by its path and body", "llm", "read"),
        ("any other GET, HEAD or OPTIONS", "http", "read"),
        ("any other request", "http", "write"),
    ),
    not_captured=("Web sockets.",),
)

_ASKED_BY: Final = frozenset(name.encode() for name in http.ASKED_BY)
_KEPT: Final = frozenset(name.encode() for name in http.KEPT_HEADERS)


def install(library: Any) -> list[Callable[[], None]]:
    """Wraps the clients of this library; the ways back. Raises `AttributeError` for a version that is
    built otherwise."""
    captures = ((library.Client, _Sync(library)), (library.AsyncClient, _Async(library)))
    return patch_all(
        site
        for client, capture in captures
        for site in ((client, "send", capture.wrap_send), (client, "_send_single_request", capture.wrap))
    )


_as_stream: ContextVar[bool] = ContextVar("isotrace_httpx_as_stream", default=False)
"""Whether the program reads the answer of the request under way as it comes."""


class _Capture:
    """What both kinds of client share. One for each library: their classes differ."""

    shapes: tuple[Shape, Shape]

    def __init__(self, library: Any) -> None:
        self.library = library
        self.raises = tuple(
            error
            for error in vars(library).values()
            if isinstance(error, type) and issubclass(error, library.RequestError)
        )

    def asked(self, request: Any, body: bytes) -> http.Asked:
        said: dict[str, str] = {}
        for name, value in _some(request.headers, _ASKED_BY):
            said[name] = f"{said[name]}, {value}" if name in said else value
        return http.asked(request.method, str(request.url), said, body, as_stream=_as_stream.get())

    def sent(self, asked: http.Asked, exchange: Exchange, request: Any) -> Any:
        """The request, or one that asks for what the exchange is to ask for instead."""
        if not exchange.changed:
            return request
        otherwise = http.sent_otherwise(asked, exchange, str(request.url), request.content)
        if otherwise is None:
            return request
        url, body = otherwise
        headers = [pair for pair in request.headers.multi_items() if pair[0].lower() != "content-length"]
        return self.library.Request(
            request.method, url, headers=headers, content=body, extensions=request.extensions
        )

    def edge(self, asked: http.Asked) -> Edge:
        return http.edge_of(self.library.__name__, asked, self.shapes, self.raises)

    def note(self, asked: http.Asked, exchange: Exchange, response: Any) -> None:
        said = response.extensions.get("reason_phrase")
        http.note(
            exchange,
            response.status_code,
            _some(response.headers, _KEPT),
            url=str(response.request.url) if exchange.changed else asked.url,
            reason=said.decode("ascii", "ignore") if isinstance(said, bytes) else None,
            version=response.http_version,
        )

    def response(self, client: Any, request: Any, exchange: Exchange, stream: Any) -> Any:
        """The library's own response, as the client would have made it."""
        transport = http.came(exchange)
        headers = [(name, value) for name, value in transport["headers"]]
        response = self.library.Response(
            transport["status"],
            headers=headers,
            request=request,
            stream=stream,
            extensions=_extensions(transport),
        )
        response.default_encoding = client._default_encoding
        response.elapsed = timedelta()
        return response

    def read(self, response: Any, raw: bytes) -> None:
        """Gives an answer that was read back what it was read from, and how long it took."""
        took = getattr(response.stream, "elapsed", None)
        if took is not None:
            response.elapsed = took
        response.stream = self.library.ByteStream(raw)

    def reader(self, response: Any) -> Any:
        """What reads the answer's stream and takes its content encoding off, while the program has the
        answer itself."""
        return self.library.Response(
            response.status_code, headers=response.headers, request=response.request, stream=response.stream
        )

    def decoder(self, source: Any, exchange: Exchange) -> http.Decoder:
        """Takes the encoding off what a reader reads raw."""
        decoder = source._get_content_decoder()
        return http.Decoder(
            lambda raw: _joined(decoder.decode(raw)), lambda: _joined(decoder.flush()), http.kind_of(exchange)
        )

    def streamed(self, response: Any, stream: Any, *, in_parts: bool) -> Any:
        """The live answer, whose stream goes through the record from now on: with its encoding where it
        comes in parts, without where it comes in events."""
        stream.timed = response.stream
        response.stream = stream
        if not in_parts:
            response._decoder = self.library._decoders.IdentityDecoder()
        return response

    def body(self, exchange: Exchange, outcome: Any) -> Any:
        return self.library.ByteStream(http.served_body(exchange, outcome))


class _Sync(_Capture):
    shapes = ("call", "stream")

    def wrap_send(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """What the program says counts for every request that this one leads to."""

        def send(client: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
            token = _as_stream.set(bool(stream))
            try:
                return plain(client, request, stream=stream, **options)
            finally:
                _as_stream.reset(token)

        return send

    def wrap(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def _send_single_request(client: Any, request: Any) -> Any:
            branch = current_branch.get()
            if branch is None or no_longer(branch):
                return plain(client, request)
            asked = self.asked(request, request.read())
            send = self._stream if asked.streams else self._whole
            try:
                return send(branch, asked, client, request, plain)
            except self.library.RequestError as error:
                error.request = request  # a served one has none yet
                raise

        return _send_single_request

    def _whole(self, branch: Branch, asked: http.Asked, client: Any, request: Any, plain: Any) -> Any:
        live: list[Any] = []

        def real(exchange: Exchange) -> Any:
            response = plain(client, self.sent(asked, exchange, request))
            self.note(asked, exchange, response)
            try:
                raw = b"".join(response.stream)
            finally:
                response.stream.close()
            self.read(response, raw)
            live.append(response)
            return http.outcome(asked, exchange, _decoded(self.library, response, raw))

        exchange = Exchange(asked.params, real)
        outcome = branch.driver.call(self.edge(asked), branch, (exchange,), {})
        return (
            live[0] if live else self.response(client, request, exchange, stream=self.body(exchange, outcome))
        )

    def _stream(self, branch: Branch, asked: http.Asked, client: Any, request: Any, plain: Any) -> Any:
        live: list[Any] = []
        raws: deque[bytes] = deque()

        def real(exchange: Exchange) -> Iterator[Any]:
            response = plain(client, self.sent(asked, exchange, request))
            self.note(asked, exchange, response)
            live.append(response)
            source = self.reader(response)
            try:
                yield {"status": response.status_code}  # the answer has begun
                for piece, raw in self._pieces(asked, exchange, source):
                    raws.append(raw)
                    yield piece
            finally:
                source.close()

        exchange = Exchange(asked.params, real)
        exchange.or_whole = asked.in_parts
        pieces = branch.driver.stream(self.edge(asked), branch, (exchange,), {})
        next(pieces)
        stream = _stream_class(self.library)(pieces, http.writer(exchange, raws, live=bool(live)))
        if not live:
            return self.response(client, request, exchange, stream)
        return self.streamed(live[0], stream, in_parts=http.comes_in_parts(asked, exchange))

    def _pieces(self, asked: http.Asked, exchange: Exchange, source: Any) -> Iterator[tuple[Any, bytes]]:
        if not http.comes_in_parts(asked, exchange):
            yield from http.pieces(source.iter_bytes(), http.kind_of(exchange))
            return
        decoder = self.decoder(source, exchange)
        for raw in source.iter_raw():
            yield decoder.part(raw)
        yield from decoder.end()


class _Async(_Capture):
    shapes = ("acall", "astream")

    def wrap_send(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """The same for asynchronous clients."""

        async def send(client: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
            token = _as_stream.set(bool(stream))
            try:
                return await plain(client, request, stream=stream, **options)
            finally:
                _as_stream.reset(token)

        return send

    def wrap(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        async def _send_single_request(client: Any, request: Any) -> Any:
            branch = current_branch.get()
            if branch is None or no_longer(branch):
                return await plain(client, request)
            asked = self.asked(request, await request.aread())
            send = self._stream if asked.streams else self._whole
            try:
                return await send(branch, asked, client, request, plain)
            except self.library.RequestError as error:
                error.request = request  # a served one has none yet
                raise

        return _send_single_request

    async def _whole(self, branch: Branch, asked: http.Asked, client: Any, request: Any, plain: Any) -> Any:
        live: list[Any] = []

        async def real(exchange: Exchange) -> Any:
            response = await plain(client, self.sent(asked, exchange, request))
            self.note(asked, exchange, response)
            try:
                raw = b"".join([part async for part in response.stream])
            finally:
                await response.stream.aclose()
            self.read(response, raw)
            live.append(response)
            return http.outcome(asked, exchange, _decoded(self.library, response, raw))

        exchange = Exchange(asked.params, real)
        outcome = await branch.driver.acall(self.edge(asked), branch, (exchange,), {})
        return (
            live[0] if live else self.response(client, request, exchange, stream=self.body(exchange, outcome))
        )

    async def _stream(self, branch: Branch, asked: http.Asked, client: Any, request: Any, plain: Any) -> Any:
        live: list[Any] = []
        raws: deque[bytes] = deque()

        async def real(exchange: Exchange) -> AsyncIterator[Any]:
            response = await plain(client, self.sent(asked, exchange, request))
            self.note(asked, exchange, response)
            live.append(response)
            source = self.reader(response)
            try:
                yield {"status": response.status_code}  # the answer has begun
                async for piece, raw in self._pieces(asked, exchange, source):
                    raws.append(raw)
                    yield piece
            finally:
                await source.aclose()

        exchange = Exchange(asked.params, real)
        exchange.or_whole = asked.in_parts
        pieces = branch.driver.astream(self.edge(asked), branch, (exchange,), {})
        await anext(pieces)
        stream = _astream_class(self.library)(pieces, http.writer(exchange, raws, live=bool(live)))
        if not live:
            return self.response(client, request, exchange, stream)
        return self.streamed(live[0], stream, in_parts=http.comes_in_parts(asked, exchange))

    async def _pieces(
        self, asked: http.Asked, exchange: Exchange, source: Any
    ) -> AsyncIterator[tuple[Any, bytes]]:
        if not http.comes_in_parts(asked, exchange):
            async for found in http.apieces(source.aiter_bytes(), http.kind_of(exchange)):
                yield found
            return
        decoder = self.decoder(source, exchange)
        async for raw in source.aiter_raw():
            yield decoder.part(raw)
        for found in decoder.end():
            yield found


def _some(headers: Any, names: frozenset[bytes]) -> list[tuple[str, str]]:
    """Those headers of these names, in lower case: to decode all of them would take longer than all else
    that is done with a request."""
    encoding = headers.encoding
    return [
        (name.decode(encoding).lower(), value.decode(encoding))
        for name, value in headers.raw
        if name.lower() in names
    ]


def _joined(decoded: bytes | Iterable[bytes]) -> bytes:
    """What a decoder gives: bytes, or some at a time."""
    return decoded if isinstance(decoded, bytes) else b"".join(decoded)


def _decoded(library: Any, response: Any, raw: bytes) -> bytes:
    """The body without its content encoding."""
    if "content-encoding" not in response.headers:
        return raw
    copy = library.Response(response.status_code, headers=response.headers, content=raw)
    return bytes(copy.content)


def _extensions(transport: Mapping[str, Any]) -> dict[str, bytes]:
    """What the library keeps beside an answer: the protocol's version, and the reason phrase."""
    version = str(transport.get("version", "HTTP/1.1"))
    return {"http_version": version.encode(), "reason_phrase": http.reason_of(transport).encode()}


def _stream_class(library: Any) -> Any:
    class Pieces(library.SyncByteStream):  # type: ignore[misc]  # the library's own base
        """The body of a streamed answer: recorded, or served, piece by piece."""

        def __init__(self, pieces: Any, write: Callable[[Any], bytes]) -> None:
            self._pieces = pieces
            self._write = write
            self.timed: Any = None

        @property
        def elapsed(self) -> Any:
            """How long the answer took, where its own stream says so."""
            return getattr(self.timed, "elapsed", None)

        def __iter__(self) -> Iterator[bytes]:
            for piece in self._pieces:
                yield self._write(piece)

        def close(self) -> None:
            self._pieces.close()

    return Pieces


def _astream_class(library: Any) -> Any:
    class Pieces(library.AsyncByteStream):  # type: ignore[misc]  # the library's own base
        """The same for asynchronous clients."""

        def __init__(self, pieces: Any, write: Callable[[Any], bytes]) -> None:
            self._pieces = pieces
            self._write = write
            self.timed: Any = None

        @property
        def elapsed(self) -> Any:
            """How long the answer took, where its own stream says so."""
            return getattr(self.timed, "elapsed", None)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in self._pieces:
                yield self._write(piece)

        async def aclose(self) -> None:
            await self._pieces.aclose()

    return Pieces
