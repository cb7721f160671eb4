"""F34: two versions of the product side by side on one database, replaced one after the other without a client noticing.

There are two pairs. The *older* version is the tree before the newest migration, taken from the history where there is
one. The *next* version is this tree with what a next version may bring: columns on the busiest tables, a table, an index,
and scripts and state in Redis under new names. So the row says something in a clone without history too.
"""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from tests.crash.caches import redis_of
from tests.crash.load import Load
from tests.crash.scenario import Scenario, Trial, always
from tests.crash.stand import COMMAND_MAX_S, ROOT, Gateway

ROOMS = ("gateway", "billing", "admin", "deploy")
MIGRATIONS = Path("gateway/db/migrations")
NUSAGATE = ("-m", "admin.cli")
ANSWERS = 25
NEXT_MIGRATION = """
-- What a next version may add while this one serves.
ALTER TABLE account ADD COLUMN next_note text;
ALTER TABLE api_key ADD COLUMN next_note text NOT NULL DEFAULT '';
ALTER TABLE plan ADD COLUMN next_note text;
ALTER TABLE quota_gate ADD COLUMN next_note text;
ALTER TABLE quota_counter ADD COLUMN next_count bigint NOT NULL DEFAULT 0;
ALTER TABLE request_intent ADD COLUMN next_note text;
ALTER TABLE ledger_entry ADD COLUMN next_note text;
ALTER TABLE billing_outbox ADD COLUMN next_note text;
CREATE TABLE next_table (next_id bigint PRIMARY KEY, note text NOT NULL);
"""
Versions: TypeAlias = Callable[[Path], tuple[Path, Path]]
"""Makes the trees of the version that is replaced and of the one that replaces it, below a folder."""


def this_and_next(folder: Path) -> tuple[Path, Path]:
    """Make the next version: a copy of this one with an additive migration and new names in Redis."""
    tree = folder / "next"
    for room in ROOMS:
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    number = max(int(path.name[:4]) for path in (tree / MIGRATIONS).glob("*.sql")) + 1
    (tree / MIGRATIONS / f"{number:04d}_pre_next_version.sql").write_text(NEXT_MIGRATION)
    for script in (tree / "gateway/quota/scripts").glob("*_v1.lua"):
        script.rename(script.with_name(script.name.replace("_v1", "_v2")))
    scripts = tree / "gateway/quota/redis_scripts.py"
    text = scripts.read_text()
    renamed = re.sub(r'"(\w+)_v1"', r'"\1_v2"', text).replace("nusagate:1", "nusagate:2")
    assert renamed.count("_v2") >= 5, "the next version's scripts have names of their own"
    scripts.write_text(renamed)
    return ROOT, tree


def older_and_this(folder: Path) -> tuple[Path, Path]:
    """Take the tree before the newest migration out of the history."""
    tree = folder / "older"
    tree.mkdir()
    archive = subprocess.run(
        ["git", "archive", f"{_before_newest_migration()}", *ROOMS],
        cwd=ROOT,
        capture_output=True,
        timeout=COMMAND_MAX_S,
        check=True,
    )
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, timeout=COMMAND_MAX_S, check=True)
    return tree, ROOT


def needs_history() -> str | None:
    """The older version is taken from git, as far as this clone goes back."""
    return (
        None if _before_newest_migration() else "this clone does not go back to before the newest migration"
    )


def _before_newest_migration() -> str | None:
    newest = max(path.name for path in (ROOT / MIGRATIONS).glob("*.sql"))
    added = _git("log", "--diff-filter=A", "-1", "--format=%H", "--", str(MIGRATIONS / newest))
    return _git("rev-parse", "--verify", "--quiet", f"{added}^") if added else None


def _git(*arguments: str) -> str | None:
    if shutil.which("git") is None:
        return None
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_MAX_S, check=False
    )
    return done.stdout.strip() or None if done.returncode == 0 else None


def roll(versions: Versions) -> Callable[[Trial], Awaitable[None]]:
    """Make the strike: two gateways and a worker of one version become another one's, and back, and again."""

    async def strike(trial: Trial) -> None:
        folder = trial.stand.folder / "versions"
        folder.mkdir()
        before, after = await asyncio.to_thread(versions, folder)
        for tree in (before, after):
            found = await asyncio.to_thread(
                trial.stand.run, tree, "-c", "import gateway; print(gateway.__file__)"
            )
            trial.expect(found.startswith(f"{tree}/gateway/"), f"{tree} would run {found.strip()}")
        await _prepare(trial, before)
        async with redis_of(trial) as redis:
            env = {"NUSAGATE_REDIS_URL": redis.url}
            first, second = trial.stand.gateways[:2]
            for gateway in (first, second):
                gateway.process.cwd = before
                await asyncio.to_thread(gateway.start, env)
            trial.stand.worker.cwd = before
            await asyncio.to_thread(trial.stand.worker.start)
            flowing = asyncio.create_task(trial.traffic.flow())
            await trial.traffic.answered(ANSWERS)
            applied = await asyncio.to_thread(trial.stand.run, after, *NUSAGATE, "migrate")
            trial.expect("_pre_" in applied, f"there was nothing to migrate: {applied}")
            await trial.traffic.answered(ANSWERS)
            for tree in (after, before, after) if trial.full else (after,):
                await _replace(trial, [first, second], tree, env)
            trial.traffic.stopped = True
            await flowing
            for gateway in (first, second):
                gateway.serving = False
                await asyncio.to_thread(gateway.drain)

    return strike


async def _prepare(trial: Trial, tree: Path) -> None:
    """Begin with the schema of a version, and with accounts that it made."""
    stand = trial.stand
    await asyncio.to_thread(stand.worker.stop)
    if tree is not ROOT:
        await asyncio.to_thread(stand.empty_database)
        for command in ("migrate", "seed"):
            await asyncio.to_thread(stand.run, tree, *NUSAGATE, command)
        trial.traffic.accounts = await stand.make_accounts(free=3, paying=2, tree=tree)


async def _replace(trial: Trial, gateways: list[Gateway], tree: Path, env: dict[str, str]) -> None:
    """Replace the worker and one gateway after the other; between the two, both versions serve."""
    await asyncio.to_thread(trial.stand.worker.stop)
    trial.stand.worker.cwd = tree
    await asyncio.to_thread(trial.stand.worker.start)
    for gateway in gateways:
        gateway.serving = False
        await asyncio.sleep(0.5)
        status = await asyncio.to_thread(gateway.drain)
        trial.expect(status == 0, f"exit status {status} ({gateway.process.last_words()})")
        gateway.process.cwd = tree
        await asyncio.to_thread(gateway.start, env)
        trial.count("gateways replaced")
        await trial.traffic.answered(ANSWERS)


SCENARIOS = tuple(
    Scenario(
        name=name,
        says=says,
        strike=roll(versions),
        load=Load(clients=12, pace_ms=(2, 20)),
        allowed=frozenset({"complete", "insufficient_quota"}),
        needs=needs,
        own_stand=True,
        starts_gateway=False,
        flows_at_once=False,
        short=short,
        full=2,
        strike_full_s=900,
    )
    for name, says, versions, needs, short in (
        ("F34-next", "this version is replaced by a next one, and back: no client notices", this_and_next, always, 1),
        ("F34-older", "an older version is replaced by this one, and back: no client notices", older_and_this, needs_history, 0),
    )
)  # fmt: skip
