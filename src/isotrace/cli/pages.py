"""`--html FILE`: where a page goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from isotrace.cli.face import Face
from isotrace.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])

STDOUT = "-"


def html_option(function: Function) -> Function:
    """Adds `--html FILE`, which a command gets as `html`."""
    return click.option(
        "--html",
        type=click.Path(dir_okay=False, allow_dash=True),
        metavar="FILE",
        help="Write a page that stands alone (one HTML file); - for stdout.",
    )(function)


def check_page(face: Face, html: str | None) -> None:
    """Raises `UsageError` where both the page and JSON would go to stdout."""
    if html == STDOUT and face.json:
        raise UsageError("--json and --html - would both write to stdout", hint="name a file for the page")


def write_page(face: Face, page: str, html: str) -> None:
    """Writes a page to stdout, or to a file whole or not at all, and says so to people.

    Raises `UsageError` where the file can't be written.
    """
    if html == STDOUT:
        sys.stdout.buffer.write(page.encode())
        return
    path = Path(html)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(page.encode())
        draft.replace(path)
    except OSError as error:
        raise UsageError("the file can't be written", where=html, got=error.strerror) from error
    finally:
        draft.unlink(missing_ok=True)
    if not face.json:
        click.echo(f"wrote {html}")
