"""Temporal workflow histories as foreign ledgers: one history is one run.

| record | source |
|---|---|
| input, result | `input` of the execution's start, `result` of its end |
| steps of kind `tool` | activities, local activities, Nexus operations, signals and cancels sent to others |
| steps of kind `agent` | child workflows |
| steps of kind `timer` | timers, from their start to their firing |
| steps of kind `code` | side effects and versions (markers), signals and updates that came in |
| attempts | `attempt` of the activity's start, `lastFailure` the one before it |
| status | completed, also where it goes on as a new one; failed; aborted: terminated, or not ended |

Steps stand in the order of their first events, all at the root: a history knows no tree. Their params are
the arguments in order, `{"args": […]}`. A payload is decoded if its encoding is `json/plain`; nulls are null,
and others stay bytes, with the name of their encoding. Type names are read in both spellings,
`ActivityTaskScheduled` and `EVENT_TYPE_ACTIVITY_TASK_SCHEDULED`.

What only moves the workflow on (workflow tasks, search attributes, memos) is no step. Events of types that
this importer does not know are counted in the metadata.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

from isotrace.contracts import ImportedRun
from isotrace.errors import CanonicalizationError, ImportFormatError
from isotrace.formats.chat import SUCCESS, Identity, Outcome, failed_with, known
from isotrace.formats.node import Node, as_import_error, foreign_json, plain_json
from isotrace.formats.scan import JsonText, text_start
from isotrace.formats.source import DEFAULT_BOUNDS, Bounds, label_of, read_all
from isotrace.formats.tree import NO_PROGRAM, TreeRun, Work
from isotrace.jsondiff import MISSING
from isotrace.plain import to_plain

ENCODED: Final = "payloads: some are in an encoding that only the program itself reads"

_CANCELLED: Final = failed_with("CancelledError")
_TIMED_OUT: Final = failed_with("TimeoutError")
_STARTED: Final = "WorkflowExecutionStarted"
_CAUSES: Final = 32
_NOT_ENDED: Final = "the history ends before the workflow does"

# How a workflow ends: the run's status.
_ENDS: Final = {
    "WorkflowExecutionCompleted": "completed",
    "WorkflowExecutionContinuedAsNew": "completed",
    "WorkflowExecutionFailed": "failed",
    "WorkflowExecutionTimedOut": "failed",
    "WorkflowExecutionCanceled": "failed",
    "WorkflowExecutionTerminated": "aborted",
}
# What ends a step: the field that names the event which began it.
_CLOSING: Final = {
    "ActivityTask": "scheduledEventId",
    "NexusOperation": "scheduledEventId",
    "ChildWorkflowExecution": "initiatedEventId",
    "StartChildWorkflowExecution": "initiatedEventId",
    "SignalExternalWorkflowExecution": "initiatedEventId",
    "RequestCancelExternalWorkflowExecution": "initiatedEventId",
    "ExternalWorkflowExecution": "initiatedEventId",
    "Timer": "startedEventId",
    "WorkflowExecutionUpdate": "acceptedEventId",
}
_SUFFIXES: Final = {
    "Completed": SUCCESS,
    "Fired": SUCCESS,
    "Signaled": SUCCESS,
    "CancelRequested": SUCCESS,
    "Canceled": _CANCELLED,
    "TimedOut": _TIMED_OUT,
    "Failed": None,
    "Terminated": None,
}
_NO_STEPS: Final = (
    "WorkflowTask",
    "UpsertWorkflowSearchAttributes",
    "WorkflowPropertiesModified",
    "WorkflowExecutionCancelRequested",
    "WorkflowExecutionUpdateAdmitted",
    "ActivityTaskCancelRequested",
    "NexusOperationStarted",
    "NexusOperationCancelRequest",
    "ChildWorkflowExecutionStarted",
)


class TemporalImporter:
    """Reads Temporal's workflow histories as JSON."""

    name = "temporal"

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds

    def detect(self, head: bytes, where: str) -> bool:
        """Whether the file begins as a history, in either spelling."""
        start = text_start(head)
        began = b"WorkflowExecutionStarted" in head or b"WORKFLOW_EXECUTION_STARTED" in head
        return start.startswith(b"{") and began and b'"events"' in head and b'"eventType"' in head

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The one run of a file, as `isotrace.contracts.Importer` has it."""
        data, failure = read_all(stream, where, self._bounds.run)
        text = JsonText(data, where)
        if failure is not None or text.kind() != "{":
            raise failure or text.unexpected("a workflow history, an object with events")
        root = Node(plain_json(data[text.begin :], where, max_bytes=self._bounds.run), where)
        try:
            yield _History(root).run(self.name, tenant_id, self._bounds)
        except CanonicalizationError as error:
            yield as_import_error(error, where, "")


class _History:
    """Reads the events of one history into steps."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._events = list(root["events"].items())
        if not self._events:
            raise root["events"].fail("a history without events", expected=f"{_STARTED} first")
        self._works: list[Work] = []
        self._open: dict[str, Work] = {}
        self._requests: dict[str, Node] = {}
        self._updates: dict[str, Work] = {}
        self._children: list[dict[str, Any]] = []
        self._unknown: Counter[str] = Counter()
        self._ended: tuple[str, Node] | None = None
        self._encoded = False

    def run(self, name: str, tenant_id: str, bounds: Bounds) -> ImportedRun:
        """The run of all events. Raises `ImportFormatError` and `CanonicalizationError`."""
        first = self._events[0]
        if _type(first) != _STARTED:
            raise first["eventType"].fail("a history begins in the middle", expected=_STARTED)
        start = _attributes(first)
        for event in self._events[1:]:
            self._add(event, _type(event))
        execution = start["originalExecutionRunId"].text_or_none()
        chain = start["firstExecutionRunId"].text_or_none() or execution
        label = label_of(self._root.where)
        identity = Identity(
            format=name,
            tenant_id=tenant_id,
            source=self._root.value,
            context={"label": label},
            correlation=None if chain is None else [chain],
            agent_id=start["workflowType"]["name"].text_or_none() or name,
            metadata=known(
                {
                    "label": label,
                    "source_id": execution,
                    "workflow_id": start["workflowId"].text_or_none(),
                    "attempt": start["attempt"].name_or_none(),
                    "parent_workflow": start["parentWorkflowExecution"].object_or_none(),
                    "continued_from": start["continuedExecutionRunId"].text_or_none() or None,
                }
            ),
            started_us=_time_us(first),
            input=self._values(start["input"]),
            environment=self._environment(start),
        )
        run = TreeRun(self._root, identity, bounds, (NO_PROGRAM,))
        if self._encoded:
            run.note(ENCODED)
        run.add(self._works)
        return self._finish(run)

    def _finish(self, run: TreeRun) -> ImportedRun:
        metadata: dict[str, Any] = known(
            {
                "child_workflows": self._children or None,
                "unknown_events": dict(sorted(self._unknown.items())) or None,
            }
        )
        if self._ended is None:
            return run.finish(
                "aborted", error=_NOT_ENDED, metadata=metadata, time_us=_time_us(self._events[-1])
            )
        type_, event = self._ended
        attributes = _attributes(event)
        result = self._values(attributes["result"]) if type_ == "WorkflowExecutionCompleted" else None
        if type_ == "WorkflowExecutionContinuedAsNew":
            metadata["continued_as"] = attributes["newExecutionRunId"].text_or_none()
        status = _ENDS[type_]
        error = None
        if status != "completed":
            _, message = _failure(attributes["failure"])
            error = message or attributes["reason"].text_or_none() or type_.removeprefix("WorkflowExecution")
        return run.finish(
            status,
            result=_single(result),
            error=error,
            metadata=metadata,
            time_us=_time_us(event),
        )

    # --- events -----------------------------------------------------------------------

    def _add(self, event: Node, type_: str) -> None:
        attributes = _attributes(event)
        if type_ in _ENDS:
            self._ended = (type_, event)
        elif type_ in _OPENING:
            _OPENING[type_](self, event, attributes)
        elif not type_.startswith(_NO_STEPS) and not self._close(event, type_, attributes):
            self._unknown[type_[:200]] += 1
        if type_ == "ChildWorkflowExecutionStarted":
            self._children.append(dict(attributes["workflowExecution"].object_or_none() or {}))
        elif type_ == "WorkflowExecutionUpdateAdmitted":
            request = attributes["request"]
            self._requests[request["meta"]["updateId"].text_or_none() or ""] = request

    def _begin(
        self, event: Node, kind: str, skill: str, params: dict[str, Any], effect: str = "write"
    ) -> Work:
        work = Work(
            lineage=(len(self._works),),
            kind=kind,
            skill=skill,
            params=params,
            started_us=_time_us(event),
            ended_us=None,
            effect=effect,
        )
        self._works.append(work)
        self._open[event["eventId"].name_or_none() or ""] = work
        return work

    def _activity(self, event: Node, attributes: Node) -> None:
        self._begin(event, "tool", _name(attributes, "activityType"), self._args(attributes["input"]))

    def _attempted(self, event: Node, attributes: Node) -> None:
        work = self._open.get(attributes["scheduledEventId"].name_or_none() or "")
        attempt = _whole(attributes["attempt"])
        if work is None or attempt is None or attempt < 2:
            return
        work.retries = attempt - 1
        if not attributes["lastFailure"].absent:
            ended, message = _failure(attributes["lastFailure"])
            facts = {
                "attempt": attempt - 2,  # counted from 0, as of a recorded step
                "outcome_category": ended.category,
                "outcome_code": ended.code,
            }
            work.attempts.append((_time_us(event), facts, message))

    def _child(self, event: Node, attributes: Node) -> None:
        self._begin(event, "agent", _name(attributes, "workflowType"), self._args(attributes["input"]))

    def _timer(self, event: Node, attributes: Node) -> None:
        params = {"delay": attributes["startToFireTimeout"].value_or_none()}
        self._begin(event, "timer", "timer", params, "pure")

    def _nexus(self, event: Node, attributes: Node) -> None:
        names = (attributes["service"].text_or_none(), attributes["operation"].text_or_none())
        params = {"args": [] if attributes["input"].absent else [self._value(attributes["input"])]}
        self._begin(event, "tool", ".".join(filter(None, names)) or "nexus", params)

    def _to_others(self, event: Node, attributes: Node) -> None:
        signal = attributes["signalName"].text_or_none()
        params = {
            **known(
                {"workflow": attributes["workflowExecution"]["workflowId"].text_or_none(), "signal": signal}
            ),
            **self._args(attributes["input"]),
        }
        self._begin(event, "tool", "cancel workflow" if signal is None else "signal workflow", params)

    def _signal(self, event: Node, attributes: Node) -> None:
        params = {"name": attributes["signalName"].text()}
        work = self._begin(event, "code", "signal", params, "read")
        work.outcome, work.ended_us = self._args(attributes["input"]), work.started_us

    def _update(self, event: Node, attributes: Node) -> None:
        request = attributes["acceptedRequest"]
        if request.absent:
            request = self._requests.get(attributes["protocolInstanceId"].text_or_none() or "", request)
        given = request["input"]
        params = {**known({"name": given["name"].text_or_none()}), **self._args(given["args"])}
        work = self._begin(event, "code", "update", params, "read")
        id_ = request["meta"]["updateId"].text_or_none() or attributes["protocolInstanceId"].text_or_none()
        self._updates[id_ or ""] = work

    def _marker(self, event: Node, attributes: Node) -> None:
        name = attributes["markerName"].text()
        details = {
            key: _single(self._values(attributes["details"][key]))
            for key in attributes["details"].object_or_none() or {}
        }
        data = details.pop("data", None)
        facts = data if isinstance(data, dict) else {}
        activity = facts.get("ActivityType") or facts.get("activity_type")
        if isinstance(activity, str):
            work = self._begin(event, "tool", activity, {})
            # A marker tells how a local activity ended; what it was called with is not in the history.
            work.params = None
            attempt = facts.get("Attempt", facts.get("attempt"))
            work.retries = max(0, attempt - 1) if isinstance(attempt, int) else 0
            outcome = details.get("result", MISSING)
        else:
            outcome = details.pop("version", None) if data is None else data
            work = self._begin(event, "code", name, details, "read")
        work.outcome, work.ended_us = outcome, work.started_us
        if not attributes["failure"].absent:
            work.ended, work.error = _failure(attributes["failure"])

    def _close(self, event: Node, type_: str, attributes: Node) -> bool:
        """Ends the step that this event is the end of. Whether it is one."""
        suffix = next((one for one in _SUFFIXES if type_.endswith(one)), None)
        field = None if suffix is None else _CLOSING.get(type_.removesuffix(suffix))
        if suffix is None or field is None:
            return False
        work = self._open.pop(attributes[field].name_or_none() or "", None)
        if work is None and type_ == "WorkflowExecutionUpdateCompleted":
            work = self._updates.get(attributes["meta"]["updateId"].text_or_none() or "")
        if work is None:
            raise attributes[field].fail(
                "an event ends what never began", expected="the id of an earlier event"
            )
        work.ended_us = _time_us(event)
        ended = _SUFFIXES[suffix]
        outcome = attributes["outcome"]
        failure = attributes["failure"] if outcome.absent else outcome["failure"]
        if ended is not SUCCESS or not failure.absent:
            told, work.error = _failure(failure)
            cause = attributes["cause"].text_or_none()
            work.ended = ended or (failed_with(cause) if failure.absent and cause else told)
            if work.ended is SUCCESS:
                work.ended = told
            return True
        result = attributes["result"] if outcome.absent else outcome["success"]
        single = "metadata" in result.value if isinstance(result.value, dict) else False
        work.outcome = self._value(result) if single else _single(self._values(result))
        return True

    # --- payloads -----------------------------------------------------------------------

    def _args(self, payloads: Node) -> dict[str, Any]:
        return {"args": self._values(payloads) or []}

    def _values(self, payloads: Node) -> list[Any] | None:
        """The values of a list of payloads; None where there is no list."""
        if payloads.absent:
            return None
        return [self._value(payload) for payload in payloads["payloads"].items_or_none()]

    def _value(self, payload: Node) -> Any:
        metadata = payload["metadata"]
        encoding = _bytes(metadata["encoding"]).decode("utf-8", "replace")
        data = _bytes(payload["data"])
        if encoding == "binary/null":
            return None
        if encoding == "json/plain":
            try:
                return foreign_json(data)
            except CanonicalizationError as error:
                raise as_import_error(error, payload.where, payload["data"].pointer) from error
        if encoding == "binary/plain":
            return to_plain(data)
        self._encoded = True
        return {"encoding": encoding, "data": to_plain(data)}

    def _environment(self, start: Node) -> dict[str, Any] | None:
        sdk: dict[str, Any] = {}
        for event in self._events:
            if _type(event) == "WorkflowTaskCompleted":
                told = _attributes(event)["sdkMetadata"]
                sdk |= known({key: told[key].text_or_none() for key in ("sdkName", "sdkVersion")})
        queue = start["taskQueue"]["name"].text_or_none()
        return known({"task_queue": queue, **sdk}) or None


_OPENING: Final[dict[str, Callable[[_History, Node, Node], None]]] = {
    "ActivityTaskScheduled": _History._activity,
    "ActivityTaskStarted": _History._attempted,
    "StartChildWorkflowExecutionInitiated": _History._child,
    "TimerStarted": _History._timer,
    "NexusOperationScheduled": _History._nexus,
    "SignalExternalWorkflowExecutionInitiated": _History._to_others,
    "RequestCancelExternalWorkflowExecutionInitiated": _History._to_others,
    "WorkflowExecutionSignaled": _History._signal,
    "WorkflowExecutionUpdateAccepted": _History._update,
    "MarkerRecorded": _History._marker,
}


def _type(event: Node) -> str:
    """The event's type in the spelling without underscores."""
    text = event["eventType"].text()
    if not text.startswith("EVENT_TYPE_"):
        return text
    return "".join(part.capitalize() for part in text.removeprefix("EVENT_TYPE_").split("_"))


def _attributes(event: Node) -> Node:
    type_ = _type(event)
    return event[f"{type_[:1].lower()}{type_[1:]}EventAttributes"]


def _time_us(event: Node) -> int:
    moment = event["eventTime"].moment_or_none()
    if moment is None:
        raise event["eventTime"].fail("a field is missing", expected="the event's time")
    return moment.us


def _name(attributes: Node, key: str) -> str:
    return attributes[key]["name"].text()


def _whole(node: Node) -> int | None:
    """An integer, or its digits: protobuf's JSON writes 64 bits as a string."""
    text = node.name_or_none()
    return int(text) if text is not None and text.isdecimal() and len(text) <= 15 else None


def _single(values: Any) -> Any:
    """What a function gave back: most give one value or none."""
    if isinstance(values, list) and len(values) <= 1:
        return values[0] if values else None
    return values


def _bytes(node: Node) -> bytes:
    text = node.text_or_none()
    try:
        return b"" if text is None else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise node.fail("a payload is not base64", expected="base64") from None


def _failure(failure: Node) -> tuple[Outcome, str | None]:
    """How a failure is classified, by the innermost cause that says what it is, and its message."""
    message = failure["message"].text_or_none()
    ended = Outcome("failure", "PERMANENT", "failed")
    for _ in range(_CAUSES):
        if failure.absent:
            break
        if not failure["timeoutFailureInfo"].absent:
            ended = _TIMED_OUT
        elif not failure["canceledFailureInfo"].absent:
            ended = _CANCELLED
        elif name := failure["applicationFailureInfo"]["type"].text_or_none():
            ended = failed_with(name)
        message = failure["message"].text_or_none() or message
        failure = failure["cause"]
    return ended, message
