from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.formats.http_text import decoded, host_of
from isotrace.record.capture.providers import provider_call
from isotrace.record.capture.splitters import EventSplitter
from isotrace.record.capture.urls import is_secret_name, without_secrets

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
CONTENTS = {"contents": [{"parts": [{"text": "Hi"}]}]}


@pytest.mark.parametrize(
    ("url", "body", "operation", "model"),
    [
        ("https://api.openai.com/v1/chat/completions", {**CHAT, "model": "gpt-4o"}, "chat", "gpt-4o"),
        ("http://localhost:8000/v1/chat/completions/", {**CHAT, "model": "m"}, "chat", "m"),
        ("https://x.azure.com/openai/deployments/d/chat/completions?api-version=1", CHAT, "chat", None),
        ("https://api.openai.com/v1/responses", {"input": "Hi", "model": "gpt-4o"}, "chat", "gpt-4o"),
        ("https://api.openai.com/v1/completions", {"prompt": "Hi", "model": "m"}, "text_completion", "m"),
        ("https://api.openai.com/v1/embeddings", {"input": ["Hi"], "model": "e"}, "embeddings", "e"),
        ("https://api.anthropic.com/v1/messages?beta=true", {**CHAT, "max_tokens": 1}, "chat", None),
        (
            "https://api.mistral.ai/v1/fim/completions",
            {"prompt": "def", "model": "m"},
            "text_completion",
            "m",
        ),
        ("https://api.mistral.ai/v1/agents/completions", {**CHAT, "agent_id": "a"}, "chat", None),
        ("https://api.mistral.ai/v1/conversations", {"inputs": "Hi", "model": "m"}, "chat", "m"),
        (
            "https://g/v1beta/models/gemini-2.0-flash:generateContent",
            CONTENTS,
            "generate_content",
            "gemini-2.0-flash",
        ),
        ("https://g/v1/models/g:streamGenerateContent?alt=sse", CONTENTS, "generate_content", "g"),
        ("https://g/v1/models/e:embedContent", {"content": {}}, "embeddings", "e"),
        ("https://g/models/claude%40v1:streamRawPredict", CHAT, "chat", "claude@v1"),
        ("https://bedrock/model/anthropic.claude%3A0/converse", CHAT, "chat", "anthropic.claude:0"),
        ("https://bedrock/model/m/converse-stream", CHAT, "chat", "m"),
        ("https://bedrock/model/m/invoke-with-response-stream", CHAT, "chat", "m"),
        (
            "https://bedrock/model/amazon.titan-text/invoke",
            {"inputText": "Hi"},
            "text_completion",
            "amazon.titan-text",
        ),
        ("https://bedrock/model/titan-embed-v2/invoke", {"inputText": "Hi"}, "embeddings", "titan-embed-v2"),
    ],
)
def test_a_call_to_a_model_is_told_by_path_and_body(url, body, operation, model):
    call = provider_call("post", url, body)
    assert call is not None
    assert (call.operation, call.model) == (operation, model)
    assert {key: call.params[key] for key in body} == body


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("GET", "https://api.openai.com/v1/chat/completions", CHAT),
        ("POST", "https://api.openai.com/v1/chat/completions", {"input": "Hi"}),
        ("POST", "https://api.openai.com/v1/chat/completions", "messages"),
        ("POST", "https://api.openai.com/v1/chat/completions", None),
        ("POST", "https://api.openai.com/v1/conversations", {}),
        ("POST", "https://api.openai.com/v1/traces/ingest", {"data": []}),
        ("POST", "https://api.anthropic.com/v1/messages/count_tokens", CHAT),
        ("POST", "https://chat.example/rooms/1/messages", {"messages": ["Hi"]}),
        ("POST", "https://forms.example/responses", {"answers": []}),
        ("POST", "https://g/v1/models/g:countTokens", CONTENTS),
        ("POST", "https://[", CHAT),
    ],
)
def test_other_calls_are_none(method, url, body):
    assert provider_call(method, url, body) is None


@pytest.mark.parametrize(
    "name",
    [
        *("key", "api_key", "apikey", "API-Key", "apiKey", "subscription-key", "access_token", "token"),
        *("idToken", "sig", "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "client_secret"),
        *("password", "code", "auth", "authorization", "AWSAccessKeyId", "sessionId", "jwt"),
    ],
)
def test_names_of_secrets(name):
    assert is_secret_name(name)
    assert without_secrets(f"https://h/p?a=1&{name}=s%20e&b=2") == f"https://h/p?a=1&{name}=***&b=2"


@pytest.mark.parametrize(
    "name",
    ["monkey", "max_tokens", "city", "author", "design", "encode", "keyboard", "country_codes", "compass"],
)
def test_names_that_only_look_like_those_of_secrets(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://user:pass@h/p", "https://***@h/p"),
        ("https://h/p#access_token=s&x=1", "https://h/p#access_token=***&x=1"),
        ("https://h/p?k%65y=s;token=t", "https://h/p?k%65y=***;token=***"),
        ("https://h/a@b?q=c@d", "https://h/a@b?q=c@d"),
        ("https://h/p?key&x=%zz", "https://h/p?key&x=%zz"),
        ("/relative?sig=s", "/relative?sig=***"),
        ("", ""),
    ],
)
def test_secrets_leave_a_url_and_all_else_stays_as_it_is(url, kept):
    assert without_secrets(url) == kept


@given(st.text(max_size=50))
def test_any_text_is_a_url_without_secrets(text):
    assert without_secrets(without_secrets(text)) == without_secrets(text)
    host_of(text)


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("data: a\n\ndata: b\n\n", ["a", "b"]),
        ("event: x\r\ndata:a\r\ndata:  b\r\nid: 1\r\n\r\n", ["a\n b"]),
        ("\ufeffdata: a\r\rdata\r\r", ["a", ""]),
        (": ping\n\nevent: x\n\nretry: 3\n\n", []),
        ("data: cut", ["cut"]),
        ("data: a\x85b\u2028c\n\n", ["a\x85b\u2028c"]),
        ("", []),
    ],
)
def test_the_data_of_events(text, events):
    splitter = EventSplitter()
    found = [event for event, _ in [*splitter.feed(text.encode()), *splitter.end()]]
    assert [event["data"] for event in found if "data" in event] == events


@given(st.binary(max_size=40), st.sampled_from(["gzip", "deflate", "zstd", "br", "", "gzip, deflate", "\0"]))
def test_any_bytes_in_any_encoding_are_bytes_or_nothing(data, encoding):
    found = decoded(data, encoding, 10_000)
    assert found is None or isinstance(found, bytes)
