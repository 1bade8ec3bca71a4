"""From a recorded entry point to the function that can be run again.

A trace is untrusted input. A module is imported only because a run that was sealed here, from a
journal of this machine, names it, or because the caller does; and what is found there is called only
if it is marked `@agent`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from isotrace.errors import NoEntryPointError, ReplayError, UsageError
from isotrace.plain import from_plain
from isotrace.record.annotations import parameter_annotations
from isotrace.record.binding import skill_signature
from isotrace.record.context import RunInfo, run_opener
from isotrace.record.restore import restore
from isotrace.record.skills import ENTRY_ATTRIBUTE
from isotrace.record.spec import SkillSpec


def agent_of(entry: Mapping[str, Any], run_id: str) -> Callable[..., Any]:
    """The `@agent` function that a recorded entry point names. Imports its module.

    Raises `NoEntryPointError` if the module, the function or its mark is not there (any more).
    """
    module = _module(entry, run_id)
    found: Any = module
    for part in str(entry.get("qualname", "")).split("."):
        found = getattr(found, part, None)
    if not callable(found) or not hasattr(found, ENTRY_ATTRIBUTE):
        raise NoEntryPointError(
            "the recorded entry point is no function marked @agent",
            run_id=run_id,
            got=f"{entry.get('module')}:{entry.get('qualname')}",
            hint="pass the function to replay(), or --entry MODULE:FUNCTION",
        )
    return found  # type: ignore[no-any-return]  # callable, as checked


def _module(entry: Mapping[str, Any], run_id: str) -> ModuleType:
    name, file = str(entry.get("module", "")), entry.get("file")
    loaded = sys.modules.get(name)
    if loaded is not None and _same_file(getattr(loaded, "__file__", None), file):
        return loaded
    try:
        with _no_runs():
            if name == "__main__":
                return _load_file(Path(str(file)))
            if file is not None:
                _add_root(Path(str(file)), name)
            return importlib.import_module(name)
    except NoEntryPointError as error:
        error.run_id = run_id
        raise
    except (Exception, SystemExit) as error:
        raise NoEntryPointError(
            "the module of the recorded entry point can't be imported",
            run_id=run_id,
            got=f"{name} ({file}): {type(error).__name__}: {error}",
            hint="run from the agent's own environment, or pass the function to replay()",
        ) from error


class _NoRuns:
    """A module that is imported for its agent must not run one: that would be recorded, or replayed."""

    def __call__(self, info: RunInfo) -> NoReturn:
        raise ReplayError(
            "importing the module opens a run",
            got=info.agent_id,
            hint='put what the script does when started under `if __name__ == "__main__":`',
        )

    def noted(self, source: str, function: Callable[[], Any]) -> Any:
        return function()

    def outside(self, spec: SkillSpec) -> None:
        if spec.kind != "agent":
            raise ReplayError("importing the module calls a skill", got=spec.name)


@contextmanager
def _no_runs() -> Iterator[None]:
    token = run_opener.set(_NoRuns())
    try:
        yield
    finally:
        run_opener.reset(token)


def _same_file(one: Any, other: Any) -> bool:
    return one is not None and other is not None and Path(one).resolve() == Path(other).resolve()


def _load_file(path: Path) -> ModuleType:
    """A script as a module that is not `__main__`, so that what it does when started is not done."""
    if not path.is_file():
        raise NoEntryPointError("the script of the recorded entry point is gone", got=str(path))
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = f"isotrace_entry_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise NoEntryPointError("the script of the recorded entry point can't be loaded", got=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _add_root(file: Path, name: str) -> None:
    """Makes the folder importable that the module was found in."""
    depth = name.count(".") + (1 if file.name == "__init__.py" else 0)
    root = file.parents[depth] if depth < len(file.parents) else file.parent
    if str(root) not in sys.path:
        sys.path.append(str(root))


def named_function(text: str) -> Callable[..., Any]:
    """The function that `MODULE:FUNCTION` or `FILE.py:FUNCTION` names. Raises `UsageError`."""
    place, colon, qualname = text.rpartition(":")
    if not colon or not qualname:
        raise UsageError("an entry is MODULE:FUNCTION or FILE.py:FUNCTION", got=text)
    try:
        with _no_runs():
            found: Any = _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise UsageError(
            "there is no such entry", got=text, hint=f"{type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise UsageError("an entry is a function", got=f"{text} is a {type(found).__name__}")
    return found  # type: ignore[no-any-return]  # callable, as checked


def recorded_call(function: Callable[..., Any], given: Any) -> Callable[[], Any]:
    """A call of an agent function with the recorded input, its types restored from annotations.

    Raises `RestoreError` where a recorded argument does not fit its annotation.
    """
    target = getattr(function, ENTRY_ATTRIBUTE, function)
    signature = skill_signature(target)
    annotations = parameter_annotations(target)
    bound = signature.bind_partial()
    for name, parameter in signature.parameters.items():
        if isinstance(given, dict) and name in given:
            several = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            bound.arguments[name] = (
                from_plain(given[name]) if several else restore(given[name], annotations.get(name))
            )
    # What was left out in favour of a default may stand before `*args`.
    bound.apply_defaults()
    return lambda: function(*bound.args, **bound.kwargs)
