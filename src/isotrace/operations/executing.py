"""Executing a program in this process as `python` would, from its first line to its exit functions."""

from __future__ import annotations

import atexit
import builtins
import io
import os
import pkgutil
import runpy
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from isotrace.record.sealer import flush


def execute(
    entry: Mapping[str, Any],
    *,
    tell: Callable[[BaseException], None] | None = None,
    ended: Callable[[BaseException | None], bool] = lambda _: False,
) -> None:
    """Runs a program in this process as `__main__`, waits for the threads that it leaves, and runs the
    functions that are registered with `atexit`. Raises what the program raises, `SystemExit` too.

    Its module stays `sys.modules["__main__"]`: the process is the program's. `tell` is called with what the
    program raises before its threads are waited for, as `python` prints it. Where `ended` says of that (None:
    nothing was raised) that nothing may follow, nothing is waited for or called.
    """
    process, before = os.getpid(), set(threading.enumerate())
    try:
        _start(entry)
    except BaseException as error:
        if tell is not None:
            tell(error)
        if not ended(error):
            _finish(process, before)
        raise
    if not ended(None):
        _finish(process, before)


def _start(entry: Mapping[str, Any]) -> None:
    target, arguments = str(entry["target"]), [str(argument) for argument in entry["arguments"]]
    main = sys.modules["__main__"] = _main_module()
    if entry["module"]:
        _first_on_path(str(Path.cwd()))
        sys.argv = ["-m", *arguments]
        runpy._run_module_as_main(target)  # type: ignore[attr-defined]  # what `python -m` itself calls
        return
    sys.argv = [_spelled(entry, target), *arguments]
    if is_importable(target):
        sys.path[0:1] = [target]
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]  # as above
        return
    # A link's folder is not where its modules are.
    _first_on_path(str(Path(os.path.realpath(target)).parent))
    main.__file__, main.__loader__ = target, SourceFileLoader("__main__", target)
    main.__dict__["__cached__"] = None
    exec(_code(target), main.__dict__)  # noqa: S102  # the program that is to be run


def _main_module() -> ModuleType:
    """An empty `__main__`, as the interpreter makes it."""
    main = ModuleType("__main__")
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    main.__dict__["__builtins__"] = builtins
    return main


def _first_on_path(folder: str) -> None:
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _spelled(entry: Mapping[str, Any], target: str) -> str:
    """The script as it was typed, where that still is the script."""
    spelled = str(entry.get("spelled", target))
    try:
        return spelled if os.path.samefile(spelled, target) else target  # noqa: PTH121 - keeps `folder/` as it is
    except OSError:
        return target


def is_importable(target: str) -> bool:
    """Whether a path is a folder or an archive, whose `__main__` is the program."""
    return pkgutil.get_importer(target) is not None


def _code(target: str) -> Any:
    with io.open_code(target) as file:
        code = pkgutil.read_code(file)
        if code is not None:
            return code
        file.seek(0)
        source = file.read()
    return compile(source, target, "exec", dont_inherit=True)


def _finish(process: int, before: set[threading.Thread]) -> None:
    """What the interpreter does behind a program's last line: what is called there is the program's.

    In a child that the program forked it is left to the interpreter.
    """
    if os.getpid() != process:
        return
    try:
        _wait_for_threads(before)
    except KeyboardInterrupt:
        traceback.print_exc()
    atexit._run_exitfuncs()
    atexit.register(flush)


def _wait_for_threads(before: set[threading.Thread]) -> None:
    # Workers of executors that nobody shut down wait for this, or they wait for ever.
    callbacks: list[Callable[[], None]] = getattr(threading, "_threading_atexits", [])
    while callbacks:
        callbacks.pop()()
    others = before | {threading.current_thread(), threading.main_thread()}
    while left := [one for one in threading.enumerate() if not one.daemon and one not in others]:
        left[0].join()
