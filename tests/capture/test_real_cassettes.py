"""Real cassettes of model providers: their requests, made again, are answered by the imported run."""

from __future__ import annotations

import inspect
import json
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
import yaml

from isotrace.contracts import ImportedRun
from isotrace.formats.vcr import VcrImporter
from isotrace.ledger import seal
from isotrace.replay import Replay

CASSETTES = Path(__file__).parents[2] / "../shared/data/vcr"
PATHS = sorted(CASSETTES.rglob("*.yaml"))

if not PATHS:
    pytest.skip("the recorded traffic of providers is not here", allow_module_level=True)


def by_sdk(method: Any, body: dict[str, Any]) -> Any:
    """Calls a method of an SDK so that it sends this body."""
    known = inspect.signature(method).parameters
    named = {key: value for key, value in body.items() if key in known}
    try:
        answer = method(**named, extra_body={key: value for key, value in body.items() if key not in known})
        return list(answer) if body.get("stream") else answer
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        return error.status_code


def ask(request: dict[str, Any]) -> Any:
    """Makes a recorded request again: by the SDK of its provider, else as it stands."""
    url = request["uri"]
    body = request.get("parsed_body")
    claude = anthropic.Anthropic(api_key="sk", max_retries=0)
    gpt = openai.OpenAI(api_key="sk", max_retries=0)
    # It asks at another address by now.
    count = partial(claude.beta.messages.count_tokens, extra_query={"beta": "true"})
    methods = {
        "https://api.anthropic.com/v1/messages": claude.messages.create,
        "https://api.anthropic.com/v1/messages?beta=true": claude.beta.messages.create,
        "https://api.anthropic.com/v1/messages/count_tokens?beta=true": count,
        "https://api.openai.com/v1/chat/completions": gpt.chat.completions.create,
        "https://api.openai.com/v1/responses": gpt.responses.create,
    }
    if isinstance(body, dict) and url in methods:
        return by_sdk(methods[url], body)
    content = json.dumps(body) if body is not None else request.get("body") or ""
    headers = {name: values[0] for name, values in request["headers"].items() if name != "content-length"}
    with httpx.Client() as client:
        return client.request(request["method"], url, content=content, headers=headers).status_code


@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_requests_of_a_real_cassette_are_answered_by_its_run(path: Path) -> None:
    interactions = yaml.safe_load(path.read_text("utf-8"))["interactions"]
    with path.open("rb") as file:
        (run,) = VcrImporter().read(file, where=str(path), tenant_id="default")
    assert isinstance(run, ImportedRun)

    def program() -> list[Any]:
        return [ask(one["request"]) for one in interactions]

    result = Replay(seal(run.events, run.seed or b"").ledger).run(program, body=True)
    assert [str(one) for one in result.divergences] == []
    assert (str(result.verdict), result.error) == ("MATCH", None)
    assert (result.receipt.served, result.receipt.blocked) == (len(interactions), 0)
    for value, one in zip(result.value, interactions, strict=True):
        said = one["response"]["status"]["code"]
        assert value == said if isinstance(value, int) else said < 400
