"""An HTTP exchange in plain values, and back."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.canonical import parse_json
from isotrace.errors import IsotraceError
from isotrace.record.capture.http import asked, failure, pieces, read_body, transport, write_body
from isotrace.record.capture.splitters import EventSplitter, write_event, write_line


@pytest.mark.parametrize(
    ("path", "body", "operation", "model"),
    [
        ("/v1/chat/completions", {"model": "m", "messages": []}, "chat", "m"),
        ("/proxy/openai/v1/responses", {"model": "m", "input": "hi"}, "chat", "m"),
        ("/v1/messages", {"model": "m", "messages": [], "max_tokens": 1}, "chat", "m"),
        ("/v1/completions", {"model": "m", "prompt": "hi"}, "text_completion", "m"),
        ("/v1/embeddings", {"model": "m", "input": ["hi"]}, "embeddings", "m"),
        ("/v1beta/models/gemini-9:generateContent", {"contents": []}, "generate_content", "gemini-9"),
        ("/v1beta/models/gemini-9:streamGenerateContent", {"contents": []}, "generate_content", "gemini-9"),
        ("/model/anthropic.claude/invoke", {"messages": []}, "chat", "anthropic.claude"),
    ],
)
def test_calls_of_models_are_told_by_path_and_body(
    path: str, body: dict[str, Any], operation: str, model: str
) -> None:
    found = asked(
        "POST", f"https://api.example{path}", {"content-type": "application/json"}, write_body(body)
    )
    assert (found.kind, found.name, found.effect, found.params["model"]) == ("llm", operation, "read", model)
    assert found.streams == ("stream" in path)


@pytest.mark.parametrize(
    ("method", "url", "body", "effect"),
    [
        ("GET", "https://api.example/v1/chat/completions", {"messages": []}, "read"),
        ("POST", "https://shop.example/messages", {"to": "ada"}, "write"),
        ("POST", "https://shop.example/v1/chat/completions", ["messages"], "write"),
        ("DELETE", "https://shop.example/orders/7", None, "write"),
    ],
)
def test_other_calls_are_http(method: str, url: str, body: Any, effect: str) -> None:
    found = asked(method, url, {"content-type": "application/json"}, write_body(body))
    assert (found.kind, found.effect, found.params["url"]) == ("http", effect, url)
    assert found.name == f"{method} {url.split('/')[2]}"


def test_credentials_in_an_address_are_hidden() -> None:
    url = "https://ada:pw@x.example:8443/a?api_key=k1&page=2&X-Amz-Signature=s1&access_token=t1&key=k2"
    found = asked("GET", url, {}, b"")
    assert found.params["url"] == (
        "https://***@x.example:8443/a?api_key=***&page=2&X-Amz-Signature=***&access_token=***&key=***"
    )


def test_of_the_headers_only_those_that_a_program_decides_by_are_kept() -> None:
    headers = [("Content-Type", "text/plain"), ("Set-Cookie", "sid=1"), ("Date", "now"), ("Retry-After", "3")]
    assert transport(429, headers) == {
        "status": 429,
        "headers": [["content-type", "text/plain"], ["retry-after", "3"]],
    }
    assert [failure(status) for status in (200, 302, 404, 429, 503)] == [
        None,
        None,
        ("PERMANENT", "404"),
        ("TRANSIENT", "429"),
        ("TRANSIENT", "503"),
    ]


@pytest.mark.parametrize(
    ("data", "content_type", "value"),
    [
        (b"", "application/json", None),
        (b'{"b": 20.0, "a": [1]}', "application/json; charset=utf-8", {"b": 20.0, "a": [1]}),
        (b'{"a": 1}', "application/vnd.api+json", {"a": 1}),
        (b'{"a": 1, "a": 2}', "application/json", '{"a": 1, "a": 2}'),
        (b"{broken", "application/json", "{broken"),
        (b'{"a": 123456789012345678901234567890}', "application/json", {"a": 123456789012345678901234567890}),
        (b'{"a": "\\ud800"}', "application/json", '{"a": "\\ud800"}'),
        (b"[" * 5000, "application/json", "[" * 5000),
        ("grüß".encode(), "text/plain", "grüß"),
        (b"\xff\xfe", "text/plain", b"\xff\xfe"),
        (b"\x00\x01", "application/octet-stream", b"\x00\x01"),
    ],
)
def test_bodies_are_values_and_come_back(data: bytes, content_type: str, value: Any) -> None:
    read = read_body(data, content_type)
    assert (read, type(read)) == (value, type(value))
    assert read_body(write_body(read), content_type) == read


MULTIPART = (
    b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    b'--B\r\nContent-Disposition: form-data; name="client_secret"\r\n\r\nsk-1\r\n'
    b'--B\r\nContent-Type: multipart/mixed; boundary="C"\r\n\r\n--C\r\n\r\nin\r\n--C--\r\n'
    b"--B--\r\n"
)


def sent(body: bytes, **headers: str) -> Any:
    """What the params keep of a body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asked("POST", "https://x.example/", named, body).params["body"]


@pytest.mark.parametrize("boundary", ["B", "----1f0c", "a=b'c"])
def test_a_multipart_body_is_its_parts(boundary: str) -> None:
    body = MULTIPART.replace(b"--B", b"--" + boundary.encode())
    assert sent(body, content_type=f'multipart/form-data; boundary="{boundary}"') == {
        "parts": [
            {"headers": {"content-disposition": 'form-data; name="a"'}, "body": "1"},
            {"headers": {"content-disposition": 'form-data; name="client_secret"'}, "body": "***"},
            {
                "headers": {"content-type": "multipart/mixed"},
                "body": {"parts": [{"headers": {}, "body": "in"}]},
            },
        ]
    }


@pytest.mark.parametrize("body", [MULTIPART[:-4], b"x" + MULTIPART, b"--B\n\n1\n--B--\n"])
def test_what_only_says_to_be_multipart_stays_as_it_is(body: bytes) -> None:
    assert sent(body, content_type="multipart/form-data; boundary=B") == body


def test_of_a_form_the_secrets_are_hidden_and_of_a_packed_body_the_time() -> None:
    form = b"grant_type=client_credentials&client_secret=sk-1&user=ada"
    kept = "grant_type=client_credentials&client_secret=***&user=ada"
    assert sent(form, content_type="application/x-www-form-urlencoded") == kept
    packed = [gzip.compress(b'{"a": 1}', mtime=time) for time in (1, 2)]
    assert packed[0] != packed[1]
    for body in packed:
        assert sent(body, content_type="application/json", content_encoding="gzip") == {"a": 1}
    assert sent(b"no", content_encoding="gzip") == b"no"


# --- pieces of streams ----------------------------------------------------------------------


def frame(payload: bytes) -> bytes:
    return (len(payload) + 16).to_bytes(4, "big") + bytes(8) + payload + bytes(4)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("kind", "data", "values"),
    [
        ("application/x-ndjson; charset=utf-8", b'{"a": 1}\n\n\ntext\r\n[2]', [{"a": 1}, "text", [2]]),
        (
            "application/vnd.amazon.eventstream",
            frame(b"a") + frame(b"") + b"\0\0",
            [frame(b"a"), frame(b""), b"\0\0"],
        ),
        ("text/plain", b"one\n\ntwo", ["one\n\ntwo"]),
        ("application/octet-stream", b"", [None]),
    ],
)
def test_a_stream_is_cut_where_its_pieces_end(kind: str, data: bytes, values: list[Any], size: int) -> None:
    found = list(pieces((data[start : start + size] for start in range(0, len(data), size)), kind))
    assert [value for value, _ in found] == values
    assert b"".join(raw for _, raw in found) == data


def test_lines_come_back() -> None:
    for value in ({"a": [1, "ü"]}, "text"):
        line = write_line(value)
        assert list(pieces([line], "application/x-ndjson")) == [(value, line)]


# --- server-sent events -------------------------------------------------------------------

texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029\x85"), min_size=1
)
events = st.lists(
    st.fixed_dictionaries(
        {
            "data": texts.filter(lambda text: not text.startswith(("{", "[", " ")))
            | st.dictionaries(texts, texts, min_size=1)
        },
        optional={"event": texts.filter(lambda text: not text.startswith(" ")), "id": st.just("7")},
    ),
    max_size=6,
)


@given(events=events, cuts=st.lists(st.integers(0, 400), max_size=8), end=st.sampled_from([b"\n", b"\r\n"]))
def test_events_come_back_however_the_bytes_are_cut(
    events: list[dict[str, Any]], cuts: list[int], end: bytes
) -> None:
    data = b"".join(write_event(event) for event in events).replace(b"\n", end)
    splitter, start = EventSplitter(), 0
    found: list[tuple[dict[str, Any], bytes]] = []
    for cut in [*sorted(cuts), len(data)]:
        found += splitter.feed(data[start:cut])
        start = max(start, cut)
    found += splitter.end()
    assert [event for event, _ in found] == events
    assert b"".join(raw for _, raw in found) == data


def test_a_stream_that_ends_in_the_middle_gives_what_it_had() -> None:
    splitter = EventSplitter()
    assert list(splitter.feed(b': ping\n\n\n\ndata: a\ndata: b\n\ndata: {"c"')) == [
        ({"comment": ": ping"}, b": ping\n\n"),
        ({"data": "a\nb"}, b"\n\ndata: a\ndata: b\n\n"),
    ]
    assert list(splitter.end()) == [({"data": '{"c"'}, b'data: {"c"')]


ODD_JSON = [
    b'{"a": 1, "a": 1}',
    b'{"a":1,"a":1}',
    b'{"a":12345678901234567890123}',
    b'{"a":9007199254740993}',
    b'{"a":1e400}',
    b'{"a":-0}',
    b'{"a":-0.0}',
    b'{"a":1e22}',
    b'["\\ud800"]',
    b'["\xed\xa0\x80"]',
    b'{"a":NaN}',
    b"[1,]",
    b"\x0b[1]",
    b"null",
    b"[" * 128 + b"]" * 128,
    b"[" * 129 + b"]" * 129,
    b'\n{\n  "a": 1.5,\n  "b": []\n}\n',
    b'{"a":[1.0,0.00001,true,null,"gr\xc3\xbc\xc3\x9f"]}',
]


@pytest.mark.parametrize("data", ODD_JSON)
def test_a_body_is_what_the_strict_reader_makes_of_it(data: bytes) -> None:
    try:
        strict: Any = parse_json(data)
    except IsotraceError:
        strict = data.decode(errors="surrogateescape") if b"\xed" not in data else data
    assert repr(read_body(data, "application/json")) == repr(strict)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_any_written_body_is_what_the_strict_reader_makes_of_it(value: Any) -> None:
    data = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    try:
        strict: Any = parse_json(data)
    except IsotraceError:
        strict = data.decode()
    assert repr(read_body(data, "application/json")) == repr(strict)
