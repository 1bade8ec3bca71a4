"""aiohttp: every request that a client session sends, one exchange for each, redirects included.

What is wrapped is where a request gets a connection, is sent over it and gets its answer; redirects,
retries and middlewares are above it, and run in a replay as they did. An answer is read to its end before
the program gets it, unless the request asked for a stream. In a replay the library makes its own answer,
from a connection that leads nowhere.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

from isotrace.record.capture import http
from isotrace.record.capture.about import About
from isotrace.record.capture.aiohttp_streams import (
    Connection,
    body_class,
    protocol_class,
    read_body_of,
    reader_class,
    set_body,
)
from isotrace.record.context import Branch, current_branch, no_longer, reset_all, set_all
from isotrace.record.edge import Exchange
from isotrace.record.patches import patch_all

ABOUT = About(
    libraries="aiohttp's client, and with it the SDKs that use it",
    versions="aiohttp 3.10 and newer",
    steps=(
        ("a request to a model's API, told by its path and body", "llm", "read"),
        ("any other GET, HEAD or OPTIONS", "http", "read"),
        ("any other request", "http", "write"),
    ),
    not_captured=(
        "Web sockets.",
        "Cookies of an answer.",
        (
            "An answer as it comes, unless the request asks for a stream (`Accept: text/event-stream`, or "
            '`"stream": true` to a model): it is read to its end first, so one without an end never comes.'
        ),
    ),
)


def install(library: Any) -> list[Callable[[], None]]:
    """Wraps the client of this library; the ways back. Raises `AttributeError` for a version that is
    built otherwise."""
    capture = _Capture(library)
    return patch_all(
        [
            (library.connector.BaseConnector, "connect", capture.connecting),
            (library.client_reqrep.ClientRequest, "send", capture.sending),
            (library.client_reqrep.ClientResponse, "start", capture.starting),
        ]
    )


class Promised:
    """A connection that is not made before the request is sent: a replay makes none."""

    def __init__(self, connector: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.connector = connector
        self.args = args
        self.kwargs = kwargs
        self.params: dict[str, Any] = {}
        self.transport = self.protocol = self

    def set_response_params(self, **params: Any) -> None:
        """What the connection's protocol is told."""
        self.params = params

    def close(self) -> None:
        """There is nothing to close."""


class _Capture:
    """The capture of one aiohttp."""

    def __init__(self, library: Any) -> None:
        self.library = library
        errors = vars(library.client_exceptions).values()
        base: Any = library.client_exceptions.ClientError
        self.raises = tuple(error for error in errors if isinstance(error, type) and issubclass(error, base))
        self.connect_timeout = getattr(library, "ConnectionTimeoutError", library.ServerTimeoutError)
        self.reader = reader_class(library)
        self.protocol = protocol_class(library)
        self.body = body_class(library)
        self.connect: Any = None
        self.send: Any = None
        self.start: Any = None

    def connecting(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        self.connect = plain

        async def connect(connector: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            branch = current_branch.get()
            if branch is None or no_longer(branch) or _is_upgrade(request):
                return await plain(connector, request, *args, **kwargs)
            return Promised(connector, args, kwargs)

        return connect

    def sending(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        self.send = plain

        async def send(request: Any, connection: Any) -> Any:
            if not isinstance(connection, Promised):
                return await plain(request, connection)
            call = _Call(self, request, connection)
            branch = current_branch.get()
            if branch is None or no_longer(branch):
                return await call.really()
            asked = await call.asked()
            return await (call.stream(branch, asked) if asked.streams else call.whole(branch, asked))

        return send

    def starting(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        self.start = plain

        async def start(response: Any, connection: Any) -> Any:
            # The answer to a promised connection has begun when its request has been sent.
            return response if isinstance(connection, Promised) else await plain(response, connection)

        return start


class _Call:
    """One request of a session."""

    def __init__(self, capture: _Capture, request: Any, promised: Promised) -> None:
        self.capture = capture
        self.request = request
        self.promised = promised
        self.live: Any = None
        self.body = b""
        self.broken: BaseException | None = None

    async def asked(self) -> http.Asked:
        """What is asked. Reads the body, which is sent from memory then."""
        request = self.request
        self.body = await read_body_of(self.capture.body, request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        return http.asked(request.method, str(request.url), headers, self.body)

    def _ask_otherwise(self, asked: http.Asked, exchange: Exchange) -> None:
        request = self.request
        otherwise = http.sent_otherwise(asked, exchange, str(request.url), self.body)
        if otherwise is not None:
            url, body = otherwise
            request.url = type(request.url)(url, encoded=True)
            request.headers["Content-Length"] = str(len(body))
            set_body(request, self.capture.library.payload.BytesPayload(body))

    async def really(self) -> Any:
        """Makes the connection, sends the request, and gets the beginning of the answer."""
        capture, request, promised = self.capture, self.request, self.promised
        try:
            connection = await capture.connect(promised.connector, request, *promised.args, **promised.kwargs)
        except TimeoutError as error:  # as the session does
            raise capture.connect_timeout(f"Connection timeout to host {request.url}") from error
        connection.protocol.set_response_params(**promised.params)
        try:
            response = await capture.send(request, connection)
            try:
                await capture.start(response, connection)
            except BaseException:
                response.close()
                raise
        except BaseException:
            connection.close()
            raise
        return response

    async def _begin(self, asked: http.Asked, exchange: Exchange) -> Any:
        self._ask_otherwise(asked, exchange)
        try:
            response = await self.really()
        except OSError as error:
            if error.errno is not None:
                exchange.transport = {"errno": error.errno, "strerror": error.strerror}
            raise
        except self.capture.library.ClientResponseError as error:
            exchange.transport = {"code": error.status, "message": error.message}
            raise
        version = response.version
        http.note(
            exchange,
            response.status,
            response.headers.items(),
            url=str(response.url),
            reason=response.reason,
            version=f"HTTP/{version.major}.{version.minor}" if version else "HTTP/1.1",
        )
        self.live = response
        return response

    # --- whole answers --------------------------------------------------------------------

    async def whole(self, branch: Branch, asked: http.Asked) -> Any:
        parts: list[tuple[bytes, bool]] = []

        async def real(exchange: Exchange) -> Any:
            try:
                # The session's own time-out ends the call, not the program.
                with self.request._timer:
                    await self._read(await self._begin(asked, exchange), parts)
            except Exception as error:
                if self.live is not None and exchange.transport is not None:
                    self.broken = error
                    exchange.transport["begun"] = _joined(parts).decode("latin-1")
                raise
            return http.outcome(asked, exchange, _joined(parts))

        exchange = Exchange(asked.params, real)
        try:
            outcome = await branch.driver.acall(self._edge(asked), branch, (exchange,), {})
        except Exception as error:
            if self.broken is error:
                self.live.content = self._reader(_begun(parts, error))
                return self.live  # the program meets the error when it reads
            if self.live is not None or "status" not in (exchange.transport or ()):
                self._complete(error, exchange)
                raise
            begun = str(http.came(exchange).get("begun", "")).encode("latin-1")
            return await self._served(exchange, self._reader(_begun([(begun, False)], error)))
        if self.live is None:
            data = http.served_body(exchange, outcome)
            return await self._served(exchange, self._filled([(data, False)]))
        self.live.content = self._filled(parts)
        return self.live

    async def _read(self, response: Any, parts: list[tuple[bytes, bool]]) -> None:
        try:
            while True:
                part, ends = await response.content.readchunk()
                if not part and not ends:
                    return
                parts.append((part, ends))
        except asyncio.CancelledError:
            response.close()
            raise

    # --- streams --------------------------------------------------------------------------

    async def stream(self, branch: Branch, asked: http.Asked) -> Any:
        raws: deque[bytes] = deque()

        async def real(exchange: Exchange) -> AsyncIterator[Any]:
            with self.request._timer:
                response = await self._begin(asked, exchange)
            source = response.content
            yield {"status": response.status}  # the answer has begun
            async with aclosing(http.apieces(source.iter_any(), http.kind_of(exchange))) as found:
                async for piece, raw in found:
                    raws.append(raw)
                    yield piece

        exchange = Exchange(asked.params, real)
        pieces = branch.driver.astream(self._edge(asked), branch, (exchange,), {})
        try:
            await anext(pieces)
        except Exception as error:
            self._complete(error, exchange)
            raise
        write = http.writer(exchange, raws, live=self.live is not None)
        if self.live is None:
            return await self._served(exchange, self._reader(pieces, write))
        self.live.content = self._reader(pieces, write)
        return self.live

    # --- both -----------------------------------------------------------------------------

    def _edge(self, asked: http.Asked) -> Any:
        capture = self.capture
        return http.edge_of(capture.library.__name__, asked, ("acall", "astream"), capture.raises)

    def _reader(self, pieces: AsyncIterator[Any], write: Callable[[Any], bytes] | None = None) -> Any:
        protocol = self.capture.protocol(self.request.loop)
        limit = self.promised.params.get("read_bufsize", 2**16)
        return self.capture.reader(protocol, limit, pieces, write)

    def _filled(self, parts: list[tuple[bytes, bool]]) -> Any:
        """A reader that has all of a body."""
        reader = self._reader(_begun([], None))
        if any(ends for _, ends in parts):
            reader.begin_http_chunk_receiving()
        for part, ends in parts:
            reader.feed_data(part)
            if ends:
                reader.end_http_chunk_receiving()
        reader.feed_eof()
        return reader

    async def _served(self, exchange: Exchange, reader: Any) -> Any:
        """The library's own answer, from a connection that leads nowhere."""
        capture, request = self.capture, self.request
        transport = http.came(exchange)
        major, _, minor = str(transport.get("version", "HTTP/1.1"))[5:].partition(".")
        multidict: Any = sys.modules["multidict"]
        pairs = [(str(name), str(value)) for name, value in transport["headers"]]
        message = SimpleNamespace(
            code=transport["status"],
            reason=http.reason_of(transport),
            version=capture.library.HttpVersion(int(major or 1), int(minor or 0)),
            headers=multidict.CIMultiDictProxy(multidict.CIMultiDict(pairs)),
            raw_headers=tuple((name.encode(), value.encode()) for name, value in pairs),
        )
        connection = Connection(self.promised.connector, capture.protocol(request.loop, (message, reader)))
        # The body's writer is a task of the library, no branch of the program.
        tokens = set_all([(current_branch, None)])
        try:
            response = await capture.send(request, connection)
            return await capture.start(response, connection)
        finally:
            reset_all(tokens)

    def _complete(self, error: Exception, exchange: Exchange) -> None:
        """A served error has its message alone: the library's own says what it was about too."""
        errors, request = self.capture.library.client_exceptions, self.request
        if self.live is not None or "_conn_key" in vars(error) or "request_info" in vars(error):
            return
        if isinstance(error, errors.ClientConnectorError | errors.ClientConnectorCertificateError):
            said = exchange.transport or {}
            problem = OSError(said.get("errno"), said.get("strerror"))
            named: dict[str, Any] = {
                "_conn_key": request.connection_key,
                "_path": getattr(self.promised.connector, "_path", ""),
                "_os_error": problem,
                "_certificate_error": problem,
            }
            for name, value in named.items():
                setattr(error, name, value)
            if isinstance(error, OSError):
                error.errno, error.strerror = problem.errno, problem.strerror
            error.args = (request.connection_key, problem)
        elif isinstance(error, errors.ClientResponseError):
            error.request_info, error.history = request.request_info, ()
            said = exchange.transport or {}
            error.status, error.message, error.headers = said.get("code", 0), said.get("message", ""), None
            error.args = (request.request_info, ())


def _is_upgrade(request: Any) -> bool:
    return "upgrade" in request.headers


def _joined(parts: list[tuple[bytes, bool]]) -> bytes:
    return b"".join(part for part, _ in parts)


async def _begun(parts: list[tuple[bytes, bool]], error: BaseException | None) -> AsyncIterator[bytes]:
    """What came of a body before it broke off."""
    for part, _ in parts:
        yield part
    if error is not None:
        raise error
