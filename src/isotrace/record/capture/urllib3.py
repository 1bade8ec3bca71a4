"""urllib3, and with it requests, botocore and many SDKs: every request that a pool sends, one exchange
for each.

What is wrapped is where a pool has a connection and makes one request with it; retries and redirects,
its own and those of requests and botocore, are above it, and run in a replay as they did. An answer is
read to its end before the program gets it, unless the request or the program (`stream=True` of requests,
`preload_content=False` of a pool) asked for a stream: what the program gets is urllib3's own answer, which
reads the same bytes again.
"""

from __future__ import annotations

import http.client
import inspect
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakSet

from isotrace.record.capture import http as exchanges
from isotrace.record.capture.about import About
from isotrace.record.capture.sent import SentFile, read_sent
from isotrace.record.capture.splitters import splitter_of
from isotrace.record.capture.wire import PiecesFile, parts_of, raw_parts_of, twin_of
from isotrace.record.context import Branch, current_branch, no_longer
from isotrace.record.edge import Exchange
from isotrace.record.patches import patch_all

ABOUT = About(
    libraries="urllib3, and with it requests, boto3 and every SDK that uses one of them",
    versions="urllib3 2.0 and newer",
    steps=(
        ("a request to a model's API, told by its path and body", "llm", "read"),
        ("any other GET, HEAD or OPTIONS", "http", "read"),
        ("any other request", "http", "write"),
    ),
    not_captured=(
        "Cookies of an answer.",
        (
            "An answer of S3 and other services of AWS as it comes, events of a model aside: botocore's are "
            "read to their end first."
        ),
        "urllib3 1.x, and copies of urllib3 inside other packages (pip's).",
    ),
)

_OPTIONS: Final = ("body", "headers", "retries", "timeout", "chunked", "response_conn", "preload_content")
_PORTS: Final = {"http": 80, "https": 443}


def install(library: Any) -> list[Callable[[], None]]:
    """Wraps the pools of this library, or what requests and botocore send with; the ways back. Raises
    `AttributeError` or `TypeError` for a version that is built otherwise."""
    if library.__name__ == "requests.adapters":
        return patch_all([(library.HTTPAdapter, "send", _wrap_adapter)])
    if library.__name__ == "botocore.httpsession":
        return patch_all([(library.URLLib3Session, "send", _wrap_botocore)])
    pools = library.connectionpool
    taken = tuple(inspect.signature(pools.HTTPConnectionPool._make_request).parameters)
    if taken[: 4 + len(_OPTIONS)] != ("self", "conn", "method", "url", *_OPTIONS):
        raise TypeError("its pools make a request otherwise")
    capture = _Capture(library)
    return patch_all(
        [
            (pools.HTTPConnectionPool, "_make_request", capture.wrap),
            (pools.HTTPSConnectionPool, "_prepare_proxy", capture.wrap_proxy),
        ]
    )


_as_stream: ContextVar[bool | None] = ContextVar("isotrace_urllib3_as_stream", default=None)
"""Whether the program reads the answer of the request under way as it comes, None where nobody says so
but the call of the pool itself: requests and botocore always have a pool read nothing ahead."""


def _wrap_adapter(plain: Callable[..., Any]) -> Callable[..., Any]:
    def send(adapter: Any, request: Any, stream: bool = False, *args: Any, **options: Any) -> Any:
        token = _as_stream.set(bool(stream))
        try:
            return plain(adapter, request, stream, *args, **options)
        finally:
            _as_stream.reset(token)

    return send


def _wrap_botocore(plain: Callable[..., Any]) -> Callable[..., Any]:
    def send(session: Any, request: Any) -> Any:
        token = _as_stream.set(False)
        try:
            return plain(session, request)
        finally:
            _as_stream.reset(token)

    return send


class _Capture:
    """The capture of one urllib3."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.response_class: Any = library.response.HTTPResponse
        self.response_takes = set(inspect.signature(self.response_class.__init__).parameters)
        bases = (library.exceptions.HTTPError, http.client.HTTPException)
        found = [*vars(http.client).values(), *vars(library.exceptions).values()]
        errors = [error for error in found if isinstance(error, type) and issubclass(error, bases)]
        # Its `TimeoutError` is never raised itself; the builtin is.
        self.raises = tuple(
            dict.fromkeys(error for error in errors if error is not library.exceptions.TimeoutError)
        )
        self.unprepared: WeakSet[Any] = WeakSet()

    def wrap_proxy(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """A tunnel through a proxy is dug as part of the request that needs it."""
        self.dig = plain

        def _prepare_proxy(pool: Any, conn: Any) -> None:
            branch = current_branch.get()
            if branch is None or no_longer(branch):
                plain(pool, conn)
            else:
                self.unprepared.add(conn)

        return _prepare_proxy

    def wrap(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def _make_request(pool: Any, conn: Any, method: str, url: str, *args: Any, **options: Any) -> Any:
            options.update(zip(_OPTIONS, args, strict=False))
            call = _Call(self, plain, pool, conn, method, url, options)
            branch = current_branch.get()
            if branch is None or no_longer(branch):
                return call.send()
            asked = call.asked()
            return call.stream(branch, asked) if asked.streams else call.whole(branch, asked)

        return _make_request


class _Call:
    """One request of a pool."""

    def __init__(
        self,
        capture: _Capture,
        plain: Callable[..., Any],
        pool: Any,
        conn: Any,
        method: str,
        url: str,
        options: dict[str, Any],
    ) -> None:
        self.capture = capture
        self.plain = plain
        self.pool = pool
        self.conn = conn
        self.method = method
        self.url = url
        self.options = options
        self.live: Any = None
        self.body = b""
        self.sent = False
        self.broken: BaseException | None = None

    def asked(self) -> exchanges.Asked:
        """What is asked. Reads the body, which is sent from memory then."""
        self.body, self.options["body"] = read_sent(
            self.options.get("body"), getattr(self.conn, "blocksize", None) or 16384
        )
        headers = {
            _text(name).lower(): _text(value) for name, value in (self.options.get("headers") or {}).items()
        }
        return exchanges.asked(
            self.method, self._address(), headers, self.body, as_stream=self._read_as_it_comes()
        )

    def _read_as_it_comes(self) -> bool:
        if "http2" in type(self.conn).__module__:
            return False  # such an answer is read whole by the library itself
        said = _as_stream.get()
        return said if said is not None else not self.options.get("preload_content", True)

    def _address(self) -> str:
        if not self.url.startswith("/"):
            return self.url
        pool = self.pool
        host = f"[{pool.host}]" if ":" in pool.host else pool.host
        port = "" if pool.port in (None, _PORTS.get(pool.scheme)) else f":{pool.port}"
        return f"{pool.scheme}://{host}{port}{self.url}"

    def send(self, **options: Any) -> Any:
        """Makes the request."""
        self.sent = True
        if self.conn in self.capture.unprepared:
            self.capture.unprepared.discard(self.conn)
            self._dig()
        return self.plain(self.pool, self.conn, self.method, self.url, **{**self.options, **options})

    def _dig(self) -> None:
        pool = self.pool
        try:
            self.capture.dig(pool, self.conn)
        except OSError as error:  # as the pool does
            pool._raise_timeout(err=error, url=pool.proxy.url, timeout_value=self.conn.timeout)
            raise

    # --- whole answers --------------------------------------------------------------------

    def whole(self, branch: Branch, asked: exchanges.Asked) -> Any:
        exchange = Exchange(asked.params, lambda exchange: self._read(asked, exchange))
        try:
            outcome = branch.driver.call(self._edge(asked), branch, (exchange,), {})
        except self.capture.raises as error:
            if self.broken is error:
                return self._given(self.live)  # the program meets the error when it reads
            self._completed(error)
            if exchange.transport is None or self.live is not None:
                raise
            begun = str(exchange.transport.get("begun", "")).encode("latin-1")
            return self._given(self._served(exchange, _begun(begun, error)))
        except OSError as error:
            self._completed(error)
            raise
        if self.live is not None:
            return self._given(self.live)
        return self._given(self._served(exchange, iter([exchanges.served_body(exchange, outcome)])))

    def _read(self, asked: exchanges.Asked, exchange: Exchange) -> Any:
        """Makes the request and reads the answer, which can be read again. An answer that breaks off is
        the step's failure, and the program's when it reads that far."""
        response = self._begin(asked, exchange)
        parts: list[bytes] = []
        if not hasattr(getattr(response, "_fp", None), "fp"):
            parts.append(response.data or b"")
        else:
            source, again = twin_of(self.capture.response_class, response, self.method)
            try:
                parts.extend(parts_of(source))
            except self.capture.raises as error:
                assert exchange.transport is not None
                exchange.transport["begun"] = b"".join(parts).decode("latin-1")
                self.broken = error
                raise
            finally:
                again()
        return exchanges.outcome(asked, exchange, b"".join(parts))

    def _begin(self, asked: exchanges.Asked, exchange: Exchange) -> Any:
        self._ask_otherwise(asked, exchange)
        response = self.send(preload_content=False)
        exchanges.note(
            exchange,
            response.status,
            response.headers.items(),
            url=self._address(),
            reason=response.reason,
            version=f"HTTP/{response.version // 10}.{response.version % 10}",
        )
        if asked.in_parts and not response.chunked:
            # It is cut as the program reads it, not as it came.
            assert exchange.transport is not None
            exchange.transport["unchunked"] = True
        self.live = response
        return response

    def _ask_otherwise(self, asked: exchanges.Asked, exchange: Exchange) -> None:
        otherwise = exchanges.sent_otherwise(asked, exchange, self._address(), self.body)
        if otherwise is None:
            return
        url, self.options["body"] = otherwise
        parts = urlsplit(url)
        self.url = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = self.options.get("headers") or {}
        self.options["headers"] = {
            name: value for name, value in headers.items() if _text(name).lower() != "content-length"
        }

    # --- streams --------------------------------------------------------------------------

    def stream(self, branch: Branch, asked: exchanges.Asked) -> Any:
        raws: deque[bytes] = deque()
        exchange = Exchange(asked.params, lambda exchange: self._pieces(asked, exchange, raws))
        exchange.or_whole = asked.in_parts
        pieces = branch.driver.stream(self._edge(asked), branch, (exchange,), {})
        try:
            next(pieces)
        except (OSError, *self.capture.raises) as error:
            self._completed(error)
            raise
        write = exchanges.writer(exchange, raws, live=self.live is not None)
        if self.live is None:
            return self._given(self._served(exchange, pieces, write))
        response = self.live
        original = response._original_response
        if exchanges.comes_in_parts(asked, exchange):
            response._fp = PiecesFile(
                pieces, write, self.method, chunked=response.chunked, done=original.close
            )
            return self._given(response)
        response._fp = PiecesFile(pieces, write, self.method, done=original.close)
        # The pieces have no encoding and no length any more, and come one by one.
        response._decoder, response._decoder_initialized = None, True
        response.length_remaining = None
        response.chunked, response.chunk_left = True, None
        return self._given(response)

    def _pieces(self, asked: exchanges.Asked, exchange: Exchange, raws: deque[bytes]) -> Iterator[Any]:
        response = self._begin(asked, exchange)
        source, _ = twin_of(self.capture.response_class, response, self.method, tee=False)
        try:
            yield {"status": response.status}  # the answer has begun
            for piece, raw in self._cut(asked, exchange, source):
                raws.append(raw)
                yield piece
        finally:
            source.close()

    def _cut(self, asked: exchanges.Asked, exchange: Exchange, source: Any) -> Iterator[tuple[Any, bytes]]:
        kind = exchanges.kind_of(exchange)
        if not exchanges.comes_in_parts(asked, exchange):
            yield from exchanges.pieces(parts_of(source), kind)
            return
        source._init_decoder()
        found = source._decoder
        decoder = (
            exchanges.Decoder(bytes, bytes, kind)
            if found is None
            else exchanges.Decoder(found.decompress, found.flush, kind)
        )
        for raw in raw_parts_of(source):
            yield decoder.part(raw)
        yield from decoder.end()

    # --- both -----------------------------------------------------------------------------

    def _edge(self, asked: exchanges.Asked) -> Any:
        capture = self.capture
        return exchanges.edge_of(capture.library.__name__, asked, ("call", "stream"), capture.raises)

    def _served(
        self, exchange: Exchange, pieces: Iterator[Any], write: Callable[[Any], bytes] | None = None
    ) -> Any:
        """The library's own answer, as the pool would have made it."""
        transport = exchanges.came(exchange)
        major, _, minor = str(transport.get("version", "HTTP/1.1"))[5:].partition(".")
        options = self.options
        unchunked = exchange.whole or bool(transport.get("unchunked"))
        chunked = write is not None and not (unchunked and splitter_of(exchanges.kind_of(exchange)) is None)
        file = PiecesFile(pieces, write, self.method, chunked=chunked)
        said = {
            "body": file,
            "headers": [(name, value) for name, value in transport["headers"]],
            "status": transport["status"],
            "version": int(major or 1) * 10 + int(minor or 0),
            "version_string": transport.get("version", "HTTP/1.1"),
            "reason": exchanges.reason_of(transport),
            "preload_content": False,
            "decode_content": options.get("decode_content", True),
            "original_response": file,
            "pool": self.pool,
            "connection": options.get("response_conn"),
            "retries": options.get("retries"),
            "request_method": self.method,
            "request_url": self.url,
        }
        takes = self.capture.response_takes
        response = self.capture.response_class(
            **{name: value for name, value in said.items() if name in takes}
        )
        response.chunked = chunked
        return response

    def _given(self, response: Any) -> Any:
        """The answer as the program wants it: read already, if it said so."""
        if self.options.get("preload_content", True):
            # Nothing gives the connection back while the pool itself reads.
            connection, response._connection = response._connection, None
            response._body = response.read(decode_content=self.options.get("decode_content", True))
            response._connection = connection
        return response

    def _completed(self, error: BaseException) -> None:
        """A served error has its message alone: the library's own has the pool, the address or the
        connection too. A file that was not sent is where it was."""
        errors = self.capture.library.exceptions
        body = self.options.get("body")
        if self.sent:
            unread = isinstance(body, SentFile) and body.untouched
        else:
            unread = isinstance(error, errors.ConnectTimeoutError | errors.ProxyError)
            for name, value in (("pool", self.pool), ("url", self.url), ("conn", self.conn)):
                if name in _KEEPS.get(_base(error), ()) and name not in vars(error):
                    setattr(error, name, value)
        if unread and isinstance(body, SentFile):
            body.not_sent()


_KEEPS: Final = {"NewConnectionError": ("conn",), "RequestError": ("pool", "url"), "PoolError": ("pool",)}


def _base(error: BaseException) -> str:
    """Which of the library's bases that keep something this error has."""
    return next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _KEEPS), "")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _begun(data: bytes, error: BaseException) -> Iterator[bytes]:
    """What came of a body before it broke off."""
    yield data
    raise error
