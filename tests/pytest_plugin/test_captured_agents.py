"""Agents as they are: their calls of a model go over HTTP, to a server that is there once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import openai
import pytest

pytest_plugins = ["pytester"]

AGENT = f"""
import httpx, openai  # {httpx.__version__}, {openai.__version__}

PROMPT = "Answer in one short sentence."


def by_sdk(url, question):
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    messages = [{{"role": "system", "content": PROMPT}}, {{"role": "user", "content": question}}]
    return client.chat.completions.create(model="m", messages=messages).choices[0].message.content


async def by_httpx(url, question):
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{{url}}/chat/completions", json={{"messages": [PROMPT, question]}})
    return answer.json()["choices"][0]["message"]["content"]
"""

TESTS = """
URL = (PATH := __import__("pathlib").Path(__file__)).with_name("url").read_text()


@pytest.mark.isotrace
def test_sdk():
    assert by_sdk(URL, "Where?") == "On its way."


@pytest.mark.isotrace
async def test_httpx():
    assert await by_httpx(URL, "Where?") == "On its way."
"""


class Model(BaseHTTPRequestHandler):
    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "On its way."}
        body = {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Model.asked = 0
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_calls_of_a_model_are_recorded_once_and_served_afterwards(project, url):
    project.agent(AGENT)
    (project.path / "url").write_text(url)
    project.tests(TESTS)
    project.run("--isotrace=record", "--asyncio-mode=auto", passed=2)
    assert Model.asked == 2
    project.run("--asyncio-mode=auto", passed=2)
    assert Model.asked == 2

    project.change("one short sentence", "one sentence")
    result = project.run("--asyncio-mode=auto", failed=2)
    assert Model.asked == 2
    result.stdout.fnmatch_lines(
        [
            "FAILED test_it.py::test_sdk - DIVERGED  PARAMS_CHANGED at step 0: *",
            "FAILED test_it.py::test_httpx - DIVERGED  PARAMS_CHANGED at step 0: *",
        ]
    )


def test_a_connection_that_the_record_has_not_is_refused(project, url):
    project.agent(AGENT + "\n\ndef twice(url, question):\n    return by_sdk(url, question)\n")
    (project.path / "url").write_text(url)
    project.tests(
        TESTS.split("@pytest.mark", maxsplit=1)[0]
        + "@pytest.mark.isotrace\ndef test_it():\n    twice(URL, 'Where?')\n"
    )
    project.run("--isotrace=record", passed=1)
    project.change(
        "    return by_sdk(url, question)",
        "    by_sdk(url, question)\n    import socket\n    socket.create_connection(('127.0.0.1', 80))",
    )
    asked = Model.asked
    lines = project.failure(project.run(failed=1))
    assert lines[0].startswith("DIVERGED  UNCONTROLLED_SOURCE: the code tried to look up a host (127.0.0.1, ")
    project.change("    import socket", "    by_sdk(url, 'Sure?')\n    import socket")
    assert project.failure(project.run(failed=1))[0].startswith("DIVERGED  LATE_END at step 1: ")
    assert Model.asked == asked
