"""What redactors find never reaches the disk, and a replay of what is left is a match."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Generator
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import pytest

import isotrace
from isotrace.compare import diff_traces
from isotrace.contracts import Breach, RunQuery
from isotrace.errors import RedactorError, UsageError
from isotrace.events import Event
from isotrace.formats.jsonl import JsonlExporter
from isotrace.record import current_run, skill
from isotrace.record.sealer import adopt_journals
from isotrace.redact.redaction import Redaction
from isotrace.replay import Replay
from isotrace.replay.plan import Plan
from isotrace.report.reading import redactors
from isotrace.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from tests.record.lab import Lab, Taken

CANARIES = {
    "card": ["4111 1111 1111 1111", "378282246310005"],
    "email": ["alice.canary@example.com", "bob+canary@mail.example.org"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819"],
    "ip": ["203.0.113.77", "2001:db8:85a3::8a2e:370:7334"],
    "phone": ["+49 30 90182077", "(415) 555-2671"],
    "secrets": ["sk-proj-c4n4ryc4n4ryc4n4ry", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"],
    "ssn": ["078-05-1120", "219-09-9999"],
}


@dataclass
class Contact:
    name: str
    reach: str


@skill(effect="read")
def find(text: str, by: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "found": text,
        "by": by,
        "json": orjson.dumps({"q": f"line\n{text}"}).decode(),
        "raw": text.encode(),
    }


@skill(effect="read")
async def afind(text: str) -> str:
    await asyncio.sleep(0)
    return f"about {text}."


@skill(effect="read")
def contact(text: str) -> Contact:
    return Contact("x", text)


@skill(effect="read", retries=1)
def fail(text: str) -> None:
    raise ValueError(f"no {text}", {"of": text})


@skill(effect="read")
def say(text: str) -> Generator[str, str | None, str]:
    sent = None
    for piece in _cut(f"It is {text} or so"):
        sent = yield piece if sent is None else f"{piece} {sent} "
    return text


@skill(effect="read", kind="llm")
async def asay(text: str) -> AsyncIterator[dict[str, Any]]:
    for piece in _cut(f'{{"to": "{text}"}}'):
        yield {"choices": [{"index": 0, "delta": {"content": piece}}]}


def _cut(text: str) -> list[str]:
    return [text[start : start + 3] for start in range(0, len(text), 3)]


async def agent(texts: list[str]) -> Any:
    run = current_run()
    assert run is not None
    heard: list[Any] = []
    for text in texts:
        found = find(f"for {text}", {text: [text, {"x": text}]})
        heard.append(await afind(found["found"]))
        heard.append(await afind(", ".join([orjson.loads(found["json"])["q"], found["raw"].decode()])))
        heard.append(contact(text).reach)
        try:
            fail(text)
        except ValueError as error:
            heard.append(await afind(str(error)))
        heard.append(_listen(text))
        answer = "".join([one["choices"][0]["delta"]["content"] async for one in asay(text)])
        heard.append(await afind(orjson.loads(answer)["to"]))
        heard.append(run.read("mailbox", lambda text=text: {"top": text}))  # type: ignore[misc]  # bound in the loop
        heard.append(await afind(heard[-1]["top"]))
        run.violation("no-contact", f"it had {text}")
    run.add_metadata(last=texts[-1])
    return heard


def _listen(text: str) -> str:
    stream, heard = say(text), ""
    sent: str | None = None
    try:
        while True:
            heard += stream.send(sent)
            sent = text if len(heard) < 4 else None
    except StopIteration as stop:
        return heard + str(stop.value)


def canaries_in(data: bytes, canaries: list[str]) -> list[str]:
    found = [one for one in canaries if one.encode() in data]
    return found + [one for one in canaries if one.encode("utf-16-le") in data]


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("name", sorted(CANARIES))
def test_no_canary_is_written_anywhere_and_the_replay_is_a_match(lab: Lab, tmp_path: Path, name: str) -> None:
    canaries = CANARIES[name]
    seen: list[bytes] = []

    async def main() -> Any:
        heard = await agent(canaries)
        seen.append(on_disk(tmp_path))
        return heard

    store = SqliteStore(tmp_path / "traces.db")
    lab.store = store  # type: ignore[assignment]  # any store will do
    given = {"input": canaries, "plan": [{"do": canaries[0]}], "metadata": {"m": canaries}}
    taken = lab.record(main, redact=[name], **given)
    assert taken.error is None
    assert "".join(str(one) for one in taken.value).count(canaries[0]) > 5, "the agent itself sees all"
    assert b"step_chunk" in seen[0], "the journal was there to be looked at"
    assert canaries_in(seen[0], canaries) == []
    assert canaries_in(on_disk(tmp_path), canaries) == []
    exported = BytesIO()
    JsonlExporter().write([taken.ledger], exported)
    assert canaries_in(exported.getvalue(), canaries) == []
    assert f"[{name}]".encode() in exported.getvalue()
    assert taken.grade == "replayable"
    result = lab.replay(taken, main, **given)
    assert (str(result.verdict), result.divergences, result.notes) == ("MATCH", [], [])
    assert (result.receipt.served, result.receipt.blocked) == (len(taken.steps), 0)
    store.close()


def record(lab: Lab, text: str, **options: Any) -> Taken:
    return lab.record(lambda: find(text)["found"], **options)


def test_a_changed_prompt_is_still_a_divergence(lab: Lab) -> None:
    taken = record(lab, "write to ann@x.org", redact=["email"])
    result = lab.replay(taken, lambda: find("write at ann@x.org"))
    assert [(str(one.code), one.pointers) for one in result.divergences] == [("PARAMS_CHANGED", ["/text"])]
    assert "ann@x.org" not in str(result.divergences)
    # Which address it was is not on record.
    assert str(lab.replay(taken, lambda: find("write to bob@y.org")["found"]).verdict) == "MATCH"


def test_of_pseudonyms_another_address_is_a_divergence(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOTRACE_REDACT_KEY", "k1")
    taken = record(lab, "write to ann@x.org", redact=["email"])
    assert str(lab.replay(taken, lambda: find("write to ann@x.org")["found"]).verdict) == "MATCH"
    other = lab.replay(taken, lambda: find("write to bob@y.org")["found"])
    assert [str(one.code) for one in other.divergences] == ["PARAMS_CHANGED"]


@pytest.mark.parametrize("key", ["k2", ""])
def test_with_another_key_equality_of_pseudonyms_is_inconclusive(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("ISOTRACE_REDACT_KEY", "k1")
    taken = record(lab, "write to ann@x.org", redact=["email"])
    plain = record(lab, "write to nobody", redact=["email"])
    monkeypatch.setenv("ISOTRACE_REDACT_KEY", key)
    result = lab.replay(taken, lambda: find("write to bob@y.org")["found"])
    assert str(result.verdict) == "INCONCLUSIVE"
    assert "ISOTRACE_REDACT_KEY" in result.notes[0]
    changed = lab.replay(taken, lambda: find("write at ann@x.org")["found"])
    assert (str(changed.verdict), str(changed.divergences[0].code)) == ("DIVERGED", "PARAMS_CHANGED")
    assert str(lab.replay(plain, lambda: find("write to nobody")["found"]).verdict) == "MATCH"


def test_two_runs_whose_pseudonyms_have_two_keys_are_compared_without_them(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = {}
    for key in ("k1", "k2"):
        monkeypatch.setenv("ISOTRACE_REDACT_KEY", key)
        taken[key] = record(lab, "write to ann@x.org", redact=["email"]).record
        taken[key + " other"] = record(lab, "write at ann@x.org", redact=["email"]).record
        taken[key + " none"] = record(lab, "write to nobody", redact=["email"]).record

    def verdict(one: str, other: str, level: str = "decisions") -> str:
        return str(diff_traces(taken[one], taken[other], level=level).verdict)

    assert verdict("k1", "k2") == "INCONCLUSIVE"
    assert verdict("k1", "k2", "exact") == "INCONCLUSIVE"
    assert verdict("k1", "k2 other") == "DIVERGED"
    assert verdict("k1 none", "k2 none") == "MATCH"
    assert verdict("k1", "k2", "skeleton") == "MATCH"
    pointers = [one.pointers for one in diff_traces(taken["k1"], taken["k2 other"]).divergences]
    assert pointers[0] == ["/text"]


def test_a_redactor_that_is_another_by_now_is_an_error(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rules = tmp_path / "isotrace.toml"
    rules.write_text("[redact.patterns]\norder = 'ORD-\\d+'\n")
    taken = record(lab, "see ORD-12", redact=["pattern:order"])
    assert taken.steps[0][2] == {"text": "see [order]"}
    assert str(lab.replay(taken, lambda: find("see ORD-12")["found"]).verdict) == "MATCH"
    rules.write_text("[redact.patterns]\norder = 'ORD-\\d\\d+'\n")
    with pytest.raises(RedactorError, match="another by now"):
        Replay(taken.ledger)
    rules.unlink()
    with pytest.raises(RedactorError, match="pattern:order"):
        Replay(taken.ledger)


@pytest.mark.parametrize("facts", [7, {"use": "email"}, {"use": [["email"]]}, {"use": [["no-such", "1"]]}])
def test_a_record_that_says_nonsense_of_its_redactors_is_an_error(lab: Lab, facts: Any) -> None:
    taken = record(lab, "x")
    taken.events[0].facts["redactors"] = facts
    with pytest.raises(RedactorError):
        Replay(taken.ledger)


def test_the_environment_and_the_project_add_redactors_and_an_inner_run_has_those_around_it(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOTRACE_REDACT", "card")
    (tmp_path / "isotrace.toml").write_text('[redact]\nuse = ["ip"]\n')
    inner: list[str] = []

    @isotrace.agent("inner", redact=["phone"])
    def ask(text: str) -> str:
        run = current_run()
        assert run is not None
        inner.append(run._info.run_id)
        return text

    monkeypatch.setenv("ISOTRACE_STORE", str(tmp_path / "traces.db"))
    taken = lab.record(lambda: ask("ann@x.org +49 30 90182077"), redact=["email"], store=lab.store)
    assert [name for name, _ in taken.events[0].facts["redactors"]["use"]] == ["email", "card", "ip"]
    with closing(isotrace.open_store(tmp_path / "traces.db")) as store:
        started = store.ledger(inner[0], tenant_id="default").events[0]
    assert [name for name, _ in started.facts["redactors"]["use"]] == ["email", "card", "ip", "phone"]
    assert started.value("input") == {"text": "[email] [phone]"}
    assert taken.steps[0][2] == {"text": "[email] +49 30 90182077"}


def test_a_name_that_there_is_not_is_an_error_when_the_run_is_made() -> None:
    with pytest.raises(UsageError, match="list of names"):
        isotrace.run(redact="email")
    with pytest.raises(isotrace.errors.PluginError, match="card, email"):
        isotrace.run(redact=["emial"])


def test_without_redactors_a_run_says_nothing_of_them(lab: Lab) -> None:
    taken = record(lab, "ann@x.org")
    assert "redactors" not in taken.events[0].facts
    assert taken.steps[0][2] == {"text": "ann@x.org"}


def test_an_outcome_that_is_not_of_its_type_any_more_speaks_against_a_replay(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "isotrace.toml").write_text("[redact.patterns]\nid = '[0-9a-f-]{36}'\n")

    @skill
    def number() -> list[UUID]:
        return [UUID("41111111-1111-1111-1234-123412341234")]

    taken = lab.record(number, redact=["pattern:id"])
    assert taken.grade == ["outcome of number: redacted, it does not fit its annotation any more"]


class _Broken:
    name = "broken"
    version = "1"

    def find(self, text: str) -> list[tuple[int, int]]:
        if "canary" in text:
            raise RuntimeError(text)
        return []


def test_a_redactor_that_fails_lets_nothing_through_and_is_noted(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isotrace.redact.redaction.redactor_of", lambda name, known: _Broken())
    store = SqliteStore(tmp_path / "traces.db")
    lab.store = store  # type: ignore[assignment]  # any store will do
    taken = record(lab, "a canary", redact=["broken"])
    assert taken.value == "a canary"
    assert taken.steps[0][2] == {"text": "[redactor broken failed]"}
    assert taken.grade == ["redactor broken failed: texts that it was given were withheld"]
    assert b"a canary" not in on_disk(tmp_path)
    assert str(lab.replay(taken, lambda: find("a canary")["found"]).verdict) == "MATCH"
    store.close()


def test_where_redacting_fails_recording_ends_and_nothing_goes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: Lab
) -> None:
    kept = Redaction.data

    def data(self: Redaction, data: bytes, name: str, skill: str | None = None) -> bytes:
        if name == "outcome_data":
            raise RuntimeError("no")
        return kept(self, data, name, skill)

    monkeypatch.setattr(Redaction, "data", data)
    store = SqliteStore(tmp_path / "traces.db")
    lab.store = store  # type: ignore[assignment]  # any store will do
    with pytest.warns(isotrace.errors.RecordingWarning, match="can't be redacted"):
        taken = record(lab, "ann@x.org", redact=["email"])
    assert taken.value == "ann@x.org"
    assert taken.record.status == "aborted"
    assert b"ann@x.org" not in on_disk(tmp_path)
    store.close()


def test_of_a_stream_that_is_too_long_the_rest_is_withheld(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isotrace.record.redacting.MAX_HELD", 20)

    @skill
    def stream() -> Generator[str, None, None]:
        yield from ("to ann@", "x.org", "more and more", "bob@y.org")

    taken = lab.record(lambda: "".join(stream()), redact=["email"])
    assert taken.value == "to ann@x.orgmore and morebob@y.org"
    held = "[withheld until the stream ends]"
    assert taken.steps[0][3] == {"chunks": ["to [email]", "", held, held]}
    assert taken.grade == ["stream: what came after 20 bytes of a stream was withheld"]


def test_a_message_that_is_cut_holds_no_half_of_what_was_found(lab: Lab) -> None:
    @skill
    def long() -> None:
        raise ValueError("x" * 9_970 + " to alice.canary.alice.canary@example.com, and more")

    taken = lab.record(long, redact=["email"])
    (error,) = [event.value("error") for event in taken.events if event.type == "step_finished"]
    assert error["message"].endswith("x to [email], and more")
    whole = lab.record(long)
    (error,) = [event.value("error") for event in whole.events if event.type == "step_finished"]
    assert error["message"].endswith(" to alice.canary.alice.canary@")


def test_recording_without_redactors_loads_none_of_them(tmp_path: Path) -> None:
    program = "import sys, isotrace\nwith isotrace.run(store='memory:'): pass\nprint('re2' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout == "False\n"


def test_the_terminal_and_the_page_say_which_redactors_were_in_force(lab: Lab) -> None:
    taken = record(lab, "ann@x.org", redact=["email", "ip"])
    assert redactors(taken.record) == "email, ip"
    assert redactors(record(lab, "ann@x.org").record) == ""


@pytest.mark.parametrize("mode", ["tools-live", "model-live"])
def test_partly_live_replays_ask_for_what_is_on_record(lab: Lab, mode: str) -> None:
    async def main() -> Any:
        return await agent(CANARIES["email"])

    taken = lab.record(main, redact=["email"])
    result = Replay(taken.ledger, Plan(mode), store=lab.store).run(lambda: lab.start(main, store=lab.store))
    assert (str(result.verdict), result.divergences) == ("MATCH", [])
    assert result.new_run is not None
    assert canaries_in(orjson.dumps(result.new_run.to_dict()), CANARIES["email"]) == []


def test_a_run_that_is_kept_has_the_redactors_of_now_too_and_is_compared_without_what_they_find(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> Any:
        return await agent(CANARIES["email"])

    taken = lab.record(main)
    assert "alice.canary@example.com" in str(taken.steps)
    monkeypatch.setenv("ISOTRACE_REDACT", "email")
    store = SqliteStore(tmp_path / "traces.db")
    plan = Plan("tools-live", keep=True)
    result = Replay(taken.ledger, plan, store=store).run(lambda: lab.start(main, store=store))
    assert isotrace.flush(60)
    assert (str(result.verdict), result.divergences) == ("MATCH", [])
    assert result.new_run is not None
    assert result.new_run.steps[0].params["text"] == "for [email]"
    assert canaries_in(on_disk(tmp_path), CANARIES["email"]) == []
    store.close()


_CRASHING = """
import os, sys, time
import isotrace

@isotrace.skill(effect="read")
def say(text):
    for piece in ("It is ", text[:7], text[7:], " so"):
        yield piece

@isotrace.agent("crash", redact=["email"])
def agent(text):
    list(say(text))
    for piece in say(text):
        if piece == " so":
            print("there", flush=True)
            time.sleep(60)

agent(sys.argv[1])
"""


def test_a_process_that_is_killed_in_the_middle_of_a_stream_leaves_no_canary(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(_CRASHING)
    home = tmp_path / "home"
    env = {**os.environ, "ISOTRACE_STORE": str(home / "traces.db")}
    canary = "alice.canary@example.com"
    process = subprocess.Popen([sys.executable, program, canary], env=env, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    journal = on_disk(home)
    assert b"step_chunk" in journal
    assert b"[email]" in journal
    assert canaries_in(journal, [canary, "alice.c", "anary@example.com"]) == []
    with closing(isotrace.open_store(home / "traces.db")) as store:
        adopt_journals(store)
        (found,) = store.query(RunQuery()).runs
        ledger = store.ledger(found.summary.run_id, tenant_id="default")
    chunks = [event.value("chunk") for event in ledger.events if event.type == "step_chunk"]
    held = "[withheld until the stream ends]"
    assert chunks == ["It is ", "[email]", "", " so", held, held, held, held]
    assert ledger.record().status == "aborted"


class _NoMail:
    """Flags every step that asks for an address of mail, and says which."""

    name = "no-mail"
    looks_at = frozenset({"params"})

    def opened(self, started: Event) -> _NoMail:
        return self

    def judge(self, event: Event) -> list[Breach]:
        if event.type != "step_started" or "@" not in str(event.value("params")):
            return []
        return [Breach("no-mail", f"it asked for {event.value('params')}")]


def test_a_policy_sees_what_the_agent_asks_and_what_it_says_of_that_is_redacted(
    lab: Lab, tmp_path: Path
) -> None:
    store = SqliteStore(tmp_path / "traces.db")
    lab.store = store  # type: ignore[assignment]  # any store will do
    taken = lab.record(lambda: list(say("ann@x.org")), redact=["email"], policy=_NoMail())
    assert [one.reason for one in taken.record.violations] == ["it asked for {'text': '[email]'}"]
    assert b"ann@x.org" not in on_disk(tmp_path)
    assert str(lab.replay(taken, lambda: list(say("ann@x.org"))).verdict) == "MATCH"
    store.close()


def test_an_agent_in_a_thread_of_a_skill_has_the_redactors_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOTRACE_STORE", f"sqlite:///{tmp_path}/traces.db")

    @isotrace.agent("helper")
    def helper(text: str) -> str:
        return text

    @skill(effect="read")
    def delegate(text: str) -> None:
        thread = threading.Thread(target=helper, args=(text,))
        thread.start()
        thread.join()

    with isotrace.run("desk", redact=["email"]):
        delegate(CANARIES["email"][0])
    assert isotrace.flush()
    with closing(SqliteStore(tmp_path / "traces.db")) as store:
        found = store.query(RunQuery(agent_id="helper")).runs
        ledgers = [store.ledger(one.summary.run_id, tenant_id="default") for one in found]
    assert len(ledgers) == 1
    exported = BytesIO()
    JsonlExporter().write(ledgers, exported)
    assert canaries_in(exported.getvalue(), CANARIES["email"]) == []
