"""The `mcp` SDK: every request that a client session sends is an exchange, whatever its transport.

A call of a tool is a step of kind `tool` with the tool's name; any other request is one of kind `mcp` with
its method's name. What is recorded is the server's answer as it came, and the SDK makes its own typed
result of it, live and served alike. An error that the server answers with, or that the session makes of a
time-out, is an answer too: it is recorded as one and raised again.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import wraps
from types import ModuleType
from typing import Any, Final
from weakref import WeakKeyDictionary

from isotrace.record.capture.about import About
from isotrace.record.capture.mcp_connections import (
    Connection,
    connection_of,
    library_errors,
    memory_streams,
    opening,
    outside_of_the_run,
    replace_generator,
    serving,
)
from isotrace.record.context import Branch, calling_branch, live_branch
from isotrace.record.edge import Exchange, edge
from isotrace.record.patches import patch
from isotrace.record.spec import Effect

ABOUT = About(
    libraries="mcp, the Python SDK of the Model Context Protocol, and with it the frameworks that use it",
    versions="mcp 1.9 and newer, 2.0 and newer",
    steps=(
        ("tools/call of a tool that is listed as read-only", "tool", "read"),
        ("tools/call of a tool that is listed as idempotent", "tool", "idempotent_write"),
        ("tools/call of any other tool", "tool", "write"),
        (
            "initialize, server/discover, ping, tools/list, resources/*, prompts/*, completion/*",
            "mcp",
            "read",
        ),
        ("any other request of a client session", "mcp", "write"),
        ("opening a transport: stdio, streamable HTTP, SSE, web socket", "mcp", "read"),
    ),
    not_captured=(
        "Notifications, but for the progress of a call: in a replay none is sent, and none arrives.",
        "Skills that a callback for progress calls: a replay tells the callback again, and refuses those.",
        "What a callback does that the server calls during a request (sampling, elicitation, roots).",
        "Subscriptions (subscriptions/listen): in a replay no event arrives.",
        "The session id of streamable HTTP: none in a replay.",
        "What happens on a connection between requests: a process that ends, a connection that breaks.",
    ),
)

_READS: Final = frozenset({"initialize", "server/discover", "ping", "logging/setLevel", "tools/list"})
_READ_GROUPS: Final = ("resources/", "prompts/", "completion/", "subscriptions/")
_HANDSHAKES: Final = frozenset({"initialize", "server/discover"})


def install(module: ModuleType) -> list[Callable[[], None]]:
    """Wraps what this module of the SDK has; the ways back. Raises `AttributeError` for a version that is
    built otherwise."""
    done: list[Callable[[], None]] = []
    try:
        _INSTALL[module.__name__](module, done)
    except BaseException:
        for undo in reversed(done):
            undo()
        raise
    return done


def _install_sessions(module: Any, done: list[Callable[[], None]]) -> None:
    capture = _Sessions(module)
    wraps = {
        "__aenter__": _quiet,
        "__aexit__": _quiet,
        "send_notification": capture.notifying,
        **capture.asking(),
    }
    for name, wrap in wraps.items():
        done.append(patch(module.ClientSession, name, wrap))
    _capturing.append(capture)
    done.append(lambda: _capturing.remove(capture))


def _installs_transport(transport: str, *names: str, extra: int = 0) -> Callable[..., None]:
    def install_transport(module: Any, done: list[Callable[[], None]]) -> None:
        found = [getattr(module, name) for name in names if hasattr(module, name)]
        if not found:
            raise AttributeError(f"{module.__name__} has no {' or '.join(names)}")
        for function in found:
            # Version 2 gives two streams, the first one a function for the session's id as well.
            behind = 0 if _is_second_version() else extra
            done.append(replace_generator(function, opening(transport, _is_capturing, behind)))

    return install_transport


def _install_memory(module: Any, done: list[Callable[[], None]]) -> None:
    done.append(replace_generator(module.create_client_server_memory_streams, memory_streams))


def _install_server(module: Any, done: list[Callable[[], None]]) -> None:
    done.append(patch(module.Server, "run", serving))


_INSTALL: Final[dict[str, Callable[[Any, list[Callable[[], None]]], None]]] = {
    "mcp.client.session": _install_sessions,
    "mcp.client.stdio": _installs_transport("stdio", "stdio_client"),
    "mcp.client.sse": _installs_transport("sse", "sse_client"),
    "mcp.client.streamable_http": _installs_transport(
        "streamable_http", "streamable_http_client", "streamablehttp_client", extra=1
    ),
    "mcp.client.websocket": _installs_transport("websocket", "websocket_client"),
    "mcp.shared.memory": _install_memory,
    "mcp.server.lowlevel.server": _install_server,
}

_capturing: list[_Sessions] = []


def _is_capturing() -> bool:
    """Whether sessions are captured: the way they are sent is known in this version."""
    return bool(_capturing)


def _is_second_version() -> bool:
    return hasattr(sys.modules.get("mcp.shared.exceptions"), "MCPError")


def _quiet(plain: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """A session's own tasks are none of the agent's."""

    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        with outside_of_the_run():
            return await plain(self, *args, **kwargs)

    return method


# --- sessions -----------------------------------------------------------------------------


class _Session:
    """What is known of one session. `handshake` makes the handshake that a replay has served, until it
    was made; `held` are notifications that nobody was there for."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.handshake: Callable[[], Awaitable[Any]] | None = None
        self.held: list[Callable[[], Awaitable[Any]]] = []


class _Servers:
    """The servers that one run asks: each has a name that no other has, and tools with known effects."""

    def __init__(self) -> None:
        self._targets: dict[str, list[Any]] = {}
        self._effects: dict[tuple[str, str], Effect] = {}

    def label(self, session: _Session, connection: Connection | None) -> str:
        """A server by its own name; numbered where another one has that name too."""
        name = session.name or (connection.title if connection else "") or "mcp"
        target = connection.target if connection else None
        targets = self._targets.setdefault(name, [])
        if target not in targets:
            targets.append(target)
        number = targets.index(target)
        return f"{name}#{number + 1}" if number else name

    def learn(self, server: str, answer: Mapping[str, Any]) -> None:
        """What a list of tools says of them."""
        for tool in answer.get("tools") or ():
            hints = tool.get("annotations") or {}
            effect: Effect = "idempotent_write" if hints.get("idempotentHint") is True else "write"
            self._effects[server, tool["name"]] = "read" if hints.get("readOnlyHint") is True else effect

    def effect(self, server: str, method: str, tool: str | None) -> Effect:
        if tool is not None:
            return self._effects.get((server, tool), "write")
        return "read" if method in _READS or method.startswith(_READ_GROUPS) else "write"


class _Sessions:
    """The client sessions of one version of the SDK."""

    def __init__(self, module: Any) -> None:
        errors: Any = sys.modules["mcp.shared.exceptions"]
        self.second = _is_second_version()
        self.error: Any = errors.MCPError if self.second else errors.McpError
        self.error_data: Any = module.types.ErrorData
        self._sessions: WeakKeyDictionary[Any, _Session] = WeakKeyDictionary()
        self._servers: WeakKeyDictionary[Any, _Servers] = WeakKeyDictionary()
        if not hasattr(module.ClientSession, "send_request"):
            raise AttributeError("ClientSession has no send_request")

    def asking(self) -> dict[str, Callable[[Any], Any]]:
        """The methods by which requests are sent, and what wraps them."""
        return {"__init__": self._initializing} if self.second else {"send_request": self._sending}

    def known(self, session: Any) -> _Session:
        return self._sessions.setdefault(session, _Session())

    def connection(self, session: Any) -> Connection | None:
        holder = getattr(session, "_dispatcher", session)
        return connection_of(getattr(holder, "_read_stream", None))

    # --- where requests pass --------------------------------------------------------------

    def _initializing(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """Version 2: all requests go through the session's dispatcher, which gives and takes plain JSON."""

        @wraps(plain)
        def initialize(session: Any, *args: Any, **kwargs: Any) -> None:
            plain(session, *args, **kwargs)
            session._dispatcher = _Dispatcher(self, session, session._dispatcher)

        return initialize

    def _sending(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """Version 1: a request is sent, and its answer made a typed result, by one method."""

        async def send_request(
            session: Any, request: Any, result_type: Any, *args: Any, **kwargs: Any
        ) -> Any:
            branch = live_branch()
            if branch is None:
                return await plain(session, request, result_type, *args, **kwargs)
            asked = request.model_dump(by_alias=True, mode="json", exclude_none=True)

            async def ask(on_progress: Any) -> Any:
                more = {**kwargs, "progress_callback": on_progress} if on_progress else kwargs
                return await plain(session, request, _AsItCame, *args, **more)

            progress = kwargs.get("progress_callback")
            answer = await self.ask(branch, session, asked["method"], asked.get("params"), ask, progress)
            return result_type.model_validate(answer)

        return send_request

    def notifying(self, plain: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def send_notification(session: Any, *args: Any, **kwargs: Any) -> Any:
            async def notify() -> Any:
                with outside_of_the_run():
                    return await plain(session, *args, **kwargs)

            known, connection = self.known(session), self.connection(session)
            nobody = connection is not None and not connection.opened
            if live_branch() is not None and (nobody or known.handshake is not None):
                known.held.append(notify)
                return None
            return await notify()

        return send_notification

    # --- one request ----------------------------------------------------------------------

    async def ask(
        self,
        branch: Branch,
        session: Any,
        method: str,
        params: Mapping[str, Any] | None,
        ask: Callable[[Any], Awaitable[Any]],
        on_progress: Any,
    ) -> Any:
        """One step: `ask` sends the request, and gets what to call on progress. Gives the answer as JSON."""
        known, connection = self.known(session), self.connection(session)
        servers = self._servers.setdefault(branch.driver, _Servers())
        server = None if method in _HANDSHAKES else servers.label(known, connection)
        raised: list[BaseException] = []
        executed = False

        async def real(exchange: Exchange) -> Any:
            nonlocal executed
            executed = True
            if method in _HANDSHAKES:
                known.handshake = None
            await self._connect(known, connection)
            heard: list[list[Any]] = []
            try:
                answer = await ask(_hearing(on_progress, heard))
            except self.error as error:
                raised.append(error)
                exchange.failure = _failure(error.error.code)
                data = error.error.model_dump(by_alias=True, mode="json", exclude_none=True)
                exchange.transport = {"error": True}
                answer = {"error": data}
            else:
                if method == "tools/call" and answer.get("isError") is True:
                    exchange.failure = ("PERMANENT", "tool_error")
                    exchange.transport = {}
            if heard:
                exchange.transport = {**(exchange.transport or {}), "progress": heard}
            return answer

        tool, asked = _asked(method, params or {}, server)
        effect = servers.effect(server or "", method, tool)
        kind = "mcp" if tool is None else "tool"
        spec = edge("mcp", tool or method, kind, effect, "acall", library_errors())
        exchange = Exchange(asked, real)
        answer = await branch.driver.acall(spec, branch, (exchange,), {})
        if not executed:
            if method in _HANDSHAKES:
                known.handshake = lambda: ask(None)
            await _hear_again(on_progress, exchange)
        if raised:
            raise raised[0]
        if (exchange.transport or {}).get("error"):
            raise self._error(answer["error"])
        if method in _HANDSHAKES:
            known.name = _name(answer) or known.name
            servers.label(known, connection)  # numbered in the order in which they are met
        elif method == "tools/list":
            servers.learn(server or "", answer)
        return answer

    async def _connect(self, known: _Session, connection: Connection | None) -> None:
        """A request is executed: makes the connection and the handshake, where a replay has served them."""
        if connection is not None:
            await connection.open()
        if known.handshake is not None:
            handshake, known.handshake = known.handshake, None
            await handshake()
        while known.held:
            await known.held.pop(0)()

    def _error(self, data: Mapping[str, Any]) -> BaseException:
        error = self.error_data.model_validate(data)
        made = self.error.from_error_data(error) if self.second else self.error(error)
        assert isinstance(made, BaseException)
        return made


class _Dispatcher:
    """A session's dispatcher, whose requests are exchanges."""

    def __init__(self, capture: _Sessions, session: Any, plain: Any) -> None:
        self._capture = capture
        self._session = session
        self._plain = plain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: Any = None, **more: Any
    ) -> Any:
        branch = calling_branch()
        if branch is None or not _capturing:
            return await self._plain.send_raw_request(method, params, opts, **more)

        async def ask(on_progress: Any) -> Any:
            said = {**(opts or {}), "on_progress": on_progress} if on_progress else opts
            return await self._plain.send_raw_request(method, params, said, **more)

        progress = (opts or {}).get("on_progress")
        return await self._capture.ask(branch, self._session, method, params, ask, progress)


class _AsItCame:
    """Stands for the type of a result: the answer is left as it is."""

    @staticmethod
    def model_validate(answer: Any) -> Any:
        return answer


def _asked(method: str, params: Mapping[str, Any], server: str | None) -> tuple[str | None, dict[str, Any]]:
    """The tool that is called, if one is, and the step's params: the tool's arguments, or what the request
    says; and which server is asked, in a name that no argument has."""
    said = {name: value for name, value in params.items() if name != "_meta"}
    tool = None
    if method == "tools/call":
        tool, arguments = _text(said.pop("name", "")), said.pop("arguments", None)
        more = {f"mcp.{name}": value for name, value in said.items()}
        said = {**(arguments if isinstance(arguments, dict) else {}), **more}
    if server is not None:
        said["mcp.server"] = server
    return tool or None, said


def _text(name: Any) -> str:
    return str(name).encode(errors="backslashreplace").decode()


def _name(answer: Mapping[str, Any]) -> str | None:
    """What a server calls itself in its answer to a handshake."""
    meta = answer.get("_meta") or {}
    info = answer.get("serverInfo") or meta.get("io.modelcontextprotocol/serverInfo")
    name = info.get("name") if isinstance(info, dict) else None
    return _text(name) if name else None


def _failure(code: int) -> tuple[str, str]:
    """Category and code of a JSON-RPC error (JSON-RPC 2.0, section 5.1, and what the protocol adds)."""
    if code == 408 or -32099 <= code <= -32000:
        return "TRANSIENT", str(code)
    if code in (-32700, -32600, -32602):
        return "VALIDATION", str(code)
    return ("CANCELLED" if code == -32800 else "PERMANENT"), str(code)


def _hearing(on_progress: Any, heard: list[list[Any]]) -> Any:
    """What is called on progress: it writes down what was said, and tells the program."""
    if on_progress is None:
        return None

    async def progressed(*said: Any) -> None:
        heard.append(list(said))
        await on_progress(*said)

    return progressed


async def _hear_again(on_progress: Any, exchange: Exchange) -> None:
    if on_progress is None:
        return
    with outside_of_the_run():
        for said in (exchange.transport or {}).get("progress", ()):
            with suppress(Exception):  # as the session does with what a callback raises
                await on_progress(*said)
