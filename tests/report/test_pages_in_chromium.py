"""Pages as a browser opens them: alone, without script, in the dark, on a phone, by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Locator, Page

from isotrace.compare import diff_traces
from isotrace.models import RunContext, TraceRecord, TraceStatus, Violation
from isotrace.operations import behaviours
from isotrace.population import compare_behaviours
from isotrace.report.html import render_behaviours, render_diff, render_run

HOSTILE = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>\u202ejavascript:alert(1)"


@pytest.fixture
def support(step: Callable, run: Callable) -> TraceRecord:
    """Five steps: two at the same time, one that failed."""
    long = {"messages": [{"role": "user", "content": "a long word: " + "x" * 4000 + "\n" * 40}]}
    failed = {"status": TraceStatus.FAILURE, "outcome_category": "PERMANENT", "outcome_code": "ValueError"}
    record: TraceRecord = run(
        step(0, "chat", long, {"value": "hello"}, kind="llm", lineage=(0,)),
        step(1, "get_order_" * 9, {"id": "W-1"}, {"value": [1, 2]}, lineage=(1, 0, 0)),
        step(2, "weather", {"city": "東京"}, {"value": 21.5}, lineage=(1, 1, 0), at_ms=10),
        step(3, "refund", {"cents": 5}, error="no such order", lineage=(2,), **failed),
        step(4, "chat", long, {"value": "done"}, kind="llm", lineage=(3,)),
        context=RunContext(input={"task": "refund"}, result="done"),
        metadata={"task": "y" * 300},
    )
    return record


def test_it_loads_nothing_and_complains_of_nothing(opened: Callable[..., Page], support: TraceRecord) -> None:
    page = opened(render_run(support))
    assert page.title() == "support aaaaaaaaaaaa · isotrace"
    assert page.locator(".step").count() == 5


def test_without_script_a_step_opens_and_links_lead_to_it(
    opened: Callable[..., Page], support: TraceRecord
) -> None:
    page = opened(render_run(support), java_script_enabled=False)
    refund = page.locator("#s3")
    assert not refund.locator("pre").first.is_visible()
    refund.locator("summary").first.click()
    assert '"cents": 5' in refund.inner_text()
    page.locator(".note a", has_text="3").click()
    assert page.url.endswith("#s3")
    assert not page.locator(".keys").is_visible()


@pytest.mark.parametrize("script", [True, False])
def test_hostile_text_is_inert(
    opened: Callable[..., Page], step: Callable, run: Callable, script: bool
) -> None:
    inside = {HOSTILE: [HOSTILE]}
    when = datetime(2026, 11, 22, tzinfo=UTC)
    page = opened(
        render_run(
            run(
                step(0, HOSTILE, inside, inside, kind=HOSTILE),
                agent_id=HOSTILE,
                status=HOSTILE,
                metadata={HOSTILE: HOSTILE},
                violations=[Violation(0, when, HOSTILE, HOSTILE)],
                context=RunContext(result=HOSTILE),
            )
        ),
        java_script_enabled=script,
    )
    assert page.locator("script").count() == 1
    assert page.locator("style").count() == 1
    assert page.locator("img").count() == 0
    page.locator("#s0 summary").first.click()
    assert HOSTILE.replace("\u202e", "<U+202E>") in page.locator("#s0 .skill").inner_text()


def test_dark_is_not_light(opened: Callable[..., Page], support: TraceRecord) -> None:
    html = render_run(support)
    light, dark = (opened(html, color_scheme=scheme) for scheme in ("light", "dark"))
    assert background(light) == "rgb(250, 250, 248)"
    assert background(dark) == "rgb(19, 20, 23)"
    assert light.screenshot() != dark.screenshot()


def background(page: Page) -> Any:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(
    opened: Callable[..., Page], support: TraceRecord, scheme: str
) -> None:
    page = opened(render_run(support), color_scheme=scheme)
    page.keyboard.press("e")
    assert page.evaluate(CONTRAST) == []


# WCAG 2.2, 1.4.3: 4.5 for text. Each element that has text of its own, with the ground behind it.
CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    const pair = [light(rgb(ink)), light(ground(element))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5 || style.opacity < 1) faint.push([element.tagName, element.className, ratio.toFixed(2)]);
  }
  return faint;
}"""


def test_a_phone_scrolls_one_way_only(opened: Callable[..., Page], support: TraceRecord) -> None:
    page = opened(render_run(support), viewport={"width": 360, "height": 740}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_keyboard_reaches_steps_and_failures(opened: Callable[..., Page], support: TraceRecord) -> None:
    page = opened(render_run(support))
    where = "document.activeElement.closest('.step')?.id"
    walked = []
    for key in "jjjknpj":
        page.keyboard.press(key)
        walked.append(page.evaluate(where))
    assert walked == ["s0", "s1", "s2", "s1", "s3", "s3", "s4"]
    page.keyboard.press("Enter")
    assert page.locator("#s4").evaluate("one => one.open")
    page.keyboard.press("e")
    assert page.locator(".step[open]").count() == 5


def test_tab_goes_to_the_steps_without_script(opened: Callable[..., Page], support: TraceRecord) -> None:
    page = opened(render_run(support), java_script_enabled=False)
    page.keyboard.press("Tab")
    assert page.locator(".skip").is_visible()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator(".step[open]").get_attribute("id") == "s0"


def test_link_to_a_step_opens_it(opened: Callable[..., Page], support: TraceRecord) -> None:
    page = opened(render_run(support))
    page.locator(".lanes a").nth(3).click()
    assert page.locator(".step[open]").get_attribute("id") == "s3"


@pytest.mark.slow
def test_10_000_steps_open_and_the_last_is_reached(
    opened: Callable[..., Page], step: Callable, run: Callable
) -> None:
    steps = [step(at, "get", {"at": at}, {"value": "x" * 500}, lineage=(at,)) for at in range(10_000)]
    page = opened(render_run(run(*steps)))
    assert page.locator(".step").count() == 10_000
    page.keyboard.press("k")
    last = page.locator("#s9999")
    assert page.evaluate("document.activeElement.closest('.step').id") == "s9999"
    assert last.locator(".no").inner_text() == "9999"
    assert 0 <= box_of(last)["y"] < 800


def box_of(element: Locator) -> dict[str, float]:
    """Where it is drawn."""
    box = element.bounding_box()
    assert box is not None
    return dict(box)  # type: ignore[arg-type] # its values are numbers


# --- two runs -------------------------------------------------------------------------


@pytest.fixture
def parted(step: Callable, run: Callable) -> str:
    """The page of two runs of 300 steps that part at step 200; three rows differ."""
    sides = []
    for side in (0, 1):
        changed = {200, 250, 299} if side else set()
        sides.append(
            run(
                *(
                    step(at, "get_" * 12, {"at": -at if at in changed else at, "x": "y" * 90})
                    for at in range(300)
                )
            )
        )
    return render_diff(diff_traces(*sides), *sides)


def test_first_divergence_is_in_view_when_the_page_opens(opened: Callable[..., Page], parted: str) -> None:
    for options in ({}, {"viewport": {"width": 360, "height": 740}}, {"java_script_enabled": False}):
        page = opened(parted, **options)
        # Without script it is the summary at the top that shows it, and links to its row.
        where = page.locator("#r200 .was" if options.get("java_script_enabled", True) else ".parted .was")
        assert 0 < box_of(where)["y"] < 740
        page.locator(".verdict a").click()
        assert 0 < box_of(page.locator("#r200"))["y"] < 740


def test_keyboard_walks_the_rows_that_differ(opened: Callable[..., Page], parted: str) -> None:
    page = opened(parted)
    walked = []
    for key in "jjnkp":
        page.keyboard.press(key)
        walked.append(page.evaluate("document.activeElement.closest('.row').id"))
    assert walked == ["r200", "r250", "r299", "r250", "r200"]
    page.keyboard.press("Enter")
    assert '"at": -200' in page.locator("#r200 .values").inner_text()


def test_two_runs_stack_on_a_phone(opened: Callable[..., Page], parted: str) -> None:
    for width, stacked in ((1280, False), (360, True)):
        page = opened(parted, viewport={"width": width, "height": 740})
        left, right = (box_of(page.locator("#r200 .side").nth(at)) for at in (0, 1))
        assert (right["y"] >= left["y"] + left["height"], right["x"] == left["x"]) == (stacked, stacked)
        page.keyboard.press("e")
        assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_two_runs_stands_out_from_its_ground(
    opened: Callable[..., Page], parted: str, scheme: str
) -> None:
    page = opened(parted, color_scheme=scheme)
    page.keyboard.press("e")
    assert page.evaluate(CONTRAST) == []


def test_hostile_text_of_two_runs_is_inert(
    opened: Callable[..., Page], step: Callable, run: Callable
) -> None:
    before = run(step(0, HOSTILE, {HOSTILE: HOSTILE}), agent_id=HOSTILE)
    after = run(step(0, HOSTILE, {HOSTILE: [HOSTILE]}), step(1, HOSTILE, {}), agent_id=HOSTILE)
    page = opened(render_diff(diff_traces(before, after), before, after))
    page.keyboard.press("e")
    assert page.locator("script").count() == 1
    assert page.locator("img").count() == 0
    assert "<img src=x" in page.locator("#r0").inner_text()


# --- many runs ------------------------------------------------------------------------


@pytest.fixture
def many(step: Callable, run: Callable) -> list[TraceRecord]:
    """Runs of three paths, one of them with a hostile name, in two tasks."""
    return [
        run(
            step(0, "chat", {}, kind="llm"),
            *([step(1, "check_" * 9, {"limit": at})] if at % 3 else []),
            step(2 if at % 3 else 1, HOSTILE, {}),
            run_id=f"{at:032d}",
            metadata={"task": f"{HOSTILE} {at % 2}", "reward": at % 3},
        )
        for at in range(12)
    ]


@pytest.mark.parametrize("by", [None, "task"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_of_many_runs_reads_well_everywhere(
    opened: Callable[..., Page], many: list[TraceRecord], by: str | None, scheme: str
) -> None:
    found = behaviours(many, by=by)
    paths = found.groups[0].behaviours
    html = render_behaviours(found, compare_behaviours(paths[:1], paths))
    for width in (1280, 360):
        page = opened(html, viewport={"width": width, "height": 740}, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(CONTRAST) == []
        assert page.locator("script").count() == 1
        assert page.locator("img").count() == 0


def test_keyboard_walks_the_tree(opened: Callable[..., Page], many: list[TraceRecord]) -> None:
    page = opened(render_behaviours(behaviours(many)))
    walked = []
    for key in "jjkn":
        page.keyboard.press(key)
        walked.append(page.evaluate("document.activeElement.id"))
    assert walked == ["w0", "w1", "w0", "w0"]


def test_tree_is_reached_without_script(opened: Callable[..., Page], many: list[TraceRecord]) -> None:
    page = opened(render_behaviours(behaviours(many)), java_script_enabled=False)
    page.locator(".parting a").first.click()
    assert page.url.endswith("#w0")
    assert 0 <= box_of(page.locator("#w0"))["y"] < 800
