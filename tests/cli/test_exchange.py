"""`import` and `export`"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isotrace.operations import exchange

DATA = Path(__file__).parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real runs of ../shared/data are not here")
RUN_A, RUN_B = "a" * 32, "b" * 32

TAU_RUN = {
    "task_id": 3,
    "trial": 0,
    "reward": 1.0,
    "info": {
        "task": {"user_id": "u", "instruction": "do it", "actions": [], "outputs": []},
        "user_cost": 0.1,
    },
    "traj": [
        {"role": "system", "content": "be good"},
        {"role": "user", "content": "hello"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q": 1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "name": "find", "content": "found"},
        {"role": "assistant", "content": "done"},
    ],
}


@pytest.fixture
def tau_file(tmp_path: Path) -> Path:
    """A tau-bench file with a good run, a bad one, and a good one."""
    file = tmp_path / "some-model.json"
    bad = {**TAU_RUN, "task_id": 4, "traj": [{"role": 7}]}
    file.write_text(json.dumps([TAU_RUN, bad, {**TAU_RUN, "task_id": 5}]))
    return file


def test_bad_run_is_reported_and_the_good_ones_are_kept(isotrace: Callable[..., Any], tau_file: Path) -> None:
    said = isotrace("import", "tau-bench", str(tau_file), "--json")
    found = said.json
    assert said.code == 2
    assert (found["runs"], found["skipped"], found["files"]) == (2, 0, 1)
    assert found["steps"] == 6
    (error,) = found["errors"]
    assert (error["type"], error["where"]) == ("ImportFormatError", str(tau_file))
    assert error["pointer"].startswith("/1/traj/0")
    tasks = [isotrace("show", run, "--json").json["metadata"]["task"] for run in found["run_ids"]]
    assert tasks == ["3", "5"]
    assert len(isotrace("ls", "--meta", "task=3", "--json").json) == 1


def test_same_runs_again_are_skipped(isotrace: Callable[..., Any], tau_file: Path) -> None:
    isotrace("import", "tau-bench", str(tau_file))
    again = isotrace("import", "tau-bench", str(tau_file), "--json").json
    assert (again["runs"], again["skipped"]) == (0, 2)


def test_auto_finds_the_format_in_a_folder_also_compressed(
    isotrace: Callable[..., Any], tau_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.json.gz").write_bytes(gzip.compress(json.dumps([TAU_RUN]).encode()))
    (folder / "notes.txt").write_text("nothing to import")
    found = isotrace("import", "auto", str(tmp_path / "in"), "--json").json
    assert (found["runs"], found["files"], found["errors"]) == (1, 1, [])
    assert found["ignored"] == [str(folder / "notes.txt")]


def test_counts_of_one_are_singular(isotrace: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps([TAU_RUN]))
    assert isotrace("import", "tau-bench", "one.json").out == "imported 1 run, 3 steps from 1 file\n"
    again = isotrace("import", "tau-bench", "one.json").out
    assert again == "imported 0 runs, 0 steps from 1 file; 1 was there already\n"


def test_file_of_nothing_but_errors_is_not_read_to_its_end(
    isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    bad = b'{"a":1},' * 2_000_000
    (tmp_path / "bad.json.gz").write_bytes(gzip.compress(b"[" + bad + b'{"a":1}]', 1))
    said = isotrace("import", "tau-bench", "bad.json.gz", "--json")
    assert said.code == 2
    errors = said.json["errors"]
    assert len(errors) == 1_001
    assert errors[999]["pointer"].startswith("/999")
    assert "… and more; the rest of the file was not read" in errors[1_000]["message"]


def test_lines_that_are_no_events_are_not_read_to_their_end(
    isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    isotrace("export", "aaa", "-o", "run.jsonl")
    run = (tmp_path / "run.jsonl").read_bytes()
    for count, runs in ((1_000, 1), (100_001, 0)):
        (tmp_path / "bad.jsonl").write_bytes(b'{"a":1}\n' * count + run)
        said = isotrace("import", "jsonl", "bad.jsonl", "--store", str(tmp_path / f"{count}.db"), "--json")
        assert (said.code, said.json["runs"]) == (2, runs)
    assert "the rest of the file was not read" in said.json["errors"][-1]["message"]


def test_exactly_as_many_errors_as_are_kept_hide_nothing(
    isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text(json.dumps([{"a": 1}] * 1_000))
    assert len(isotrace("import", "tau-bench", "bad.json", "--json").json["errors"]) == 1_000


def test_runs_of_one_file_are_bounded(
    isotrace: Callable[..., Any], tau_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MAX_RUNS", 1)
    found = isotrace("import", "tau-bench", str(tau_file), "--json").json
    assert found["runs"] == 1
    assert "too many runs; the rest of it was not read" in found["errors"][-1]["message"]


@pytest.mark.parametrize("format_name", ["tau-bench", "auto"])
def test_folder_without_a_file_of_the_format_is_an_error(
    isotrace: Callable[..., Any], tmp_path: Path, format_name: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for there in ([], ["notes.txt"]):
        for name in there:
            (folder / name).write_text("nothing to import")
        said = isotrace("import", format_name, str(folder))
        assert said.code == 2
        assert f"the folder holds no file of this format ({folder})" in said.err
        assert "tau-bench" in said.err


def test_named_file_of_no_known_format_is_an_error(isotrace: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to import")
    said = isotrace("import", "auto", "notes.txt")
    assert said.code == 2
    assert "of no known format" in said.err


def test_unknown_format_lists_the_known_ones(isotrace: Callable[..., Any], tau_file: Path) -> None:
    said = isotrace("import", "tau3", str(tau_file))
    assert said.code == 2
    assert "auto, claude-code, golden, inspect, jsonl, langfuse, mini-swe-agent, openai-agents, " in said.err


def test_format_may_be_left_out_where_a_file_stands_in_its_place(
    isotrace: Callable[..., Any], tmp_path: Path, tau_file: Path
) -> None:
    assert isotrace("export", "--all", "-o", "runs.jsonl").code == 0
    other = ("--store", str(tmp_path / "other.db"), "--json")
    assert isotrace("import", "runs.jsonl", *other).json["runs"] == 2
    assert isotrace("import", str(tmp_path / "runs.jsonl"), str(tau_file), *other).json["runs"] == 2


def test_format_is_one_also_beside_a_file_of_its_name(
    isotrace: Callable[..., Any], tmp_path: Path, tau_file: Path
) -> None:
    for name in ("tau-bench", "auto"):
        (tmp_path / name).mkdir()
        found = isotrace(
            "import", name, str(tau_file), "--json", "--store", str(tmp_path / f"{name}.db")
        ).json
        assert (found["runs"], found["files"]) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say which files to import; expected [FORMAT] FILE…"),
        (["tau2"], "say which files to import; expected [FORMAT] FILE…; got tau2"),
        (["gone.jsonl"], "there is no such file, nor a format; expected [FORMAT] FILE…; got gone.jsonl"),
    ],
)
def test_import_without_a_file_says_what_is_missing(
    isotrace: Callable[..., Any], arguments: list[str], message: str
) -> None:
    said = isotrace("import", *arguments)
    assert (said.code, said.err) == (2, f"isotrace: {message}\n")


def test_import_makes_the_store(isotrace: Callable[..., Any], tau_file: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "new" / "runs.db")
    assert isotrace("import", "tau-bench", str(tau_file), "--store", store, "--json").json["runs"] == 2
    assert len(isotrace("ls", "--store", store, "--json").json) == 2


# --- export ---------------------------------------------------------------------------


def test_export_is_the_inverse_of_import_and_keeps_the_root(
    isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    said = isotrace("export", "aaa", "bbb", "-o", "runs.jsonl", "--json")
    assert said.json["runs"] == 2
    assert isotrace("verify", "runs.jsonl").code == 0
    other = str(tmp_path / "other.db")
    assert isotrace("import", "jsonl", "runs.jsonl", "--store", other, "--json").json["runs"] == 2
    for run in (RUN_A, RUN_B):
        assert isotrace("show", run, "--json").json == isotrace("show", run, "--store", other, "--json").json
    again = isotrace("import", "jsonl", "runs.jsonl", "--json").json
    assert (again["runs"], again["skipped"]) == (0, 2)


def test_export_of_a_selection_and_to_stdout(program: Callable[..., Any], tmp_path: Path) -> None:
    said = program("export", "--all", "--meta", "task=13")
    assert said.code == 0
    (tmp_path / "out.jsonl").write_text(said.out)
    assert len(program("verify", "out.jsonl", "--json").json["runs"]) == 2
    assert program("export", "--all", "--meta", "task=none").code == 2


def test_altered_export_is_found(isotrace: Callable[..., Any], tmp_path: Path) -> None:
    isotrace("export", "aaa", "-o", "runs.jsonl")
    lines = (tmp_path / "runs.jsonl").read_text().splitlines(keepends=True)
    changes = {
        "value": [line.replace("Paris", "Rome") for line in lines],
        "fact": [line.replace("get_order", "got_order") for line in lines],
        "dropped": lines[:3] + lines[4:],
        "swapped": [*lines[:3], lines[4], lines[3], *lines[5:]],
        "cut": lines[:-1],
    }
    for name, altered in changes.items():
        assert altered != lines
        (tmp_path / "altered.jsonl").write_text("".join(altered))
        said = isotrace("verify", "altered.jsonl")
        assert said.code == 2, name
        assert said.err.startswith("isotrace: "), name
        assert "Traceback" not in said.err, name


def test_export_names_what_it_needs(isotrace: Callable[..., Any]) -> None:
    assert isotrace("export").code == 2
    assert isotrace("export", "aaa", "--all").code == 2
    assert isotrace("export", "zzz", "-o", "x.jsonl").code == 2
    assert isotrace("export", "aaa", "-o", "no/such/folder/x.jsonl").code == 2
    assert not Path("x.jsonl").exists()


def test_run_of_another_tenant_is_refused_unless_asked_for(
    isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    isotrace("export", "aaa", "-o", "runs.jsonl")
    other = ["--store", str(tmp_path / "other.db"), "--tenant", "acme"]
    refused = isotrace("import", "jsonl", "runs.jsonl", *other, "--json")
    assert refused.code == 2
    assert refused.json["runs"] == 0
    assert isotrace("import", "jsonl", "runs.jsonl", "--as-tenant", *other, "--json").json["runs"] == 1
    assert len(isotrace("ls", *other, "--json").json) == 1


def test_run_that_was_taken_over_is_the_new_tenants_everywhere(
    isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    isotrace("export", "aaa", "-o", "runs.jsonl")
    acme = ["--tenant", "acme"]
    assert isotrace("import", "jsonl", "runs.jsonl", *acme, "--as-tenant").code == 0
    root = isotrace("show", "aaa", "--json").json["root_hash"]
    for change in (None, ["rebuild"], ["erase", "aaa", "--step", "1", "--reason", "x", "--yes", *acme]):
        if change is not None:
            assert isotrace(*change).code == 0
        verified = isotrace("verify", "aaa", "--json", *acme).json
        assert (verified["verified"], verified["root_hash"]) == (True, root)
        assert (verified["recorded_for"], verified["taken_over_by"]) == ("default", "acme")
        record = isotrace("show", "aaa", "--json", *acme).json
        (listed,) = isotrace("ls", "--meta", "recorded_tenant=default", "--json", *acme).json
        assert record["tenant_id"] == listed["tenant_id"] == "acme"
        assert record["metadata"]["recorded_tenant"] == "default"
    assert "recorded for tenant default, taken over by acme" in isotrace("verify", "aaa", *acme).out
    assert isotrace("show", "aaa", "--json").json["tenant_id"] == "default"
    isotrace("export", "aaa", "-o", "again.jsonl", *acme)
    assert isotrace("verify", "again.jsonl", "--json").json["root_hash"] == root


@needs_data
@pytest.mark.slow
def test_all_real_files_are_imported(isotrace: Callable[..., Any]) -> None:
    found = isotrace(
        "import",
        "auto",
        *(str(DATA / name) for name in ("tau2", "tau_bench_retail", "mini_swe_agent")),
        "--json",
    ).json
    assert found["errors"] == []
    assert (found["runs"], found["steps"]) == (1147, 34106)
