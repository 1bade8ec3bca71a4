"""Never silently live: while steps are served, nothing may reach the network or start a process.

Three guards, from strong to weak, and the receipt names the one that held:

- `netns`: the replay runs in a child process, in a network namespace of its own that has no way out;
- `patched`: in this process, socket methods and process starts are refused to the replayed code;
- `audit`: Python's audit events alone, which are blind to sockets that are already open.

In-process, the guard is scoped by a context variable, so that other tasks of the same process keep
their network; it follows the replayed code into its tasks and threads.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from isotrace.errors import UncontrolledSourceError

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

_AUDITED = {
    "socket.connect": "open a connection",
    "socket.getaddrinfo": "look up a host",
    "socket.gethostbyname": "look up a host",
    "socket.gethostbyaddr": "look up a host",
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
}

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


class Guard:
    """Counts and refuses what replayed code tries to reach. `kind` is what the receipt says."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.blocked: list[str] = []

    def refuse(self, what: str) -> None:
        """Notes the attempt and raises `UncontrolledSourceError` in the agent's code."""
        self.blocked.append(what)
        raise UncontrolledSourceError(
            f"the code tried to {what} while its steps are served from the record",
            hint="make the call that does so a step (@isotrace.skill), or record the run with capture",
        )


_guard: ContextVar[Guard | None] = ContextVar("isotrace_guard", default=None)
_process_guard: Guard | None = None
_hook_lock = threading.Lock()
_hooked = False
_users = 0
_undo: list[Callable[[], None]] = []


def active_guard() -> Guard | None:
    """The guard over the calling code, if any."""
    return _guard.get() or _process_guard or getattr(threading.current_thread(), "_isotrace_guard", None)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    what = _AUDITED.get(event)
    if what is None:
        return
    guard = active_guard()
    if guard is not None and not (event == "socket.bind" and _is_local(args[0])):
        guard.refuse(f"{what} ({_target(args)})")


def _target(args: tuple[Any, ...]) -> str:
    shown = [part for part in args if not isinstance(part, socket.socket) and part is not None]
    return ", ".join(str(part) for part in shown[:2])[:120] or "no further detail"


def _is_local(sock: Any) -> bool:
    """Whether a socket is one end of a pair inside this process, as event loops use to wake up."""
    try:
        return sock.family == socket.AF_UNIX and not sock.getsockname() and not sock.getpeername()
    except OSError:
        return False


def _guarded(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None and not _is_local(self):
            guard.refuse(f"use a socket ({name})")
        return original(self, *args, **kwargs)

    method.__name__ = name
    return method


def _patch(owner: Any, name: str, make: Callable[[Callable[..., Any]], Any]) -> None:
    before = getattr(owner, name, None)
    if before is None:
        return
    inherited = name not in vars(owner)
    replacement = make(before)
    setattr(owner, name, replacement)

    def restore() -> None:
        if vars(owner).get(name) is replacement:
            if inherited:
                delattr(owner, name)
            else:
                setattr(owner, name, before)

    _undo.append(restore)


def _install_patches() -> None:
    for name in _SOCKET_METHODS:
        _patch(socket.socket, name, lambda original, name=name: _guarded(name, original))
    for name in _TLS_METHODS:
        _patch(ssl.SSLSocket, name, lambda original, name=name: _guarded(name, original))
    _patch(threading.Thread, "start", _starting_thread)
    _patch(ThreadPoolExecutor, "submit", _submitting)
    uvloop = sys.modules.get("uvloop")
    if uvloop is not None:
        for name in (
            "create_connection",
            "create_unix_connection",
            "create_datagram_endpoint",
            "getaddrinfo",
        ):
            _patch(uvloop.Loop, name, lambda original, name=name: _guarded_loop(name, original))


def _guarded_loop(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is not None:
            guard.refuse(f"open a connection ({name})")
        return original(self, *args, **kwargs)

    return method


def _starting_thread(original: Callable[..., Any]) -> Callable[..., Any]:
    """A thread that guarded code starts is guarded: a new thread has an empty context."""

    def start(self: threading.Thread) -> Any:
        guard = active_guard()
        if guard is not None and not isinstance(self, threading._DummyThread):
            self._isotrace_guard = guard  # type: ignore[attr-defined]  # read by `active_guard`
        return original(self)

    return start


def _submitting(original: Callable[..., Any]) -> Callable[..., Any]:
    """A job that guarded code gives to a pool is guarded, whenever the pool's thread was started."""

    def submit(self: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        guard = active_guard()
        if guard is None:
            return original(self, function, *args, **kwargs)

        def guarded(*inner: Any, **named: Any) -> Any:
            token = _guard.set(guard)
            try:
                return function(*inner, **named)
            finally:
                _guard.reset(token)

        return original(self, guarded, *args, **kwargs)

    return submit


@contextmanager
def guarded() -> Iterator[Guard]:
    """Refuses network and processes to the code inside, in this process."""
    global _users, _hooked
    guard = Guard("patched")
    with _hook_lock:
        if not _hooked:
            sys.addaudithook(_audit)  # can't be removed: it looks whether a guard is active
            _hooked = True
        _users += 1
        if _users == 1:
            _install_patches()
    token = _guard.set(guard)
    try:
        yield guard
    finally:
        _guard.reset(token)
        with _hook_lock:
            _users -= 1
            if _users == 0:
                while _undo:
                    _undo.pop()()


def guard_process() -> Guard:
    """Refuses network and processes to this whole process for the rest of its life.

    For the child process of a replay: in a network namespace of its own where that is permitted.
    """
    global _process_guard, _hooked
    guard = Guard("netns" if enter_network_namespace() else "patched")
    with _hook_lock:
        if not _hooked:
            sys.addaudithook(_audit)
            _hooked = True
        _install_patches()
    _process_guard = guard
    return guard


def enter_network_namespace() -> bool:
    """Moves this process into a network namespace without any interface up; whether that worked.

    Linux only. Needs the right to do so, or unprivileged user namespaces.
    """
    import ctypes  # takes a few milliseconds, and only a replay's child process needs it

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) == 0:
            return True
        return os.geteuid() != 0 and libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0
    except (OSError, AttributeError):
        return False
