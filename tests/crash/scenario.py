"""A scenario as data, and how one of its trials is run and judged."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.crash.load import Load, Traffic, settle_down
from tests.crash.stand import FREE_TOKENS, Gateway, Stand
from tests.fakes.checker import Seen, Violation, check, outcomes, read_journal, wait_until_idle

IDLE_S = 40
AT_REST_S = 5
"""How soon nothing is held any more where no process has died, so that nobody has to sweep (I6)."""
STRIKE_SHORT_S = 90
STRIKE_FULL_S = 600
SETTLE_S = 70
REFUSALS = frozenset({"insufficient_quota", "limits_unavailable", "overloaded", "rate_limit_exceeded"})
FREE_ACCOUNTS = 3
PAYING_ACCOUNTS = 2


def always() -> str | None:
    """Nothing special is needed."""
    return None


@dataclass
class Trial:
    """One run of a scenario: the stand, the gateway that clients talk to, and their traffic."""

    stand: Stand
    gateway: Gateway
    rng: random.Random
    traffic: Traffic
    full: bool
    figures: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    interrupted: int = 0

    @property
    def outcomes(self) -> dict[str, int]:
        """How clients fared so far."""
        return outcomes(self.traffic.seen)

    def figure(self, name: str, value: float) -> None:
        """Keep the largest value of something that was measured."""
        self.figures[name] = round(max(value, self.figures.get(name, value)), 3)

    def count(self, name: str, number: int = 1) -> None:
        """Add to something that is counted over all trials; the report compares it with what was to be reached."""
        self.counts[name] += number

    def expect(self, is_so: bool, what: str) -> None:  # noqa: FBT001 - it reads like an assertion
        """Write down what should have been so and was not."""
        if not is_so:
            self.problems.append(what)

    def expect_only(self, allowed: frozenset[str]) -> None:
        """Clients fared in these ways and no other."""
        others = {how: count for how, count in self.outcomes.items() if how not in allowed}
        self.expect(not others, f"clients saw {others}")


Strike: TypeAlias = Callable[[Trial], Awaitable[None]]
"""What happens while the load flows; the trial is judged after it returns."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the table of failures: what is done, under which load, and how often in either form.

    ``starts_gateway`` and ``flows_at_once`` are false where the strike starts the gateway in a way of its own, and lets
    the load flow when it has. ``allowed`` are the only ways in which clients may fare. ``needs`` says in a sentence why
    the scenario cannot run on this machine, or with this version of the product. ``points`` are the failpoints that it
    visits.
    """

    name: str
    says: str
    strike: Strike
    load: Load = field(default_factory=Load)
    short: int = 1
    full: int = 5
    workers: int = 1
    env: Mapping[str, str] = field(default_factory=dict)
    allowed: frozenset[str] | None = None
    needs: Callable[[], str | None] = always
    own_stand: bool = False
    month_tokens: int = FREE_TOKENS
    accounts: tuple[int, int] = (FREE_ACCOUNTS, PAYING_ACCOUNTS)
    starts_gateway: bool = True
    flows_at_once: bool = True
    idle_s: float = IDLE_S
    points: tuple[str, ...] = ()
    strike_full_s: float = STRIKE_FULL_S


@dataclass
class Result:
    """What the report says of a scenario."""

    name: str
    says: str
    trials: int = 0
    requests: int = 0
    complete: int = 0
    interrupted: int = 0
    served: int = 0
    seconds: float = 0.0
    skipped: str | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, trial: Trial, served: int, violations: list[Violation], seconds: float) -> None:
        """Add one trial."""
        seen = trial.traffic.seen
        self.trials += 1
        self.requests += len(seen)
        self.complete += sum(1 for record in seen if record.complete)
        self.interrupted += trial.interrupted + sum(1 for record in seen if was_interrupted(record))
        self.served += served
        self.seconds = round(self.seconds + seconds, 1)
        self.outcomes.update(trial.outcomes)
        self.counts.update(trial.counts)
        for name, value in trial.figures.items():
            self.figures[name] = max(value, self.figures.get(name, value))
        for violation in violations:
            self.violations.append({"trial": self.trials, **vars(violation)})
        for problem in trial.problems:
            self.violations.append({"trial": self.trials, "invariant": problem, "count": 1, "examples": []})


def was_interrupted(record: Seen) -> bool:
    """Whether a request that was under way did not come to its own end."""
    return not record.complete and record.outcome not in REFUSALS


async def run_trial(
    scenario: Scenario, stand: Stand, gateway: Gateway, rng: random.Random, *, run: str, full: bool
) -> tuple[Trial, int, list[Violation]]:
    """Run one trial and judge it; return it with the number of answers that the models gave."""
    free, paying = scenario.accounts
    accounts = await stand.make_accounts(free=free, paying=paying, month_tokens=scenario.month_tokens)
    skip = stand.journal_length()
    traffic = Traffic(
        load=scenario.load,
        accounts=accounts,
        ports=lambda: [one.port for one in stand.gateways if one.serving],
        rng=rng,
        run=run,
    )
    trial = Trial(stand, gateway, rng, traffic, full)
    if scenario.starts_gateway and not gateway.process.is_alive:
        await asyncio.to_thread(gateway.start, scenario.env)
    flowing = asyncio.create_task(traffic.flow() if scenario.flows_at_once else asyncio.sleep(0))
    try:
        async with asyncio.timeout(scenario.strike_full_s if full else STRIKE_SHORT_S):
            await scenario.strike(trial)
    finally:
        await settle_down(traffic, flowing, deadline_s=SETTLE_S)
    await asyncio.to_thread(_make_whole, stand, gateway, scenario)
    began = time.monotonic()
    violations = await wait_until_idle(stand.database_url, scenario.idle_s)
    trial.figure("idle_after_s", time.monotonic() - began)
    if scenario.allowed is not None:
        trial.expect_only(scenario.allowed)
    trial.figure("restart_s", max(gateway.restarts_s[-1:], default=0.0))
    journal = read_journal(stand.journal, skip=skip)
    limits = {
        account.account_id: account.month_limit
        for account in traffic.accounts
        if account.month_limit is not None
    }
    violations += await check(stand.database_url, journal, traffic.seen, limits)
    return trial, len(journal), violations


def _make_whole(stand: Stand, gateway: Gateway, scenario: Scenario) -> None:
    """Bring back what a strike left dead, because the product has to come to rest by itself from here."""
    if not stand.postgres.process.is_alive:
        stand.postgres.start()
    if not stand.worker.is_alive:
        stand.worker.start()
    if scenario.starts_gateway and not gateway.process.is_alive:
        gateway.start()
