"""`verify`, `prove`, `erase`, `rebuild`"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isotrace.errors import RecordCorruptError
from isotrace.ledger import SealedRun
from isotrace.operations.integrity import holds_text, verify_run
from isotrace.stores.memory import MemoryStore

RUN_A = "a" * 32


def altered(store_url: str, statement: str, *values: Any) -> None:
    """Changes the store behind isotrace's back, its guards taken down first."""
    connection = sqlite3.connect(store_url)
    guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in guards:
        connection.execute(f"DROP TRIGGER {name}")
    assert connection.execute(statement, values).rowcount > 0
    for _, sql in guards:
        connection.execute(sql)
    connection.commit()
    connection.close()


def test_intact_run_is_verified(isotrace: Callable[..., Any]) -> None:
    root = isotrace("show", "aaa", "--json").json["root_hash"]
    said = isotrace("verify", "aaa", "--json")
    assert said.code == 0
    found = said.json
    assert (found["verified"], found["run_id"], found["root_hash"]) == (True, RUN_A, root)
    assert (found["events"], found["erased"]) == (13, 0)
    assert "every commitment and the root hold" in isotrace("verify", "aaa").out


def test_altered_row_of_a_step_is_named(isotrace: Callable[..., Any], store_url: str) -> None:
    altered(store_url, "UPDATE steps SET duration_ms = 1 WHERE step_index = 3")
    said = isotrace("verify", "aaa")
    assert said.code == 2
    assert "the store's steps are not what the ledger gives" in said.err
    assert "isotrace rebuild" in said.err
    assert isotrace("rebuild", "--json").json == {"runs": 2}
    assert isotrace("verify", "aaa").code == 0


def test_altered_root_is_named(isotrace: Callable[..., Any], store_url: str) -> None:
    altered(store_url, "UPDATE runs SET root_hash = ? WHERE run_id = ?", bytes(32), RUN_A)
    said = isotrace("verify", "aaa", "--json")
    assert (said.code, said.json["error"]["type"]) == (2, "RecordCorruptError")


def test_index_row_that_was_deleted_is_named(isotrace: Callable[..., Any], store_url: str) -> None:
    altered(store_url, "DELETE FROM terms WHERE field = 9")
    assert isotrace("ls", "--meta", "task=13", "--json").json == []
    said = isotrace("verify", "aaa")
    assert said.code == 2
    assert "a listing by these filters would be wrong" in said.err
    assert "got metadata" in said.err
    isotrace("rebuild")
    assert isotrace("verify", "aaa").code == 0


def test_altered_stored_value_is_named_by_event_and_field(refund: Callable[..., SealedRun]) -> None:
    """The run, the event and the value, where the rows beside the ledger tell them."""
    run = refund(RUN_A)
    for seq, name in ((3, "params"), (4, "outcome_data"), (0, "metadata")):
        store = MemoryStore()
        store.put(run)
        values = store._kept["default", RUN_A].run.ledger.events[seq].values
        data = values[name]
        assert isinstance(data, bytes)
        values[name] = data.replace(b"W-1042", b"W-9999").replace(b"20.0", b"2.0").replace(b"gpt", b"GPT")
        with pytest.raises(RecordCorruptError) as caught:
            verify_run(store, RUN_A, tenant_id="default")
        assert (caught.value.run_id, caught.value.where) == (RUN_A, f"event {seq}, value {name!r}")


# --- roots ----------------------------------------------------------------------------


def test_root_that_was_kept_elsewhere_must_be_the_same(isotrace: Callable[..., Any], tmp_path: Path) -> None:
    root = isotrace("show", "aaa", "--json").json["root_hash"]
    isotrace("export", "aaa", "-o", "run.jsonl")
    isotrace("prove", "aaa", "1", "-o", "proof.json")
    for target in ("aaa", "run.jsonl", "proof.json"):
        assert isotrace("verify", target, "--root", root, "--json").json["held_against"] == "given"
        other = isotrace("verify", target, "--root", "0" * 64)
        assert other.code == 2
        assert "the run's root is not the one that was kept" in other.err
        assert "not a root" in isotrace("verify", target, "--root", "12").err
    isotrace("export", "--all", "-o", "runs.jsonl")
    assert isotrace("verify", "runs.jsonl", "--root", root).code == 2


def _without_header(file: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    del lines[0]["ledger"]
    return lines


def test_file_that_states_no_root_is_held_against_the_store(
    isotrace: Callable[..., Any], tmp_path: Path, store_url: str
) -> None:
    root = isotrace("show", "aaa", "--json").json["root_hash"]
    isotrace("export", "aaa", "-o", "run.jsonl")
    file = tmp_path / "run.jsonl"
    lines = _without_header(file)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert isotrace("verify", "run.jsonl", "--json").json["held_against"] == "store"

    lines[1]["event"]["skill_name"] = "forged"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert isotrace("verify", "run.jsonl").code == 2
    assert isotrace("verify", "run.jsonl", "--root", root).code == 2

    Path(store_url).unlink()
    said = isotrace("verify", "run.jsonl")
    assert said.code == 125
    assert "no root to hold against: computed " in said.out
    assert isotrace("verify", "run.jsonl", "--json").json["verified"] is False


def test_altered_value_of_a_file_is_named_by_run_and_event(
    isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    isotrace("export", "aaa", "-o", "run.jsonl")
    file = tmp_path / "run.jsonl"
    for old, new, seq, name in (("W-1042", "W-1043", 1, "params"), ("gpt-4.1", "gpt-4.2", 0, "metadata")):
        isotrace("export", "aaa", "-o", "run.jsonl")
        file.write_text(file.read_text().replace(old, new))
        error = isotrace("verify", "run.jsonl", "--json").json["error"]
        assert error["run_id"] == RUN_A
        assert f"the value {name!r} of event {seq} is not" in error["message"]
        assert error["pointer"] == f"/{seq}/values/{name}"


# --- proofs ---------------------------------------------------------------------------


def test_proof_needs_the_root_and_nothing_else_of_the_run(
    isotrace: Callable[..., Any], store_url: str
) -> None:
    root = isotrace("show", "aaa", "--json").json["root_hash"]
    assert isotrace("prove", "aaa", "1", "-o", "proof.json").code == 0
    Path(store_url).unlink()
    said = isotrace("verify", "proof.json", "--root", root)
    assert said.code == 0
    assert said.out == (
        f"verified: step get_order of lineage 1 belongs to the root of run {RUN_A}\n"
        f"  root {root}: it is the root that was given\n"
    )
    found = isotrace("verify", "proof.json", "--root", root, "--json").json
    assert (found["verified"], found["events"]) == (True, ["step_started", "step_finished"])


def test_proof_alone_is_inconclusive(
    isotrace: Callable[..., Any], put: Callable[..., None], build: Any, store_url: str
) -> None:
    forged = build(RUN_A).step("get_order", {"order_id": "W-0"}, {"status": "never"}).sealed()
    Path(store_url).unlink()
    put(forged)
    isotrace("prove", "aaa", "0", "-o", "proof.json")
    Path(store_url).unlink()
    said = isotrace("verify", "proof.json")
    assert said.code == 125
    assert said.out.startswith(f"not verified: step get_order of lineage 0 of run {RUN_A}\n")
    assert "--root" in said.out
    found = isotrace("verify", "proof.json", "--json")
    assert (found.code, found.json["verified"], found.json["held_against"]) == (125, False, None)


def test_proof_is_held_against_the_store_at_hand(
    isotrace: Callable[..., Any], put: Callable[..., None], build: Any, store_url: str
) -> None:
    isotrace("prove", "aaa", "1", "-o", "proof.json")
    said = isotrace("verify", "proof.json")
    assert (said.code, "it is the run's root in the store" in said.out) == (0, True)
    assert isotrace("verify", "proof.json", "--json").json["held_against"] == "store"
    Path(store_url).unlink()
    put(build(RUN_A).step("get_order", {}, {}).sealed())
    said = isotrace("verify", "proof.json")
    assert said.code == 2
    assert "the run's root is not the one that was kept" in said.err


def test_proof_holds_no_value(isotrace: Callable[..., Any]) -> None:
    assert "W-1042" not in isotrace("prove", "aaa", "1").out


@pytest.mark.parametrize(
    "path",
    [
        ["root_hash"],
        ["events", 0, "path", 0],
        ["events", 2, "envelope", "outcome_data", "commit"],
        ["events", 1, "envelope", "skill_name"],
    ],
)
def test_altered_proof_does_not_hold(isotrace: Callable[..., Any], tmp_path: Path, path: list[Any]) -> None:
    proof = isotrace("prove", "aaa", "1", "--json").json
    place = proof
    for part in path[:-1]:
        place = place[part]
    old = place[path[-1]]
    place[path[-1]] = ("1" if old[0] == "0" else "0") + old[1:]
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    said = isotrace("verify", "proof.json")
    assert said.code == 2
    assert "does not lead to the root" in said.err


@pytest.mark.parametrize(
    "content",
    ['{"format": "isotrace-proof/1"}', '{"format": "isotrace-proof/2", "root_hash": 1, "events": [{}]}'],
)
def test_broken_proof_is_named(isotrace: Callable[..., Any], tmp_path: Path, content: str) -> None:
    (tmp_path / "proof.json").write_text(content)
    assert "is not a proof" in isotrace("verify", "proof.json").err


@pytest.mark.parametrize("step", ["5", "-1"])
def test_proof_of_no_step_is_refused(isotrace: Callable[..., Any], step: str) -> None:
    said = isotrace("prove", "aaa", "--", step)
    assert said.code == 2
    assert "expected 0 to 4" in said.err


# --- erase ----------------------------------------------------------------------------


def test_erased_step_is_gone_and_the_root_stays(isotrace: Callable[..., Any], store_url: str) -> None:
    before = isotrace("verify", "aaa", "--json").json
    said = isotrace("erase", "aaa", "--step", "1", "--reason", "asked to", "--yes", "--json")
    assert (said.code, said.json["values"]) == (0, 3)  # params, outcome, and why it violated a policy
    after = isotrace("verify", "aaa", "--json").json
    assert after == {**before, "erased": 3}
    record = isotrace("show", "aaa", "--json").json
    assert list(record["steps"][1]["params"]) == ["$iso:erased"]
    assert record["steps"][4]["params"]["order_id"] == "W-1042"


def test_one_field_of_a_step(isotrace: Callable[..., Any]) -> None:
    arguments = ["--step", "1", "--field", "params", "--reason", "asked to", "--yes"]
    assert isotrace("erase", "aaa", *arguments).out == "erased 1 value in 1 run\n"
    step = isotrace("show", "aaa", "--step", "1", "--json").json
    assert step["outcome_data"] == {"status": "delivered", "total": 20.0}


def test_text_is_erased_in_the_whole_correlation_and_nowhere_else(
    isotrace: Callable[..., Any], put: Callable[..., None], build: Callable[..., Any], store_url: str
) -> None:
    inner = json.dumps({"mail": 'ada "the" countess\n@example.com'})
    for name, correlation in (("1", "request"), ("2", "request"), ("3", "another")):
        run = build(name * 32, correlation_id=correlation)
        run.step("call", {"body": json.dumps({"arguments": inner})}, {"ok": True})
        run.step("other", {"x": 1})
        put(run.sealed())
    text = 'ada "the" countess\n@example.com'
    said = isotrace("erase", "111", "--text", text, "--reason", "asked to", "--yes", "--json").json
    assert sorted(run["run_id"] for run in said["runs"]) == ["1" * 32, "2" * 32]
    assert said["values"] == 2
    for name in "12":
        assert isotrace("show", name * 32, "--json").out.count("countess") == 0
        assert isotrace("verify", name * 32).code == 0
    assert isotrace("show", "333", "--json").out.count("countess") == 1


def test_dry_run_erases_nothing(isotrace: Callable[..., Any]) -> None:
    said = isotrace("erase", "aaa", "--text", "W-1042", "--reason", "x", "--dry-run")
    assert said.out == "would erase 3 values in 1 run\n"
    assert isotrace("verify", "aaa", "--json").json["erased"] == 0


def test_nobody_to_ask_means_no_erasing(isotrace: Callable[..., Any]) -> None:
    said = isotrace("erase", "aaa", "--step", "1", "--reason", "x")
    assert said.code == 2
    assert "--yes" in said.err
    assert isotrace("verify", "aaa", "--json").json["erased"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--step", "9"],
        ["--step", "1", "--field", "nothing"],
        ["--text", "not in there"],
        ["--text", ""],
        [],
        ["--step", "1", "--text", "x"],
    ],
)
def test_nothing_to_erase_is_an_error(isotrace: Callable[..., Any], arguments: list[str]) -> None:
    assert isotrace("erase", "aaa", *arguments, "--reason", "x", "--yes").code == 2


def test_text_in_facts_is_said_to_stay(isotrace: Callable[..., Any]) -> None:
    said = isotrace("erase", "aaa", "--text", "support", "--reason", "x", "--yes")
    assert said.code == 2
    assert "the facts of 1 event, which can't be erased: event 0" in said.err


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("my secret", True),
        ({"secret": 1}, True),
        ([{"x": {"y": ["a secret b"]}}], True),
        (json.dumps({"x": "secret"}), True),
        (json.dumps(json.dumps(json.dumps(["secret"]))), True),
        ("SECRET", False),
        ({"x": "se", "y": "cret"}, False),
        (None, False),
    ],
)
def test_where_text_is_looked_for(value: Any, found: bool) -> None:
    assert holds_text(value, "secret") is found


def test_digits_are_found_in_numbers() -> None:
    assert holds_text({"card": 4111111111111111}, "41111111")
    assert not holds_text({"card": 4111111111111111}, "5111")
