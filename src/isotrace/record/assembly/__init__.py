"""What a provider would have answered without streaming, put together from the events of a stream.

The same answer comes in other pieces each time, so it is this message that is hashed and compared; the
pieces stay beside it, because they are what a replay serves. One file per protocol; which it is, the first
event tells by its shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from isotrace.events import lineage_text
from isotrace.minted import MintedIds
from isotrace.models import Lineage
from isotrace.record.assembly.anthropic import AnthropicMessage
from isotrace.record.assembly.chat import ChatCompletion
from isotrace.record.assembly.google import GoogleContent
from isotrace.record.assembly.mistral import MistralConversation
from isotrace.record.assembly.responses import OpenAIResponse


class _Protocol(Protocol):
    """One protocol's answer in the making."""

    @property
    def complete(self) -> bool:
        """Whether its end was seen."""
        ...

    @staticmethod
    def fits(event: Mapping[str, Any]) -> bool:
        """Whether an answer of this protocol can begin with this event."""
        ...

    def feed(self, event: dict[str, Any]) -> None:
        """Takes the data of the next event, which is the assembler's from now on."""
        ...

    def message(self) -> dict[str, Any]:
        """The answer as far as it has come."""
        ...


_PROTOCOLS: Final[tuple[type[_Protocol], ...]] = (
    OpenAIResponse,
    AnthropicMessage,
    MistralConversation,
    GoogleContent,
    ChatCompletion,
)
_DATA_MARKS: Final = frozenset({"choices", "candidates", "type", "error"})
_EVENT_FIELDS: Final = frozenset({"comment", "event", "id", "retry"})
_DONE: Final = "[DONE]"
_TAG: Final = "$iso:"


class Answer(NamedTuple):
    """A whole answer; `partial`: the stream ended before the answer did."""

    message: dict[str, Any]
    partial: bool


class Assembler:
    """Puts one answer together. Never raises for what it is given: what makes no known answer has none."""

    def __init__(self) -> None:
        self._protocol: _Protocol | None = None
        self._whole: dict[str, Any] | None = None
        self._error: Any = None
        self._done = False
        self._odd = False

    def feed(self, piece: Any) -> None:
        """Takes the next piece: a server-sent event as captures record it (`{"event", "data", …}`), its
        data alone as cassettes have it, or a body that came in one. It is the assembler's from now on."""
        try:
            self._feed(piece)
        except Exception:  # noqa: BLE001  # a server can send anything; such a stream stays as its pieces
            self._odd = True

    def _feed(self, piece: Any) -> None:
        if isinstance(piece, list):
            for one in piece:
                self._feed(one)
        elif isinstance(piece, str):
            self._done |= piece.strip() == _DONE
        elif isinstance(piece, dict):
            if piece.keys() == {"status"} or (piece and piece.keys() <= _EVENT_FIELDS):
                return  # the answer has begun; a comment
            if "data" in piece and _DATA_MARKS.isdisjoint(piece):
                self._take(piece["data"], sent=True)
            else:
                self._take(piece, sent=False)

    def _take(self, data: Any, *, sent: bool) -> None:
        """`sent`: it is certain that this is an event's data, not a body."""
        if isinstance(data, str):
            self._done |= data.strip() == _DONE
            return
        if not isinstance(data, dict):
            return
        if self._protocol is None:
            found = next((one for one in _PROTOCOLS if one.fits(data)), None)
            if found is not None:
                self._protocol = found()
        if _is_error(data):
            self._error = data.get("error") or data
        elif self._protocol is not None:
            self._protocol.feed(data)
        elif sent or self._whole is not None or any(key.startswith(_TAG) for key in data):
            self._odd = True
        else:
            self._whole = data

    def answer(self) -> Answer | None:
        """The answer as far as it has come; None where nothing has, or nothing that is known."""
        if self._odd:
            return None
        try:
            if self._protocol is not None:
                message = self._protocol.message()
                if self._error is not None:
                    message["error"] = self._error
                return Answer(message, not (self._done or self._protocol.complete))
        except Exception:  # noqa: BLE001  # as above
            return None
        if self._whole is not None:
            return Answer(self._whole, partial=False)
        return None if self._error is None else Answer({"error": self._error}, partial=False)


def _is_error(data: Mapping[str, Any]) -> bool:
    """Whether this is what servers send in place of the rest of an answer."""
    return data.get("type") == "error" or (
        data.keys() <= {"error", "status", "code", "message"} and "error" in data
    )


def assembled(pieces: Any) -> Answer | None:
    """The answer that all these pieces make, None where it is none that is known. They are changed."""
    assembler = Assembler()
    for piece in pieces:
        assembler.feed(piece)
    return assembler.answer()


class StreamedAnswers:
    """The answers of one run that are under way, and the ids in them.

    What a stream mints is learnt from its answer, never piece by piece: the number of an id must not
    depend on how the answer was cut. It is learnt when the stream ends, and before that whenever another
    step begins, which may have got the id already.
    """

    def __init__(self, minted: MintedIds) -> None:
        self._minted = minted
        self._open: dict[Lineage, Assembler] = {}
        self._grown: dict[Lineage, None] = {}

    def feed(self, lineage: Lineage, piece: Any) -> None:
        """The next piece of this step's answer; it is changed."""
        self._open.setdefault(lineage, Assembler()).feed(piece)
        self._grown[lineage] = None

    def learn(self) -> None:
        """Takes in the ids of all answers so far: a step begins."""
        while self._grown:
            lineage, _ = self._grown.popitem()
            self._learn(lineage, self._open[lineage].answer())

    def end(self, lineage: Lineage) -> Answer | None:
        """The answer of a step whose stream has ended, if it is one that is known."""
        assembler = self._open.pop(lineage, None)
        self._grown.pop(lineage, None)
        answer = None if assembler is None else assembler.answer()
        self._learn(lineage, answer)
        return answer

    def _learn(self, lineage: Lineage, answer: Answer | None) -> None:
        if answer is not None:
            self._minted.learn(lineage_text(lineage), answer.message)
