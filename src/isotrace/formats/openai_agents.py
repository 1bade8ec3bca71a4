"""Traces of the OpenAI Agents SDK, as its exporter sends them: one trace is one run.

A file is one body `{"data": [items]}`, or such bodies, or items, one a line. A trace's items may stand
anywhere among those of others.

| record | source |
|---|---|
| steps of kind `llm` | spans of type `generation`, `response`, `transcription`, `speech` |
| params, outcome of these | `model`, `model_config` and `input`; `output` with `usage` |
| steps of kind `tool` | type `function` |
| steps of kind `retrieval` | type `mcp_tools`, the asking of a server for its tools |
| steps of kind `code` | types `guardrail`, `handoff`, and `custom` with no step inside |
| lineage | the tree of `parent_id`, siblings by `started_at` |
| failed step | `error`, its message |
| status | failed: an agent, or a span at the root of the tree, has an error; completed: all else |

A `response` is exported without what was sent and what came back, only with the id that the provider keeps
them under: the ids stand in the metadata, and the grade says what is missing. Tasks, turns and agents hold
steps and are none. Spans of types that this importer does not know are counted in the metadata.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from isotrace.contracts import ImportedRun
from isotrace.errors import CanonicalizationError, ImportFormatError
from isotrace.events import lineage_text
from isotrace.formats.chat import (
    LLM_SKILL,
    SUCCESS,
    TIME_ABSENT,
    TIME_ZONELESS,
    TOOL_ERROR,
    Identity,
    Outcome,
    call_arguments,
    known,
)
from isotrace.formats.node import Node, as_import_error, plain_json
from isotrace.formats.scan import text_start
from isotrace.formats.source import DEFAULT_BOUNDS, Bounds, label_of, read_all
from isotrace.formats.tree import NO_OUTCOME, Span, TreeRun, Work, grown, last_end
from isotrace.jsondiff import MISSING
from isotrace.models import META_MODEL

_BOM: Final = b"\xef\xbb\xbf"
_LLM: Final = {
    "generation": LLM_SKILL,
    "response": LLM_SKILL,
    "transcription": "llm.transcribe",
    "speech": "llm.speak",
}
_HOLDERS: Final = frozenset({"agent", "speech_group", "task", "turn"})
_STEPS: Final = frozenset({*_LLM, "function", "handoff", "guardrail", "mcp_tools"})
_FAILED: Final = Outcome("failure", "PERMANENT", "error")


@dataclass(slots=True)
class _Trace:
    """The items of one trace, as far as they have been read."""

    head: Node | None = None
    spans: list[Node] = field(default_factory=list)


class OpenAIAgentsImporter:
    """Reads what the OpenAI Agents SDK's tracing exports."""

    name = "openai-agents"

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds

    def detect(self, head: bytes, where: str) -> bool:
        """Whether the file begins with items of such traces."""
        start = text_start(head)
        spans = b'"trace.span"' in head and b'"span_data"' in head
        return (
            start.startswith((b"{", b"[")) and (spans or b'"workflow_name"' in head) and b'"object"' in head
        )

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The runs of one file, as `isotrace.contracts.Importer` has it.

        A line or an item that can't be read is an error of its own; the runs are made of the others.
        """
        data, failure = read_all(stream, where, self._bounds.run)
        traces: dict[str, _Trace] = {}
        bad = 0
        for item in _items(data.removeprefix(_BOM), where, self._bounds.run):
            try:
                _sort_in(traces, item)
            except ImportFormatError as error:
                yield failure or error
                failure, bad = None, bad + 1
        if failure is not None:
            yield failure
        if not traces and not bad:
            raise ImportFormatError(
                "a file without traces", where=where, pointer="", expected="items of traces and spans"
            )
        for id_, trace in traces.items():
            try:
                yield self._run(id_, trace, where, tenant_id)
            except ImportFormatError as error:
                yield error
            except CanonicalizationError as error:
                yield as_import_error(error, where, trace.spans[0].pointer if trace.spans else "")

    def _run(self, id_: str, trace: _Trace, where: str, tenant_id: str) -> ImportedRun:
        head = trace.head or Node({}, where)
        root = Node([node.value for node in (head, *trace.spans)], where, head.pointer)
        spans = grown([_span(node) for node in trace.spans])
        label = label_of(where)
        models = {one.node["span_data"]["model"].text_or_none() for one in spans if _type(one) in _LLM} - {
            None
        }
        identity = Identity(
            format=self.name,
            tenant_id=tenant_id,
            source=root.value,
            context={"label": label},
            correlation=None,
            agent_id=_agent(spans) or head["workflow_name"].text_or_none() or self.name,
            metadata=known(
                {
                    META_MODEL: models.pop() if len(models) == 1 else None,
                    "label": label,
                    "source_id": id_,
                    "name": head["workflow_name"].text_or_none(),
                    "group_id": head["group_id"].text_or_none(),
                    "trace_metadata": head["metadata"].object_or_none() or None,
                }
            )
            | _time_mark(spans),
            started_us=min((one.started_us for one in spans), default=0),
        )
        run = TreeRun(root, identity, self._bounds)
        if any(_type(one) == "response" for one in spans):
            run.note(NO_OUTCOME)
        run.add(_steps(spans))
        failed = next((one.node["error"] for one in spans if _fails_the_run(one)), None)
        return run.finish(
            "completed" if failed is None else "failed",
            error=None if failed is None else failed["message"].text_or_none() or "error",
            metadata=_ending(spans),
            time_us=last_end(spans, "ended_at"),
        )


# --- items --------------------------------------------------------------------------


def _items(data: bytes, where: str, limit: int) -> Iterator[Node | ImportFormatError]:
    """The items of all bodies, and an error for each line that can't be read."""
    lines = [(number, line) for number, line in enumerate(data.split(b"\n")) if line.strip()]
    if len(lines) > 1 and lines[0][1].rstrip().endswith((b"{", b"[", b",")):
        lines = [(-1, data)]  # one body, spread over lines for people to read
    for number, line in lines:
        pointer = "" if len(lines) == 1 else f"/{number}"
        try:
            body = Node(plain_json(line, where, pointer, max_bytes=limit), where, pointer)
            if isinstance(body.value, dict) and "data" in body.value:
                body = body["data"]
            if isinstance(body.value, list):
                yield from body.items()
            else:
                yield body
        except ImportFormatError as error:
            yield error


def _sort_in(traces: dict[str, _Trace], item: Node | ImportFormatError) -> None:
    """Puts an item to its trace. Raises `ImportFormatError` for what is none."""
    if isinstance(item, ImportFormatError):
        raise item
    kind = item["object"].text()
    if kind == "trace":
        traces.setdefault(item["id"].text(), _Trace()).head = item
    elif kind == "trace.span":
        traces.setdefault(item["trace_id"].text(), _Trace()).spans.append(item)
    else:
        raise item["object"].fail("an item of another kind", expected="trace, trace.span")


def _span(node: Node) -> Span:
    moment = node["started_at"].moment_or_none()
    if moment is None:
        raise node["started_at"].fail("a field is missing", expected="the time when the span began")
    return Span(node["id"].text(), node["parent_id"].text_or_none(), moment.us, node)


# --- the run ------------------------------------------------------------------------


def _type(span: Span) -> str:
    """The span's type; tasks and turns are exported as custom ones."""
    data = span.node["span_data"]
    type_ = data["type"].text()
    if type_ != "custom":
        return type_
    inner = data["data"].value
    own = inner.get("sdk_span_type") if isinstance(inner, dict) else None
    return own if isinstance(own, str) and own in _HOLDERS else type_


def _agent(spans: list[Span]) -> str | None:
    names = (one.node["span_data"]["name"].text_or_none() for one in spans if _type(one) == "agent")
    return next((name for name in names if name), None)


def _time_mark(spans: list[Span]) -> dict[str, str]:
    moments = [one.node["started_at"].moment_or_none() for one in spans]
    if not moments:
        return TIME_ABSENT
    return {} if all(moment is None or moment.zoned for moment in moments) else TIME_ZONELESS


def _fails_the_run(span: Span) -> bool:
    return not span.node["error"].absent and (len(span.lineage) == 1 or _type(span) == "agent")


def _ending(spans: list[Span]) -> dict[str, Any]:
    unknown = Counter(_type(one)[:200] for one in spans) - Counter()
    for name in (*_STEPS, *_HOLDERS, "custom"):
        unknown.pop(name, None)
    ids = {
        lineage_text(one.lineage): one.node["span_data"]["response_id"].text_or_none()
        for one in spans
        if _type(one) == "response"
    }
    return known({"response_ids": known(ids) or None, "unknown_spans": dict(sorted(unknown.items())) or None})


# --- its steps ----------------------------------------------------------------------


def _steps(spans: list[Span]) -> list[Work]:
    found: list[Work] = []
    busy: set[int] = set()
    for span in reversed(spans):  # parents stand before what is inside of them
        inner = any(id(one) in busy for one in span.inner)
        work = _step(span, inner=inner)
        if work is not None:
            found.append(work)
        if inner or work is not None:
            busy.add(id(span))
    return found


def _step(span: Span, *, inner: bool) -> Work | None:
    """The step that a span is; None for one that only holds others, or is of no known type."""
    type_, data = _type(span), span.node["span_data"]
    custom = type_ == "custom" and not inner and bool(data["data"].object_or_none())
    if type_ not in _STEPS and not custom:
        return None
    ended = span.node["ended_at"].moment_or_none()
    error = span.node["error"]
    work = Work(
        lineage=span.lineage,
        kind="llm" if type_ in _LLM else _KINDS.get(type_, "code"),
        skill=_LLM.get(type_) or data["name"].text_or_none() or _NAMES.get(type_, type_),
        params=None,
        started_us=span.started_us,
        ended_us=None if ended is None else ended.us,
        ended=SUCCESS if error.absent else TOOL_ERROR if type_ == "function" else _FAILED,
        error=None if error.absent else error["message"].text_or_none(),
    )
    _fill(work, type_, data)
    return work


_KINDS: Final = {"function": "tool", "mcp_tools": "retrieval"}
_NAMES: Final = {"mcp_tools": "mcp.list_tools"}


def _fill(work: Work, type_: str, data: Node) -> None:
    """What a step was called with and what it gave back, as each type of span has it."""
    if type_ == "response":
        usage = data["usage"].object_or_none()
        work.outcome = MISSING if usage is None else {"usage": usage}
    elif type_ in _LLM:
        settings = data["model_config"].object_or_none() or {}
        if not data["input"].absent:
            model = known({META_MODEL: data["model"].text_or_none()})
            work.params = {**model, **known(settings), "input": data["input"].value}
        usage = data["usage"].object_or_none()
        if not data["output"].absent:
            work.outcome = (
                data["output"].value if usage is None else {"value": data["output"].value, "usage": usage}
            )
    elif type_ == "function":
        work.params = None if data["input"].absent else call_arguments(data["input"].value)
        work.outcome = MISSING if data["output"].absent else data["output"].value
    elif type_ == "handoff":
        work.params = {"from_agent": data["from_agent"].text_or_none()}
        work.outcome = {"to_agent": data["to_agent"].text_or_none()}
    elif type_ == "guardrail":
        work.outcome = {"triggered": data["triggered"].flag_or_none()}
    elif type_ == "mcp_tools":
        work.params = {"server": data["server"].text_or_none()}
        work.outcome = MISSING if data["result"].absent else data["result"].value
    else:
        work.params = data["data"].object()
