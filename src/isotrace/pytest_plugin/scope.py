"""Opens a golden's scope for a test, and tells the session what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from isotrace.pytest_plugin.failing import Failing
from isotrace.pytest_plugin.guarding import Asked, Scope
from isotrace.pytest_plugin.session import session_of


@contextmanager
def opened(item: pytest.Item, path: Path, rules: Mapping[str, Any]) -> Iterator[Scope]:
    """The scope of one golden of a test, under these rules. Raises `Failing`."""
    session = session_of(item.config)
    other = session.claim(path, item.nodeid)
    if other is not None:
        raise Failing.claimed(path, other)
    scope = Scope(path, session.mode, Asked(**rules), agent_id=item.name)
    try:
        with scope.hold():
            yield scope
    finally:
        session.kept(item, scope.kept, path)
