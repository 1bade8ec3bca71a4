"""`isotrace ls`"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from isotrace.registry import open_store

RUN_A, RUN_B = "a" * 32, "b" * 32


def test_json_is_an_array_of_summaries_newest_first(isotrace: Callable[..., Any], store_url: str) -> None:
    store = open_store(store_url)
    expected = [store.get(run, tenant_id="default").summary.to_dict() for run in (RUN_B, RUN_A)]
    store.close()
    assert isotrace("ls", "--json").json == expected


def test_pipe_gets_whole_ids_and_no_colour(isotrace: Callable[..., Any]) -> None:
    said = isotrace("ls")
    assert said.out.splitlines()[1].split()[0] == RUN_B
    assert "\x1b" not in said.out
    assert "…" not in said.out


@pytest.mark.parametrize("columns", [40, 60, 100, 160])
def test_line_fits_the_terminal_and_starts_with_the_id(terminal: Callable[..., Any], columns: int) -> None:
    screen = terminal(columns, "ls")
    assert screen.code == 0
    assert max(map(len, screen.lines)) <= columns
    assert screen.lines[1].startswith("bbbbbbbbbbbb ")


def test_no_color_is_heard(terminal: Callable[..., Any]) -> None:
    assert "\x1b[3" in terminal(80, "ls").raw
    assert "\x1b[3" not in terminal(80, "ls", env={"NO_COLOR": "1"}).raw


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--limit", "1"], [RUN_B]),
        (["--meta", "task=13"], [RUN_B, RUN_A]),
        (["--meta", "task=13", "--limit", "500"], [RUN_B, RUN_A]),
        (["--meta", "task=14"], []),
        (["--meta", "task=14", "--meta", "task=13", "--limit", "1"], [RUN_B]),
        (["--agent", "support"], [RUN_B, RUN_A]),
        (["--agent", "other"], []),
        (["--skill", "refund"], [RUN_B, RUN_A]),
        (["--status", "failed"], []),
        (["--violations"], [RUN_B, RUN_A]),
        (["--policy", "pii/no-email"], [RUN_B, RUN_A]),
        (["--policy", "other"], []),
        (["--correlation", RUN_A], [RUN_A]),
        (["--since", "2025-11-22"], [RUN_B, RUN_A]),
        (["--since", "2025-11-23T00:00Z"], []),
        (["--until", "2025-11-22"], []),
        (["--min-cost", "0.5"], []),
        (["--max-cost", "0.5"], [RUN_B, RUN_A]),
        (["--tenant", "acme"], []),
    ],
)
def test_options_select(isotrace: Callable[..., Any], options: list[str], expected: list[str]) -> None:
    assert [run["run_id"] for run in isotrace("ls", *options, "--json").json] == expected


def test_nothing_to_list_is_said_on_stderr(isotrace: Callable[..., Any]) -> None:
    said = isotrace("ls", "--agent", "other")
    assert (said.code, said.out) == (0, "")
    assert said.err == "no run matches\n"


def test_place_without_a_run_is_told_from_a_filter_that_matches_none(
    isotrace: Callable[..., Any], store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = isotrace("ls", "--tenant", "acme", "--agent", "other")
    assert said.err == f"nothing recorded yet for tenant acme in {store_url}\n"
    monkeypatch.delenv("ISOTRACE_STORE")
    assert isotrace("ls").err == "nothing recorded yet in ./.isotrace/traces.db\n"


def test_id_of_any_length_leaves_the_lines_readable(
    isotrace: Callable[..., Any], put: Callable[..., None], refund: Callable[..., Any]
) -> None:
    put(refund("x" * 5000, agent_id="y" * 5000))
    out = isotrace("ls").out
    assert max(len(line) for line in out.splitlines()) < 400
    assert RUN_A in out


def test_default_store_that_is_not_there_lists_nothing_and_is_not_made(
    isotrace: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISOTRACE_STORE")
    assert isotrace("ls", "--json").json == []
    assert not (tmp_path / ".isotrace").exists()


def test_named_store_that_is_not_there_is_an_error(isotrace: Callable[..., Any], tmp_path: Any) -> None:
    said = isotrace("ls", "--store", str(tmp_path / "typo.db"), "--json")
    assert said.code == 2
    assert said.json["error"]["type"] == "StoreUnavailableError"
    assert not (tmp_path / "typo.db").exists()


@pytest.mark.parametrize("option", [["--meta", "task"], ["--since", "yesterday"], ["--signature", "abc"]])
def test_malformed_option_is_named(isotrace: Callable[..., Any], option: list[str]) -> None:
    said = isotrace("ls", *option)
    assert said.code == 2
    assert said.err.startswith("isotrace: ")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["show", "LONG"], 2),
        (["verify", "LONG"], 2),
        (["replay", "LONG"], 2),
        (["diff", "LONG", "LONG"], 2),
        (["run", "LONG"], 2),
        (["replay", "aaa", "--entry", "LONG.py:f"], 2),
    ],
)
def test_name_of_any_length_is_just_not_found(
    program: Callable[..., Any], command: list[str], code: int
) -> None:
    said = program(*(part.replace("LONG", "n" * 5000) for part in command))
    assert said.code == code
    assert "Traceback" not in said.err
    assert "defect" not in said.err
