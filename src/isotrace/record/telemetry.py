"""A program's own telemetry: what it tells an observability service is no part of what its agent does.

Exporters send when they like, mostly from threads of their own, so their requests would be steps in another
number and place each time. They go on beside a recording, and are no steps; a replay sends nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from isotrace.record.context import current_branch, reset_all, run_opener, set_all

PACKAGES: Final = frozenset(
    {
        "ddtrace",
        "langfuse",
        "langsmith",
        "logfire",
        "newrelic",
        "openlit",
        "opentelemetry",
        "opik",
        "posthog",
        "sentry_sdk",
        "traceloop",
    }
)
"""Packages whose threads tell about the program."""

GUARD_ATTRIBUTE: Final = "_isotrace_guard"
"""Set on threads that a replay's code starts: what guards them."""


def exports(thread: threading.Thread) -> bool:
    """Whether a thread that is about to start belongs to telemetry."""
    target: Any = getattr(thread, "_target", None) or type(thread)
    return str(getattr(target, "__module__", "")).partition(".")[0] in PACKAGES


def in_a_replay() -> bool:
    """Whether the calling code is replayed."""
    return run_opener.get() is not None or hasattr(threading.current_thread(), GUARD_ATTRIBUTE)


@contextmanager
def outside() -> Iterator[None]:
    """Inside, nothing is a step."""
    tokens = set_all([(current_branch, None)])
    try:
        yield
    finally:
        reset_all(tokens)
