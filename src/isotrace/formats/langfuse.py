"""Langfuse exports: one trace with its observations is one run.

A file is `{"trace": …, "observations": […]}`, a trace that holds its `observations`, or an array of these.

| record | source |
|---|---|
| input, result | `trace.input`, `trace.output`; where they are JSON texts, what those say |
| steps of kind `llm` | observations of type `GENERATION` and `EMBEDDING` |
| params of these | `model`, `modelParameters` without what is of the answer, `input` |
| outcome of these | `output`, with `usageDetails` as its `usage` where it has none |
| steps of kind `tool`, `retrieval` | type `TOOL`, `RETRIEVER`; a span that its attributes call a tool |
| steps of kind `code`, `agent` | a span, chain or agent with no step inside that has an input or output |
| lineage | the tree of `parentObservationId`, siblings by `startTime` |
| failed step | `level` is `ERROR`; its error is `statusMessage`, the code the exception named there |
| cost | `totalCost` |
| status | failed: an observation at the root of the tree failed; completed: all else |

A generation inside of a generation is one call that two instrumentations saw. Both are steps, the inner
one with a mark and without its cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from isotrace.contracts import ImportedRun
from isotrace.errors import CanonicalizationError, ImportFormatError
from isotrace.formats.chat import (
    LLM_SKILL,
    SUCCESS,
    TIME_ABSENT,
    TIME_ZONELESS,
    TOOL_ERROR,
    Identity,
    Outcome,
    call_arguments,
    failed_with,
    known,
)
from isotrace.formats.node import Moment, Node, as_import_error, foreign_json, plain_json
from isotrace.formats.scan import JsonText, runs_of, text_start
from isotrace.formats.source import DEFAULT_BOUNDS, Bounds, label_of, map_all
from isotrace.formats.tree import Span, TreeRun, Work, grown, last_end
from isotrace.jsondiff import MISSING
from isotrace.models import META_MODEL

SEEN_TWICE: Final = "inside of another LLM step: one call that two instrumentations saw"

_KINDS: Final = {"GENERATION": "llm", "EMBEDDING": "llm", "TOOL": "tool", "RETRIEVER": "retrieval"}
# What instrumentations call a tool, where the observation is but a span.
_TOOL_MARKS: Final = (("openinference.span.kind", "TOOL"), ("gen_ai.operation.name", "execute_tool"))
_TOOL_NAMES: Final = ("gen_ai.tool.name", "tool.name")
_TELEMETRY: Final = ("attributes", "resourceAttributes", "scope")
# Some instrumentations copy these of the answer into the parameters.
_OF_THE_ANSWER: Final = ("id", "created_at", "model")
_USAGE_KEYS: Final = ("usage", "usage_metadata", "usageMetadata")
_EXCEPTION: Final = re.compile(
    r"\s*((?:[A-Za-z_]\w{0,80}\.){0,8}[A-Za-z_]\w{0,80}(?:Error|Exception|Timeout))\b"
)
_CENTS: Final = 100


class LangfuseImporter:
    """Reads Langfuse's JSON exports of traces."""

    name = "langfuse"

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds

    def detect(self, head: bytes, where: str) -> bool:
        """Whether the file begins as a trace with observations, or as an array of such."""
        start = text_start(head)
        if not start.startswith((b"{", b"[")):
            return False
        whole = b'"trace"' in head or b'"observations"' in head
        return (whole and b'"projectId"' in head) or (
            b'"observations"' in head and b'"parentObservationId"' in head
        )

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The runs of one file, as `isotrace.contracts.Importer` has it."""
        data, failure = map_all(stream, where, self._bounds.total)
        text = JsonText(data, where)
        if text.kind() == "[":
            yield from runs_of(
                text,
                text.begin,
                "",
                self._bounds.run,
                lambda node: self._run(node, tenant_id),
                failure=failure,
            )
            return
        if failure is not None or text.kind() != "{":
            raise failure or text.unexpected("a trace with its observations, or an array of such")
        limit = self._bounds.run
        root = Node(plain_json(data[text.begin :], where, max_bytes=limit), where)
        try:
            yield self._run(root, tenant_id)
        except CanonicalizationError as error:
            yield as_import_error(error, where, "")

    def _run(self, root: Node, tenant_id: str) -> ImportedRun:
        trace = root if root["trace"].absent else root["trace"]
        spans = grown([_span(node) for node in root["observations"].items()])
        began = trace["timestamp"].moment_or_none()
        if began is None and spans:
            began = spans[0].node["startTime"].moment_or_none()
        label = label_of(root.where)
        identity = Identity(
            format=self.name,
            tenant_id=tenant_id,
            source=root.value,
            context={"label": label},
            correlation=None,
            agent_id=_agent(spans) or trace["name"].text_or_none() or self.name,
            metadata=_metadata(trace, spans, label) | _time_mark(began),
            # Of a trace whose clock is not that of its spans, the earlier time counts.
            started_us=min([one.started_us for one in spans] + ([began.us] if began else []), default=0),
            input=_of_trace(trace["input"]),
            environment=_environment(trace, spans),
        )
        run = TreeRun(root, identity, self._bounds)
        run.add(_steps(spans))
        failed = next((one for one in spans if len(one.lineage) == 1 and _is_failed(one.node)), None)
        return run.finish(
            "completed" if failed is None else "failed",
            result=_of_trace(trace["output"]),
            error=None if failed is None else failed.node["statusMessage"].text_or_none() or "error",
            time_us=last_end(spans, "endTime"),
        )


# --- the run ------------------------------------------------------------------------


def _span(node: Node) -> Span:
    moment = node["startTime"].moment_or_none()
    if moment is None:
        raise node["startTime"].fail("a field is missing", expected="the time when the observation began")
    return Span(node["id"].text(), node["parentObservationId"].text_or_none(), moment.us, node)


def _said(node: Node) -> Any:
    """A value; where it is JSON text of an object or array, what that says."""
    value = node.value_or_none()
    read = _read(value)
    return read if isinstance(read, dict | list) else value


def _of_trace(node: Node) -> Any:
    """A value of the trace itself, whose texts are written as JSON once or twice over."""
    value = node.value_or_none()
    for _ in range(2):
        read = _read(value)
        if not isinstance(read, dict | list | str):
            break
        value = read
    return value


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return None
    try:
        return foreign_json(value)
    except CanonicalizationError:
        return None


def _telemetry(node: Node, key: str) -> dict[str, Any]:
    """The attributes that the export keeps of the original span."""
    metadata = _said(node["metadata"])
    found = metadata.get(key) if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def _metadata(trace: Node, spans: list[Span], label: str | None) -> dict[str, Any]:
    models = {
        one.node["model"].text_or_none() for one in spans if _KINDS.get(one.node["type"].text()) == "llm"
    }
    given = _said(trace["metadata"])
    given = (
        {key: value for key, value in given.items() if key not in _TELEMETRY}
        if isinstance(given, dict)
        else {}
    )
    scores = {
        score["name"].text(): score["value"].value_or_none()
        for score in trace["scores"].items_or_none()
        if isinstance(score.value, dict)
    }
    return known(
        {
            META_MODEL: models.pop() if len(models) == 1 else None,
            "label": label,
            "source_id": trace["id"].text_or_none(),
            "name": trace["name"].text_or_none(),
            "session_id": trace["sessionId"].text_or_none(),
            "user_id": trace["userId"].text_or_none(),
            "release": trace["release"].text_or_none(),
            "version": trace["version"].text_or_none(),
            "tags": trace["tags"].value_or_none() or None,
            "scores": scores or None,
            "trace_metadata": given or None,
        }
    )


def _time_mark(began: Moment | None) -> dict[str, str]:
    if began is None:
        return TIME_ABSENT
    return {} if began.zoned else TIME_ZONELESS


def _agent(spans: list[Span]) -> str | None:
    agents = (one.node["name"].text_or_none() for one in spans if one.node["type"].text() == "AGENT")
    return next((name for name in agents if name), None)


def _environment(trace: Node, spans: list[Span]) -> dict[str, Any] | None:
    resource = next(filter(None, (_telemetry(one.node, "resourceAttributes") for one in spans)), None)
    scope = next(filter(None, (_telemetry(one.node, "scope") for one in spans)), None)
    found = {"environment": trace["environment"].text_or_none(), "resource": resource, "scope": scope}
    return known(found) or None


# --- its steps ----------------------------------------------------------------------


def _steps(spans: list[Span]) -> Iterator[Work]:
    kinds: dict[int, str | None] = {}
    busy: set[int] = set()
    for span in reversed(spans):  # parents stand before what is inside of them
        inner = any(id(one) in busy for one in span.inner)
        kind = kinds[id(span)] = _kind(span.node, inner=inner)
        if inner or kind is not None:
            busy.add(id(span))
    models: set[int] = set()
    for span in spans:
        kind = kinds[id(span)]
        if kind is not None:
            yield _step(span, kind, seen_twice=id(span) in models)
        if kind == "llm" or id(span) in models:
            models.update(id(one) for one in span.inner if kinds[id(one)] == "llm")


def _kind(node: Node, *, inner: bool) -> str | None:
    """The kind of step that an observation is; None for one that only holds others."""
    type_ = node["type"].text()
    if type_ in _KINDS:
        return _KINDS[type_]
    attributes = _telemetry(node, "attributes")
    if any(attributes.get(key) == value for key, value in _TOOL_MARKS):
        return "tool"
    if inner or (node["input"].absent and node["output"].absent):
        return None
    return "agent" if type_ == "AGENT" else "code"


def _step(span: Span, kind: str, *, seen_twice: bool) -> Work:
    node = span.node
    ended = node["endTime"].moment_or_none()
    if ended is None and (not node["output"].absent or _is_failed(node)):
        ended = Moment(span.started_us, zoned=True)  # it ended, though nothing says when
    return Work(
        lineage=span.lineage,
        kind=kind,
        skill=_skill(node, kind),
        params=_llm_params(node) if kind == "llm" else _arguments(node["input"]),
        started_us=span.started_us,
        ended_us=None if ended is None else ended.us,
        outcome=_outcome(node, kind),
        ended=_ended(node, kind),
        error=node["statusMessage"].text_or_none() if _is_failed(node) else None,
        cost_cents=0.0 if seen_twice else _cost(node),
        marks=(SEEN_TWICE,) if seen_twice else (),
    )


def _outcome(node: Node, kind: str) -> Any:
    if node["output"].absent:
        return MISSING
    return _answer(node) if kind == "llm" else node["output"].value


def _skill(node: Node, kind: str) -> str:
    if kind == "llm":
        return LLM_SKILL if node["type"].text() == "GENERATION" else "llm.embed"
    attributes = _telemetry(node, "attributes") if kind == "tool" else {}
    names = (attributes.get(key) for key in _TOOL_NAMES)
    named = next((name for name in names if isinstance(name, str) and name), None)
    return named or node["name"].text_or_none() or kind


def _llm_params(node: Node) -> dict[str, Any] | None:
    if node["input"].absent:
        return None
    settings = node["modelParameters"].object_or_none() or {}
    kept = {key: value for key, value in settings.items() if key not in _OF_THE_ANSWER}
    return {**known({META_MODEL: node["model"].text_or_none()}), **kept, "input": _said(node["input"])}


def _arguments(node: Node) -> dict[str, Any] | None:
    return None if node.absent else call_arguments(node.value)


def _answer(node: Node) -> Any:
    """The output, with the usage that the source counted where the provider's is not in it."""
    output = _said(node["output"])
    usage = node["usageDetails"].object_or_none()
    if (
        output is None
        or not usage
        or (isinstance(output, dict) and any(key in output for key in _USAGE_KEYS))
    ):
        return output
    return {**(output if isinstance(output, dict) else {"value": output}), "usage": usage}


def _cost(node: Node) -> float:
    for key in ("totalCost", "calculatedTotalCost"):
        if (usd := node[key].number_or_none()) is not None:
            return usd * _CENTS
    return 0.0


def _is_failed(node: Node) -> bool:
    return node["level"].text_or_none() == "ERROR"


def _ended(node: Node, kind: str) -> Outcome:
    if not _is_failed(node):
        return SUCCESS
    match = _EXCEPTION.match(node["statusMessage"].text_or_none() or "")
    if match:
        return failed_with(match[1])
    return TOOL_ERROR if kind == "tool" else Outcome("failure", "PERMANENT", "error")
