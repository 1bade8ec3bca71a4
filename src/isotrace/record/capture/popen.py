"""`subprocess.Popen` objects: the start is a step, and so is each thing that is done with the process.

While it is recorded the program has a real `Popen`, whose pipes are recorded (see
`isotrace.record.capture.pipes`). In a replay it has one without a process: its pipes are real and empty,
what it gives is served.
"""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from isotrace.record.capture.command import Command, captured
from isotrace.record.capture.pipes import captured_stream
from isotrace.record.capture.processes import Call, kept, made, not_there
from isotrace.record.context import Branch, calling_branch, live_branch
from isotrace.record.patches import patch
from isotrace.record.sources.noted import PROCESS

_STREAMS = ("stdin", "stdout", "stderr")


class Process:
    """What is known of one captured process. `served`: it is a replay's, and there is none. `told`: the
    program was told its exit code where that is recorded, and so in a replay too."""

    def __init__(self, command: Command, pid: int, *, served: bool) -> None:
        self.command = command
        self.pid = pid
        self.served = served
        self.told = False

    def params(self, what: str, **more: Any) -> dict[str, Any]:
        return {"do": what, **more, **self.command.call}


_by_pid: WeakValueDictionary[int, Process] = WeakValueDictionary()
_by_group: WeakValueDictionary[int, Process] = WeakValueDictionary()


def known(process: Process) -> Process:
    """Remembers a process, so that signals to its number are seen."""
    _by_pid[process.pid] = process
    return process


def install(library: Any) -> list[Callable[[], None]]:
    """Wraps the methods of `Popen`, and what sends signals by a process's number; the ways back."""
    popen = library.Popen
    starting = _Starting(popen)
    methods = (
        (popen, "__init__", starting.wrap),
        (popen, "communicate", _communicating),
        (popen, "wait", _waiting),
        (popen, "poll", _polling),
        (popen, "send_signal", _signalling),
    )
    numbers = (
        (os, "kill", _killing(_by_pid)),
        (os, "killpg", _killing(_by_group)),
        (os, "getpgid", _getting_group),
    )
    return [patch(owner, name, wrap) for owner, name, wrap in (*methods, *numbers) if hasattr(owner, name)]


# --- starting ---------------------------------------------------------------------------------


class _Starting:
    """`Popen.__init__`."""

    def __init__(self, popen: Any) -> None:
        self._signature = inspect.signature(popen.__init__)
        self._handles = inspect.signature(popen._execute_child)

    def wrap(self, plain: Callable[..., None]) -> Callable[..., None]:
        def __init__(popen: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  # it stands for that
            branch = calling_branch()
            command = (
                None
                if branch is None
                else captured(lambda: self._signature.bind(popen, *args, **kwargs).arguments, branch)
            )
            if branch is None or command is None:
                return plain(popen, *args, **kwargs)
            call, outcome = made(
                branch,
                command,
                {"do": "start", **command.params},
                lambda: plain(popen, *args, **kwargs),
                lambda call, _: _started(call, popen.pid),
            )
            if not call.happened:
                call.raise_again(outcome, None, None)
                pid = (call.transport or {}).get("pid", 0)
                self._start_nothing(popen, plain, args, kwargs, pid)
            popen._isotrace = known(Process(command, popen.pid, served=not call.happened))
            options = self._signature.bind(popen, *args, **kwargs).arguments
            bufsize = options.get("bufsize", -1)
            for name in _STREAMS:
                stream = getattr(popen, name)
                setattr(
                    popen, name, captured_stream(stream, bufsize, command, name, served=not call.happened)
                )
            return None

        return __init__

    def _start_nothing(
        self, popen: Any, plain: Callable[..., None], args: Any, kwargs: Any, pid: int
    ) -> None:
        """Lets `Popen` make itself, with its pipes, and start nothing."""

        def execute_child(*given: Any, **named: Any) -> None:
            handles = self._handles.bind(popen, *given, **named).arguments
            popen.pid = pid
            popen._close_pipe_fds(
                *(
                    handles[name]
                    for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
                )
            )

        popen._execute_child = execute_child
        # The number may be another process's by now: nothing may wait for it.
        popen._wait = lambda *_, **__: popen.returncode
        popen._internal_poll = lambda *_, **__: popen.returncode
        plain(popen, *args, **kwargs)


def _started(call: Call, pid: int) -> dict[str, Any]:
    call.transport = {"pid": pid}
    return call.ended()


# --- what is done with a process ----------------------------------------------------------------


def _of(popen: Any) -> tuple[Branch | None, Process | None]:
    """The branch that records what is done with it, and what is known of it. Raises for one that was
    served, where nothing can be."""
    process: Process | None = popen.__dict__.get("_isotrace")
    branch = live_branch()
    if process is not None and process.served and branch is None:
        raise not_there(process.command.program)
    return branch, process


def _is_told(popen: Any) -> bool:
    """Whether its exit code is known, in a replay too: then nothing more comes of the process."""
    process: Process | None = popen.__dict__.get("_isotrace")
    return popen.returncode is not None and (process is None or process.told)


def _communicating(plain: Callable[..., Any]) -> Callable[..., Any]:
    def communicate(self: Any, input: Any = None, timeout: float | None = None) -> Any:  # noqa: A002  # Popen's name
        branch, process = _of(self)
        if branch is None or process is None:
            return plain(self, input, timeout)
        params = process.params("communicate", **({} if input is None else {"input": kept(input)}))
        call, outcome = made(
            branch,
            process.command,
            params,
            lambda: _really(process, plain, self, input, timeout),
            lambda call, got: call.ended(self.returncode, *got),
        )
        process.told = outcome.get("returncode") is not None
        if call.happened:
            return call.value
        call.raise_again(outcome, self.args, timeout)
        self.returncode = outcome["returncode"]
        for name in _STREAMS:
            if (stream := getattr(self, name)) is not None:
                stream.close()
        return call.output(outcome, "stdout"), call.output(outcome, "stderr")

    return communicate


def _waiting(plain: Callable[..., Any]) -> Callable[..., Any]:
    def wait(self: Any, timeout: float | None = None) -> Any:
        if _is_told(self):
            return plain(self, timeout)
        branch, process = _of(self)
        if branch is None or process is None:
            return plain(self, timeout)
        call, outcome = made(
            branch,
            process.command,
            process.params("wait"),
            lambda: _really(process, plain, self, timeout),
            lambda call, code: call.ended(code),
        )
        process.told = outcome.get("returncode") is not None
        if call.happened:
            return call.value
        call.raise_again(outcome, self.args, timeout)
        self.returncode = outcome["returncode"]
        return self.returncode

    return wait


def _polling(plain: Callable[..., Any]) -> Callable[..., Any]:
    def poll(self: Any) -> Any:
        if _is_told(self):
            return plain(self)
        branch, process = _of(self)
        if branch is None or process is None:
            return plain(self)
        code = branch.driver.noted(
            branch, f"{PROCESS}{process.command.program}: poll", lambda: _really(process, plain, self)
        )
        process.told = code is not None
        if process.served:
            self.returncode = code
        return code

    return poll


def _signalling(plain: Callable[..., Any]) -> Callable[..., Any]:
    def send_signal(self: Any, sig: int) -> None:
        if _is_told(self):
            return plain(self, sig)  # type: ignore[no-any-return]  # None, as Popen's
        branch, process = _of(self)
        if branch is None or process is None:
            return plain(self, sig)  # type: ignore[no-any-return]  # None, as Popen's
        call, outcome = made(
            branch,
            process.command,
            process.params("signal", signal=signal_name(sig)),
            lambda: _really(process, plain, self, sig),
            lambda call, _: _signalled(call, self.returncode),
        )
        process.told = "returncode" in outcome
        if not call.happened:
            self.returncode = outcome.get("returncode")
        return None

    return send_signal


def _signalled(_call: Call, returncode: int | None) -> dict[str, Any]:
    """The process may have ended before: that is no failure of the signal."""
    return {} if returncode is None else {"returncode": returncode}


def _really(process: Process, plain: Callable[..., Any], *args: Any) -> Any:
    if process.served:
        raise not_there(process.command.program)
    return plain(*args)


def signal_name(number: int) -> str:
    """A signal as it is recorded."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


# --- by its number --------------------------------------------------------------------------------


def _killing(processes: WeakValueDictionary[int, Process]) -> Callable[[Any], Any]:
    def wrap(plain: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def kill(pid: int, sig: int, /) -> None:
            branch, process = live_branch(), processes.get(pid) or _by_pid.get(pid)
            if branch is None or process is None:
                return plain(pid, sig)
            made(
                branch,
                process.command,
                process.params("signal", signal=signal_name(sig), by="number"),
                lambda: _really(process, plain, pid, sig),
                lambda _call, _nothing: {},
            )
            return None

        return kill

    return wrap


def _getting_group(plain: Callable[[int], int]) -> Callable[[int], int]:
    def getpgid(pid: int, /) -> int:
        branch, process = live_branch(), _by_pid.get(pid)
        if branch is None or process is None:
            return plain(pid)
        call, _ = made(
            branch,
            process.command,
            process.params("getpgid"),
            lambda: _really(process, plain, pid),
            _group,
        )
        group = int(call.value if call.happened else (call.transport or {})["group"])
        if group != os.getpgrp():
            _by_group[group] = process
        return group

    return getpgid


def _group(call: Call, group: int) -> dict[str, Any]:
    call.transport = {"group": group}
    return {}
