"""Every error that isotrace raises, in one tree.

    IsotraceError
    ├── CanonicalizationError (ValueError)      a value has no canonical form; `.pointer` says where
    │   ├── UnsupportedTypeError (TypeError)
    │   │   └── NonStringKeyError
    │   ├── NonFiniteError                      NaN, infinity
    │   ├── IntegerRangeError                   beyond ±(2^53 − 1)
    │   ├── InvalidUnicodeError                 a lone surrogate, or bytes that are not UTF-8
    │   ├── CycleError
    │   ├── LimitError                          too deep, too many nodes, too many bytes
    │   ├── DuplicateKeyError                   while reading JSON
    │   └── JsonSyntaxError                     while reading JSON
    ├── RecordError                             a record can't be what it says it is
    │   ├── FieldError (ValueError)             a field is missing or of the wrong type
    │   ├── SchemaUnsupportedError              written by a newer isotrace
    │   ├── SchemeMismatchError                 hashes of two schemes can't be compared
    │   ├── ChecksumMismatchError               the content is not what was signed
    │   ├── StepOrderError                      step_index is not 0..n-1
    │   ├── RecordCorruptError                  a ledger or journal was altered or damaged
    │   └── RecordGapError                      content is absent: erased, withheld, truncated
    ├── RecordingError                          the recorder was used wrongly, or can't write
    │   └── JournalError (OSError)
    │       └── RunInUseError               another process records a run with this id
    ├── StoreError
    │   ├── RunNotFoundError (LookupError)
    │   ├── AmbiguousRunError (LookupError)
    │   ├── ConflictError                       another run stands under this id
    │   ├── QueryError (ValueError)             a query that can't be served as asked
    │   ├── StoreUnavailableError (OSError)     locked, read-only, full, unreachable
    │   ├── StoreCorruptError
    │   └── StoreVersionError                   written by a newer isotrace
    ├── ImportFormatError (ValueError)          a foreign file is not what its format says
    ├── ReplayError
    │   ├── NoEntryPointError
    │   ├── RestoreError                        a recorded value can't become the declared type again
    │   ├── BisectError                         good does not match, or bad does not diverge
    │   ├── RedactorError                       a redactor of the run is not there, or is another by now
    │   └── UncontrolledSourceError             network or process use while replaying
    ├── RecordedError                           an error that was recorded, of a class unknown here
    ├── RepositoryError                         git is not there, no repository, no such revision
    ├── PluginError                             an extension can't be found or loaded
    ├── PolicyError (ValueError)                a rule, or a file of rules, can't be what it says
    ├── MissingExtraError (ImportError)         an optional library is not installed
    ├── ParityError (AssertionError)            a gate over many runs did not open; `.result` has its counts
    │   ├── ParityNotReached                    too many runs are others than expected
    │   └── ParityUndecided                     too few runs to say
    └── UsageError (ValueError)                 a wrong option; lists the good ones

One stands beside the tree, because it ends an agent as an interrupt does: nothing that catches `Exception`
may retry it, wrap it or go on.

    PolicyViolation (BaseException)             a policy stopped a step before its effect

An error carries data and writes its own sentence: what happened, where, what was
expected, what was found, what comes nearest, and what to do next.
"""

from __future__ import annotations

from typing import Any

_SHOWN = 200


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


class _Told(BaseException):
    """`what` is the plain sentence; the rest is data, each part kept as an attribute of
    the same name and appended to the sentence where it is given."""

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        pointer: str | None = None,
        run_id: str | None = None,
        step: int | None = None,
        expected: Any = None,
        got: Any = None,
        nearest: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.pointer = pointer
        self.run_id = run_id
        self.step = step
        self.expected = expected
        self.got = got
        self.nearest = nearest
        self.hint = hint

    def __str__(self) -> str:
        place = [
            part
            for part in (
                self.where,
                f"run {self.run_id}" if self.run_id else None,
                f"step {self.step}" if self.step is not None else None,
                f"at {_short(self.pointer)!r}" if self.pointer is not None else None,
            )
            if part
        ]
        text = self.what + (f" ({', '.join(place)})" if place else "")
        if self.expected is not None:
            text += f"; expected {_short(self.expected)}"
        if self.got is not None:
            text += f"; got {_short(self.got)}"
        if self.nearest:
            text += f"; nearest: {_short(self.nearest)}"
        return text + (f". {self.hint}" if self.hint else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.what, dict(self.__dict__)))


def _rebuild(cls: type[_Told], what: str, state: dict[str, Any]) -> _Told:
    error = cls.__new__(cls)
    BaseException.__init__(error, what)
    error.__dict__.update(state)
    return error


class IsotraceError(_Told, Exception):
    """Base of all errors of isotrace.

    `what` is the plain sentence; the rest is data, each part kept as an attribute of
    the same name and appended to the sentence where it is given.
    """


# --- values -------------------------------------------------------------------------


class CanonicalizationError(IsotraceError, ValueError):
    """A value has no canonical form. `.pointer` is the JSON Pointer (RFC 6901) of the culprit."""


class UnsupportedTypeError(CanonicalizationError, TypeError):
    """A value is of a type that JSON does not have."""


class NonStringKeyError(UnsupportedTypeError):
    """A dictionary key is not a `str`."""


class NonFiniteError(CanonicalizationError):
    """A float is NaN or infinite."""


class IntegerRangeError(CanonicalizationError):
    """An integer lies outside ±(2^53 − 1), so a JSON reader may change it."""


class InvalidUnicodeError(CanonicalizationError):
    """A string or key holds a lone surrogate, or bytes are not UTF-8."""


class CycleError(CanonicalizationError):
    """A container holds itself."""


class LimitError(CanonicalizationError):
    """A value is deeper, larger or longer than the limits of `isotrace.canonical` allow."""


class DuplicateKeyError(CanonicalizationError):
    """A JSON object that was read names a key twice."""


class JsonSyntaxError(CanonicalizationError):
    """Bytes that were read are not JSON."""


# --- records ------------------------------------------------------------------------


class RecordError(IsotraceError):
    """A record can't be what it says it is."""


class FieldError(RecordError, ValueError):
    """A field of a record is missing, or of the wrong type."""


class SchemaUnsupportedError(RecordError):
    """A record was written by a schema or with an event type that this version does not know."""


class SchemeMismatchError(RecordError):
    """Two hashes belong to different schemes; they can't be compared, not even as unequal."""


class ChecksumMismatchError(RecordError):
    """A record's content does not give the checksum that stands in it."""


class StepOrderError(RecordError):
    """The steps' `step_index` is not exactly 0..n−1."""


class RecordCorruptError(RecordError):
    """A ledger or journal was altered or damaged."""


class RecordGapError(RecordError):
    """Content that is needed is absent: erased, withheld or truncated."""


# --- recording ----------------------------------------------------------------------


class RecordingError(IsotraceError):
    """The recorder was used in a way that can't be recorded."""


class JournalError(RecordingError, OSError):
    """A journal can't be created, written or read."""


class RunInUseError(JournalError):
    """Another process records a run with this id, or did and its journal was not adopted yet."""


# --- stores and formats -------------------------------------------------------------


class StoreError(IsotraceError):
    """A store can't do what was asked."""


class RunNotFoundError(StoreError, LookupError):
    """No run of this tenant has this id or prefix."""


class AmbiguousRunError(StoreError, LookupError):
    """A prefix fits several runs; `.nearest` lists some of them."""


class ConflictError(StoreError):
    """Another run already stands under this id: the first truth wins."""


class QueryError(StoreError, ValueError):
    """A query can't be served exactly as asked; nothing was returned in its place."""


class StoreUnavailableError(StoreError, OSError):
    """The store is locked, read-only, full or not reachable."""


class StoreCorruptError(StoreError):
    """The store's file is damaged, or is not a store."""


class StoreVersionError(StoreError):
    """The store was written by a newer isotrace."""


class ImportFormatError(IsotraceError, ValueError):
    """A foreign file is not what its format says. `.where` is the file, `.pointer` the place in it."""


# --- replay -------------------------------------------------------------------------


class ReplayError(IsotraceError):
    """A replay can't be carried out. (A divergence is a result, not an error.)"""


class NoEntryPointError(ReplayError):
    """The run records no function or program that could be run again."""


class RestoreError(ReplayError):
    """A recorded value can't be turned into the type that the live call returned."""


class RedactorError(ReplayError):
    """The run was redacted by a redactor that is not there, or is another by now: what the code asks can't be
    held against the record."""


class BisectError(ReplayError):
    """A bisection can't begin: the good revision does not match, or the bad one does not diverge."""


class UncontrolledSourceError(ReplayError):
    """The agent tried to use the network or to start a process while its steps are served."""


class RecordedError(IsotraceError):
    """Stands for a recorded exception whose class is not listed in `@skill(raises=…)`.

    `.code` is the recorded class name, as in `TraceStep.outcome_code`.
    """

    def __init__(self, what: str, *, code: str | None = None, **data: Any) -> None:
        super().__init__(what, **data)
        self.code = code


# --- the rest -----------------------------------------------------------------------


class RepositoryError(IsotraceError):
    """git is not installed, there is no repository or no such revision, or git failed."""


class PluginError(IsotraceError):
    """An extension named by a URL, a format or an entry point can't be found or loaded."""


class PolicyError(IsotraceError, ValueError):
    """A rule, or a file of rules, can't be what it says. `.where` is the file with line and column and the
    rule's id, `.pointer` the place in the rule, as far as there is one."""


class PolicyViolation(_Told):
    """Raised in the agent in place of a step that a policy stops: the step's effect has not happened.

    No `Exception`: model clients retry those and raise them again as their own, and agents catch them to
    go on. `.policy_id` and `.reason` say which rule and why, `.skill_name` and `.lineage` at which
    step. An agent that catches it goes on, and is stopped again at the next step that violates a rule.
    """

    def __init__(
        self,
        reason: str,
        *,
        policy_id: str | None = None,
        skill_name: str | None = None,
        lineage: tuple[int | str, ...] = (),
        **data: Any,
    ) -> None:
        super().__init__(reason, **data)
        self.reason = reason
        self.policy_id = policy_id
        self.skill_name = skill_name
        self.lineage = lineage


class MissingExtraError(IsotraceError, ImportError):
    """An optional library is not installed; the hint names the extra that brings it."""


class ParityError(IsotraceError, AssertionError):
    """A gate over many runs did not open. `.result` is the `GateResult`."""

    def __init__(self, what: str, *, result: Any = None, **data: Any) -> None:
        super().__init__(what, **data)
        self.result = result


class ParityNotReached(ParityError):
    """More runs than are allowed differ from the expected one: k of N, where they part, which steps."""


class ParityUndecided(ParityError):
    """The runs ended before anything could be decided; it says how many more would do."""


class UsageError(IsotraceError, ValueError):
    """An option has a value that isotrace does not know."""


class IsotraceWarning(UserWarning):
    """Base of all warnings of isotrace."""


class UnverifiedChecksumWarning(IsotraceWarning):
    """A record of another scheme was read; its checksum could not be verified."""


class RecordingWarning(IsotraceWarning):
    """Recording of a run stopped or lost something; the agent goes on."""
