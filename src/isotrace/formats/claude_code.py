"""Claude Code sessions: one file of JSON lines is one run.

| record | source |
|---|---|
| steps of kind `llm` | lines of type `assistant`; parts of one `message.id` are one answer |
| params of these | `model`, and the messages of the conversation before the answer |
| outcome of these | `message`, its parts joined, with the `usage` of the last part |
| steps of kind `tool` | each `tool_use`, from its line to that of its `tool_result` |
| outcome of these | `toolUseResult`, else the result's `content` |
| failed step | `is_error` of the result; an answer that is an API error |
| input, result | the first prompt of the session, the last text that was answered |
| model | if all answers are of one |

A sidechain is a branch: its steps stand inside of the tool call that started it (the agent's id in that
call's result, or its prompt, says which), else under a number of their own. In a file that holds nothing but
sidechains they are the run itself.

A prompt that goes back to an earlier place of the conversation leaves out what was said since; a summary
that compacts it begins a new one. System lines, summaries and other bookkeeping are counted or told in
the metadata; lines of types that this importer does not know are counted there too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from isotrace.contracts import ImportedRun
from isotrace.errors import CanonicalizationError, ImportFormatError
from isotrace.formats.chat import (
    LLM_SKILL,
    SCRIPTED,
    TIME_ABSENT,
    TIME_ZONELESS,
    TOOL_ERROR,
    Identity,
    Outcome,
    answered,
    known,
)
from isotrace.formats.node import Moment, Node, as_import_error, plain_json
from isotrace.formats.scan import text_start
from isotrace.formats.source import DEFAULT_BOUNDS, Bounds, label_of, read_all
from isotrace.formats.tree import MAX_PLACES, Talk, TreeRun, Work
from isotrace.models import META_MODEL, Lineage

NO_PROMPT: Final = "prompt: the system prompt and the tools that the model was sent are not in the source"

_BOOKKEEPING: Final = frozenset({"system", "summary", "queue-operation", "file-history-snapshot"})
_SYNTHETIC: Final = "<synthetic>"
_API_ERROR: Final = Outcome("failure", "PERMANENT", "api_error")
_BOM: Final = b"\xef\xbb\xbf"
_BAD_LINES: Final = 1000
_CENTS: Final = 100


class ClaudeCodeImporter:
    """Reads Claude Code's session files."""

    name = "claude-code"

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds

    def detect(self, head: bytes, where: str) -> bool:
        """Whether a line at the file's beginning is one of a session."""
        if not text_start(head).startswith(b"{"):
            return False
        return b'"sessionId"' in head and b'"parentUuid"' in head and b'"isSidechain"' in head

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The one run of a file, as `isotrace.contracts.Importer` has it.

        Each line that can't be read is an error of its own, and the run is made of the others.
        """
        data, failure = read_all(stream, where, self._bounds.run)
        lines: list[Node] = []
        bad = 0
        for number, line in enumerate(data.removeprefix(_BOM).split(b"\n")):
            if not line.strip():
                continue
            try:
                node = Node(plain_json(line, where, f"/{number}", max_bytes=len(line)), where, f"/{number}")
                _check(node)
                lines.append(node)
            except ImportFormatError as error:
                # What was cut off is told once.
                yield failure or error
                failure = None
                bad += 1
                if bad >= _BAD_LINES:
                    break
        if failure is not None:
            yield failure
        if not any(_is_message(line) for line in lines):
            if bad or failure:
                return
            raise ImportFormatError(
                "a session without messages",
                where=where,
                pointer="",
                expected="a line of type assistant or user",
            )
        try:
            yield _Session(lines).run(self.name, where, tenant_id, self._bounds, bad)
        except ImportFormatError as error:
            yield error
        except CanonicalizationError as error:
            yield as_import_error(error, where, "")


def _check(line: Node) -> None:
    """Raises `ImportFormatError` for a line whose parts have other types than the rest reads."""
    line["type"].text()
    line["timestamp"].moment_or_none()
    for name in ("uuid", "parentUuid", "agentId", "sessionId"):
        line[name].text_or_none()
    line["isSidechain"].flag_or_none()
    if not _is_message(line):
        return
    message = line["message"]
    message.object()
    message["id"].text_or_none()
    message["model"].text_or_none()
    message["usage"].object_or_none()
    line["costUSD"].number_or_none()
    for block in _blocks(message):
        if block["type"].text() == "tool_use":
            block["name"].text()
            block["id"].text()
        elif block["type"].value == "tool_result":
            block["tool_use_id"].text()
            block["is_error"].flag_or_none()


def _is_message(line: Node) -> bool:
    return line.value.get("type") in ("assistant", "user")


def _blocks(message: Node) -> list[Node]:
    """The blocks of a message's content; a text alone is none."""
    return list(message["content"].items()) if isinstance(message["content"].value, list) else []


@dataclass(slots=True)
class _Branch:
    """One conversation of the session: its place, and what was said in it so far."""

    lineage: Lineage
    talk: Talk = field(default_factory=Talk)
    before_us: int = 0
    steps: int = 0
    answers: dict[str, tuple[Work, dict[str, Any]]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    last: Any = None

    def next_place(self) -> Lineage:
        self.steps += 1
        return (*self.lineage, self.steps - 1)


class _Session:
    """Reads the lines of a session one by one into steps."""

    def __init__(self, lines: list[Node]) -> None:
        self._lines = lines
        self._works: list[Work] = []
        self._calls: dict[str, Work] = {}
        self._open_prompts: dict[str, Work] = {}
        self._agents = self._agents_of_calls()
        self._all_aside = all(_aside(line) for line in lines if _is_message(line))
        self._main = _Branch(())
        self._branches: dict[str, _Branch] = {}
        self._taken: set[Lineage] = set()
        self._branch_of: dict[str, _Branch] = {}
        self._models: dict[str, None] = {}
        self._counts: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._zoneless = False
        self._now_us = 0

    def run(self, name: str, where: str, tenant_id: str, bounds: Bounds, bad: int) -> ImportedRun:
        """The run of all lines. Raises `ImportFormatError` and `CanonicalizationError`."""
        moments = [line["timestamp"].moment_or_none() for line in self._lines]
        times = [moment for moment in moments if moment is not None]
        self._now_us = self._main.before_us = times[0].us if times else 0
        seen: set[str] = set()
        for line, moment in zip(self._lines, moments, strict=True):
            uuid = line["uuid"].text_or_none()
            # A session that was resumed may repeat lines.
            if uuid is None or uuid not in seen:
                self._add(line, moment, uuid)
            if uuid is not None:
                seen.add(uuid)
        root = Node([line.value for line in self._lines], where)
        label = label_of(where)
        first = next(line for line in self._lines if _is_message(line))
        identity = Identity(
            format=name,
            tenant_id=tenant_id,
            source=root.value,
            context={"label": label},
            correlation=None,
            agent_id=name,
            metadata=self._metadata(first, label) | _time_mark(times) | ({"bad_lines": bad} if bad else {}),
            started_us=times[0].us if times else 0,
            input=self._prompt(),
            environment=known({key: first[key].text_or_none() for key in ("cwd", "gitBranch", "version")}),
        )
        run = TreeRun(root, identity, bounds)
        run.note(NO_PROMPT)
        run.add(self._works)
        return run.finish("completed", result=self._main.last, metadata=self._ending())

    # --- lines ------------------------------------------------------------------------

    def _add(self, line: Node, moment: Moment | None, uuid: str | None) -> None:
        kind = line["type"].text()
        if not _is_message(line):
            (self._counts if kind in _BOOKKEEPING else self._unknown)[kind] += 1
            parent = self._branch_of.get(line["parentUuid"].text_or_none() or "")
            if uuid is not None and parent is not None:
                # Later lines may name it as the one that they follow.
                self._branch_of[uuid] = parent
                parent.places[uuid] = len(parent.talk.messages)
            return
        self._now_us = max(self._now_us, moment.us) if moment is not None else self._now_us
        branch = self._branch(line, uuid)
        if kind == "assistant":
            self._answer(branch, line)
        else:
            self._user(branch, line)
        branch.before_us = self._now_us
        if uuid is not None:
            branch.places[uuid] = len(branch.talk.messages)

    def _branch(self, line: Node, uuid: str | None) -> _Branch:
        branch = self._main if self._all_aside or not _aside(line) else self._side_branch(line, uuid)
        if uuid is not None:
            self._branch_of[uuid] = branch
        return branch

    def _side_branch(self, line: Node, uuid: str | None) -> _Branch:
        agent = line["agentId"].text_or_none()
        followed = self._branch_of.get(line["parentUuid"].text_or_none() or "")
        if agent is None and followed is not None and followed is not self._main:
            return followed
        key = f"agent {agent}" if agent is not None else f"line {uuid}"
        if key not in self._branches:
            call = self._agents.get(agent or "")
            work = self._calls.get(call) if call is not None else None
            if work is None:
                work = self._open_prompts.pop(_text(line["message"]), None)
            place = self._main.next_place() if work is None else work.lineage
            # One call starts one agent, and a session can't nest them without end.
            if place in self._taken or len(place) > MAX_PLACES:
                place = self._main.next_place()
            self._taken.add(place)
            self._branches[key] = _Branch(place, before_us=self._now_us)
        return self._branches[key]

    def _answer(self, branch: _Branch, line: Node) -> None:
        message = line["message"]
        id_ = message["id"].text_or_none()
        begun = branch.answers.get(id_) if id_ is not None else None
        if begun is None:
            whole = {**message.object(), "content": list(_content(message))}
            work = self._llm_step(branch, line)
            branch.talk.messages.append({"role": "assistant", "content": whole["content"]})
            if id_ is not None:
                branch.answers[id_] = (work, whole)
        else:
            work, whole = begun
            later = {key: value for key, value in message.object().items() if value is not None}
            whole["content"].extend(_content(message))
            whole |= {key: value for key, value in later.items() if key != "content"}
        work.outcome, work.ended_us = whole, self._now_us
        if line["isApiErrorMessage"].value is True:
            work.ended, work.error = _API_ERROR, _text(message)
        elif work.ended.status == "success":
            work.ended = answered(whole.get("stop_reason"))
        branch.last = _text(Node(whole, line.where)) or branch.last
        for block in _blocks(message):
            if block["type"].text() == "tool_use":
                self._call(branch, block)

    def _llm_step(self, branch: _Branch, line: Node) -> Work:
        model = line["message"]["model"].text_or_none()
        made_up = model == _SYNTHETIC
        if model is not None and not made_up:
            self._models[model] = None
        work = Work(
            lineage=branch.next_place(),
            kind="llm",
            skill=LLM_SKILL,
            params=known({META_MODEL: model}),
            started_us=branch.before_us,
            ended_us=self._now_us,
            cost_cents=(line["costUSD"].number_or_none() or 0.0) * _CENTS,
            marks=(SCRIPTED,) if made_up else (),
            talk=branch.talk,
            sent=len(branch.talk.messages),
        )
        self._works.append(work)
        return work

    def _call(self, branch: _Branch, block: Node) -> None:
        given = block["input"].value_or_none()
        work = Work(
            lineage=branch.next_place(),
            kind="tool",
            skill=block["name"].text(),
            params=given if isinstance(given, dict) else {"arguments": given},
            started_us=self._now_us,
            ended_us=None,
        )
        self._works.append(work)
        self._calls[block["id"].text()] = work
        if isinstance(given, dict) and isinstance(given.get("prompt"), str):
            self._open_prompts[given["prompt"]] = work

    def _user(self, branch: _Branch, line: Node) -> None:
        message = line["message"]
        results = [block for block in _blocks(message) if block["type"].text() == "tool_result"]
        if not results:
            self._go_back(branch, line)
        for block in results:
            self._result(block, line["toolUseResult"] if len(results) == 1 else line["none"])
        branch.talk.messages.append({"role": "user", "content": message["content"].value_or_none()})

    def _go_back(self, branch: _Branch, line: Node) -> None:
        """A prompt may follow an earlier place than the last, or a summary of all that was said."""
        if line["isCompactSummary"].value is True:
            branch.talk = Talk()
            branch.places.clear()
            return
        place = branch.places.get(line["parentUuid"].text_or_none() or "")
        if place is not None and place < len(branch.talk.messages):
            branch.talk = Talk(branch.talk.messages[:place])
            branch.places = {uuid: at for uuid, at in branch.places.items() if at <= place}
            self._counts["went_back"] += 1

    def _result(self, block: Node, told: Node) -> None:
        work = self._calls.get(block["tool_use_id"].text())
        if work is None:
            self._counts["results_without_call"] += 1
            return
        work.ended_us = self._now_us
        work.outcome = block["content"].value if told.absent else told.value
        if block["is_error"].flag_or_none():
            work.ended, work.error = TOOL_ERROR, _text(block)

    # --- what is known of the whole -----------------------------------------------------

    def _agents_of_calls(self) -> dict[str, str]:
        """For each agent's id the call whose result names it."""
        found = {}
        for line in self._lines:
            told = line.value.get("toolUseResult")
            agent = told.get("agentId") if isinstance(told, dict) else None
            if isinstance(agent, str) and line.value.get("type") == "user":
                for block in _blocks(line["message"]):
                    if block["type"].text() == "tool_result":
                        found[agent] = block["tool_use_id"].text()
        return found

    def _prompt(self) -> Any:
        for line in self._lines:
            if line.value.get("type") == "user" and line["isMeta"].value is not True:
                content = line["message"]["content"].value_or_none()
                blocks = _blocks(line["message"])
                if not any(block["type"].text() == "tool_result" for block in blocks):
                    return content
        return None

    def _metadata(self, first: Node, label: str | None) -> dict[str, Any]:
        sessions = {line["sessionId"].text_or_none() for line in self._lines} - {None}
        summaries = [line["summary"].value for line in self._lines if line.value["type"] == "summary"]
        return known(
            {
                META_MODEL: next(iter(self._models)) if len(self._models) == 1 else None,
                "label": label,
                "source_id": first["sessionId"].text_or_none(),
                "agent": first["agentId"].text_or_none() if self._all_aside else None,
                "sessions": sorted(map(str, sessions)) if len(sessions) > 1 else None,
                "summaries": [one for one in summaries if isinstance(one, str)] or None,
            }
        )

    def _ending(self) -> dict[str, Any]:
        return known(
            {
                "left_out": dict(sorted(self._counts.items())) or None,
                "unknown_lines": dict(sorted(self._unknown.items())) or None,
            }
        )


def _aside(line: Node) -> bool:
    return line["isSidechain"].flag_or_none() or False


def _content(message: Node) -> list[Any]:
    content = message["content"].value_or_none()
    if isinstance(content, list):
        return content
    return [] if content is None else [{"type": "text", "text": content}]


def _text(message: Node) -> str:
    """All text of a message's content, or of a result's."""
    blocks = (block.get("text") for block in _content(message) if isinstance(block, dict))
    return "\n".join(text for text in blocks if isinstance(text, str))


def _time_mark(times: list[Moment]) -> dict[str, str]:
    if not times:
        return TIME_ABSENT
    return {} if all(moment.zoned for moment in times) else TIME_ZONELESS
