"""What the agent's own code reads of the clock and of fresh ids: real while recorded, served in a replay."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import pickle
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import time_machine

from isotrace.clock import SYSTEM
from isotrace.errors import RecordingWarning
from isotrace.events import Event
from isotrace.record import branch, instrument, skill
from isotrace.record.sources import wall_clock
from isotrace.record.sources.noted import CLOCK, MAX_IN_GAP, decoded, encoded

if TYPE_CHECKING:
    from tests.record.lab import Lab, Taken


@pytest.fixture(autouse=True)
def controlled() -> Iterator[None]:
    restore = instrument()
    yield
    restore()


@skill(effect="read")
def say(what: Any) -> str:
    return json.dumps(what)


@skill(effect="read")
async def send(what: Any) -> None:
    await asyncio.sleep(0.001)


def noted(taken: Taken) -> list[Event]:
    return [event for event in taken.events if event.type == "value_read"]


def everything() -> list[Any]:
    return [
        dt.datetime.now().isoformat(),  # noqa: DTZ005
        dt.datetime.now(dt.UTC).isoformat(),
        dt.datetime.today().isoformat(),  # noqa: DTZ002
        dt.date.today().isoformat(),  # noqa: DTZ011
        time.time(),
        time.time_ns(),
        time.clock_gettime(time.CLOCK_REALTIME),
        list(time.gmtime()),
        list(time.localtime()),
        time.strftime("%c"),
        str(uuid.uuid1()),
        str(uuid.uuid4()),
    ]


def test_what_is_read_reaches_the_steps_of_a_replay_again(lab: Lab) -> None:
    def agent() -> list[Any]:
        say(first := everything())
        say(second := everything())
        return [first, second, time.time()]

    taken, result = lab.again(agent)
    assert (result.verdict, result.divergences, result.value) == ("MATCH", [], taken.value)
    assert taken.grade == "replayable"


def test_while_it_is_recorded_the_program_gets_the_real_thing(lab: Lab) -> None:
    def agent() -> Any:
        return dt.datetime.now(dt.UTC), time.time_ns(), uuid.uuid4(), uuid.uuid1()

    before = SYSTEM.now_us()
    now, ns, random_id, time_id = lab.record(agent).value
    after = SYSTEM.now_us()
    assert type(now) is dt.datetime
    assert isinstance(now, dt.date)
    assert pickle.loads(pickle.dumps(now)) == now
    assert before <= now.timestamp() * 1e6 + 1
    assert before <= ns // 1000 <= after
    assert (type(random_id), random_id.version, time_id.version) == (uuid.UUID, 4, 1)
    assert lab.record(agent).value[2:] != (random_id, time_id)


def test_a_real_clock_tells_another_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other tests rest on: were the clock not served, they would fail."""

    def agent() -> None:
        say(time.time())

    taken = lab.record(agent)
    monkeypatch.delitem(taken.events[0].facts, "sources")
    assert lab.replay(taken, agent).divergences[0].code == "PARAMS_CHANGED"


def test_tasks_read_their_own_clocks(lab: Lab) -> None:
    async def part(name: str) -> None:
        for _ in range(3):
            await send([name, time.time_ns(), uuid.uuid4().hex])

    async def agent() -> int:
        await asyncio.gather(part("a"), part("b"))
        with branch("third"):
            await part("c")
        return time.time_ns()

    taken, result = lab.again(agent)
    assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_reads_between_two_steps_are_one_event_of_each_source(lab: Lab) -> None:
    def agent() -> None:
        for _ in range(100):
            time.time()
            uuid.uuid4()
        say("first")
        time.time()
        say("second")

    reads = noted(lab.record(agent))
    assert [event.facts for event in reads] == [
        {"lineage": [], "gap": 0, "source": "clock"},
        {"lineage": [], "gap": 0, "source": "uuid"},
        {"lineage": [], "gap": 1, "source": "clock"},
    ]
    assert [len(decoded(event.facts["source"], event.value("value"))) for event in reads] == [100, 100, 1]


def test_reads_are_written_before_the_next_step_of_any_branch(lab: Lab) -> None:
    async def agent() -> None:
        at = time.time()
        await asyncio.create_task(send(at))

    story = [(event.type, event.lineage) for event in lab.record(agent).events]
    assert story.index(("value_read", ())) < story.index(("step_started", (0, 0)))


def test_logging_does_not_flood_the_record(lab: Lab) -> None:
    logger = logging.getLogger("flood")
    logger.addHandler(handler := logging.NullHandler())

    def agent() -> None:
        for number in range(1000):
            logger.error("line %d", number)
        say("done")

    try:
        taken = lab.record(agent)
    finally:
        logger.removeHandler(handler)
    assert [event.type for event in taken.events] == [
        "run_started",
        "step_started",
        "step_finished",
        "run_finished",
    ]


def test_a_clock_that_is_read_all_the_time_is_kept_up_to_a_bound(lab: Lab) -> None:
    reads = MAX_IN_GAP + 10

    def agent() -> list[float]:
        return [time.time() for _ in range(reads)]

    taken, result = lab.again(agent)
    assert taken.grade == [f"clock: read more than {MAX_IN_GAP:,} times between two steps"]
    assert result.value[:MAX_IN_GAP] == taken.value[:MAX_IN_GAP]
    assert result.value[MAX_IN_GAP:] == sorted(result.value[MAX_IN_GAP:])
    assert result.value[MAX_IN_GAP] >= result.value[MAX_IN_GAP - 1]
    (event,) = noted(taken)
    assert len(event.values["value"]) < 10 * MAX_IN_GAP  # type: ignore[arg-type]  # nothing is erased


def test_one_read_more_or_less_shifts_nothing_after_the_next_step(lab: Lab) -> None:
    extra = 0

    def agent() -> list[float]:
        for _ in range(2 + extra):
            time.time()
        say("a step")
        return [time.time(), time.time()]

    taken = lab.record(agent)
    for more in (-2, -1, 1, 50):
        extra = more
        result = lab.replay(taken, agent)
        assert (result.verdict, result.value) == ("MATCH", taken.value)


def test_time_goes_on_from_the_last_value_that_is_on_record(lab: Lab) -> None:
    more = False
    seen: list[int] = []

    def agent() -> None:
        say("a step")
        seen.append(time.time_ns())
        if more:
            seen.extend([time.time_ns(), time.time_ns()])

    taken = lab.record(agent)
    more = True
    assert lab.replay(taken, agent).verdict == "MATCH"
    recorded, again, later, last = seen
    assert recorded == again < later < last < recorded + 10**9


def test_time_stands_at_the_branch_s_last_event_where_none_was_read(lab: Lab) -> None:
    ask = False

    def agent() -> int | None:
        say("a step")
        return time.time_ns() if ask else None

    taken = lab.record(agent)
    end_us = next(event.time_us for event in taken.events if event.type == "step_finished")
    ask = True
    seen: list[Any] = []
    assert lab.replay(taken, lambda: seen.append(agent())).verdict == "MATCH"
    assert end_us * 1000 <= seen[0] < end_us * 1000 + 10**9


def test_bodies_and_code_outside_of_runs_read_the_real_clock(lab: Lab) -> None:
    times: list[int] = []

    @skill
    def work() -> None:
        times.append(time.time_ns())
        uuid.uuid4()

    taken = lab.record(lambda: work())
    assert noted(taken) == []
    assert abs(times[0] // 1000 - SYSTEM.now_us()) < 10**7
    assert abs(time.time_ns() // 1000 - SYSTEM.now_us()) < 10**6


def test_sleeping_takes_no_time_in_a_replay(lab: Lab) -> None:
    seconds = 0.01

    def agent() -> None:
        time.sleep(seconds)
        say(time.time())
        with pytest.raises(ValueError, match="non-negative"):
            time.sleep(-1)
        with pytest.raises(TypeError):
            time.sleep("x")  # type: ignore[arg-type]  # on purpose

    taken = lab.record(agent)
    seconds, started = 60.0, time.perf_counter()
    assert lab.replay(taken, agent).verdict == "MATCH"
    assert time.perf_counter() - started < 60


def test_an_erased_reading_is_said_and_the_replay_goes_on(lab: Lab) -> None:
    def agent() -> None:
        time.time()
        say("a step")

    taken = lab.record(agent)
    del noted(taken)[0].values["value"]
    result = lab.replay(taken, agent)
    assert (result.verdict, result.notes) == ("MATCH", ["what the code read from clock is not on record"])


def test_an_id_that_is_not_on_record_is_a_fresh_one(lab: Lab) -> None:
    more = False

    def agent() -> list[uuid.UUID]:
        return [uuid.uuid4() for _ in range(3 if more else 1)]

    taken = lab.record(agent)
    more = True
    ids: list[uuid.UUID] = []
    result = lab.replay(taken, lambda: ids.extend(agent()))
    assert (result.verdict, len(set(ids)), ids[0]) == ("MATCH", 3, taken.value[0])


def test_a_run_without_notes_replays_as_it_did(lab: Lab) -> None:
    def agent() -> None:
        time.time()
        say("a step")

    restore = instrument()
    restore()
    taken = lab.record(agent)
    for event in noted(taken):
        taken.events.remove(event)
    del taken.events[0].facts["sources"]
    assert lab.replay(taken, agent).verdict == "MATCH"


def test_everything_is_put_back() -> None:
    hooked = wall_clock.controlled()
    restore = wall_clock.control()
    restore()
    restore()
    assert hooked
    assert wall_clock.controlled()


def test_an_unknown_time_machine_is_said_and_the_clock_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        _time_machine = object()

    monkeypatch.setattr(wall_clock, "_state", wall_clock._State())
    monkeypatch.setattr(wall_clock, "_time_machine", Other)
    with pytest.warns(RecordingWarning, match="the clock is not noted"):
        restore = wall_clock.control()
    assert not wall_clock.controlled()
    restore()


def test_a_program_may_travel_by_itself(lab: Lab) -> None:
    def agent() -> list[Any]:
        with time_machine.travel(dt.datetime(2001, 1, 1, tzinfo=dt.UTC), tick=False):
            travelled = time.time()
        return [travelled, time.time()]

    taken, result = lab.again(agent)
    assert (result.verdict, result.value) == ("MATCH", taken.value)
    assert taken.value[0] == 978307200.0


@pytest.mark.parametrize(
    "values",
    [[0], [1_763_800_000_123_456_789], [5, 4, 3], [-(10**18), 10**18, 0], [10**18] * 3],
)
def test_moments_come_back_to_the_nanosecond(values: list[int]) -> None:
    assert decoded(CLOCK, json.loads(json.dumps(encoded(CLOCK, values)))) == values


def test_pytest_is_not_imported_for_the_clock() -> None:
    code = "import isotrace, sys; isotrace.instrument(); print(*(n in sys.modules for n in sys.argv[1:]))"
    said = subprocess.run(
        [sys.executable, "-c", code, "_pytest", "time_machine"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "False True\n"
