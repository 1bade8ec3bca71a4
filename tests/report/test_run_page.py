"""The page of one run, as text: what it says, that it is well formed, and that it is bounded."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any

import jinja2
import pytest

from isotrace.errors import MissingExtraError
from isotrace.models import Erased, RunContext, TraceStatus, Violation
from isotrace.report.html import environment, render_run
from isotrace.report.html.values import FOLDED, PER_VALUE, fair_limit, shown

FAILED = {"status": TraceStatus.FAILURE, "outcome_category": "PERMANENT", "outcome_code": "ValueError"}


def test_page_says_what_the_run_was(step: Callable, run: Callable, parsed: Callable) -> None:
    record = run(
        step(0, "chat", {"prompt": "hi"}, {"value": "hello"}, kind="llm", cost_cents=0.42),
        step(1, "refund", {"cents": 5}, error="no such order", retry_count=2, **FAILED),
        root_hash="0" * 64,
        metadata={"task": 13, "replayability": ["reads the clock"]},
        violations=[Violation(1, record_time(), "pii/no-email", "an address")],
        context=RunContext(input={"task": "refund"}, result="done"),
    )
    page = parsed(render_run(record))
    assert page.inside("s0").startswith(
        '0 ◆ chat {prompt: "hi"} → "hello" 10.0 ms 0.42 ¢ params { "prompt": "hi" }'
    )
    assert "1 ▸ refund ✗ failure ↻ 2 retries ⚑ violation" in page.inside("s1")
    assert "→ PERMANENT ValueError: no such order" in page.inside("s1")
    assert "⚑ violates pii/no-email: an address" in page.inside("s1")
    for said in (
        "support completed",
        "steps 2, 1 failed",
        "took 20.0 ms",
        "started 2026-11-22 08:26:40 UTC",
        f"signature {record.determinism_signature()}",
        "May not replay: 1 reason reads the clock",
        "task 13",
        "Failed or in violation: 1",
        "model failed after retries ⚑ violation",
        "Result done",
    ):
        assert said in page.text


def record_time() -> Any:
    from datetime import UTC, datetime

    return datetime(2026, 11, 22, tzinfo=UTC)


def test_what_is_concurrent_stands_in_lanes_to_scale(step: Callable, run: Callable) -> None:
    record = run(
        step(0, "plan", {}, lineage=(0,), at_ms=0, duration_ms=20),
        step(1, "left", {}, lineage=(1, 0, 0), at_ms=20, duration_ms=60),
        step(2, "right", {}, lineage=(1, 1, 0), at_ms=20, duration_ms=30),
        step(3, "right", {}, lineage=(1, 1, 1), at_ms=50, duration_ms=10),
        step(4, "end", {}, lineage=(2,), at_ms=80, duration_ms=20),
    )
    bars = re.findall(r'#s(\d)".*?x="([\d.]+)%" y="(\d+)" width="([\d.]+)%"', render_run(record))
    assert bars == [
        ("0", "0", "3", "20"),
        ("1", "20", "19", "60"),
        ("2", "20", "35", "30"),
        ("3", "50", "35", "10"),
        ("4", "80", "3", "20"),
    ]


def test_a_failure_that_took_no_time_is_still_seen(step: Callable, run: Callable) -> None:
    html = render_run(
        run(step(0, "get", {}, duration_ms=900), step(1, "no", {}, duration_ms=0, at_ms=900, **FAILED))
    )
    assert html.count('<line class="fell" x1="100%"') == 1


def test_erased_and_absent_values_are_named(step: Callable, run: Callable, parsed: Callable) -> None:
    gone = Erased("c" * 64)
    record = run(step(0, "chat", gone, gone, error=gone, **FAILED), context=RunContext(result=gone))
    record.violations.append(Violation(0, record_time(), "p", gone))  # type: ignore[arg-type] # as a fold leaves it
    page = parsed(render_run(record))
    assert page.inside("s0").count(f"erased; its commitment is {'c' * 64}") == 3
    assert "violates p: erased" in page.inside("s0")
    assert "signature none: params were erased" in page.text
    assert "Erased(" not in page.text


HOSTILE = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% include 'x' %}",
    "\u202egnp.exe",
    "\x1b[31mred\x00\ud800",
    "<!-- --><![CDATA[ ]]>&lt;b&gt;",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_recorded_text_is_text_wherever_it_stands(
    step: Callable, run: Callable, parsed: Callable, text: str
) -> None:
    calm = parsed(render_run(hostile_run(step, run, "calm")))
    page = parsed(render_run(hostile_run(step, run, text)))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in calm.elements]
    assert page.scripts == calm.scripts
    assert not re.search("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", page.text)
    assert "{{ 7" in page.text or "{{" not in text


def hostile_run(step: Callable, run: Callable, text: str) -> Any:
    inside = {text: text, "list": [text]}
    failing = {**FAILED, "outcome_code": text, "outcome_category": text}
    return run(
        step(0, text, inside, inside, kind=text, lineage=(0, text)),
        step(1, text, inside, error=text, attempts=[{"error": text}], **failing),
        agent_id=text,
        status=text,
        tenant_id=text,
        correlation_id=text,
        run_id=text,
        metadata={text: text, "replayability": [text]},
        violations=[Violation(0, record_time(), text, text), Violation(None, record_time(), text, text)],
        context=RunContext(input=text, result=text, error={"type": text, "message": text}),
    )


def test_policy_lets_its_own_style_and_script_run(step: Callable, run: Callable, parsed: Callable) -> None:
    page = parsed(render_run(run(step(0, "chat", {}))))
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in page.scripts]
    (policy,) = [
        given["content"]
        for tag, given in page.elements
        if given.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"
    )


def test_a_page_names_no_other_file(step: Callable, run: Callable, parsed: Callable) -> None:
    page = parsed(render_run(run(step(0, "chat", {"url": "https://example.org/x"}))))
    targets = {
        value for _, given in page.elements for name, value in given.items() if name in ("href", "src")
    }
    assert targets == {"#steps", "#s0", "data:,"}


def test_long_value_is_folded_and_says_its_length() -> None:
    value = shown("x" * 5000)
    assert (value.head, value.rest, value.length, value.cut) == ("x" * FOLDED, "x" * 3000, 5000, False)


def test_longest_value_is_cut_and_says_its_length(step: Callable, run: Callable, parsed: Callable) -> None:
    page = parsed(render_run(run(step(0, "read", {}, {"value": "x" * (PER_VALUE + 7)}))))
    assert f"the first {PER_VALUE:,} of {PER_VALUE + 7:,} characters" in page.inside("s0")
    assert "1 longer one is cut" in page.text


def test_of_values_that_are_too_many_the_longest_are_cut() -> None:
    assert fair_limit([10, 10, 10], total=100) == PER_VALUE
    assert fair_limit([10, 500, 60], total=100) == 45
    assert fair_limit([PER_VALUE * 9], total=PER_VALUE) == PER_VALUE


def test_lines_of_a_text_inside_json_stand_on_lines_of_their_own() -> None:
    assert shown({"a": ["x\ny\\n"]}).head == ('{\n  <b>"a"</b>: [\n    "x<i>\\n</i>\n      y\\\\n"\n  ]\n}')


def test_of_a_conversation_a_line_shows_the_last_message(
    step: Callable, run: Callable, parsed: Callable
) -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    answer = {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}],
    }
    page = parsed(render_run(run(step(0, "chat", {"model": "m", "messages": said}, answer))))
    line = '0 ▸ chat … message 2: {role: "user", content: "Hello"} → {role: "assistant", content: "Hi"}'
    assert page.inside("s0").startswith(line)


def test_run_without_times_has_steps_of_one_width(step: Callable, run: Callable, parsed: Callable) -> None:
    html = render_run(run(*(step(at, "get", {}) for at in range(4)), metadata={"time": "absent"}))
    assert re.findall(r'x="([\d.]+)%" y="3" width="25%"', html) == ["0", "25", "50", "75"]
    assert "The source has no times" in parsed(html).text
    assert "10.0 ms" not in html


def test_run_without_steps(run: Callable, parsed: Callable) -> None:
    page = parsed(render_run(run()))
    assert "no steps" in page.text
    assert page.count("svg") == 0


def test_without_jinja_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, step: Callable, run: Callable
) -> None:
    environment._environment.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'isotrace[html]'")):
        render_run(run(step(0, "chat", {})))
    monkeypatch.undo()
    assert isinstance(environment._environment(), jinja2.Environment)
    assert environment._environment().autoescape is True
