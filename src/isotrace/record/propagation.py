"""Correlation across processes: W3C Trace Context and Baggage headers.

`traceparent` (https://www.w3.org/TR/trace-context/, version 00) carries a trace id that other tracing
systems understand; `baggage` (https://www.w3.org/TR/baggage/) carries the correlation id as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import quote, unquote

from isotrace.clock import SYSTEM
from isotrace.hashing import H
from isotrace.record.context import current_step, live_branch

_TRACEPARENT = re.compile(r"\A[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?\Z")
_HEX32 = re.compile(r"\A[0-9a-f]{32}\Z")
_CORRELATION = "isotrace.correlation_id"
_PARENT = "isotrace.parent_run_id"
_LIMIT = 8192
"""Bytes of baggage that are read: the limit that the specification asks every platform to carry."""


@dataclass(frozen=True, slots=True)
class RemoteParent:
    """Who called us from another process."""

    correlation_id: str
    run_id: str | None


remote_parent: ContextVar[RemoteParent | None] = ContextVar("isotrace_remote_parent", default=None)


def trace_id_of(correlation_id: str) -> str:
    """The 32 hex digits that stand for a correlation id in `traceparent`; itself if it has that form."""
    if _HEX32.match(correlation_id) and correlation_id.strip("0"):
        return correlation_id
    return H("isotrace/v1/trace-id", correlation_id.encode()).hex()[:32]


def inject_headers(headers: MutableMapping[str, str]) -> None:
    """Adds `traceparent` and `baggage` of the current run to the headers of an outgoing request, or to
    the environment of a child process. Existing baggage is kept. Outside a run nothing is added."""
    step = current_step.get()
    branch = live_branch() or (step.branch if step is not None else None)
    if branch is None or branch.driver.info.provisional:
        return
    info = branch.driver.info
    span_id = SYSTEM.random_bytes(8).hex()
    headers["traceparent"] = f"00-{trace_id_of(info.correlation_id)}-{span_id}-01"
    ours = f"{_CORRELATION}={quote(info.correlation_id, safe='')},{_PARENT}={quote(info.run_id, safe='')}"
    theirs = [
        item
        for item in (headers.get("baggage") or "").split(",")
        if item.strip() and item.split("=")[0].strip() not in (_CORRELATION, _PARENT)
    ]
    headers["baggage"] = ",".join([*theirs, ours])


def read_headers(headers: Mapping[str, str]) -> RemoteParent | None:
    """Who sent these headers (names in any case, or `TRACEPARENT`/`BAGGAGE` of an environment).

    None where they name nobody. Malformed headers are ignored, as both specifications ask.
    """
    lowered = {str(name).lower(): value for name, value in headers.items()}
    baggage: dict[str, str] = {}
    for item in str(lowered.get("baggage") or "")[:_LIMIT].split(","):
        name, equals, value = item.partition("=")
        if equals:
            baggage[name.strip()] = unquote(value.split(";")[0].strip())
    found = _TRACEPARENT.match(str(lowered.get("traceparent") or "").strip())
    correlation = baggage.get(_CORRELATION) or (found.group(1) if found else None)
    return RemoteParent(correlation, baggage.get(_PARENT)) if correlation else None


@contextmanager
def extract_headers(headers: Mapping[str, str]) -> Iterator[RemoteParent | None]:
    """Runs opened inside belong to the sender's correlation.

    with isotrace.extract_headers(request.headers):
        support(task)
    """
    parent = read_headers(headers)
    token = remote_parent.set(parent)
    try:
        yield parent
    finally:
        remote_parent.reset(token)
