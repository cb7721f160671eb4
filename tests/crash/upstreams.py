"""F11-F16: models that hang, drip, reset, and answer with every kind of nonsense."""

import asyncio

from tests.crash.client import Connection
from tests.crash.load import SHAPES, Load, Shape
from tests.crash.scenario import AT_REST_S, Scenario, Trial

ENDS_WELL = frozenset({"complete"})
FAILS = frozenset({"upstream_error", "upstream_timeout", "upstream_unavailable", "failed", "server_error"})
EITHER = ENDS_WELL | FAILS
MEMORY_MAX_MIB = 400
ENOUGH_S = 30

DIRECTIVES: dict[str, frozenset[str]] = {
    "hang_after=0": FAILS,
    "hang_after=3": FAILS,
    "delay_ms=9000": FAILS,
    "reset_after=0": FAILS,
    "reset_after=3": FAILS,
    "error_after=0": FAILS,
    "error_after=3": FAILS,
    "status=500": FAILS,
    "status=429": FAILS,
    "body=malformed": FAILS,
    "body=truncated": EITHER,
    "body=empty": FAILS,
    "body=gzip": FAILS,
    "usage=missing": ENDS_WELL,
    "usage=zero": ENDS_WELL,
    "usage=null": ENDS_WELL,
    "usage=negative": ENDS_WELL,
    "usage=float": ENDS_WELL,
    "usage=string": ENDS_WELL,
    "usage=huge": ENDS_WELL,
    "usage=partial": ENDS_WELL,
    "usage=wrong_total": ENDS_WELL,
    "done=missing": EITHER,
    "comments=true newline=crlf": ENDS_WELL,
    "newline=cr split_bytes=3": ENDS_WELL,
    "split_bytes=1": ENDS_WELL,
    "big_line=100000": ENDS_WELL,
    "big_line=60000000": EITHER,
}
"""What a model is told to do, and how clients may fare."""
SHORT = 14


async def misbehave(trial: Trial) -> None:
    """Ask for each kind of trouble in each shape, several at once, while healthy requests go on beside them."""
    chosen = list(DIRECTIVES)
    if not trial.full:
        chosen = sorted(trial.rng.sample(chosen, SHORT))
    before_mib = trial.gateway.resident_mib()
    limit = asyncio.Semaphore(8)

    async def ask(directive: str, shape: Shape) -> None:
        async with limit:
            connection = Connection(trial.gateway.port)
            record = await trial.traffic.ask(connection, shape, directive)
            await connection.close()
        allowed = DIRECTIVES[directive]
        trial.expect(
            record.outcome in allowed,
            f"{directive} {shape}: {record.outcome} ({record.status})",
        )
        trial.expect(record.after_s < ENOUGH_S, f"{directive}: took {record.after_s:.0f} s")

    await asyncio.gather(*(ask(directive, shape) for directive in chosen for shape in SHAPES))
    grown_mib = trial.gateway.resident_mib() - before_mib
    trial.figure("grown_mib", grown_mib)
    await trial.traffic.answered(5)


async def answer_without_end(trial: Trial) -> None:
    """Let models write far more than a client wants to read; memory stays bounded."""
    before_mib = trial.gateway.resident_mib()
    connection = Connection(trial.gateway.port)
    for shape in SHAPES:
        await trial.traffic.ask(connection, shape, "chunk_tokens=50")
    await connection.close()
    grown_mib = trial.gateway.resident_mib() - before_mib
    trial.figure("grown_mib", grown_mib)
    trial.expect(grown_mib <= MEMORY_MAX_MIB, f"memory grew by {grown_mib} MiB")


SCENARIOS = (
    Scenario(
        name="F11-F16",
        says="whatever a model answers: bounded time, the right ending, the right charge",
        strike=misbehave,
        idle_s=AT_REST_S,
        load=Load(clients=3, pace_ms=(2, 10), pause_s=0.05),
        accounts=(0, 3),
        full=2,
    ),
    Scenario(
        name="F15-answers",
        says="models that write without end fill no memory",
        strike=answer_without_end,
        idle_s=AT_REST_S,
        load=Load(clients=0, output=(60_000, 65_000), pace_ms=(0, 0)),
        accounts=(0, 1),
        short=0,
        full=1,
    ),
)
