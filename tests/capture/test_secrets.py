"""What must not be kept is not, wherever a program puts it; and a replay without it is a match."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest

from isotrace.record import withheld
from isotrace.record.capture import http
from isotrace.redact.forms import SECRET_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.capture.server import Server
    from tests.record.lab import Lab, Taken

pytestmark = pytest.mark.usefixtures("captured")

KEY = "wk-env-777/abc=="


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WEATHER_KEY", KEY)
    monkeypatch.setenv("PLAIN_SETTING", "not-a-secret")
    withheld.forget()
    yield
    withheld.forget()


@pytest.mark.usefixtures("known")
def test_a_secret_of_the_environment_is_hidden_by_its_value(
    server: Server, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = [KEY]

    def agent() -> Any:
        told = {"who": f"me:{key[0]}", "password": "hunter22", "n": 1}
        httpx.get(f"{server.url}/page/{key[0]}", params={"q": "x", "anything": key[0]})
        httpx.post(f"{server.url}/things", json=told)
        subprocess.run([sys.executable, "-c", "", key[0], "not-a-secret"], check=True)

    server.answers = [(200, "application/json", b"{}")]
    taken = lab.record(agent)
    assert taken.error is None
    kept = str([step.params for step in taken.record.steps])
    assert KEY not in kept
    assert "777" not in kept
    assert "hunter22" not in kept
    assert "not-a-secret" in kept
    assert taken.record.steps[1].params["body"] == {"who": "me:***", "password": "***", "n": 1}
    key[0] = withheld.PLACEHOLDER
    monkeypatch.setenv("WEATHER_KEY", withheld.PLACEHOLDER)
    withheld.forget()
    assert str(lab.replay(taken, agent).verdict) == "MATCH"


def test_an_address_in_an_answer_has_no_secrets() -> None:
    headers = [("Location", "https://a.example/x?access_token=abc&page=2"), ("Link", "<https://u:p@b/>")]
    assert http.transport(302, headers)["headers"] == [
        ["location", "https://a.example/x?access_token=***&page=2"],
        ["link", "<https://***@b/>"],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("use sk-proj-abc123def456ghi789 now", "use *** now"),
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "***"),
        ("skeleton_functions_for_everything", "skeleton_functions_for_everything"),
        ("pip install sk-learn-and-some-more", "pip install sk-learn-and-some-more"),
        ("eyJhbGciOiJIUzI1NiJ9", "***"),
    ],
)
def test_tokens_of_known_services_are_told_by_their_form(text: str, expected: str) -> None:
    assert SECRET_TEXT.sub("***", text) == expected


def test_sessions_one_after_the_other_take_no_numbers(
    server: Server, replays_offline: Callable[..., Taken]
) -> None:
    async def agent() -> list[str]:
        found = []
        for _ in range(2):
            async with aiohttp.ClientSession() as session, session.get(f"{server.url}/page") as answer:
                found.append(await answer.text())
        return found

    taken = replays_offline(agent)
    assert [lineage[-1] for lineage, *_ in taken.steps] == [0, 1]
