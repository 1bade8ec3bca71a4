"""Without the development tools, test files that need one of them are left out, and named.

So the same tests run against an installed wheel, where a stray import of such a tool would break users.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

TOOLS = ("attrs", "httpx", "numpy", "opentelemetry", "pydantic", "rfc8785", "uvloop")
IMPORT = re.compile(rf"^(?:import|from) ({'|'.join(TOOLS)})\b", re.MULTILINE)

left_out: dict[str, list[str]] = {}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    needed = set(IMPORT.findall(collection_path.read_text("utf-8")))
    missing = sorted(tool for tool in needed if find_spec(tool) is None)
    if not missing:
        return None
    left_out[collection_path.name] = missing
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, missing in sorted(left_out.items()):
        terminalreporter.write_line(f"left out {name}: needs {', '.join(missing)}")
