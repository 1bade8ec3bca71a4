"""Never silently live: while steps are served, nothing may reach the network or start a process.

Three guards, from strong to weak, and the receipt names the one that held:

- `netns`: the replay runs in a child process, in a network namespace of its own that has no way out;
- `patched`: in this process, socket methods and process starts are refused to the replayed code;
- `audit`: Python's audit events alone, which are blind to sockets that are already open.

In-process, the guard is scoped by a context variable, so that other tasks of the same process keep
their network; it follows the replayed code into its tasks and threads.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any

from isotrace.errors import UncontrolledSourceError
from isotrace.record import telemetry
from isotrace.record.capture.command import asks_about_the_machine
from isotrace.record.context import Step, current_step
from isotrace.record.patches import patch
from isotrace.record.telemetry import GUARD_ATTRIBUTE

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

_AUDITED = {
    "socket.connect": "open a connection",
    "socket.getaddrinfo": "look up a host",
    "socket.gethostbyname": "look up a host",
    "socket.gethostbyaddr": "look up a host",
    "socket.getnameinfo": "look up a host",
    "socket.sendto": "send a datagram",
    "socket.sendmsg": "send a datagram",
    "socket.bind": "listen on a port",
    "subprocess.Popen": "start a process",
    "os.system": "start a process",
    "os.exec": "start a process",
    "os.posix_spawn": "start a process",
    "os.spawn": "start a process",
    "os.fork": "start a process",
    "os.forkpty": "start a process",
    "pty.spawn": "start a process",
    "os.kill": "send a signal",
    "os.killpg": "send a signal",
}
_SIGNALS = ("os.kill", "os.killpg")
_NOT_OF_OTHERS = (*_SIGNALS, "socket.bind")
"""What code that is not replayed may do beside it: a server that a test has started stays one."""
_STARTS = ("subprocess.Popen", "os.posix_spawn")
"""By which `subprocess` starts a process: the second as well from Python 3.13 on, where it can."""

_SOCKET_METHODS = (
    "connect",
    "connect_ex",
    "send",
    "sendall",
    "sendto",
    "sendmsg",
    "sendfile",
    "recv",
    "recv_into",
    "recvfrom",
    "recvfrom_into",
    "recvmsg",
    "recvmsg_into",
)
_ADDRESSED = ("connect", "connect_ex", "sendto", "sendmsg")
_TLS_METHODS = (
    "connect",
    "connect_ex",
    "send",
    "sendall",
    "recv",
    "recv_into",
    "read",
    "write",
    "do_handshake",
)
# They reach outside by way of libuv, past Python's sockets and its audit events.
_UVLOOP_METHODS = (
    "create_connection",
    "create_unix_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "sock_connect",
    "sock_sendall",
    "sock_recv",
    "sock_recv_into",
    "subprocess_exec",
    "subprocess_shell",
)

_posixsubprocess = importlib.import_module("_posixsubprocess")


class Guard:
    """Counts and refuses what replayed code tries to reach. `kind` is what the receipt says.
    `steps_go_out`: the steps that this replay really executes may reach outside, the code between them not.
    """

    def __init__(self, kind: str, *, steps_go_out: bool = False) -> None:
        self.kind = kind
        self.steps_go_out = steps_go_out
        self.blocked: list[str] = []

    def look_at(self, loop: asyncio.AbstractEventLoop) -> None:
        """The replayed code runs in a loop that was there before, whose connections may be open. A loop
        that is not written in Python (uvloop) writes to them past every patch."""
        if self.kind == "patched" and not isinstance(loop, asyncio.BaseEventLoop):
            self.kind = "audit"

    def refuse(self, what: str) -> None:
        """Notes the attempt and raises `UncontrolledSourceError` in the agent's code."""
        self.blocked.append(what)
        raise UncontrolledSourceError(
            f"the code tried to {what} while its steps are served from the record",
            hint="make the call that does so a step (@isotrace.skill), or record the run with capture",
        )


_UNHEARD = Guard("patched")
"""Refuses as any guard does; nobody reads what it has refused."""

_guard: ContextVar[Guard | _OfStep | None] = ContextVar("isotrace_guard", default=None)


class _Process:
    """The guard over this whole process, if there is one; and the one that holds for code that no guard
    reaches, while a replay lasts that has the process to itself."""

    guard: Guard | None = None
    others: Guard | None = None


def active_guard() -> Guard | None:
    """The guard over the calling code, if any."""
    of_thread: Guard | _OfStep | None = getattr(threading.current_thread(), GUARD_ATTRIBUTE, None)
    if of_thread is _UNHEARD:
        return _UNHEARD
    of_context = _guard.get()
    for one in (of_context, of_thread):
        if isinstance(one, _OfStep):
            return None if one.is_open else one.guard
    guard: Guard | None = of_context or _Process.guard or of_thread  # type: ignore[assignment]  # none is of a step
    return None if guard is not None and guard.steps_go_out and current_step.get() is not None else guard


class _OfStep:
    """What a thread or a job has that an executed step has started: it may reach outside while the step is
    open. Afterwards it is guarded."""

    def __init__(self, step: Step, guard: Guard) -> None:
        self._step = step
        self.guard = guard

    @property
    def is_open(self) -> bool:
        return not self._step.ended


def _heir() -> Guard | _OfStep | None:
    """What a thread or a job is to have that is started here."""
    guard = active_guard()
    step = current_step.get()
    around = _guard.get() or _Process.guard
    if guard is None and step is not None and isinstance(around, Guard):
        return _OfStep(step, around)
    return guard


def _audit(event: str, args: tuple[Any, ...]) -> None:
    what = _AUDITED.get(event)
    if what is None:
        return
    guard = active_guard() or _over_others(event)
    if guard is None or (event == "socket.bind" and _reaches_nobody(*args)):
        return
    if event in _SIGNALS and (args[1] == 0 or (event == "os.kill" and args[0] == os.getpid())):
        return  # it asks whether there is such a process, or is to itself
    if event not in _STARTS or not (asks_about_the_machine(args[1]) and args[0] == args[1][0]):
        guard.refuse(f"{what} ({_target(args)})")


def _over_others(event: str) -> Guard | None:
    """The guard over code that the replay's context does not reach: a worker that was there before, fed by
    a queue of its own. A step that is really executed is none of that."""
    if _Process.others is None or event in _NOT_OF_OTHERS or _guard.get() is not None:
        return None
    return None if hasattr(threading.current_thread(), GUARD_ATTRIBUTE) else _Process.others


def _reaches_nobody(sock: Any, address: Any) -> bool:
    """Whether binding a socket is none of the world's business: it is one end of a pair, or it is asked
    whether there is IPv6 at all, as urllib3 asks when it is imported."""
    return (isinstance(address, tuple) and address[:2] == ("::1", 0)) or _is_local(sock, addressed=True)


def _target(args: tuple[Any, ...]) -> str:
    shown = [part for part in args if not isinstance(part, socket.socket) and part is not None]
    return ", ".join(str(part) for part in shown[:2])[:120] or "no further detail"


def _is_local(sock: Any, *, addressed: bool = False) -> bool:
    """Whether a socket is one end of a pair inside this process, as event loops use to wake up.

    One that has lost its other end, or is closed, reaches nobody, unless an address is given with
    the call (`addressed`).
    """
    if sock.family != socket.AF_UNIX:
        return False
    try:
        return not sock.getsockname() and not sock.getpeername()
    except OSError:
        return not addressed


def _refusing_use(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None and not _is_local(self, addressed=name in _ADDRESSED):
            guard.refuse(f"use a socket ({name})")
        return original(self, *args, **kwargs)

    method.__name__ = name
    return method


def _refusing_call(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None:
            guard.refuse(f"reach outside ({name})")
        return original(self, *args, **kwargs)

    method.__name__ = name
    return method


def _patch_all() -> list[Callable[[], None]]:
    """Wraps what could reach outside; gives the way back."""
    wraps: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (threading.Thread, "start", _starting_thread),
        (ThreadPoolExecutor, "submit", _submitting),
    ]
    wraps += [(socket.socket, name, partial(_refusing_use, name)) for name in _SOCKET_METHODS]
    wraps += [(ssl.SSLSocket, name, partial(_refusing_use, name)) for name in _TLS_METHODS]
    # By which `multiprocessing` starts processes, without an audit event.
    wraps.append((_posixsubprocess, "fork_exec", partial(_refusing_call, "fork_exec")))
    uvloop = sys.modules.get("uvloop")
    if uvloop is not None:
        wraps += [(uvloop.Loop, name, partial(_refusing_call, name)) for name in _UVLOOP_METHODS]
    return [patch(owner, name, wrap) for owner, name, wrap in wraps if hasattr(owner, name)]


def _starting_thread(original: Callable[..., Any]) -> Callable[..., Any]:
    """A thread that guarded code starts is guarded: a new thread has an empty context."""

    def start(self: threading.Thread) -> Any:
        guard = _heir()
        if guard is not None and not isinstance(self, threading._DummyThread):
            # What telemetry can't send is nobody's business.
            setattr(self, GUARD_ATTRIBUTE, _UNHEARD if telemetry.exports(self) else guard)
        return original(self)

    return start


def _submitting(original: Callable[..., Any]) -> Callable[..., Any]:
    """A job that guarded code gives to a pool is guarded, whenever the pool's thread was started."""

    def submit(self: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        guard = _heir()
        return (
            original(self, function, *args, **kwargs)
            if guard is None
            else original(self, _within, guard, function, *args, **kwargs)
        )

    return submit


def _within(guard: Guard | _OfStep, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    token = _guard.set(guard)
    try:
        return function(*args, **kwargs)
    finally:
        _guard.reset(token)


@contextmanager
def guarded(*, steps_go_out: bool = False, others: bool = False) -> Iterator[Guard]:
    """Refuses network and processes to the code inside, in this process; with `steps_go_out` not to the
    bodies of its steps. With `others` no other thread or task of the process may open a connection or start
    a process meanwhile: it may work for the code inside."""
    guard = Guard("patched", steps_go_out=steps_go_out)
    _audit_from_now_on()
    undo = _patch_all()
    token = _guard.set(guard)
    before, _Process.others = _Process.others, guard if others else _Process.others
    try:
        yield guard
    finally:
        _Process.others = before
        _guard.reset(token)
        for take_off in undo:
            take_off()


def guard_process(*, steps_go_out: bool = False) -> Guard:
    """Refuses network and processes to this whole process for the rest of its life, with `steps_go_out`
    not to the bodies of its steps.

    For the child process of a replay: in a network namespace of its own where that is permitted, and
    nothing is to go out at all.
    """
    alone = not steps_go_out and enter_network_namespace()
    guard = Guard("netns" if alone else "patched", steps_go_out=steps_go_out)
    _audit_from_now_on()
    _patch_all()
    _Process.guard = guard
    return guard


@cache
def _audit_from_now_on() -> None:
    """An audit hook can't be taken out again: it looks whether a guard is active."""
    sys.addaudithook(_audit)


def enter_network_namespace() -> bool:
    """Moves this process into a network namespace without any interface up; whether that worked.

    Linux only. Needs the right to do so, or unprivileged user namespaces.
    """
    # Takes a few milliseconds, and only a replay's child process needs it.
    import ctypes  # noqa: PLC0415

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) == 0:
            return True
        return os.geteuid() != 0 and libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0
    except (OSError, AttributeError):
        return False
