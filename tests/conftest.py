"""What all tests share: the lab, and which files run where the development tools are missing.

Without those tools, test files that need one of them are left out, and named. So the same tests run
against an installed wheel, where a stray import of such a tool would break users.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.record.lab import Lab

TOOLS = (
    "agents",
    "aiohttp",
    "anthropic",
    "anyio",
    "attrs",
    "boto3",
    "cel_expr_python",
    "genai_prices",
    "h2",
    "httpx",
    "httpx2",
    "jinja2",
    "langchain_core",
    "langchain_openai",
    "langgraph",
    "mcp",
    "mistralai",
    "numpy",
    "openai",
    "opentelemetry",
    "playwright",
    "pydantic",
    "pydantic_ai",
    "requests",
    "rfc8785",
    "trio",
    "urllib3",
    "uuid_utils",
    "uvloop",
    "vcr",
    "xdist",
    "yaml",
)
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


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Functions are recorded and replayed in it."""
    module = _lab_module()
    yield module.Lab()
    assert module.flush(60)


def _lab_module() -> Any:
    # Test folders are no packages, so it is found by its file; and only where it is asked for.
    if "isotrace_lab" not in sys.modules:
        spec = spec_from_file_location("isotrace_lab", Path(__file__).parent / "record" / "lab.py")
        assert spec
        assert spec.loader
        sys.modules["isotrace_lab"] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["isotrace_lab"]
