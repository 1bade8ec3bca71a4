"""Random concurrent programs, and a script that records or replays some of them in its own process.

    python random_programs.py record FIRST COUNT DELAY_MS LOOP FOLDER
    python random_programs.py replay FIRST COUNT DELAY_MS LOOP FOLDER

A program's shape comes from its seed alone; what its steps answer, and when, differs each time. Branches
share state that flows into their params. Recording writes one ledger as JSON lines, with the effects and
the end state beside it; replaying prints a JSON object: how many match, and what went wrong.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from isotrace.events import Event
from isotrace.ledger import Ledger
from isotrace.record import flush, run, skill
from isotrace.replay import Plan, Replay, ReplayResult
from isotrace.stores.memory import MemoryStore

world = random.Random()
delay_s = 0.0


async def answer() -> None:
    """An answer takes its time, or is there at once."""
    if world.random() < 0.7:
        await asyncio.sleep(world.random() * delay_s)


@skill(effect="read")
async def call(name: str, n: int, log: list[Any]) -> int:
    await answer()
    return world.randrange(1000)


@skill(effect="read")
async def fragile(name: str, n: int) -> int:
    await answer()
    if world.random() < 0.3:
        raise ValueError(f"no luck with {name}")
    return n


@skill(effect="read")
async def known(name: str, n: int, log: list[Any]) -> int:
    return world.randrange(1000)


@skill(effect="read")
async def tidy(name: str, n: int) -> int:
    """Cancelled, it may take its time, or give an answer all the same."""
    try:
        await asyncio.gather(answer(), answer())
    except asyncio.CancelledError:
        await answer()
        if world.random() < 0.5:
            raise
    return world.randrange(9)


@skill(effect="read")
async def pieces(name: str, n: int):
    for _ in range(3):
        await asyncio.sleep(world.random() * delay_s / 3)
        yield world.randrange(10)


class Program:
    """One random program. `effects` is what it does in between its steps, in the order of doing; `done` that
    and its state when it ends, which tasks may outlive."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.effects: list[Any] = []
        self.state: dict[str, Any] = {"n": 0, "log": []}
        self.done: dict[str, Any] = {}

    def dice(self, *key: Any) -> random.Random:
        return random.Random(f"{self.seed}{key}")

    async def main(self) -> dict[str, Any]:
        self.lock = asyncio.Lock()
        self.queue: asyncio.Queue[int] = asyncio.Queue()
        for index in range(3):
            await self.fan_out(f"m{index}", 0)
        self.done = deepcopy({"effects": self.effects, "state": self.state})
        return self.done

    async def leaf(self, name: str, depth: int) -> str:
        for index in range(self.dice(name, "n").randrange(2, 5)):
            choice = self.dice(name, index).randrange(len(ACTIONS))
            self.effects.append([name, index, self.state["n"]])
            await ACTIONS[choice](self, f"{name}.{index}", depth)
        return name

    async def step(self, name: str, depth: int) -> None:
        got = await call(name, self.state["n"], self.state["log"][-3:])
        self.state["n"] += 1
        self.state["log"].append(got)

    async def locked(self, name: str, depth: int) -> None:
        async with self.lock:
            self.state["n"] += await call(name, self.state["n"], []) % 7

    async def failing(self, name: str, depth: int) -> None:
        try:
            self.state["n"] += await fragile(name, self.state["n"])
        except ValueError as error:
            self.state["log"].append(str(error))

    async def stream(self, name: str, depth: int) -> None:
        async for piece in pieces(name, self.state["n"]):
            self.state["n"] += piece
            self.effects.append(piece)

    async def nap(self, name: str, depth: int) -> None:
        await asyncio.sleep(0.001 * self.dice(name, "nap").randrange(1, 4))
        self.state["log"].append(-1)

    async def hurry(self, name: str, depth: int) -> None:
        try:
            async with asyncio.timeout(delay_s / 2 + 0.0005):
                await self.step(name, depth)
        except TimeoutError:
            self.state["log"].append("late")

    async def pass_on(self, name: str, depth: int) -> None:
        await asyncio.sleep(0)
        self.queue.put_nowait(self.state["n"])
        self.state["log"].append(await self.queue.get())

    async def deeper(self, name: str, depth: int) -> None:
        if depth < 2:
            await self.fan_out(name, depth + 1)

    async def at_once(self, name: str, depth: int) -> None:
        self.state["log"].append(await known(name, self.state["n"], self.state["log"][-3:]))
        self.state["n"] += 1

    async def tidying(self, name: str, depth: int) -> None:
        self.state["n"] += await tidy(name, self.state["n"])

    async def cancelling(self, name: str, depth: int) -> None:
        if depth > 1:
            return
        task = asyncio.ensure_future(self.leaf(f"{name}!", depth + 1))
        try:
            for number in range(self.dice(name, "before").randrange(3)):
                await self.step(f"{name}:{number}", depth)
        finally:
            task.cancel()
            await asyncio.wait([task])
            self.state["log"].append("cancelled" if task.cancelled() else "ended")

    async def fan_out(self, name: str, depth: int) -> None:
        names = [f"{name}/{child}" for child in range(self.dice(name, "width").randrange(2, 5))]
        leaves: list[Callable[[], Any]] = [lambda n=n: self.leaf(n, depth) for n in names]  # type: ignore[misc]
        await WAYS[self.dice(name, "way").randrange(len(WAYS))](self, leaves)

    async def gathered(self, leaves: list[Callable[[], Any]]) -> None:
        self.state["log"] += await asyncio.gather(*(leaf() for leaf in leaves))

    async def grouped(self, leaves: list[Callable[[], Any]]) -> None:
        async with asyncio.TaskGroup() as group:
            for leaf in leaves:
                group.create_task(leaf())

    async def as_completed(self, leaves: list[Callable[[], Any]]) -> None:
        for done in asyncio.as_completed([leaf() for leaf in leaves]):
            self.state["log"].append(await done)

    async def waited(self, leaves: list[Callable[[], Any]]) -> None:
        pending = {asyncio.ensure_future(leaf()) for leaf in leaves}
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self.state["log"].append(task.result())
            self.state["n"] += len(done)


Action = Callable[[Program, str, int], Awaitable[None]]
ACTIONS: list[Action] = [
    Program.step,
    Program.step,
    Program.step,
    Program.locked,
    Program.failing,
    Program.stream,
    Program.nap,
    Program.hurry,
    Program.pass_on,
    Program.deeper,
    Program.at_once,
    Program.at_once,
    Program.tidying,
    Program.cancelling,
]
WAYS = [Program.gathered, Program.grouped, Program.as_completed, Program.waited]


def runner(loop: str) -> Callable[[Any], Any]:
    if loop == "uvloop":
        import uvloop

        return uvloop.run
    return asyncio.run


def started(program: Program, loop: str, store: MemoryStore) -> tuple[str, Any]:
    """Runs the program in a run; the run's id and the end state."""

    async def outer() -> tuple[str, Any]:
        async with run("random", seed=program.seed, store=store) as opened:
            done = await program.main()
            opened.set_result(done["state"])
            return opened.run_id, done["state"]

    return runner(loop)(outer())


def recorded(seed: int, loop: str) -> tuple[Ledger, dict[str, Any]]:
    """The ledger of one live execution; its effects and end state."""
    store, program = MemoryStore(), Program(seed)
    run_id, _ = started(program, loop, store)
    flush()
    return store.ledger(run_id, tenant_id="default"), program.done


def replayed(
    ledger: Ledger, seed: int, loop: str, plan: Plan | None = None
) -> tuple[ReplayResult, dict[str, Any]]:
    """The result of one replay; the effects of the replayed program and its end state."""
    program = Program(seed)
    result = Replay(ledger, plan, stall_after_s=1.0).run(lambda: started(program, loop, MemoryStore()))
    return result, program.done


def complaint(
    ledger: Ledger, seed: int, loop: str, live: dict[str, Any], plan: Plan | None = None
) -> str | None:
    """What is wrong with a replay of this ledger, None if it is all the same."""
    result, again = replayed(ledger, seed, loop, plan)
    # The tests give the two processes different hash seeds on purpose.
    differs = [one for one in result.divergences if one.code != "RUNTIME_MISMATCH"]
    if result.verdict != "MATCH" or differs:
        return f"program {seed}: {result.verdict} {[str(one) for one in differs]} {result.error!r}"
    if again != live:
        return f"program {seed}: other effects or another end state"
    return None


def dumped(ledger: Ledger) -> list[Any]:
    return [
        [
            event.seq,
            event.type,
            event.time_us,
            event.facts,
            {name: str(data, "utf-8") for name, data in event.values.items() if isinstance(data, bytes)},
        ]
        for event in ledger.events
    ]


def loaded(rows: list[Any]) -> Ledger:
    events = [
        Event(seq, type_, time_us, facts, {k: v.encode() for k, v in values.items()})
        for seq, type_, time_us, facts, values in rows
    ]
    return Ledger(events, "")


def main(what: str, first: int, count: int, delay_ms: float, loop: str, folder: Path) -> None:
    global delay_s
    delay_s = delay_ms / 1000
    complaints = []
    for seed in range(first, first + count):
        file = folder / f"{seed}.json"
        if what == "record":
            ledger, live = recorded(seed, loop)
            file.write_text(json.dumps({"ledger": dumped(ledger), "live": live}))
        else:
            kept = json.loads(file.read_text())
            complaints.append(complaint(loaded(kept["ledger"]), seed, loop, kept["live"]))
    print(json.dumps([one for one in complaints if one is not None]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5], Path(sys.argv[6]))
