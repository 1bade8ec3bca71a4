from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
import yaml

from isotrace.contracts import ImportedRun
from isotrace.errors import PluginError, RecordGapError, UsageError
from isotrace.formats.tau_bench import TauBenchImporter
from isotrace.formats.vcr import VcrImporter
from isotrace.formats.vcr_export import VcrExporter
from isotrace.ledger import erase, seal


def exported(*ledgers):
    stream = io.BytesIO()
    assert VcrExporter().write(ledgers, stream) == 1
    return stream.getvalue()


def behaviour(ledger):
    return [
        (
            step.skill_name,
            step.params,
            step.outcome_data,
            step.outcome_category,
            step.outcome_code,
            step.context.chunks,
            step.context.transport,
        )
        for step in ledger.record().steps
    ]


def test_a_cassette_comes_back_as_the_same_steps(read_one, cassette):
    record, ledger = read_one(VcrImporter(), cassette)
    again, copy = read_one(VcrImporter(), exported(ledger))
    assert behaviour(copy) == behaviour(ledger)
    assert again.determinism_signature() == record.determinism_signature()
    assert again.metadata == {**record.metadata, "label": again.metadata["label"]}


def test_what_is_written_is_what_the_client_sent_and_got(read_one, cassette):
    _, ledger = read_one(VcrImporter(), cassette)
    first, second, third, fourth = yaml.safe_load(exported(ledger))["interactions"]
    assert first["request"] == {
        "method": "POST",
        "uri": "https://api.openai.com/v1/chat/completions",
        "body": '{"model":"gpt-4o","messages":[{"role":"user","content":"Rome?"}]}',
        "headers": {"content-type": ["application/json"]},
    }
    assert second == {
        "request": {
            "method": "GET",
            "uri": "https://weather.example:8443/v1?city=Rome&api_key=***#now",
            "body": None,
            "headers": {},
        },
        "response": {
            "status": {"code": 302, "message": "Found"},
            "headers": {
                "location": ["https://cdn.example/rome?X-Amz-Signature=***&v=2"],
                "content-type": ["text/plain"],
                "date": ["Tue, 12 May 2026 22:03:05 GMT"],
            },
            "body": {"string": "over there"},
        },
    }
    # The id is the provider's own again.
    assert json.loads(third["request"]["body"])["messages"][2]["tool_call_id"] == "call_abcdef123"
    assert third["response"]["body"]["string"] == (
        'data: {"choices":[{"delta":{"content":"21 "}}]}\n\n'
        ': ping\n\ndata: {"choices":[{"delta":{"content":"degrees"}}]}\n\ndata: [DONE]\n\n'
    )
    assert fourth["response"]["status"] == {"code": 429, "message": "Too Many Requests"}


def test_named_events_bytes_and_text_of_all_kinds_come_back(read_one, cassette):
    stream = 'event: message_start\ndata: {"type":"message_start"}\n\n'
    one, two = cassette["interactions"][3], cassette["interactions"][1]
    one["response"] = {"status": {"code": 200}, "headers": {}, "body": {"string": stream}}
    two["request"] |= {"method": "POST", "body": b"\x00\xff"}
    two["response"]["body"]["string"] = "tab\t\r\n\x85 \x7f é \U0001f600 \ufeff'\": #"
    _, ledger = read_one(VcrImporter(), yaml.safe_dump(cassette, sort_keys=False).encode())
    text = exported(ledger)
    written = yaml.safe_load(text)["interactions"]
    assert written[3]["response"]["body"]["string"] == stream
    assert written[1]["request"]["body"] == b"\x00\xff"
    _, copy = read_one(VcrImporter(), text)
    assert behaviour(copy) == behaviour(ledger)


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("https://generativelanguage.googleapis.com/v1beta/models/g:generateContent", {"contents": []}),
        ("http://localhost:8000/v1/chat/completions", {"model": "m", "messages": []}),
        ("https://g/v1/models/g:embedContent", {"content": {}, "model": "models/g"}),
    ],
)
def test_a_call_goes_back_to_the_server_that_it_went_to(read_one, cassette, url, body):
    one = cassette["interactions"][0]
    one["request"] |= {"uri": url, "body": json.dumps(body, separators=(",", ":"))}
    _, ledger = read_one(VcrImporter(), {"interactions": [one], "version": 1})
    (back,) = yaml.safe_load(exported(ledger))["interactions"]
    assert (back["request"]["uri"], json.loads(back["request"]["body"])) == (url, body)


def test_a_call_without_a_known_server_goes_where_such_calls_usually_go(read, cassette):
    (run,) = read(VcrImporter(), cassette)
    events = run.events
    for event in events:
        event.values.pop("transport", None)
    written = yaml.safe_load(exported(seal(events, bytes(32)).ledger))["interactions"]
    assert [one["request"]["uri"] for one in written if one["request"]["method"] == "POST"] == [
        "https://api.openai.com/v1/chat/completions",
        "https://api.openai.com/v1/chat/completions",
        "https://api.anthropic.com/v1/messages",
    ]


def test_several_runs_are_no_cassette(read_one, cassette):
    _, ledger = read_one(VcrImporter(), cassette)
    with pytest.raises(UsageError, match="one run"):
        exported(ledger, ledger)


def test_llm_steps_that_are_no_providers_calls_are_refused(read_one, tau_bench_run):
    _, ledger = read_one(TauBenchImporter(), [tau_bench_run])
    with pytest.raises(UsageError, match=r"llm\.chat is no call that a provider's server takes"):
        exported(ledger)


def test_a_run_without_http_is_no_cassette(read_one, cassette):
    _, ledger = read_one(VcrImporter(), {"interactions": [], "version": 1})
    with pytest.raises(UsageError, match="no HTTP call"):
        exported(ledger)


def test_an_erased_value_is_said(read_one, cassette):
    _, ledger = read_one(VcrImporter(), cassette)
    with pytest.raises(RecordGapError):
        exported(erase(ledger, {(1, "params")}))


def test_without_a_writer_of_yaml_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(PluginError, match=r"isotrace\[vcr\]"):
        VcrExporter().write([], io.BytesIO())


def test_every_real_cassette_comes_back(data, read_file, read_one):
    paths = sorted((data / "vcr").rglob("*.yaml"))
    assert len(paths) == 39
    for path in paths:
        (run,) = read_file(VcrImporter(), path)
        assert isinstance(run, ImportedRun)
        ledger = seal(run.events, run.seed or b"").ledger
        _, copy = read_one(VcrImporter(), exported(ledger))
        assert behaviour(copy) == behaviour(ledger), path


SERVED = """
import sys, urllib.request, vcr
with vcr.use_cassette(sys.argv[1], record_mode="none") as cassette:
    body = b'{"model":"gpt-4o","messages":[{"role":"user","content":"Rome?"}]}'
    url = "https://api.openai.com/v1/chat/completions"
    print(urllib.request.urlopen(urllib.request.Request(url, body)).read().decode())
    print(urllib.request.urlopen(urllib.request.Request(url, body)).read().decode())
    print(cassette.play_count)
"""


def test_vcrpy_serves_what_was_written(read_one, cassette, tmp_path):
    pytest.importorskip("vcr", reason="vcrpy is not installed here")
    _, ledger = read_one(VcrImporter(), cassette)
    path = tmp_path / "cassette.yaml"
    path.write_bytes(exported(ledger))
    done = subprocess.run(
        [sys.executable, "-c", SERVED, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    first, *stream, count = done.stdout.splitlines()
    assert json.loads(first) == json.loads(cassette["interactions"][0]["response"]["body"]["string"])
    assert [line for line in stream if line] == [
        'data: {"choices":[{"delta":{"content":"21 "}}]}',
        ": ping",
        'data: {"choices":[{"delta":{"content":"degrees"}}]}',
        "data: [DONE]",
    ]
    assert count == "2"
