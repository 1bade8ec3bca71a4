"""What a record says that a program had read may be anybody's word."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from isotrace.record.capture.forms import _made
from isotrace.record.sources.noted import CLOCK, ENTROPY, UUID, decoded


@pytest.mark.parametrize(
    ("source", "data"),
    [
        (CLOCK, {"first": ["a", ""], "steps": []}),
        (CLOCK, {"first": [1, 2.5], "steps": []}),
        (CLOCK, {"first": [True, 1], "steps": []}),
        (CLOCK, {"first": [10**18, 1], "steps": []}),
        (CLOCK, {"first": [1, 1], "steps": ["x"]}),
        (CLOCK, {"first": [1, 1], "steps": [0] * 30_000}),
        (CLOCK, [[1, 2], "ab"]),
        (UUID, [5]),
        (UUID, "abcd"),
        (ENTROPY, ["f" * 5000]),
        (ENTROPY, ["zz"]),
    ],
)
def test_values_that_were_never_noted_so_are_refused(source: str, data: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        decoded(source, data)


@pytest.mark.parametrize("form", ["enum", "named tuple", "model", "dataclass"])
def test_only_classes_that_are_made_of_their_parts_are_made(form: str, tmp_path: Any) -> None:
    class Reach:
        def find(self, name: str) -> Any:
            return logging.FileHandler

    with pytest.raises(LookupError):
        _made(str(tmp_path / "made.txt"), [form, "logging.FileHandler", []], Reach())  # type: ignore[arg-type]
    assert not (tmp_path / "made.txt").exists()
