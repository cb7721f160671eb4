"""A seeded simulation of the protocol: reserve, settle, crash, sweep, rebuild, and the turn of the month.

It is a small model of what the product does, without any input or output, so that a hundred thousand histories take
a minute. It is worth something because it finds bugs: five that other systems have shipped can be planted in it, and
a test shows that each is found.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

LIMIT = 100
MONTHS = 3
STEPS = 40
PROMPT = (1, 20)
OUTPUT = (1, 40)
OUTPUT_LEAST = 4


class Bug(StrEnum):
    """Bugs that other systems have shipped, each of which can be planted here."""

    CHECK_THEN_DEDUCT = "check-then-deduct without a guard"
    LEAKED_HOLD = "a hold is leaked when a request is cancelled"
    RESERVED_PLUS_ACTUAL = "settling charges what was reserved and what was used"
    SEEDED_THEN_ADDED = "a rebuilt counter has the total, and is incremented by it again"
    DOUBLE_RELEASE = "a repeated release frees another request's hold"


class State(StrEnum):
    """How a request's intent stands."""

    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"


@dataclass
class Intent:
    """The durable row of a request: what it holds, in which month, and whether a gateway still serves it."""

    number: int
    month: int
    input_tokens: int
    granted: int
    served: int
    state: State = State.OPEN
    gateway_alive: bool = True
    held_in_redis: bool = False

    @property
    def reserved(self) -> int:
        """Tokens held for it."""
        return self.input_tokens + self.granted

    @property
    def used(self) -> int:
        """Tokens that the upstream counted; never more than it was allowed."""
        return self.input_tokens + self.served


@dataclass
class Counter:
    """What one engine believes of a month."""

    used: int = 0
    held: int = 0


@dataclass
class World:
    """Everything there is: the truth in Postgres, Redis' copy of it, and the requests."""

    bug: Bug | None
    month: int = 0
    redis_up: bool = True
    numbers: int = 0
    intents: dict[int, Intent] = field(default_factory=dict)
    ledger: dict[int, list[int]] = field(default_factory=dict)
    postgres: dict[int, Counter] = field(default_factory=dict)
    redis: dict[int, Counter] = field(default_factory=dict)
    pending: list[Intent] = field(default_factory=list)

    def truth(self, month: int) -> Counter:
        """The month's row in Postgres."""
        return self.postgres.setdefault(month, Counter())

    def live(self) -> list[Intent]:
        """Requests that a living gateway serves."""
        return [one for one in self.intents.values() if one.state is State.OPEN and one.gateway_alive]


# ------------------------------------------------------------------ what happens


def admit(world: World, rng: random.Random) -> None:
    """Ask for room in the engine in force; what is admitted has a durable intent before it goes upstream."""
    asked_input, asked_output = rng.randint(*PROMPT), rng.randint(*OUTPUT)
    in_redis = world.redis_up
    counter = _redis(world, world.month) if in_redis else world.truth(world.month)
    room = LIMIT - counter.used - counter.held
    if room < asked_input + min(OUTPUT_LEAST, asked_output):
        return
    granted = min(asked_output, room - asked_input)
    intent = Intent(
        world.numbers, world.month, asked_input, granted, rng.randint(0, granted), held_in_redis=in_redis
    )
    world.numbers += 1
    if world.bug is Bug.CHECK_THEN_DEDUCT and rng.random() < 0.3:
        # The check is done, the deduction comes later: others are admitted in between.
        world.pending.append(intent)
        return
    _deduct(world, intent)


def _deduct(world: World, intent: Intent) -> None:
    world.intents[intent.number] = intent
    world.truth(intent.month).held += intent.reserved
    if intent.held_in_redis and world.redis_up:
        _redis(world, intent.month).held += intent.reserved


def deduct_late(world: World, _rng: random.Random) -> None:
    """Carry out the deductions of a gateway that checked first."""
    while world.pending:
        _deduct(world, world.pending.pop())


def settle(world: World, rng: random.Random) -> None:
    """End a request that was served: one entry, the hold freed, the use counted, in one transaction."""
    if not (live := world.live()):
        return
    intent = rng.choice(live)
    _close(world, intent, State.SETTLED, intent.used)
    if rng.random() < 0.2:
        # The commit's answer was lost, so it is repeated: the intent is closed, and nothing happens.
        _close(world, intent, State.SETTLED, intent.used)


def cancel(world: World, rng: random.Random) -> None:
    """End a request of which nothing was served."""
    if not (live := world.live()):
        return
    intent = rng.choice(live)
    if world.bug is Bug.LEAKED_HOLD:
        intent.state = State.RELEASED
        return
    _close(world, intent, State.RELEASED, 0)
    if rng.random() < 0.3:
        _release_again(world, intent)


def _release_again(world: World, intent: Intent) -> None:
    """Repeat a release, as a retry does; the intent's state is the guard."""
    if world.bug is Bug.DOUBLE_RELEASE:
        counter = world.truth(intent.month)
        counter.held = max(0, counter.held - intent.reserved)
        return
    _close(world, intent, State.RELEASED, 0)


def _close(world: World, intent: Intent, state: State, used: int) -> None:
    if intent.state is not State.OPEN:
        return
    intent.state = state
    if world.bug is Bug.RESERVED_PLUS_ACTUAL and state is State.SETTLED:
        used += intent.reserved
    if state is State.SETTLED:
        world.ledger.setdefault(intent.number, []).append(used)
    counter = world.truth(intent.month)
    counter.held -= intent.reserved
    counter.used += used
    if world.redis_up and intent.month in world.redis:
        copy = world.redis[intent.month]
        copy.held -= intent.reserved
        copy.used += used


def crash(world: World, rng: random.Random) -> None:
    """Kill a gateway: its requests stay open until they are swept."""
    for intent in world.live():
        intent.gateway_alive = rng.random() < 0.5


def sweep(world: World, _rng: random.Random) -> None:
    """End what dead gateways left open, with what their last checkpoint says."""
    for intent in world.intents.values():
        if intent.state is State.OPEN and not intent.gateway_alive:
            _close(world, intent, State.SETTLED, intent.used)


def lose_redis(world: World, _rng: random.Random) -> None:
    """Redis goes, or comes back empty; what it knew is rebuilt from the truth when it is asked again."""
    world.redis_up = not world.redis_up
    world.redis.clear()


def turn_month(world: World, _rng: random.Random) -> None:
    """A new month begins: its counters are absent, and requests of the old one keep theirs."""
    world.month = min(world.month + 1, MONTHS - 1)


def _redis(world: World, month: int) -> Counter:
    """The counter in Redis, rebuilt by setting, never by adding, when it is not there."""
    if month not in world.redis:
        total = sum(
            sum(world.ledger.get(one.number, ())) for one in world.intents.values() if one.month == month
        )
        held = sum(
            one.reserved for one in world.intents.values() if one.month == month and one.state is State.OPEN
        )
        if world.bug is Bug.SEEDED_THEN_ADDED:
            total += sum(sum(world.ledger.get(one.number, ())) for one in world.intents.values())
        world.redis[month] = Counter(total, held)
    return world.redis[month]


EVENTS = (
    (admit, 10),
    (settle, 6),
    (cancel, 3),
    (deduct_late, 3),
    (crash, 1),
    (sweep, 2),
    (lose_redis, 1),
    (turn_month, 1),
)
KINDS = tuple(event for event, _ in EVENTS)
WEIGHTS = tuple(weight for _, weight in EVENTS)


# ------------------------------------------------------------------ what must hold


def violations(world: World) -> Iterator[str]:
    """What is broken at this moment (I3, I5, I6 as far as it can be seen in flight, I12)."""
    by_month = [Counter() for _ in range(MONTHS)]
    for intent in world.intents.values():
        entries = world.ledger.get(intent.number, ())
        if len(entries) > 1:
            yield f"I3: request {intent.number} has {len(entries)} entries"
        if entries and entries[0] != intent.used:
            yield f"I2: request {intent.number} used {intent.used} and is charged {entries[0]}"
        if intent.state is State.OPEN:
            by_month[intent.month].held += intent.reserved
        by_month[intent.month].used += sum(entries)
    for month, sums in enumerate(by_month):
        if sums.used + sums.held > LIMIT:
            yield f"I5: month {month} has {sums.used} used and {sums.held} held of {LIMIT}"
        counter = world.truth(month)
        if (counter.used, counter.held) != (sums.used, sums.held):
            yield f"I6/I12: month {month} in Postgres is {counter}, the requests say {sums}"
        copy = world.redis.get(month)
        if copy is not None and (copy.used, copy.held) != (sums.used, sums.held):
            yield f"I6/I12: month {month} in Redis is {copy}, the requests say {sums}"


def rest(world: World) -> Iterator[str]:
    """Let everything end, and say what is still held."""
    deduct_late(world, random.Random(0))
    for intent in world.intents.values():
        intent.gateway_alive = False
    sweep(world, random.Random(0))
    for month, counter in world.postgres.items():
        if counter.held:
            yield f"I6: month {month} is idle and {counter.held} tokens are held"


@dataclass(frozen=True)
class Found:
    """What a search has found: how many histories there were, and the first one that breaks something."""

    histories: int
    seconds: float
    seed: int | None = None
    what: str | None = None


def search(seed: int, *, bug: Bug | None, histories: int, deadline_s: float) -> Found:
    """Play histories until one is broken, or all are played; the seed of a broken one repeats it."""
    began = time.monotonic()
    for number in range(histories):
        if time.monotonic() - began > deadline_s:
            return Found(number, time.monotonic() - began)
        what = play(seed + number, bug)
        if what is not None:
            return Found(number + 1, time.monotonic() - began, seed + number, what)
    return Found(histories, time.monotonic() - began)


def play(seed: int, bug: Bug | None) -> str | None:
    """Play one history; return what it broke, if anything."""
    rng = random.Random(seed)
    world = World(bug)
    for event in rng.choices(KINDS, WEIGHTS, k=rng.randint(1, STEPS)):
        event(world, rng)
        for broken in violations(world):
            return f"after {event.__name__}: {broken}"
    return next(rest(world), None)
