"""The seeded simulation as a row of the report: its histories, and the planted bugs that it has to find."""

import asyncio

from tests.crash.load import Load
from tests.crash.scenario import Scenario, Trial
from tests.crash.simulation import Bug, Found, play, search

HISTORIES = 100_000
HISTORIES_MAX_S = 300
"""Twice and more of what a quiet machine takes; the report says how long it was."""
BUG_MAX_S = 30
ENOUGH = 1_000_000


async def play_histories(trial: Trial) -> None:
    """Play all histories of the protocol as it is, then look for each bug that can be planted in it."""
    seed = trial.rng.getrandbits(32)
    wanted = HISTORIES if trial.full else HISTORIES // 50
    found = await _search(seed, None, wanted, HISTORIES_MAX_S)
    trial.count("histories", found.histories)
    trial.figure("simulation_s", found.seconds)
    trial.expect(found.what is None, f"history {found.seed}: {found.what}")
    trial.expect(found.histories == wanted, f"only {found.histories} histories in {HISTORIES_MAX_S} s")
    for bug in Bug:
        planted = await _search(seed, bug, ENOUGH, BUG_MAX_S)
        repeats = planted.seed is not None and play(planted.seed, bug) == planted.what
        trial.count("planted bugs", int(repeats))
        trial.figure("slowest bug to find, s", planted.seconds)
        trial.expect(repeats, f"{bug.value}: not found in {planted.histories} histories")


async def _search(seed: int, bug: Bug | None, histories: int, deadline_s: float) -> Found:
    return await asyncio.to_thread(search, seed, bug=bug, histories=histories, deadline_s=deadline_s)


SCENARIOS = (
    Scenario(
        name="SIM",
        says="the simulated protocol breaks in no history, and each planted bug is found",
        strike=play_histories,
        load=Load(clients=0),
        accounts=(0, 1),
        starts_gateway=False,
        short=0,
        full=1,
    ),
)
