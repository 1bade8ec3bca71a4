"""What every command shares: its options, the store it opens, and the two ways it answers."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from isotrace.contracts import TraceStore
from isotrace.operations import open_store
from isotrace.report.safe import json_text

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Face:
    """How one call of a command looks to its caller: for people, or JSON for programs."""

    json: bool
    store_url: str | None
    tenant: str

    @contextmanager
    def store(self, *, create: bool = False) -> Iterator[TraceStore]:
        """The store, open as long as the block runs; `create` allows a new one to be made."""
        store = open_store(self.store_url, create=create)
        try:
            yield store
        finally:
            store.close()

    def print_json(self, value: Any) -> None:
        """Writes JSON, UTF-8, to stdout: indented for a terminal, compact for a pipe."""
        # json_text escapes what harms a terminal, so click must not strip anything.
        click.echo(json_text(value, indent=sys.stdout.isatty()).encode("utf-8"), color=True)


def with_face(function: Function) -> Function:
    """Adds `--json`, `--store` and `--tenant` to a command and passes them on as one `Face`."""

    @click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
    @click.option(
        "--store",
        "store_url",
        metavar="URL",
        envvar="ISOTRACE_STORE",
        show_envvar=True,
        help="Where runs are kept; else ./.isotrace/traces.db.",
    )
    @click.option(
        "--tenant",
        metavar="ID",
        envvar="ISOTRACE_TENANT",
        show_envvar=True,
        default="default",
        show_default=True,
        help="Whose runs; no other tenant's are seen.",
    )
    @functools.wraps(function)
    def wrapped(*args: Any, as_json: bool, store_url: str | None, tenant: str, **kwargs: Any) -> Any:
        return function(Face(as_json, store_url, tenant), *args, **kwargs)

    return wrapped  # type: ignore[return-value] # click adds the options to whatever it is given
