"""The events of a sample that Inspect AI logged, as steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from isotrace.canonical import MAX_NODES
from isotrace.errors import ImportFormatError
from isotrace.formats.chat import (
    LLM_SKILL,
    SUCCESS,
    TOOL_ERROR,
    Outcome,
    answered,
    call_arguments,
    failed_with,
    known,
)
from isotrace.formats.node import Node
from isotrace.formats.tree import AS_SHOWN, MAX_PLACES, NO_PROGRAM, Work
from isotrace.jsondiff import MISSING
from isotrace.models import Lineage

NO_CALL: Final = "calls: some are in the log's own form; what went to and fro is not in the source"
BY_SCORER: Final = "called by a scorer, not by the agent"
ATTACHMENT: Final = "attachment://"

# What a tool's error is called, and how such a step ended.
_TOOL_ERRORS: Final = {
    "parsing": "VALIDATION",
    "timeout": "TRANSIENT",
    "unicode_decode": "VALIDATION",
    "permission": "PERMISSION",
    "limit": "RESOURCE",
    "output_limit": "RESOURCE",
    "approval": "POLICY",
}
_ERROR_CLASS: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,100}(?=\()")
_SCORING: Final = frozenset(("scorer", "scorers"))


class Attachments:
    """The long texts of a sample; `resolved` puts them back where they are referred to."""

    def __init__(self, attachments: Node, limit: int) -> None:
        self._texts = attachments.object_or_none() or {}
        self._limit = limit

    def resolved(self, place: Node) -> Any:
        """The value with its texts in place, None where there is nothing.

        Raises `ImportFormatError` where they add up to more than the limit: a short text can refer
        to a long one many times. A reference to nothing stays as it is.
        """
        if place.absent:
            return None
        self._left = self._limit
        value = self._resolved(place.value)
        if self._left < 0:
            raise place.fail("a value is too large with its attachments", hint=f"at most {self._limit} bytes")
        return value

    def _resolved(self, value: Any) -> Any:
        # The reader of the file bounds the depth.
        if isinstance(value, str):
            if not value.startswith(ATTACHMENT):
                return value
            text = self._texts.get(value.removeprefix(ATTACHMENT))
            if not isinstance(text, str):
                return value
            self._left -= len(text)
            return text if self._left >= 0 else value
        if isinstance(value, dict):
            return {key: self._resolved(child) for key, child in value.items()}
        if isinstance(value, list):
            return [self._resolved(child) for child in value]
        return value


def ended_by(error: Node) -> Outcome:
    """How a tool step ended, by the error that its event or message has."""
    if error.absent:
        return SUCCESS
    kind = error["type"].text_or_none()
    return TOOL_ERROR if kind is None else Outcome("failure", _TOOL_ERRORS.get(kind, "PERMANENT"), kind)


def tool_error(error: Node) -> str | None:
    """The error's text; its type where it has none."""
    if error.absent:
        return None
    return error["message"].text_or_none() or error["type"].text_or_none() or "error"


@dataclass(slots=True)
class _Event:
    """An event that is a step: its own span, and whether a scorer began it."""

    node: Node
    type: str
    span: str | None
    started_us: int
    scoring: bool
    holder: _Event | None = None
    inner: int = 0
    lineage: Lineage = ()
    attempts: list[_Event] = field(default_factory=list)


@dataclass(slots=True)
class _Around:
    """What a span stands in: the tool that holds it, and whether a scorer does."""

    tool: _Event | None = None
    scoring: bool = False


class _Spans:
    """The spans of a sample, and which of them are the inside of a tool's event."""

    def __init__(self) -> None:
        self._begun: dict[str, Node] = {}
        self._tools: dict[tuple[str | None, str], list[str]] = {}
        self._holds: dict[str, _Event] = {}
        self._found: dict[str, _Around] = {}

    def begin(self, event: Node) -> None:
        name = event["id"].text_or_none()
        if name is None or name in self._begun:
            return
        self._begun[name] = event
        if event["type"].text_or_none() == "tool":
            key = (event["parent_id"].text_or_none(), event["name"].text_or_none() or "")
            self._tools.setdefault(key, []).append(name)

    def pair(self, events: list[_Event]) -> None:
        """The n-th span of a tool under a span belongs to the n-th event of this tool there."""
        waiting = {key: iter(names) for key, names in self._tools.items()}
        for event in events:
            if event.type == "tool":
                key = (event.span, event.node["function"].text_or_none() or "")
                name = next(waiting.get(key, iter(())), None)
                if name is not None:
                    self._holds[name] = event

    def around(self, span: str | None) -> _Around:
        """What an event of this span stands in. Each span is climbed once."""
        path: list[str] = []
        while span is not None and span in self._begun and span not in self._found:
            # Parents in a circle end here too.
            self._found[span] = _Around()
            path.append(span)
            span = self._begun[span]["parent_id"].text_or_none()
        found = self._found.get(span, _Around()) if span is not None else _Around()
        for name in reversed(path):
            scoring = found.scoring or self._begun[name]["type"].text_or_none() in _SCORING
            found = self._found[name] = _Around(self._holds.get(name, found.tool), scoring)
        return found


def steps_of(
    root: Node, events: list[Node], attachments: Attachments, started_us: int
) -> tuple[list[Work], list[str]]:
    """The steps of a sample, and what of them speaks against a replay.

    Raises `ImportFormatError` for an event of the wrong shape and tools nested too deeply.
    """
    spans = _Spans()
    found: list[_Event] = []
    _collect(events, None, started_us, spans, found)
    spans.pair(found)
    roots = 0
    for event in found:
        around = spans.around(event.span)
        event.scoring = event.scoring or around.scoring
        event.holder = event.holder or (around.tool if around.tool is not event else None)
    kept = _with_attempts(found)
    for event in kept:
        roots = _place(event, roots)
    reader = _Reader(root, attachments)
    works = [reader.work(event) for event in kept]
    return works, reader.reasons


def _collect(
    events: list[Node], holder: _Event | None, now_us: int, spans: _Spans, found: list[_Event]
) -> None:
    """Finds the events that are steps, also those that older logs keep inside of a tool's event."""
    scorers = 0
    for node in events:
        type_ = node["event"].text()
        moment = node["timestamp"].moment_or_none()
        now_us = now_us if moment is None else moment.us
        inside = holder
        if type_ == "span_begin":
            spans.begin(node)
        elif type_ == "step" and node["type"].text_or_none() in _SCORING:
            scorers += 1 if node["action"].text_or_none() == "begin" else -1
        elif type_ in ("model", "tool", "sandbox"):
            span = node["span_id"].text_or_none()
            inside = _Event(node, type_, span, now_us, scorers > 0, holder)
            found.append(inside)
        if isinstance(node["events"].value, list):
            _collect(list(node["events"].items()), inside, now_us, spans, found)


def _with_attempts(events: list[_Event]) -> list[_Event]:
    """The events without the failed calls of a model that a later, successful call of the span encloses."""
    failed: dict[str | None, list[_Event]] = {}
    attempts: set[int] = set()
    for event in events:
        if event.type != "model":
            continue
        if not event.node["error"].absent:
            failed.setdefault(event.span, []).append(event)
            continue
        before = failed.pop(event.span, [])
        event.attempts = [one for one in before if one.started_us >= event.started_us]
        attempts.update(map(id, event.attempts))
    return [event for event in events if id(event) not in attempts]


def _place(event: _Event, roots: int) -> int:
    """Numbers the event, and those that hold it, if they have no number yet."""
    path = [event]
    while not path[-1].lineage and (holder := path[-1].holder) is not None:
        path.append(holder)
        if len(path) > MAX_PLACES:
            raise _too_deep(event)
    for one in reversed(path):
        if one.lineage:
            continue
        if one.holder is None:
            one.lineage, roots = (roots,), roots + 1
        else:
            one.lineage = (*one.holder.lineage, one.holder.inner)
            one.holder.inner += 1
    if len(event.lineage) > MAX_PLACES:
        raise _too_deep(event)
    return roots


def _too_deep(event: _Event) -> ImportFormatError:
    return event.node.fail("tools are nested too deeply", expected=f"at most {MAX_PLACES} in each other")


class _Reader:
    """Makes steps of events."""

    def __init__(self, root: Node, attachments: Attachments) -> None:
        self._attachments = attachments
        self._messages = root["events_data"]["messages"]
        self._reasons: dict[str, None] = {NO_PROGRAM: None}

    @property
    def reasons(self) -> list[str]:
        return list(self._reasons)

    def work(self, event: _Event) -> Work:
        work: Work = {"model": self._model, "tool": self._tool, "sandbox": self._sandbox}[event.type](event)
        if event.type != "model":
            self._reasons[AS_SHOWN] = None
        if event.scoring:
            work.marks = (*work.marks, BY_SCORER)
        return work

    def _ended_us(self, event: _Event) -> int | None:
        """When an event ended; those of older logs have one time only. None: it was still under way."""
        if event.node["pending"].value is True:
            return None
        moment = event.node["completed"].moment_or_none()
        return event.started_us if moment is None else moment.us

    def _value(self, place: Node) -> Any:
        return self._attachments.resolved(place)

    def _outcome(self, place: Node) -> Any:
        return MISSING if place.absent else self._value(place)

    def _model(self, event: _Event) -> Work:
        node, call = event.node, event.node["call"]
        request = self._value(call["request"]) if _has_all(call) else None
        response = self._value(call["response"]) if isinstance(call.value, dict) else None
        output = node["output"]
        if not isinstance(request, dict) or not isinstance(response, dict):
            self._reasons[NO_CALL] = None
        params = request if isinstance(request, dict) else self._kept_request(node)
        ended, error = answered(_stop_reason(output)), None
        if not node["error"].absent:
            error = node["error"].text()
            ended = _failure(error)
        return Work(
            event.lineage,
            "llm",
            LLM_SKILL,
            params,
            event.started_us,
            self._ended_us(event),
            outcome=response if isinstance(response, dict) else self._outcome(output),
            ended=ended,
            error=error,
            retries=len(event.attempts),
            attempts=list(_attempts(event)),
        )

    def _kept_request(self, node: Node) -> dict[str, Any]:
        kept = {key: self._value(node[key]) for key in ("model", "tools", "tool_choice", "config")}
        own = self._value(node["input"])
        if node["input_refs"].absent:
            return known(kept | {"input": own})
        if not isinstance(own, list | None):
            raise node["input"].fail("a field has the wrong type", expected="an array")
        return known(kept) | {"input": [*self._referred(node["input_refs"]), *(own or [])]}

    def _referred(self, refs: Node) -> Iterator[Any]:
        """The messages of the sample's pool that an event refers to by ranges `[begin, end)`."""
        pool = self._messages.value if isinstance(self._messages.value, list) else []
        count = 0
        for ref in refs.items_or_none():
            begin, end = (one.whole_or_none() for one in _two(ref))
            if begin is None or end is None or not 0 <= begin <= end <= len(pool):
                raise ref.fail("a range of messages is not there", expected=f"within 0 and {len(pool)}")
            count += end - begin
            if count > MAX_NODES:
                raise ref.fail("an event refers to too many messages", expected=f"at most {MAX_NODES}")
            part = Node(pool[begin:end], self._messages.where, self._messages.pointer)
            yield from self._value(part)

    def _tool(self, event: _Event) -> Work:
        node = event.node
        ended = ended_by(node["error"])
        if ended is SUCCESS and node["failed"].value is True:
            ended = TOOL_ERROR
        return Work(
            event.lineage,
            "tool",
            node["function"].text(),
            call_arguments(self._value(node["arguments"])),
            event.started_us,
            self._ended_us(event),
            outcome=self._outcome(node["result"]),
            ended=ended,
            error=tool_error(node["error"]),
        )

    def _sandbox(self, event: _Event) -> Work:
        node = event.node
        action = node["action"].text()
        params = {key: self._value(node[key]) for key in ("cmd", "file", "options", "input")}
        result = node["result"].value
        failed = isinstance(result, int) and not isinstance(result, bool) and result != 0
        return Work(
            event.lineage,
            "code",
            f"sandbox.{action}",
            known(params),
            event.started_us,
            self._ended_us(event),
            outcome=known({"result": node["result"].value_or_none(), "output": self._value(node["output"])}),
            ended=Outcome("failure", "PERMANENT", f"EXIT_{result}") if failed else SUCCESS,
            effect="read" if action == "read_file" else "write",
        )


def _has_all(call: Node) -> bool:
    """Whether a call's request is whole: newer logs may keep its messages elsewhere, by reference."""
    return isinstance(call.value, dict) and not any(str(key).endswith("_refs") for key in call.value)


def _two(ref: Node) -> list[Node]:
    parts = list(ref.items())
    if len(parts) != 2:
        raise ref.fail("a range of messages is not there", expected="two numbers")
    return parts


def _stop_reason(output: Node) -> Any:
    """Why the first choice ended; Inspect says `max_tokens`, as some providers do."""
    choices = output.value.get("choices") if isinstance(output.value, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("stop_reason") if isinstance(first, dict) else None


def _failure(error: str) -> Outcome:
    """The failure that an exception's `repr` stands for."""
    match = _ERROR_CLASS.match(error)
    return failed_with(match.group()) if match else Outcome("failure", "PERMANENT", "error")


def _attempts(event: _Event) -> Iterator[tuple[int, dict[str, Any], str | None]]:
    for number, one in enumerate(event.attempts):
        error = one.node["error"].text()
        failure = _failure(error)
        facts = {
            "attempt": number + 1,
            "outcome_category": failure.category,
            "outcome_code": failure.code,
        }
        yield one.started_us, facts, error
