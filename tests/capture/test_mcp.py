"""Sessions of the `mcp` SDK with real servers: recorded, and replayed when the server is gone."""

from __future__ import annotations

import asyncio
import importlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import mcp
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.shared import exceptions
from mcp.shared.memory import create_client_server_memory_streams

from isotrace.record import skill
from isotrace.record.context import Step, enter_body, leave_body
from isotrace.record.runs import run_of
from isotrace.replay.player import Player
from isotrace.replay.recorded import RecordedRun

if TYPE_CHECKING:
    from tests.record.lab import Lab, Taken

SECOND = hasattr(mcp, "Client")
McpError: Any = exceptions.MCPError if SECOND else exceptions.McpError  # type: ignore[attr-defined]  # one of both
SERVER = Path(__file__).parent / "mcp_server.py"

_http = importlib.import_module("mcp.client.streamable_http")
http_client: Any = getattr(_http, "streamable_http_client", None) or _http.streamablehttp_client

pytestmark = pytest.mark.usefixtures("captured")


class Shop:
    """A server over one transport, in a process that can be taken away."""

    def __init__(self, folder: Path, transport: str, name: str = "shop") -> None:
        self.script = folder / "server.py"
        self.script.write_text(SERVER.read_text())
        self.log = folder / f"{name}.log"
        self.log.touch()
        self.transport, self.name = transport, name
        self.process: subprocess.Popen[bytes] | None = None
        if transport != "stdio":
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            arguments = [str(self.script), transport, name, str(self.log), str(self.port)]
            self.process = subprocess.Popen([sys.executable, *arguments])
            self._wait()

    def _wait(self) -> None:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the server does not answer")

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines()

    def open(self) -> Any:
        """The transport, as a program opens it."""
        if self.transport == "stdio":
            arguments = [str(self.script), "stdio", self.name, str(self.log)]
            return stdio_client(StdioServerParameters(command=sys.executable, args=arguments))
        if self.transport == "sse":
            return sse_client(f"http://127.0.0.1:{self.port}/sse")
        return http_client(f"http://127.0.0.1:{self.port}/mcp")

    def stop(self) -> None:
        self.script.unlink(missing_ok=True)
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(params=["stdio", "streamable-http", "sse"])
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shop]:
    shop = Shop(tmp_path, request.param)
    yield shop
    shop.stop()


@pytest.fixture
def stdio(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path, "stdio")
    yield shop
    shop.stop()


@asynccontextmanager
async def session_with(shop: Shop, **options: Any) -> AsyncIterator[Any]:
    async with shop.open() as (read, write, *_), ClientSession(read, write, **options) as session:
        await session.initialize()
        yield session


def assert_replays_alone(lab: Lab, shop: Shop, agent: Callable[..., Any]) -> Taken:
    """Records an agent, takes the server away, and replays it: the same value, no process, no connection."""
    taken = lab.record(agent)
    assert taken.error is None
    assert taken.grade == "replayable"
    asked = shop.asked
    assert asked, "the server was asked while recording"
    shop.stop()
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.divergences, result.error) == ("MATCH", [], None)
    assert result.value == taken.value
    assert shop.asked == asked
    assert (result.receipt.blocked, result.receipt.served) == (0, len(taken.steps))
    return taken


def shown(taken: Taken) -> list[tuple[Any, ...]]:
    """Kind, effect, name, status and code of each step."""
    steps = [(step, step.context) for step in taken.record.steps]
    return [
        (context.kind, context.effect, step.skill_name, step.status.value, step.outcome_code)
        for step, context in steps
        if context
    ]


# --- one session --------------------------------------------------------------------------


def test_every_request_is_a_step_and_comes_back_typed(lab: Lab, shop: Shop) -> None:
    async def agent() -> list[Any]:
        heard: list[Any] = []

        async def on_progress(*said: Any) -> None:
            heard.append(said)

        async with session_with(shop) as session:
            results = [
                await session.list_tools(),
                await session.call_tool("price", {"item": "ham"}),
                await session.call_tool("reserve", {"item": "ham"}),
                await session.call_tool("order", {"item": "ham", "count": 3}, progress_callback=on_progress),
                await session.call_tool("broken"),
                await session.list_resources(),
                await session.read_resource("shop://hours"),
                await session.get_prompt("greet", {"who": "Ann"}),
            ]
            with pytest.raises(McpError) as raised:
                await session.get_prompt("none")
            error = raised.value.error
        return [results, (error.code, error.message, error.data), heard]

    taken = assert_replays_alone(lab, shop, agent)
    code = str(taken.value[1][0])
    assert shown(taken) == [
        ("mcp", "read", "connect", "success", None),
        ("mcp", "read", "initialize", "success", None),
        ("mcp", "read", "tools/list", "success", None),
        ("tool", "read", "price", "success", None),
        ("tool", "idempotent_write", "reserve", "success", None),
        ("tool", "write", "order", "success", None),
        ("tool", "write", "broken", "failure", "tool_error"),
        ("mcp", "read", "resources/list", "success", None),
        ("mcp", "read", "resources/read", "success", None),
        ("mcp", "read", "prompts/get", "success", None),
        ("mcp", "read", "prompts/get", "failure", code),
    ]
    steps = taken.record.steps
    assert steps[3].params == {"item": "ham", "mcp.server": "shop"}
    assert steps[8].params == {"uri": "shop://hours", "mcp.server": "shop"}
    assert isinstance(taken.value[0][1], mcp.types.CallToolResult)
    assert taken.value[2] == [(0.0, 3.0, None), (1.0, 3.0, None), (2.0, 3.0, None)]


@pytest.mark.skipif(not SECOND, reason="Client is of the second version")
def test_a_client_that_finds_out_how_to_talk(lab: Lab, shop: Shop) -> None:
    async def agent() -> list[Any]:
        async with mcp.Client(shop.open()) as client:
            tools = await client.list_tools()
            again = await client.list_tools()
            return [client.protocol_version, tools, again, await client.call_tool("price", {"item": "ham"})]

    taken = assert_replays_alone(lab, shop, agent)
    assert ("tool", "read", "price", "success", None) in shown(taken)


def test_a_call_inside_a_skill_belongs_to_it(lab: Lab, stdio: Shop) -> None:
    @skill
    async def prices(items: list[str]) -> list[Any]:
        async with session_with(stdio) as session:
            answers = [await session.call_tool("price", {"item": item}) for item in items]
        return [answer.content[0].text for answer in answers]

    async def agent() -> Any:
        return await prices(["ham", "spam"])

    taken = assert_replays_alone(lab, stdio, agent)
    assert [step.skill_name for step in taken.record.steps] == ["prices"]


def test_outside_of_a_run_nothing_is_another(stdio: Shop) -> None:
    async def main() -> Any:
        async with session_with(stdio) as session:
            return await session.call_tool("price", {"item": "ham"})

    assert asyncio.run(main()).content[0].text


# --- what the code does otherwise ---------------------------------------------------------


def test_another_argument_is_found_at_its_step(lab: Lab, stdio: Shop) -> None:
    items = ["ham", "eggs"]

    async def agent() -> None:
        async with session_with(stdio) as session:
            for item in items:
                await session.call_tool("price", {"item": item})

    taken = lab.record(agent)
    stdio.stop()
    items[1] = "spam"
    result = lab.replay(taken, agent)
    first = result.divergences[0]
    prices = [index for index, step in enumerate(taken.record.steps) if step.skill_name == "price"]
    assert (str(result.verdict), first.code, first.index) == ("DIVERGED", "PARAMS_CHANGED", prices[1])
    assert list(first.pointers) == ["/item"]
    assert result.receipt.blocked == 0


@pytest.mark.parametrize("names", [("a", "b"), ("a", "a")])
def test_the_same_tool_of_another_server_is_another_call(
    lab: Lab, tmp_path: Path, names: tuple[str, str]
) -> None:
    shops = []
    for folder, name in zip(("one", "two"), names, strict=True):
        (tmp_path / folder).mkdir()
        shops.append(Shop(tmp_path / folder, "stdio", name))
    asked = [0, 1]

    async def agent() -> list[Any]:
        async with session_with(shops[0]) as first, session_with(shops[1]) as second:
            return [await (first, second)[one].call_tool("price", {"item": "ham"}) for one in asked]

    taken = assert_replays_alone(lab, shops[0], agent)
    servers = [step.params["mcp.server"] for step in taken.record.steps if step.skill_name == "price"]
    assert servers == ([*names] if names[0] != names[1] else ["a", "a#2"])
    asked[:] = [0, 0]
    first = lab.replay(taken, agent).divergences[0]
    assert first.code == "PARAMS_CHANGED"
    assert list(first.pointers) == ["/mcp.server"]
    asked[:] = [1, 0]
    assert lab.replay(taken, agent).divergences[0].code == "REORDERED"


# --- several at once ------------------------------------------------------------------------


def test_calls_at_once_are_replayed_in_their_order(lab: Lab, shop: Shop) -> None:
    async def agent() -> list[Any]:
        seen: list[int] = []
        async with session_with(shop) as session:

            async def one(milliseconds: int) -> None:
                answer = await session.call_tool("wait", {"milliseconds": milliseconds})
                seen.append(int(answer.content[0].text))
                await session.call_tool("reserve", {"item": f"after {seen}"})

            await asyncio.gather(*(one(delay) for delay in (60, 0, 30, 10, 45)))
        return seen

    taken = assert_replays_alone(lab, shop, agent)
    assert sorted(taken.value) == [0, 10, 30, 45, 60]
    assert taken.value != [60, 0, 30, 10, 45]


def test_one_of_several_is_cancelled_half_way(lab: Lab, shop: Shop) -> None:
    async def agent() -> list[Any]:
        seen: list[Any] = []
        async with session_with(shop) as session:

            async def slow(scope: Any) -> None:
                with scope:
                    await session.call_tool("wait", {"milliseconds": 20_000})
                seen.append("left")

            async def quick(scope: Any) -> None:
                seen.append((await session.call_tool("wait", {"milliseconds": 20})).content[0].text)
                scope.cancel()

            async with anyio.create_task_group() as group:
                scope = anyio.CancelScope()
                group.start_soon(slow, scope)
                group.start_soon(quick, scope)
            tasks = [
                asyncio.create_task(session.call_tool("wait", {"milliseconds": delay}))
                for delay in (20_000, 10)
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            tasks[0].cancel()
            seen += [
                str(end) or type(end).__name__ for end in await asyncio.gather(*tasks, return_exceptions=True)
            ]
        return [str(one) for one in seen]

    taken = assert_replays_alone(lab, shop, agent)
    assert taken.value[:3] == ["20", "left", "CancelledError"]


def test_a_call_that_takes_too_long(lab: Lab, stdio: Shop) -> None:
    async def agent() -> Any:
        limit: Any = 0.2
        if not SECOND:
            from datetime import timedelta

            limit = timedelta(seconds=limit)
        async with session_with(stdio) as session:
            with pytest.raises(McpError) as raised:
                await session.call_tool("wait", {"milliseconds": 20_000}, read_timeout_seconds=limit)
            return raised.value.error

    taken = assert_replays_alone(lab, stdio, agent)
    last = taken.record.steps[-1]
    assert (last.outcome_category, last.outcome_code) == ("TRANSIENT", str(taken.value.code))


# --- connections ----------------------------------------------------------------------------


def test_a_server_that_is_not_there(lab: Lab) -> None:
    async def agent() -> list[str]:
        seen = []
        for opened in (
            stdio_client(StdioServerParameters(command="/nowhere/at-all", args=[])),
            sse_client("http://127.0.0.1:9/sse"),
        ):
            try:
                async with opened:
                    pass
            except* OSError as group:
                seen.append(repr(group.exceptions))
            except* Exception as group:
                seen.append(f"{group.message}: {group.exceptions}")
        return seen

    taken = lab.record(agent)
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.value, result.receipt.blocked) == ("MATCH", taken.value, 0)
    assert "FileNotFoundError" in taken.value[0]
    assert "ConnectError" in taken.value[1]
    assert [step.status.value for step in taken.record.steps] == ["failure", "failure"]


def test_a_connection_that_fails_while_it_is_used(lab: Lab) -> None:
    async def agent() -> list[str]:
        seen = []
        try:
            async with (
                http_client("http://127.0.0.1:9/mcp") as (read, write, *_),
                ClientSession(read, write) as session,
            ):
                await session.initialize()
        except* Exception as group:
            seen.append(f"{group.message}: {group.exceptions}")
        return seen

    taken = lab.record(agent)
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.value, result.receipt.blocked) == ("MATCH", taken.value, 0)
    assert "ConnectError" in taken.value[0]


def test_an_error_of_the_program_leaves_a_connection_as_it_did(lab: Lab, shop: Shop) -> None:
    async def agent() -> str:
        with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012  # raised inside, seen outside
            async with session_with(shop) as session:
                await session.call_tool("price", {"item": "ham"})
                raise KeyError("mine")
        return repr(raised.value)

    taken = assert_replays_alone(lab, shop, agent)
    assert "KeyError('mine')" in taken.value

    async def changed() -> str:
        async with session_with(shop) as session:
            await session.call_tool("price", {"item": "ham"})
            raise RuntimeError("another")

    result = lab.replay(taken, changed)
    assert "RuntimeError('another')" in repr(result.error)


def test_no_secret_of_a_server_is_recorded(lab: Lab, server: Any) -> None:
    page = f"{server.url}/no-such-page"
    arguments = ["--api-key", "s3cret", "--token=s3cret", "-H", "Authorization: Bearer s3cret"]
    arguments += ["https://me:s3cret@host/mcp?key=s3cret", "--verbose", "plain"]

    async def agent() -> None:
        server = StdioServerParameters(command="/nowhere/at-all", args=arguments, env={"KEY": "s3cret"})
        with pytest.raises(OSError, match="at-all"):
            async with stdio_client(server):
                pass
        with pytest.raises(Exception) as raised:  # a group, or not
            async with sse_client(f"{page}?token=s3cret"):
                pass
        error = getattr(raised.value, "exceptions", [raised.value])[0]
        assert "token=s3cret" in str(error)

    taken = lab.record(agent)
    assert taken.error is None
    assert b"s3cret" not in b"".join(
        data for event in taken.events for data in event.values.values() if isinstance(data, bytes)
    )
    assert taken.record.steps[0].params["args"][-2:] == ["--verbose", "plain"]


def test_what_a_server_asks_of_the_client_is_inside_the_call(lab: Lab, stdio: Shop) -> None:
    asked: list[str] = []

    @skill
    def think() -> str:
        return "the red one"

    async def model(context: Any, params: Any) -> Any:
        asked.append(params.messages[0].content.text)
        content = mcp.types.TextContent(type="text", text=think())
        return mcp.types.CreateMessageResult(role="assistant", content=content, model="m")

    async def agent() -> str:
        async with session_with(stdio, sampling_callback=model) as session:
            return str((await session.call_tool("ask_model")).content[0].text)

    taken = assert_replays_alone(lab, stdio, agent)
    assert (taken.value, asked) == ("the red one", ["which?"])
    assert "think" not in [step.skill_name for step in taken.record.steps]


def test_what_hears_notifications_is_outside_of_the_run(lab: Lab, stdio: Shop) -> None:
    heard: list[str] = []

    @skill
    def write_down(what: str) -> None:
        heard.append(what)

    async def on_message(message: Any) -> None:
        write_down(type(message).__name__)

    async def on_progress(*said: Any) -> None:
        heard.append("progress")

    async def agent() -> str:
        async with session_with(stdio, message_handler=on_message) as session:
            given = {"item": "ham", "count": 2}
            return _text(await session.call_tool("order", given, progress_callback=on_progress))

    taken = assert_replays_alone(lab, stdio, agent)
    assert "write_down" not in [step.skill_name for step in taken.record.steps]
    assert len(heard) > heard.count("progress") == 4, "told again in a replay: progress alone"
    assert heard[-2:] == ["progress"] * 2


def test_a_server_in_the_same_process(lab: Lab) -> None:
    calls: list[str] = []

    @skill
    def look_up() -> None:
        calls.append("looked up")

    def note(what: str) -> None:
        look_up()

    app = _server_module().make("inside", note)

    async def agent() -> list[str]:
        served = getattr(app, "_lowlevel_server", None) or app._mcp_server
        async with (
            create_client_server_memory_streams() as (ours, theirs),
            anyio.create_task_group() as group,
        ):
            group.start_soon(served.run, *theirs, served.create_initialization_options())
            async with ClientSession(*ours) as session:
                await session.initialize()
                text = _text(await session.call_tool("reserve", {"item": "ham"}))
            group.cancel_scope.cancel()
        return [text]

    taken = lab.assert_replays(agent, calls)
    assert taken.value == ["inside keeps ham"]
    assert "look_up" not in [step.skill_name for step in taken.record.steps]


@pytest.mark.skipif(not SECOND, reason="Client is of the second version")
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_of_a_server_in_the_same_process(lab: Lab, mode: str) -> None:
    calls: list[str] = []

    @skill
    def look_up() -> None:
        calls.append("looked up")

    app = _server_module().make("inside", lambda what: look_up())

    async def agent() -> list[str]:
        async with mcp.Client(app, mode=mode) as client:
            return [_text(await client.call_tool("reserve", {"item": "ham"}))]

    taken = lab.assert_replays(agent, calls)
    assert taken.value == ["inside keeps ham"]
    assert "look_up" not in [step.skill_name for step in taken.record.steps]


def _text(result: Any) -> str:
    return str(result.content[0].text)


def _server_module() -> Any:
    spec = importlib.util.spec_from_file_location("isotrace_test_mcp_server", SERVER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its annotations are looked up there
    spec.loader.exec_module(module)
    return module


def test_a_request_that_is_executed_in_a_replay_gets_its_connection(
    lab: Lab, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a replay does that executes what only reads: the connection is made then, and the handshake."""

    async def agent() -> list[Any]:
        async with session_with(shop) as session:
            await session.list_tools()
            return [await session.call_tool("price", {"item": item}) for item in ("ham", "eggs")]

    taken = lab.record(agent)
    before = shop.asked.count("price")
    served = Player.acall

    async def acall(self: Any, spec: Any, branch: Any, args: Any, kwargs: Any) -> Any:
        if spec.name != "price":
            return await served(self, spec, branch, args, kwargs)
        lineage = self.match(spec, branch, args, kwargs).lineage
        tokens = enter_body(Step(spec, branch, lineage))
        try:
            return await spec.function(*args)
        finally:
            leave_body(tokens)

    async def again() -> Any:
        # Without the guard, which a mode that executes opens for what it executes.
        async with run_of(Player(RecordedRun(taken.events))):
            return await agent()

    monkeypatch.setattr(Player, "acall", acall)
    assert asyncio.run(again()) == taken.value
    assert shop.asked.count("price") == before + 2


def test_http_clients_beneath_are_quiet(lab: Lab, tmp_path: Path) -> None:
    shop = Shop(tmp_path, "streamable-http")

    async def agent() -> Any:
        async with httpx.AsyncClient() as client, session_with(shop) as session:
            await session.call_tool("price", {"item": "ham"})
            return (await client.get(f"http://127.0.0.1:{shop.port}/nothing")).status_code

    taken = assert_replays_alone(lab, shop, agent)
    assert [step.context.kind for step in taken.record.steps if step.context].count("http") == 1
