"""A crash of the replayed code is told from a divergence: `ReplayResult.crash`."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.record import skill

if TYPE_CHECKING:
    from tests.record.lab import Lab


@skill(effect="read")
def look(what: str) -> str:
    return what.upper()


def two() -> str:
    return look(look("a"))


def failing() -> str:
    look("a")
    look("b")
    raise KeyError("on record")


def crashing() -> str:
    look("a")
    return {"something": "else"}["nothing"]


def crashing_at_the_end() -> str:
    two()
    raise ValueError("late")


def leaving() -> str:
    look("a")
    sys.exit("no key")


def leaving_well() -> str:
    look("a")
    sys.exit(0)


def asking_otherwise() -> str:
    try:
        return look("b")
    finally:
        raise ValueError("because of it")


def ending_early() -> str:
    return look("a")


def surviving() -> str:
    try:
        return crashing()
    except KeyError:
        return "nothing"


def reaching_outside() -> str:
    look("a")
    socket.create_connection(("127.0.0.1", 9))
    return look("A")


@pytest.mark.parametrize(
    ("recorded", "replayed", "crash", "code"),
    [
        (two, two, None, None),
        (two, crashing, "KeyError: 'nothing'", "EARLY_END"),
        (two, crashing_at_the_end, "ValueError: late", "STATUS_CHANGED"),
        (two, leaving, "SystemExit: no key", "EARLY_END"),
        (two, leaving_well, None, "EARLY_END"),
        (two, asking_otherwise, None, "PARAMS_CHANGED"),
        (two, ending_early, None, "EARLY_END"),
        (two, surviving, None, "EARLY_END"),
        (two, reaching_outside, None, "UNCONTROLLED_SOURCE"),
        (failing, crashing, None, "EARLY_END"),
        (failing, leaving, "SystemExit: no key", "EARLY_END"),
        (failing, failing, None, None),
    ],
)
def test_crash_is_an_exception_that_is_not_on_record_and_explains_all_that_differs(
    lab: Lab, recorded: Callable[[], Any], replayed: Callable[[], Any], crash: str | None, code: str | None
) -> None:
    result = lab.replay(lab.record(recorded), replayed)
    assert (None if result.first is None else result.first.code) == code
    if crash is None:
        assert result.crash is None
    else:
        assert result.crash is not None
        assert result.crash.startswith(f"the agent raised {crash} (test_crashes.py:")
    assert result.to_dict()["crash"] == result.crash
