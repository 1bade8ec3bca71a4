"""The lab: functions are recorded and replayed in it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.record import flush

if TYPE_CHECKING:
    from tests.record.lab import Lab

_FILE = Path(__file__).parents[1] / "record" / "lab.py"


def _module() -> Any:
    if "isotrace_lab" not in sys.modules:
        spec = importlib.util.spec_from_file_location("isotrace_lab", _FILE)
        assert spec
        assert spec.loader
        sys.modules["isotrace_lab"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["isotrace_lab"]


@pytest.fixture
def lab() -> Iterator[Lab]:
    yield _module().Lab()
    assert flush(60)
