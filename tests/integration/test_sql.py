"""Every named statement is valid against the migrated database, and none on the way of a request reads a whole table."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import asyncpg
import pytest

from gateway.db.queries import load_queries

ROOT = Path(__file__).parents[2]

# Operators and tests wait for these, requests do not; they may read whatever they need.
COLD = re.compile(r"^verify_|^export$|^usage_by_model_since$|^repriced|^correct$")

# These have few rows however many requests come, so a scan of them is the best plan.
SMALL_TABLES = frozenset({"plan", "plan_price", "price_book", "price_rate", "schema_migration"})


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


async def scanned_tables(db, statement: str) -> list[str]:
    """Name the tables that the statement can only read from end to end, whatever its parameters are."""
    async with db.acquire() as connection, connection.transaction():
        # Empty tables are always scanned; forbidding it shows whether an index could have served.
        await connection.execute(
            "SET LOCAL enable_seqscan = off; SET LOCAL plan_cache_mode = force_generic_plan"
        )
        await connection.execute(f"PREPARE hot AS {statement}")
        parameters = await connection.fetchval(
            "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'hot'"
        )
        values = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
        text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE hot{values}")
        await connection.execute("DEALLOCATE hot")
    plan = json.loads(text)[0]["Plan"]
    return [str(node["Relation Name"]) for node in nodes(plan) if node["Node Type"] == "Seq Scan"]


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
