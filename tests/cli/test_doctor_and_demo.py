"""`doctor` and `demo`"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isotrace.cli.demo.stand_in_model import next_message


def checks(said: Any) -> dict[str, str]:
    return {check["name"]: check["status"] for check in said.json["checks"]}


def test_sound_store_is_healthy(isotrace: Callable[..., Any]) -> None:
    said = isotrace("doctor", "--json")
    assert said.code == 0
    assert said.json["healthy"] is True
    assert set(checks(said).values()) <= {"ok", "warn"}
    assert "2 runs of this tenant" in isotrace("doctor").out


def test_store_that_is_no_database_is_a_failure(isotrace: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("these are notes, and no database at all" * 100)
    said = isotrace("doctor", "--store", str(tmp_path / "notes.db"), "--json")
    assert (said.code, said.json["healthy"], checks(said)["store"]) == (2, False, "fail")


def test_damaged_store_is_a_failure(isotrace: Callable[..., Any], store_url: str) -> None:
    size = Path(store_url).stat().st_size
    with Path(store_url).open("r+b") as file:
        file.seek(size // 2)
        file.write(os.urandom(size // 3))
    said = isotrace("doctor", "--json")
    assert (said.code, said.json["healthy"]) == (2, False)


def test_store_of_a_newer_version_is_named(isotrace: Callable[..., Any], store_url: str) -> None:
    connection = sqlite3.connect(store_url)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    said = isotrace("ls", "--json")
    assert (said.code, said.json["error"]["type"]) == (2, "StoreVersionError")
    assert isotrace("doctor").code == 2


def test_journals_that_were_put_aside_are_mentioned(isotrace: Callable[..., Any], store_url: str) -> None:
    folder = Path(store_url).parent / "journals"
    folder.mkdir(exist_ok=True)
    (folder / ("0" * 64 + ".corrupt")).write_text("x")
    said = isotrace("doctor", "--json")
    assert (said.code, checks(said)["put aside"]) == (0, "warn")


def test_nothing_recorded_yet_is_no_failure(
    isotrace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ISOTRACE_STORE")
    assert isotrace("doctor").code == 0
    assert not (tmp_path / ".isotrace").exists()


@pytest.mark.slow
def test_demo_shows_what_it_is_there_to_show(program: Callable[..., Any], tmp_path: Path) -> None:
    said = program("demo", "--folder", "here", "--json", env={"ISOTRACE_STORE": str(tmp_path / "demo.db")})
    assert said.code == 0, said.err
    found = said.json
    assert found["runs"] >= 4
    assert found["diff"]["verdict"] == "DIVERGED"
    assert found["replay"]["verdict"] == "MATCH"
    assert found["replay"]["receipt"]["executed"] == 0
    first = found["replay_changed"]["divergences"][0]
    assert (first["code"], first["index"], first["pointers"]) == (
        "PARAMS_CHANGED",
        0,
        ["/messages/0/content"],
    )


@pytest.mark.slow
def test_demo_in_a_folder_that_can_not_be_written_says_so(
    isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "demo"
    said = isotrace("demo", "--folder", str(folder))
    assert said.code == 2
    assert said.err == (
        f"isotrace: the demo can't write to its folder ({folder}); got Not a directory."
        " name another one with --folder\n"
    )


def test_demo_whose_database_can_not_be_written_says_so(isotrace: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "demo" / "shop.db").mkdir(parents=True)
    said = isotrace("demo", "--folder", str(tmp_path / "demo"))
    assert said.code == 2
    assert said.err.startswith("isotrace: the demo can't write to its folder")


def test_demo_for_people_runs_every_line_that_it_shows(program: Callable[..., Any], tmp_path: Path) -> None:
    said = program("demo", env={"ISOTRACE_STORE": str(tmp_path / "demo.db"), "COLUMNS": "80"})
    assert said.code == 0, said.err
    shown = [line for line in said.out.splitlines() if line.startswith("$ ")]
    assert [line.split()[2] for line in shown[-4:]] == ["ls", "diff", "replay", "replay"]
    assert said.out.index("\nMATCH\n") < said.out.index("\nDIVERGED  PARAMS_CHANGED at step 0")


def test_stand_in_differs_from_run_to_run_and_comes_to_an_end() -> None:
    import random

    paths = set()
    for seed in range(40):
        messages: list[dict[str, Any]] = []
        draw = random.Random(seed)
        while not messages or messages[-1].get("tool_calls"):
            messages.append(next_message(messages, draw))
        calls = [call["function"]["name"] for one in messages for call in one.get("tool_calls", ())]
        paths.add(tuple(calls))
    assert paths == {
        ("find_customer", "list_orders", "refund"),
        ("find_customer", "get_order", "refund"),
    }


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed here")
@pytest.mark.slow
def test_screen_of_a_real_terminal(store_url: str, tmp_path: Path) -> None:
    """What a terminal shows in the end, not what it was sent: nothing wraps, nothing is overwritten."""
    name = f"isotrace-{os.getpid()}"
    command = f"{sys.executable} -m isotrace.cli diff aaa bbb; echo code $?; sleep 30"
    subprocess.run(
        ["tmux", "-L", name, "new-session", "-d", "-x", "100", "-y", "40", command], check=True, cwd=tmp_path
    )
    try:
        for _ in range(100):
            screen = subprocess.run(
                ["tmux", "-L", name, "capture-pane", "-p"], capture_output=True, text=True, check=True
            ).stdout
            if "code 1" in screen:
                break
            subprocess.run(["sleep", "0.2"], check=True)
    finally:
        subprocess.run(["tmux", "-L", name, "kill-server"], check=False)
    assert "≠ 2 ▸ weather" in screen
    assert "─┼─" in screen
    assert screen.splitlines()[0].startswith("DIVERGED  PARAMS_CHANGED at step 2")
