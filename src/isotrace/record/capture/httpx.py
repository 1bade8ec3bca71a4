"""httpx, and httpx2: every request that a client sends, one exchange for each, redirects included.

What is wrapped is where a client gives one request to its transport; retries, redirects and hooks are
above it, and run in a replay as they did. An answer is read to its end before the program gets it, unless
the request asked for a stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from isotrace.record.capture import http
from isotrace.record.context import Branch, current_branch
from isotrace.record.edge import Exchange, edge
from isotrace.record.patches import patch

MODULES = ("httpx", "httpx2")
WHAT = "requests of `httpx.Client` and `httpx.AsyncClient`, and so of the SDKs that use them"


def install(library: Any) -> list[Callable[[], None]]:
    """Wraps the clients of this library; the ways back. Raises `AttributeError` for a version that is
    built otherwise."""
    wraps = ((library.Client, _Sync(library).wrap), (library.AsyncClient, _Async(library).wrap))
    return [patch(client, "_send_single_request", wrap) for client, wrap in wraps]


class _Capture:
    """What both kinds of client share. One for each library: their classes differ."""

    shape_plain: Any
    shape_stream: Any

    def __init__(self, library: Any) -> None:
        self.library = library
        self.raises = tuple(
            error
            for error in vars(library).values()
            if isinstance(error, type) and issubclass(error, library.RequestError)
        )

    def asked(self, request: Any, body: bytes) -> http.Asked:
        return http.asked(request.method, str(request.url), dict(request.headers.items()), body)

    def edge(self, asked: http.Asked) -> Any:
        shape = self.shape_stream if asked.streams else self.shape_plain
        return edge(self.library.__name__, asked.name, asked.kind, asked.effect, shape, self.raises)

    def note(self, exchange: Exchange, response: Any) -> None:
        exchange.transport = http.transport(response.status_code, response.headers.multi_items())
        exchange.failure = http.failure(response.status_code)

    def outcome(self, asked: http.Asked, exchange: Exchange, data: bytes, response: Any) -> Any:
        value = http.read_body(data, response.headers.get("content-type", ""))
        if asked.kind != "llm" and not isinstance(value, str | bytes) and http.write_body(value) != data:
            # Served to the letter: a program may look at the text itself.
            assert exchange.transport is not None
            exchange.transport["text"] = data.decode()
        return value

    def response(self, client: Any, request: Any, exchange: Exchange, stream: Any) -> Any:
        """The library's own response, as the client would have made it."""
        transport = exchange.transport or {"status": 200, "headers": []}
        headers = [(name, value) for name, value in transport["headers"]]
        response = self.library.Response(transport["status"], headers=headers, request=request, stream=stream)
        response.default_encoding = client._default_encoding
        return response

    def body(self, exchange: Exchange, outcome: Any) -> Any:
        text = (exchange.transport or {}).get("text")
        return self.library.ByteStream(text.encode() if isinstance(text, str) else http.write_body(outcome))


class _Sync(_Capture):
    shape_plain, shape_stream = "call", "stream"

    def wrap(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def _send_single_request(client: Any, request: Any) -> Any:
            branch = current_branch.get()
            if branch is None or branch.driver.closed:
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
            response = plain(client, request)
            self.note(exchange, response)
            try:
                raw = b"".join(response.stream)
            finally:
                response.stream.close()
            response.stream = self.library.ByteStream(raw)
            live.append(response)
            return self.outcome(asked, exchange, _decoded(self.library, response, raw), response)

        exchange = Exchange(asked.params, real)
        outcome = branch.driver.call(self.edge(asked), branch, (exchange,), {})
        return (
            live[0] if live else self.response(client, request, exchange, stream=self.body(exchange, outcome))
        )

    def _stream(self, branch: Branch, asked: http.Asked, client: Any, request: Any, plain: Any) -> Any:
        live: list[Any] = []

        def real(exchange: Exchange) -> Iterator[Any]:
            response = plain(client, request)
            self.note(exchange, response)
            live.append(response)
            try:
                yield {"status": response.status_code}  # the answer has begun
                yield from _pieces(response)
            finally:
                response.close()

        exchange = Exchange(asked.params, real)
        pieces = branch.driver.stream(self.edge(asked), branch, (exchange,), {})
        next(pieces)
        stream = _stream_class(self.library)(pieces)
        response = self.response(client, request, exchange, stream=stream)
        if live:
            client.cookies.extract_cookies(live[0])
            response.extensions = live[0].extensions
        return response


class _Async(_Capture):
    shape_plain, shape_stream = "acall", "astream"

    def wrap(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        async def _send_single_request(client: Any, request: Any) -> Any:
            branch = current_branch.get()
            if branch is None or branch.driver.closed:
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
            response = await plain(client, request)
            self.note(exchange, response)
            try:
                raw = b"".join([part async for part in response.stream])
            finally:
                await response.stream.aclose()
            response.stream = self.library.ByteStream(raw)
            live.append(response)
            return self.outcome(asked, exchange, _decoded(self.library, response, raw), response)

        exchange = Exchange(asked.params, real)
        outcome = await branch.driver.acall(self.edge(asked), branch, (exchange,), {})
        return (
            live[0] if live else self.response(client, request, exchange, stream=self.body(exchange, outcome))
        )

    async def _stream(self, branch: Branch, asked: http.Asked, client: Any, request: Any, plain: Any) -> Any:
        live: list[Any] = []

        async def real(exchange: Exchange) -> AsyncIterator[Any]:
            response = await plain(client, request)
            self.note(exchange, response)
            live.append(response)
            try:
                yield {"status": response.status_code}  # the answer has begun
                async for piece in _apieces(response):
                    yield piece
            finally:
                await response.aclose()

        exchange = Exchange(asked.params, real)
        pieces = branch.driver.astream(self.edge(asked), branch, (exchange,), {})
        await anext(pieces)
        stream = _astream_class(self.library)(pieces)
        response = self.response(client, request, exchange, stream=stream)
        if live:
            client.cookies.extract_cookies(live[0])
            response.extensions = live[0].extensions
        return response


def _decoded(library: Any, response: Any, raw: bytes) -> bytes:
    """The body without its content encoding."""
    copy = library.Response(response.status_code, headers=response.headers, content=raw)
    return bytes(copy.content)


def _pieces(response: Any) -> Iterator[Any]:
    kind = response.headers.get("content-type", "")
    if not kind.startswith(http.EVENT_STREAM):
        yield http.read_body(b"".join(response.iter_bytes()), kind)
        return
    splitter = http.EventSplitter()
    for data in response.iter_bytes():
        yield from splitter.feed(data)
    yield from splitter.end()


async def _apieces(response: Any) -> AsyncIterator[Any]:
    kind = response.headers.get("content-type", "")
    if not kind.startswith(http.EVENT_STREAM):
        yield http.read_body(b"".join([part async for part in response.aiter_bytes()]), kind)
        return
    splitter = http.EventSplitter()
    async for data in response.aiter_bytes():
        for event in splitter.feed(data):
            yield event
    for event in splitter.end():
        yield event


def _written(piece: Any) -> bytes:
    is_event = isinstance(piece, dict) and ("data" in piece or "comment" in piece or "event" in piece)
    return http.write_event(piece) if is_event else http.write_body(piece)


def _stream_class(library: Any) -> Any:
    class Pieces(library.SyncByteStream):  # type: ignore[misc]  # the library's own base
        """The body of a streamed answer: recorded, or served, piece by piece."""

        def __init__(self, pieces: Any) -> None:
            self._pieces = pieces

        def __iter__(self) -> Iterator[bytes]:
            for piece in self._pieces:
                yield _written(piece)

        def close(self) -> None:
            self._pieces.close()

    return Pieces


def _astream_class(library: Any) -> Any:
    class Pieces(library.AsyncByteStream):  # type: ignore[misc]  # the library's own base
        """The same for asynchronous clients."""

        def __init__(self, pieces: Any) -> None:
            self._pieces = pieces

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in self._pieces:
                yield _written(piece)

        async def aclose(self) -> None:
            await self._pieces.aclose()

    return Pieces
