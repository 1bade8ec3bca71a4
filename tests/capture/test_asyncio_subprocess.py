"""Child processes of asyncio: recorded as they really ran, and replayed with none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from isotrace.record import skill

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.record.lab import Lab, Taken

pytestmark = pytest.mark.usefixtures("captured")

PIPE = asyncio.subprocess.PIPE
PYTHON = sys.executable
ECHO = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"


@pytest.fixture(params=["asyncio", "uvloop"])
def loops(request: pytest.FixtureRequest, lab: Lab) -> str:
    """Runs agents on one kind of event loop, then on the other."""
    if request.param == "uvloop":
        lab.runner = uvloop.run
    return str(request.param)


def assert_replays_without_processes(
    lab: Lab, agent: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> Taken:
    """Records an agent, takes every program away, and replays it: the same value, and nothing started."""
    taken = lab.record(agent)
    assert taken.error is None
    assert taken.grade == "replayable"
    with monkeypatch.context() as patched:
        patched.setenv("PATH", "/nowhere")
        result = lab.replay(taken, agent)
    assert (result.error, result.divergences, str(result.verdict)) == (None, [], "MATCH")
    assert result.value == taken.value
    assert (result.receipt.blocked, result.receipt.served) == (0, len(taken.steps))
    return taken


def done(taken: Taken) -> list[str]:
    """What each step of a process did."""
    return [params["do"] for _, _, params, _ in taken.steps if "do" in params]


@pytest.mark.usefixtures("loops")
def test_processes_side_by_side(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def one(number: int) -> list[Any]:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", f"sleep 0.0{9 - number}; cat; echo err{number} >&2; exit {number}",
            stdin=PIPE, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        out, err = await process.communicate(f"in{number}".encode())
        order.append(number)
        return [process.pid, out, err, process.returncode, await process.wait()]

    order: list[int] = []

    async def agent() -> list[Any]:
        order.clear()
        return [*await asyncio.gather(*(one(number) for number in range(4))), list(order)]

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert [value[1:] for value in taken.value[:4]] == [
        [f"in{number}".encode(), f"err{number}\n".encode(), number, number] for number in range(4)
    ]
    assert done(taken) == ["start", "communicate"] * 4


@pytest.mark.usefixtures("loops")
def test_a_process_that_is_talked_to(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def agent() -> list[Any]:
        process = await asyncio.create_subprocess_exec(PYTHON, "-c", ECHO, stdin=PIPE, stdout=PIPE)
        assert isinstance(process, asyncio.subprocess.Process)
        assert process.stdin
        assert process.stdout
        seen: list[Any] = [process.returncode]
        for word in (b"abc", b"de"):
            process.stdin.writelines([word, b"\n"])
            await process.stdin.drain()
            seen.append(await process.stdout.readline())
        process.stdin.write(b"end\nrest\n")
        process.stdin.close()
        seen.append(await process.stdout.readexactly(4))
        with pytest.raises(asyncio.IncompleteReadError) as short:
            await process.stdout.readexactly(100)
        seen.append((short.value.partial, short.value.expected))
        seen.append([line async for line in process.stdout])
        return [
            *seen,
            await process.stdout.read(),
            process.stdout.at_eof(),
            await process.wait(),
            process.returncode,
        ]

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert taken.value == [None, b"cba\n", b"ed\n", b"dne\n", (b"tser\n", 100), [], b"", True, 0, 0]
    assert done(taken) == ["start", "write", "read", "write", "write", "wait"]


@pytest.mark.usefixtures("loops")
def test_reading_with_time_outs_and_killing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def agent() -> list[Any]:
        line = "echo one; sleep 0.3; echo two; exec sleep 60"
        process = await asyncio.create_subprocess_shell(line, stdout=PIPE)
        assert process.stdout
        seen: list[Any] = [await process.stdout.readline()]
        while len(seen) < 4:
            try:
                seen.append(await asyncio.wait_for(process.stdout.readline(), 0.2))
            except TimeoutError:
                seen.append("late")
            if seen[-1] == b"two\n":
                break
        try:
            await asyncio.wait_for(process.wait(), 0.05)
        except TimeoutError:
            seen.append(process.returncode)
            process.kill()
        seen.append(await process.wait())
        with pytest.raises(ProcessLookupError):
            process.terminate()
        return seen

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert taken.value == [b"one\n", "late", b"two\n", None, -9]


@pytest.mark.usefixtures("loops")
def test_a_long_output_comes_in_the_same_pieces(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.stdout.write('x' * 300_000)"

    async def agent() -> list[bytes]:
        process = await asyncio.create_subprocess_exec(PYTHON, "-c", code, stdout=PIPE)
        assert process.stdout
        pieces = []
        while not process.stdout.at_eof():
            pieces.append(await process.stdout.read(50_000))
        await process.wait()
        return pieces

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert len(b"".join(taken.value)) == 300_000


def test_a_program_that_is_not_there(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def agent() -> list[Any]:
        with pytest.raises(FileNotFoundError) as raised:
            await asyncio.create_subprocess_exec("/nowhere/at/all")
        return [str(raised.value), raised.value.errno, raised.value.filename]

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert taken.value == ["[Errno 2] No such file or directory: '/nowhere/at/all'", 2, "/nowhere/at/all"]


def test_a_protocol_of_the_programs_own_is_passed_through_and_refused_later(lab: Lab) -> None:
    async def agent() -> bytes:
        loop = asyncio.get_running_loop()
        said, over = loop.create_future(), loop.create_future()

        class Own(asyncio.SubprocessProtocol):
            def pipe_data_received(self, fd: int, data: bytes) -> None:
                said.set_result(data)

            def process_exited(self) -> None:
                over.set_result(None)

        transport, _ = await loop.subprocess_exec(Own, "echo", "mine", stdin=None, stderr=None)
        await asyncio.gather(said, over)
        transport.close()
        return bytes(said.result())

    taken = lab.record(agent)
    assert (taken.value, taken.steps) == (b"mine\n", [])
    assert taken.grade == ["process: one was started with a protocol of the program's own"]
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.divergences[0].code) == ("DIVERGED", "UNCONTROLLED_SOURCE")


def test_reading_otherwise_is_found(lab: Lab) -> None:
    lines = True

    async def agent() -> None:
        process = await asyncio.create_subprocess_exec("printf", r"a\nb\nc\n", stdout=PIPE)
        assert process.stdout
        await process.stdout.readline()
        await (process.stdout.readline() if lines else process.stdout.read(3))
        await process.stdout.read()
        await process.wait()

    taken = lab.record(agent)
    lines = False
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.divergences[0].code) == ("DIVERGED", "STREAM_CHANGED")


def test_a_process_inside_a_skill_belongs_to_that_skill(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    @skill
    async def look() -> bytes:
        process = await asyncio.create_subprocess_exec("echo", "inside", stdout=PIPE)
        return (await process.communicate())[0]

    async def agent() -> bytes:
        return await look()

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert [name for _, name, _, _ in taken.steps] == ["look"]


def test_waiting_in_a_thread_while_the_loop_goes_on(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def agent() -> list[Any]:
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin
        waiting = asyncio.create_task(asyncio.to_thread(process.wait))
        await asyncio.sleep(0.01)
        process.stdin.write(b"fed")
        process.stdin.close()
        code = await waiting
        assert process.stdout
        out = process.stdout.read()
        process.stdout.close()
        ran = await asyncio.gather(
            *(asyncio.to_thread(subprocess.check_output, ["echo", str(number)]) for number in range(4))
        )
        return [code, out, ran]

    taken = assert_replays_without_processes(lab, agent, monkeypatch)
    assert taken.value == [0, b"fed", [b"0\n", b"1\n", b"2\n", b"3\n"]]
