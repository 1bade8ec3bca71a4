"""Never silently live: what replayed code tries to reach is refused and counted, whichever way it goes;
others in the same process keep their network."""

from __future__ import annotations

import asyncio
import ctypes.util
import http.server
import multiprocessing
import os
import platform
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvloop

from isotrace.errors import UncontrolledSourceError
from isotrace.record import run, skill
from isotrace.replay import Replay
from isotrace.replay.guard import guarded

if TYPE_CHECKING:
    from tests.record.lab import Lab, Taken


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A real server on loopback, and the requests that reached it."""
    requests: list[str] = []
    handler = type("Handler", (Handler,), {"requests": requests})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", requests
        running.shutdown()
        thread.join()


@skill(effect="read")
def ask(what: str) -> str:
    return what


@pytest.fixture
def taken(lab: Lab) -> Taken:
    return lab.record(lambda: ask("x"))


def reaching(lab: Lab, taken: Taken, reach: Any) -> Any:
    """A replay whose code, beside its step, tries to reach out."""
    tried: list[BaseException] = []

    def agent() -> None:
        ask("x")
        try:
            reach()
        except BaseException as error:
            tried.append(error)

    result = lab.replay(taken, agent)
    assert result.verdict == "DIVERGED"
    assert {str(one.code) for one in result.divergences} == {"UNCONTROLLED_SOURCE"}
    assert all(one.index is None for one in result.divergences)
    assert result.receipt.blocked >= 1
    assert result.receipt.served == 1
    assert tried, "the agent is told"
    return result, tried[0]


def test_a_new_connection_is_refused(lab: Lab, taken: Taken, server: tuple[str, list[str]]) -> None:
    url, requests = server
    _, error = reaching(lab, taken, lambda: httpx.get(url))
    assert isinstance(error, UncontrolledSourceError)
    assert requests == []
    assert httpx.get(f"{url}/after").text == "ok"


def test_a_pooled_connection_that_was_open_before_is_refused(
    lab: Lab, taken: Taken, server: tuple[str, list[str]]
) -> None:
    url, requests = server
    with httpx.Client(base_url=url) as client:
        assert client.get("/before").text == "ok"
        _, error = reaching(lab, taken, lambda: client.get("/during"))
        assert isinstance(error, UncontrolledSourceError)
        assert requests == ["/before"]
    with httpx.Client(base_url=url) as client:
        assert client.get("/after").text == "ok"


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_an_async_client_that_was_open_before_is_refused(
    lab: Lab, taken: Taken, server: tuple[str, list[str]], runner: Any
) -> None:
    url, requests = server

    async def main() -> Any:
        async with httpx.AsyncClient(base_url=url) as client:
            await client.get("/before")

            async def body() -> None:
                async with run("lab", store=lab.store):
                    try:
                        await client.get("/during")
                    except UncontrolledSourceError:
                        pass
                    ask("x")

            return await Replay(taken.ledger).arun(body)

    result = runner(main())
    if runner is uvloop.run:
        # uvloop writes to an open connection past Python. The receipt says that the guard is weaker.
        assert result.receipt.guard == "audit"
        return
    assert (result.verdict, result.receipt.blocked > 0) == ("DIVERGED", True)
    assert (result.receipt.guard, requests) == ("patched", ["/before"])


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_new_connection_of_a_loop_is_refused(
    lab: Lab, taken: Taken, server: tuple[str, list[str]], runner: Any
) -> None:
    url, requests = server
    host, port = url.removeprefix("http://").split(":")

    async def connect() -> None:
        await asyncio.open_connection(host, int(port))

    async def by_name() -> None:
        await asyncio.get_running_loop().getaddrinfo("example.com", 80)

    async def datagram() -> None:
        await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=("127.0.0.1", 9)
        )

    for reach in (connect, by_name, datagram):
        _, error = reaching(lab, taken, lambda reach=reach: runner(reach()))
        assert isinstance(error, UncontrolledSourceError)
    assert requests == []


def test_requests_in_threads_and_executors_are_refused(
    lab: Lab, taken: Taken, server: tuple[str, list[str]]
) -> None:
    url, requests = server

    def in_a_thread() -> None:
        errors: list[BaseException] = []

        def body() -> None:
            try:
                httpx.get(url)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        raise errors[0]

    def in_a_pool() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(httpx.get, url).result()

    def in_an_old_pool() -> None:
        old.submit(httpx.get, url).result()

    def in_an_executor() -> None:
        async def main() -> None:
            await asyncio.get_running_loop().run_in_executor(None, httpx.get, url)

        asyncio.run(main())

    def in_to_thread() -> None:
        asyncio.run(asyncio.to_thread(httpx.get, url))

    with ThreadPoolExecutor(1) as old:
        old.submit(int).result()
        for reach in (in_a_thread, in_a_pool, in_an_old_pool, in_an_executor, in_to_thread):
            _, error = reaching(lab, taken, reach)
            assert isinstance(error, UncontrolledSourceError), reach.__name__
        assert requests == []
        assert old.submit(httpx.get, url).result().text == "ok", "the pool is nobody's again"


def test_processes_are_refused(lab: Lab, taken: Taken, tmp_path: Any) -> None:
    mark = tmp_path / "mark"
    command = ["touch", str(mark)]

    async def asynchronously() -> None:
        await asyncio.create_subprocess_exec(*command)

    async def by_a_shell() -> None:
        await asyncio.create_subprocess_shell(" ".join(command))

    for reach in (
        lambda: subprocess.run(command, check=True),
        lambda: os.system(" ".join(command)),
        lambda: os.posix_spawn("/usr/bin/touch", command, {}),
        lambda: os.spawnv(os.P_WAIT, "/usr/bin/touch", command),
        lambda: os.fork() or os._exit(0),
        lambda: asyncio.run(asynchronously()),
        lambda: asyncio.run(by_a_shell()),
        lambda: uvloop.run(asynchronously()),
        lambda: uvloop.run(by_a_shell()),
    ):
        _, error = reaching(lab, taken, reach)
        assert isinstance(error, UncontrolledSourceError)
    assert not mark.exists()


def test_what_a_module_asks_the_machine_is_let_through(lab: Lab, taken: Taken) -> None:
    platform.processor()  # caches what its class asks below
    asking = vars(platform)["_Processor"].from_subprocess
    result = lab.replay(taken, lambda: (asking(), ask("x"))[1])
    assert (result.verdict, result.receipt.blocked) == ("MATCH", 0)
    for asked_otherwise in (
        lambda: subprocess.run(["uname", "-p"], check=True),
        lambda: subprocess.run(["uname", "-p"], executable="/bin/true", check=True),
    ):
        _, error = reaching(lab, taken, asked_otherwise)
        assert isinstance(error, UncontrolledSourceError)


def test_processes_of_multiprocessing_and_signals_are_refused(lab: Lab, taken: Taken) -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        for reach in (
            lambda: multiprocessing.get_context("spawn").Process(target=print).start(),
            lambda: multiprocessing.get_context("fork").Process(target=print).start(),
            lambda: ProcessPoolExecutor(1, multiprocessing.get_context("spawn")).submit(print),
            lambda: os.kill(child.pid, signal.SIGKILL),
            lambda: os.killpg(child.pid, signal.SIGKILL),
        ):
            reaching(lab, taken, reach)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
    os.kill(os.getpid(), 0)


def test_what_modules_do_as_they_are_imported_is_not(lab: Lab, taken: Taken) -> None:
    # `find_library` has the loader list the system's libraries, by a process of its own.
    result = lab.replay(taken, lambda: (ctypes.util.find_library("c"), ask("x"))[1])
    assert (str(result.verdict), result.receipt.blocked) == ("MATCH", 0)

    def is_there_ipv6() -> Any:
        with socket.socket(socket.AF_INET6) as probe, suppress(OSError):
            probe.bind(("::1", 0))
        return ask("x")

    result = lab.replay(taken, is_there_ipv6)
    assert (str(result.verdict), result.receipt.blocked) == ("MATCH", 0)


def test_datagrams_and_servers_are_refused(lab: Lab, taken: Taken) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        reaching(lab, taken, lambda: sender.sendto(b"x", ("127.0.0.1", 9)))
        reaching(lab, taken, lambda: sender.sendmsg([b"x"], [], 0, ("127.0.0.1", 9)))
        reaching(lab, taken, lambda: sender.connect(("127.0.0.1", 9)))
        reaching(lab, taken, lambda: sender.connect_ex(("127.0.0.1", 9)))
    with socket.socket() as server:
        reaching(lab, taken, lambda: server.bind(("127.0.0.1", 0)))
    reaching(lab, taken, lambda: socket.gethostbyname("example.com"))


def test_a_named_unix_socket_is_outside_and_a_pair_is_not(lab: Lab, taken: Taken, tmp_path: Any) -> None:
    name = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        with socket.socket(socket.AF_UNIX) as client:
            reaching(lab, taken, lambda: client.connect(name))
            client.connect(name)
            reaching(lab, taken, lambda: client.send(b"x"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        reaching(lab, taken, lambda: sender.sendto(b"x", name))

    def pair() -> bytes:
        one, other = socket.socketpair()
        with one, other:
            one.sendall(b"hi")
            got = other.recv(2)
            one.close()
        ask("x")
        return got

    result = lab.replay(taken, pair)
    assert (result.verdict, result.value, result.receipt.blocked) == ("MATCH", b"hi", 0)


def test_an_error_that_the_agent_does_not_catch_ends_its_run(
    lab: Lab, taken: Taken, server: tuple[str, list[str]]
) -> None:
    def agent() -> None:
        ask("x")
        httpx.get(server[0])

    result = lab.replay(taken, agent)
    assert [str(one.code) for one in result.divergences] == ["UNCONTROLLED_SOURCE", "STATUS_CHANGED"]
    assert isinstance(result.error, UncontrolledSourceError)


def test_an_error_that_the_agent_catches_is_counted_all_the_same(
    lab: Lab, taken: Taken, server: tuple[str, list[str]]
) -> None:
    def agent() -> None:
        for _ in range(3):
            try:
                httpx.get(server[0])
            except Exception:
                pass
        ask("x")

    result = lab.replay(taken, agent)
    assert result.verdict == "DIVERGED"
    assert result.receipt.blocked >= 3
    assert len(result.divergences) == 1, "the same attempt is named once"


def test_steps_that_reach_out_are_served_and_reach_nothing(lab: Lab, server: tuple[str, list[str]]) -> None:
    url, requests = server

    @skill(effect="read")
    def get(path: str) -> str:
        return httpx.get(url + path).text

    _, result = lab.again(lambda: get("/live"))
    assert (result.verdict, result.value, result.receipt.blocked) == ("MATCH", "ok", 0)
    assert requests == ["/live"]


def test_others_in_the_same_process_keep_their_network(lab: Lab, server: tuple[str, list[str]]) -> None:
    url, requests = server

    @skill(effect="read")
    async def slow(what: str) -> str:
        await asyncio.sleep(0)
        return what

    async def agent() -> None:
        for _ in range(20):
            await slow("x")
            await asyncio.sleep(0)

    taken = lab.record(agent)

    async def others(client: httpx.AsyncClient, stop: asyncio.Event) -> int:
        count = 0
        while not stop.is_set():
            assert (await client.get("/other")).text == "ok"
            assert (await asyncio.to_thread(httpx.get, f"{url}/thread")).text == "ok"
            count += 1
        return count

    async def replayed() -> Any:
        async def body() -> None:
            async with run("lab", store=lab.store):
                await agent()
                try:
                    await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
                except UncontrolledSourceError:
                    pass

        return await Replay(taken.ledger).arun(body)

    async def main() -> Any:
        stop = asyncio.Event()
        async with httpx.AsyncClient(base_url=url) as client:
            await client.get("/first")
            other = asyncio.create_task(others(client, stop))
            await asyncio.sleep(0.01)
            result = await replayed()
            await asyncio.sleep(0.01)
            stop.set()
            return result, await other

    result, count = asyncio.run(main())
    assert count > 0
    assert result.receipt.blocked == 1
    assert set(requests) == {"/first", "/other", "/thread"}


def test_everything_that_was_wrapped_is_put_back() -> None:
    owners = (socket.socket, threading.Thread, ThreadPoolExecutor, uvloop.Loop)
    before = [dict(vars(owner)) for owner in owners]
    with guarded(), guarded():
        assert [dict(vars(owner)) for owner in owners] != before
    assert [dict(vars(owner)) for owner in owners] == before


def test_replays_in_a_guarded_process_count_there(lab: Lab, taken: Taken) -> None:
    with guarded() as outer:
        result, _ = reaching(lab, taken, lambda: socket.gethostbyname("example.com"))
    assert result.receipt.guard == "patched"
    assert outer.blocked
