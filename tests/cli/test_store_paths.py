"""A `--store` that can't be one is named by every command that opens it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isotrace.errors import RecordingWarning, StoreUnavailableError
from isotrace.operations import open_store
from isotrace.record import flush, run, skill

LINES = [
    ["ls"],
    ["show", "RUN"],
    ["diff", "A", "B"],
    ["behaviours", "--by", "task"],
    ["replay", "RUN"],
    ["verify", "RUN"],
    ["prove", "RUN", "0"],
    ["import", "jsonl", "runs.jsonl"],
    ["export", "RUN", "-o", "out.jsonl"],
    ["erase", "RUN", "--step", "0", "--reason", "asked", "--yes"],
    ["rebuild"],
]
PATHS = {
    "too long": "x" * 5000,
    "too deep": "x/" * 3000 + "traces.db",
    "below a file": "runs.jsonl/traces.db",
    "a folder": ".",
}


@pytest.fixture
def paths(isotrace: Callable[..., Any], tmp_path: Path) -> None:
    """What the paths lead to; `import` gets a file that is fine."""
    assert isotrace("export", "a" * 32, "-o", "runs.jsonl").code == 0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
@pytest.mark.usefixtures("paths")
def test_a_store_that_can_not_be_is_named(isotrace: Callable[..., Any], line: list[str], path: str) -> None:
    said = isotrace(*line, "--store", PATHS[path], "--json")
    assert (said.code, json.loads(said.out)["error"]["type"]) == (2, "StoreUnavailableError")
    assert said.err.startswith("isotrace: no store can be at this path (")
    assert len(said.err) < 1000


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("paths")
def test_a_default_that_can_not_be_is_not_taken_for_an_empty_store(
    isotrace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("ISOTRACE_STORE", PATHS[path])
    said = isotrace("ls")
    assert (said.code, said.out) == (2, "")
    assert "no store can be at this path" in said.err


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("paths")
def test_the_doctor_says_so_too(isotrace: Callable[..., Any], path: str) -> None:
    said = isotrace("doctor", "--store", PATHS[path], "--json")
    (store,) = [check for check in json.loads(said.out)["checks"] if check["name"] == "store"]
    assert (said.code, store["status"]) == (2, "fail")
    assert "no store can be at this path" in store["detail"]


@skill(effect="read")
def echo(what: str) -> str:
    return what


@pytest.mark.parametrize("path", ["x" * 5000, "nul\0byte/traces.db"])
def test_an_agent_goes_on_without_it(tmp_path: Path, path: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RecordingWarning)
        with run("agent", run_id="lost", store=str(tmp_path / path)):
            assert echo("a") == "a"
        assert flush(60)
    assert "run lost is not in the store: StoreUnavailableError" in str(caught[-1].message)


def test_a_path_with_a_nul_byte_is_named() -> None:
    with pytest.raises(StoreUnavailableError, match="embedded null"):
        open_store("nul\0byte")
