"""Every named statement is valid against the migrated database, and none on the way of a request reads a whole table."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import asyncpg
import pytest

from gateway.db.pool import BY_KEY, open_pool
from gateway.db.queries import load_queries
from gateway.runtime.settings import Limits

ROOT = Path(__file__).parents[2]

# Operators and tests wait for these, requests do not; they may read whatever they need.
COLD = re.compile(r"^verify_|^export$|^usage_by_model_since$|^repriced|^correct$")

# These have few rows however many requests come, so a scan of them is the best plan.
SMALL_TABLES = frozenset(
    {"plan", "plan_price", "price_book", "price_rate", "schema_migration", "stripe_price", "usage_closed"}
)


def rooms_with_queries() -> list[str]:
    files = [file for room in ("gateway", "billing", "admin") for file in (ROOT / room).rglob("queries.sql")]
    return sorted(".".join(file.parent.relative_to(ROOT).parts) for file in files)


def statements() -> list[tuple[str, str]]:
    return [(room, name) for room in rooms_with_queries() for name in load_queries(room)]


def nodes(plan: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    yield plan
    children = plan.get("Plans", [])
    assert isinstance(children, list)
    for child in children:
        yield from nodes(child)


FORBIDDING_SCANS = {"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"}
"""Empty tables are always scanned; forbidding it shows whether an index could have served."""


async def plan_of(db, statement: str, planning: Mapping[str, str]) -> list[Mapping[str, object]]:
    """Return the nodes of the plan that a statement has whatever its parameters are."""
    async with db.acquire() as connection, connection.transaction():
        for name, value in planning.items():
            await connection.execute(f"SET LOCAL {name} = {value}")
        await connection.execute(f"PREPARE hot AS {statement}")
        parameters = await connection.fetchval(
            "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'hot'"
        )
        values = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
        text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE hot{values}")
        await connection.execute("DEALLOCATE hot")
    return list(nodes(json.loads(text)[0]["Plan"]))


async def scanned_tables(db, statement: str) -> list[str]:
    """Name the tables that the statement can only read from end to end."""
    plan = await plan_of(db, statement, FORBIDDING_SCANS)
    return [str(node["Relation Name"]) for node in plan if node["Node Type"] == "Seq Scan"]


def test_the_rooms_have_statements():
    assert {"gateway.keys", "gateway.quota", "gateway.ledger"} <= set(rooms_with_queries())


@pytest.mark.parametrize(("room", "name"), statements())
async def test_every_statement_is_valid_against_the_migrated_database(db, room, name):
    async with db.acquire() as connection:
        await connection.prepare(load_queries(room)[name])


@pytest.mark.parametrize(("room", "name"), [pair for pair in statements() if not COLD.match(pair[1])])
async def test_no_statement_of_the_hot_path_scans_a_table_that_grows(db, room, name):
    assert set(await scanned_tables(db, load_queries(room)[name])) <= SMALL_TABLES


async def test_a_statement_that_names_what_is_not_there_is_found(db):
    async with db.acquire() as connection:
        with pytest.raises(asyncpg.UndefinedColumnError):
            await connection.prepare("SELECT colour FROM plan")


async def test_a_statement_without_an_index_is_found(db):
    assert await scanned_tables(db, "SELECT * FROM api_key WHERE last4 = $1") == ["api_key"]
    assert await scanned_tables(db, "SELECT * FROM api_key WHERE digest = $1") == []


async def test_settling_finds_a_request_by_its_id_however_many_are_open(db):
    """Without these settings the plan reads every open request while Postgres believes that there are few."""
    plan = await plan_of(db, load_queries("gateway.ledger")["settle"], BY_KEY)
    indexes = {str(node["Index Name"]) for node in plan if "Index Name" in node}
    assert {name for name in indexes if name.startswith("request_intent")} == {"request_intent_pkey"}


async def test_the_gateways_pool_asks_by_key(database_url):
    pool = await open_pool(database_url, Limits(), application="tests", planning=BY_KEY)
    for name, value in BY_KEY.items():
        assert await pool.fetchval("SELECT current_setting($1)", name) == value
    await pool.close()
