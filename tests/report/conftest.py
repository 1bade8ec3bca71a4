"""Runs that pages are drawn of, a parser that is strict about them, and a browser that opens them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from isotrace.models import StepContext, TraceRecord, TraceStatus, TraceStep

START = datetime(2026, 11, 22, 8, 26, 40, tzinfo=UTC)
VOID = {"meta", "link", "br", "img", "input", "hr", "line", "rect", "circle"}


def make_step(index: int, skill: str, params: Any, outcome: Any = None, **given: Any) -> TraceStep:
    """A step of 10 ms; `at_ms` from the start of the run, `kind`, `lineage`, `error` and `attempts` go to
    its context."""
    at_ms = given.pop("at_ms", index * 10.0)
    inside = {name: given.pop(name) for name in ("kind", "lineage", "error", "attempts") if name in given}
    facts = {
        "status": TraceStatus.SUCCESS,
        "outcome_category": "SUCCESS",
        "outcome_code": None,
        "cost_cents": 0.0,
        "duration_ms": 10.0,
        "retry_count": 0,
        **given,
    }
    return TraceStep(
        step_index=index,
        skill_name=skill,
        params=params,
        outcome_data=outcome,
        timestamp=START + timedelta(milliseconds=at_ms),
        context=StepContext(**inside),
        **facts,
    )


def make_run(*steps: TraceStep, **given: Any) -> TraceRecord:
    """A completed run of these steps."""
    facts: dict[str, Any] = {
        "run_id": "a" * 32,
        "correlation_id": "a" * 32,
        "tenant_id": "default",
        "agent_id": "support",
        "plan": [],
        "started_at": START,
        "completed_at": START + timedelta(milliseconds=10 * max(len(steps), 1)),
        "status": "completed",
        **given,
    }
    return TraceRecord(steps=list(steps), **facts)


@pytest.fixture
def step() -> Callable[..., TraceStep]:
    return make_step


@pytest.fixture
def run() -> Callable[..., TraceRecord]:
    return make_run


class Page(HTMLParser):
    """A page that was parsed: its elements, its text, and what an element with an id holds."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, str | None]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.by_id: dict[str, list[str]] = {}
        self.scripts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], "elements that are never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("id")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:], f"</{tag}> closes nothing"
        assert self.open.pop()[0] == tag, f"</{tag}> crosses another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1][0] in ("style", "script"):
            self.scripts.append(data)
            return
        self.texts.append(data)
        for _, name in self.open:
            if name is not None:
                self.by_id.setdefault(name, []).append(data)

    @property
    def text(self) -> str:
        """All that is to be read, with single spaces."""
        return " ".join("".join(self.texts).split())

    def inside(self, name: str) -> str:
        """What is to be read in the element of this id."""
        return " ".join("".join(self.by_id[name]).split())

    def count(self, tag: str) -> int:
        """How many elements of this name there are."""
        return sum(one == tag for one, _ in self.elements)


@pytest.fixture
def parsed() -> Callable[[str], Page]:
    return Page


# --- a browser ------------------------------------------------------------------------


# Playwright keeps an event loop running in the test's thread, in which no other test can run one.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium. Where there is none the test is skipped, but not in CI."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no chromium on PATH, and CI must have one")
        pytest.skip("there is no chromium on PATH, which opens the pages")
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=quiet)
        yield browser
        browser.close()


class Opened:
    """A page in a browser, which may load nothing but its own file and complain about nothing."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.url = file.as_uri()
        self.page.goto(self.url)

    def _route(self, route: Any) -> None:
        self.asked.append(route.request.url)
        route.continue_() if route.request.url.split("#")[0] == self.url else route.abort()

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def close(self) -> None:
        """Closes it, and says what it did that it must not."""
        self.context.close()
        assert {url.split("#")[0] for url in self.asked} == {self.url}
        assert self.complaints == []


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens HTML in a browser: gives playwright's page. What it asks for and says is looked at at the end."""
    pages: list[Opened] = []

    def open_page(html: str, **options: Any) -> Any:
        file = tmp_path / f"page{len(pages)}.html"
        file.write_text(html, "utf-8")
        pages.append(Opened(chromium, file, **options))
        return pages[-1].page

    yield open_page
    for page in pages:
        page.close()
