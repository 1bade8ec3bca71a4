"""Tests that are marked: the whole body is one golden's scope."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from isotrace.errors import IsotraceError, UsageError
from isotrace.pytest_plugin.naming import file_in, folder_of, golden_path, safe, stem_of
from isotrace.pytest_plugin.session import classes_of, session_of

_KEYS = ("name", "file", "level", "ignore", "normalize", "tolerance", "kinds", "metadata", "redact")


def marked_path(item: pytest.Function, folder: str) -> Path | None:
    """The golden of a marked test; None where its mark says nothing sensible, which the test fails with."""
    try:
        return path_of(item, folder, marks_of(item))
    except IsotraceError:
        return None


def marks_of(item: pytest.Function) -> dict[str, Any]:
    """What the marks of a test, its class and its module say together. Raises `UsageError`."""
    merged: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers("isotrace"))):
        given = dict(mark.kwargs)
        if len(mark.args) > 1 or (mark.args and "name" in given):
            raise UsageError("@pytest.mark.isotrace takes one name", got=repr(mark.args)[:80])
        if mark.args:
            given["name"] = mark.args[0]
        unknown = [key for key in given if key not in _KEYS]
        if unknown:
            raise UsageError(
                "unknown argument of @pytest.mark.isotrace", expected=", ".join(_KEYS), got=unknown[0]
            )
        merged.update(given)
    return merged


def path_of(item: pytest.Function, folder: str, marks: dict[str, Any]) -> Path:
    """Where the golden of a marked test stands. Raises `UsageError`."""
    place = folder_of(item.path, folder)
    file, name = marks.get("file"), marks.get("name")
    for key, text in (("file", file), ("name", name)):
        if text is not None and (not isinstance(text, str) or not text):
            raise UsageError(f"the {key} of a golden is a text", got=repr(text)[:80])
    if file is not None and name is not None:
        raise UsageError("a golden has a name or a file", got="both")
    if file is not None:
        return file_in(place, file)
    stem = stem_of(classes_of(item), item.name) if name is None else safe(name)
    return golden_path(place, item.path.stem, stem)


@contextmanager
def guarded(item: pytest.Function) -> Iterator[None]:
    """While this is open, the test's function is guarded."""
    plain = item.obj
    if getattr(plain, "is_hypothesis_test", False):
        pytest.fail("a golden holds one run, and Hypothesis makes many: mark another test", pytrace=False)
    held = _wrapped(item, plain)
    item.obj = held
    instance = item.instance if _is_testcase(item) else None
    if instance is not None and inspect.iscoroutinefunction(plain):
        # pytest leaves coroutines to unittest, which looks for the method on the instance.
        setattr(instance, item.name, held)
    try:
        yield
    finally:
        item.obj = plain
        if instance is not None:
            with suppress(AttributeError):
                delattr(instance, item.name)


def _is_testcase(item: pytest.Function) -> bool:
    import unittest  # noqa: PLC0415  # loaded by pytest long ago

    return isinstance(item.instance, unittest.TestCase)


def _wrapped(item: pytest.Function, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function in its golden's scope, which is opened where the function runs: in its own task."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def body(*args: Any, **kwargs: Any) -> Any:
            check_loop()
            with _scope(item):
                return await function(*args, **kwargs)
    else:

        @functools.wraps(function)
        def body(*args: Any, **kwargs: Any) -> Any:
            with _scope(item):
                return function(*args, **kwargs)

    return body


def check_loop() -> None:
    """A coroutine is recorded and replayed on asyncio."""
    if asyncio._get_running_loop() is None:
        pytest.fail(
            "a golden test runs on asyncio, and this one on another loop (trio): "
            "let the fixture `anyio_backend` give 'asyncio'",
            pytrace=False,
        )


@contextmanager
def _scope(item: pytest.Function) -> Iterator[None]:
    from isotrace.pytest_plugin.scope import opened  # noqa: PLC0415  # collection alone needs nothing of it

    marks = _checked(lambda: marks_of(item))
    path = _checked(lambda: path_of(item, session_of(item.config).folder, marks))
    rules = {key: value for key, value in marks.items() if key not in ("name", "file")}
    with opened(item, path, rules):
        yield


def _checked(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except IsotraceError as error:
        said = str(error)
    pytest.fail(said, pytrace=False)  # outside of the handler: the one sentence, not told twice
