"""VCR cassettes (vcrpy, pytest-recording, pydantic-ai's form): one cassette is one run.

| record | source |
|---|---|
| steps | `interactions[]`, in order |
| LLM step | a call to a model, told by its shape (`provider_calls`); named by its operation: `chat`, … |
| its params, its outcome | the provider's request and response as JSON |
| outcome of a stream | the answer that its events make; their data stands beside it |
| other step | kind `http`, named `METHOD host`; method, url, body; status, three headers, body |
| effect | GET, HEAD and calls to a model: `read`; else `write` |
| failed step | status 400 and above; the code is the status |
| time | the response's `date`, else `created` in an LLM's answer |
| duration | `openai-processing-ms` |
| model | of the first LLM step |
| label | the file's name |

Bodies stand in `parsed_body` (JSON), or in `body` as text, bytes or base64, in the encoding that the header
names. Of LLM calls the URLs are kept apart, because their params are the request alone: `servers`, and where
there are several, `server_of` has the number of each LLM step's. A cassette does not say how its program
ended: the run counts as completed.

Secrets: request headers are never kept, and of response headers only the three; parameters of URLs that are
named like one stand as `***`. A cassette's bodies are kept as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, BinaryIO, Final

from isotrace.canonical import value_bytes
from isotrace.contracts import ImportedRun
from isotrace.errors import CanonicalizationError, ImportFormatError
from isotrace.events import lineage_text
from isotrace.formats.cassette import Exchange, exchange_of
from isotrace.formats.chat import TIME_ABSENT, ChatRun, Identity, known, usage_facts
from isotrace.formats.node import Node, as_import_error, plain_json
from isotrace.formats.scan import JsonText
from isotrace.formats.source import DEFAULT_BOUNDS, Bounds, label_of, read_all
from isotrace.formats.tree import NO_PROGRAM
from isotrace.formats.yaml_text import read_yaml
from isotrace.models import META_MODEL, META_REPLAYABILITY
from isotrace.record.assembly import assembled

HTTP_ONLY: Final = "edges: only HTTP calls are in the source, not local tools, the clock or randomness"
UNREADABLE: Final = "bodies: some are kept as bytes, because their encoding can't be read here"

_MAX_CHUNKS: Final = 200_000


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
        exchanges = [exchange_of(one, self._bounds.run) for one in root["interactions"].items()]
        ends_us = [one.ended_us for one in exchanges if one.ended_us is not None]
        models = [one.call.model for one in exchanges if one.call is not None and one.call.model]
        sent_to = [one.url for one in exchanges if one.call is not None]
        servers = {url: number for number, url in enumerate(dict.fromkeys(sent_to))}
        label = _label(root.where)
        metadata = {
            "label": label,
            META_MODEL: models[0] if models else None,
            "servers": list(servers) or None,
            "server_of": [servers[url] for url in sent_to] if len(servers) > 1 else None,
        }
        first = exchanges[0] if exchanges else None
        started_us = min(ends_us, default=0) - round((first.duration_ms if first and ends_us else 0) * 1000)
        identity = Identity(
            format=self.name,
            tenant_id=tenant_id,
            source=root.value,
            context={"label": label},
            correlation=None,
            agent_id=self.name,
            metadata=known(metadata) | ({} if ends_us else TIME_ABSENT),
            started_us=max(0, started_us),
        )
        run = CassetteRun(root, identity, self._bounds)
        for one in exchanges:
            run.exchange(one)
        reasons = [NO_PROGRAM, HTTP_ONLY]
        if any(one.unreadable for one in exchanges):
            reasons.append(UNREADABLE)
        return run.finish("completed", metadata={META_REPLAYABILITY: reasons})


def _label(where: str) -> str | None:
    label = label_of(where)
    if label is None:
        return None
    return label.removesuffix(".yaml").removesuffix(".yml") or label


# --- events ---------------------------------------------------------------------------


class CassetteRun(ChatRun):
    """Builds the events of one run from exchanges; its beginning and end are those of a `ChatRun`."""

    def __init__(self, root: Node, identity: Identity, bounds: Bounds) -> None:
        super().__init__(root, identity, {}, bounds)
        self._chunks = 0

    def exchange(self, one: Exchange) -> None:
        """The next step."""
        number = self._next_lineage()
        params: dict[str, Any] = {"method": one.method, "url": one.url, "body": one.body}
        kind, skill = "http", f"{one.method} {one.host}"
        if one.call is not None:
            kind, skill, params = "llm", one.call.operation, one.call.params
        plain, raw_ids = self._minted.replace(params)
        values = {"params": value_bytes(plain)}
        if raw_ids:
            values["raw_ids"] = value_bytes(raw_ids)
        reads = kind == "llm" or one.method in ("GET", "HEAD")
        if one.ended_us is not None:
            self.at(max(self.now_us, one.ended_us - round(one.duration_ms * 1000)))
        self._started(number, kind, skill, "read" if reads else "write", values)
        if one.ended_us is not None:
            self.at(max(self.now_us, one.ended_us))
        self._ended(number, one)

    def _ended(self, number: int, one: Exchange) -> None:
        facts: dict[str, Any] = {
            "lineage": [number],
            "status": one.ended.status,
            "outcome_category": one.ended.category,
            "outcome_code": one.ended.code,
            "cost_cents": 0.0,
            "duration_ms": one.duration_ms,
            "retry_count": 0,
        }
        values: dict[str, bytes] = {}
        outcome = one.outcome
        if one.chunks is not None:
            facts["stream"] = True
            self._add_chunks(number, one.chunks)
            outcome = self._put_together(number, one.chunks, facts)
        elif not isinstance(outcome, dict):
            facts["wrapped"] = True
            outcome = {"value": outcome}
        if outcome is not None:
            values["outcome_data"] = value_bytes(outcome)
        if one.error is not None:
            values["error"] = value_bytes(one.error)
        if one.call is not None:
            facts |= usage_facts(outcome, one.call.model)
        self._add("step_finished", facts, values)
        self._minted.learn(lineage_text((number,)), outcome)

    def _add_chunks(self, number: int, chunks: list[Any]) -> None:
        self._chunks += len(chunks)
        if self._chunks > _MAX_CHUNKS:
            raise self._root.fail("a run's streams have too many pieces", expected=f"at most {_MAX_CHUNKS}")
        for index, chunk in enumerate(chunks):
            self._add("step_chunk", {"lineage": [number], "index": index}, {"chunk": value_bytes(chunk)})

    def _put_together(self, number: int, chunks: list[Any], facts: dict[str, Any]) -> dict[str, Any] | None:
        """The answer that a stream's pieces make, None where they make none that is known."""
        answer = assembled(deepcopy(chunks))
        if answer is None:
            for chunk in chunks:
                self._minted.learn(lineage_text((number,)), chunk)
            return None
        facts["assembled"] = True
        if answer.partial:
            facts["partial"] = True
        return answer.message
