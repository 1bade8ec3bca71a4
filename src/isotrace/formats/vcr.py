"""VCR cassettes (vcrpy, pytest-recording, pydantic-ai's form): one cassette is one run.

| record | source |
|---|---|
| steps | `interactions[]`, in order, each as a capture of its client would have recorded it |
| LLM step | a call to a model, told by its shape (`provider_calls`); named by its operation: `chat`, … |
| its params, its outcome | the provider's request and response as JSON |
| outcome of a stream | the answer that its events make; they stand beside it |
| other step | kind `http`, named `METHOD host`; method, url, body |
| its outcome | the body; beside it stand the status and those headers that a capture keeps |
| effect | GET, HEAD, OPTIONS and calls to a model: `read`; else `write` |
| failed step | status 400 and above; the code is the status |
| time | the response's `date`, else `created` in an LLM's answer |
| duration | `openai-processing-ms` |
| model | of the first LLM step |
| label | the file's name |

Bodies stand in `parsed_body` (JSON), or in `body` as text, bytes or base64, in the encoding that the header
names. A cassette says nothing of branches, of local tools, of timers, nor of how its program ended: the
run counts as completed, and its fact `edges` says that what went over HTTP is all that it has.

Secrets: request headers are never kept, and of response headers only those that a capture keeps; parameters
of URLs that are named like one stand as `***`. A cassette's bodies are kept as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from isotrace.contracts import ImportedRun
from isotrace.errors import CanonicalizationError, ImportFormatError
from isotrace.formats.cassette import MAX_PIECES, Interaction, interaction_of
from isotrace.formats.chat import TIME_ABSENT, ChatRun, Identity, known
from isotrace.formats.node import Node, as_import_error, plain_json
from isotrace.formats.scan import JsonText
from isotrace.formats.source import DEFAULT_BOUNDS, Bounds, label_of, read_all
from isotrace.formats.tree import NO_PROGRAM
from isotrace.formats.yaml_text import read_yaml
from isotrace.models import META_MODEL, META_REPLAYABILITY
from isotrace.record.sealing import Settling
from isotrace.record.writer import as_outcome, safe_snapshot

HTTP_ONLY: Final = "edges: only HTTP calls are in the source, not local tools, the clock or randomness"
UNREADABLE: Final = "bodies: some are kept as bytes, because their encoding can't be read here"


class VcrImporter:
    """Reads VCR cassettes, in YAML and in JSON."""

    name = "vcr"

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds

    def detect(self, head: bytes, where: str) -> bool:
        """Whether the file begins as a cassette: `interactions` first, or an object that holds them."""
        text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if text.startswith(b"{"):
            return all(key in head for key in (b'"interactions"', b'"request"', b'"uri"'))
        for line in text.splitlines():
            if line.startswith(b"interactions:"):
                return True
            if line.strip() and not line.startswith((b"#", b"---", b"%", b"version:", b"recorded_with:")):
                return False
        return False

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The one run of a cassette, as `isotrace.contracts.Importer` has it.

        The cause of an error about a value beyond the bounds, such as aliases that expand, is a `LimitError`.
        """
        data, failure = read_all(stream, where, self._bounds.run)
        if failure is not None:
            raise failure
        root = Node(self._value(data, where), where)
        if not isinstance(root.value, dict) or "interactions" not in root.value:
            raise root.fail("unknown layout", expected="a cassette: an object with interactions")
        if root["version"].absent:
            # It is the last line of every cassette, and YAML that is cut off at a line is still YAML.
            raise root["version"].fail(
                "the cassette is cut off", expected="a version, which ends every cassette"
            )
        try:
            yield self._run(root, tenant_id)
        except ImportFormatError as error:
            yield error
        except CanonicalizationError as error:
            yield as_import_error(error, where, "")

    def _value(self, data: bytes, where: str) -> Any:
        text = JsonText(data, where)
        if not data[text.begin :].strip():
            raise ImportFormatError("the file is empty", where=where, pointer="", expected="a cassette")
        if text.kind() == "{":
            return plain_json(data[text.begin :], where, max_bytes=self._bounds.run)
        try:
            return read_yaml(data, where, max_bytes=self._bounds.run)
        except CanonicalizationError as error:
            raise as_import_error(error, where, "") from error

    def _run(self, root: Node, tenant_id: str) -> ImportedRun:
        interactions = [interaction_of(one, self._bounds.run) for one in root["interactions"].items()]
        ends_us = [one.ended_us for one in interactions if one.ended_us is not None]
        models = [one.asked.params.get("model") for one in interactions if one.asked.kind == "llm"]
        label = _label(root.where)
        metadata = {
            "label": label,
            META_MODEL: next((model for model in models if isinstance(model, str) and model), None),
        }
        took_ms = interactions[0].duration_ms if ends_us else 0
        identity = Identity(
            format=self.name,
            tenant_id=tenant_id,
            source=root.value,
            context={"label": label},
            correlation=None,
            agent_id=self.name,
            metadata=known(metadata) | ({} if ends_us else TIME_ABSENT),
            started_us=max(0, min(ends_us, default=0) - round(took_ms * 1000)),
        )
        run = CassetteRun(root, identity, self._bounds)
        for one in interactions:
            run.interaction(one)
        reasons = [NO_PROGRAM, HTTP_ONLY, *run.losses]
        if any(one.unreadable for one in interactions):
            reasons.append(UNREADABLE)
        return run.finish("completed", metadata={META_REPLAYABILITY: reasons})


def _label(where: str) -> str | None:
    label = label_of(where)
    if label is None:
        return None
    return label.removesuffix(".yaml").removesuffix(".yml") or label


# --- events ---------------------------------------------------------------------------


class CassetteRun(ChatRun):
    """Builds the events of one run from interactions, as a capture would have written them; its beginning
    and end are those of a `ChatRun`."""

    def __init__(self, root: Node, identity: Identity, bounds: Bounds) -> None:
        # What a call cost stays the source's business: a file gives the same run whatever list of prices
        # is installed.
        self._settling = Settling(priced=False)
        self._pieces = 0
        self.losses: dict[str, None] = {}
        super().__init__(root, identity, {}, bounds)
        self._events[0].facts["edges"] = ["http"]

    def _add(self, type_: str, facts: dict[str, Any], values: dict[str, bytes]) -> None:
        super()._add(type_, facts, values)
        self._settling.settle(self._events[-1])

    def interaction(self, one: Interaction) -> None:
        """The next step."""
        number = self._next_lineage()
        if one.ended_us is not None:
            self.at(max(self.now_us, one.ended_us - round(one.duration_ms * 1000)))
        facts = {
            "lineage": [number],
            "kind": one.asked.kind,
            "skill_name": one.asked.name,
            "effect": one.asked.effect,
            "captured": "vcr",
        }
        self._add("step_started", facts, {"params": self._kept("params", one, one.asked.params)})
        if one.ended_us is not None:
            self.at(max(self.now_us, one.ended_us))
        for index, chunk in enumerate(one.chunks or ()):
            self._pieces += 1
            if self._pieces > MAX_PIECES:
                raise self._root.fail(
                    "a run's streams have too many pieces", expected=f"at most {MAX_PIECES}"
                )
            data = self._kept("chunk", one, chunk, around=2)
            self._add("step_chunk", {"lineage": [number], "index": index}, {"chunk": data})
        self._ended(number, one)

    def _ended(self, number: int, one: Interaction) -> None:
        facts: dict[str, Any] = {
            "lineage": [number],
            "status": one.ended.status,
            "outcome_category": one.ended.category,
            "outcome_code": one.ended.code,
            "cost_cents": 0.0,
            "duration_ms": one.duration_ms,
            "retry_count": 0,
        }
        values = {"transport": self._kept("transport", one, one.transport)}
        if one.chunks is not None:
            facts["stream"] = True
        else:
            data = self._kept("outcome", one, one.outcome, around=1)
            values["outcome_data"], wrapped = as_outcome(data, one.outcome)
            if wrapped:
                facts["wrapped"] = True
        self._add("step_finished", facts, values)

    def _kept(self, what: str, one: Interaction, value: Any, around: int = 0) -> bytes:
        snap = safe_snapshot(value, around)
        for loss in snap.losses:
            self.losses.setdefault(f"{what} of {one.asked.name}: {loss}")
        return snap.data
