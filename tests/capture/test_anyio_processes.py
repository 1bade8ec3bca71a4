"""Child processes of anyio: recorded as they really ran, and replayed with none."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.record.lab import Lab

pytestmark = pytest.mark.usefixtures("captured")

ECHO = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"


@pytest.fixture(params=["asyncio", "uvloop"])
def replayed(
    request: pytest.FixtureRequest, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], Any]], Any]:
    """Records an agent, takes every program away, and replays it: the same value, and nothing started."""
    if request.param == "uvloop":
        lab.runner = uvloop.run

    def both(agent: Callable[[], Any]) -> Any:
        taken = lab.record(agent)
        assert taken.error is None
        assert taken.grade == "replayable"
        monkeypatch.setenv("PATH", "/nowhere")
        result = lab.replay(taken, agent)
        assert (result.error, result.divergences, str(result.verdict)) == (None, [], "MATCH")
        assert (result.value, result.receipt.blocked) == (taken.value, 0)
        return taken

    return both


def test_a_command_that_is_waited_for(replayed: Callable[..., Any]) -> None:
    async def agent() -> list[Any]:
        ran = await anyio.run_process(["sh", "-c", "cat; echo no >&2; exit 3"], input=b"fed", check=False)
        return [ran.returncode, ran.stdout, ran.stderr, (await anyio.run_process("echo shell")).stdout]

    assert replayed(agent).value == [3, b"fed", b"no\n", b"shell\n"]


def test_a_process_that_is_talked_to(replayed: Callable[..., Any]) -> None:
    async def agent() -> list[Any]:
        async with await anyio.open_process([sys.executable, "-c", ECHO]) as process:
            assert process.stdin
            assert process.stdout
            seen: list[Any] = [process.pid, process.returncode]
            for word in (b"abc\n", b"de\n"):
                await process.stdin.send(word)
                seen.append(b"")
                while not seen[-1].endswith(b"\n"):
                    seen[-1] += await process.stdout.receive()
            await process.stdin.aclose()
            return [*seen, await process.wait(), process.returncode]

    taken = replayed(agent)
    assert taken.value[1:] == [None, b"cba\n", b"ed\n", 0, 0]
    assert [params["do"] for _, _, params, _ in taken.steps] == ["start", "write", "read", "write", "wait"]


def test_a_process_that_takes_too_long(replayed: Callable[..., Any]) -> None:
    async def agent() -> list[Any]:
        process = await anyio.open_process(["sleep", "60"])
        with anyio.move_on_after(0.05) as scope:
            await process.wait()
        process.kill()
        return [scope.cancelled_caught, await process.wait()]

    assert replayed(agent).value == [True, -9]


def test_what_was_there_comes_back() -> None:
    code = """
import isotrace
from anyio._backends._asyncio import AsyncIOBackend
before = vars(AsyncIOBackend)["open_process"]
restore = isotrace.instrument()
assert vars(AsyncIOBackend)["open_process"] is not before
restore()
assert vars(AsyncIOBackend)["open_process"] is before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
