"""Logs of Inspect AI, `.json` and `.eval` (a zip archive): each sample of each epoch is one run.

| record | source |
|---|---|
| task | `eval.task` and the sample's id: `popularity/13` |
| trial, model | `epoch`, `eval.model` |
| reward | the first of `scores` that is a number, true or false, or C, P, I, N (1, 0.5, 0, 0) |
| LLM step | a `model` event: params `call.request`, outcome `call.response`; else what Inspect kept of them |
| tool step | a `tool` event, with its error |
| code step | a `sandbox` event, inside of the tool that it served |
| lineage | steps in the order of the events; those of a tool's span stand inside of the tool's step |
| attempts of an LLM step | the failed `model` events before it that its time encloses |
| status | failed: the sample has an error or ran into a limit; completed: all else |
| result | `output.completion`, or the text of the output's first message |

`attachment://…` stands for a long text of the sample's `attachments`, and is put back. Calls that a scorer
made are marked. A sample without events is taken from its messages, without times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import mmap
from typing import Any, BinaryIO, Final

from isotrace.contracts import ImportedRun
from isotrace.errors import CanonicalizationError, ImportFormatError
from isotrace.formats.chat import (
    NO_RAW_ANSWER,
    REBUILT,
    TIME_ABSENT,
    TIME_ZONELESS,
    Call,
    ChatRun,
    Identity,
    call_arguments,
    known,
)
from isotrace.formats.inspect_events import Attachments, ended_by, steps_of, tool_error
from isotrace.formats.node import Node, as_import_error, plain_json
from isotrace.formats.scan import JsonText, parts_of, runs_of, text_start
from isotrace.formats.source import DEFAULT_BOUNDS, Bounds, label_of, map_all
from isotrace.formats.tree import NO_PARAMS, NO_PROGRAM, TreeRun
from isotrace.formats.zipped import MAGIC, Archive
from isotrace.jsondiff import MISSING
from isotrace.models import META_MODEL, META_REPLAYABILITY, META_REWARD, META_TASK, META_TRIAL

NO_TOOL_CALL: Final = "the call is not in the source, only its result"
_SAMPLE: Final = re.compile(r"samples/[^\x00-\x1f\x7f/\\]{1,400}\.json")
_GRADES: Final = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_JSON_MARKS: Final = (b'"eval"', b'"status"')
_EVAL_MARKS: Final = (b'"eval_id"', b'"task_id"', b'"inspect_ai"')


@dataclass(slots=True)
class _Shared:
    """What all samples of a log have in common."""

    label: str | None
    eval: Node
    task: str = field(init=False)
    agent_id: str = field(init=False)
    model: str | None = field(init=False)
    settings: dict[str, Any] = field(init=False)
    ids: dict[str, Any] = field(init=False)
    environment: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        one = self.eval
        self.task = one["task"].text_or_none() or "inspect"
        self.agent_id = one["solver"].text_or_none() or self.task
        self.model = one["model"].text_or_none()
        generate = one["model_generate_config"].object_or_none() or {}
        self.settings = known({META_MODEL: self.model}) | known(generate)
        ids = {"eval_run_id": "run_id", "eval_id": "eval_id", "eval_task_id": "task_id"}
        self.ids = known({name: one[key].name_or_none() for name, key in ids.items()})
        kept = ("sandbox", "revision", "packages", "task_args", "model_args")
        self.environment = known({key: one[key].value_or_none() for key in kept})


class InspectImporter:
    """Reads the logs of Inspect AI."""

    name = "inspect"

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds

    def detect(self, head: bytes, where: str) -> bool:
        """Whether the file begins as a log, or as a zip archive that holds one."""
        if head.startswith(MAGIC):
            return where.endswith(".eval") or b"_journal/start.json" in head or b"header.json" in head
        if not text_start(head).startswith(b"{"):
            return False
        return all(mark in head for mark in _JSON_MARKS) and any(mark in head for mark in _EVAL_MARKS)

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The runs of one file, as `isotrace.contracts.Importer` has it."""
        data, failure = map_all(stream, where, self._bounds.total)
        if data[: len(MAGIC)] == MAGIC:
            if failure is not None:
                raise failure
            yield from self._zipped(data, where, tenant_id)
        else:
            yield from self._plain(data, failure, where, tenant_id)

    def _plain(
        self, data: bytes | mmap, failure: ImportFormatError | None, where: str, tenant_id: str
    ) -> Iterator[ImportedRun | ImportFormatError]:
        text = JsonText(data, where)
        if text.kind() != "{":
            raise failure or text.unexpected("an object with samples, or a zip archive")
        parts, broken = parts_of(text)
        if "eval" not in parts or "samples" not in parts:
            raise failure or broken or _without_samples(text, parts)
        begin = parts["eval"]
        head = plain_json(
            data[begin : text.end_of(begin, "/eval")], where, "/eval", max_bytes=self._bounds.run
        )
        shared = _Shared(label_of(where), Node(head, where, "/eval"))
        if text.kind(parts["samples"]) != "[" or _is_empty(text, parts["samples"]):
            raise failure or broken or _without_samples(text, parts)
        whole = yield from runs_of(
            text,
            parts["samples"],
            "/samples",
            self._bounds.run,
            lambda node: self._run(node, tenant_id, shared),
            failure=failure,
        )
        if whole and broken is not None:
            yield broken

    def _zipped(
        self, data: bytes | mmap, where: str, tenant_id: str
    ) -> Iterator[ImportedRun | ImportFormatError]:
        archive = Archive(data, where, self._bounds)
        names = archive.names()
        # A run that was interrupted has no header yet; how it began stands in the journal.
        header = next((one for one in ("header.json", "_journal/start.json") if one in names), None)
        if header is None:
            raise Node(MISSING, where).fail("unknown layout", expected="an archive with header.json")
        shared = _Shared(label_of(where), self._member(archive, header)["eval"])
        samples = [name for name in names if name.startswith("samples/") and name != "samples/"]
        if not samples:
            raise _no_samples(where)
        for name in samples:
            place = archive.place(name)
            try:
                if not _SAMPLE.fullmatch(name):
                    raise ImportFormatError(
                        "a member has a name that no sample has", where=place, expected="samples/….json"
                    )
                yield self._run(self._member(archive, name), tenant_id, shared)
            except ImportFormatError as error:
                yield error
            except CanonicalizationError as error:
                yield as_import_error(error, place, "")

    def _member(self, archive: Archive, name: str) -> Node:
        place = archive.place(name)
        return Node(plain_json(archive.read(name), place, max_bytes=self._bounds.run), place)

    def _run(self, root: Node, tenant_id: str, shared: _Shared) -> ImportedRun:
        attachments = Attachments(root["attachments"], self._bounds.run)
        name = root["id"].name_or_none()
        if name is None:
            raise root["id"].fail("a field is missing", expected="a sample's id")
        task = f"{shared.task}/{name}"
        events = list(root["events"].items_or_none())
        moments = [moment for event in events[:1] if (moment := event["timestamp"].moment_or_none())]
        metadata = {
            META_TASK: task,
            META_TRIAL: root["epoch"].whole_or_none(),
            META_MODEL: shared.model,
            "label": shared.label,
            "source_id": root["uuid"].text_or_none(),
            **shared.ids,
        }
        marked = TIME_ABSENT if not moments else {} if moments[0].zoned else TIME_ZONELESS
        identity = Identity(
            format=self.name,
            tenant_id=tenant_id,
            source=root.value,
            context={"label": shared.label, "task": task, "settings": shared.settings, "ids": shared.ids}
            | {"environment": shared.environment},
            correlation=[task],
            agent_id=shared.agent_id,
            metadata=known(metadata) | marked,
            started_us=moments[0].us if moments else 0,
            input=attachments.resolved(root["input"]),
            environment=shared.environment,
        )
        if events:
            return self._from_events(root, identity, events, attachments)
        return self._from_messages(root, identity, shared, attachments)

    def _from_events(
        self, root: Node, identity: Identity, events: list[Node], attachments: Attachments
    ) -> ImportedRun:
        steps, reasons = steps_of(root, events, attachments, identity.started_us)
        run = TreeRun(root, identity, self._bounds, reasons)
        run.add(steps)
        return _finished(run, root, attachments, {})

    def _from_messages(
        self, root: Node, identity: Identity, shared: _Shared, attachments: Attachments
    ) -> ImportedRun:
        run = ChatRun(root, identity, shared.settings, self._bounds)
        grade = dict.fromkeys((NO_PROGRAM, REBUILT, NO_RAW_ANSWER))
        for message in root["messages"].items_or_none():
            chat = Node(attachments.resolved(message), message.where, message.pointer)
            _add_message(run, chat, grade)
        return _finished(run, root, attachments, {META_REPLAYABILITY: list(grade)})


def _is_empty(text: JsonText, begin: int) -> bool:
    """Whether the array that begins here has no element; one that is broken off has."""
    try:
        return next(text.elements(begin), None) is None
    except ImportFormatError:
        return False


def _without_samples(text: JsonText, parts: dict[str, int]) -> ImportFormatError:
    """The error for a text that is no log, or a log without an array of samples that holds any."""
    return _no_samples(text.where) if "eval" in parts else text.unexpected("an object with eval and samples")


def _no_samples(where: str) -> ImportFormatError:
    return ImportFormatError(
        "the log holds no samples",
        where=where,
        pointer="/samples",
        hint="it was written without them, or they were taken out",
    )


def _add_message(run: ChatRun, message: Node, grade: dict[str, None]) -> None:
    chat, role = message.object(), message["role"].text()
    if role == "assistant":
        run.answer(chat, chat)
        run.calls([_call(call) for call in message["tool_calls"].items_or_none()])
        return
    if role == "tool":
        call_id = message["tool_call_id"].text_or_none()
        if not run.waiting():
            grade[NO_PARAMS] = None
            name = message["function"].text_or_none() or "tool"
            run.calls([Call(name, {}, call_id, marks=(NO_TOOL_CALL,))])
        error = tool_error(message["error"])
        outcome = {"content": chat.get("content")}
        run.result(message["tool_call_id"], call_id, outcome, ended=ended_by(message["error"]), error=error)
    run.message(chat)


def _call(call: Node) -> Call:
    return Call(call["function"].text(), call_arguments(call["arguments"].value), call["id"].text_or_none())


def _finished(run: ChatRun, root: Node, attachments: Attachments, grade: dict[str, Any]) -> ImportedRun:
    error = None if root["error"].absent else root["error"]["message"].text()
    limit = root["limit"]["type"].text_or_none()
    if limit is not None and error is None:
        error = f"the sample ran into a limit: {limit}"
    reward, scores = _scores(root["scores"])
    ending = {
        META_REWARD: reward,
        "scores": scores or None,
        "limit": limit,
        "total_time_s": root["total_time"].number_or_none(),
        "working_time_s": root["working_time"].number_or_none(),
        **grade,
    }
    return run.finish(
        "failed" if error is not None else "completed",
        result=_result(Node(attachments.resolved(root["output"]), root.where, f"{root.pointer}/output")),
        error=error,
        metadata=known(ending),
    )


def _result(output: Node) -> Any:
    if not isinstance(output.value, dict):
        return None
    if not output["completion"].absent:
        return output["completion"].value
    first = next(output["choices"].items_or_none(), Node(MISSING, output.where))
    return first["message"]["content"].value_or_none()


def _scores(scores: Node) -> tuple[float | None, dict[str, Any]]:
    """The reward, and what each scorer gave where that is one value."""
    reward: float | None = None
    found: dict[str, Any] = {}
    for name in scores.object_or_none() or {}:
        value = scores[name]["value"].value
        if not isinstance(value, str | int | float):
            continue
        found[name] = value
        graded = _GRADES.get(value) if isinstance(value, str) else scores[name]["value"].value
        if reward is None and graded is not None:
            reward = float(graded)
    return reward, found
