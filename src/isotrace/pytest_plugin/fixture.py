"""The fixture `golden`: golden runs named and opened by the test itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from isotrace.errors import IsotraceError
from isotrace.pytest_plugin.guarding import Scope
from isotrace.pytest_plugin.marked import check_loop
from isotrace.pytest_plugin.naming import folder_of, golden_path, stem_of
from isotrace.pytest_plugin.scope import opened
from isotrace.pytest_plugin.session import classes_of, session_of


class GoldenScope:
    """One golden of a test, to be opened with `with` or `async with`, or checked against one call."""

    def __init__(self, item: pytest.Item, path: Path, rules: dict[str, Any], used: set[Path]) -> None:
        self.path = path
        self._item = item
        self._rules = rules
        self._used = used
        self._open: AbstractContextManager[Scope] | None = None

    def check(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Calls the function inside the scope, and returns what it returns; what a coroutine function
        returns is to be awaited."""
        if inspect.iscoroutinefunction(function):
            return self._acheck(function, args, kwargs)
        with self:
            return function(*args, **kwargs)

    async def _acheck(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        async with self:
            return await function(*args, **kwargs)

    def __enter__(self) -> Self:
        if self.path in self._used:
            pytest.fail(
                "the test holds two runs against one golden: name them, as in golden('first')", pytrace=False
            )
        self._used.add(self.path)
        self._open = opened(self._item, self.path, self._rules)
        self._open.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._open is not None
        return self._open.__exit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        check_loop()
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self.__exit__(kind, error, trace)


class Golden:
    """The goldens of one test. Called, it gives one of them: the test's own, or the one of a name."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._used: set[Path] = set()
        self._made: list[Path] = []

    def __call__(
        self,
        name: str | None = None,
        *,
        level: str = "decisions",
        ignore: Any = (),
        normalize: Any = (),
        tolerance: Any = (),
        kinds: Any = None,
        metadata: Any = None,
        redact: Any = (),
    ) -> GoldenScope:
        """The golden of this name, held to at this level and under these rules."""
        item = self._item
        rules = {
            "level": level,
            "ignore": ignore,
            "normalize": normalize,
            "tolerance": tolerance,
            "kinds": kinds,
            "metadata": metadata or {},
            "redact": redact,
        }
        try:
            folder = folder_of(item.path, session_of(item.config).folder)
        except IsotraceError as error:
            pytest.fail(str(error), pytrace=False)
        path = golden_path(folder, item.path.stem, stem_of(classes_of(item), item.name), name)
        self._made.append(path)
        return GoldenScope(item, path, rules, self._used)

    def never_opened(self) -> list[Path]:
        """The goldens that the test has asked for and then held nothing against."""
        return [path for path in self._made if path not in self._used]

    def check(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """`golden().check(…)`: one call held against the test's own golden."""
        return self().check(function, *args, **kwargs)
