from __future__ import annotations

import base64
import gzip
import json
import sys
import zlib

import pytest

from isotrace.errors import ImportFormatError, LimitError
from isotrace.formats.source import Bounds
from isotrace.formats.tree import NO_PROGRAM
from isotrace.formats.vcr import HTTP_ONLY, UNREADABLE, VcrImporter

IMPORTER = VcrImporter()


def test_interactions_become_steps_with_the_words_that_hashes_see(read_one, cassette):
    record, _ = read_one(IMPORTER, cassette)
    assert [
        (
            step.context.kind,
            step.skill_name,
            step.context.effect,
            step.status.value,
            step.outcome_category,
            step.outcome_code,
        )
        for step in record.steps
    ] == [
        ("llm", "chat", "read", "success", "SUCCESS", None),
        ("http", "GET weather.example", "read", "success", "SUCCESS", None),
        ("llm", "chat", "read", "success", "SUCCESS", None),
        ("llm", "chat", "read", "failure", "TRANSIENT", "429"),
    ]
    assert record.status == "completed"
    assert record.steps[3].context.error is None


def test_an_answer_of_a_model_is_the_providers_json(read_one, cassette):
    record, _ = read_one(IMPORTER, cassette)
    first, _, _, last = cassette["interactions"]
    assert record.steps[0].params == json.loads(first["request"]["body"])
    assert record.steps[0].outcome_data == json.loads(first["response"]["body"]["string"])
    assert record.steps[3].outcome_data == json.loads(last["response"]["body"]["string"])


def test_a_stream_is_the_answer_that_its_events_make_and_ids_say_who_minted_them(read_one, cassette):
    record, ledger = read_one(IMPORTER, cassette)
    step = record.steps[2]
    assert step.outcome_data == {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "21 degrees"}}],
    }
    assert step.context.chunks == [
        {"status": 200},
        {"data": {"choices": [{"delta": {"content": "21 "}}]}},
        {"comment": ": ping"},
        {"data": {"choices": [{"delta": {"content": "degrees"}}]}},
        {"data": "[DONE]"},
    ]
    assert step.context.marks == []
    assert step.params["messages"][2] == {"role": "tool", "tool_call_id": {"$iso:id": "0#1"}, "content": "21"}
    assert step.context.raw_ids == {"0#1": "call_abcdef123"}
    assert [event.type for event in ledger.events if event.lineage == (2,)] == [
        "step_started",
        *["step_chunk"] * 5,
        "step_finished",
    ]


def test_other_calls_keep_what_a_capture_keeps_of_them(read_one, cassette):
    record, _ = read_one(IMPORTER, cassette)
    assert record.steps[1].params == {
        "method": "GET",
        "url": "https://weather.example:8443/v1?city=Rome&api_key=***#now",
    }
    assert record.steps[1].outcome_data == {"value": "over there"}
    assert record.steps[1].context.transport == {
        "status": 302,
        "headers": [
            ["location", "https://cdn.example/rome?X-Amz-Signature=***&v=2"],
            ["content-type", "text/plain"],
        ],
        "reason": "Found",
    }
    assert record.steps[3].context.transport["url"] == "https://api.anthropic.com/v1/messages?beta=true"


def test_no_secret_of_a_header_or_a_url_is_anywhere_in_the_ledger(read, cassette):
    cassette["interactions"][0]["request"]["uri"] += "?key=very-secret"
    (run,) = read(IMPORTER, cassette)
    assert "very-secret" in json.dumps(cassette)
    assert "very-secret" not in repr(run.events)


def test_what_is_known_of_the_run_before_and_after_its_steps(read_one, cassette):
    record, _ = read_one(IMPORTER, cassette, "tests/test_weather.yaml.gz")
    assert record.metadata == {
        "source": "vcr",
        "label": "test_weather",
        "model": "gpt-4o",
        "replayability": [NO_PROGRAM, HTTP_ONLY],
    }


def times(record):
    return [(step.timestamp.isoformat(), step.duration_ms) for step in record.steps]


def test_a_response_came_when_its_header_says_and_took_what_the_provider_says(read_one, cassette):
    record, _ = read_one(IMPORTER, cassette)
    assert record.started_at.isoformat() == "2026-05-12T22:03:00.500000+00:00"
    assert times(record) == [
        ("2026-05-12T22:03:00.500000+00:00", 1500.0),
        ("2026-05-12T22:03:05+00:00", 0.0),
        ("2026-05-12T22:03:05+00:00", 0.0),
        ("2026-05-12T22:03:05+00:00", 0.0),
    ]
    assert record.completed_at.isoformat() == "2026-05-12T22:03:05+00:00"


def test_without_a_date_a_models_answer_says_when_it_was_made(read_one, cassette):
    for one in cassette["interactions"]:
        one["response"]["headers"] = {}
    cassette["interactions"][2]["response"]["body"]["string"] = 'data: {"created": 1778623381}\n\n'
    record, _ = read_one(IMPORTER, cassette)
    assert times(record)[2] == ("2026-05-12T22:03:01+00:00", 0.0)
    assert "time" not in record.metadata


@pytest.mark.parametrize("header", ["", "yesterday", "Tue, 12 May 99999 22:03:02 GMT"])
def test_a_cassette_without_times_says_so(read_one, cassette, header):
    for one in cassette["interactions"]:
        one["response"]["headers"] = {"date": [header], "openai-processing-ms": ["soon"]}
    record, _ = read_one(IMPORTER, cassette)
    assert record.metadata["time"] == "absent"
    assert record.started_at.isoformat() == "1970-01-01T00:00:00+00:00"


def raw_deflate(data):
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        (None, bytes),
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
        # Decoded by the recorder, which kept the header.
        ("gzip", bytes),
        ("br", bytes),
    ],
)
def test_bodies_are_read_through_their_encoding(read_one, cassette, encoding, encode):
    response = cassette["interactions"][0]["response"]
    answer = response["body"]["string"]
    response["body"] = {"base64_string": base64.b64encode(encode(answer.encode())).decode()}
    if encoding:
        response["headers"]["Content-Encoding"] = [encoding]
    record, _ = read_one(IMPORTER, cassette)
    assert record.steps[0].outcome_data == json.loads(answer)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [("br", b"\x8b\x02\x80"), ("gzip", gzip.compress(b"{}" * 99)[:-9])],
)
def test_a_body_that_can_not_be_read_is_kept_as_bytes_and_said(read_one, cassette, encoding, data):
    response = cassette["interactions"][0]["response"]
    response["body"] = {"base64_string": base64.b64encode(data).decode()}
    response["headers"] = {"content-encoding": [encoding]}
    record, _ = read_one(IMPORTER, cassette)
    assert record.steps[0].outcome_data == {"value": {"$iso:bytes": base64.b64encode(data).decode()}}
    assert record.steps[0].context.transport["headers"] == [["content-encoding", encoding]]
    assert record.metadata["replayability"] == [NO_PROGRAM, HTTP_ONLY, UNREADABLE]


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_body_that_unpacks_to_more_than_a_run_may_hold_is_refused(read, cassette, encoding, pack):
    response = cassette["interactions"][0]["response"]
    response["body"] = {"base64_string": base64.b64encode(pack(bytes(200_000))).decode()}
    response["headers"] = {"content-encoding": [encoding]}
    (error,) = read(VcrImporter(Bounds(run=100_000)), cassette)
    assert isinstance(error, ImportFormatError)
    assert isinstance(error.__cause__, LimitError)


def test_the_older_form_of_httpx_cassettes_is_read(read_one, cassette):
    one = cassette["interactions"][0]
    answer = one["response"]["body"]["string"]
    one["response"] = {"content": answer, "headers": {}, "http_version": "HTTP/1.1", "status_code": 200}
    record, _ = read_one(IMPORTER, cassette)
    assert record.steps[0].outcome_data == json.loads(answer)


def test_an_array_that_was_asked_for_as_a_stream_is_one_piece_of_it(read_one, cassette):
    pieces = [{"candidates": [{"content": {"parts": [{"text": "a"}]}}]}, {"candidates": []}]
    one = cassette["interactions"][3]
    one["request"]["uri"] = "https://host/v1beta/models/gemini-2.0-flash:streamGenerateContent"
    one["request"]["body"] = '{"contents": []}'
    one["response"]["body"]["string"] = json.dumps(pieces)
    one["response"]["status"]["code"] = 200
    record, _ = read_one(IMPORTER, cassette)
    assert record.steps[3].outcome_data == {"candidates": [{"content": {"parts": [{"text": "a"}]}}]}
    assert record.steps[3].context.chunks == [{"status": 200}, pieces]
    assert record.steps[3].context.marks == ["partial"]
    assert record.steps[3].params == {"model": "gemini-2.0-flash", "contents": []}


def test_telemetry_between_the_calls_stays_as_it_was_sent(read_one, cassette):
    trace = {"data": [{"object": "trace.span", "span_data": {"type": "function"}}]}
    one = cassette["interactions"][0]
    one["request"] |= {"uri": "https://api.openai.com/v1/traces/ingest", "body": json.dumps(trace)}
    record, _ = read_one(IMPORTER, cassette)
    assert (record.steps[0].context.kind, record.steps[0].skill_name) == ("http", "POST api.openai.com")
    assert record.steps[0].params["body"] == trace


def test_the_same_cassette_is_the_same_run_and_another_name_another(read, cassette):
    a, b, c = (read(IMPORTER, cassette, name)[0].run_id for name in ("x/a.yaml", "y/a.yml", "b.yaml"))
    assert a == b
    assert a != c


def test_a_cassette_of_nothing_is_a_run_without_steps(read_one):
    record, _ = read_one(IMPORTER, {"interactions": [], "version": 1})
    assert record.steps == []


BAD = [
    (["interactions"], {}, "/interactions"),
    (["interactions", 1, "request"], [], "/interactions/1/request"),
    (["interactions", 1, "request", "method"], 1, "/interactions/1/request/method"),
    (["interactions", 1, "request", "uri"], "/relative", "/interactions/1/request/uri"),
    (["interactions", 1, "request", "uri"], "https://[", "/interactions/1/request/uri"),
    (["interactions", 1, "request", "body"], 1, "/interactions/1/request/body"),
    (["interactions", 1, "response"], None, "/interactions/1/response"),
    (["interactions", 1, "response", "headers"], [], "/interactions/1/response/headers"),
    (["interactions", 1, "response", "headers"], {"a": [[]]}, "/interactions/1/response/headers/a/0"),
    (["interactions", 1, "response", "status"], {"code": "200"}, "/interactions/1/response/status/code"),
    (["interactions", 1, "response", "status"], {"code": 99}, "/interactions/1/response/status/code"),
    (
        ["interactions", 1, "response", "body"],
        {"base64_string": "="},
        "/interactions/1/response/body/base64_string",
    ),
]


@pytest.mark.parametrize(("path", "value", "pointer"), BAD)
def test_a_wrong_type_is_a_named_error_with_its_place(read, cassette, path, value, pointer):
    node = cassette
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    (error,) = read(IMPORTER, cassette, "f.json")
    assert isinstance(error, ImportFormatError)
    assert (error.where, error.pointer) == ("f.json", pointer)


def test_an_error_about_a_url_does_not_show_its_secrets(read, cassette):
    cassette["interactions"][1]["request"]["uri"] = "/v1?api_key=very-secret"
    (error,) = read(IMPORTER, cassette)
    assert "very-secret" not in str(error)


@pytest.mark.parametrize("text", [b"", b"  ", b"{", b"{}", b'{"interactions": []}', b'{"version": 1}'])
def test_what_is_no_cassette_or_not_a_whole_one_is_a_named_error(read, text):
    with pytest.raises(ImportFormatError) as caught:
        read(IMPORTER, text, "f.json")
    assert caught.value.where == "f.json"


def test_a_cassette_over_the_bound_is_refused(read, cassette):
    with pytest.raises(ImportFormatError, match="the file is too large"):
        read(VcrImporter(Bounds(run=1000)), cassette)


def test_pieces_of_streams_are_bounded(read, cassette):
    cassette["interactions"][2]["response"]["body"]["string"] = "data:\n\n" * 200_001
    (error,) = read(IMPORTER, cassette)
    assert isinstance(error, ImportFormatError)
    assert "too many pieces" in str(error)


@pytest.mark.parametrize(
    ("head", "takes"),
    [
        (b"interactions:\n- request:", True),
        (b"\xef\xbb\xbf# recorded\n---\nversion: 1\ninteractions: []\n", True),
        (b'{"version": 1, "interactions": [{"request": {"uri": ""', True),
        (b"http_interactions:\n- request:", False),
        (b"on: push\ninteractions:\n", False),
        (b'{"interactions": []}', False),
        (b"", False),
    ],
)
def test_a_cassette_is_told_by_its_beginning(head, takes):
    assert IMPORTER.detect(head, "f") is takes


def test_yaml_without_its_reader_says_what_to_install(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportFormatError, match=r"pip install 'isotrace\[vcr\]'"):
        read(IMPORTER, b"interactions: []\nversion: 1\n")
